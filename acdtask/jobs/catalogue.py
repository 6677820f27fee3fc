"""The STAC catalogue of a cube, from `catalog.json` at its root to the items of images and of product tiles.

`catalog.json` links to the collections of ingested images and to one catalogue per area; an area's catalogue links to
its collections; a collection links to items, or to catalogues of months, which link to items or to catalogues of dates.
A daily run writes the documents of the day and of its month. Those above change only with a new month, product or area,
so the cost of a day does not grow with the history (docs/decisions/0024).
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
"""Number of files written concurrently."""

ATTEMPTS = 20


def area_catalogue(area: str) -> str:
    """The key of an area's catalogue."""
    return f"products/{area}/{CATALOGUE}"


def encode_document(document: Json) -> bytes:
    """Encode a STAC document as stored."""
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
    """The STAC item of a tile on a date or over a period, with one footprint for all assets.

    `record` has the dates and tags, `assets` the dataset and variable of each asset by name, `sizes` the file sizes in
    bytes by key. `href` is the key of the item; its file name is the item's id. `properties` describe how the files
    were made.
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
    """Link a collection from its area's catalogue, and that from the root.

    Of two concurrent writers one may lose the other's link; publishing that product again restores it.
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
    """Link a collection of ingested images from the root, like `link_collection`."""
    _link(store, ROOT, collection, title, _root_document)


def put_if_changed(store: Store, key: str, body: bytes) -> None:
    """Write a document unless the stored one is identical."""
    if store.find(key) != body:
        store.put(key, body)


def put_all(store: Store, files: Mapping[str, bytes]) -> None:
    """Write many small files concurrently."""
    with ThreadPoolExecutor(WRITERS, thread_name_prefix="acd-put") as pool:
        for write in [pool.submit(store.put, key, body) for key, body in files.items()]:
            write.result()


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
    """Revise a document until the revision is stored, since another writer may replace it in the meantime.

    `make` makes the revision from the stored document (None if missing). It must leave its own result unchanged.
    """
    for _ in range(ATTEMPTS):
        body = store.find(key)
        revised = make(body)
        if revised == body:
            return
        store.put(key, revised)


def linked_keys(body: bytes | None, key: str, relation: str = "child") -> dict[str, str]:
    """Titles of the documents that a catalogue links to, by key; empty if it is missing or damaged.

    `body` is the catalogue as stored under `key`, or None. `relation` is that of the links: `child` or `item`.
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
