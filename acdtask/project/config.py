"""Read `acd.toml`, the file with the settings of a folder.

Order of precedence: options, environment variables (`ACD_CUBE`, `ACD_AOI`, ...), a `--settings` file, `acd.toml`. The
top of the file holds the settings that jobs share; each section holds the settings of one job.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from acdtask.errors import AcdError, ErrorCode
from acdtask.storage.files import read_small_file
from acdtask.wording import known_names

__all__ = [
    "AREA",
    "FILE",
    "SECTIONS",
    "SHARED",
    "Project",
    "chosen_aoi",
    "environment_values",
    "find_project",
    "read_project",
]

FILE = "acd.toml"
FILE_VARIABLE = "ACD_PROJECT"
"""Environment variable that names the file. If it is empty, as in acd's image, no file is read."""

AREA = ("aoi", "bbox", "aoi_name", "aoi_start", "aoi_end")
SHARED: Mapping[str, str] = {
    "cube": "folder or s3://bucket/prefix of the cube; created if missing",
    "aoi": "file with the area: GeoJSON, GeoPackage, Shapefile, FlatGeobuf or KML; relative to this file",
    "bbox": "instead of aoi: west, south, east, north in degrees",
    "aoi_name": "name of the area; results and reports are stored under it",
    "aoi_start": "images before this date are ignored",
    "aoi_end": "images after this date are ignored",
    "layout": "grid of tiles; created from the images if the cube has no layout of this name",
    "variable": "quantity in the images",
    "instance": "version of the images to compare",
}
"""Descriptions of the shared settings above the sections."""

JOBS_IN_ORDER = ("ingest", "consolidate", "baseline", "monitor", "report")
SECTIONS = (*JOBS_IN_ORDER, "watch")
WATCH = {"consolidate": "also store the images tile by tile; faster with years of images"}

PATH_SETTINGS = {"ingest": ("source",), "report": ("out", "truth")}
"""Settings of jobs that are paths, in addition to the shared ones."""

NOT_PATHS = frozenset({"geocube", "geocube-ingester"})
"""Sources that are not files."""


