"""Makes STAC 1.1 documents: items of records and products, collections and catalogues."""

from __future__ import annotations

import math
import posixpath
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

import shapely

from acdtask.cube.local.containers import is_stack
from acdtask.cube.model import OUTSIDE, Dataset, Record, Variable, in_utc

__all__ = ["StacLinks", "rfc3339", "stac_catalog", "stac_collection", "stac_item"]

Json: TypeAlias = dict[str, Any]

STAC_VERSION = "1.1.0"
PROJECTION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
FILE = "https://stac-extensions.github.io/file/v2.1.0/schema.json"
RASTER = "https://stac-extensions.github.io/raster/v2.0.0/schema.json"
PROCESSING = "https://stac-extensions.github.io/processing/v1.2.0/schema.json"
GEOTIFF = "image/tiff; application=geotiff; profile=cloud-optimized"
ZARR = "application/vnd.zarr; version=3"
GEOJSON, JSON = "application/geo+json", "application/json"

EXTENSIONS = {"proj:": PROJECTION, "file:": FILE, "raster:": RASTER, "processing:": PROCESSING}
"""Schemas of extensions, by the prefix of their fields."""

FIRST_DATE_TAG = "start_datetime"
"""The tag of a record with the first date of its pair."""

NOT_STRINGS = frozenset(
    {"bands", "created", "data_type", "datetime", "end_datetime", "gsd", "instruments", "keywords", "license", "nodata"}
    | {"providers", "roles", "start_datetime", "statistics", "unit", "updated"}
)
"""Properties that are not free strings in STAC. Tags with these names get the prefix 'acd:'."""


@dataclass(frozen=True)
class StacLinks:
    """Links of a document to others in a catalogue.

    Attributes:
        root, parent: keys of the root and the parent.
        collection, collection_id: key and id of an item's collection.
        items, children: titles of the linked items and children, by key.
    """

    root: str = ""
    parent: str = ""
    collection: str = ""
    collection_id: str = ""
    items: Mapping[str, str] = field(default_factory=dict)
    children: Mapping[str, str] = field(default_factory=dict)

    def as_json(self, href: str) -> list[Json]:
        """The links of the document with the key `href`. They are relative, so that they work in a copied cube."""
        home = posixpath.dirname(href)
        above = [("root", self.root, ""), ("parent", self.parent, ""), ("collection", self.collection, "")]
        below = [("child", key, title) for key, title in self.children.items()]
        links = [(*link, JSON) for link in (*above, *below)]
        links += [("item", key, title, GEOJSON) for key, title in self.items.items()]
        return [
            {"rel": relation, "href": _relative(key, home), "type": kind} | ({"title": title} if title else {})
            for relation, key, title, kind in links
            if key
        ]


def stac_item(
    record: Record,
    datasets: Sequence[Dataset],
    variables: Iterable[Variable],
    *,
    item_id: str = "",
    href: str = "",
    names: Mapping[str, str] | None = None,
    sizes: Mapping[str, int] | None = None,
    properties: Mapping[str, Any] | None = None,
    links: StacLinks | None = None,
) -> Json:
    """Make the STAC item of a record, with an asset for each dataset. It does not contain the time of writing.

    Args:
        record: its footprint, dates and tags become the geometry and properties.
        datasets: at least one. An asset has the name of its variable, with the cell if the variable has several.
        variables: the variables of the datasets.
        item_id: id of the item; default: the record's name with '_' for '/'.
        href: key of the item in the cube; hrefs of assets are relative to it. Default: a file in the deepest folder
            with all datasets.
        names: names of assets by variable, if different.
        sizes: sizes of files in bytes, by key.
        properties: further properties, such as those about processing.
        links: links in a catalogue.
    """
    known = {variable.name: variable for variable in variables}
    identity = item_id or record.name.replace("/", "_")
    home = posixpath.dirname(href) if href else posixpath.commonpath([posixpath.dirname(d.uri) for d in datasets])
    moment = rfc3339(record.datetime)
    tags = {f"acd:{key}" if key in NOT_STRINGS else key: value for key, value in sorted(record.tags.items())}
    dates: Json = {"datetime": moment}
    if FIRST_DATE_TAG in record.tags:
        first = rfc3339(datetime.fromisoformat(record.tags[FIRST_DATE_TAG]))
        dates |= {"start_datetime": first, "end_datetime": moment}
        del tags[f"acd:{FIRST_DATE_TAG}"]
    item: Json = {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "id": identity,
        "geometry": record.footprint or None,
        "properties": {**dates, "acd:record": record.name, **tags, **(properties or {})},
        "links": links.as_json(href) if links else [],
        "assets": _assets(datasets, known, home, names or {}, sizes or {}),
    }
    fields = {name for part in (item["properties"], *item["assets"].values()) for name in part}
    item["stac_extensions"] = [
        uri for prefix, uri in EXTENSIONS.items() if any(name.startswith(prefix) for name in fields)
    ]
    if links and links.collection:
        item["collection"] = links.collection_id
    if record.footprint:
        item["bbox"] = _bbox(record.footprint)
    return item


