"""Requests of clients, and the parsing of refusals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import grpc
import pytest
from google.rpc.error_details_pb2 import ResourceInfo  # type: ignore[import-untyped]  # it has no types
from grpc_status import rpc_status
from rasterio.crs import CRS

from acdtask.cube.protocol import layouts_pb2, records_pb2, values_pb2, variables_pb2
from acdtask.cube.protocol.convert import moment_to_message
from acdtask.cube.protocol.services_pb2_grpc import GeocubeStub

SQUARE = ((7.0, 50.0), (8.0, 50.0), (8.0, 51.0), (7.0, 51.0), (7.0, 50.0))
NOBODY = "00000000-0000-0000-0000-000000000000"
MUCOG = "Z=0>T>R>B;R>Z=1:>T>B"
TILES = 20_000
"""Fewer than `many_tiles` sends, but with the WKT of their CRS far more than a connection buffers."""


class Refused(NamedTuple):
    """The refusal of a call; kind, name and owner are from the details, empty without them."""

    code: str
    message: str
    kind: str = ""
    name: str = ""
    owner: str = ""


def refusal(call: Callable[[], Any]) -> Refused:
    """The refusal of a call; a stream is read to its end."""
    with pytest.raises(grpc.RpcError) as caught:
        _to_the_end(call())
    error: Any = caught.value
    status: Any = rpc_status.from_call(error)
    if status is None:
        return Refused(error.code().name, error.details())
    assert (status.code, status.message) == (error.code().value[0], error.details())
    info = ResourceInfo()
    assert status.details[0].Unpack(info)
    return Refused(error.code().name, error.details(), info.resource_type, info.resource_name, info.owner)


def _to_the_end(answer: Any) -> None:
    if hasattr(answer, "__next__"):
        list(answer)


def area(*rings: Sequence[tuple[float, float]]) -> records_pb2.AOI:
    """An area of one polygon."""
    lines = [
        records_pb2.LinearRing(points=[records_pb2.Coord(lon=lon, lat=lat) for lon, lat in ring]) for ring in rings
    ]
    return records_pb2.AOI(polygons=[records_pb2.Polygon(linearrings=lines)])


def new_aoi(stub: GeocubeStub, ring: Sequence[tuple[float, float]] = SQUARE) -> str:
    return stub.CreateAOI(records_pb2.CreateAOIRequest(aoi=area(ring))).id


def new_record(aoi_id: str, name: str = "S1", day: int = 1, **changes: Any) -> records_pb2.NewRecord:
    fields: dict[str, Any] = {
        "tags": {"k": "v"},
        "time": moment_to_message(datetime(2021, 1, day, tzinfo=UTC)),
    } | changes
    return records_pb2.NewRecord(name=name, aoi_id=aoi_id, **fields)


def create_records(stub: GeocubeStub, *records: records_pb2.NewRecord) -> list[str]:
    return list(stub.CreateRecords(records_pb2.CreateRecordsRequest(records=records)).ids)


def list_records(stub: GeocubeStub, **fields: Any) -> list[records_pb2.Record]:
    return [item.record for item in stub.ListRecords(records_pb2.ListRecordsRequest(**fields))]


def int16(low: float = 0, high: float = 1000, nodata: float = -1) -> values_pb2.DataFormat:
    return values_pb2.DataFormat(dtype=values_pb2.DataFormat.Int16, no_data=nodata, min_value=low, max_value=high)


def variable(name: str = "CoherenceVV", **changes: Any) -> variables_pb2.Variable:
    fields: dict[str, Any] = {"dformat": int16(), "bands": [""], "resampling_alg": values_pb2.BILINEAR} | changes
    return variables_pb2.Variable(name=name, **fields)


def create_variable(stub: GeocubeStub, name: str = "CoherenceVV", **changes: Any) -> str:
    return stub.CreateVariable(variables_pb2.CreateVariableRequest(variable=variable(name, **changes))).id


def instantiate(stub: GeocubeStub, variable_id: str, name: str = "master", **metadata: str) -> variables_pb2.Instance:
    request = variables_pb2.InstantiateVariableRequest(
        variable_id=variable_id, instance_name=name, instance_metadata=metadata
    )
    return stub.InstantiateVariable(request).instance


def layout(name: str = "utm", *, parameters: dict[str, str] | None = None, **changes: Any) -> layouts_pb2.Layout:
    fields: dict[str, Any] = {
        "block_x_size": 256,
        "block_y_size": 128,
        "max_records": 1000,
        "overviews_min_size": -1,
        "interlacing_pattern": MUCOG,
        "grid_parameters": {"grid": "regular", "crs": "epsg:32632", "resolution": "20.0", "cell_size": "1024"}
        | (parameters or {}),
    } | changes
    return layouts_pb2.Layout(name=name, **fields)


def create_layout(stub: GeocubeStub, message: layouts_pb2.Layout) -> None:
    stub.CreateLayout(layouts_pb2.CreateLayoutRequest(layout=message))


def many_tiles(stub: GeocubeStub) -> Any:
    """A call that runs until its responses are read."""
    wordy = CRS.from_proj4("+proj=laea +lat_0=50.5 +lon_0=7.5 +datum=WGS84").to_wkt()
    small = layout("", parameters={"crs": wordy, "resolution": "1", "cell_size": "440"})
    square = ((7.0, 50.0), (8.0, 50.0), (8.0, 50.62), (7.0, 50.62), (7.0, 50.0))
    return stub.TileAOI(layouts_pb2.TileAOIRequest(aoi=area(square), layout=small))
