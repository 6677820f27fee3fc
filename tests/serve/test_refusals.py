"""All refusals observed on a Geocube 1.0.3: code, message, and details for programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from acdtask.cube.protocol import layouts_pb2, records_pb2, values_pb2, variables_pb2
from acdtask.cube.protocol.services_pb2_grpc import GeocubeStub
from tests.serve.requests import (
    NOBODY,
    SQUARE,
    Refused,
    area,
    create_layout,
    create_records,
    create_variable,
    instantiate,
    int16,
    layout,
    list_records,
    new_aoi,
    new_record,
    refusal,
)

Call = Callable[[GeocubeStub], Any]
BAD, GONE, TWICE, DATABASE = "INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "UNKNOWN"


def twice(call: Call) -> Call:
    def both(stub: GeocubeStub) -> Any:
        call(stub)
        return call(stub)

    return both


def instance_of_new(stub: GeocubeStub) -> Any:
    identity = create_variable(stub)
    instantiate(stub, identity)
    return instantiate(stub, identity)


def get_aoi(identity: str) -> Call:
    return lambda stub: stub.GetAOI(records_pb2.GetAOIRequest(id=identity))


def get_variable(**fields: str) -> Call:
    return lambda stub: stub.GetVariable(variables_pb2.GetVariableRequest(**fields))


def get_records(*ids: str) -> Call:
    return lambda stub: stub.GetRecords(records_pb2.GetRecordsRequest(ids=ids))


def make_aoi(aoi: records_pb2.AOI) -> Call:
    return lambda stub: stub.CreateAOI(records_pb2.CreateAOIRequest(aoi=aoi))


def make_record(**changes: Any) -> Call:
    return lambda stub: create_records(stub, new_record(new_aoi(stub), **changes))


def make_variable(**changes: Any) -> Call:
    return lambda stub: create_variable(stub, **changes)


def make_layout(**changes: Any) -> Call:
    return lambda stub: create_layout(stub, layout(**changes))


def tile(**fields: Any) -> Call:
    return lambda stub: stub.TileAOI(layouts_pb2.TileAOIRequest(aoi=area(SQUARE), **fields))


def duplicate_records(stub: GeocubeStub) -> Any:
    aoi = new_aoi(stub)
    create_records(stub, new_record(aoi))
    return create_records(stub, new_record(aoi, name="S2"), new_record(aoi))


DUPLICATE = 'S1, "k"=>"v", 2021-01-01 00:00:00'

OBSERVED: list[tuple[str, Call, Refused]] = [
    ("record twice", duplicate_records, Refused(TWICE, f"Record with : {DUPLICATE}", "Record", DUPLICATE)),
    (
        "variable twice",
        twice(create_variable),
        Refused(TWICE, "Variable with name: CoherenceVV", "Variable", "CoherenceVV"),
    ),
    (
        "instance twice",
        instance_of_new,
        Refused(TWICE, "Instance with name: CoherenceVV:master", "Instance", "CoherenceVV:master"),
    ),
    ("layout twice", twice(make_layout()), Refused(TWICE, "Layout with name: utm", "Layout", "utm")),
    ("unknown variable", get_variable(name="nope"), Refused(GONE, "Variable with name: nope", "Variable", "nope")),
    ("unknown id", get_variable(id=NOBODY), Refused(GONE, f"Variable with id: {NOBODY}", "Variable", NOBODY)),
    (
        "unknown instance",
        get_variable(instance_id=NOBODY),
        Refused(GONE, f"Variable Instance with id: {NOBODY}", "Variable Instance", NOBODY),
    ),
    ("unknown AOI", get_aoi(NOBODY), Refused(GONE, f"AOI with id: {NOBODY}", "AOI", NOBODY)),
    ("unknown record", get_records(NOBODY), Refused(GONE, f"Record with id: {NOBODY}", "Record", NOBODY)),
    (
        "record of no AOI",
        lambda stub: create_records(stub, new_record(NOBODY)),
        Refused(GONE, f"AOI with id: {NOBODY}", "AOI", NOBODY),
    ),
    ("unknown layout", tile(layout_name="nope"), Refused(GONE, "Layout with name: nope", "Layout", "nope")),
    ("malformed AOI", get_aoi("abc"), Refused(BAD, "Invalid AOI.uuid abc: invalid UUID length: 3")),
    ("malformed id", get_variable(id="abc"), Refused(BAD, "Invalid uuid: invalid UUID length: 3")),
    ("malformed UUID", get_records("x" * 36), Refused(BAD, "Invalid uuid: invalid UUID format")),
    (
        "malformed AOI of a record",
        lambda stub: create_records(stub, new_record("abc")),
        Refused(BAD, "Invalid AOI uuid: abc"),
    ),
    ("space in a name", make_record(name="a b"), Refused(BAD, "Invalid Name: a b")),
    ("dot in a name", make_record(name="a.b"), Refused(BAD, "Invalid Name: a.b")),
    ("umlaut in a name", make_record(name="Köln"), Refused(BAD, "Invalid Name: Köln")),
    ("newline after a name", make_record(name="a\n"), Refused(BAD, "Invalid Name: a\n")),
    ("no name", make_record(name=""), Refused(BAD, "Invalid Name: ")),
    (
        "pattern in a tag",
        make_record(tags={"k": "v*"}),
        Refused(BAD, "Invalid Tag: k: v*. Cannot contain neither ? or *."),
    ),
    ("no time", make_record(time=None), Refused(BAD, "Invalid time: invalid nil Timestamp")),
    ("name of a variable", make_variable(name="a b"), Refused(BAD, "Incorrect name: a b")),
    (
        "name of an instance",
        lambda stub: instantiate(stub, create_variable(stub), "a/b"),
        Refused(BAD, "Invalid Name: a/b"),
    ),
    ("name of a layout", make_layout(name="EPSG:32632_20.5m"), Refused(BAD, "invalid name: EPSG:32632_20.5m")),
    ("empty AOI", make_aoi(records_pb2.AOI()), Refused(BAD, "AOI must not be empty")),
    ("AOI of nothing", make_aoi(area(())), Refused(BAD, "AOI must not be empty")),
    (
        "ring of three points",
        make_aoi(area(SQUARE[:3])),
        Refused(DATABASE, "Polygon must have at least four points in each ring"),
    ),
    (
        "coordinates of no map",
        make_aoi(area(((700, 50), *SQUARE[1:4], (700, 50)))),
        Refused(BAD, "Coordinates must be geographic (lon in [-180,180], lat in [-90,90])"),
    ),
    (
        "not a number",
        make_aoi(area(((float("nan"), 50), *SQUARE[1:]))),
        Refused(BAD, "Coordinates must be geographic (lon in [-180,180], lat in [-90,90])"),
    ),
    ("variable of no band", make_variable(bands=[]), Refused(BAD, "Bands definition must have at least one band")),
    (
        "range of nothing",
        make_variable(dformat=int16(5, 5)),
        Refused(BAD, "Incorrect data format: min must be stricly lower than max"),
    ),
    (
        "range beyond the type",
        make_variable(dformat=int16(0, 40000)),
        Refused(BAD, "Incorrect data format: min/max value are out of bounds [-32768.000000, 32767.000000]"),
    ),
    ("no kernel", make_variable(resampling_alg=0), Refused(BAD, "Resampling algorithm cannot be undefined")),
    (
        "no data type",
        make_variable(dformat=values_pb2.DataFormat(max_value=1)),
        Refused(DATABASE, "Incorrect data format: the data type is not defined"),
    ),
    (
        "no such palette",
        make_variable(palette="nope"),
        Refused(DATABASE, "Palette with name: nope does not exist"),
    ),
    ("band without a name", make_variable(bands=["a", ""]), Refused(BAD, "Band name cannot be empty")),
    (
        "palette of two bands",
        make_variable(bands=["a", "b"], palette="p"),
        Refused(BAD, "Cannot define a palette to a multi-bands variable"),
    ),
    ("no variable request for", get_variable(), Refused(BAD, "GetVariable: all parameters are empty")),
    ("no blocks", make_layout(block_x_size=0), Refused(BAD, "blocksize must be positive")),
    ("no records", make_layout(max_records=0), Refused(BAD, "maxRecords must be positive")),
    (
        "short pattern",
        make_layout(interlacing_pattern="R>B"),
        Refused(BAD, "InterlacingPattern is incorrect: R>B must have four level of iterations, got 2"),
    ),
    (
        "pattern with T before Z",
        make_layout(interlacing_pattern="T>Z>R>B"),
        Refused(BAD, "InterlacingPattern is incorrect: T cannot be defined before Z"),
    ),
    (
        "area beyond the world",
        lambda stub: list_records(stub, aoi=area(((0, 0), (0, 99), (1, 99), (0, 0)))),
        Refused(BAD, "Coordinates must be geographic (lon in [-180,180], lat in [-90,90])"),
    ),
]


@pytest.mark.parametrize(("call", "expected"), [row[1:] for row in OBSERVED], ids=[row[0] for row in OBSERVED])
def test_a_call_is_refused_as_by_a_geocube(stub: GeocubeStub, call: Call, expected: Refused) -> None:
    assert refusal(lambda: call(stub)) == expected


def test_the_id_of_an_existing_area_is_the_last_word_and_in_the_details(stub: GeocubeStub) -> None:
    identity = new_aoi(stub)
    assert refusal(lambda: new_aoi(stub)) == Refused(TWICE, f"AOI with id: {identity}", "AOI", identity)


OBLONG = {"grid": "regular", "crs": "EPSG:32632", "resolution": "20", "cell_x_size": "10", "cell_y_size": "20"}

OURS: list[tuple[str, Call, str]] = [
    (
        "tags",
        lambda s: s.AddRecordsTags(records_pb2.AddRecordsTagsRequest(ids=[NOBODY], tags={"a": "b"})),
        "record's id",
    ),
    ("no tags", lambda s: s.RemoveRecordsTags(records_pb2.RemoveRecordsTagsRequest(ids=[NOBODY])), "record's id"),
    (
        "data type",
        make_variable(dformat=values_pb2.DataFormat(dtype=values_pb2.DataFormat.UInt32, max_value=1)),
        "does not support the data type UInt32",
    ),
    ("nodata", make_variable(dformat=int16(nodata=float("nan"))), "requires a nodata value for int16"),
    ("one cell", make_layout(parameters={"grid": "singlecell"}), "only regular grids, not 'singlecell'"),
    ("oblong cells", tile(layout=layout("", grid_parameters=OBLONG)), "square cells"),
    ("grids", lambda s: s.CreateGrid(iter([layouts_pb2.CreateGridRequest()])), "only regular grids"),
    ("no grids", lambda s: s.DeleteGrid(layouts_pb2.DeleteGridRequest(name="x")), "only regular grids"),
]


@pytest.mark.parametrize(("call", "why"), [row[1:] for row in OURS], ids=[row[0] for row in OURS])
def test_unsupported_requests_are_refused_with_the_reason(stub: GeocubeStub, call: Call, why: str) -> None:
    refused = refusal(lambda: call(stub))
    assert refused.code == "UNIMPLEMENTED"
    assert why in refused.message


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ({"grid": ""}, "missing 'grid'"),
        ({"crs": "EPSG:999999"}, "invalid RegularGrid: CRS"),
        ({"crs": ""}, "invalid RegularGrid: CRS"),
        ({"resolution": "-1"}, "'resolution'"),
        ({"resolution": "nan"}, "'resolution'"),
        ({"cell_size": "65537"}, "CellSize"),
        ({"cell_size": "ten"}, "CellSize"),
        ({"ox": "east"}, "'ox'"),
    ],
)
def test_an_invalid_layout_is_refused_when_it_is_created(
    stub: GeocubeStub, parameters: dict[str, str], why: str
) -> None:
    refused = refusal(lambda: create_layout(stub, layout(parameters=parameters)))
    assert refused.code == "INVALID_ARGUMENT"
    assert why in refused.message


def test_a_refused_call_changes_nothing(stub: GeocubeStub) -> None:
    aoi = new_aoi(stub)
    create_records(stub, new_record(aoi))
    refusal(lambda: create_records(stub, new_record(aoi, name="fresh"), new_record(aoi)))
    refusal(lambda: create_records(stub, new_record(aoi, name="fresh"), new_record(aoi, name="fresh")))
    assert [record.name for record in list_records(stub)] == ["S1"]


def test_a_request_that_is_too_large_is_refused(stub: GeocubeStub) -> None:
    ring = [(index % 90 + 0.5, index % 45 + 0.5) for index in range(450_000)]
    refused = refusal(lambda: new_aoi(stub, [*ring, ring[0]]))
    assert refused.code == "RESOURCE_EXHAUSTED"
    assert "eceived message larger than max (" in refused.message
    assert " vs. 4194304)" in refused.message
