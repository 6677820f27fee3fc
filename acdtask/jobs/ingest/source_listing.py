"""The files of a source with what names or STAC items say about them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from acdtask.cube.aoi import load_aoi
from acdtask.cube.model import NAME_RULE, RECORD_NAME_BYTES
from acdtask.cube.stac.api import read_stac_api
from acdtask.cube.stac.read import SIGNED, is_stac, read_stac
from acdtask.dates import parse_moment
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.ingest.alternatives import Alternatives
from acdtask.jobs.ingest.listing import list_rasters, web_raster
from acdtask.jobs.ingest.polarisations import polarisation_of_asset, polarisation_to_take
from acdtask.jobs.ingest.producers import advice_for, refuse_odd_names
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.ingest.unusable import Unusable
from acdtask.jobs.tracks import polarisation_in, polarisation_of_tags, track_in, track_of_stac
from acdtask.storage.store import Store
from acdtask.storage.web import Web
from acdtask.storage.web_address import is_web, is_web_api, name_of, signed_source

__all__ = ["THREADS", "SourceFile", "SourceListing", "addresses_with_query", "list_files", "record_name"]

GEOTIFF_ENDINGS = (".tif", ".tiff")
"""Endings of assets that may be chosen without being named."""

THREADS = 16

ERRORS_OF_NAMES = frozenset(
    {ErrorCode.DATE_INVALID, ErrorCode.DATES_OUT_OF_ORDER, ErrorCode.FILENAME_AMBIGUOUS, ErrorCode.NAME_TOO_LONG}
)
"""Errors about the name of a single file."""

STAC_OWN_PROPERTIES = frozenset(
    {"created", "datetime", "description", "end_datetime", "gsd", "keywords", "license", "start_datetime", "title"}
    | {"updated"}
)


@dataclass(frozen=True)
class SourceFile:
    """A file: its address and fingerprint, its record's name, times and tags, and other polarisations of its item."""

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


@dataclass(frozen=True)
class SourceListing:
    """Files of a source, names that the pattern does not match, skipped files, and full addresses with a query.

    The names or items of `unusable` files do not say what they are.
    """

    files: list[SourceFile]
    unmatched: tuple[str, ...] = ()
    unusable: tuple[Unusable, ...] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)
    signed: Mapping[str, str] = field(default_factory=dict)


def _is_catalogue(source: str) -> bool:
    return is_web_api(source) or is_stac(source)


def _signed_file(settings: IngestSettings) -> dict[str, str]:
    signed = signed_source(settings.source)
    return {settings.source: signed} if signed != settings.source else {}


def addresses_with_query(settings: IngestSettings) -> dict[str, str]:
    """The full addresses of the files that have a query, by their addresses without."""
    return _chosen_assets(settings).signed if _is_catalogue(settings.source) else _signed_file(settings)


def list_files(settings: IngestSettings) -> SourceListing:
    """The files of the settings' source. INPUT_MISSING, FILENAME_UNMATCHED, STAC_INVALID, POLARISATION_MISMATCH.

    Errors of single files and items are returned, not raised.
    """
    return _from_items(settings) if _is_catalogue(settings.source) else _from_names(settings)


def _from_names(settings: IngestSettings) -> SourceListing:
    pattern = Alternatives(settings.pattern)
    signed = _signed_file(settings)
    listing = (
        web_raster(settings.source, Web(signed, settings.source), vrt=pattern.takes_vrt)
        if is_web(settings.source)
        else list_rasters(settings.source, vrt=pattern.takes_vrt)
    )
    folder = listing.store.url.rstrip("/").rpartition("/")[2] if listing.store else ""
    files, unmatched, unusable = [], [], []
    for key, fingerprint in listing.rasters.items():
        try:
            parsed = pattern.match(key)
            name = pattern.record_name(key)
        except AcdError as error:
            if error.code not in ERRORS_OF_NAMES:
                raise
            unusable.append(Unusable(listing.address_of(key), None, error))
            continue
        if parsed is None:
            unmatched.append(key)
            continue
        track = track_in(key)
        polarisation = polarisation_of_tags(parsed.tags) or polarisation_in(key) or polarisation_in(folder)
        metadata = parsed.datetime, parsed.start, parsed.tags, track, polarisation
        files.append(SourceFile(listing.address_of(key), fingerprint, name, *metadata))
    refuse_odd_names(settings.producer, settings.pattern, settings.source, unmatched)
    if not files and not unusable:
        raise AcdError(
            ErrorCode.FILENAME_UNMATCHED,
            f"none of {len(unmatched)} files in {settings.source} matches {settings.pattern!r};"
            f" the first is {unmatched[0]}",
            advice_for(unmatched[0]),
        )
    skipped = listing.skipped + listing.others
    return SourceListing(files, tuple(unmatched), tuple(unusable), skipped, signed)


