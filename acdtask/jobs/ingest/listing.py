"""Listing of the rasters in a folder, bucket, path pattern or single file, and of the files skipped."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.ingest.formats import other_formats
from acdtask.storage.store import Store
from acdtask.storage.web import Web
from acdtask.storage.web_address import name_of

__all__ = ["Listing", "list_rasters", "root_of", "web_raster"]

GEOTIFF = re.compile(r"\.tiff?$", re.IGNORECASE)
VRT = re.compile(r"\.vrt$", re.IGNORECASE)
UNFINISHED = re.compile(r"(\.(part|partial|crdownload|download|tmp|temp|aria2|filepart|!ut)|~)$", re.IGNORECASE)
WILDCARDS = re.compile(r"[*?\[]")
CHECK_PATH = "Check the path. Relative paths start at the working directory."


@dataclass(frozen=True)
class Listing:
    """The files of a source.

    Attributes:
        store: the folder or prefix; None for a file on the web.
        rasters: fingerprints of GeoTIFFs, or of VRTs if requested, by key, sorted.
        skipped: number of hidden and of unfinished files.
        others: number of images in other formats, by format.
        web_address: address of the file, if the source is on the web.
    """

    store: Store | None
    rasters: dict[str, str]
    skipped: Counter[str]
    others: Counter[str]
    web_address: str = ""

    def address_of(self, key: str) -> str:
        """The address of a raster."""
        return self.web_address if self.store is None else self.store.address_of(key)


def list_rasters(source: str, *, vrt: bool = False) -> Listing:
    """List a source.

    Args:
        source: a folder, an s3:// prefix, a file, or a pattern of paths: `*`, `?`, `[a-z]`, and `**` for any folders.
            An existing path with that exact name takes precedence over a pattern.
        vrt: list VRTs instead of GeoTIFFs.

    Raises:
        AcdError: INPUT_MISSING naming what the source holds instead, ADDRESS_INVALID, and the store's errors.
    """
    store, file, pattern = _locate(source)
    fingerprints = store.fingerprints(file)
    rasters: dict[str, str] = {}
    skipped: Counter[str] = Counter()
    other_keys: list[str] = []
    for key, fingerprint in sorted(fingerprints.items()):
        if not _fits(pattern, key.split("/")):
            continue
        is_wanted = (VRT if vrt else GEOTIFF).search(key)
        if not file and (reason := _why_skipped(key)):
            skipped[reason] += 1
        elif is_wanted:
            rasters[key] = fingerprint
        else:
            other_keys.append(key)
    others, advice = other_formats(other_keys)
    if not rasters:
        raise _nothing_found(source, skipped, others, advice, vrt=vrt, any_file=bool(fingerprints))
    return Listing(store, rasters, skipped, others)


def web_raster(source: str, web: Web, *, vrt: bool = False) -> Listing:
    """List one file on the web. INPUT_MISSING, INPUT_REFERS_OUTSIDE for a VRT, and the errors of `Web`."""
    name = name_of(source)
    if VRT.search(name) and vrt:
        raise AcdError(
            ErrorCode.INPUT_REFERS_OUTSIDE,
            f"{source} is a VRT on the web, whose references cannot be checked",
            "Download the VRT with the files that it refers to, and give their folder as --source.",
        )
    if not GEOTIFF.search(name) or vrt:
        others, advice = other_formats([name])
        raise _nothing_found(source, Counter(), others, advice, vrt=vrt, any_file=True)
    fingerprint = web.fingerprint(source)
    if fingerprint is None:
        raise AcdError(ErrorCode.INPUT_MISSING, f"there is no {source}", "Check the address.")
    return Listing(None, {name: fingerprint}, Counter(), Counter(), source)


def root_of(source: str) -> str:
    """The folder or prefix of a source, found without listing it. VRTs may refer only to files below it."""
    if GEOTIFF.search(source) or VRT.search(source):
        source = source if os.path.isdir(source) else _parent(source)  # noqa: PTH112 - as below
    parts = source.split("/")
    wild = next((index for index, part in enumerate(parts) if WILDCARDS.search(part)), None)
    if wild is None or os.path.exists(source):  # noqa: PTH110 - as below
        return Store.at(source).url
    return Store.at("/".join(parts[:wild]) or ("/" if source.startswith("/") else ".")).url


def _locate(source: str) -> tuple[Store, str, list[str]]:
    """The folder or prefix, the name of the file if the source is one, and the pattern of paths below the folder."""
    store = Store.at(source)
    if store.is_folder:
        path = Path(store.url)
        if os.path.isdir(store.url):  # noqa: PTH112 - a Path raises for a name that is too long
            return store, "", []
        if os.path.exists(store.url):  # noqa: PTH110 - as above
            return Store.at(str(path.parent)), path.name, []
    elif GEOTIFF.search(source) or VRT.search(source):
        parent, _, name = store.url.rpartition("/")
        if parent != "s3:/" and Store.at(parent).exists(name):
            return Store.at(parent), name, []
    if WILDCARDS.search(source) and (store.is_folder or not store.fingerprints("")):
        base = Store.at(root_of(source))
        if base.is_folder and not Path(base.url).is_dir():
            raise AcdError(ErrorCode.INPUT_MISSING, f"there is no folder {base.url}", CHECK_PATH)
        return base, "", store.url.removeprefix(base.url).lstrip("/").split("/")
    if store.is_folder:
        raise AcdError(ErrorCode.INPUT_MISSING, f"there is no folder or file {store.url}", CHECK_PATH)
    return store, "", []


def _fits(pattern: Sequence[str], key: Sequence[str]) -> bool:
    """Whether a key matches a pattern, both split at `/`. A pattern that matches a folder matches everything in it.

    >>> _fits(["**", "S1[AB]_*.tif"], ["2020", "01", "S1A_x.tif"]), _fits(["2020*"], ["2020", "a.tif"])
    (True, True)
    """
    if not pattern:
        return True
    if pattern[0] == "**":
        return any(_fits(pattern[1:], key[start:]) for start in range(len(key) + 1))
    return bool(key) and fnmatchcase(key[0], pattern[0]) and _fits(pattern[1:], key[1:])


def _why_skipped(key: str) -> str:
    if any(part.startswith(".") for part in key.split("/")):
        return "hidden"
    if UNFINISHED.search(key):
        return "unfinished"
    return ""


def _nothing_found(
    source: str, skipped: Counter[str], others: Counter[str], advice: Iterable[str], *, vrt: bool, any_file: bool
) -> AcdError:
    wanted = "VRT (.vrt)" if vrt else "GeoTIFF (.tif, .tiff)"
    contents = [f"{count} {ending}" for ending, count in others.items()]
    contents += [f"{count} {reason} file{'' if count == 1 else 's'}" for reason, count in sorted(skipped.items())]
    if not contents:
        contents = ["other files"] if any_file else []
    summary = f"there are {', '.join(contents)}" if contents else "it is empty"
    return AcdError(
        ErrorCode.INPUT_MISSING, f"{source} holds no {wanted}; {summary}", " ".join(dict.fromkeys(advice)) or None
    )


def _parent(address: str) -> str:
    folder, slash, _ = address.rpartition("/")
    return folder or ("/" if slash else ".")
