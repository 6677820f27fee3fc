"""What files and settings the cube's pixels were made of: noted at ingest, compared when the same records come again.

The notes lie below `runs/ingest/known/`, one document a month of records. They say nothing of the pixels, so a cube
without them is as good: its records just cannot be compared without reading their files.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, Literal, Protocol

from pydantic import BaseModel

from acdtask.cube.model import Cube, Dataset, Record
from acdtask.cube.shared import SharedCube, found_or_none
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.contract import Site
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.parts import month_of
from acdtask.raster.grid import Grid
from acdtask.storage.seal import parse_sealed, seal

__all__ = [
    "KnownFiles",
    "KnownRecords",
    "NothingKnown",
    "Origin",
    "Standing",
    "has_instance",
    "holds",
    "note_origins",
    "settings_of_pixels",
]

FOLDER = "ingest/known"

NOT_OF_PIXELS = frozenset(
    {"source", "pattern", "aoi", "make_layout", "cell_size", "variable", "instance", "unit", "tags", "track"}
    | {
        "producer",
        "polarisation",
        "on_known",
        "wait_minutes",
        "post_again",
        "accept_failed",
        "shard_files",
        "pod_start",
    }
)
"""Settings that say which files there are and what they are called. All others may change pixels."""

Standing = Literal["new", "same", "changed", "not noted"]
"""What the cube has of a file's record, from the notes alone."""


class Origin(BaseModel):
    """What a record's pixels were made of.

    Attributes:
        file: the fingerprint of the source file.
        settings: those settings of the ingest that decide about pixels and are not at their default.
        uri: of the pixels; a note of other pixels than the index has is out of date.
    """

    file: str
    settings: dict[str, Any]
    uri: str


class _Month(BaseModel):
    records: dict[str, Origin] = {}


def settings_of_pixels(settings: IngestSettings) -> dict[str, Any]:
    """The settings that decide about pixels, without those at their default."""
    return settings.model_dump(mode="json", exclude=set(NOT_OF_PIXELS), exclude_defaults=True)


def has_instance(cube: Cube, settings: IngestSettings) -> bool:
    """Whether the cube has the instance that is to be filled."""
    instances = found_or_none(lambda: cube.instances(settings.variable), ErrorCode.VARIABLE_UNKNOWN)
    return any(one.name == settings.instance for one in instances or ())


def holds(dataset: Dataset, digest: str) -> bool:
    """Whether a dataset that an ingest made has the pixels of a digest."""
    return dataset.uri.endswith(f"-{digest}.tif")


def note_origins(origins: Iterable[tuple[Record, Origin]], settings: IngestSettings, site: Site) -> None:
    """Note what the pixels of some records are made of, beside what is noted of others."""
    months: dict[str, dict[str, Origin]] = defaultdict(dict)
    for record, origin in origins:
        months[month_of(record.datetime)][record.id] = origin
    for month, records in sorted(months.items()):
        key = _key(settings, month)
        known = _read(site, key)
        merged = _Month(records=dict(sorted((known.records | records).items())))
        if merged != known:
            site.runs.put(key, seal(merged.model_dump_json().encode()))


class KnownRecords(Protocol):
    """What a cube has of the records of a source."""

    def ids(self, record_ids: Iterable[str]) -> frozenset[str]:
        """Which of the records have the instance."""

    def grids(self, files: Iterable[tuple[Record, str]]) -> Mapping[str, Grid]:
        """The grids of those records whose files need not be opened, by record id."""


class NothingKnown:
    """No cube: every file is opened."""

    def ids(self, record_ids: Iterable[str]) -> frozenset[str]:
        """None of the records."""
        del record_ids
        return frozenset()

    def grids(self, files: Iterable[tuple[Record, str]]) -> Mapping[str, Grid]:
        """No grid."""
        del files
        return {}


