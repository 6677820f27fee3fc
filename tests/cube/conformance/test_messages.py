"""Replies of a Geocube, message by message: those of `acdtask serve` equal those of a real server."""

from __future__ import annotations

import re
from typing import Any, cast

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2  # type: ignore[import-untyped]  # it has no types
from grpc_status import rpc_status
from rasterio.crs import CRS

from acdtask.cube.protocol import (
    datasets_pb2,
    jobs_pb2,
    layouts_pb2,
    records_pb2,
    services_pb2,
    values_pb2,
    variables_pb2,
)
from acdtask.cube.protocol.convert import area_from_message, area_to_message
from tests.cube.builders import box
from tests.cube.conformance.messages import INT16, SCENE, UNKNOWN_ID, Call, Wire, refusal_of

CODES = grpc.StatusCode


def twice(call: Call) -> Call:
    def both(wire: Wire) -> Any:
        call(wire)
        return call(wire)

    return both


def new_records(*changes: dict[str, Any]) -> Call:
    def call(wire: Wire) -> Any:
        records = [wire.new_record(5, **fields) for fields in changes]
        return wire.stub.CreateRecords(records_pb2.CreateRecordsRequest(records=records))

    return call


def ring(*points: tuple[float, float]) -> Call:
    area = records_pb2.AOI(
        polygons=[
            records_pb2.Polygon(
                linearrings=[records_pb2.LinearRing(points=[records_pb2.Coord(lon=x, lat=y) for x, y in points])]
            )
        ]
    )
    return lambda wire: wire.stub.CreateAOI(records_pb2.CreateAOIRequest(aoi=area if points else records_pb2.AOI()))


def variable(**changes: Any) -> Call:
    return lambda wire: wire.stub.CreateVariable(wire.new_variable("other", **changes))


def instance(**changes: Any) -> Call:
    def call(wire: Wire) -> Any:
        fields = {"variable_id": wire.variable, "instance_name": "other"} | changes
        return wire.stub.InstantiateVariable(variables_pb2.InstantiateVariableRequest(**fields))

    return call


def layout(**changes: Any) -> Call:
    return lambda wire: wire.stub.CreateLayout(wire.new_layout("other", **changes))


def index(**changes: Any) -> Call:
    def call(wire: Wire) -> Any:
        uri = changes.get("uri") or wire.write(np.full(SCENE.shape, 3, "int16"))
        fields = {key: value for key, value in changes.items() if key != "uri"}
        return wire.stub.IndexDatasets(wire.container(uri, wire.records[0], **fields))

    return call


def cube(**changes: Any) -> Call:
    return lambda wire: wire.stub.GetCube(wire.cube((wire.records[0],), **changes))


def consolidate(**changes: Any) -> Call:
    def call(wire: Wire) -> Any:
        assert wire.images
        wire.configure()
        return wire.stub.Consolidate(wire.consolidation(**changes))

    return call


def unconfigured(wire: Wire) -> Any:
    assert wire.images
    return wire.stub.Consolidate(wire.consolidation())


def of_another_record(wire: Wire) -> Any:
    uri = wire.write(np.full(SCENE.shape, 3, "int16"))
    wire.stub.IndexDatasets(wire.container(uri, wire.records[0]))
    return wire.stub.IndexDatasets(wire.container(uri, wire.records[1]))


def of_another_mapping(wire: Wire) -> Any:
    uri = wire.write(np.full(SCENE.shape, 3, "int16"))
    wire.stub.IndexDatasets(wire.container(uri, wire.records[0]))
    return wire.stub.IndexDatasets(wire.container(uri, wire.records[0], exponent=2))


def too_large(wire: Wire) -> Any:
    return wire.stub.GetRecords(records_pb2.GetRecordsRequest(ids=[UNKNOWN_ID] * 120_000))


BAD_FORMAT = values_pb2.DataFormat(dtype=values_pb2.DataFormat.Int16, no_data=-1, min_value=5, max_value=5)
NO_TYPE = values_pb2.DataFormat(no_data=-1, min_value=0, max_value=5)
SINGULAR = values_pb2.GeoTransform(a=400000, b=0, c=0, d=5600000, e=0, f=0)

