"""Read `acd.toml`, the file with the settings of a folder.

Order of precedence: options, environment variables (`ACD_CUBE`, `ACD_AOI`, ...), a `--settings` file, `acd.toml`. The
top of the file holds the settings that jobs share; each section holds the settings of one job. A file may describe
several series of one area: the tables of each, `[series.NAME]`, add to and replace those of the file.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from acdtask.errors import AcdError, ErrorCode
from acdtask.storage.files import read_small_file
from acdtask.wording import known_names

__all__ = [
    "AREA",
    "FILE",
    "SECTIONS",
    "SERIES",
    "SHARED",
    "Project",
    "Series",
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
SECTIONS = (*JOBS_IN_ORDER, "fuse", "watch")
WATCH = {"consolidate": "also store the images tile by tile; faster with years of images"}

SERIES: Mapping[str, str] = {
    "track": "track of the images; for an ingest of its own, that of all its files",
    **{name: SHARED[name] for name in ("layout", "variable", "instance")},
}
"""Descriptions of the settings at the top of the table of a series."""

PATH_SETTINGS = {"ingest": ("source",), "report": ("out", "truth")}
"""Settings of jobs that are paths, in addition to the shared ones."""

NOT_PATHS = frozenset({"geocube", "geocube-ingester"})
"""Sources that are not files."""


@dataclass(frozen=True)
class Series:
    """The tables of a series: what differs from the rest of the file, in the same form."""

    shared: Mapping[str, Any]
    sections: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Project:
    """The settings of an `acd.toml`, with paths relative to the working folder.

    Attributes:
        file: the file.
        shared: the values above the sections.
        sections: the values of each section.
        series: the series that the file describes, by name; empty if it describes one, without a name.
        name: name of the series that was chosen; empty for the whole file.
    """

    file: Path
    shared: Mapping[str, Any] = field(default_factory=dict)
    sections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    series: Mapping[str, Series] = field(default_factory=dict)
    name: str = ""

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

    @property
    def fuses(self) -> bool:
        """Whether monitoring results are fused."""
        return "fuse" in self.sections

    @property
    def result(self) -> str:
        """The monitoring result of a series, as VARIABLE/LAYOUT/NAME."""
        return self._result_of("monitor")

    def of_series(self, name: str) -> Project:
        """The project of one of the series, as if the file described no other. PROJECT_INVALID if there is none."""
        if name not in self.series:
            raise self.error(f"there is no series {name!r}", known=(name, self.series))
        own = self.series[name]
        sections = {job: {**self.sections.get(job, {}), **own.sections.get(job, {})} for job in JOBS_IN_ORDER}
        return replace(
            self,
            shared={**self.shared, **own.shared},
            sections={**self.sections, **sections},
            series={name: own},
            name=name,
        )

    def chosen(self, name: str | None) -> Project:
        """The project of the named series; of the only one without a name. PROJECT_INVALID if there are several."""
        if name is None and len(self.series) > 1:
            raise AcdError(
                ErrorCode.PROJECT_INVALID,
                f"{self.file} describes the series {', '.join(self.series)}",
                "Choose one with --series NAME; 'acdtask watch' runs all of them.",
            )
        return self if name is None and not self.series else self.of_series(name or next(iter(self.series)))

    def origin_of(self, job: str) -> str:
        """Where the values for a job are, for messages."""
        series = f"[series.{self.name}] and " if self.name else ""
        return f"{self.file}, {series}[{job}]"

    def of_job(self, name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The values for a job's settings, without the area. PROJECT_INVALID if the job has no such setting.

        `fields` are the job's settings by name.
        """
        if name not in (*JOBS_IN_ORDER, "fuse"):
            return {}
        section = dict(self.sections.get(name, {}))
        if wrong := [key for key in section if key not in fields]:
            place = name if self._is_of_file(name, wrong[0]) else f"series.{self.name}.{name}"
            raise self.error(f"[{place}] has no setting {wrong[0]!r}", known=(wrong[0], fields))
        names = {job: self.sections.get(job, {}).get("name", self.name or None) for job in ("baseline", "monitor")}
        derived = {
            "track": self._track_of(name),
            "members": [self.of_series(series).result for series in self.series] or None,
            "layout": self.layout,
            "make_layout": self.layout if name == "ingest" else None,
            "baseline_name": names["baseline"],
            "transform": self.sections.get("baseline", {}).get("transform") if name == "monitor" else None,
            "name": names.get("monitor" if name == "report" else name),
            "fused": self.sections.get("fuse", {}).get("name"),
            **{key: self.shared.get(key) for key in ("variable", "instance")},
        }
        values = {key: value for key, value in derived.items() if key in fields and value is not None} | section
        if name == "report" and values.get("out") and self.name and self._is_of_file("report", "out"):
            values["out"] = f"{str(values['out']).rstrip('/')}/{self.name}"
        return values

    def check_results(self) -> None:
        """Check that no series would replace the baseline or monitoring result of another. PROJECT_INVALID."""
        for job in ("baseline", "monitor"):
            series_of: dict[str, str] = {}
            for name in self.series:
                result = self.of_series(name)._result_of(job)
                if result in series_of:
                    raise self.error(
                        f"[{job}] of the series {series_of[result]} and of {name} would both write {result}; leave out"
                        " its name, or set another in each series"
                    )
                series_of[result] = name

    def _result_of(self, job: str) -> str:
        values = {"variable": "CoherenceVV", **self.shared, "layout": self.layout, "name": self.name or job}
        values |= self.sections.get(job, {})
        return "/".join(str(values[key]) for key in ("variable", "layout", "name"))

    def _track_of(self, job: str) -> Any:
        """The track for a job: for an ingest only if the series has its own, since it is that of all files."""
        own = self.series[self.name].sections if self.name else {}
        return self.shared.get("track") if job != "ingest" or "ingest" in own else None

    def _is_of_file(self, job: str, key: str) -> bool:
        """Whether a setting is from the section of the whole file, not from one of a series."""
        return not self.name or key not in self.series[self.name].sections.get(job, {})

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
    values = _underscored({key: _plain(value) for key, value in document.items()})
    series = values.pop("series", {})
    if not isinstance(series, dict) or not all(isinstance(table, dict) for table in series.values()):
        raise empty.error("series must be tables, such as [series.ascending]")
    shared, sections = _read_tables(values, empty, "", SHARED, SECTIONS)
    if wrong := [key for key in sections.get("watch", {}) if key not in WATCH]:
        raise empty.error(f"[watch] has no setting {wrong[0]!r}", (wrong[0], WATCH))
    tables = {
        name: Series(*_read_tables(_underscored(table), empty, f"series.{name}", SERIES, JOBS_IN_ORDER))
        for name, table in series.items()
    }
    project = Project(path, shared, sections, tables)
    project.check_results()
    return project


