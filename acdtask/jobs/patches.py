"""Patches as GeoParquet 1.1 and as GeoJSON (RFC 7946)."""

from __future__ import annotations

import datetime as dt
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from arro3.core import Array, DataType, Field, Schema, Table
from arro3.io import read_parquet, write_parquet
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from acdtask.change.patches import Patch
from acdtask.cube.local.store import Store
from acdtask.errors import AcdError, ErrorCode

__all__ = ["LocatedPatch", "patches_to_geojson", "patches_to_parquet", "read_patches", "require_format", "save_patches"]

DECIMALS = 7
"""Of a degree: about a centimetre."""

COLUMNS: tuple[tuple[str, DataType], ...] = (
    ("id", DataType.utf8()),
    ("aoi", DataType.utf8()),
    ("variable", DataType.utf8()),
    ("datetime", DataType.utf8()),
    ("start_datetime", DataType.utf8()),
    ("area_px", DataType.int64()),
    ("area_m2", DataType.float64()),
    ("z_max", DataType.float64()),
    ("z_mean", DataType.float64()),
    ("drop_mean", DataType.float64()),
    ("baseline_count", DataType.int64()),
    ("blob", DataType.int64()),
)


@dataclass(frozen=True)
class LocatedPatch:
    """A patch where and when it is.

    Attributes:
        patch: what was measured of it.
        aoi, variable: where it was looked for, and in what.
        datetime: of the image in which it shows; the ground changed between `start` and then.
        start: the first date of the pair, if it is known.
        geometry: polygon(s) in longitude and latitude, exteriors counter-clockwise.
    """

    patch: Patch
    aoi: str
    variable: str
    datetime: dt.datetime
    start: dt.datetime | None
    geometry: BaseGeometry

    @property
    def properties(self) -> dict[str, Any]:
        """The attributes of a GeoJSON feature, and the columns of a table."""
        return {
            "id": self.patch.id,
            "aoi": self.aoi,
            "variable": self.variable,
            "datetime": self.datetime.isoformat(),
            "start_datetime": self.start.isoformat() if self.start else "",
            "area_px": self.patch.area_px,
            "area_m2": round(self.patch.area_m2, 1),
            "z_max": round(self.patch.z_max, 3),
            "z_mean": round(self.patch.z_mean, 3),
            "drop_mean": round(self.patch.drop_mean, 6),
            "baseline_count": self.patch.baseline_count,
            "blob": self.patch.blob,
        }


def patches_to_geojson(patches: Sequence[LocatedPatch], numbers: Mapping[str, int] | None = None) -> bytes:
    """A FeatureCollection, one feature a line; with numbers, by id, each has the property `number`."""
    features = []
    for one in patches:
        geometry = json.loads(shapely.to_geojson(_rounded(one.geometry)))
        number = {} if numbers is None else {"number": numbers[one.patch.id]}
        properties = {**number, **one.properties}
        feature = {"type": "Feature", "id": one.patch.id, "properties": properties, "geometry": geometry}
        features.append(json.dumps(feature, ensure_ascii=False))
    body = ",\n".join(features)
    return f'{{"type": "FeatureCollection", "features": [\n{body}\n]}}\n'.encode()


def patches_to_parquet(patches: Sequence[LocatedPatch]) -> bytes:
    """A GeoParquet 1.1 table with a WKB column `geometry`; times are ISO 8601 text."""
    rows = [one.properties for one in patches]
    geometries = [_rounded(one.geometry) for one in patches]
    columns: dict[str, Any] = {name: Array([row[name] for row in rows], dtype) for name, dtype in COLUMNS}
    columns["geometry"] = Array([shapely.to_wkb(one) for one in geometries], DataType.binary())
    schema = Schema(
        [Field(name, dtype, nullable=False) for name, dtype in (*COLUMNS, ("geometry", DataType.binary()))],
        metadata={"geo": json.dumps(_geo(geometries), sort_keys=True)},
    )
    buffer = io.BytesIO()
    write_parquet(Table(columns, schema=schema), buffer, compression="zstd(3)")
    return buffer.getvalue()


def read_patches(body: bytes) -> list[LocatedPatch]:
    """What `patches_to_parquet` wrote. CUBE_DAMAGED."""
    try:
        table = read_parquet(io.BytesIO(body)).read_all()
    except Exception as error:  # arro3 raises bare Exceptions of its own
        raise AcdError(ErrorCode.CUBE_DAMAGED, f"a table of patches cannot be read: {error}") from error
    columns = {name: table.column(name).to_pylist() for name in (*dict(COLUMNS), "geometry")}
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return [_located(row) for row in rows]


def require_format(address: str) -> None:
    """Check that the name of an output file, if there is one, names a format. FORMAT_UNKNOWN."""
    if address and not address.endswith(tuple(_WRITERS)):
        raise AcdError(ErrorCode.FORMAT_UNKNOWN, f"{address} ends neither with .parquet nor with .geojson")


def save_patches(patches: Sequence[LocatedPatch], address: str) -> None:
    """Write patches to a .parquet or .geojson file at a path or an s3:// address. FORMAT_UNKNOWN."""
    require_format(address)
    folder, _, name = address.rpartition("/")
    body = next(write(patches) for ending, write in _WRITERS.items() if name.endswith(ending))
    Store.at(folder or ("/" if address.startswith("/") else ".")).put(name, body)


_WRITERS = {".parquet": patches_to_parquet, ".geojson": patches_to_geojson}


def _located(row: dict[str, Any]) -> LocatedPatch:
    patch = Patch(**{name: row[name] for name in Patch.__dataclass_fields__})
    return LocatedPatch(
        patch=patch,
        aoi=row["aoi"],
        variable=row["variable"],
        datetime=dt.datetime.fromisoformat(row["datetime"]),
        start=dt.datetime.fromisoformat(row["start_datetime"]) if row["start_datetime"] else None,
        geometry=shapely.from_wkb(row["geometry"]),
    )


def _rounded(geometry: BaseGeometry) -> BaseGeometry:
    """Coordinates as they are written. Pixels are far larger, so no ring changes its shape."""

    def to_decimals(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.round(points, DECIMALS)

    return shapely.transform(geometry, to_decimals)


def _geo(geometries: Sequence[BaseGeometry]) -> dict[str, Any]:
    column: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": sorted({one.geom_type for one in geometries}),
        "orientation": "counterclockwise",
    }
    if geometries:
        column["bbox"] = shapely.total_bounds(geometries).tolist()
    return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
