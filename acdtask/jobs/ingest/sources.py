"""Discovery of a source's rasters, from filenames or STAC items."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from acdtask.cube.aoi import load_aoi
from acdtask.cube.model import NAME_RULE, RECORD_NAME_BYTES, Record
from acdtask.cube.stac.api import read_stac_api
from acdtask.cube.stac.read import SIGNED, is_stac, read_stac
from acdtask.dates import parse_moment
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.ingest.access import Access
from acdtask.jobs.ingest.alternatives import Alternatives
from acdtask.jobs.ingest.listing import list_rasters, root_of, web_raster
from acdtask.jobs.ingest.origins import KnownRecords
from acdtask.jobs.ingest.polarisations import polarisation_of_asset, polarisation_to_take, track_to_note
from acdtask.jobs.ingest.producers import PRODUCERS, advice_for, refuse_odd_names
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.tracks import (
    POLARISATION,
    polarisation_in,
    polarisation_of,
    polarisation_of_tags,
    track_in,
    track_of_stac,
)
from acdtask.raster.grid import Grid
from acdtask.raster.source_files import Header, read_header
from acdtask.raster.tiling import footprint
from acdtask.storage.store import Store
from acdtask.storage.web import Web
from acdtask.storage.web_address import is_web, is_web_api, name_of, signed_source

__all__ = ["Candidate", "SourceRasters", "Unfit", "access_to", "find_candidates"]

GEOTIFF_ENDINGS = (".tif", ".tiff")
"""Endings of assets that may be chosen without being named."""

HEADER_THREADS = 16
STAC_OWN_PROPERTIES = frozenset(
    {"created", "datetime", "description", "end_datetime", "gsd", "keywords", "license", "start_datetime", "title"}
    | {"updated"}
)


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
class Unfit:
    """A raster that cannot be used, and why. If its header cannot be read, the record has no footprint."""

    address: str
    record: Record
    error: AcdError


@dataclass(frozen=True)
class SourceRasters:
    """The rasters of a source, sorted by datetime and name.

    Attributes:
        candidates: rasters that can be ingested.
        unmatched: names of files that do not match the pattern.
        skipped: number of files that are hidden, unfinished, or images in other formats.
        unfit: rasters whose headers cannot be read.
        other_polarisations: number of files excluded for their polarisation, by polarisation.
    """

    candidates: list[Candidate]
    unmatched: tuple[str, ...] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)
    unfit: list[Unfit] = field(default_factory=list)
    other_polarisations: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _SourceFile:
    address: str
    fingerprint: str
    name: str
    datetime: dt.datetime
    start: dt.datetime | None
    tags: dict[str, str]
    track: str = ""
    polarisation: str = ""
    other_polarisations: tuple[str, ...] = ()
    asset: dict[str, Any] = field(default_factory=dict)


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
    listing = _from_stac(settings) if _is_stac(settings.source) else _from_files(settings)
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
    with ThreadPoolExecutor(HEADER_THREADS) as threads:
        opened = threads.map(
            lambda address: _header_or_error(stores[_parent(address)], address, access.folder), unknown
        )
        headers = dict(zip(unknown, opened, strict=True))
    _check_dtypes(headers, settings)
    candidates, unfit = [], []
    for file, record in zip(files, records, strict=True):
        header = headers.get(file.address)
        try:
            if isinstance(header, AcdError):
                raise header
            candidates.append(_candidate(file, record, header, grids, is_signed=file.address in listing.signed))
        except AcdError as error:
            unfit.append(Unfit(file.address, record, _with_address(file.address, error)))
    return SourceRasters(
        sorted(candidates, key=_order),
        listing.unmatched,
        listing.skipped,
        sorted(unfit, key=_order),
        others,
    )


def _order(raster: Candidate | Unfit) -> tuple[dt.datetime, str, str]:
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


def _check_dtypes(headers: Mapping[str, Header | AcdError], settings: IngestSettings) -> None:
    """Require the data type to which the producer's range of values applies. INPUT_OUT_OF_RANGE."""
    producer = PRODUCERS[settings.producer] if settings.producer else None
    if producer is None or not producer.dtype:
        return
    if any(getattr(settings, name) != value for name, value in producer.settings.items() if name != "source_nodata"):
        return
    for address, header in headers.items():
        if isinstance(header, Header) and header.dtype != producer.dtype:
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
    settings = IngestSettings.model_validate_json(text)
    return _from_stac_items(settings)[1] if _is_stac(settings.source) else _signed_file(settings)


