"""Reads STAC documents of others: static catalogues, item collections, single items, stac-geoparquet."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar
from urllib.parse import unquote, urljoin, urlsplit

from acdtask.cube.stac.parquet import items_of_parquet
from acdtask.errors import AcdError, ErrorCode
from acdtask.hosts import origin_of
from acdtask.storage.store import Store
from acdtask.storage.web import Web
from acdtask.storage.web_address import check_address, is_web, is_web_api, signed_source, without_query

__all__ = ["SIGNED", "Refused", "is_stac", "read_stac", "usable_items"]

Json: TypeAlias = dict[str, Any]
Refused: TypeAlias = list[tuple[str, AcdError]]
"""Addresses of items that cannot be used, each with its error."""

RawT = TypeVar("RawT")

ERRORS_OF_ITEMS = frozenset({ErrorCode.STAC_INVALID, ErrorCode.INPUT_MISSING})

JSON_ENDINGS = (".json", ".geojson")
LINES_ENDINGS = (".ndjson", ".jsonl", ".geojsonl")
PARQUET_ENDINGS = (".parquet", ".geoparquet")

READERS = 16
"""Documents read in parallel. Requests to an object store mostly wait."""

MOST_DOCUMENTS = 1_000_000

NO_BASE = "https://"
"""Stands for an unknown base of relative hrefs."""

SIGNED = "acd:signed"
"""The field of an asset with its full address, if it has a query, which may be a signature. It is never stored."""


def is_stac(address: str) -> bool:
    """Whether an address is that of a STAC document, according to its ending.

    >>> [is_stac(name) for name in ("a/items.GEOJSON", "s3://b/items.parquet", "a.tif")]
    [True, True, False]
    """
    plain = without_query(address) if is_web(address) else address
    return plain.lower().endswith((*JSON_ENDINGS, *LINES_ENDINGS, *PARQUET_ENDINGS))


def read_stac(address: str, refused: Refused | None = None) -> list[Json]:
    """Read the items of a catalogue, a collection, an item collection or a single item, in the documents' order.

    Items may be in .json or .geojson, one per line in .ndjson, or in stac-geoparquet (.parquet). The documents linked
    in a catalogue are read in parallel; for a catalogue on the web, only those on its own server. The returned hrefs of
    assets are absolute paths, s3:// addresses, or web addresses without a query (see SIGNED). If an asset has an
    alternate on s3://, that is returned. The document is given by a path, a file://, s3:// or web address.

    `refused`, if given, gets the invalid items and the linked documents of items that cannot be read, each with its
    address and error. Otherwise the first of them is raised.

    Raises:
        AcdError: INPUT_MISSING if the document does not exist, STAC_INVALID naming an invalid document,
            SOURCE_TOO_LARGE, and what `Web` raises.
    """
    root = _Document(address if is_web(address) else _absolute(address, ""))
    if not is_web(address) and not _exists(root.address):
        raise AcdError(ErrorCode.INPUT_MISSING, f"{root.address} does not exist")
    # Level by level, so that documents are read in parallel. Links to known documents are ignored, so circles end.
    known, level = {root.address}, [root]
    read = _Reader(refused)
    with ThreadPoolExecutor(READERS) as threads:
        while level:
            next_level: list[_Document] = []
            contents = threads.map(read, level)
            for document, (items, links) in zip(level, contents, strict=True):
                document.items = items
                document.linked = [_Document(link, of_item) for link, of_item in links.items() if link not in known]
                known.update(links)
                if len(known) > MOST_DOCUMENTS:
                    raise AcdError(ErrorCode.SOURCE_TOO_LARGE, f"{address} has more than {MOST_DOCUMENTS:,} documents")
                next_level += document.linked
            level = next_level
    return list(root.all_items())


@dataclass
class _Document:
    """A document with its own items, and the documents that it links to.

    `of_item` says whether it is linked as an item, rather than as a child that may have many.
    """

    address: str
    of_item: bool = False
    items: list[Json] = field(default_factory=list)
    linked: list[_Document] = field(default_factory=list)

    def all_items(self) -> Iterator[Json]:
        """Its items and those of all documents below it, in order."""
        stack = [self]  # instead of recursion, which has a limit
        while stack:
            document = stack.pop()
            yield from document.items
            stack += reversed(document.linked)


@dataclass(frozen=True)
class _Reader:
    """Reads a document: its items, and the addresses of the documents that it links to, with `_Document.of_item`."""

    refused: Refused | None

    def __call__(self, document: _Document) -> tuple[list[Json], dict[str, bool]]:
        try:
            return self._read(document.address)
        except AcdError as error:
            if self.refused is None or not document.of_item or error.code not in ERRORS_OF_ITEMS:
                raise
            self.refused.append((document.address, error))
            return [], {}

    def _read(self, address: str) -> tuple[list[Json], dict[str, bool]]:
        data, ending = _data(address), address.lower()
        if ending.endswith(PARQUET_ENDINGS):
            return usable_items(items_of_parquet(data, address), address, self.refused), {}
        if ending.endswith(LINES_ENDINGS):
            lines = [line for line in data.splitlines() if line.strip()]
            return _usable(lines, address, self.refused, lambda line: _usable_item(_parsed(line, address), address)), {}
        document = _parsed(data, address)
        kind = document.get("type")
        if kind == "Feature":
            return [_usable_item(document, address)], {}
        if kind == "FeatureCollection":
            return usable_items(_list(document, "features", address), address, self.refused), {}
        if kind in ("Catalog", "Collection"):
            return [], {
                _linked(_text(link, "href", address), address): link["rel"] == "item"
                for link in _list(document, "links", address)
                if isinstance(link, dict) and link.get("rel") in ("item", "child")
            }
        raise _invalid(address, f"has the type {kind!r}")


def usable_items(items: Iterable[object], address: str, refused: Refused | None = None) -> list[Json]:
    """Validate the items of the document at an address, and make the hrefs of their assets absolute.

    Invalid items are added to `refused`, each with its address and error; STAC_INVALID for the first one without it.
    """
    return _usable(items, address, refused, lambda item: _usable_item(item, address))


def _usable(raw: Iterable[RawT], address: str, refused: Refused | None, read: Callable[[RawT], Json]) -> list[Json]:
    usable = []
    for number, item in enumerate(raw, start=1):
        try:
            usable.append(read(item))
        except AcdError as error:
            if refused is None or error.code not in ERRORS_OF_ITEMS:
                raise
            refused.append((f"{address}#{number}", error))
    return usable


def _linked(href: str, address: str) -> str:
    """The address of a linked document. STAC_INVALID if it must not be read."""
    link = _absolute(href, address)
    if is_web(link) and not is_web(address):
        raise _invalid(address, f"links to {without_query(link)}, which is neither a file nor on s3://")
    if is_web(link):
        check_address(link)
    if is_web(address) and (not is_web(link) or origin_of(link) != origin_of(address)):
        raise _invalid(
            address,
            f"links to {without_query(link)}, which is on another server",
            "If you trust that server, give the linked address as --source.",
        )
    return link


def _data(address: str) -> bytes:
    if is_web(address):
        data = Web({address: signed_source(address)}).find_small(address)
        if data is None:
            raise AcdError(ErrorCode.INPUT_MISSING, f"{address} does not exist", "Check the address.")
        return data
    store, key = Store.of_file(address)
    data = store.find_small(key)
    if data is None:
        raise _invalid(address, "is linked, but does not exist")
    return data


def _parsed(text: bytes, address: str) -> Json:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _invalid(address, "is not JSON") from error
    if not isinstance(document, dict):
        raise _invalid(address, "is not a JSON object")
    return document


def _usable_item(item: object, address: str) -> Json:
    """Validate an item of the document at an address, and make the hrefs of its assets absolute. STAC_INVALID.

    Items on the web must not refer to files of this machine.
    """
    if not isinstance(item, dict) or item.get("type") != "Feature" or not isinstance(item.get("id"), str):
        raise _invalid(address, "has an item without an id or the type 'Feature'")
    if not isinstance(item.get("properties"), dict) or not isinstance(item.get("assets"), dict):
        raise _invalid(address, f"has an item {item['id']} without properties or assets")
    base = _base_of(item, address)
    try:
        return {**item, "assets": {name: _usable_asset(asset, base) for name, asset in item["assets"].items()}}
    except AcdError as error:
        raise AcdError(error.code, f"{error.detail} (item {item['id']})", error.fix) from error


def _usable_asset(asset: object, base: str) -> Json:
    """The asset with an absolute href, whose query is only in SIGNED."""
    href = _href(asset, base)
    plain = without_query(href) if is_web(href) else href
    fields = {name: value for name, value in (asset if isinstance(asset, dict) else {}).items() if name != SIGNED}
    return {**fields, "href": plain, **({SIGNED: href} if plain != href else {})}


def _base_of(item: Json, address: str) -> str:
    """The base of an item's relative hrefs: the address of its document, or for an item of an API, its self link.

    NO_BASE for an item of an API without a self link, which must not have relative hrefs.
    """
    if not is_web_api(address):
        return address
    links = item.get("links")
    for link in links if isinstance(links, list) else ():
        if isinstance(link, dict) and link.get("rel") == "self" and is_web(str(link.get("href"))):
            return str(link["href"])
    return NO_BASE


def _href(asset: object, base: str) -> str:
    """The address of an asset: its alternate on s3://, or its href."""
    href = _text(asset, "href", base)
    alternates = asset.get("alternate") if isinstance(asset, dict) else None
    for other in alternates.values() if isinstance(alternates, dict) else ():
        if not href.startswith("s3://") and isinstance(other, dict) and str(other.get("href", "")).startswith("s3://"):
            return str(other["href"])
    return _absolute(href, base)


