"""STAC 1.1: items of records and products, collections of them, and catalogues."""

from __future__ import annotations

import math
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

import shapely

from acdtask.cube.local.containers import is_stack
from acdtask.cube.model import Dataset, Record, Variable

__all__ = ["stac_catalog", "stac_collection", "stac_item"]

Json: TypeAlias = dict[str, Any]

STAC_VERSION = "1.1.0"
PROJECTION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
FILE = "https://stac-extensions.github.io/file/v2.1.0/schema.json"
GEOTIFF = "image/tiff; application=geotiff; profile=cloud-optimized"
ZARR = "application/vnd.zarr; version=3"
GEOJSON, JSON = "application/geo+json", "application/json"

FIRST_DATE_TAG = "start_datetime"
"""The tag of a record that gives the first date of its pair."""

NOT_A_TEXT = frozenset(
    {"bands", "created", "data_type", "datetime", "end_datetime", "gsd", "instruments", "keywords", "license", "nodata"}
    | {"providers", "roles", "start_datetime", "statistics", "unit", "updated"}
)
"""Properties that STAC defines as something else than a text; tags of these names get the prefix 'acd:'."""


def stac_item(
    record: Record,
    datasets: Sequence[Dataset],
    variables: Iterable[Variable],
    *,
    item_id: str = "",
    href: str = "",
) -> Json:
    """A STAC item of a record, with an asset for each dataset. Nothing in it depends on the time of writing.

    Args:
        record: gives geometry, dates and properties (its tags).
        datasets: at least one; an asset is named by its variable, and its cell if the variable has several datasets.
        variables: those of the datasets.
        item_id: the record's name with '_' for '/' by default.
        href: the item's own key in the cube; hrefs of assets are relative to it. By default it lies in the folder
            that all datasets share.
    """
    known = {variable.name: variable for variable in variables}
    identity = item_id or record.name.replace("/", "_")
    home = posixpath.dirname(href) if href else posixpath.commonpath([posixpath.dirname(d.uri) for d in datasets])
    moment = _rfc3339(record.datetime)
    tags = {f"acd:{key}" if key in NOT_A_TEXT else key: value for key, value in sorted(record.tags.items())}
    properties: Json = {"datetime": moment}
    if FIRST_DATE_TAG in record.tags:
        first = _rfc3339(datetime.fromisoformat(record.tags[FIRST_DATE_TAG]))
        properties |= {"start_datetime": first, "end_datetime": moment}
        del tags[f"acd:{FIRST_DATE_TAG}"]
    item: Json = {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": [PROJECTION],
        "id": identity,
        "geometry": record.footprint or None,
        "properties": {**properties, "acd:record": record.name, **tags},
        "links": [],
        "assets": _assets(datasets, known, home),
    }
    if any("file:checksum" in asset for asset in item["assets"].values()):
        item["stac_extensions"].append(FILE)
    if record.footprint:
        item["bbox"] = _bbox(record.footprint)
    return item


def stac_collection(identity: str, description: str, items: Mapping[str, Json], *, href: str) -> Json:
    """A collection of items, with their extent.

    Args:
        identity: the collection's id.
        description: a sentence.
        items: items by key.
        href: the collection's own key; links are relative to it.
    """
    boxes = [item["bbox"] for item in items.values() if "bbox" in item]
    times = [item["properties"] for item in items.values()]
    starts = sorted(time.get("start_datetime", time["datetime"]) for time in times)
    ends = sorted(time.get("end_datetime", time["datetime"]) for time in times)
    around = any(box[0] > box[2] for box in boxes)
    whole = [
        -180.0 if around else min((box[0] for box in boxes), default=-180.0),
        min((box[1] for box in boxes), default=-90.0),
        180.0 if around else max((box[2] for box in boxes), default=180.0),
        max((box[3] for box in boxes), default=90.0),
    ]
    return {
        "type": "Collection",
        "stac_version": STAC_VERSION,
        "id": identity,
        "description": description,
        "license": "other",
        "extent": {
            "spatial": {"bbox": [whole]},
            "temporal": {"interval": [[starts[0] if starts else None, ends[-1] if ends else None]]},
        },
        "links": _links(items, "item", GEOJSON, posixpath.dirname(href)),
    }


def stac_catalog(identity: str, description: str, children: Iterable[str], *, href: str) -> Json:
    """A catalogue of collections or catalogues, given by their keys; links are relative to `href`, its own key."""
    return {
        "type": "Catalog",
        "stac_version": STAC_VERSION,
        "id": identity,
        "description": description,
        "links": _links(children, "child", JSON, posixpath.dirname(href)),
    }


def _assets(datasets: Sequence[Dataset], variables: Mapping[str, Variable], home: str) -> Json:
    names = [dataset.variable for dataset in datasets]
    assets: Json = {}
    for dataset in datasets:
        name = dataset.variable.replace("/", "_")
        if names.count(dataset.variable) > 1:
            name += f"_{dataset.cell.replace('/', '_')}"
        if name in assets:
            raise ValueError(f"two datasets would be the asset {name}")
        assets[name] = _asset(dataset, variables[dataset.variable], home)
    return assets


def _asset(dataset: Dataset, variable: Variable, home: str) -> Json:
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
    if variable.unit:
        asset["unit"] = variable.unit
    if variable.description:
        asset["description"] = variable.description
    asset["bands"] = [{"name": band or variable.name} for band in variable.bands]
    return asset


def _links(keys: Iterable[str], relation: str, kind: str, home: str) -> list[Json]:
    return [{"rel": relation, "href": _relative(key, home), "type": kind} for key in keys]


def _relative(key: str, home: str) -> str:
    if key.startswith(("/", "s3://", "file://")):
        return key
    path = posixpath.relpath(key, home or ".")
    return path if path.startswith("../") else f"./{path}"


def _rfc3339(moment: datetime) -> str:
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return aware.isoformat().replace("+00:00", "Z")


def _bbox(footprint: Json) -> list[float]:
    """West, south, east, north; west is greater than east for a footprint that is cut at the antimeridian."""
    shape = shapely.geometry.shape(footprint)
    west, south, east, north = shape.bounds
    parts = shapely.get_parts(shape)
    if (west, east) == (-180, 180) and len(parts) > 1:
        eastern = [part.bounds for part in parts if part.bounds[2] == 180 and part.bounds[0] > 0]
        western = [part.bounds for part in parts if part.bounds[0] == -180 and part.bounds[2] < 0]
        if len(eastern) + len(western) == len(parts):
            west, east = min(box[0] for box in eastern), max(box[2] for box in western)
    return [float(west), float(south), float(east), float(north)]
