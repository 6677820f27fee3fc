"""Where rasters come from: files whose names tell dates, or STAC items."""

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
from acdtask.jobs.ingest.listing import list_rasters, place_of, web_raster
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

__all__ = ["Candidate", "Found", "Unfit", "access_to", "find_candidates"]

GEOTIFF_ENDINGS = (".tif", ".tiff")
"""Of an asset that is taken without being named."""

HEADER_THREADS = 16
STAC_OWN_PROPERTIES = frozenset(
    {"created", "datetime", "description", "end_datetime", "gsd", "keywords", "license", "start_datetime", "title"}
    | {"updated"}
)


@dataclass(frozen=True)
class Candidate:
    """A raster that may become a dataset.

    `address` is absolute; `fingerprint` changes when the file does. `header` is None if the file was not opened, since
    the cube has its record. `asset` is what a STAC item says of the file. `signed` says that the file's whole address
    has a query, which is not stored.
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
    """A raster that cannot be used, and why. Where its header cannot be read, the record has no footprint."""

    address: str
    record: Record
    error: AcdError


@dataclass(frozen=True)
class Found:
    """The rasters of a source, by datetime and name.

    Attributes:
        candidates: the rasters.
        unmatched: the names of files that do not match the pattern.
        passed_over: how many files were hidden or unfinished, or are images in other formats.
        unfit: the rasters whose headers cannot be read.
        other_polarisations: how many files were passed over for their polarisation, by polarisation.
    """

    candidates: list[Candidate]
    unmatched: tuple[str, ...] = ()
    passed_over: Mapping[str, int] = field(default_factory=dict)
    unfit: list[Unfit] = field(default_factory=list)
    other_polarisations: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Named:
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


def find_candidates(settings: IngestSettings, aoi_tags: dict[str, str], known: KnownRecords) -> Found:
    """The rasters that the settings' source holds; their records get the AOI's tags too.

    Args:
        settings: with the source.
        aoi_tags: tags for every record.
        known: what the cube has of them; the files of some of its records need not be opened.

    Raises:
        AcdError: INPUT_MISSING, FILENAME_UNMATCHED, STAC_INVALID, POLARISATION_MISMATCH, TRACK_CONFLICT, and what may
            pass when a header is read again.
    """
    found = _from_stac(settings) if _is_stac(settings.source) else _from_files(settings)
    said = [one.polarisation for one in found.named]
    wanted = polarisation_to_take(said, settings)
    others = Counter(one for one in said if one not in ("", wanted)) if wanted else Counter[str]()
    named = [one for one in found.named if one.polarisation not in others]
    others.update(polarisation for one in named for polarisation in one.other_polarisations)
    records = _records_of(named, aoi_tags | settings.tags, settings, known)
    grids = known.grids([(record, one.fingerprint) for one, record in zip(named, records, strict=True)])
    unknown = [one.address for one, record in zip(named, records, strict=True) if record.id not in grids]
    access = Access(_folder_of(settings), Web(found.signed, settings.source))
    stores = _stores_of(unknown, access)
    with ThreadPoolExecutor(HEADER_THREADS) as threads:
        opened = threads.map(
            lambda address: _header_or_error(stores[_parent(address)], address, access.folder), unknown
        )
        headers = dict(zip(unknown, opened, strict=True))
    _check_dtypes(headers, settings)
    candidates, unfit = [], []
    for one, record in zip(named, records, strict=True):
        header = headers.get(one.address)
        try:
            if isinstance(header, AcdError):
                raise header
            candidates.append(_candidate(one, record, header, grids, is_signed=one.address in found.signed))
        except AcdError as error:
            unfit.append(Unfit(one.address, record, _about(one.address, error)))
    return Found(
        sorted(candidates, key=lambda one: (one.record.datetime, one.record.name, one.address)),
        found.unmatched,
        found.passed_over,
        sorted(unfit, key=lambda one: (one.record.datetime, one.record.name, one.address)),
        others,
    )


def _about(address: str, error: AcdError) -> AcdError:
    """The error of a raster; that of its grid names the raster."""
    if error.code is not ErrorCode.LAYOUT_INVALID:
        return error
    fix = "Check the coordinate system and the geotransform of the named file (gdalinfo)."
    return AcdError(ErrorCode.INPUT_CRS_MISSING, f"{address} has no place on the ground: {error.detail}", fix)


def _header_or_error(store: Store | Web, address: str, folder: str) -> Header | AcdError:
    """The header of a file, or why it has none, unless that may pass."""
    try:
        return read_header(store, address, folder, beside=True)
    except AcdError as error:
        if error.code.value.retryable:
            raise
        return error


def _check_dtypes(headers: Mapping[str, Header | AcdError], settings: IngestSettings) -> None:
    """INPUT_OUT_OF_RANGE if the producer's range of values is for another data type than a file has."""
    producer = PRODUCERS[settings.producer] if settings.producer else None
    if producer is None or not producer.dtype:
        return
    if any(getattr(settings, name) != value for name, value in producer.settings.items() if name != "source_nodata"):
        return
    for address, header in headers.items():
        if isinstance(header, Header) and header.dtype != producer.dtype:
            raise AcdError(
                ErrorCode.INPUT_OUT_OF_RANGE,
                f"{address} is {header.dtype}, and images of {producer.title} are {producer.dtype}",
                "Give the range of the file's values, such as --source-minimum 0 --source-maximum 1.",
            )


