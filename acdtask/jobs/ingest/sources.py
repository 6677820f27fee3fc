"""The rasters of a source that may become records, and their headers."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from acdtask.cube.model import Record
from acdtask.cube.stac.read import is_stac
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.ingest.access import Access
from acdtask.jobs.ingest.listing import root_of
from acdtask.jobs.ingest.origins import KnownRecords
from acdtask.jobs.ingest.polarisations import polarisation_to_take, track_to_note
from acdtask.jobs.ingest.producers import PRODUCERS
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.ingest.source_listing import THREADS, SourceFile, addresses_with_query, list_files, record_name
from acdtask.jobs.ingest.unusable import Unusable
from acdtask.jobs.tracks import POLARISATION, polarisation_of
from acdtask.raster.grid import Grid
from acdtask.raster.source_files import Header, read_header
from acdtask.raster.tiling import footprint
from acdtask.storage.store import Store
from acdtask.storage.web import Web
from acdtask.storage.web_address import is_web

__all__ = ["Candidate", "SourceRasters", "access_to", "find_candidates"]


@dataclass(frozen=True)
class Candidate:
    """A raster that may become a dataset.

    Attributes:
        address: absolute address of the file.
        fingerprint: changes when the file does.
        grid: the raster's grid.
        record: the record that it becomes.
        header: None if the file was not opened because the cube has its record.
        asset: the file's asset in its STAC item; empty if it has none.
        signed: whether the full address has a query, which is not stored.
    """

    address: str
    fingerprint: str
    grid: Grid
    record: Record
    header: Header | None
    asset: dict[str, Any] = field(default_factory=dict)
    signed: bool = False


@dataclass(frozen=True)
class SourceRasters:
    """The rasters of a source, sorted by datetime and name.

    Attributes:
        candidates: rasters that can be ingested.
        unmatched: names of files that do not match the pattern.
        skipped: number of files that are hidden, unfinished, or images in other formats.
        unusable: rasters whose name, item or header cannot be read.
        other_polarisations: number of files excluded for their polarisation, by polarisation.
    """

    candidates: list[Candidate]
    unmatched: tuple[str, ...] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)
    unusable: list[Unusable] = field(default_factory=list)
    other_polarisations: Mapping[str, int] = field(default_factory=dict)


def find_candidates(settings: IngestSettings, aoi_tags: dict[str, str], known: KnownRecords) -> SourceRasters:
    """Find the rasters of the settings' source, and their records.

    Args:
        settings: name the source.
        aoi_tags: tags for every record.
        known: records that the cube has; the files of some of them need not be opened.

    Raises:
        AcdError: INPUT_MISSING, FILENAME_UNMATCHED, STAC_INVALID, POLARISATION_MISMATCH, TRACK_CONFLICT, and transient
            errors of reading headers.
    """
    listing = list_files(settings)
    polarisations = [file.polarisation for file in listing.files]
    wanted = polarisation_to_take(polarisations, settings)
    unwanted = [polarisation for polarisation in polarisations if wanted and polarisation not in ("", wanted)]
    others = Counter(unwanted)
    files = [file for file in listing.files if file.polarisation not in others]
    others.update(polarisation for file in files for polarisation in file.other_polarisations)
    records = _records_of(files, aoi_tags | settings.tags, settings, known)
    grids = known.grids([(record, file.fingerprint) for file, record in zip(files, records, strict=True)])
    unknown = [file.address for file, record in zip(files, records, strict=True) if record.id not in grids]
    access = Access(_folder_of(settings), Web(listing.signed, settings.source))
    stores = _stores_of(unknown, access)
    with ThreadPoolExecutor(THREADS) as threads:
        opened = threads.map(
            lambda address: _header_or_error(stores[_parent(address)], address, access.folder), unknown
        )
        headers = dict(zip(unknown, opened, strict=True))
    candidates, unusable = [], list(listing.unusable)
    for file, record in zip(files, records, strict=True):
        header = headers.get(file.address)
        try:
            if isinstance(header, AcdError):
                raise header
            if header is not None:
                _check_dtype(file.address, header, settings)
            candidates.append(_candidate(file, record, header, grids, is_signed=file.address in listing.signed))
        except AcdError as error:
            unusable.append(Unusable(file.address, record, _with_address(file.address, error)))
    return SourceRasters(
        sorted(candidates, key=_order),
        listing.unmatched,
        listing.skipped,
        sorted(unusable, key=lambda file: file.address),
        others,
    )


def _order(raster: Candidate) -> tuple[dt.datetime, str, str]:
    return raster.record.datetime, raster.record.name, raster.address


def _with_address(address: str, error: AcdError) -> AcdError:
    """The error of a raster, with the raster's address if it is about its grid."""
    if error.code is not ErrorCode.LAYOUT_INVALID:
        return error
    fix = "Check the coordinate system and the geotransform of the named file (gdalinfo)."
    return AcdError(ErrorCode.INPUT_CRS_MISSING, f"{address} is not georeferenced: {error.detail}", fix)