def _full_addresses(settings: IngestSettings) -> dict[str, str]:
    """The full addresses of files, requested once per process."""
    return _cached_addresses(settings.model_dump_json())


def _signed_file(settings: IngestSettings) -> dict[str, str]:
    signed = signed_source(settings.source)
    return {settings.source: signed} if signed != settings.source else {}


def _folder_of(settings: IngestSettings) -> str:
    """The folder or prefix of the source or of the STAC document; empty on the web, where VRTs are not read."""
    if is_web(settings.source):
        return ""
    return Store.at(_parent(settings.source)).url if is_stac(settings.source) else root_of(settings.source)


def _is_stac(source: str) -> bool:
    return is_web_api(source) or is_stac(source)


def _stores_of(addresses: Sequence[str], access: Access) -> dict[str, Store | Web]:
    """A store for each folder. The files have been listed, so the buckets exist."""
    stores = {folder: access.store_of(f"{folder}/") for folder in dict.fromkeys(map(_parent, addresses))}
    for store in stores.values():
        if isinstance(store, Store):
            store.know_bucket()
    return stores


@dataclass(frozen=True)
class _SourceListing:
    files: list[_SourceFile]
    unmatched: tuple[str, ...] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)
    signed: Mapping[str, str] = field(default_factory=dict)


def _from_files(settings: IngestSettings) -> _SourceListing:
    pattern = Alternatives(settings.pattern)
    signed = _signed_file(settings)
    listing = (
        web_raster(settings.source, Web(signed, settings.source), vrt=pattern.takes_vrt)
        if is_web(settings.source)
        else list_rasters(settings.source, vrt=pattern.takes_vrt)
    )
    folder = listing.store.url.rstrip("/").rpartition("/")[2] if listing.store else ""
    files, unmatched = [], []
    for key, fingerprint in listing.rasters.items():
        parsed = pattern.match(key)
        if parsed is None:
            unmatched.append(key)
            continue
        track = track_in(key)
        polarisation = polarisation_of_tags(parsed.tags) or polarisation_in(key) or polarisation_in(folder)
        metadata = parsed.datetime, parsed.start, parsed.tags, track, polarisation
        files.append(_SourceFile(listing.address_of(key), fingerprint, pattern.record_name(key), *metadata))
    refuse_odd_names(settings.producer, settings.pattern, settings.source, unmatched)
    if not files:
        raise AcdError(
            ErrorCode.FILENAME_UNMATCHED,
            f"none of {len(unmatched)} files in {settings.source} matches {settings.pattern!r};"
            f" the first is {unmatched[0]}",
            advice_for(unmatched[0]),
        )
    return _SourceListing(files, tuple(unmatched), listing.skipped + listing.others, signed)


def _from_stac(settings: IngestSettings) -> _SourceListing:
    chosen, signed = _from_stac_items(settings)
    fingerprints = _fingerprints([asset.href for _, asset in chosen], Web(signed, settings.source))
    return _SourceListing([_file_of_item(item, asset, fingerprints) for item, asset in chosen], signed=signed)