def access_to(settings: IngestSettings, *, signed: bool) -> Access:
    """How the files of a source are reached by whoever has the plan alone.

    Args:
        settings: with the source.
        signed: some addresses have a query, which no plan has; the source is asked for them again.
    """
    return Access(_folder_of(settings), Web(_signed_again(settings) if signed else {}, settings.source))


@lru_cache(maxsize=4)
def _addresses_again(text: str) -> dict[str, str]:
    settings = IngestSettings.model_validate_json(text)
    return _from_stac_items(settings)[1] if _is_stac(settings.source) else _signed_file(settings)


def _signed_again(settings: IngestSettings) -> dict[str, str]:
    """The whole addresses of files, asked for once in a process."""
    return _addresses_again(settings.model_dump_json())


def _signed_file(settings: IngestSettings) -> dict[str, str]:
    signed = signed_source(settings.source)
    return {settings.source: signed} if signed != settings.source else {}


def _folder_of(settings: IngestSettings) -> str:
    """The folder or prefix of the source, or that of the STAC document. Nothing for one on the web: it has no VRTs."""
    if is_web(settings.source):
        return ""
    return Store.at(_parent(settings.source)).url if is_stac(settings.source) else place_of(settings.source)


def _is_stac(source: str) -> bool:
    return is_web_api(source) or is_stac(source)


def _stores_of(addresses: Sequence[str], access: Access) -> dict[str, Store | Web]:
    """A store for each folder of files that a listing has found: their buckets are there."""
    stores = {folder: access.store_of(f"{folder}/") for folder in dict.fromkeys(map(_parent, addresses))}
    for store in stores.values():
        if isinstance(store, Store):
            store.know_bucket()
    return stores


@dataclass(frozen=True)
class _Listed:
    named: list[_Named]
    unmatched: tuple[str, ...] = ()
    passed_over: Mapping[str, int] = field(default_factory=dict)
    signed: Mapping[str, str] = field(default_factory=dict)


def _from_files(settings: IngestSettings) -> _Listed:
    pattern = Alternatives(settings.pattern)
    signed = _signed_file(settings)
    listing = (
        web_raster(settings.source, Web(signed, settings.source), vrt=pattern.takes_vrt)
        if is_web(settings.source)
        else list_rasters(settings.source, vrt=pattern.takes_vrt)
    )
    folder = listing.store.url.rstrip("/").rpartition("/")[2] if listing.store else ""
    named, unmatched = [], []
    for key, mark in listing.rasters.items():
        said = pattern.match(key)
        if said is None:
            unmatched.append(key)
            continue
        track = track_in(key)
        polarisation = polarisation_of_tags(said.tags) or polarisation_in(key) or polarisation_in(folder)
        of_file = said.datetime, said.start, said.tags, track, polarisation
        named.append(_Named(listing.address_of(key), mark, pattern.record_name(key), *of_file))
    refuse_odd_names(settings.producer, settings.pattern, settings.source, unmatched)
    if not named:
        raise AcdError(
            ErrorCode.FILENAME_UNMATCHED,
            f"none of {len(unmatched)} files in {settings.source} matches {settings.pattern!r};"
            f" the first is {unmatched[0]}",
            advice_for(unmatched[0]),
        )
    return _Listed(named, tuple(unmatched), listing.passed_over + listing.others, signed)


