"""The RPCs on areas, records, variables, layouts and tiles."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from pathlib import Path

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import Addition, RecordQuery, Variable
from acdtask.cube.protocol import layouts_pb2, records_pb2, services_pb2, values_pb2, variables_pb2
from acdtask.cube.protocol.convert import (
    NO_MOMENT,
    area_to_message,
    grid_from_message,
    layout_to_message,
    moment_to_message,
)
from acdtask.cube.protocol.services_pb2_grpc import GeocubeStub
from acdtask.raster.data_format import DataFormat
from acdtask.raster.grid import Layout, RegularGrid, WebMercatorGrid
from acdtask.serve.areas import area_id
from acdtask.serve.layouts import layout_of
from tests.cube.builders import MASTER, box, dataset, record
from tests.serve.conftest import serving
from tests.serve.requests import (
    SQUARE,
    area,
    create_layout,
    create_records,
    create_variable,
    instantiate,
    layout,
    list_records,
    new_aoi,
    new_record,
    refusal,
)

INT64 = Variable(name="Moments", dformat=DataFormat(dtype="int64", nodata=-1, min=0, max=1e15))


def get_aoi(stub: GeocubeStub, identity: str) -> records_pb2.AOI:
    return stub.GetAOI(records_pb2.GetAOIRequest(id=identity)).aoi


def get_variable(stub: GeocubeStub, **fields: str) -> variables_pb2.Variable:
    return stub.GetVariable(variables_pb2.GetVariableRequest(**fields)).variable


def list_variables(stub: GeocubeStub, **fields: object) -> list[str]:
    items = stub.ListVariables(variables_pb2.ListVariablesRequest(**fields))  # type: ignore[arg-type]  # of many types
    return [item.variable.name for item in items]


def list_layouts(stub: GeocubeStub, pattern: str = "") -> list[layouts_pb2.Layout]:
    return list(stub.ListLayouts(layouts_pb2.ListLayoutsRequest(name_like=pattern)).layouts)


def test_the_version_is_that_of_the_api_and_of_acd(stub: GeocubeStub) -> None:
    assert stub.Version(services_pb2.GetVersionRequest()).Version.startswith("1.0.3-acd.")


def test_an_area_is_returned_in_32_bits_and_has_the_same_id_everywhere(stub: GeocubeStub) -> None:
    ring = [(7.0, 50.8), (7.2, 50.8), (7.2, 51.0), (7.0, 50.8)]
    identity = new_aoi(stub, ring)
    received = get_aoi(stub, identity.upper())
    assert received == area(ring)
    assert received.polygons[0].linearrings[0].points[0].lat == pytest.approx(50.79999923706055, abs=1e-15)
    assert identity == area_id({"type": "MultiPolygon", "coordinates": [[ring]]})
    assert new_aoi(stub, [*ring[1:], ring[1]]) != identity  # another first point


def test_a_self_intersecting_area_with_a_hole_is_stored(stub: GeocubeStub) -> None:
    bow_tie = ((7.0, 50.0), (8.0, 51.0), (8.0, 50.0), (7.0, 51.0), (7.0, 50.0))
    hole = ((7.1, 50.1), (7.2, 50.1), (7.2, 50.2), (7.1, 50.1))
    sent = area(bow_tie, hole)
    identity = stub.CreateAOI(records_pb2.CreateAOIRequest(aoi=sent)).id
    assert get_aoi(stub, identity) == sent
    create_records(stub, new_record(identity))
    assert [record.aoi_id for record in list_records(stub, aoi=area(SQUARE))] == [identity]


def test_the_footprint_of_an_ingested_record_is_an_area(cube: LocalCube, stub: GeocubeStub) -> None:
    cube.index([record(0)], [])
    (listed,) = list_records(stub, with_aoi=True)
    assert listed.id == record(0).id
    assert get_aoi(stub, listed.aoi_id) == listed.aoi == area_to_message(record(0).footprint)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(-180, 180, width=32), st.floats(-90, 90, width=32)), min_size=3, max_size=6, unique=True
    )
)
def test_any_area_is_returned_as_sent(stub: GeocubeStub, points: list[tuple[float, float]]) -> None:
    sent = area([*points, points[0]])
    polygon = [[(float(np.float32(lon)), float(np.float32(lat))) for lon, lat in (*points, points[0])]]
    with contextlib.suppress(grpc.RpcError):  # hypothesis may have sent it before
        stub.CreateAOI(records_pb2.CreateAOIRequest(aoi=sent))
    assert get_aoi(stub, area_id({"type": "Polygon", "coordinates": polygon})) == sent


def test_records_have_acds_ids(cube: LocalCube, stub: GeocubeStub) -> None:
    aoi = new_aoi(stub)
    ids = create_records(stub, new_record(aoi, "B", 7), new_record(aoi, "A", 1, tags={}))
    assert ids == [record.id for record in reversed(cube.records(RecordQuery()))]
    received = [item.record for item in stub.GetRecords(records_pb2.GetRecordsRequest(ids=[ids[0], ids[1], ids[0]]))]
    assert [(record.id, record.name, dict(record.tags), record.aoi_id) for record in received] == [
        (ids[0], "B", {"k": "v"}, aoi),
        (ids[1], "A", {}, aoi),
    ]
    assert received[0].time.ToDatetime() == datetime(2021, 1, 7)  # as protobuf gives it
    assert not received[0].HasField("aoi")
    assert create_records(stub) == []


def test_a_record_with_other_tags_is_another_record(stub: GeocubeStub) -> None:
    aoi = new_aoi(stub)
    assert len({*create_records(stub, new_record(aoi), new_record(aoi, tags={"k": "w"}))}) == 2


def test_records_are_found_by_pattern_tag_time_and_area(stub: GeocubeStub) -> None:
    near, far = new_aoi(stub), new_aoi(stub, [(20, 50), (21, 50), (21, 51), (20, 50)])
    create_records(
        stub,
        new_record(near, "S1/a", 1, tags={"orbit": "37"}),
        new_record(far, "S1/b", 7, tags={"orbit": "139"}),
        new_record(near, "S2/a", 13, tags={"cloud": "3"}),
    )

    def names(**fields: object) -> list[str]:
        return [record.name for record in list_records(stub, **fields)]

    assert names() == ["S1/a", "S1/b", "S2/a"]
    assert names(name="S1*") == names(name="s1/?(?i)") == names(tags={"orbit": ""}) == ["S1/a", "S1/b"]
    assert names(tags={"orbit": "1*"}) == ["S1/b"]
    assert names(aoi=area(SQUARE)) == ["S1/a", "S2/a"]
    seventh = moment_to_message(datetime(2021, 1, 7, tzinfo=UTC))
    assert names(from_time=seventh, to_time=seventh) == ["S1/b"]
    assert names(from_time=NO_MOMENT, to_time=seventh) == ["S1/a", "S1/b"]
    assert names(limit=2) == ["S1/a", "S1/b"]
    assert names(limit=2, page=1) == ["S2/a"]
    assert names(limit=2, page=9) == []
    assert refusal(lambda: names(limit=-1)).code == "INVALID_ARGUMENT"


def test_records_are_deleted_unless_they_have_datasets(cube: LocalCube, stub: GeocubeStub) -> None:
    aoi = new_aoi(stub)
    ids = create_records(stub, new_record(aoi, "A"), new_record(aoi, "B"))
    cube.commit(
        Addition(variables=[Variable(name="CoherenceVV", dformat=dataset(record(0), "x").dformat)], instances=[MASTER])
    )
    cube.index([], [dataset(record(0), "a.tif", record_id=ids[0])])

    def delete(*chosen: str, no_fail: bool = False) -> int:
        return stub.DeleteRecords(records_pb2.DeleteRecordsRequest(ids=chosen, no_fail=no_fail)).nb

    refused = refusal(lambda: delete(*reversed(ids)))
    assert refused == ("FAILED_PRECONDITION", f"records and datasets with id: {ids[0]}", "datasets", ids[0], "records")
    assert delete(*ids, no_fail=True) == 1
    assert delete(ids[1]) == 0
    assert [record.name for record in list_records(stub)] == ["A"]


def test_a_variable_is_returned_with_its_instances(stub: GeocubeStub) -> None:
    identity = create_variable(stub, "test/NDVI", unit="1", description="green", bands=["a", "b"])
    made = instantiate(stub, identity, "v1", sensor="S2")
    received = get_variable(stub, instance_id=made.id)
    assert received == get_variable(stub, id=identity) == get_variable(stub, name="test/NDVI")
    assert (received.name, received.unit, received.description, list(received.bands)) == (
        "test/NDVI",
        "1",
        "green",
        ["a", "b"],
    )
    assert [(instance.id, instance.name, dict(instance.metadata)) for instance in received.instances] == [
        (made.id, "v1", {"sensor": "S2"})
    ]
    assert received.resampling_alg == values_pb2.BILINEAR


def test_ids_are_the_same_on_another_server_of_the_cube(cube: LocalCube, stub: GeocubeStub) -> None:
    identity = create_variable(stub)
    instance = instantiate(stub, identity).id
    with serving(LocalCube.open(cube.store.url)) as other, grpc.insecure_channel(f"127.0.0.1:{other.port}") as channel:
        received = get_variable(GeocubeStub(channel), name="CoherenceVV")
    assert (received.id, received.instances[0].id) == (identity, instance)


def test_variables_are_listed_by_name_without_those_unsupported_by_geocube(cube: LocalCube, stub: GeocubeStub) -> None:
    for name in ("b", "a", "C"):
        create_variable(stub, name)
    cube.add_variable(INT64)
    assert list_variables(stub) == ["C", "a", "b"]
    assert list_variables(stub, name="c(?i)") == ["C"]
    assert list_variables(stub, limit=2, page=1) == ["b"]
    refused = refusal(lambda: get_variable(stub, name="Moments"))
    assert refused.code == "UNIMPLEMENTED"
    assert "int64" in refused.message


def test_a_variable_changes_but_not_its_name(stub: GeocubeStub) -> None:
    identity = create_variable(stub, unit="dB")
    colours = [
        variables_pb2.colorPoint(value=0, a=255),
        variables_pb2.colorPoint(value=1, r=255, g=255, b=255, a=255),
    ]

    def palette(*points: variables_pb2.colorPoint, replace: bool = False) -> None:
        request = variables_pb2.Palette(name="grey", colors=points)
        stub.CreatePalette(variables_pb2.CreatePaletteRequest(palette=request, replace=replace))

    def update(**changes: str) -> None:
        request = variables_pb2.UpdateVariableRequest(id=identity)
        for field, value in changes.items():
            getattr(request, field).value = value
        stub.UpdateVariable(request)

    assert refusal(lambda: update(palette="grey")).code == "UNKNOWN"
    palette(*colours)
    palette(*reversed(colours))  # the same again
    other = [colours[0], variables_pb2.colorPoint(value=1, r=9, a=255)]
    assert refusal(lambda: palette(*other)) == ("ALREADY_EXISTS", "Palette with name: grey", "Palette", "grey", "")
    palette(*other, replace=True)
    assert refusal(lambda: palette(colours[0])).code == "INVALID_ARGUMENT"
    update(palette="grey", description="d", name="CoherenceVV")
    received = get_variable(stub, id=identity)
    assert (received.palette, received.description, received.unit) == ("grey", "d", "dB")
    assert refusal(lambda: update(name="other")).code == "UNIMPLEMENTED"


def test_metadata_of_an_instance_change_but_not_its_name(stub: GeocubeStub) -> None:
    identity = create_variable(stub)
    instance = instantiate(stub, identity, a="1", b="2").id
    stub.UpdateInstance(
        variables_pb2.UpdateInstanceRequest(id=instance, add_metadata={"a": "9", "c": "3"}, del_metadata_keys=["b"])
    )
    assert dict(get_variable(stub, id=identity).instances[0].metadata) == {"a": "9", "c": "3"}
    renamed = variables_pb2.UpdateInstanceRequest(id=instance)
    renamed.name.value = "other"
    assert refusal(lambda: stub.UpdateInstance(renamed)).code == "UNIMPLEMENTED"


def test_variables_and_instances_are_deleted_unless_they_have_datasets(cube: LocalCube, stub: GeocubeStub) -> None:
    identity = create_variable(stub)
    used, unused = instantiate(stub, identity).id, instantiate(stub, identity, "unused").id
    cube.index([record(0)], [dataset(record(0), "a.tif")])

    def delete_instance(instance: str) -> object:
        return stub.DeleteInstance(variables_pb2.DeleteInstanceRequest(id=instance))

    def delete_variable() -> object:
        return stub.DeleteVariable(variables_pb2.DeleteVariableRequest(id=identity))

    message = f"variable_instances and datasets with id: {used}"
    for call in (lambda: delete_instance(used), delete_variable):
        assert refusal(call) == ("FAILED_PRECONDITION", message, "datasets", used, "variable_instances")
    delete_instance(unused)
    assert [instance.name for instance in get_variable(stub, id=identity).instances] == ["master"]
    cube.remove(datasets=cube.datasets("CoherenceVV", "master"))
    delete_variable()
    assert list_variables(stub) == []


def test_a_layout_is_returned_as_sent(cube: LocalCube, stub: GeocubeStub) -> None:
    sent = layout(parameters={"ox": "10.5", "memory_limit": "1000"}, grid_flags=["flag"])
    create_layout(stub, sent)
    assert list_layouts(stub, "utm") == list_layouts(stub, "U*(?i)") == [sent]
    grid = RegularGrid(crs="EPSG:32632", resolution=20, cell_size=1024, ox=10.5)
    assert cube.layouts() == [Layout(name="utm", grid=grid)]
    stub.DeleteLayout(layouts_pb2.DeleteLayoutRequest(name="utm"))
    stub.DeleteLayout(layouts_pb2.DeleteLayoutRequest(name="utm"))  # it no longer exists, which is not an error
    assert list_layouts(stub) == cube.layouts() == []


def test_a_stored_message_is_used_only_for_its_own_layout(cube: LocalCube, stub: GeocubeStub) -> None:
    create_layout(stub, layout())
    cube.remove(layouts=["utm"])
    other = Layout(name="utm", grid=RegularGrid(crs="EPSG:32631", resolution=10, cell_size=256))
    cube.add_layout(other)
    assert list_layouts(stub) == [layout_to_message(other)]


@pytest.mark.parametrize(
    "grid", [WebMercatorGrid(zoom=9, scale=4), RegularGrid(crs="EPSG:4326", resolution=0.1, cell_size=7)]
)
def test_a_layout_of_acd_is_returned_as_a_regular_grid(
    cube: LocalCube, stub: GeocubeStub, grid: WebMercatorGrid | RegularGrid
) -> None:
    mine = Layout(name="mine", grid=grid)
    cube.add_layout(mine)
    (shown,) = list_layouts(stub)
    received = layout_of(shown)
    assert received.tile(268, 171).grid.transform == pytest.approx(mine.tile(268, 171).grid.transform, rel=1e-15)
    assert received.cell_pixels == mine.cell_pixels


def tiles(stub: GeocubeStub, ring: object = SQUARE, **fields: object) -> list[list[layouts_pb2.Tile]]:
    request = layouts_pb2.TileAOIRequest(aoi=area(ring), **fields)  # type: ignore[arg-type]  # of many types
    return [list(message.tiles) for message in stub.TileAOI(request)]


def test_tiles_are_those_of_the_layout_in_messages_of_a_thousand(stub: GeocubeStub) -> None:
    create_layout(stub, layout(parameters={"cell_size": "128"}))
    messages = tiles(stub, layout_name="utm")
    received = [tile for message in messages for tile in message]
    assert [len(message) for message in messages][:-1] == [1000] * (len(received) // 1000)
    assert len(received) > 1000
    first = grid_from_message(received[0].crs, received[0].transform, received[0].size_px)
    assert (first.crs, first.width, first.height, first.resolution) == ("EPSG:32632", 128, 128, (20.0, 20.0))
    assert len({(tile.transform.a, tile.transform.d) for tile in received}) == len(received)
    inline = layout("", parameters={"cell_size": "128"})
    assert tiles(stub, layout=inline) == messages


def test_a_layout_with_two_equal_sizes_has_square_cells(stub: GeocubeStub) -> None:
    sizes = {"grid": "regular", "crs": "EPSG:32632", "resolution": "20", "cell_x_size": "512", "cell_y_size": "512"}
    (message,) = tiles(stub, layout=layout("", grid_parameters=sizes))
    assert message[0].size_px == values_pb2.Size(width=512, height=512)


def test_a_self_intersecting_area_has_tiles(stub: GeocubeStub) -> None:
    bow_tie = ((7.0, 50.0), (8.0, 51.0), (8.0, 50.0), (7.0, 51.0), (7.0, 50.0))
    (message,) = tiles(stub, bow_tie, layout=layout("", parameters={"cell_size": "2048"}))
    assert 0 < len(message) <= 12


def test_an_area_of_too_many_tiles_is_refused(stub: GeocubeStub) -> None:
    world = ((0, 0), (60, 0), (60, 60), (0, 0))
    refused = refusal(lambda: tiles(stub, world, layout=layout("", parameters={"crs": "EPSG:3857", "cell_size": "1"})))
    assert refused.code == "INVALID_ARGUMENT"
    assert "the limit is 4000000" in refused.message


def test_layouts_of_consolidated_containers_are_found(cube: LocalCube, stub: GeocubeStub) -> None:
    instance = instantiate(stub, create_variable(stub)).id
    own = dataset(record(0), "a.tif")
    cell = dataset(record(0), "consolidated/x.zarr", layout="utm", cell="1/2", subdir="0")
    cube.index([record(0), record(1)], [own, cell])

    def find(**fields: object) -> list[tuple[str, list[str]]]:
        request = layouts_pb2.FindContainerLayoutsRequest(instance_id=instance, **fields)  # type: ignore[arg-type]  # of many types
        return [(item.layout_name, list(item.container_uris)) for item in stub.FindContainerLayouts(request)]

    address = str(Path(cube.store.url) / "consolidated/x.zarr")
    assert find(records=records_pb2.RecordIdList(ids=[record(0).id])) == [("utm", [address])]
    assert find(records=records_pb2.RecordIdList(ids=[record(1).id])) == []
    filters = records_pb2.RecordFiltersWithAOI(
        filters=records_pb2.RecordFilters(tags={"orbit": "3?"}), aoi=area_to_message(box(7, 50, 8, 51))
    )
    assert find(filters=filters) == [("utm", [address])]
    assert refusal(lambda: find(records=records_pb2.RecordIdList())).code == "INVALID_ARGUMENT"


def test_there_are_no_grids_of_single_cells(stub: GeocubeStub) -> None:
    assert list(stub.ListGrids(layouts_pb2.ListGridsRequest()).grids) == []
