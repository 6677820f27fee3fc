"""Indexing of containers, accepted and refused as by a Geocube."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import RecordQuery, Slice
from acdtask.cube.protocol import datasets_pb2 as pb
from acdtask.cube.protocol import records_pb2, services_pb2, values_pb2
from acdtask.cube.protocol.services_pb2_grpc import AdminStub, GeocubeStub
from tests.serve.conftest import serving
from tests.serve.requests import (
    NOBODY,
    create_records,
    create_variable,
    instantiate,
    int16,
    new_aoi,
    new_record,
    refusal,
)

WIDTH, HEIGHT = 40, 30


def tiff(
    path: Path,
    bands: int = 1,
    dtype: str = "int16",
    crs: str | None = "EPSG:32632",
    shape: tuple[int, int] = (HEIGHT, WIDTH),
    first: int = 0,
) -> str:
    """Write a GeoTIFF with values counting up modulo 1000; returns its path."""
    height, width = shape
    pixels = (np.arange(bands * height * width).reshape(bands, height, width) + first) % 1000
    transform = Affine(20, 0, 400000, 0, -20, 5600000) if crs else Affine.identity()
    options = {"width": width, "height": height, "count": bands, "dtype": dtype, "crs": crs, "transform": transform}
    with rasterio.open(path, "w", driver="GTiff", **options) as raster:
        raster.write(pixels.astype(dtype))
    return str(path)


class World:
    """Two records and an instance on a server, and a client."""

    def __init__(self, stub: GeocubeStub) -> None:
        self.stub = stub
        aoi = new_aoi(stub)
        self.records = create_records(stub, new_record(aoi, "A"), new_record(aoi, "B", 7))
        self.variable = create_variable(stub)
        self.instance = instantiate(stub, self.variable).id

    def dataset(self, **changes: Any) -> pb.Dataset:
        fields: dict[str, Any] = {
            "record_id": self.records[0],
            "instance_id": self.instance,
            "bands": [1],
            "dformat": int16(),
            "real_min_value": 0,
            "real_max_value": 1000,
            "exponent": 1,
        }
        return pb.Dataset(**(fields | changes))

    def index(self, uri: str, *datasets: pb.Dataset, managed: bool = False) -> None:
        container = pb.Container(uri=uri, managed=managed, datasets=datasets)
        self.stub.IndexDatasets(pb.IndexDatasetsRequest(container=container))

    def container(self, uri: str) -> pb.Container:
        return self.stub.GetContainers(pb.GetContainersRequest(uris=[uri])).containers[0]


@pytest.fixture
def world(stub: GeocubeStub) -> World:
    return World(stub)


def read(cube: LocalCube) -> Any:
    """The pixels of all indexed datasets, on their own grid."""
    datasets = cube.datasets("CoherenceVV", "master")
    slices = [Slice(label="", datasets=(dataset,)) for dataset in datasets]
    return cube.read(datasets[0].grid, slices, cube.variable("CoherenceVV"))


def test_a_container_comes_back_with_its_datasets(cube: LocalCube, world: World, tmp_path: Path) -> None:
    uri = tiff(tmp_path / "a.tif")
    sent = world.dataset(real_max_value=10, exponent=2)
    world.index(uri, sent)
    assert world.container(uri) == pb.Container(uri=uri, datasets=[sent])
    (indexed,) = cube.datasets("CoherenceVV", "master")
    assert (indexed.grid.shape, indexed.grid.crs, indexed.uri) == ((HEIGHT, WIDTH), "EPSG:32632", uri)


def test_indexed_pixels_are_read_through_their_mapping(cube: LocalCube, world: World, tmp_path: Path) -> None:
    world.index(tiff(tmp_path / "a.tif"), world.dataset(real_max_value=500))
    expected = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 1000 / 2
    assert np.abs(read(cube)[0] - expected).max() <= 0.5


def test_indexing_again_is_not_a_conflict(cube: LocalCube, world: World, tmp_path: Path) -> None:
    uri = tiff(tmp_path / "a.tif")
    for _ in range(2):
        world.index(uri, world.dataset())
    assert len(cube.datasets("CoherenceVV", "master")) == 1


def test_bands_of_a_container_are_datasets_of_several_records(cube: LocalCube, world: World, tmp_path: Path) -> None:
    uri = tiff(tmp_path / "a.tif", bands=2)
    world.index(uri, world.dataset(), world.dataset(record_id=world.records[1], bands=[2]))
    pixels = read(cube)
    assert (pixels[0] != pixels[1]).any()
    assert [list(dataset.bands) for dataset in world.container(uri).datasets] == [[1], [2]]


def test_a_record_may_have_several_containers(cube: LocalCube, world: World, tmp_path: Path) -> None:
    for name in ("a", "b"):
        world.index(tiff(tmp_path / f"{name}.tif"), world.dataset())
    datasets = cube.datasets("CoherenceVV", "master")
    (near,) = cube.where("CoherenceVV", "master", world.records, [datasets[0].grid])
    assert len(near) == 2


def test_the_data_type_is_read_from_the_file(world: World, tmp_path: Path) -> None:
    uri = tiff(tmp_path / "a.tif", dtype="float32")
    world.index(uri, world.dataset())
    assert world.container(uri).datasets[0].dformat.dtype == values_pb2.DataFormat.Float32


def test_a_container_without_datasets_is_accepted(world: World, tmp_path: Path) -> None:
    world.index(f"{tmp_path}/nope/x.tif")


REFUSED: list[tuple[str, dict[str, Any], tuple[str, str]]] = [
    ("no such band", {"bands": [2]}, ("INVALID_ARGUMENT", "{uri} has no band: 2")),
    ("band 0", {"bands": [0]}, ("INVALID_ARGUMENT", "{uri} has no band: 0")),
    ("bands of the variable", {"bands": [1, 1]}, ("INVALID_ARGUMENT", "Wrong number of bands in dataset")),
    (
        "exponent",
        {"exponent": 0},
        (
            "INVALID_ARGUMENT",
            "Invalid Dataset.DataMapping ([0 -> 1000], nodata:-1): invalid exponent (must be strictly positive)",
        ),
    ),
    (
        "range of the file",
        {"dformat": int16(5, 5)},
        (
            "INVALID_ARGUMENT",
            "Invalid Dataset.DataMapping ([5 -> 5], nodata:-1): min must be stricly lower than max",
        ),
    ),
    (
        "range of the variable",
        {"real_min_value": 1000},
        (
            "INVALID_ARGUMENT",
            "Invalid Dataset.DataMapping ([0 -> 1000], nodata:-1): min must be stricly lower than max",
        ),
    ),
    ("record", {"record_id": NOBODY}, ("NOT_FOUND", f"Dataset with record_id: {NOBODY}")),
    ("instance", {"instance_id": NOBODY}, ("NOT_FOUND", f"Variable Instance with id: {NOBODY}")),
    ("malformed record", {"record_id": "x"}, ("INVALID_ARGUMENT", "Invalid record id: x")),
    ("malformed instance", {"instance_id": "x"}, ("INVALID_ARGUMENT", "Invalid instance id: x")),
]


@pytest.mark.parametrize(("changes", "expected"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_a_dataset_is_refused_as_by_a_geocube(
    cube: LocalCube, world: World, tmp_path: Path, changes: dict[str, Any], expected: tuple[str, str]
) -> None:
    uri = tiff(tmp_path / "a.tif")
    refused = refusal(lambda: world.index(uri, world.dataset(), world.dataset(**changes)))
    assert refused[:2] == (expected[0], expected[1].format(uri=uri))
    assert cube.datasets("CoherenceVV", "master") == []


def test_an_unknown_record_is_named_in_the_details(world: World, tmp_path: Path) -> None:
    uri = tiff(tmp_path / "a.tif")
    assert refusal(lambda: world.index(uri, world.dataset(record_id=NOBODY)))[2:4] == ("Dataset", NOBODY)


def test_a_file_that_cannot_be_opened_is_named(world: World, tmp_path: Path) -> None:
    (tmp_path / "text.tif").write_text("no raster")
    for uri in (f"{tmp_path}/nope/x.tif", str(tmp_path / "text.tif")):
        refused = refusal(lambda uri=uri: world.index(uri, world.dataset()))  # type: ignore[misc]  # bound now
        assert refused.code == "INVALID_ARGUMENT"
        assert refused.message.startswith(f"{uri} cannot be opened: GDAL 4: ")
    for uri in ("relative.tif", "gs://bucket/a.tif", "/vsicurl/http://x/a.tif/../b.tif"):
        refused = refusal(lambda uri=uri: world.index(uri, world.dataset()))  # type: ignore[misc]  # bound now
        assert refused.code == "INVALID_ARGUMENT"
        assert refused.message.startswith(f"{uri} cannot be opened: ")


def test_a_file_without_georeference_is_refused(world: World, tmp_path: Path) -> None:
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        uri = tiff(tmp_path / "a.tif", crs=None)
    assert refusal(lambda: world.index(uri, world.dataset())).code == "INVALID_ARGUMENT"


def test_images_within_a_file_are_not_served(world: World, tmp_path: Path) -> None:
    uri = tiff(tmp_path / "a.tif")
    refused = refusal(lambda: world.index(uri, world.dataset(container_subdir="GTIFF_DIR:2")))
    assert refused.code == "UNIMPLEMENTED"
    assert "GTIFF_DIR:2" in refused.message


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"exponent": 2}, "with another datamapping"),
        ({"real_max_value": 500}, "with another datamapping"),
        ({"dformat": int16(0, 500)}, "with another datamapping"),
        ({"record_id": 1}, "of another record ({record})"),
        ({"instance_id": 1}, "of another instance ({instance})"),
    ],
)
def test_a_band_belongs_to_one_dataset_only(world: World, tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    uri = tiff(tmp_path / "a.tif")
    world.index(uri, world.dataset())
    other = instantiate(world.stub, world.variable, "other").id
    changes = {
        key: {"record_id": world.records[1], "instance_id": other}.get(key, value) for key, value in changes.items()
    }
    refused = refusal(lambda: world.index(uri, world.dataset(**changes)))
    reason = why.format(record=world.records[0], instance=world.instance)
    assert refused == (
        "ALREADY_EXISTS",
        f"A dataset {reason} already refers to the container {uri}, the subdir '' and one of the bands among: 1",
        "dataset",
        "/1",
        "",
    )


def test_an_unknown_container_is_not_found(world: World) -> None:
    assert refusal(lambda: world.container("/nope/x.tif")) == (
        "NOT_FOUND",
        "Container with uri: /nope/x.tif",
        "Container",
        "/nope/x.tif",
        "",
    )


def test_datasets_are_listed_by_record_and_time(world: World, tmp_path: Path) -> None:
    for record in reversed(world.records):
        world.index(tiff(tmp_path / f"{record}.tif"), world.dataset(record_id=record))

    def listed(**fields: Any) -> list[tuple[str, str]]:
        reply = world.stub.ListDatasets(pb.ListDatasetsRequest(instance_id=world.instance, **fields))
        uris = [meta.internalsMeta[0].container_uri for meta in reply.dataset_metas]
        return list(zip([record.name for record in reply.records], uris, strict=True))

    everything = [
        (name, str(tmp_path / f"{record_id}.tif")) for name, record_id in zip("AB", world.records, strict=True)
    ]
    assert listed(filters=records_pb2.RecordFilters()) == everything
    assert listed(filters=records_pb2.RecordFilters(tags={"k": "w"})) == []
    assert listed(records=records_pb2.RecordIdList(ids=world.records[1:])) == everything[1:]


def test_admin_changes_the_mapping_of_datasets(cube: LocalCube, tmp_path: Path) -> None:
    data = (str(tmp_path),)
    with serving(cube, data=data) as server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        world = World(GeocubeStub(channel))
        world.index(tiff(tmp_path / "a.tif"), world.dataset())
        request = services_pb2.UpdateDatasetsRequest(
            simulate=True,
            instance_id=world.instance,
            record_ids=world.records,
            dformat=int16(0, 500),
            real_min_value=0,
            real_max_value=1000,
            exponent=1,
        )
        results = {"(int16, 0, 1000, no_data=-1) currently maps to (0, 1000) with exponent=1": 1}
        before = cube.datasets("CoherenceVV", "master")
        assert AdminStub(channel).UpdateDatasets(request).results == results
        assert cube.datasets("CoherenceVV", "master") == before
        request.simulate = False
        assert AdminStub(channel).UpdateDatasets(request).results == results
        assert [dataset.dformat.max for dataset in cube.datasets("CoherenceVV", "master")] == [500]
        assert refusal(lambda: AdminStub(channel).TidyDB(services_pb2.TidyDBRequest())).code == "UNIMPLEMENTED"


def test_with_a_folder_of_data_only_files_below_it_are_indexed(cube: LocalCube, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    inside, outside = tiff(tmp_path / "data" / "a.tif"), tiff(tmp_path / "b.tif")
    data = (str(tmp_path / "data"),)
    with serving(cube, data=data) as server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        world = World(GeocubeStub(channel))
        world.index(inside, world.dataset())
        for uri in (outside, f"{data[0]}/../b.tif"):
            refused = refusal(lambda uri=uri: world.index(uri, world.dataset()))  # type: ignore[misc]  # bound now
            assert refused.code == "INVALID_ARGUMENT"
            assert "this server may not read there" in refused.message
    assert len(cube.records(RecordQuery())) == 2
