"""Conversion between the cube's model and Geocube's messages."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp

from acdtask.cube.protocol import layouts_pb2, records_pb2, values_pb2
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.data_format import DataFormat, DType, Resampling, format_faults
from acdtask.raster.grid import Grid, Layout, RegularGrid

__all__ = [
    "DTYPES",
    "NO_DATA",
    "NO_MOMENT",
    "RESAMPLINGS",
    "RESAMPLING_NAMES",
    "area_from_message",
    "area_to_message",
    "dformat_from_message",
    "dformat_to_message",
    "grid_from_message",
    "grid_parameters",
    "grid_to_tile",
    "layout_to_message",
    "moment_from_message",
    "moment_to_message",
    "transform_to_message",
]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

DTYPES: dict[DType, values_pb2.DataFormat.Dtype.ValueType] = {
    "uint8": values_pb2.DataFormat.UInt8,
    "uint16": values_pb2.DataFormat.UInt16,
    "int16": values_pb2.DataFormat.Int16,
    "int32": values_pb2.DataFormat.Int32,
    "float32": values_pb2.DataFormat.Float32,
    "float64": values_pb2.DataFormat.Float64,
}
"""The data types of both; Geocube lacks int64, acd lacks uint32, int8 and complex64."""

RESAMPLINGS: dict[Resampling, values_pb2.Resampling.ValueType] = {
    "nearest": values_pb2.NEAR,
    "bilinear": values_pb2.BILINEAR,
    "cubic": values_pb2.CUBIC,
    "cubic_spline": values_pb2.CUBICSPLINE,
    "lanczos": values_pb2.LANCZOS,
    "average": values_pb2.AVERAGE,
    "mode": values_pb2.MODE,
    "max": values_pb2.MAX,
    "min": values_pb2.MIN,
    "med": values_pb2.MED,
    "q1": values_pb2.Q1,
    "q3": values_pb2.Q3,
}

_DTYPE_NAMES = {number: name for name, number in DTYPES.items()}
RESAMPLING_NAMES = {number: name for name, number in RESAMPLINGS.items()}

NO_DATA = "rpc error: code = NotFound desc = Not enough valid pixels (skipped)"
"""The only way in which a server reports an image without valid pixels: Geocube's client compares the whole text."""

NO_MOMENT = Timestamp(seconds=-62135596800)
"""0001-01-01, which means no bound in Geocube."""


def dformat_to_message(dformat: DataFormat) -> values_pb2.DataFormat:
    """The message of a data format. SETTING_INVALID if Geocube does not support its data type."""
    if dformat.dtype not in DTYPES:
        raise AcdError(ErrorCode.SETTING_INVALID, f"Geocube does not support the data type {dformat.dtype}")
    return values_pb2.DataFormat(
        dtype=DTYPES[dformat.dtype], no_data=dformat.nodata, min_value=dformat.min, max_value=dformat.max
    )


def dformat_from_message(message: values_pb2.DataFormat, dtype: DType | None = None) -> DataFormat:
    """The data format of a message; `dtype` is used if the message leaves it undefined.

    SETTING_INVALID for a data type that acd does not support, or an invalid range.
    """
    name = _DTYPE_NAMES.get(message.dtype, dtype if message.dtype == values_pb2.DataFormat.UNDEFINED else None)
    if name is None:
        known = message.dtype in values_pb2.DataFormat.Dtype.values()
        label = values_pb2.DataFormat.Dtype.Name(message.dtype) if known else str(message.dtype)
        raise AcdError(ErrorCode.SETTING_INVALID, f"acd does not support the data type {label}")
    low, high = message.min_value, message.max_value
    if faults := format_faults(name, nodata=message.no_data, low=low, high=high):
        raise AcdError(ErrorCode.SETTING_INVALID, "; ".join(f"{part} {fault}" for part, fault in faults))
    return DataFormat(dtype=name, nodata=message.no_data, min=message.min_value, max=message.max_value)


def transform_to_message(grid: Grid) -> values_pb2.GeoTransform:
    """The transform of a grid in GDAL's order."""
    a, b, c, d, e, f = grid.transform
    return values_pb2.GeoTransform(a=c, b=a, c=b, d=f, e=d, f=e)


