"""Variables, instances, layouts and their cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import pytest
import shapely

from acdtask.cube.model import Addition, Instance, Variable
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.data_format import DataFormat, Resampling
from acdtask.raster.grid import Layout, RegularGrid, WebMercatorGrid
from acdtask.raster.tiling import tiles_of
from tests.cube.conformance.rooms import Room, dformat


def test_a_variable_comes_back_whole(room: Room) -> None:
    variable = Variable(
        name=room.name("CoherenceVV"),
        dformat=DataFormat(dtype="int16", nodata=-9999, min=0, max=1000),
        unit="1",
        description='Coherence of "VV" and VH, 0…1',
        bands=("VV", "VH"),
        resampling="cubic",
        scale=0.001,
    )
    room.cube.add_variable(variable)
    assert room.cube.variable(variable.name) == variable


def test_a_variable_of_every_data_type(room: Room) -> None:
    for dtype in ("uint8", "int16", "uint16", "int32", "float32", "float64"):
        variable = room.variable(f"v-{dtype}", dformat=dformat(dtype))
        assert room.cube.variable(variable.name).dformat == variable.dformat


@pytest.mark.needs("int64")
def test_a_variable_of_64_bit_integers(room: Room) -> None:
    variable = room.variable("v", dformat=dformat("int64"))
    assert room.cube.variable(variable.name) == variable


def test_nodata_may_be_nan(room: Room) -> None:
    variable = room.variable("v", dformat=dformat("float32", nodata=float("nan")))
    assert room.cube.variable(variable.name) == variable
    room.cube.add_variable(variable)


@pytest.mark.parametrize("resampling", get_args(Resampling))
def test_a_variable_of_every_resampling(room: Room, resampling: Resampling) -> None:
    variable = room.variable("v", resampling=resampling)
    assert room.cube.variable(variable.name).resampling == resampling


def test_the_same_variable_again_changes_nothing_and_another_is_refused(room: Room) -> None:
    variable = room.variable("v")
    assert room.cube.commit(Addition(variables=[variable])) is False
    changes: list[dict[str, Any]] = [
        {"dformat": dformat("int16")},
        {"bands": ("VV", "VH")},
        {"unit": "dB"},
        {"description": "another"},
        {"resampling": "nearest"},
    ]
    for change in changes:
        with pytest.raises(AcdError) as error:
            room.cube.add_variable(variable.model_copy(update=change))
        assert error.value.code is ErrorCode.VARIABLE_CONFLICT
        assert variable.name in error.value.detail
    assert room.cube.variable(variable.name) == variable


def test_variables_come_by_name(room: Room) -> None:
    for name in ("b", "a", "C"):
        room.variable(name)
    found = [variable.name for variable in room.cube.variables()]
    assert found == sorted(found)
    assert room.mine(found) == ["C", "a", "b"]


def test_an_unknown_variable_is_refused(room: Room) -> None:
    unknown = room.name("unknown")
    refused: list[Callable[[], object]] = [
        lambda: room.cube.variable(unknown),
        lambda: room.cube.instances(unknown),
        lambda: room.cube.add_instance(Instance(variable=unknown, name="master")),
        lambda: room.cube.datasets(unknown, "master"),
        lambda: room.cube.having(unknown, "master", []),
        lambda: list(room.cube.where(unknown, "master", [], [])),
    ]
    for refuse in refused:
        with pytest.raises(AcdError, match=unknown) as error:
            refuse()
        assert error.value.code is ErrorCode.VARIABLE_UNKNOWN


def test_an_unknown_instance_is_refused(room: Room) -> None:
    variable = room.variable()
    refused: list[Callable[[], object]] = [
        lambda: room.cube.datasets(variable.name, "unknown"),
        lambda: room.cube.having(variable.name, "unknown", []),
        lambda: list(room.cube.where(variable.name, "unknown", [], [])),
    ]
    for refuse in refused:
        with pytest.raises(AcdError, match="unknown") as error:
            refuse()
        assert error.value.code is ErrorCode.INSTANCE_UNKNOWN


def test_instances_come_by_name_with_their_metadata(room: Room) -> None:
    variable = room.variable()
    given = [
        Instance(variable=variable.name, name="master", metadata={"software": "acd 1", "place": "Köln"}),
        Instance(variable=variable.name, name="annual-2021"),
    ]
    assert room.cube.commit(Addition(instances=given)) is True
    assert room.cube.instances(variable.name) == given[::-1]
    assert room.cube.commit(Addition(instances=given)) is False
    room.cube.add_instance(given[1])
    assert room.cube.instances(variable.name) == given[::-1]


@pytest.mark.needs("slashes")
def test_an_instance_may_have_a_name_with_parts(room: Room) -> None:
    instance = room.instance(name="annual/2021")
    assert room.cube.instances(instance.variable) == [instance]


@pytest.mark.needs("wire")
def test_an_instance_of_a_name_with_parts_is_refused_before_the_call(room: Room) -> None:
    with pytest.raises(AcdError, match="annual/2021") as error:
        room.instance(name="annual/2021")
    assert error.value.code is ErrorCode.NAME_INVALID


def test_instances_of_one_name_belong_to_their_variables(room: Room) -> None:
    first, second = room.variable("a"), room.variable("b")
    instance = room.instance(first)
    assert room.cube.instances(first.name) == [instance]
    assert room.cube.instances(second.name) == []


def test_a_catalogue_is_committed_in_one_call(room: Room) -> None:
    variable = Variable(name=room.name("v"), dformat=dformat("int16"))
    layout = Layout(name=room.name("l"), grid=RegularGrid(crs="EPSG:32632", resolution=20, cell_size=256))
    instance = Instance(variable=variable.name, name="master")
    whole: dict[str, Any] = {
        "records": [room.record()],
        "variables": [variable],
        "instances": [instance],
        "layouts": [layout],
    }
    assert room.cube.commit(Addition(**whole)) is True
    assert room.cube.commit(Addition(**whole)) is False
    assert room.cube.instances(variable.name) == [instance]
    assert room.cube.layout(layout.name) == layout


LAYOUTS = {
    "utm": RegularGrid(crs="EPSG:32632", resolution=20, cell_size=256),
    "shifted": RegularGrid(crs="EPSG:32632", resolution=0.5, cell_size=4096, ox=399990.25, oy=5600010.75),
    "south": RegularGrid(crs="EPSG:32733", resolution=100, cell_size=512, oy=10_000_000),
    "degrees": RegularGrid(crs="EPSG:4326", resolution=0.001, cell_size=250, ox=-180, oy=90),
    "mercator": WebMercatorGrid(zoom=9),
    "grouped": WebMercatorGrid(zoom=8, scale=4),
}
AREAS = {
    "utm": shapely.box(7.0, 50.5, 7.4, 50.7),
    "shifted": shapely.box(7.6, 50.5, 7.68, 50.53),
    "south": shapely.Polygon([(14, -22), (16, -23), (15, -21)]),
    "degrees": shapely.MultiPolygon([shapely.box(7.1, 50.1, 7.4, 50.4), shapely.box(-70.1, -9.99, -70.01, -9.9)]),
    "mercator": shapely.box(6, 50, 8, 51),
    "grouped": shapely.box(6, 50, 8, 51).difference(shapely.Point(7, 50.5).buffer(0.3)),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_comes_back_whole_and_has_the_same_cells(room: Room, name: str) -> None:
    layout = Layout(name=room.name(name), grid=LAYOUTS[name])
    room.cube.add_layout(layout)
    assert room.cube.layout(layout.name) == layout
    expected = tiles_of(AREAS[name], layout)
    found = room.tiles(AREAS[name], layout)
    assert sorted((tile.i, tile.j) for tile in found) == sorted((tile.i, tile.j) for tile in expected)
    grids = {tile.cell: tile.grid for tile in expected}
    for tile in found:
        assert tile.grid.transform == pytest.approx(grids[tile.cell].transform, rel=1e-12)
        assert (tile.grid.crs, tile.grid.shape) == (grids[tile.cell].crs, grids[tile.cell].shape)


def test_the_same_layout_again_changes_nothing_and_another_is_refused(room: Room) -> None:
    layout = room.layout()
    assert room.cube.commit(Addition(layouts=[layout])) is False
    for change in ({"resolution": 10}, {"cell_size": 128}, {"crs": "EPSG:32633"}, {"ox": 0.5}, {"oy": 20}):
        other = layout.model_copy(update={"grid": layout.grid.model_copy(update=change)})
        with pytest.raises(AcdError, match=layout.name) as error:
            room.cube.add_layout(other)
        assert error.value.code is ErrorCode.LAYOUT_CONFLICT
    assert room.cube.layout(layout.name) == layout


def test_layouts_come_by_name_and_an_unknown_one_is_refused(room: Room) -> None:
    for name in ("b", "a"):
        room.layout(name)
    found = [layout.name for layout in room.cube.layouts()]
    assert found == sorted(found)
    assert room.mine(found) == ["a", "b"]
    with pytest.raises(AcdError, match=room.name("c")) as error:
        room.cube.layout(room.name("c"))
    assert error.value.code is ErrorCode.LAYOUT_UNKNOWN