def stac_collection(
    identity: str,
    description: str,
    *,
    href: str,
    links: StacLinks,
    footprint: Json,
    interval: tuple[datetime | None, datetime | None],
    title: str = "",
    providers: Sequence[Json] = (),
) -> Json:
    """Make a STAC collection. Its key is `href`, to which links are relative.

    The footprint is a GeoJSON geometry around all items, the interval their first and last datetime, None for an open
    end. Providers may have fields of the processing extension.
    """
    collection: Json = {
        "type": "Collection",
        "stac_version": STAC_VERSION,
        "stac_extensions": [PROCESSING] if providers else [],
        "id": identity,
        "description": description,
        "license": "other",
        "extent": {
            "spatial": {"bbox": [_bbox(footprint)]},
            "temporal": {"interval": [[rfc3339(moment) if moment else None for moment in interval]]},
        },
        "links": links.as_json(href),
    }
    if title:
        collection["title"] = title
    if providers:
        collection["providers"] = list(providers)
    return collection


def stac_catalog(identity: str, description: str, *, href: str, links: StacLinks, title: str = "") -> Json:
    """Make a STAC catalogue. Links are relative to `href`, its key."""
    return {
        "type": "Catalog",
        "stac_version": STAC_VERSION,
        "id": identity,
        **({"title": title} if title else {}),
        "description": description,
        "links": links.as_json(href),
    }


def _assets(
    datasets: Sequence[Dataset],
    variables: Mapping[str, Variable],
    home: str,
    names: Mapping[str, str],
    sizes: Mapping[str, int],
) -> Json:
    datasets_of = Counter(dataset.variable for dataset in datasets)
    assets: Json = {}
    for dataset in datasets:
        name = names.get(dataset.variable, dataset.variable.replace("/", "_"))
        if datasets_of[dataset.variable] > 1:
            name += f"_{dataset.cell.replace('/', '_')}"
        if name in assets:
            raise ValueError(f"two datasets have the asset name {name}")
        assets[name] = _asset(dataset, variables[dataset.variable], home, sizes.get(dataset.uri))
    return assets


def _asset(dataset: Dataset, variable: Variable, home: str, size: int | None) -> Json:
    nodata = dataset.dformat.nodata
    crs = dataset.grid.crs
    asset: Json = {
        "href": _relative(dataset.uri, home),
        "type": ZARR if is_stack(dataset.uri) else GEOTIFF,
        "roles": ["data"],
        "data_type": dataset.dformat.dtype,
        "nodata": "nan" if math.isnan(nodata) else int(nodata) if nodata == int(nodata) else nodata,
        "proj:shape": list(dataset.grid.shape),
        "proj:transform": list(dataset.grid.transform),
    }
    asset |= {"proj:code": crs.upper()} if crs.upper().startswith("EPSG:") else {"proj:code": None, "proj:wkt2": crs}
    if dataset.checksum and not is_stack(dataset.uri):
        asset["file:checksum"] = dataset.checksum
    if size is not None:
        asset["file:size"] = size
    if variable.scale != 1.0 and dataset.real is None:
        asset |= {"raster:scale": variable.scale, "raster:offset": 0}
    if variable.unit:
        asset["unit"] = variable.unit
    if variable.description:
        asset["description"] = variable.description
    asset["bands"] = [{"name": band or variable.name} for band in variable.bands]
    return asset


def _relative(key: str, home: str) -> str:
    """The href of a key in a document that is in the folder `home`; addresses outside the cube stay absolute."""
    if key.startswith(OUTSIDE):
        return key
    path = posixpath.relpath(key, home or ".")
    return path if path.startswith("../") else f"./{path}"


def rfc3339(moment: datetime) -> str:
    """A datetime in UTC as required by STAC (RFC 3339)."""
    return in_utc(moment).isoformat().replace("+00:00", "Z")


def _bbox(footprint: Json) -> list[float]:
    """West, south, east, north. West is greater than east if the footprint is cut at the antimeridian (RFC 7946)."""
    shape = shapely.geometry.shape(footprint)
    west, south, east, north = shape.bounds
    parts = shapely.get_parts(shape)
    if (west, east) == (-180, 180) and len(parts) > 1:
        eastern = [part.bounds for part in parts if part.bounds[2] == 180 and part.bounds[0] > 0]
        western = [part.bounds for part in parts if part.bounds[0] == -180 and part.bounds[2] < 0]
        if len(eastern) + len(western) == len(parts):
            west, east = min(box[0] for box in eastern), max(box[2] for box in western)
    return [float(west), float(south), float(east), float(north)]