def grid_from_message(crs: str, transform: values_pb2.GeoTransform, size: values_pb2.Size) -> Grid:
    """The grid of a request or a tile. pydantic.ValidationError if the size is not positive."""
    t = transform
    return Grid(crs=crs, transform=(t.b, t.c, t.a, t.e, t.f, t.d), width=size.width, height=size.height)


def grid_to_tile(grid: Grid) -> layouts_pb2.Tile:
    """The tile of a grid."""
    size = values_pb2.Size(width=grid.width, height=grid.height)
    return layouts_pb2.Tile(transform=transform_to_message(grid), size_px=size, crs=grid.crs)


def layout_to_message(layout: Layout) -> layouts_pb2.Layout:
    """The message of a layout, as a regular grid with Geocube's default blocks; web mercator tiles become its cells."""
    return layouts_pb2.Layout(
        name=layout.name,
        grid_parameters={"grid": "regular"} | grid_parameters(layout),
        block_x_size=256,
        block_y_size=256,
        max_records=1000,
        # Geocube's default: the pixels of a tile are contiguous over all records.
        interlacing_pattern="Z=0>T>R>B;R>Z=1:>T>B",
    )


def grid_parameters(layout: Layout) -> dict[str, str]:
    """CRS, resolution, size of a cell and origin of a layout, as Geocube writes them."""
    ox, oy = layout.origin
    grid = layout.grid
    resolution = grid.resolution if isinstance(grid, RegularGrid) else layout.cell_extent / layout.cell_pixels
    return {
        "crs": layout.crs,
        "resolution": repr(resolution),
        "cell_size": str(layout.cell_pixels),
        "ox": repr(ox),
        "oy": repr(oy),
    }


def moment_to_message(moment: datetime | None) -> Timestamp:
    """The timestamp of a moment; NO_MOMENT for None."""
    if moment is None:
        return NO_MOMENT
    micros = (moment - EPOCH) // timedelta(microseconds=1)
    return Timestamp(seconds=micros // 1_000_000, nanos=micros % 1_000_000 * 1000)


def moment_from_message(message: Timestamp) -> datetime | None:
    """The moment of a timestamp, to the microsecond; None for 0001-01-01 and for times outside of the calendar."""
    if message.seconds <= NO_MOMENT.seconds or message.seconds > 253402300799:
        return None
    return EPOCH + timedelta(seconds=message.seconds, microseconds=message.nanos // 1000)


def area_to_message(area: dict[str, Any]) -> records_pb2.AOI:
    """The AOI of a GeoJSON Polygon or MultiPolygon, with 32-bit coordinates. AOI_EMPTY for any other geometry."""
    kind, coordinates = area.get("type"), area.get("coordinates")
    if kind not in ("Polygon", "MultiPolygon") or not coordinates:
        raise AcdError(ErrorCode.AOI_EMPTY, f"a {kind or 'missing geometry'} has no area")
    polygons = [coordinates] if kind == "Polygon" else coordinates
    return records_pb2.AOI(
        polygons=[
            records_pb2.Polygon(
                linearrings=[
                    records_pb2.LinearRing(points=[records_pb2.Coord(lon=lon, lat=lat) for lon, lat, *_ in ring])
                    for ring in polygon
                ]
            )
            for polygon in polygons
        ]
    )


def area_from_message(message: records_pb2.AOI) -> dict[str, Any]:
    """The GeoJSON Polygon or MultiPolygon of an AOI; {} if it is empty.

    Coordinates are the shortest decimals that round to the same 32-bit floats, so that 50.8 is returned as 50.8.
    """
    polygons = [
        [[[_decimal(point.lon), _decimal(point.lat)] for point in ring.points] for ring in polygon.linearrings]
        for polygon in message.polygons
    ]
    if not polygons:
        return {}
    if len(polygons) == 1:
        return {"type": "Polygon", "coordinates": polygons[0]}
    return {"type": "MultiPolygon", "coordinates": polygons}


def _decimal(number: float) -> float:
    return float(str(np.float32(number))) if math.isfinite(number) else number