class KnownFiles:
    """What the cube has of the records of an ingest. VARIABLE_CONFLICT if its variable is another one."""

    def __init__(self, settings: IngestSettings, site: Site) -> None:
        self._settings, self._site = settings, site
        self._months: dict[str, _Month] = {}
        self._datasets: dict[str, Dataset | None] = {}

    @property
    def compares(self) -> bool:
        """Whether records that the cube has are compared with their files; a Geocube's with what this site brought."""
        return self._settings.on_known in ("skip", "replace")

    def changed_on_geocube(self, files: Iterable[tuple[Record, str]]) -> dict[str, str]:
        """The address of the pixels that this site gave a Geocube, of each record whose file or settings changed."""
        if self._site.shared is None or not self.compares:
            return {}
        files = list(files)
        standings = self.standings(files)
        changed = [record for record, _ in files if standings[record.id] == "changed"]
        return {record.id: self._month(record).records[record.id].uri for record in changed}

    def ids(self, record_ids: Iterable[str]) -> frozenset[str]:
        """Which of the records have the instance."""
        cube = self._cube
        return cube.having(self._settings.variable, self._settings.instance, record_ids) if cube else frozenset()

    def datasets(self, record_ids: Iterable[str]) -> dict[str, Dataset]:
        """The records' own images, by record; none where they are a Geocube's."""
        if self._cube is None or isinstance(self._site.cube, SharedCube):
            return {}
        wanted = list(record_ids)
        unknown = [record_id for record_id in wanted if record_id not in self._datasets]
        if unknown:
            named = self._settings.variable, self._settings.instance
            stored = {dataset.record_id: dataset for dataset in self._site.cube.own_datasets(*named, unknown)}
            self._datasets.update({record_id: stored.get(record_id) for record_id in unknown})
        return {record_id: dataset for record_id in wanted if (dataset := self._datasets[record_id]) is not None}

    def standings(self, files: Iterable[tuple[Record, str]]) -> dict[str, Standing]:
        """What the cube has of each record, by its id.

        Args:
            files: records, each with the fingerprint of its file.
        """
        files = list(files)
        known = self.ids(record.id for record, _ in files)
        datasets = self.datasets(known)
        return {
            record.id: self._standing(record, fingerprint, datasets.get(record.id)) if record.id in known else "new"
            for record, fingerprint in files
        }

    def grids(self, files: Iterable[tuple[Record, str]]) -> Mapping[str, Grid]:
        """The grids of those records whose files need not be opened, by record id."""
        files = list(files)
        closed = {"skip": ("same", "not noted"), "keep": ("same", "not noted", "changed"), "replace": ("same",)}
        standings = self.standings(files)
        wanted = closed.get(self._settings.on_known, ())
        datasets = self.datasets(record_id for record_id, standing in standings.items() if standing in wanted)
        return {record_id: dataset.grid for record_id, dataset in datasets.items()}

    def is_to_do(self, standing: Standing) -> bool:
        """Whether a file has to be read."""
        if standing == "new" or self._settings.on_known == "verify":
            return True
        return self.compares and (standing == "changed" or (standing == "not noted" and self._is_replacing))

    def differences(self, record: Record) -> str:
        """Which settings a known record was ingested with, where they differ; empty if they are the same."""
        then, now = self._month(record).records.get(record.id), self._pixel_settings
        if then is None or then.settings == now:
            return ""
        fields = IngestSettings.model_fields
        names = sorted(name for name in then.settings.keys() | now if then.settings.get(name) != now.get(name))
        told = [
            f"--{name.replace('_', '-')} {_told(now.get(name, fields[name].default))},"
            f" was {_told(then.settings.get(name, fields[name].default))}"
            for name in names
            if name in fields
        ]
        return "; ".join(told)

    @cached_property
    def _pixel_settings(self) -> dict[str, Any]:
        return settings_of_pixels(self._settings)

    @property
    def _is_replacing(self) -> bool:
        return self._settings.on_known == "replace"

    @cached_property
    def _cube(self) -> Cube | None:
        """The cube, if it has the instance."""
        cube, variable = self._site.find_cube(), self._settings.definition()
        there = next((one for one in cube.variables() if one.name == variable.name), None) if cube else None
        if cube is None or there is None:
            return None
        if (there.dformat, there.scale) != (variable.dformat, variable.scale):
            raise AcdError(
                ErrorCode.VARIABLE_CONFLICT,
                f"{variable.name} is {there.dformat.dtype} {there.dformat.min:g} to {there.dformat.max:g},"
                f" nodata {there.dformat.nodata:g}, scale {there.scale:g}",
            )
        return cube if has_instance(cube, self._settings) else None

    def _standing(self, record: Record, fingerprint: str, dataset: Dataset | None) -> Standing:
        origin = self._month(record).records.get(record.id) if self.compares else None
        if origin is None:
            return "not noted"
        if self._site.shared is None and (dataset is None or origin.uri != dataset.uri):
            return "not noted"
        is_same = (origin.file, origin.settings) == (fingerprint, self._pixel_settings)
        return "same" if is_same else "changed"

    def _month(self, record: Record) -> _Month:
        month = month_of(record.datetime)
        if month not in self._months:
            self._months[month] = _read(self._site, _key(self._settings, month))
        return self._months[month]


def _key(settings: IngestSettings, month: str) -> str:
    digest = hashlib.sha256(f"{settings.variable}\n{settings.instance}".encode()).hexdigest()[:16]
    return f"{FOLDER}/{digest}/{month}.json"


def _read(site: Site, key: str) -> _Month:
    body = site.runs.find(key)
    fix = "Delete the file: its records are compared again with --on-known verify."
    return (
        _Month() if body is None else parse_sealed(_Month, body, site.runs.address_of(key), ErrorCode.RUN_DAMAGED, fix)
    )


def _told(value: object) -> str:
    return "not given" if value is None or value == "" else str(value)
