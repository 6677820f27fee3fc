"""Validates files against the GeoParquet 1.1 specification, like `gpq validate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import shapely

SCHEMA: dict[str, Any] = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "required": ["version", "primary_column", "columns"],
    "properties": {
        "version": {"type": "string", "const": "1.1.0"},
        "primary_column": {"type": "string", "minLength": 1},
        "columns": {
            "type": "object",
            "minProperties": 1,
            "patternProperties": {
                ".+": {
                    "type": "object",
                    "required": ["encoding", "geometry_types"],
                    "properties": {
                        "encoding": {"enum": ["WKB", "point", "linestring", "polygon", "multipoint", "multipolygon"]},
                        "geometry_types": {
                            "type": "array",
                            "uniqueItems": True,
                            "items": {
                                "pattern": "^(GeometryCollection|(Multi)?(Point|LineString|Polygon))(( Z)| M| ZM)?$"
                            },
                        },
                        "crs": {"type": ["object", "null"], "required": ["type", "name"]},
                        "edges": {"enum": ["planar", "spherical"]},
                        "orientation": {"const": "counterclockwise"},
                        "bbox": {
                            "type": "array",
                            "items": {"type": "number"},
                            "oneOf": [{"minItems": 4, "maxItems": 4}, {"minItems": 6, "maxItems": 6}],
                        },
                        "epoch": {"type": "number"},
                    },
                }
            },
        },
    },
}
"""After https://geoparquet.org/releases/v1.1.0/schema.json."""


def checked_table(path: Path) -> pa.Table:
    """Read a table after validating its metadata and geometries. AssertionError if they are invalid."""
    from jsonschema import Draft7Validator

    file = pq.ParquetFile(path)
    metadata = file.metadata.metadata or {}
    assert b"geo" in metadata, "the file's metadata have no key 'geo'"
    geo = json.loads(metadata[b"geo"])
    assert [problem.message for problem in Draft7Validator(SCHEMA).iter_errors(geo)] == []
    assert geo["primary_column"] in geo["columns"]
    table = file.read()
    for name, column in geo["columns"].items():
        _check_column(table, name, column)
    return table


def _check_column(table: pa.Table, name: str, column: dict[str, Any]) -> None:
    assert table.schema.field(name).type in (pa.binary(), pa.large_binary())
    geometries = shapely.from_wkb(table.column(name).to_pylist())
    assert {geometry.geom_type for geometry in geometries} <= set(column["geometry_types"])
    assert all(shapely.is_valid(geometries))
    if len(geometries):
        west, south, east, north = shapely.total_bounds(geometries).tolist()
        least_x, least_y, greatest_x, greatest_y = column["bbox"]
        assert (least_x <= west, least_y <= south, greatest_x >= east, greatest_y >= north) == (True,) * 4
    for polygon in shapely.get_parts(geometries):
        assert polygon.exterior.is_ccw
        assert not any(ring.is_ccw for ring in polygon.interiors)
