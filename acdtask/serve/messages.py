"""Conversion and validation of messages for records, variables and areas."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp

from acdtask.cube.model import NAME_BYTES, NAME_RULE, Instance, Record, RecordQuery, Variable
from acdtask.cube.protocol import records_pb2, values_pb2, variables_pb2
from acdtask.cube.protocol.convert import (
    DTYPES,
    RESAMPLINGS,
    area_from_message,
    area_to_message,
    dformat_to_message,
    moment_from_message,
    moment_to_message,
)
from acdtask.raster.data_format import DataFormat, DType, format_faults
from acdtask.serve.areas import area_id
from acdtask.serve.errors import failed, invalid, not_served
from acdtask.serve.ids import instance_id, variable_id

__all__ = [
    "area_of",
    "bound_of",
    "dformat_of",
    "instance_to_message",
    "is_name",
    "mapped_dformat_of",
    "moment_of",
    "page_of",
    "query_of",
    "record_text",
    "record_to_message",
    "require_short",
    "variable_to_message",
]

CORNERS = 4
MOST_POINTS = 100_000
"""Maximum number of points of an area."""

NANOS = 1_000_000_000


def require_short(name: str, limit: int = NAME_BYTES) -> None:
    """INVALID_ARGUMENT if a name is too long."""
    size = len(name.encode())
    if size > limit:
        raise invalid(f"Invalid Name: it has {size} bytes, more than {limit}: {name[:20]}...")


def is_name(text: str) -> bool:
    """Whether the text is a valid name in Geocube.

    >>> is_name("S1/2021-01-07"), is_name("Köln"), is_name("a.b")
    (True, False, False)
    """
    return NAME_RULE.match(text) is not None and not text.endswith("\n")


def area_of(message: records_pb2.AOI, *, may_be_empty: bool = False) -> dict[str, Any]:
    """The GeoJSON of an area; {} if it may be empty and is. INVALID_ARGUMENT; UNKNOWN for an invalid ring."""
    polygons = [polygon for polygon in message.polygons if any(ring.points for ring in polygon.linearrings)]
    if not polygons:
        if may_be_empty:
            return {}
        raise invalid("AOI must not be empty")
    points = sum(len(ring.points) for polygon in polygons for ring in polygon.linearrings)
    if points > MOST_POINTS:
        raise invalid(f"the area has {points} points, more than {MOST_POINTS}: simplify it, or divide it into parts")
    for ring in (ring for polygon in polygons for ring in polygon.linearrings):
        _check_ring(ring)
    return area_from_message(records_pb2.AOI(polygons=polygons))


def _check_ring(ring: records_pb2.LinearRing) -> None:
    for point in ring.points:
        if not (abs(point.lon) <= 180 and abs(point.lat) <= 90):
            raise invalid("Coordinates must be geographic (lon in [-180,180], lat in [-90,90])")
    if len(ring.points) < CORNERS:
        raise failed("Polygon must have at least four points in each ring")
    if ring.points[0] != ring.points[-1]:
        raise failed("Polygon must have closed rings")


def moment_of(message: Timestamp, *, given: bool) -> datetime:
    """The datetime of a record. INVALID_ARGUMENT."""
    moment = moment_from_message(message) if given and 0 <= message.nanos < NANOS else None
    if moment is None:
        what = f"seconds:{message.seconds} nanos:{message.nanos}" if given else "invalid nil Timestamp"
        raise invalid(f"Invalid time: {what}")
    return moment


def bound_of(message: Timestamp, *, given: bool) -> datetime | None:
    """A time bound of a query; None if it is absent or invalid."""
    return moment_from_message(message) if given and 0 <= message.nanos < NANOS else None


def query_of(filters: records_pb2.RecordFilters, area: dict[str, Any] | None = None) -> RecordQuery:
    """The query for the records selected by filters, and by an area if there is one."""
    return RecordQuery(
        tags=dict(filters.tags),
        start=bound_of(filters.from_time, given=filters.HasField("from_time")),
        end=bound_of(filters.to_time, given=filters.HasField("to_time")),
        area=area,
    )


def page_of(limit: int, page: int) -> slice:
    """The rows of a page, counted from 0; all rows without a limit. INVALID_ARGUMENT for negative numbers."""
    if limit < 0 or page < 0:
        raise invalid(f"limit {limit} and page {page} must not be negative")
    return slice(page * limit, (page + 1) * limit) if limit else slice(None)


def record_to_message(record: Record, *, with_aoi: bool = False) -> records_pb2.Record:
    """The message of a record, with the id of its area, and with the area itself if requested."""
    return records_pb2.Record(
        id=record.id,
        name=record.name,
        time=moment_to_message(record.datetime),
        tags=record.tags,
        aoi_id=area_id(record.footprint),
        aoi=area_to_message(record.footprint) if with_aoi and area_id(record.footprint) else None,
    )


def record_text(record: Record) -> str:
    """Name, tags and datetime of a record, in the format of Geocube's message for a duplicate record.

    >>> from datetime import datetime
    >>> record_text(Record(name="S1", datetime=datetime(2021, 1, 7), tags={"orbit": "37", "a": "b"}, footprint={}))
    'S1, "a"=>"b", "orbit"=>"37", 2021-01-07 00:00:00'
    """
    tags = sorted(record.tags.items(), key=lambda tag: (len(tag[0].encode()), tag[0].encode()))
    shown = ", ".join(f'"{key}"=>"{value}"' for key, value in tags)
    moment = record.datetime.strftime("%Y-%m-%d %H:%M:%S.%f").rstrip("0").rstrip(".")
    return f"{record.name}, {shown}, {moment}"


def instance_to_message(instance: Instance) -> variables_pb2.Instance:
    """The message of an instance."""
    return variables_pb2.Instance(
        id=instance_id(instance.variable, instance.name), name=instance.name, metadata=instance.metadata
    )


def variable_to_message(variable: Variable, instances: list[Instance]) -> variables_pb2.Variable:
    """The message of a variable with its instances. UNIMPLEMENTED if Geocube does not support its data type."""
    if variable.dformat.dtype not in DTYPES:
        raise not_served(
            f"variable {variable.name} has the data type {variable.dformat.dtype}, which Geocube's API does not support"
        )
    return variables_pb2.Variable(
        id=variable_id(variable.name),
        name=variable.name,
        unit=variable.unit,
        description=variable.description,
        dformat=dformat_to_message(variable.dformat),
        bands=variable.bands,
        palette=variable.palette,
        resampling_alg=RESAMPLINGS[variable.resampling],
        instances=[instance_to_message(instance) for instance in instances],
    )


def dformat_of(message: values_pb2.DataFormat) -> DataFormat:
    """The data format of a variable. INVALID_ARGUMENT, UNIMPLEMENTED; UNKNOWN if the data type is undefined."""
    what = "Incorrect data format"
    if message.dtype == values_pb2.DataFormat.UNDEFINED:
        raise failed(f"{what}: the data type is not defined")
    if message.dtype not in values_pb2.DataFormat.Dtype.values():
        raise invalid(f"{what}: data type {message.dtype} is unknown")
    if message.dtype not in DTYPES.values():
        name = values_pb2.DataFormat.Dtype.Name(message.dtype)
        raise not_served(f"acd does not support the data type {name}; use one of {', '.join(sorted(DTYPES))}")
    return _checked(message, next(name for name, number in DTYPES.items() if number == message.dtype), what)


def mapped_dformat_of(message: values_pb2.DataFormat, dtype: str) -> DataFormat:
    """The data format of a container of data type `dtype`; the message's own data type is ignored.

    INVALID_ARGUMENT, UNIMPLEMENTED.
    """
    return _checked(message, dtype, "Invalid Dataset.DFormat")


def _checked(message: values_pb2.DataFormat, dtype: str, what: str) -> DataFormat:
    kind = np.dtype(dtype)
    if not message.min_value < message.max_value:
        raise invalid(f"{what}: min must be stricly lower than max")
    info: Any = np.iinfo(kind) if kind.kind in "iu" else np.finfo(kind)
    low, high = float(info.min), float(info.max)
    if message.min_value < low or message.max_value > high:
        raise invalid(f"{what}: min/max value are out of bounds [{low:f}, {high:f}]")
    if math.isnan(message.no_data):
        if kind.kind in "iu":
            raise not_served(f"acd requires a nodata value for {dtype}; give one outside of the valid range")
    elif not low <= message.no_data <= high:
        raise invalid(f"{what}: noData value ({message.no_data:f}) is not supported by the data type ({dtype})")
    name, numbers = _dtype_of(dtype), (message.no_data, message.min_value, message.max_value)
    if faults := format_faults(name, nodata=numbers[0], low=numbers[1], high=numbers[2]):
        reasons = "; ".join(f"{field} {fault}" for field, fault in faults)
        raise not_served(f"acd does not support this data format: {reasons}")
    return DataFormat(dtype=name, nodata=numbers[0], min=numbers[1], max=numbers[2])


def _dtype_of(name: str) -> DType:
    return next(dtype for dtype in DTYPES if dtype == name)
