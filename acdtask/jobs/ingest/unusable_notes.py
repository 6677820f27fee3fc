"""Files that an ingest could not use, noted for the report in `runs/ingest/unusable/<digest>.json`.

There is one document for each source, area, variable and instance. Each run rewrites it, so that it has the unusable
files of the latest run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from pydantic import BaseModel
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from acdtask.cube.model import Record
from acdtask.errors import ErrorCode
from acdtask.jobs.contract import Site
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.quarantine import Failure
from acdtask.storage.seal import parse_sealed, seal

__all__ = ["FOLDER", "UnusableFile", "UnusableFiles", "noted_files", "store_unusable", "unusable_files_of"]

FOLDER = "ingest/unusable"


class UnusableFile(BaseModel, frozen=True):
    """A file that could not be used when it was last tried.

    Attributes:
        record: None if its name or item does not say what it is.
        kept: address of the record's pixels in the cube, if the file was replaced by other ones; otherwise empty.
    """

    address: str
    record: Record | None
    failure: Failure
    kept: str = ""


class UnusableFiles(BaseModel, frozen=True):
    """The unusable files of a source."""

    variable: str
    instance: str
    files: tuple[UnusableFile, ...] = ()


def noted_files(settings: IngestSettings, site: Site) -> tuple[UnusableFile, ...]:
    """The unusable files that the latest run with this source noted."""
    key = _key(settings)
    body = site.runs.find(key)
    return () if body is None else _parsed(body, key, site).files


def store_unusable(files: Iterable[UnusableFile], settings: IngestSettings, site: Site) -> None:
    """Note the unusable files of a run, instead of those of the runs before."""
    files = tuple(sorted(files, key=lambda file: file.address))
    if files or noted_files(settings, site):
        noted = UnusableFiles(variable=settings.variable, instance=settings.instance, files=files)
        site.runs.put(_key(settings), seal(noted.model_dump_json(indent=1).encode()))


def unusable_files_of(site: Site, variable: str, instance: str, area: BaseGeometry) -> list[UnusableFile]:
    """The noted files of an area (longitude, latitude) that the cube still lacks, by datetime and address.

    A file whose header cannot be read has no known footprint and is always included, as is one without a record.
    """
    documents = [_parsed(site.runs.get(key), key, site) for key in site.runs.list(FOLDER)]
    by_address = {
        file.address: file
        for document in documents
        if (document.variable, document.instance) == (variable, instance)
        for file in document.files
        if _may_meet(file.record, area)
    }
    ids = [file.record.id for file in by_address.values() if file.record is not None]
    ingested = site.cube.having(variable, instance, ids) if ids else frozenset()
    missing = [
        file for file in by_address.values() if file.kept or file.record is None or file.record.id not in ingested
    ]
    return sorted(missing, key=_order)


def _order(file: UnusableFile) -> tuple[str, str]:
    return file.record.datetime.isoformat() if file.record is not None else "", file.address


def _may_meet(record: Record | None, area: BaseGeometry) -> bool:
    return record is None or not record.footprint or shape(record.footprint).intersects(area)


def _key(settings: IngestSettings) -> str:
    scope = "\n".join([settings.source, settings.aoi, settings.variable, settings.instance])
    return f"{FOLDER}/{hashlib.sha256(scope.encode()).hexdigest()[:32]}.json"


def _parsed(body: bytes, key: str, site: Site) -> UnusableFiles:
    fix = "Delete the file and ingest again; files that fail again are noted again."
    return parse_sealed(UnusableFiles, body, site.runs.address_of(key), ErrorCode.RUN_DAMAGED, fix)