def _from_stac(settings: IngestSettings) -> _Listed:
    chosen, signed = _from_stac_items(settings)
    marks = _fingerprints([asset.href for _, asset in chosen], Web(signed, settings.source))
    return _Listed([_named_by_item(item, asset, marks) for item, asset in chosen], signed=signed)


def _from_stac_items(settings: IngestSettings) -> tuple[list[tuple[dict[str, Any], _ChosenAsset]], dict[str, str]]:
    """The items with the assets to take, and the whole addresses of those that have a query."""
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
    for one in chosen:
        if signed.setdefault(one.href, one.signed or one.href) != (one.signed or one.href):
            raise AcdError(
                ErrorCode.WEB_ADDRESS,
                f"several items name {one.href}, each with another query",
                "Download the files under names that differ, and give their folder as --source.",
            )
    with_query = {plain: whole for plain, whole in signed.items() if plain != whole}
    return list(zip(items, chosen, strict=True)), with_query


def _fingerprints(hrefs: Sequence[str], web: Web) -> dict[str, str]:
    """The fingerprints of files, asked for a folder at a time, and of several folders or files of the web at once."""
    folders: dict[str, set[str]] = {}
    for href in hrefs:
        if not is_web(href):
            folder, _, name = href.rpartition("/")
            folders.setdefault(folder or "/", set()).add(name)
    remote = list(dict.fromkeys(filter(is_web, hrefs)))
    with ThreadPoolExecutor(HEADER_THREADS) as threads:
        asked = dict(zip(remote, threads.map(web.fingerprint, remote), strict=True))
        listed = threads.map(lambda folder: Store.at(folder).fingerprints_in(folders[folder]), folders)
        there = {
            f"{folder.rstrip('/')}/{name}": mark
            for folder, marks in zip(folders, listed, strict=True)
            for name, mark in marks.items()
        }
    return there | {href: mark for href, mark in asked.items() if mark is not None}


def _named_by_item(item: dict[str, Any], chosen: _ChosenAsset, marks: Mapping[str, str]) -> _Named:
    properties, href = item["properties"], chosen.href
    end = _moment_of(item, "end_datetime") or _moment_of(item, "datetime")
    began = _moment_of(item, "start_datetime")
    if end is None:
        raise AcdError(ErrorCode.DATE_INVALID, f"STAC item {item['id']} has no datetime")
    tags = {
        _name(key): str(value)
        for key, value in sorted(properties.items())
        if isinstance(value, str | int | float) and key not in STAC_OWN_PROPERTIES and not key.startswith("proj:")
    }
    if began is not None and began > end:
        raise AcdError(ErrorCode.DATES_OUT_OF_ORDER, f"STAC item {item['id']} starts on {began} and ends on {end}")
    if href not in marks:
        raise AcdError(ErrorCode.INPUT_MISSING, f"STAC item {item['id']} names {href}, which is not there")
    asset = next(one for one in item["assets"].values() if one["href"] == href)
    track = track_of_stac(properties) or track_in(str(item["id"]))
    began = began if began != end else None
    of_item = end, began, tags, track, chosen.polarisation, chosen.others, asset
    return _Named(href, marks[href], str(item["id"]), *of_item)


def _moment_of(item: dict[str, Any], name: str) -> dt.datetime | None:
    """A datetime of a STAC item, in UTC; without a zone it is UTC. DATE_INVALID."""
    value = item["properties"].get(name)
    if value is None:
        return None
    try:
        return parse_moment(value if isinstance(value, str) else None)
    except ValueError as error:
        raise AcdError(
            ErrorCode.DATE_INVALID,
            f"STAC item {item['id']} has the {name} {value!r}",
            "Write datetimes of STAC items as RFC 3339 texts: 2021-01-07T05:26:40Z.",
        ) from error


