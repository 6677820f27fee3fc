"""Where rasters come from: a folder or bucket with names that speak, or STAC items."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from acdtask.cube.grid import Grid
from acdtask.cube.local.rasters import Header, read_header
from acdtask.cube.local.stac import read_stac
from acdtask.cube.local.store import Store
from acdtask.cube.model import NAME_RULE, RECORD_NAME_BYTES, Record
from acdtask.cube.tiling import footprint
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.ingest.pattern import FilenamePattern
from acdtask.jobs.ingest.settings import IngestSettings

__all__ = ["Candidate", "Found", "Unfit", "find_candidates", "source_folder"]

GEOTIFF_ENDINGS = (".tif", ".tiff")
HEADER_THREADS = 16
STAC_OWN_PROPERTIES = frozenset(
    {"created", "datetime", "description", "end_datetime", "gsd", "keywords", "license", "start_datetime", "title"}
    | {"updated"}
)


@dataclass(frozen=True)
class Candidate:
    """A raster that may become a dataset.

    `address` is absolute; `fingerprint` changes when the file does. `header` is None if the file was not opened, since
    the cube has its record. `asset` is what a STAC item says of the file.
    """

    address: str
    fingerprint: str
    grid: Grid
    record: Record
    header: Header | None
    asset: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Unfit:
    """A raster that cannot be used, and why. Where its header cannot be read, the record has no footprint."""

    address: str
    record: Record
    error: AcdError


@dataclass(frozen=True)
class Found:
    """The rasters of a source, by datetime and name, and the number of files whose names do not match.

    `unfit` are those whose headers cannot be read.
    """

    candidates: list[Candidate]
    unmatched: int
    unfit: list[Unfit] = field(default_factory=list)


@dataclass(frozen=True)
class _Named:
    address: str
    fingerprint: str
    name: str
    datetime: dt.datetime
    start: dt.datetime | None
    tags: dict[str, str]
    asset: dict[str, Any] = field(default_factory=dict)


def find_candidates(
    settings: IngestSettings, aoi_tags: dict[str, str], known_grids: Callable[[list[str]], Mapping[str, Grid]]
) -> Found:
    """The rasters that the settings' source holds; their records get the AOI's tags too.

    Args:
        settings: with the source.
        aoi_tags: tags for every record.
        known_grids: gives the grids of those records, by id, whose files need not be opened.

    Raises:
        AcdError: INPUT_MISSING, FILENAME_UNMATCHED, STAC_INVALID, and what may pass when a header is read again.
    """
    named, unmatched = _from_stac(settings) if settings.source.endswith(".json") else _from_files(settings)
    records = [_record_of(one, aoi_tags | settings.tags) for one in named]
    grids = known_grids([record.id for record in records])
    unknown = [one.address for one, record in zip(named, records, strict=True) if record.id not in grids]
    folder = source_folder(settings)
    store = Store.at(folder)
    with ThreadPoolExecutor(HEADER_THREADS) as threads:
        opened = threads.map(lambda address: _header_or_error(store, address, folder), unknown)
        headers = dict(zip(unknown, opened, strict=True))
    candidates, unfit = [], []
    for one, record in zip(named, records, strict=True):
        header = headers.get(one.address)
        try:
            if isinstance(header, AcdError):
                raise header
            candidates.append(_candidate(one, record, header, grids))
        except AcdError as error:
            unfit.append(Unfit(one.address, record, _about(one.address, error)))
    return Found(
        sorted(candidates, key=lambda one: (one.record.datetime, one.record.name, one.address)),
        unmatched,
        sorted(unfit, key=lambda one: (one.record.datetime, one.record.name, one.address)),
    )


def _about(address: str, error: AcdError) -> AcdError:
    """The error of a raster; that of its grid names the raster."""
    if error.code is not ErrorCode.LAYOUT_INVALID:
        return error
    fix = "Check the coordinate system and the geotransform of the named file (gdalinfo)."
    return AcdError(ErrorCode.INPUT_CRS_MISSING, f"{address} has no place on the ground: {error.detail}", fix)


def _header_or_error(store: Store, address: str, folder: str) -> Header | AcdError:
    """The header of a file, or why it has none, unless that may pass."""
    try:
        return read_header(store, address, folder, beside=True)
    except AcdError as error:
        if error.code.value.retryable:
            raise
        return error


def source_folder(settings: IngestSettings) -> str:
    """The folder or prefix of the source: that of the STAC document, if it is one."""
    return Store.at(_parent(settings.source) if settings.source.endswith(".json") else settings.source).url


def _from_files(settings: IngestSettings) -> tuple[list[_Named], int]:
    pattern = FilenamePattern(settings.pattern)
    store = Store.at(settings.source)
    fingerprints = {key: mark for key, mark in store.fingerprints("").items() if key.lower().endswith(GEOTIFF_ENDINGS)}
    if not fingerprints:
        raise AcdError(ErrorCode.INPUT_MISSING, f"{settings.source} holds no GeoTIFF (.tif, .tiff)")
    named = []
    for key, mark in sorted(fingerprints.items()):
        said = pattern.match(key)
        if said is not None:
            name = Path(key).stem
            named.append(_Named(store.address_of(key), mark, name, said.datetime, said.start, said.tags))
    if not named:
        first, pattern_text = min(fingerprints), settings.pattern
        raise AcdError(
            ErrorCode.FILENAME_UNMATCHED,
            f"none of {len(fingerprints)} files in {settings.source} matches {pattern_text!r}; the first is {first}",
        )
    return named, len(fingerprints) - len(named)


def _from_stac(settings: IngestSettings) -> tuple[list[_Named], int]:
    items = read_stac(settings.source)
    if not items:
        raise AcdError(ErrorCode.INPUT_MISSING, f"{settings.source} holds no STAC item")
    return [_named_by_item(item, settings) for item in items], 0


def _named_by_item(item: dict[str, Any], settings: IngestSettings) -> _Named:
    properties = item["properties"]
    moment = properties.get("end_datetime") or properties.get("datetime")
    start = properties.get("start_datetime")
    href = _asset_href(item, settings.asset)
    tags = {
        _name(key): str(value)
        for key, value in sorted(properties.items())
        if isinstance(value, str | int | float) and key not in STAC_OWN_PROPERTIES and not key.startswith("proj:")
    }
    try:
        end = dt.datetime.fromisoformat(str(moment))
        began = dt.datetime.fromisoformat(start) if start else None
    except ValueError as error:
        raise AcdError(ErrorCode.DATE_INVALID, f"STAC item {item['id']} has datetime {moment!r}") from error
    if began is not None and began > end:
        raise AcdError(ErrorCode.DATES_OUT_OF_ORDER, f"STAC item {item['id']} starts on {began} and ends on {end}")
    folder, _, file = href.rpartition("/")
    fingerprint = Store.at(folder).fingerprints(file).get(file)
    if fingerprint is None:
        raise AcdError(ErrorCode.INPUT_MISSING, f"STAC item {item['id']} names {href}, which is not there")
    asset = next(one for one in item["assets"].values() if one["href"] == href)
    return _Named(href, fingerprint, str(item["id"]), end, began if began != end else None, tags, asset)


def _asset_href(item: dict[str, Any], asset: str) -> str:
    rasters = {
        key: str(value["href"])
        for key, value in item.get("assets", {}).items()
        if key == asset or (not asset and str(value.get("href", "")).lower().endswith(GEOTIFF_ENDINGS))
    }
    if len(rasters) != 1:
        wanted = f"asset {asset}" if asset else "exactly one GeoTIFF asset"
        there = ", ".join(sorted(item.get("assets", {}))) or "no asset"
        raise AcdError(ErrorCode.STAC_INVALID, f"STAC item {item['id']} has not {wanted}: it has {there}")
    return next(iter(rasters.values()))


def _record_of(named: _Named, more_tags: dict[str, str]) -> Record:
    """The record without its footprint, which is no part of its identity."""
    tags = named.tags | more_tags
    if named.start is not None:
        tags |= {"start_datetime": named.start.isoformat()}
    return Record(name=_name(named.name), datetime=named.datetime, tags=dict(sorted(tags.items())), footprint={})


def _candidate(named: _Named, record: Record, header: Header | None, grids: Mapping[str, Grid]) -> Candidate:
    grid = header.grid if header else grids[record.id]
    located = record.model_copy(update={"footprint": footprint(grid)})
    return Candidate(named.address, named.fingerprint, grid, located, header, named.asset)


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
