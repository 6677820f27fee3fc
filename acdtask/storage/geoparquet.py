"""Reads and writes acd's Parquet files (GeoParquet 1.1).

GDAL, DuckDB and GeoPandas recognise geometries by the key `geo` in the file's metadata. Metadata of the Arrow schema is
in a different key, which only Arrow reads.
"""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import shapely
from arro3.core import Array, DataType, Field, Schema, Table
from arro3.io import read_parquet, write_parquet
from numpy.typing import NDArray

from acdtask.storage.errors import is_panic

__all__ = [
    "GEOMETRY",
    "UTC_TIME",
    "encode_table",
    "geo_metadata",
    "read_table",
    "time_column",
    "typed_column",
    "wkb_column",
]

GEOMETRY = "geometry"
"""Name of the geometry column (WKB)."""

UTC_TIME = DataType.timestamp("us", tz="UTC")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

MAGIC = b"PAR1"
SMALLEST = 12
"""Minimum size of a Parquet file in bytes: two magic numbers and a length."""

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


def geo_metadata(geometries: Sequence[Any] | NDArray[Any], *, with_bbox: bool = True, **column: Any) -> dict[str, str]:
    """File metadata of a table whose `geometry` column is WKB in longitude and latitude.

    Geometries are shapely's, None for a row without one. `with_bbox` adds the bounding box of all. `column` has further
    members of the column's metadata, such as `orientation`.

    >>> geo = json.loads(geo_metadata([shapely.box(7, 50, 8, 51)])["geo"])
    >>> geo["columns"]["geometry"]["geometry_types"], geo["columns"]["geometry"]["bbox"]
    (['Polygon'], [7.0, 50.0, 8.0, 51.0])
    """
    shapes = np.asarray(geometries, dtype=object)
    kinds, first_of_kind = np.unique(shapely.get_type_id(shapes), return_index=True)
    types = sorted(shapes[row].geom_type for kind, row in zip(kinds, first_of_kind, strict=True) if kind >= 0)
    described = {"encoding": "WKB", "geometry_types": types, "crs": CRS84, **column}
    if with_bbox and types:
        described["bbox"] = shapely.total_bounds(shapes).tolist()
    geo = {"version": "1.1.0", "primary_column": GEOMETRY, "columns": {GEOMETRY: described}}
    return {"geo": json.dumps(geo, sort_keys=True)}


def wkb_column(geometries: Sequence[bytes | None]) -> Array:
    """Column of WKB geometries; None becomes null."""
    return Array(geometries, DataType.binary())


def time_column(microseconds: Sequence[int | None] | NDArray[np.int64]) -> Array:
    """Column of UTC timestamps from microseconds since 1970; None becomes null."""
    if isinstance(microseconds, np.ndarray):
        return Array.from_numpy(microseconds).cast(UTC_TIME)
    return Array(microseconds, DataType.int64()).cast(UTC_TIME)


def typed_column(values: Sequence[Any], dtype: DataType) -> Array:
    """Column of a type from Python values, which are datetimes if it is UTC_TIME; None becomes null."""
    if dtype != UTC_TIME:
        return Array(values, dtype)
    return time_column([None if value is None else (value - EPOCH) // timedelta(microseconds=1) for value in values])


def encode_table(columns: Mapping[str, Array], metadata: Mapping[str, str], required: Collection[str] = ()) -> bytes:
    """Encode columns as a Parquet file; the same columns give the same bytes. `required` columns have no nulls."""
    schema = Schema([Field(name, column.type, nullable=name not in required) for name, column in columns.items()])
    table = Table.from_arrays(list(columns.values()), schema=schema)
    sink = io.BytesIO()
    write_parquet(table, sink, key_value_metadata=dict(metadata) or None, compression="zstd(3)", created_by="acd")
    return sink.getvalue()


def read_table(data: bytes) -> Table:
    """Decode a Parquet file. ValueError if the file is damaged or is not Parquet.

    >>> read_table(b"{}")
    Traceback (most recent call last):
    ...
    ValueError: it is not a Parquet file
    """
    if len(data) < SMALLEST or not (data.startswith(MAGIC) and data.endswith(MAGIC)):
        raise ValueError("it is not a Parquet file")
    try:
        return read_parquet(io.BytesIO(data)).read_all()
    except Exception as error:  # arro3 raises plain Exceptions
        raise ValueError(f"it is damaged: {error}") from error
    except BaseException as error:
        if is_panic(error):
            raise ValueError(f"it is damaged: {error}") from error
        raise