def _header_or_error(store: Store | Web, address: str, folder: str) -> Header | AcdError:
    """The header of a file, or its permanent error. Transient errors are raised."""
    try:
        return read_header(store, address, folder, beside=True)
    except AcdError as error:
        if error.code.value.retryable:
            raise
        return error


def _check_dtype(address: str, header: Header, settings: IngestSettings) -> None:
    """Require the data type to which the producer's range of values applies. INPUT_OUT_OF_RANGE."""
    producer = PRODUCERS[settings.producer] if settings.producer else None
    if producer is None or not producer.dtype:
        return
    if any(getattr(settings, name) != value for name, value in producer.settings.items() if name != "source_nodata"):
        return
    if header.dtype != producer.dtype:
        raise AcdError(
            ErrorCode.INPUT_OUT_OF_RANGE,
            f"{address} is {header.dtype}, but images of {producer.title} are {producer.dtype}",
            "Give the range of the file's values, such as --source-minimum 0 --source-maximum 1.",
        )


def access_to(settings: IngestSettings, *, signed: bool) -> Access:
    """Access to the files of a planned source.

    Args:
        settings: name the source.
        signed: some addresses have a query. Plans do not store it, so the source is asked for it again.
    """
    return Access(_folder_of(settings), Web(_full_addresses(settings) if signed else {}, settings.source))


@lru_cache(maxsize=4)
def _cached_addresses(text: str) -> dict[str, str]:
    return addresses_with_query(IngestSettings.model_validate_json(text))


def _full_addresses(settings: IngestSettings) -> dict[str, str]:
    """The full addresses of files, requested once per process."""
    return _cached_addresses(settings.model_dump_json())


def _folder_of(settings: IngestSettings) -> str:
    """The folder or prefix of the source or of the STAC document; empty on the web, where VRTs are not read."""
    if is_web(settings.source):
        return ""
    return Store.of_file(settings.source)[0].url if is_stac(settings.source) else root_of(settings.source)


def _stores_of(addresses: Sequence[str], access: Access) -> dict[str, Store | Web]:
    """A store for each folder. The files have been listed, so the buckets exist."""
    stores = {folder: access.store_of(folder) for folder in dict.fromkeys(map(_parent, addresses))}
    for store in stores.values():
        if isinstance(store, Store):
            store.know_bucket()
    return stores


def _records_of(
    files: list[SourceFile], more_tags: dict[str, str], settings: IngestSettings, known: KnownRecords
) -> list[Record]:
    """The records of files, with their track and polarisation as tags.

    A record that an older version of acd stored without these tags keeps its identity.
    """
    candidates = [_possible_records(file, more_tags, settings) for file in files]
    ambiguous = [record.id for records in candidates if len(records) > 1 for record in records]
    existing = known.ids(ambiguous) if ambiguous else frozenset()
    return [next((record for record in records if record.id in existing), records[0]) for records in candidates]


def _possible_records(file: SourceFile, more_tags: dict[str, str], settings: IngestSettings) -> list[Record]:
    """The record with all tags, then as older versions wrote it: without polarisation, and without track."""
    track = track_to_note(file.track, file.tags | more_tags, file.address, settings)
    with_track = _record_of(file, more_tags | track)
    is_needed = file.polarisation and not polarisation_of(with_track)
    with_polarisation = [_record_of(file, more_tags | track | {POLARISATION: file.polarisation})] if is_needed else []
    untagged = [] if settings.track or not track else [_record_of(file, more_tags)]
    return [*with_polarisation, with_track, *untagged]


def _record_of(file: SourceFile, more_tags: dict[str, str]) -> Record:
    """The record without its footprint, which is not part of its identity."""
    tags = file.tags | more_tags
    if file.start is not None:
        tags |= {"start_datetime": file.start.isoformat()}
    return Record(name=record_name(file.name), datetime=file.datetime, tags=dict(sorted(tags.items())), footprint={})


def _candidate(
    file: SourceFile, record: Record, header: Header | None, grids: Mapping[str, Grid], *, is_signed: bool
) -> Candidate:
    grid = header.grid if header else grids[record.id]
    located = record.model_copy(update={"footprint": footprint(grid)})
    return Candidate(file.address, file.fingerprint, grid, located, header, file.asset, is_signed)


def _parent(address: str) -> str:
    """The folder or prefix of a raster, with its final slash."""
    return address[: address.rindex("/") + 1]
