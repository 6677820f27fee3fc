"""The STAC collection of the images of a variable and instance: `collection.json` and a catalogue per month.

A month's catalogue links the items of its images; an ingest reads it, adds its own items and writes it back. The
collection links only the months, so a day's ingest rewrites one month's document (docs/decisions/0024).
"""

from __future__ import annotations

import datetime as dt
import json
import posixpath
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

import shapely
from shapely.geometry import box, mapping, shape
from shapely.geometry.base import BaseGeometry

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import Record, Variable
from acdtask.cube.stac.items import StacLinks, stac_catalog, stac_collection
from acdtask.jobs.catalogue import COLLECTION, ROOT, encode_document, link_images, linked_keys, revise
from acdtask.jobs.contract import Site
from acdtask.jobs.ingest.origins import has_instance
from acdtask.jobs.parts import month_of
from acdtask.storage.store import Store

__all__ = ["ImageCatalogue", "forget_items"]

_DIGEST = re.compile(r"-[0-9a-f]{16}\.json$")
"""End of an item's key, after the record's name."""


class ImageCatalogue:
    """The collection of the images of a variable and instance."""

    def __init__(self, variable: Variable, instance: str) -> None:
        self._variable, self._instance = variable, instance
        self._folder = f"data/{variable.name}/{instance}"
        self._collection = f"{self._folder}/{COLLECTION}"
        self._identity = f"{variable.name}_{instance}".replace("/", "_")
        self._title = f"Images of {variable.name}:{instance}"

    def links_of(self, record: Record) -> StacLinks:
        """The links from a record's item up to its month, collection and root."""
        return StacLinks(ROOT, self._month_key(month_of(record.datetime)), self._collection, self._identity)

    def add(self, images: Iterable[tuple[Record, str]], site: Site) -> None:
        """Add the items of images, each given as its record and the key of its pixels.

        An item replaces an earlier one of the same record. If there is no collection yet, images already in the cube
        are added too.
        """
        images, store = list(images), site.store
        if not images:
            return
        if not store.exists(self._collection):
            images = [*self._indexed(site), *images]
        items_by_month: dict[str, dict[str, str]] = defaultdict(dict)
        for record, uri in images:
            items_by_month[month_of(record.datetime)][_item_of(uri)] = record.name
        for month, items in sorted(items_by_month.items()):
            self._add_to_month(month, items, store)
        self._add_to_collection(items_by_month, [shape(record.footprint) for record, _ in images], store)
        link_images(store, self._collection, self._title)

    def _indexed(self, site: Site) -> list[tuple[Record, str]]:
        """Images in this cube's own index that have items; empty if the records are on a Geocube."""
        cube = site.find_cube() if site.shared is None else None
        if not isinstance(cube, LocalCube) or not has_instance(cube, self._variable.name, self._instance):
            return []
        datasets = {
            dataset.record_id: dataset.uri
            for dataset in cube.datasets(self._variable.name, self._instance)
            if dataset.uri.startswith(f"{self._folder}/") and site.store.exists(_item_of(dataset.uri))
        }
        return [(record, datasets[record.id]) for record in cube.records_by_id(list(datasets))]

    def _add_to_month(self, month: str, items: Mapping[str, str], store: Store) -> None:
        key = self._month_key(month)
        replaced = {_DIGEST.sub("", item) for item in items}

        def make(body: bytes | None) -> bytes:
            known = linked_keys(body, key, "item")
            if body is not None and items.items() <= known.items():
                return body
            others = {item: name for item, name in known.items() if _DIGEST.sub("", item) not in replaced}
            return self._month_document(month, others | dict(items))

        revise(store, key, make)

    def _month_document(self, month: str, items: Mapping[str, str]) -> bytes:
        document = stac_catalog(
            f"{self._identity}_{month}",
            f"Images of {self._variable.name}:{self._instance} in {month}.",
            href=self._month_key(month),
            links=StacLinks(root=ROOT, parent=self._collection, items=dict(sorted(items.items()))),
            title=month,
        )
        return encode_document(document)

    def _add_to_collection(self, months: Collection[str], shapes: Sequence[BaseGeometry], store: Store) -> None:
        """Extend the collection. Its interval is open-ended and it links months, so it changes once a month."""

        def make(body: bytes | None) -> bytes:
            known = linked_keys(body, self._collection)
            children = known | {self._month_key(month): month for month in months}
            collection = stac_collection(
                self._identity,
                f"Images of {self._variable.name}:{self._instance} as ingested.",
                href=self._collection,
                links=StacLinks(root=ROOT, parent=ROOT, children=dict(sorted(children.items()))),
                footprint=mapping(shapely.unary_union([_with_extent(part) for part in (*_known_boxes(body), *shapes)])),
                interval=(dt.datetime.fromisoformat(f"{min(children.values())}-01T00:00:00+00:00"), None),
                title=self._title,
            )
            return encode_document(collection)

        revise(store, self._collection, make)

    def _month_key(self, month: str) -> str:
        return f"{self._folder}/stac/{month}.json"


def forget_items(store: Store, months: Iterable[str], removed: Collection[str]) -> None:
    """Remove links to items from the catalogues of months, before the items are deleted.

    `months` are the keys of the catalogues, `removed` those of the items.
    """
    for key in months:

        def make(body: bytes | None, key: str = key) -> bytes:
            known = linked_keys(body, key, "item")
            if body is None or known.keys().isdisjoint(removed):
                return body or b""
            document = json.loads(body)
            home = posixpath.dirname(key)
            document["links"] = [
                link
                for link in document["links"]
                if link["rel"] != "item" or posixpath.normpath(posixpath.join(home, link["href"])) not in removed
            ]
            return encode_document(document)

        revise(store, key, make)


def _item_of(uri: str) -> str:
    return f"{uri.removesuffix('.tif')}.json"


def _with_extent(area: BaseGeometry) -> BaseGeometry:
    """The area, or a point or line if it is degenerate: a union would drop a polygon without area."""
    return area if area.area > 0 else shapely.envelope(area)


def _known_boxes(body: bytes | None) -> list[BaseGeometry]:
    """The bounding boxes of a collection; empty if it is missing or damaged."""
    try:
        west, south, east, north = json.loads(body or b"{}")["extent"]["spatial"]["bbox"][0]
    except (ValueError, KeyError, TypeError, IndexError):
        return []
    if west > east:
        return [box(west, south, 180, north), box(-180, south, east, north)]
    return [box(west, south, east, north)]
