"""The STAC catalogue of a cube: from `catalog.json` at its root to the items of all images and of products' tiles.

`catalog.json` names the collections of ingested images and the areas, an area's catalogue its collections, and a
collection its items, or catalogues of months, which name their items or those of their dates. A day's run writes the
documents of the day and of its month; those above only change when there is a new month, product or area, so that a
day costs the day (docs/decisions/0024).
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from acdtask.cube.model import Dataset, Record, Variable
from acdtask.cube.stac.items import Json, StacLinks, stac_catalog, stac_item
from acdtask.raster.grid import Tile
from acdtask.raster.tiling import footprint
from acdtask.storage.store import Store

__all__ = [
    "CATALOGUE",
    "COLLECTION",
    "ROOT",
    "area_catalogue",
    "encode_document",
    "link_collection",
    "link_images",
    "linked_keys",
    "put_all",
    "put_if_changed",
    "revise",
    "tile_item",
]

ROOT = "catalog.json"
COLLECTION = "collection.json"
CATALOGUE = "catalog.json"

WRITERS = 16
"""Files that are written side by side."""

ATTEMPTS = 20


def area_catalogue(area: str) -> str:
    """The key of an area's catalogue."""
    return f"products/{area}/{CATALOGUE}"


def encode_document(document: Json) -> bytes:
    """A STAC document as it is stored."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def tile_item(
    record: Record,
    tile: Tile,
    assets: Mapping[str, tuple[Dataset, Variable]],
    *,
    href: str,
    sizes: Mapping[str, int],
    properties: Mapping[str, Any],
    links: StacLinks,
) -> bytes:
    """The item of a tile on a date or of a period: one footprint, whatever the number of its assets.

    Args:
        record: gives dates and tags.
        tile: where it is.
        assets: the files of the tile, by name of the asset.
        href: the item's key; its name is the item's id.
        sizes: of the files in bytes, by key.
        properties: how the files were made.
        links: where the item stands in the catalogue.
    """
    item = stac_item(
        record.model_copy(update={"footprint": footprint(tile.grid)}),
        [dataset for dataset, _ in assets.values()],
        [variable for _, variable in assets.values()],
        item_id=posixpath.basename(href).removesuffix(".json"),
        href=href,
        names={variable.name: name for name, (_, variable) in assets.items()},
        sizes=sizes,
        properties=properties,
        links=links,
    )
    return encode_document(item)


def link_collection(store: Store, area: str, collection: str, title: str) -> None:
    """Make sure that a collection can be reached from the root.

    Of two writers at once one may lose the link of the other, which comes back when that product is published again.
    """
    above = area_catalogue(area)

    def area_document(children: Mapping[str, str]) -> Json:
        links = StacLinks(root=ROOT, parent=ROOT, children=children)
        return stac_catalog(
            area.replace("/", "_"), f"Baselines and monitoring results of {area}.", href=above, links=links, title=area
        )

    _link(store, above, collection, title, area_document)
    _link(store, ROOT, above, area, _root_document)


def link_images(store: Store, collection: str, title: str) -> None:
    """Make sure that a collection of ingested images can be reached from the root, as `link_collection` does."""
    _link(store, ROOT, collection, title, _root_document)


def put_if_changed(store: Store, key: str, body: bytes) -> None:
    """Write a document unless it is there as it is."""
    if store.find(key) != body:
        store.put(key, body)


def put_all(store: Store, files: Mapping[str, bytes]) -> None:
    """Write many small files."""
    with ThreadPoolExecutor(WRITERS, thread_name_prefix="acd-put") as pool:
        for done in [pool.submit(store.put, key, body) for key, body in files.items()]:
            done.result()


def _root_document(children: Mapping[str, str]) -> Json:
    description = "Images of a cube of acd, and baselines and monitoring results by area of interest."
    return stac_catalog("acd", description, href=ROOT, links=StacLinks(root=ROOT, children=children))


def _link(store: Store, key: str, child: str, title: str, document: Callable[[Mapping[str, str]], Json]) -> None:
    def make(body: bytes | None) -> bytes:
        known = linked_keys(body, key)
        if body is not None and known.get(child) == title:
            return body
        children = {other: name for other, name in known.items() if store.exists(other)} | {child: title}
        return encode_document(document(dict(sorted(children.items()))))

    revise(store, key, make)


def revise(store: Store, key: str, make: Callable[[bytes | None], bytes]) -> None:
    """Write what is made of a document, until it is there: another writer may have replaced it meanwhile.

    Args:
        store: of the cube.
        key: of the document.
        make: from the document as it is stored, None if it is missing; what it made it leaves as it is.
    """
    for _ in range(ATTEMPTS):
        body = store.find(key)
        made = make(body)
        if made == body:
            return
        store.put(key, made)


def linked_keys(body: bytes | None, key: str, relation: str = "child") -> dict[str, str]:
    """The keys that a catalogue links to, with their titles; nothing if it is missing or damaged.

    Args:
        body: the catalogue.
        key: where it is stored.
        relation: which of its links, `child` or `item`.
    """
    try:
        links: Sequence[Any] = json.loads(body)["links"] if body else []
        return {
            posixpath.normpath(posixpath.join(posixpath.dirname(key), link["href"])): link.get("title", "")
            for link in links
            if link["rel"] == relation
        }
    except (ValueError, KeyError, TypeError):
        return {}