def _read_tables(
    values: Mapping[str, Any], project: Project, table: str, settings: Mapping[str, str], sections: Sequence[str]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Split the file, or the table of a series, into its own settings and its sections. PROJECT_INVALID."""
    tables = {key: value for key, value in values.items() if isinstance(value, dict)}
    shared = {key: value for key, value in values.items() if key not in tables}
    if wrong := [key for key in tables if key not in sections]:
        name = f"{table}.{wrong[0]}" if table else wrong[0]
        raise project.error(f"unknown section [{name}]", (wrong[0], dict.fromkeys(sections)))
    if wrong := [key for key in shared if key not in settings]:
        unknown = f"unknown setting {wrong[0]!r} above the sections"
        raise project.error(f"[{table}] has no setting {wrong[0]!r}" if table else unknown, (wrong[0], settings))
    for key, value in shared.items():
        if key != "bbox" and not isinstance(value, str):
            raise project.error(f"{key} is {value!r}, but must be a string")
    folder = project.file.parent
    return (
        {key: _resolved(value, folder) if key in ("cube", "aoi") else value for key, value in shared.items()},
        {
            job: {
                key: _resolved(value, folder) if key in PATH_SETTINGS.get(job, ()) else value
                for key, value in _underscored(section).items()
            }
            for job, section in tables.items()
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


def _underscored(table: Mapping[str, Any]) -> dict[str, Any]:
    """The names of settings with _ for -, as in the models."""
    return {key.replace("-", "_"): value for key, value in table.items()}


def _plain(value: Any) -> Any:
    """Convert TOML dates to strings, so that all values are JSON values."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value.isoformat() if isinstance(value, dt.date | dt.datetime) else value