@dataclass(frozen=True)
class _ChosenAsset:
    """The raster of an item, its polarisation, and those of the item's other rasters; its address with its query."""

    href: str
    polarisation: str
    others: tuple[str, ...]
    signed: str = ""


def _chosen_asset(item: dict[str, Any], settings: IngestSettings) -> _ChosenAsset:
    """The raster of an item; of several, the one of the variable's polarisation.

    STAC_INVALID, POLARISATION_MISMATCH.
    """
    asset = settings.asset
    rasters = {
        key: str(value["href"])
        for key, value in item.get("assets", {}).items()
        if key == asset or (not asset and _is_geotiff(str(value.get("href", ""))))
    }
    if near := {key: href for key, href in rasters.items() if not is_web(href)}:
        rasters = near  # what is on the web beside them are previews and other copies
    said = {key: polarisation_of_asset(item, key) for key in rasters}
    if len(rasters) > 1 and all(said.values()) and settings.polarisation != "any":
        wanted = polarisation_to_take(list(said.values()), settings)
        rasters = {key: href for key, href in rasters.items() if said[key] == wanted}
    if len(rasters) != 1:
        expected = f"asset {asset}" if asset else "exactly one GeoTIFF asset"
        names = ", ".join(sorted(item.get("assets", {}))) or "no asset"
        raise AcdError(ErrorCode.STAC_INVALID, f"STAC item {item['id']} does not have {expected}: it has {names}")
    ((key, href),) = rasters.items()
    others = tuple(one for other, one in said.items() if other != key)
    return _ChosenAsset(href, said[key], others, str(item["assets"][key].get(SIGNED, "")))


def _is_geotiff(href: str) -> bool:
    return (name_of(href) if is_web(href) else href).lower().endswith(GEOTIFF_ENDINGS)


def _records_of(
    named: list[_Named], more_tags: dict[str, str], settings: IngestSettings, known: KnownRecords
) -> list[Record]:
    """The records. Track and polarisation are tags, unless the cube has the record from an acd that did not note them.

    A polarisation that the record's name says needs no tag.
    """
    forms = [_forms_of(one, more_tags, settings) for one in named]
    unsure = [record.id for records in forms if len(records) > 1 for record in records]
    there = known.ids(unsure) if unsure else frozenset()
    return [next((record for record in records if record.id in there), records[0]) for records in forms]


def _forms_of(named: _Named, more_tags: dict[str, str], settings: IngestSettings) -> list[Record]:
    """The record with all tags, then as older versions of acd made it: without its polarisation, and its track."""
    track = track_to_note(named.track, named.tags | more_tags, named.address, settings)
    without = _record_of(named, more_tags | track)
    is_needed = named.polarisation and not polarisation_of(without)
    noted = [_record_of(named, more_tags | track | {POLARISATION: named.polarisation})] if is_needed else []
    plain = [] if settings.track or not track else [_record_of(named, more_tags)]
    return [*noted, without, *plain]


def _record_of(named: _Named, more_tags: dict[str, str]) -> Record:
    """The record without its footprint, which is no part of its identity."""
    tags = named.tags | more_tags
    if named.start is not None:
        tags |= {"start_datetime": named.start.isoformat()}
    return Record(name=_name(named.name), datetime=named.datetime, tags=dict(sorted(tags.items())), footprint={})


def _candidate(
    named: _Named, record: Record, header: Header | None, grids: Mapping[str, Grid], *, is_signed: bool
) -> Candidate:
    grid = header.grid if header else grids[record.id]
    located = record.model_copy(update={"footprint": footprint(grid)})
    return Candidate(named.address, named.fingerprint, grid, located, header, named.asset, is_signed)


def _name(text: str) -> str:
    """A name that the cube takes: what it does not take becomes '_'. NAME_TOO_LONG."""
    name = "".join(letter if letter == "/" or NAME_RULE.match(letter) else "_" for letter in text)
    name = "/".join(part for part in name.split("/") if part) or "_"
    if len(name) > RECORD_NAME_BYTES:
        raise AcdError(
            ErrorCode.NAME_TOO_LONG,
            f"the name of a record has {len(name)} bytes, and may have {RECORD_NAME_BYTES} at most: {name[:40]}...",
        )
    return name


def _parent(address: str) -> str:
    return address.rpartition("/")[0] or "."