@dataclass(frozen=True)
class Project:
    """The settings of an `acd.toml`, with paths relative to the working folder.

    `shared` are the values above the sections.
    """

    file: Path
    shared: Mapping[str, Any] = field(default_factory=dict)
    sections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def layout(self) -> str:
        """Name of the layout."""
        return str(self.shared.get("layout") or "images")

    @property
    def consolidates(self) -> bool:
        """Whether images are consolidated. PROJECT_INVALID."""
        consolidate = self.sections.get("watch", {}).get("consolidate", False)
        if not isinstance(consolidate, bool):
            raise self.error("[watch] consolidate must be true or false")
        return consolidate

    def of_job(self, name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The values for a job's settings, without the area. PROJECT_INVALID if the job has no such setting.

        `fields` are the job's settings by name.
        """
        if name not in JOBS_IN_ORDER:
            return {}
        section = dict(self.sections.get(name, {}))
        if wrong := [key for key in section if key not in fields]:
            raise self.error(f"[{name}] has no setting {wrong[0]!r}", known=(wrong[0], fields))
        names = {job: self.sections.get(job, {}).get("name") for job in ("baseline", "monitor")}
        derived = {
            "layout": self.layout,
            "make_layout": self.layout if name == "ingest" else None,
            "baseline_name": names["baseline"],
            "transform": self.sections.get("baseline", {}).get("transform") if name == "monitor" else None,
            "name": names["monitor"] if name == "report" else None,
            **{key: self.shared.get(key) for key in ("variable", "instance")},
        }
        return {key: value for key, value in derived.items() if key in fields and value is not None} | section

    def error(self, problem: str, known: tuple[str, Mapping[str, Any]] | None = None) -> AcdError:
        """Make the error for a problem in this file; `known` is a wrong name with the valid ones."""
        names = known_names(*known, what="there is") if known else ""
        return AcdError(ErrorCode.PROJECT_INVALID, f"{self.file}: {problem}{names}")


def find_project(given: str | None = None) -> Project | None:
    """Find the project: the given file, else that of ACD_PROJECT, else `acd.toml` in the working folder if it exists.

    PROJECT_INVALID if the file is invalid, or if a file that was named does not exist.
    """
    name = given if given is not None else os.environ.get(FILE_VARIABLE)
    if name == "":
        return None
    path = Path(name or FILE)
    if name and path.is_dir():
        path /= FILE
    if not name and not path.exists():
        return None
    return read_project(path)


def read_project(path: Path) -> Project:
    """Read the project of a file. PROJECT_INVALID, FILE_UNFIT."""
    empty = Project(path)
    try:
        document = tomllib.loads(read_small_file(path).decode())
    except OSError as error:
        raise AcdError(
            ErrorCode.PROJECT_INVALID,
            f"{path} cannot be read: {error.strerror}",
            "Check the path, or write a file with 'acdtask init'.",
        ) from error
    except ValueError as error:  # TOML and Unicode errors alike
        raise empty.error(f"not TOML: {error}") from error
    values = {key.replace("-", "_"): _plain(value) for key, value in document.items()}
    tables = {key: value for key, value in values.items() if isinstance(value, dict)}
    shared = {key: value for key, value in values.items() if key not in tables}
    if wrong := [key for key in tables if key not in SECTIONS]:
        raise empty.error(f"unknown section [{wrong[0]}]", (wrong[0], dict.fromkeys(SECTIONS)))
    if wrong := [key for key in shared if key not in SHARED]:
        raise empty.error(f"unknown setting {wrong[0]!r} above the sections", (wrong[0], SHARED))
    if wrong := [key for key in tables.get("watch", {}) if key not in WATCH]:
        raise empty.error(f"[watch] has no setting {wrong[0]!r}", (wrong[0], WATCH))
    for key, value in shared.items():
        if key != "bbox" and not isinstance(value, str):
            raise empty.error(f"{key} is {value!r}, but must be a string")
    sections = {job: {key.replace("-", "_"): value for key, value in table.items()} for job, table in tables.items()}
    return Project(
        path,
        {key: _resolved(value, path.parent) if key in ("cube", "aoi") else value for key, value in shared.items()},
        {
            job: {
                key: _resolved(value, path.parent) if key in PATH_SETTINGS.get(job, ()) else value
                for key, value in table.items()
            }
            for job, table in sections.items()
        },
    )


def environment_values(names: tuple[str, ...]) -> dict[str, Any]:
    """Read the non-empty environment variables `ACD_<NAME>` of these names."""
    values = {name: os.environ.get(f"ACD_{name.upper()}", "").strip() for name in names}
    return {name: value for name, value in values.items() if value}


def chosen_aoi(*layers: Mapping[str, Any]) -> str | None:
    """Choose the AOI, as a value of the setting `aoi`; None if no layer defines one.

    The first layer with an aoi or bbox gives the geometry. Name and dates come from the layers up to that one, so that
    an area never gets the name of another.

    `layers` are values by the names in AREA, highest precedence first. USAGE if a layer has both aoi and bbox; errors
    of `load_aoi`.
    """
    known = [{key: layer[key] for key in AREA if layer.get(key) not in (None, "")} for layer in layers]
    index = next((number for number, layer in enumerate(known) if "aoi" in layer or "bbox" in layer), None)
    if index is None:
        return None
    area = known[index]
    if "aoi" in area and "bbox" in area:
        raise AcdError(ErrorCode.USAGE, "both an AOI file and a bbox are given", "Give one of them.")
    given: dict[str, Any] = {}
    for layer in reversed(known[: index + 1]):
        given |= {key: layer[key] for key in ("aoi_name", "aoi_start", "aoi_end") if key in layer}
    if "aoi" in area and not given:
        return str(area["aoi"])
    from acdtask.cube.aoi import aoi_document
    from acdtask.cube.aoi_area import bbox_document

    names = {"aoi_name": "name", "aoi_start": "start_time", "aoi_end": "end_time"}
    source = str(area["aoi"]) if "aoi" in area else json.dumps(bbox_document(_bbox_text(area["bbox"])))
    return aoi_document(source, {names[key]: value for key, value in given.items()})


def _bbox_text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _resolved(value: Any, folder: Path) -> Any:
    """Resolve a path against the folder of the file; addresses and inline documents stay as they are."""
    if not isinstance(value, str) or not value or value in NOT_PATHS or "://" in value or value.lstrip()[0] in "{[":
        return value
    return str(folder / value)


def _plain(value: Any) -> Any:
    """Convert TOML dates to strings, so that all values are JSON values."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value.isoformat() if isinstance(value, dt.date | dt.datetime) else value
