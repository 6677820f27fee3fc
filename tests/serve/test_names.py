"""Names over the limit are an invalid argument of all calls that create, change or remove something."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import StringValue

from acdtask.cube.model import NAME_BYTES, RECORD_NAME_BYTES
from acdtask.cube.protocol import layouts_pb2, variables_pb2
from acdtask.cube.protocol.services_pb2_grpc import GeocubeStub
from tests.serve.requests import (
    SQUARE,
    area,
    create_layout,
    create_records,
    create_variable,
    instantiate,
    layout,
    new_aoi,
    new_record,
    refusal,
)

Call = Callable[[GeocubeStub, str], Any]
RAMP = [variables_pb2.colorPoint(value=0, a=255), variables_pb2.colorPoint(value=1, r=255, a=255)]


def record_in_new_area(stub: GeocubeStub, name: str) -> Any:
    corner = (8.0, 50 + len(name) / 10_000)
    return create_records(stub, new_record(new_aoi(stub, ((7.0, 50.0), (8.0, 50.0), corner, (7.0, 50.0))), name))


def create_palette(stub: GeocubeStub, name: str) -> Any:
    return stub.CreatePalette(variables_pb2.CreatePaletteRequest(palette=variables_pb2.Palette(name=name, colors=RAMP)))


def delete_layout(stub: GeocubeStub, name: str) -> Any:
    return stub.DeleteLayout(layouts_pb2.DeleteLayoutRequest(name=name))


def tile_on(stub: GeocubeStub, name: str) -> Any:
    return list(stub.TileAOI(layouts_pb2.TileAOIRequest(aoi=area(SQUARE), layout=layout(name))))


CALLS: list[tuple[str, Call, int]] = [
    ("CreateVariable", lambda stub, name: create_variable(stub, name), NAME_BYTES),
    (
        "InstantiateVariable",
        lambda stub, name: instantiate(stub, create_variable(stub, f"of{len(name)}"), name),
        NAME_BYTES,
    ),
    ("CreateRecords", record_in_new_area, RECORD_NAME_BYTES),
    ("CreateLayout", lambda stub, name: create_layout(stub, layout(name)), NAME_BYTES),
    ("DeleteLayout", delete_layout, NAME_BYTES),
    ("TileAOI", tile_on, NAME_BYTES),
    ("CreatePalette", create_palette, NAME_BYTES),
]


@pytest.mark.parametrize(("call", "limit"), [case[1:] for case in CALLS], ids=[case[0] for case in CALLS])
def test_the_length_of_a_name_is_limited(stub: GeocubeStub, call: Call, limit: int) -> None:
    call(stub, "a" * limit)
    for size in {limit + 1, 256, 5000}:
        refused = refusal(partial(call, stub, "a" * size))
        assert refused.code == "INVALID_ARGUMENT", (size, refused)
        assert f"it has {size} bytes, more than {limit}" in refused.message


@pytest.mark.parametrize("name", ["a" * 201, "a" * 5000, "../x", "a//b", "\0"])
def test_an_invalid_palette_name_of_a_variable_is_refused(stub: GeocubeStub, name: str) -> None:
    identity = create_variable(stub)
    request = variables_pb2.UpdateVariableRequest(id=identity, palette=StringValue(value=name))
    assert refusal(lambda: stub.UpdateVariable(request)).code == "INVALID_ARGUMENT"