REFUSED: dict[str, tuple[Call, grpc.StatusCode, str]] = {
    "the same area again": (
        twice(lambda wire: wire.stub.CreateAOI(records_pb2.CreateAOIRequest(aoi=wire.area))),
        CODES.ALREADY_EXISTS,
        r"AOI with id: [0-9a-f-]{36}",
    ),
    "an empty area": (ring(), CODES.INVALID_ARGUMENT, "AOI must not be empty"),
    "an unknown area": (
        lambda wire: wire.stub.GetAOI(records_pb2.GetAOIRequest(id=UNKNOWN_ID)),
        CODES.NOT_FOUND,
        f"AOI with id: {UNKNOWN_ID}",
    ),
    "an invalid id of an area": (
        lambda wire: wire.stub.GetAOI(records_pb2.GetAOIRequest(id="abc")),
        CODES.INVALID_ARGUMENT,
        "abc: invalid UUID length: 3",
    ),
    "the same record again": (
        twice(new_records({})),
        CODES.ALREADY_EXISTS,
        r'Record with : .*-r5, "orbit"=>"37", 2021-01-06 00:00:00',
    ),
    "a record's bad name": (new_records({"name": "a b"}), CODES.INVALID_ARGUMENT, "Invalid Name: a b"),
    "a record of an unknown area": (new_records({"aoi_id": UNKNOWN_ID}), CODES.NOT_FOUND, UNKNOWN_ID),
    "an unknown record": (
        lambda wire: wire.stub.GetRecords(records_pb2.GetRecordsRequest(ids=[UNKNOWN_ID])),
        CODES.NOT_FOUND,
        UNKNOWN_ID,
    ),
    "a variable of no bands": (variable(bands=[]), CODES.INVALID_ARGUMENT, ""),
    "a variable of no range": (variable(dformat=BAD_FORMAT), CODES.INVALID_ARGUMENT, ""),
    "a variable of no resampling": (variable(resampling_alg=0), CODES.INVALID_ARGUMENT, ""),
    "a variable of a bad name": (variable(name="Köln"), CODES.INVALID_ARGUMENT, "name: Köln"),
    "a variable of an unknown palette": (variable(palette="nope"), CODES.UNKNOWN, ""),
    "a variable of no data type": (variable(dformat=NO_TYPE), CODES.UNKNOWN, ""),
    "the same variable again": (twice(variable()), CODES.ALREADY_EXISTS, "Variable with name: .*-other"),
    "an unknown variable": (
        lambda wire: wire.stub.GetVariable(variables_pb2.GetVariableRequest(name="nope")),
        CODES.NOT_FOUND,
        "Variable with name: nope",
    ),
    "an unknown id of a variable": (
        lambda wire: wire.stub.GetVariable(variables_pb2.GetVariableRequest(id=UNKNOWN_ID)),
        CODES.NOT_FOUND,
        UNKNOWN_ID,
    ),
    "an unknown instance": (
        lambda wire: wire.stub.GetVariable(variables_pb2.GetVariableRequest(instance_id=UNKNOWN_ID)),
        CODES.NOT_FOUND,
        UNKNOWN_ID,
    ),
    "the same instance again": (twice(instance()), CODES.ALREADY_EXISTS, "Instance with name: .*-v:other"),
    "an instance of an unknown variable": (instance(variable_id=UNKNOWN_ID), CODES.NOT_FOUND, UNKNOWN_ID),
    "an instance of a bad name": (instance(instance_name="a b"), CODES.INVALID_ARGUMENT, "Invalid Name: a b"),
    "the same layout again": (twice(layout()), CODES.ALREADY_EXISTS, "Layout with name: .*-other"),
    "a layout of no block": (layout(block_x_size=0), CODES.INVALID_ARGUMENT, ""),
    "a layout of no records": (layout(max_records=0), CODES.INVALID_ARGUMENT, ""),
    "a layout of a bad pattern": (layout(interlacing_pattern="R>Q"), CODES.INVALID_ARGUMENT, ""),
    "a layout of a bad name": (layout(name="a.b"), CODES.INVALID_ARGUMENT, r"name: a\.b"),
    "an unknown layout": (
        lambda wire: wire.stub.TileAOI(layouts_pb2.TileAOIRequest(aoi=wire.area, layout_name="nope")),
        CODES.NOT_FOUND,
        "Layout with name: nope",
    ),
    "a file that is not there": (index(uri="/nope/x.tif"), CODES.INVALID_ARGUMENT, "/nope/x.tif cannot be opened"),
    "a dataset of an unknown record": (index(record_id=UNKNOWN_ID), CODES.NOT_FOUND, UNKNOWN_ID),
    "a dataset of an unknown instance": (index(instance_id=UNKNOWN_ID), CODES.NOT_FOUND, UNKNOWN_ID),
    "a dataset of a band that is not there": (index(bands=[2]), CODES.INVALID_ARGUMENT, "has no band: 2"),
    "a dataset of too many bands": (index(bands=[1, 1]), CODES.INVALID_ARGUMENT, ""),
    "a dataset of no exponent": (index(exponent=0), CODES.INVALID_ARGUMENT, ""),
    "a dataset of no range": (index(dformat=BAD_FORMAT), CODES.INVALID_ARGUMENT, ""),
    "a container of another record": (of_another_record, CODES.ALREADY_EXISTS, "of another record"),
    "a container of another mapping": (of_another_mapping, CODES.ALREADY_EXISTS, "with another datamapping"),
    "an unknown container": (
        lambda wire: wire.stub.GetContainers(datasets_pb2.GetContainersRequest(uris=["/nope.tif"])),
        CODES.NOT_FOUND,
        "Container with uri: /nope.tif",
    ),
    "a cube of an unknown instance": (cube(instances_id=[UNKNOWN_ID]), CODES.NOT_FOUND, UNKNOWN_ID),
    "a cube of no instance": (cube(instances_id=[]), CODES.INVALID_ARGUMENT, "At least one instance must be provided"),
    "a cube of no records": (
        cube(grouped_records=records_pb2.GroupedRecordIdsList()),
        CODES.INVALID_ARGUMENT,
        "At least one record must be provided",
    ),
    "a cube in no crs": (cube(crs="EPSG:999999"), CODES.INVALID_ARGUMENT, "Invalid crs: EPSG:999999"),
    "a cube of no pixels": (cube(size=values_pb2.Size()), CODES.INVALID_ARGUMENT, "Invalid shape: 0x0"),
    "a cube on no grid": (
        cube(pix_to_crs=SINGULAR),
        CODES.INVALID_ARGUMENT,
        "Invalid pixToCRS transform: not invertible",
    ),
    "a cube of a bad level": (
        cube(compression_level=10),
        CODES.INVALID_ARGUMENT,
        r"CompressionLevel must be in \[-3, 9\]",
    ),
    "a consolidation without parameters": (unconfigured, CODES.NOT_FOUND, "ConsolidationParams with id: "),
    "a consolidation at once": (consolidate(execution_level=0), CODES.INVALID_ARGUMENT, ""),
    "a consolidation of no records": (
        consolidate(records=records_pb2.RecordIdList()),
        CODES.INVALID_ARGUMENT,
        "",
    ),
    "a consolidation of unknown records": (
        consolidate(records=records_pb2.RecordIdList(ids=[UNKNOWN_ID])),
        CODES.NOT_FOUND,
        "No dataset found for these records and instances",
    ),
    "an unknown job": (
        lambda wire: wire.stub.GetJob(jobs_pb2.GetJobRequest(id=UNKNOWN_ID)),
        CODES.NOT_FOUND,
        f"Job with id: {UNKNOWN_ID}",
    ),
    "a request beyond 4 MiB": (too_large, CODES.RESOURCE_EXHAUSTED, r"\d+ vs. 4194304"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refusals(wire: Wire, what: str) -> None:
    call, code, message = REFUSED[what]
    error = refusal_of(call, wire)
    assert error.code() is code, error.details()
    assert re.search(message, str(error.details())), error.details()


def test_a_duplicate_area_is_named_in_the_details(wire: Wire) -> None:
    identity = wire.area_id
    error = refusal_of(lambda wire: wire.stub.CreateAOI(records_pb2.CreateAOIRequest(aoi=wire.area)), wire)
    status = rpc_status.from_call(cast(grpc.Call, error))
    assert status is not None
    info = error_details_pb2.ResourceInfo()
    assert [detail.Unpack(info) for detail in status.details] == [True]
    assert info.resource_name == identity
    assert str(error.details()).split()[-1] == identity


def test_the_version(wire: Wire) -> None:
    assert re.match(r"\d+\.\d+\.\d+", wire.stub.Version(services_pb2.GetVersionRequest()).Version)


def test_an_area_comes_back(wire: Wire) -> None:
    found = wire.stub.GetAOI(records_pb2.GetAOIRequest(id=wire.area_id)).aoi
    assert [list(polygon.linearrings[0].points) for polygon in found.polygons] == [
        list(polygon.linearrings[0].points) for polygon in wire.area.polygons
    ]
    assert area_from_message(found)["type"] == "Polygon"


def test_a_refused_batch_creates_no_records(wire: Wire) -> None:
    refusal_of(new_records({"name": wire.name("new")}, {"name": "a b"}), wire)
    listed = wire.stub.ListRecords(records_pb2.ListRecordsRequest(name=wire.name("*")))
    assert list(listed) == []
    assert list(wire.stub.CreateRecords(records_pb2.CreateRecordsRequest()).ids) == []


def test_containers_come_back(wire: Wire) -> None:
    uri = wire.write(np.full(SCENE.shape, 3, "int16"))
    request = wire.container(uri, wire.records[0])
    for _ in range(2):
        wire.stub.IndexDatasets(request)
    (found,) = wire.stub.GetContainers(datasets_pb2.GetContainersRequest(uris=[uri])).containers
    assert (found.uri, found.managed) == (uri, False)
    assert list(found.datasets) == list(request.container.datasets)


def test_tiles_come_in_messages_of_a_thousand(wire: Wire) -> None:
    area = area_to_message(box(7, 50, 7.5, 50.4))
    answers = list(wire.stub.TileAOI(layouts_pb2.TileAOIRequest(aoi=area, layout_name=wire.layout)))
    counts = [len(answer.tiles) for answer in answers]
    assert sum(counts) > 1000
    assert counts[:-1] == [1000] * (len(counts) - 1)
    tile = answers[0].tiles[0]
    assert CRS.from_user_input(tile.crs) == CRS.from_epsg(32632)
    assert (tile.size_px.width, tile.size_px.height) == (64, 64)
    assert (tile.transform.b, tile.transform.f) == (20, -20)


def test_layouts_come_back_as_they_were_given(wire: Wire) -> None:
    request = wire.new_layout()
    wire.stub.CreateLayout(request)
    (found,) = wire.stub.ListLayouts(layouts_pb2.ListLayoutsRequest(name_like=wire.name("*"))).layouts
    assert found == request.layout


def test_parameters_of_consolidation_are_kept_and_replaced(wire: Wire) -> None:
    asked = jobs_pb2.GetConsolidationParamsRequest(variable_id=wire.variable)
    error = refusal_of(lambda wire: wire.stub.GetConsolidationParams(asked), wire)
    assert error.code() is CODES.NOT_FOUND
    for compression in (jobs_pb2.ConsolidationParams.LOSSLESS, jobs_pb2.ConsolidationParams.NO):
        params = jobs_pb2.ConsolidationParams(
            dformat=INT16, exponent=1, resampling_alg=values_pb2.CUBIC, compression=compression
        )
        wire.stub.ConfigConsolidation(
            jobs_pb2.ConfigConsolidationRequest(variable_id=wire.variable, consolidation_params=params)
        )
        found = wire.stub.GetConsolidationParams(asked).consolidation_params
        found.creation_params.clear()  # a server may spell out what the compression means to GDAL
        assert found == params
