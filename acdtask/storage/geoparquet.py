"""GeoParquet 1.1 tables: the one place that writes Parquet files, and the metadata that makes geometries visible.

Readers such as GDAL, DuckDB and GeoPandas look for the key `geo` in the metadata of the file. Metadata of the Arrow
schema is kept in another key, where only Arrow finds it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from arro3.core import Array, Field, Schema, Table
from arro3.io import write_parquet

__all__ = ["CRS84", "GEOMETRY", "encode_table", "geo_metadata"]

GEOMETRY = "geometry"
"""The name of the geometry column, which holds WKB."""

CRS84: dict[str, Any] = {
    "$schema": "https://proj.org/schemas/v0.5/projjson.schema.json",
    "type": "GeographicCRS",
    "name": "WGS 84 longitude-latitude",
    "datum": {
        "type": "GeodeticReferenceFrame",
        "name": "World Geodetic System 1984",
        "ellipsoid": {"name": "WGS 84", "semi_major_axis": 6378137, "inverse_flattening": 298.257223563},
    },
    "coordinate_system": {
        "subtype": "ellipsoidal",
        "axis": [
            {"name": "Geodetic longitude", "abbreviation": "Lon", "direction": "east", "unit": "degree"},
            {"name": "Geodetic latitude", "abbreviation": "Lat", "direction": "north", "unit": "degree"},
        ],
    },
    "id": {"authority": "OGC", "code": "CRS84"},
}
"""Longitude and latitude on WGS 84, as PROJJSON (from the GeoParquet specification)."""


def geo_metadata(geometry_types: Sequence[str], bbox: Sequence[float] | None = None, **column: Any) -> dict[str, str]:
    """The file's metadata for a table whose column `geometry` is WKB in longitude and latitude.

    Args:
        geometry_types: those that occur, such as "Polygon".
        bbox: west, south, east, north of all geometries; None if there are none.
        column: further members of the column's metadata, such as its orientation.

    >>> json.loads(geo_metadata(["Polygon"], [7, 50, 8, 51])["geo"])["columns"]["geometry"]["bbox"]
    [7, 50, 8, 51]
    """
    described = {"encoding": "WKB", "geometry_types": sorted(geometry_types), "crs": CRS84, **column}
    if bbox is not None:
        described["bbox"] = list(bbox)
    geo = {"version": "1.1.0", "primary_column": GEOMETRY, "columns": {GEOMETRY: described}}
    return {"geo": json.dumps(geo, sort_keys=True)}


def encode_table(columns: Mapping[str, Array], metadata: Mapping[str, str], required: Collection[str] = ()) -> bytes:
    """A Parquet file, the same bytes for the same columns.

    Args:
        columns: by name, in order.
        metadata: of the file.
        required: the columns that have no nulls.
    """
    schema = Schema([Field(name, column.type, nullable=name not in required) for name, column in columns.items()])
    table = Table.from_arrays(list(columns.values()), schema=schema)
    sink = io.BytesIO()
    write_parquet(table, sink, key_value_metadata=dict(metadata) or None, compression="zstd(3)", created_by="acd")
    return sink.getvalue()