def _from_stac_items(settings: IngestSettings) -> tuple[list[tuple[dict[str, Any], _ChosenAsset]], dict[str, str]]:
    """The items with their chosen assets, and the full addresses of those that have a query."""
    if is_web_api(settings.source):
        aoi = load_aoi(settings.aoi) if settings.aoi else None
        bounds = (aoi.geojson, aoi.start, aoi.end) if aoi else ()
        items = read_stac_api(settings.source, *bounds)
    else:
        items = read_stac(settings.source)
    if not items:
        raise AcdError(ErrorCode.INPUT_MISSING, f"{settings.source} holds no STAC item")
    chosen = [_chosen_asset(item, settings) for item in items]
    signed: dict[str, str] = {}
    for asset in chosen:
        if signed.setdefault(asset.href, asset.signed or asset.href) != (asset.signed or asset.href):
            raise AcdError(
                ErrorCode.WEB_ADDRESS,
                f"several items name {asset.href}, with different queries",
                "Download the files under different names, and give their folder as --source.",
            )
    with_query = {plain: full for plain, full in signed.items() if plain != full}
    return list(zip(items, chosen, strict=True)), with_query


def _fingerprints(hrefs: Sequence[str], web: Web) -> dict[str, str]:
    """The fingerprints of files: one listing per folder, and folders and web files in parallel."""
    folders: dict[str, set[str]] = {}
    for href in hrefs:
        if not is_web(href):
            folder, _, name = href.rpartition("/")
            folders.setdefault(folder or "/", set()).add(name)
    remote = list(dict.fromkeys(filter(is_web, hrefs)))
    with ThreadPoolExecutor(HEADER_THREADS) as threads:
        on_web = dict(zip(remote, threads.map(web.fingerprint, remote), strict=True))
        in_folders = threads.map(lambda folder: Store.at(folder).fingerprints_in(folders[folder]), folders)
        local = {
            f"{folder.rstrip('/')}/{name}": fingerprint
            for folder, fingerprints in zip(folders, in_folders, strict=True)
            for name, fingerprint in fingerprints.items()
        }
    return local | {href: fingerprint for href, fingerprint in on_web.items() if fingerprint is not None}


def _file_of_item(item: dict[str, Any], chosen: _ChosenAsset, fingerprints: Mapping[str, str]) -> _SourceFile:
    properties, href = item["properties"], chosen.href
    end = _datetime_of(item, "end_datetime") or _datetime_of(item, "datetime")
    start = _datetime_of(item, "start_datetime")
    if end is None:
        raise AcdError(ErrorCode.DATE_INVALID, f"STAC item {item['id']} has no datetime")
    tags = {
        _name(key): str(value)
        for key, value in sorted(properties.items())
        if isinstance(value, str | int | float) and key not in STAC_OWN_PROPERTIES and not key.startswith("proj:")
    }
    if start is not None and start > end:
        raise AcdError(ErrorCode.DATES_OUT_OF_ORDER, f"STAC item {item['id']} starts on {start} and ends on {end}")
    if href not in fingerprints:
        raise AcdError(ErrorCode.INPUT_MISSING, f"STAC item {item['id']} names {href}, which does not exist")
    asset = next(candidate for candidate in item["assets"].values() if candidate["href"] == href)
    track = track_of_stac(properties) or track_in(str(item["id"]))
    start = start if start != end else None
    metadata = end, start, tags, track, chosen.polarisation, chosen.others, asset
    return _SourceFile(href, fingerprints[href], str(item["id"]), *metadata)


def _datetime_of(item: dict[str, Any], name: str) -> dt.datetime | None:
    """A datetime of a STAC item, in UTC, which is also the default zone. DATE_INVALID."""
    value = item["properties"].get(name)
    if value is None:
        return None
    try:
        return parse_moment(value if isinstance(value, str) else None)
    except ValueError as error:
        raise AcdError(
            ErrorCode.DATE_INVALID,
            f"STAC item {item['id']} has the {name} {value!r}",
            "Write datetimes of STAC items as in RFC 3339: 2021-01-07T05:26:40Z.",
        ) from error


@dataclass(frozen=True)
class _ChosenAsset:
    """The chosen raster of an item.

    Attributes:
        href: its address without a query.
        polarisation: empty if unknown.
        others: polarisations of the item's other rasters.
        signed: its address with the query; empty if it has none.
    """

    href: str
    polarisation: str
    others: tuple[str, ...]
    signed: str = ""