def _from_items(settings: IngestSettings) -> SourceListing:
    chosen = _chosen_assets(settings)
    hrefs = [asset.href for _, asset in chosen.assets]
    fingerprints = _fingerprints(hrefs, Web(chosen.signed, settings.source))
    files, unusable = [], list(chosen.unusable)
    for item, asset in chosen.assets:
        try:
            files.append(_file_of_item(item, asset, fingerprints))
        except AcdError as error:
            unusable.append(Unusable(asset.href, None, error))
    return SourceListing(files, unusable=tuple(unusable), signed=chosen.signed)


@dataclass(frozen=True)
class _ChosenAssets:
    """The items with their chosen assets, the full addresses of those that have a query, and items without an asset."""

    assets: list[tuple[dict[str, Any], _ChosenAsset]]
    signed: dict[str, str]
    unusable: list[Unusable]


def _chosen_assets(settings: IngestSettings) -> _ChosenAssets:
    """Choose the asset of each item."""
    refused: list[tuple[str, AcdError]] = []
    if is_web_api(settings.source):
        aoi = load_aoi(settings.aoi) if settings.aoi else None
        bounds = (aoi.geojson, aoi.start, aoi.end) if aoi else ()
        items = read_stac_api(settings.source, *bounds, refused=refused)
    else:
        items = read_stac(settings.source, refused)
    unusable = [Unusable(address, None, error) for address, error in refused]
    if not items and not unusable:
        raise AcdError(ErrorCode.INPUT_MISSING, f"{settings.source} holds no STAC item")
    chosen = []
    for item in items:
        try:
            chosen.append((item, _chosen_asset(item, settings)))
        except AcdError as error:
            if error.code is not ErrorCode.STAC_INVALID:
                raise
            unusable.append(Unusable(f"{settings.source}#{item['id']}", None, error))
    signed: dict[str, str] = {}
    for _, asset in chosen:
        if signed.setdefault(asset.href, asset.signed or asset.href) != (asset.signed or asset.href):
            raise AcdError(
                ErrorCode.WEB_ADDRESS,
                f"several items name {asset.href}, with different queries",
                "Download the files under different names, and give their folder as --source.",
            )
    with_query = {plain: full for plain, full in signed.items() if plain != full}
    return _ChosenAssets(chosen, with_query, unusable)


def _fingerprints(hrefs: Sequence[str], web: Web) -> dict[str, str]:
    """The fingerprints of files: one listing per folder, and folders and web files in parallel."""
    folders: dict[str, set[str]] = {}
    for href in hrefs:
        if not is_web(href):
            folder, _, name = href.rpartition("/")
            folders.setdefault(folder or "/", set()).add(name)
    remote = list(dict.fromkeys(filter(is_web, hrefs)))
    with ThreadPoolExecutor(THREADS) as threads:
        on_web = dict(zip(remote, threads.map(web.fingerprint, remote), strict=True))
        in_folders = threads.map(lambda folder: Store.at(folder).fingerprints_in(folders[folder]), folders)
        local = {
            f"{folder.rstrip('/')}/{name}": fingerprint
            for folder, fingerprints in zip(folders, in_folders, strict=True)
            for name, fingerprint in fingerprints.items()
        }
    return local | {href: fingerprint for href, fingerprint in on_web.items() if fingerprint is not None}


def _file_of_item(item: dict[str, Any], chosen: _ChosenAsset, fingerprints: Mapping[str, str]) -> SourceFile:
    properties, href = item["properties"], chosen.href
    end = _datetime_of(item, "end_datetime") or _datetime_of(item, "datetime")
    start = _datetime_of(item, "start_datetime")
    if end is None:
        raise AcdError(ErrorCode.DATE_INVALID, f"STAC item {item['id']} has no datetime")
    tags = {
        record_name(key): str(value)
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
    return SourceFile(href, fingerprints[href], str(item["id"]), *metadata)


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


def record_name(text: str) -> str:
    """A valid record name; invalid characters become '_'. NAME_TOO_LONG."""
    name = "".join(letter if letter == "/" or NAME_RULE.match(letter) else "_" for letter in text)
    name = "/".join(part for part in name.split("/") if part) or "_"
    if len(name) > RECORD_NAME_BYTES:
        raise AcdError(
            ErrorCode.NAME_TOO_LONG,
            f"the name of a record has {len(name)} bytes, but at most {RECORD_NAME_BYTES} are allowed: {name[:40]}...",
        )
    return name
