"""Notes on the files and settings that pixels were ingested from, to detect changes when records come again.

The notes are below `runs/ingest/known/`, one document per month of records. They are an optimisation: without them a
record can only be compared by reading its file.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel

from acdtask.cube.model import Cube, Dataset, Record
from acdtask.cube.shared import SharedCube, find_or_none
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.contract import Site
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.parts import month_of
from acdtask.raster.grid import Grid
from acdtask.storage.seal import parse_sealed, seal

__all__ = [
    "KnownFiles",
    "KnownRecords",
    "Origin",
    "RecordStatus",
    "has_digest",
    "has_instance",
    "settings_of_pixels",
    "store_origins",
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
        "unusable_files",
    }
)
"""Settings that select and name files. All others may change pixels."""

RecordStatus = Literal["new", "same", "changed", "not noted"]
"""A file's record compared with the cube, by the notes alone."""


class Origin(BaseModel):
    """The source of a record's pixels.

    Attributes:
        file: the fingerprint of the source file.
        settings: the ingest's settings that affect pixels, without defaults.
        uri: address of the pixels. The note is out of date if the index names another one.
    """

    file: str
    settings: dict[str, Any]
    uri: str


class _Month(BaseModel):
    records: dict[str, Origin] = {}


def settings_of_pixels(settings: IngestSettings) -> dict[str, Any]:
    """The settings that affect pixels, without defaults."""
    return settings.model_dump(mode="json", exclude=set(NOT_OF_PIXELS), exclude_defaults=True)


def has_instance(cube: Cube, variable: str, instance: str) -> bool:
    """Whether the cube has an instance of a variable."""
    instances = find_or_none(lambda: cube.instances(variable), ErrorCode.VARIABLE_UNKNOWN)
    return any(known.name == instance for known in instances or ())


def has_digest(dataset: Dataset, digest: str) -> bool:
    """Whether a dataset written by an ingest has pixels of this digest."""
    return dataset.uri.endswith(f"-{digest}.tif")


def store_origins(origins: Iterable[tuple[Record, Origin]], settings: IngestSettings, site: Site) -> None:
    """Add the sources of records to the notes."""
    months: dict[str, dict[str, Origin]] = defaultdict(dict)
    for record, origin in origins:
        months[month_of(record.datetime)][record.id] = origin
    for month, records in sorted(months.items()):
        key = _key(settings, month)
        known = _read(site, key)
        merged = _Month(records=dict(sorted((known.records | records).items())))
        if merged != known:
            site.runs.put(key, seal(merged.model_dump_json().encode()))


class KnownRecords:
    """The records of a source that a cube has. Without a cube there are none, so every file is opened."""

    def ids(self, record_ids: Iterable[str]) -> frozenset[str]:
        """Records that the instance already has."""
        return frozenset()

    def grids(self, files: Iterable[tuple[Record, str]]) -> Mapping[str, Grid]:
        """Grids of the records whose files need not be opened, by record id."""
        return {}