def _chosen_asset(item: dict[str, Any], settings: IngestSettings) -> _ChosenAsset:
    """Choose the raster of an item; of several, the one with the variable's polarisation.

    STAC_INVALID, POLARISATION_MISMATCH.
    """
    asset = settings.asset
    rasters = {
        key: str(value["href"])
        for key, value in item.get("assets", {}).items()
        if key == asset or (not asset and _is_geotiff(str(value.get("href", ""))))
    }
    if local := {key: href for key, href in rasters.items() if not is_web(href)}:
        rasters = local  # web assets beside local ones are previews or copies
    polarisations = {key: polarisation_of_asset(item, key) for key in rasters}
    if len(rasters) > 1 and all(polarisations.values()) and settings.polarisation != "any":
        wanted = polarisation_to_take(list(polarisations.values()), settings)
        rasters = {key: href for key, href in rasters.items() if polarisations[key] == wanted}
    if len(rasters) != 1:
        expected = f"asset {asset}" if asset else "exactly one GeoTIFF asset"
        names = ", ".join(sorted(item.get("assets", {}))) or "no asset"
        raise AcdError(ErrorCode.STAC_INVALID, f"STAC item {item['id']} does not have {expected}: it has {names}")
    ((key, href),) = rasters.items()
    others = tuple(polarisation for other, polarisation in polarisations.items() if other != key)
    return _ChosenAsset(href, polarisations[key], others, str(item["assets"][key].get(SIGNED, "")))


def _is_geotiff(href: str) -> bool:
    return (name_of(href) if is_web(href) else href).lower().endswith(GEOTIFF_ENDINGS)


def _records_of(
    files: list[_SourceFile], more_tags: dict[str, str], settings: IngestSettings, known: KnownRecords
) -> list[Record]:
    """The records of files, with their track and polarisation as tags.

    A record that an older version of acd stored without these tags keeps its identity.
    """
    candidates = [_possible_records(file, more_tags, settings) for file in files]
    ambiguous = [record.id for records in candidates if len(records) > 1 for record in records]
    existing = known.ids(ambiguous) if ambiguous else frozenset()
    return [next((record for record in records if record.id in existing), records[0]) for records in candidates]


def _possible_records(file: _SourceFile, more_tags: dict[str, str], settings: IngestSettings) -> list[Record]:
    """The record with all tags, then as older versions wrote it: without polarisation, and without track."""
    track = track_to_note(file.track, file.tags | more_tags, file.address, settings)
    with_track = _record_of(file, more_tags | track)
    is_needed = file.polarisation and not polarisation_of(with_track)
    with_polarisation = [_record_of(file, more_tags | track | {POLARISATION: file.polarisation})] if is_needed else []
    untagged = [] if settings.track or not track else [_record_of(file, more_tags)]
    return [*with_polarisation, with_track, *untagged]


def _record_of(file: _SourceFile, more_tags: dict[str, str]) -> Record:
    """The record without its footprint, which is not part of its identity."""
    tags = file.tags | more_tags
    if file.start is not None:
        tags |= {"start_datetime": file.start.isoformat()}
    return Record(name=_name(file.name), datetime=file.datetime, tags=dict(sorted(tags.items())), footprint={})


def _candidate(
    file: _SourceFile, record: Record, header: Header | None, grids: Mapping[str, Grid], *, is_signed: bool
) -> Candidate:
    grid = header.grid if header else grids[record.id]
    located = record.model_copy(update={"footprint": footprint(grid)})
    return Candidate(file.address, file.fingerprint, grid, located, header, file.asset, is_signed)


def _name(text: str) -> str:
    """A valid record name; invalid characters become '_'. NAME_TOO_LONG."""
    name = "".join(letter if letter == "/" or NAME_RULE.match(letter) else "_" for letter in text)
    name = "/".join(part for part in name.split("/") if part) or "_"
    if len(name) > RECORD_NAME_BYTES:
        raise AcdError(
            ErrorCode.NAME_TOO_LONG,
            f"the name of a record has {len(name)} bytes, but at most {RECORD_NAME_BYTES} are allowed: {name[:40]}...",
        )
    return name


def _parent(address: str) -> str:
    return address.rpartition("/")[0] or "."