def _absolute(href: str, base: str) -> str:
    """The absolute path or address of an href in the document `base`, which may be empty."""
    if href.startswith("s3://") or is_web(href):
        return href
    if is_web(base):
        return _on_web(href, base)
    if href.startswith("file://"):
        return unquote(urlsplit(href).path)
    if "://" in href:
        raise _invalid(base or href, f"links to {href}, which is neither a file nor on s3://")
    if href.startswith("/"):
        return href
    if not base:
        return Store.at(href).url
    scheme = "s3://" if base.startswith("s3://") else ""
    folder = posixpath.dirname(base.removeprefix(scheme))
    plain = scheme + posixpath.normpath(posixpath.join(folder, href))
    # In local catalogues, readers treat an href as a file name, while the standard says URL. The existing file is used.
    return unquote(plain) if "%" in href and not _exists(plain) else plain


def _on_web(href: str, base: str) -> str:
    """The address of an href in a document on the web. STAC_INVALID if it refers to a file of this machine."""
    if base == NO_BASE:
        raise AcdError(
            ErrorCode.STAC_INVALID,
            f"an item has the relative href {without_query(href)[:200]!a}, but no self link",
            "Download the items and their files, and give the document as --source.",
        )
    if ":" in href or "\\" in href or href.startswith("/"):
        raise _invalid(base, f"links to {without_query(href)[:200]!a}, which is neither on the web nor on s3://")
    return urljoin(base, href)


def _exists(address: str) -> bool:
    store, key = Store.of_file(address)
    return store.exists(key)


def _text(node: object, name: str, address: str) -> str:
    value = node.get(name) if isinstance(node, dict) else None
    if not isinstance(value, str) or not value:
        raise _invalid(address, f"has a link or asset without {name}")
    return value


def _list(document: Json, name: str, address: str) -> list[Any]:
    value = document.get(name)
    if not isinstance(value, list):
        raise _invalid(address, f"has no list of {name}")
    return value


def _invalid(address: str, problem: str, fix: str | None = None) -> AcdError:
    shown = without_query(address) if is_web(address) else address
    return AcdError(ErrorCode.STAC_INVALID, f"{shown} {problem}", fix)
