"""The rasters of a folder, a bucket, a pattern of paths or a single file, and what lies beside them."""

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

__all__ = ["Listing", "list_rasters", "place_of", "web_raster"]

GEOTIFF = re.compile(r"\.tiff?$", re.IGNORECASE)
VRT = re.compile(r"\.vrt$", re.IGNORECASE)
UNFINISHED = re.compile(r"(\.(part|partial|crdownload|download|tmp|temp|aria2|filepart|!ut)|~)$", re.IGNORECASE)
WILDCARDS = re.compile(r"[*?\[]")
CHECK_PATH = "Check the path. A relative one is looked for in the working folder."
"""How the fingerprint of a file without bytes begins."""


@dataclass(frozen=True)
class Listing:
    """What a source holds.

    Attributes:
        store: the folder or prefix; None for a file on the web.
        rasters: fingerprints by key, sorted: of GeoTIFFs, or of VRTs if they were asked for.
        passed_over: how many files were hidden or unfinished.
        others: how many images in other formats there are, by their ending.
        web_address: of the file on the web.
    """

    store: Store | None
    rasters: dict[str, str]
    passed_over: Counter[str]
    others: Counter[str]
    web_address: str = ""

    def address_of(self, key: str) -> str:
        """The address of a raster."""
        return self.web_address if self.store is None else self.store.address_of(key)


def list_rasters(source: str, *, vrt: bool = False) -> Listing:
    """List a source.

    Args:
        source: a folder, an s3:// prefix, a file, or a pattern of paths: `*`, `?`, `[a-z]`, and `**` for any folders.
            Something of that very name comes before a pattern.
        vrt: VRTs are wanted, and not GeoTIFFs.

    Raises:
        AcdError: INPUT_MISSING saying what is there instead, ADDRESS_INVALID, and what a store may raise.
    """
    store, file, pattern = _place(source)
    marks = store.fingerprints(file)
    rasters: dict[str, str] = {}
    passed_over: Counter[str] = Counter()
    rest: list[str] = []
    for key, mark in sorted(marks.items()):
        if not _fits(pattern, key.split("/")):
            continue
        is_wanted = (VRT if vrt else GEOTIFF).search(key)
        if not file and (why := _why_passed_over(key)):
            passed_over[why] += 1
        elif is_wanted:
            rasters[key] = mark
        else:
            rest.append(key)
    others, ways = other_formats(rest)
    if not rasters:
        raise _nothing(source, passed_over, others, ways, vrt=vrt, any_file=bool(marks))
    return Listing(store, rasters, passed_over, others)


def web_raster(source: str, web: Web, *, vrt: bool = False) -> Listing:
    """The listing of one file on the web. INPUT_MISSING, INPUT_REFERS_OUTSIDE for a VRT, and what `Web` raises."""
    name = name_of(source)
    if VRT.search(name) and vrt:
        raise AcdError(
            ErrorCode.INPUT_REFERS_OUTSIDE,
            f"{source} is a VRT on the web, whose references cannot be checked",
            "Download the VRT and the files that it refers to, and give their folder as --source.",
        )
    if not GEOTIFF.search(name) or vrt:
        others, ways = other_formats([name])
        raise _nothing(source, Counter(), others, ways, vrt=vrt, any_file=True)
    mark = web.fingerprint(source)
    if mark is None:
        raise AcdError(ErrorCode.INPUT_MISSING, f"there is no {source}", "Check the address.")
    return Listing(None, {name: mark}, Counter(), Counter(), source)


def place_of(source: str) -> str:
    """The folder or prefix that a source lies in, without looking: what a VRT may refer to lies below it."""
    if GEOTIFF.search(source) or VRT.search(source):
        source = source if os.path.isdir(source) else _parent(source)  # noqa: PTH112 - as below
    parts = source.split("/")
    wild = next((place for place, part in enumerate(parts) if WILDCARDS.search(part)), None)
    if wild is None or os.path.exists(source):  # noqa: PTH110 - as below
        return Store.at(source).url
    return Store.at("/".join(parts[:wild]) or ("/" if source.startswith("/") else ".")).url


def _place(source: str) -> tuple[Store, str, list[str]]:
    """The folder or prefix, the name of the only file that is meant, and the pattern of paths below the folder."""
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
        base = Store.at(place_of(source))
        if base.is_folder and not Path(base.url).is_dir():
            raise AcdError(ErrorCode.INPUT_MISSING, f"there is no folder {base.url}", CHECK_PATH)
        return base, "", store.url.removeprefix(base.url).lstrip("/").split("/")
    if store.is_folder:
        raise AcdError(ErrorCode.INPUT_MISSING, f"there is no folder or file {store.url}", CHECK_PATH)
    return store, "", []


def _fits(pattern: Sequence[str], key: Sequence[str]) -> bool:
    """Whether the parts of a key match those of a pattern; what matches a folder matches all in it.

    >>> _fits(["**", "S1[AB]_*.tif"], ["2020", "01", "S1A_x.tif"]), _fits(["2020*"], ["2020", "a.tif"])
    (True, True)
    """
    if not pattern:
        return True
    if pattern[0] == "**":
        return any(_fits(pattern[1:], key[start:]) for start in range(len(key) + 1))
    return bool(key) and fnmatchcase(key[0], pattern[0]) and _fits(pattern[1:], key[1:])


def _why_passed_over(key: str) -> str:
    if any(part.startswith(".") for part in key.split("/")):
        return "hidden"
    if UNFINISHED.search(key):
        return "unfinished"
    return ""


def _nothing(
    source: str, passed_over: Counter[str], others: Counter[str], ways: Iterable[str], *, vrt: bool, any_file: bool
) -> AcdError:
    wanted = "VRT (.vrt)" if vrt else "GeoTIFF (.tif, .tiff)"
    beside = [f"{count} {ending}" for ending, count in others.items()]
    beside += [f"{count} {why} file{'' if count == 1 else 's'}" for why, count in sorted(passed_over.items())]
    if not beside:
        beside = ["other files"] if any_file else []
    what = f"there are {', '.join(beside)}" if beside else "it is empty"
    return AcdError(
        ErrorCode.INPUT_MISSING, f"{source} holds no {wanted}; {what}", " ".join(dict.fromkeys(ways)) or None
    )


def _parent(address: str) -> str:
    folder, slash, _ = address.rpartition("/")
    return folder or ("/" if slash else ".")
