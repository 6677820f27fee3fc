"""Where rasters come from: a folder or bucket with names that speak, or STAC items."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acdtask.cube.grid import Grid
from acdtask.cube.local.rasters import Header, read_header
from acdtask.cube.local.stac import read_stac
from acdtask.cube.local.store import Store
from acdtask.cube.model import NAME_RULE, RECORD_NAME_BYTES, Record
from acdtask.cube.tiling import footprint
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.ingest.known import KnownFiles
from acdtask.jobs.ingest.likeness import polarisation_of_asset, polarisation_to_take, track_to_note
from acdtask.jobs.ingest.pattern import FilenamePattern
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.tracks import polarisation_in, polarisation_of_tags, track_in, track_of_stac

__all__ = ["Candidate", "Found", "find_candidates", "source_folder"]

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
    the cube has its record.
    """

    address: str
    fingerprint: str
    grid: Grid
    record: Record
    header: Header | None


@dataclass(frozen=True)
class Found:
    """The rasters of a source, by datetime and name, and the number of files whose names do not match.

    `other_polarisations` counts the files that were passed over for their polarisation, by polarisation.
    """

    candidates: list[Candidate]
    unmatched: int
    other_polarisations: Mapping[str, int]


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
    passed_over: tuple[str, ...] = ()


def find_candidates(settings: IngestSettings, aoi_tags: dict[str, str], known: KnownFiles) -> Found:
    """The rasters that the settings' source holds; their records get the AOI's tags too.

    Args:
        settings: with the source.
        aoi_tags: tags for every record.
        known: what the cube has of them; the files of some of its records need not be opened.

    Raises:
        AcdError: INPUT_MISSING, FILENAME_UNMATCHED, STAC_INVALID, POLARISATION_MISMATCH, TRACK_CONFLICT, and what a
            header may raise.
    """
    named, unmatched = _from_stac(settings) if settings.source.endswith(".json") else _from_files(settings)
    said = [one.polarisation for one in named]
    wanted = polarisation_to_take(said, settings)
    others = Counter(one for one in said if one not in ("", wanted)) if wanted else Counter[str]()
    named = [one for one in named if one.polarisation not in others]
    others.update(polarisation for one in named for polarisation in one.passed_over)
    records = _records_of(named, aoi_tags | settings.tags, settings, known)
    files = [(record, one.fingerprint) for one, record in zip(named, records, strict=True)]
    grids = known.grids(files)
    unknown = [one.address for one, record in zip(named, records, strict=True) if record.id not in grids]
    folder = source_folder(settings)
    store = Store.at(folder)
    with ThreadPoolExecutor(HEADER_THREADS) as threads:
        opened = threads.map(lambda address: read_header(store, address, folder), unknown)
        headers = dict(zip(unknown, opened, strict=True))
    candidates = [
        _candidate(one, record, headers.get(one.address), grids) for one, record in zip(named, records, strict=True)
    ]
    candidates.sort(key=lambda one: (one.record.datetime, one.record.name, one.address))
    return Found(candidates, unmatched, others)


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
            track, polarisation = track_in(key), polarisation_of_tags(said.tags) or polarisation_in(key)
            of_file = said.datetime, said.start, said.tags, track, polarisation
            named.append(_Named(store.address_of(key), mark, name, *of_file))
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
    href, polarisation, passed_over = _asset_href(item, settings)
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
    track = track_of_stac(properties) or track_in(str(item["id"]))
    began = began if began != end else None
    return _Named(href, fingerprint, str(item["id"]), end, began, tags, track, polarisation, passed_over)


def _asset_href(item: dict[str, Any], settings: IngestSettings) -> tuple[str, str, tuple[str, ...]]:
    """The raster of an item, its polarisation, and those of others: of several, that of the variable's is taken."""
    asset = settings.asset
    rasters = {
        key: str(value["href"])
        for key, value in item.get("assets", {}).items()
        if key == asset or (not asset and str(value.get("href", "")).lower().endswith(GEOTIFF_ENDINGS))
    }
    said = {key: polarisation_of_asset(item, key) for key in rasters}
    if len(rasters) > 1 and all(said.values()) and settings.polarisation != "any":
        wanted = polarisation_to_take(list(said.values()), settings)
        rasters = {key: href for key, href in rasters.items() if said[key] == wanted}
    if len(rasters) != 1:
        wanted = f"asset {asset}" if asset else "exactly one GeoTIFF asset"
        there = ", ".join(sorted(item.get("assets", {}))) or "no asset"
        raise AcdError(ErrorCode.STAC_INVALID, f"STAC item {item['id']} has not {wanted}: it has {there}")
    ((key, href),) = rasters.items()
    return href, said[key], tuple(one for other, one in said.items() if other != key)


def _records_of(
    named: list[_Named], more_tags: dict[str, str], settings: IngestSettings, known: KnownFiles
) -> list[Record]:
    """The records. Their track is a tag, unless the cube has the record from the time when acd did not look for it."""
    tracks = [track_to_note(one.track, one.tags | more_tags, one.address, settings) for one in named]
    records = [_record_of(one, more_tags | track) for one, track in zip(named, tracks, strict=True)]
    plain = [_record_of(one, more_tags) for one in named]
    recognised = [k for k, one in enumerate(records) if one != plain[k] and not settings.track]
    there = known.ids([one.id for k in recognised for one in (records[k], plain[k])]) if recognised else frozenset()
    for k in recognised:
        if records[k].id not in there and plain[k].id in there:
            records[k] = plain[k]
    return records


def _record_of(named: _Named, more_tags: dict[str, str]) -> Record:
    """The record without its footprint, which is no part of its identity."""
    tags = named.tags | more_tags
    if named.start is not None:
        tags |= {"start_datetime": named.start.isoformat()}
    return Record(name=_name(named.name), datetime=named.datetime, tags=dict(sorted(tags.items())), footprint={})


def _candidate(named: _Named, record: Record, header: Header | None, grids: Mapping[str, Grid]) -> Candidate:
    grid = header.grid if header else grids[record.id]
    located = record.model_copy(update={"footprint": footprint(grid)})
    return Candidate(named.address, named.fingerprint, grid, located, header)


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
