"""Records, layouts and variables: created once, even with concurrent clients, and with acd's own ids."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acdtask.cube.geocube.connection import Connection
from acdtask.cube.geocube.cube import GeocubeCube
from acdtask.cube.geocube.layouts import layout_of
from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import Addition, Instance, Record, RecordQuery, Variable
from acdtask.cube.protocol.convert import layout_to_message
from acdtask.cube.protocol.layouts_pb2 import Layout as LayoutMessage
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.data_format import DataFormat
from acdtask.raster.grid import Layout, RegularGrid, WebMercatorGrid
from tests.cube.builders import COHERENCE
from tests.cube.geocube.scripted import Code, Fault, Scripted, record_of
from tests.serve.conftest import serving


def test_the_id_of_an_existing_area_is_read_from_the_details(world: Scripted, cube: GeocubeCube) -> None:
    """The text of the message contains a different id."""
    known = "11111111-2222-3333-4444-555555555555"
    message = "AOI with id: 99999999-9999-9999-9999-999999999999"
    world.faults["CreateAOI"] = deque([Fault(Code.ALREADY_EXISTS, message, ("AOI", known))])
    assert cube.commit(Addition([record_of(0)])) is True
    assert world.calls["CreateRecords"][0].records[0].aoi_id == known


def test_records_share_an_area(world: Scripted, cube: GeocubeCube) -> None:
    cube.commit(Addition([record_of(number) for number in range(20)]))
    assert len(world.calls["CreateAOI"]) == 1


def test_records_are_created_in_requests_below_4_mib(world: Scripted, cube: GeocubeCube) -> None:
    long = {"remark": "x" * 50_000}
    records = [record_of(number).model_copy(update={"tags": long}) for number in range(200)]
    assert cube.commit(Addition(records)) is True
    sizes = [call.ByteSize() for call in world.calls["CreateRecords"]]
    assert len(sizes) > 2
    assert max(sizes) < 4 * 1024 * 1024
    assert [record.name for call in world.calls["CreateRecords"] for record in call.records] == [
        record.name for record in records
    ]
    assert GeocubeCube(world.connection()).commit(Addition(records)) is False


def test_only_missing_records_are_created(world: Scripted, cube: GeocubeCube) -> None:
    cube.commit(Addition([record_of(1), record_of(3)]))
    other = GeocubeCube(world.connection())
    assert other.commit(Addition([record_of(number) for number in range(5)])) is True
    assert [record.name for record in world.calls["CreateRecords"][1].records] == ["S1/000", "S1/002", "S1/004"]
    assert other.commit(Addition([record_of(number) for number in range(5)])) is False
    assert len(world.calls["CreateRecords"]) == 2


def test_a_lost_reply_does_no_harm(world: Scripted, cube: GeocubeCube) -> None:
    world.faults["CreateRecords"] = deque([Fault(processed=True)])
    cube.commit(Addition([record_of(number) for number in range(3)]))
    assert len(world.records) == 3
    assert [record.name for record in cube.records(RecordQuery())] == ["S1/000", "S1/001", "S1/002"]


def test_many_clients_create_the_same_records_concurrently(tmp_path: Path) -> None:
    """On a real server, whose batches are all or nothing."""
    records = [record_of(number) for number in range(30)]
    with serving(LocalCube.create(str(tmp_path / "cube"))) as server:
        connection = Connection.to(server.address, first_pause=0.01)
        failures: list[AcdError] = []

        def work(start: int) -> None:
            try:
                GeocubeCube(connection).commit(Addition(records[start : start + 20]))
            except AcdError as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(start,)) for start in (0, 5, 10, 0)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert GeocubeCube(connection).records(RecordQuery()) == records


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"name": "Köln"}, ErrorCode.NAME_INVALID, "'Köln'.* letters without accents"),
        ({"name": "a.b"}, ErrorCode.NAME_INVALID, "'a.b'"),
        ({"tags": {"orbit": "3*"}}, ErrorCode.SETTING_INVALID, "orbit=3"),
        ({"footprint": {}}, ErrorCode.AOI_EMPTY, "S1/000"),
        ({"footprint": {"type": "Point", "coordinates": [7, 50]}}, ErrorCode.AOI_EMPTY, "S1/000"),
        (
            {"footprint": {"type": "Polygon", "coordinates": [[[7, 50], [8, 50], [7, 50]]]}},
            ErrorCode.AOI_INVALID,
            "S1/000",
        ),
        (
            {"footprint": {"type": "Polygon", "coordinates": [[[7, 50], [188, 50], [8, 51], [7, 50]]]}},
            ErrorCode.AOI_INVALID,
            "S1/000",
        ),
    ],
)
def test_invalid_records_are_refused_without_a_call(
    world: Scripted, cube: GeocubeCube, change: dict[str, object], code: ErrorCode, message: str
) -> None:
    good, bad = record_of(1), record_of(0).model_copy(update=change)
    with pytest.raises(AcdError, match=message) as error:
        cube.commit(Addition([good, bad]))
    assert error.value.code is code
    assert world.calls["CreateRecords"] == world.calls["CreateAOI"] == []


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GeocubeCube]:
    with serving(LocalCube.create(str(tmp_path / "cube"))) as running:
        yield GeocubeCube(Connection.to(running.address, first_pause=0.01))


def test_all_names_are_checked_with_the_same_rule(cube: GeocubeCube) -> None:
    spoilt = COHERENCE.model_copy(update={"name": "Kohärenz"})
    grid = RegularGrid(crs="EPSG:32632", resolution=20, cell_size=64)
    refused: list[Callable[[], None]] = [
        lambda: cube.add_variable(spoilt),
        lambda: cube.add_instance(Instance(variable="v", name="annual/2021")),
        lambda: cube.add_layout(Layout(name="EPSG:32632_20.5m", grid=grid)),
    ]
    for refuse in refused:
        with pytest.raises(AcdError, match=r"which Geocube refuses.*letters without accents") as error:
            refuse()
        assert error.value.code is ErrorCode.NAME_INVALID


def test_differences_are_named(server: GeocubeCube) -> None:
    server.add_variable(COHERENCE)
    other = COHERENCE.model_copy(update={"unit": "dB", "resampling": "nearest", "scale": 0.5})
    with pytest.raises(AcdError, match=r"unit  instead of dB; resampling bilinear instead of nearest; scale 0.001"):
        server.add_variable(other)


def test_a_scale_is_stored_on_the_server(server: GeocubeCube) -> None:
    server.add_variable(COHERENCE)
    assert GeocubeCube(server.connection).variable("CoherenceVV") == COHERENCE
    assert server.instances("CoherenceVV") == []
    server.add_instance(Instance(variable="CoherenceVV", name="master", metadata={"by": "acd"}))
    other = GeocubeCube(server.connection)
    assert other.instances("CoherenceVV") == [Instance(variable="CoherenceVV", name="master", metadata={"by": "acd"})]
    assert other.variable("CoherenceVV").scale == 0.001


def test_64_bit_integers_are_refused_before_anything_is_created(world: Scripted, cube: GeocubeCube) -> None:
    moments = Variable(name="m", dformat=DataFormat(dtype="int64", nodata=-1, min=0, max=9))
    with pytest.raises(AcdError, match="variable m has the data type int64") as error:
        cube.commit(Addition([record_of(0)], variables=[COHERENCE, moments]))
    assert error.value.code is ErrorCode.SETTING_INVALID
    assert world.calls == {}


@given(
    grid=st.one_of(
        st.builds(
            RegularGrid,
            crs=st.sampled_from(["EPSG:32632", "EPSG:3857", "EPSG:4326"]),
            resolution=st.floats(1e-6, 1e5),
            cell_size=st.integers(1, 65536),
            ox=st.floats(-1e8, 1e8),
            oy=st.floats(-1e8, 1e8),
        ),
        st.builds(WebMercatorGrid, zoom=st.integers(0, 24), scale=st.sampled_from([1, 2, 4, 8, 16])),
    )
)
def test_a_layout_survives_a_round_trip(grid: RegularGrid | WebMercatorGrid) -> None:
    layout = Layout(name="l", grid=grid)
    assert layout_of(LayoutMessage.FromString(layout_to_message(layout).SerializeToString())) == layout


def test_unsupported_layouts_are_not_listed(world: Scripted, cube: GeocubeCube) -> None:
    for name, parameters in {
        "good": {"grid": "regular", "crs": "epsg:32632", "resolution": "20.0", "cell_size": "256"},
        "wide": {"grid": "regular", "crs": "epsg:32632", "resolution": "20", "cell_x_size": "1", "cell_y_size": "2"},
        "cells": {"grid": "singlecell", "crs": "epsg:32632", "resolution": "20"},
        "none": {},
    }.items():
        world.layouts[name] = LayoutMessage(name=name, grid_parameters=parameters)
    assert [layout.name for layout in cube.layouts()] == ["good"]
    for name in ("wide", "cells", "none"):
        with pytest.raises(AcdError, match=name) as error:
            cube.layout(name)
        assert error.value.code is ErrorCode.LAYOUT_INVALID
    with pytest.raises(AcdError, match="cell_size 256 instead of 512"):
        cube.add_layout(Layout(name="good", grid=RegularGrid(crs="EPSG:32632", resolution=20, cell_size=512)))


def test_a_record_has_the_same_id_in_every_kind_of_cube(world: Scripted, cube: GeocubeCube) -> None:
    record = Record(
        name="S1", datetime=record_of(0).datetime, tags={"b": "2", "a": "1"}, footprint=record_of(0).footprint
    )
    cube.commit(Addition([record]))
    (listed,) = GeocubeCube(world.connection()).records(RecordQuery())
    assert listed.id == record.id
    assert next(iter(world.records)) != record.id
