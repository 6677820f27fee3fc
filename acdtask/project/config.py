"""The file `acd.toml`: what is watched in a folder, and the values that every command there takes from it.

A value is looked for in the options, then in the environment (`ACD_CUBE`, `ACD_AOI`, ...), then in a `--settings` file,
then here. Above the sections are the values that jobs share; a section has the settings of one job by their names.
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
VARIABLE_OF_FILE = "ACD_PROJECT"
"""The variable of the environment that names the file; set and empty, no file is read. acd's image sets it so."""

AREA = ("aoi", "bbox", "aoi_name", "aoi_start", "aoi_end")
SHARED: Mapping[str, str] = {
    "cube": "folder or s3://bucket/prefix of the cube, which is made if there is none",
    "aoi": "file of the area: GeoJSON, GeoPackage, Shapefile, FlatGeobuf or KML; relative to this file",
    "bbox": "in place of aoi: west, south, east, north in degrees",
    "aoi_name": "name of the area; results and the report are kept under it",
    "aoi_start": "no image before this date is used",
    "aoi_end": "no image after this date is used",
    "layout": "grid of tiles; made from the images if the cube has none of that name",
    "variable": "the quantity in the images",
    "instance": "the version of the images that is compared",
}
"""The values above the sections, and what they mean."""

JOBS_IN_ORDER = ("ingest", "consolidate", "baseline", "monitor", "report")
SECTIONS = (*JOBS_IN_ORDER, "watch")
WATCH = {"consolidate": "also store the images tile by tile: faster with years of images"}

PLACES = {"ingest": ("source",), "report": ("out", "truth")}
"""The settings of jobs that name files, besides the shared ones."""

NO_PLACES = frozenset({"geocube", "geocube-ingester"})
"""What a source may be instead of a file."""


@dataclass(frozen=True)
class Project:
    """A file `acd.toml`, with its paths made right for the working folder.

    Attributes:
        file: where it is.
        shared: the values above the sections.
        sections: the values of each section.
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
        wanted = self.sections.get("watch", {}).get("consolidate", False)
        if not isinstance(wanted, bool):
            raise self.refusal("[watch] consolidate is neither true nor false")
        return wanted

    def of_job(self, name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The values for a job's settings, but for the area. PROJECT_INVALID if it has no such setting.

        Args:
            name: of the job.
            fields: its settings by name.
        """
        if name not in JOBS_IN_ORDER:
            return {}
        section = dict(self.sections.get(name, {}))
        if wrong := [key for key in section if key not in fields]:
            raise self.refusal(f"[{name}] has {wrong[0]!r}, which is no setting of it", known=(wrong[0], fields))
        names = {job: self.sections.get(job, {}).get("name") for job in ("baseline", "monitor")}
        derived = {
            "layout": self.layout,
            "make_layout": self.layout if name == "ingest" else None,
            "baseline_name": names["baseline"],
            "name": names["monitor"] if name == "report" else None,
            **{key: self.shared.get(key) for key in ("variable", "instance")},
        }
        return {key: value for key, value in derived.items() if key in fields and value is not None} | section

    def refusal(self, problem: str, known: tuple[str, Mapping[str, Any]] | None = None) -> AcdError:
        """The error of something wrong in this file."""
        more = known_names(*known, what="there is") if known else ""
        return AcdError(ErrorCode.PROJECT_INVALID, f"{self.file}: {problem}{more}")


def find_project(given: str | None = None) -> Project | None:
    """The project: of the file that is given, else of ACD_PROJECT, else `acd.toml` here if it is there.

    Raises:
        AcdError: PROJECT_INVALID if it cannot be used; a file that was named must be there.
    """
    named = given if given is not None else os.environ.get(VARIABLE_OF_FILE)
    if named == "":
        return None
    path = Path(named or FILE)
    if named and path.is_dir():
        path /= FILE
    if not named and not path.exists():
        return None
    return read_project(path)


def read_project(path: Path) -> Project:
    """The project of a file. PROJECT_INVALID, FILE_UNFIT."""
    bare = Project(path)
    try:
        document = tomllib.loads(read_small_file(path).decode())
    except OSError as error:
        raise AcdError(
            ErrorCode.PROJECT_INVALID,
            f"{path} cannot be read: {error.strerror}",
            "Check the path, or write a file with 'acdtask init'.",
        ) from error
    except ValueError as error:  # TOML and Unicode errors alike
        raise bare.refusal(f"not TOML: {error}") from error
    values = {key.replace("-", "_"): _plain(value) for key, value in document.items()}
    tables = {key: value for key, value in values.items() if isinstance(value, dict)}
    shared = {key: value for key, value in values.items() if key not in tables}
    if wrong := [key for key in tables if key not in SECTIONS]:
        raise bare.refusal(f"there is no section [{wrong[0]}]", (wrong[0], dict.fromkeys(SECTIONS)))
    if wrong := [key for key in shared if key not in SHARED]:
        raise bare.refusal(f"there is no setting {wrong[0]!r} above the sections", (wrong[0], SHARED))
    if unused := [key for key in tables.get("watch", {}) if key not in WATCH]:
        raise bare.refusal(f"[watch] has {unused[0]!r}, which is no setting of it", (unused[0], WATCH))
    for key, value in shared.items():
        if key != "bbox" and not isinstance(value, str):
            raise bare.refusal(f"{key} is {value!r}, and should be a text")
    sections = {key: {name.replace("-", "_"): one for name, one in table.items()} for key, table in tables.items()}
    return Project(
        path,
        {key: _placed(value, path.parent) if key in ("cube", "aoi") else value for key, value in shared.items()},
        {
            job: {key: _placed(one, path.parent) if key in PLACES.get(job, ()) else one for key, one in table.items()}
            for job, table in sections.items()
        },
    )


def environment_values(names: tuple[str, ...]) -> dict[str, Any]:
    """The values of these names that the environment has, as `ACD_<NAME>`; an empty one is none."""
    found = {name: os.environ.get(f"ACD_{name.upper()}", "").strip() for name in names}
    return {name: value for name, value in found.items() if value}


def chosen_aoi(*layers: Mapping[str, Any]) -> str | None:
    """The AOI, as a setting `aoi` takes it; None if no layer says one.

    The first layer with an aoi or bbox says where; name and dates come from the layers up to that one, so that
    the name of one area never becomes that of another.

    Args:
        layers: values by the names in AREA, those that win first.

    Raises:
        AcdError: USAGE if a layer has both, and what `load_aoi` raises.
    """
    known = [{key: layer[key] for key in AREA if layer.get(key) not in (None, "")} for layer in layers]
    where = next((number for number, layer in enumerate(known) if "aoi" in layer or "bbox" in layer), None)
    if where is None:
        return None
    area = known[where]
    if "aoi" in area and "bbox" in area:
        raise AcdError(ErrorCode.USAGE, "both an AOI file and a bbox are given", "Give one of them.")
    given: dict[str, Any] = {}
    for layer in reversed(known[: where + 1]):
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


def _placed(value: Any, folder: Path) -> Any:
    """A path of the file as seen from the working folder; addresses and texts stay as they are."""
    if not isinstance(value, str) or not value or value in NO_PLACES or "://" in value or value.lstrip()[0] in "{[":
        return value
    return str(folder / value)


def _plain(value: Any) -> Any:
    """TOML dates as texts, so that all values are what JSON has too."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return value.isoformat() if isinstance(value, dt.date | dt.datetime) else value