class KnownFiles(KnownRecords):
    """The records of an ingest that the cube has. VARIABLE_CONFLICT if the cube's variable differs."""

    def __init__(self, settings: IngestSettings, site: Site) -> None:
        self._settings, self._site = settings, site
        self._months: dict[str, _Month] = {}
        self._datasets: dict[str, Dataset | None] = {}

    @property
    def compares(self) -> bool:
        """Whether known records are compared with their files; on a Geocube, only those ingested from this site."""
        return self._settings.on_known in ("skip", "replace")

    def changed_on_geocube(self, files: Iterable[tuple[Record, str]]) -> dict[str, str]:
        """Addresses of pixels ingested into a Geocube from this site whose file or settings changed, by record."""
        if self._site.shared is None or not self.compares:
            return {}
        files = list(files)
        statuses = self.statuses(files)
        changed = [record for record, _ in files if statuses[record.id] == "changed"]
        return {record.id: self._month(record).records[record.id].uri for record in changed}

    def ids(self, record_ids: Iterable[str]) -> frozenset[str]:
        """Records that the instance already has."""
        cube = self._cube
        return cube.having(self._settings.variable, self._settings.instance, record_ids) if cube else frozenset()

    def datasets(self, record_ids: Iterable[str]) -> dict[str, Dataset]:
        """The records' own images, by record; empty if the records are on a Geocube."""
        if self._cube is None or isinstance(self._site.cube, SharedCube):
            return {}
        wanted = list(record_ids)
        unknown = [record_id for record_id in wanted if record_id not in self._datasets]
        if unknown:
            selection = self._settings.variable, self._settings.instance
            found = {dataset.record_id: dataset for dataset in self._site.cube.own_datasets(*selection, unknown)}
            self._datasets.update({record_id: found.get(record_id) for record_id in unknown})
        return {record_id: dataset for record_id in wanted if (dataset := self._datasets[record_id]) is not None}

    def statuses(self, files: Iterable[tuple[Record, str]]) -> dict[str, RecordStatus]:
        """The status of each record, by its id.

        Each file is given as its record and its fingerprint.
        """
        files = list(files)
        known = self.ids(record.id for record, _ in files)
        datasets = self.datasets(known)
        return {
            record.id: self._status(record, fingerprint, datasets.get(record.id)) if record.id in known else "new"
            for record, fingerprint in files
        }

    def grids(self, files: Iterable[tuple[Record, str]]) -> Mapping[str, Grid]:
        """Grids of the records whose files need not be opened, by record id."""
        files = list(files)
        closed = {"skip": ("same", "not noted"), "keep": ("same", "not noted", "changed"), "replace": ("same",)}
        statuses = self.statuses(files)
        wanted = closed.get(self._settings.on_known, ())
        datasets = self.datasets(record_id for record_id, status in statuses.items() if status in wanted)
        return {record_id: dataset.grid for record_id, dataset in datasets.items()}

    def must_read(self, status: RecordStatus) -> bool:
        """Whether a file with this status has to be read."""
        if status == "new" or self._settings.on_known == "verify":
            return True
        return self.compares and (status == "changed" or (status == "not noted" and self._is_replacing))

    def differences(self, record: Record) -> str:
        """The settings that changed since a known record was ingested; empty if none did."""
        origin, current = self._month(record).records.get(record.id), self._pixel_settings
        if origin is None or origin.settings == current:
            return ""
        fields = IngestSettings.model_fields
        names = sorted(
            name for name in origin.settings.keys() | current if origin.settings.get(name) != current.get(name)
        )
        changes = [
            f"--{name.replace('_', '-')} {_value_text(current.get(name, fields[name].default))},"
            f" was {_value_text(origin.settings.get(name, fields[name].default))}"
            for name in names
            if name in fields
        ]
        return "; ".join(changes)

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
        stored = (
            next((candidate for candidate in cube.variables() if candidate.name == variable.name), None)
            if cube
            else None
        )
        if cube is None or stored is None:
            return None
        if (stored.dformat, stored.scale) != (variable.dformat, variable.scale):
            raise AcdError(
                ErrorCode.VARIABLE_CONFLICT,
                f"{variable.name} is {stored.dformat.dtype} {stored.dformat.min:g} to {stored.dformat.max:g},"
                f" nodata {stored.dformat.nodata:g}, scale {stored.scale:g}",
            )
        return cube if has_instance(cube, variable.name, self._settings.instance) else None

    def _status(self, record: Record, fingerprint: str, dataset: Dataset | None) -> RecordStatus:
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
    fix = "Delete the file, then run ingest with --on-known verify to compare its records again."
    return (
        _Month() if body is None else parse_sealed(_Month, body, site.runs.address_of(key), ErrorCode.RUN_DAMAGED, fix)
    )


def _value_text(value: object) -> str:
    return "not set" if value is None or value == "" else str(value)
