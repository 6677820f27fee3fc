"""The downloader sends the same bits as GetCube, and reads only the files named by the request."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from rasterio.io import MemoryFile

from acdtask.cube.local.stack import StackWriter
from acdtask.cube.model import Addition, Variable
from acdtask.cube.protocol import values_pb2
from acdtask.cube.protocol.convert import NO_DATA, RESAMPLINGS, dformat_to_message, transform_to_message
from acdtask.cube.protocol.cubes_pb2 import GetCubeMetadataRequest, GetCubeMetadataResponse
from acdtask.cube.protocol.datasets_pb2 import DatasetMeta, InternalMeta
from acdtask.cube.protocol.records_pb2 import GroupedRecords
from acdtask.cube.protocol.services_pb2 import GetVersionRequest
from acdtask.cube.protocol.values_pb2 import Size
from acdtask.raster.data_format import DataFormat
from acdtask.raster.grid import Grid, Window
from acdtask.serve.service import VERSION
from acdtask.storage.store import Store
from tests.cube.builders import COHERENCE, dataset, grid, image, put_image, record
from tests.serve.streaming import Received, Served, ask, filled, of_zeros, receive, serving

GROUND = grid(400, 300)
GROUPS = [[record(0).id], [record(1).id, record(2).id], [record(3).id], [record(4).id], [record(5).id]]
INVALID, DENIED = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.PERMISSION_DENIED


@pytest.fixture
def served(place: str) -> Iterator[Served]:
    """Five images: in the variable's format, mapped from bytes with an exponent, only nodata, in a Zarr stack."""
    holes = image(GROUND, 1)
    holes[:, :150] = -1
    cube = filled(place, COHERENCE, [(record(0), image(GROUND, 0), GROUND), (record(1), holes, GROUND)])
    store = cube.store
    shift = grid(400, 300, transform=(20, 0, 400013, 0, -20, 5600007))
    byte = DataFormat(dtype="uint8", nodata=255, min=0, max=250)
    bytes_image = np.random.default_rng(2).integers(0, 256, shift.shape).astype("uint8")
    small = put_image(store, "pixels/byte.tif", bytes_image, shift, dformat=byte)
    blank = put_image(store, "pixels/blank.tif", np.full(GROUND.shape, -1, "int16"), GROUND)
    writer = StackWriter(store, "pixels/stack.zarr", GROUND, [record(4), record(5)], COHERENCE)
    writer.write(Window(row=0, column=0, height=300, width=400), np.stack([image(GROUND, 4), image(GROUND, 5)]))
    writer.finish()
    datasets = [
        small.model_copy(update={"record_id": record(2).id, "real": (100.0, 900.0), "exponent": 2.0}),
        blank.model_copy(update={"record_id": record(3).id}),
        dataset(record(4), "pixels/stack.zarr", grid=GROUND, subdir="0"),
        dataset(record(5), "pixels/stack.zarr", grid=GROUND, subdir="1"),
    ]
    cube.commit(Addition([record(k) for k in range(2, 6)], datasets))
    with serving(cube) as server:
        yield server


def headers(served: Served, variable: Variable, on: Grid, groups: list[list[str]]) -> list[Received]:
    return receive(served.geocube.GetCube(ask(variable, on, groups, headers_only=True)), ends_early=False)[1]


def by_metadata(variable: Variable, on: Grid, listed: list[Received], **changes: Any) -> GetCubeMetadataRequest:
    """The request that a client builds from the headers of a cube."""
    fields: dict[str, Any] = {
        "datasets_meta": [received.header.dataset_meta for received in listed],
        "grouped_records": [received.header.grouped_records for received in listed],
        "ref_dformat": dformat_to_message(variable.dformat),
        "resampling_alg": RESAMPLINGS[variable.resampling],
        "pix_to_crs": transform_to_message(on),
        "crs": on.crs,
        "size": Size(width=on.width, height=on.height),
    }
    return GetCubeMetadataRequest(**(fields | changes))


@pytest.mark.parametrize("window", [GROUND, grid(333, 222, transform=(20, 0, 400110, 0, -20, 5599990))])
def test_it_sends_the_same_bits_as_getcube(served: Served, window: Grid) -> None:
    _, direct = receive(served.geocube.GetCube(ask(COHERENCE, window, GROUPS)), ends_early=False)
    request = by_metadata(COHERENCE, window, headers(served, COHERENCE, window, GROUPS))
    first, downloaded = receive(served.downloader.DownloadCube(request), ends_early=False)
    assert (first.count, first.nb_datasets) == (5, 6)
    assert first.ref_dformat == dformat_to_message(COHERENCE.dformat)
    assert [received.header.error for received in downloaded] == ["", "", NO_DATA, "", ""]
    assert [received.data for received in downloaded] == [received.data for received in direct]
    assert [received.records for received in downloaded] == GROUPS
    for received, other in zip(downloaded, direct, strict=True):
        assert received.header.dataset_meta == other.header.dataset_meta
        assert (received.header.shape, received.header.dtype) == (other.header.shape, other.header.dtype)
        assert not received.header.compression


def test_a_large_image_comes_in_chunks_of_a_mebibyte(tmp_path: Path) -> None:
    cube, variable, on = of_zeros(tmp_path, 1500, 2)
    with serving(cube, allowed=[str(tmp_path)]) as server:
        request = by_metadata(variable, on, headers(server, variable, on, [[record(0).id]]))
        messages: list[GetCubeMetadataResponse] = list(server.downloader.DownloadCube(request))
        _, (only,) = receive(messages, ends_early=False)
    assert only.header.size == 1500 * 1500 * 2 * 4
    assert only.header.nb_parts == len(messages) - 1 == -(-only.header.size // 2**20)
    assert {len(message.chunk.data) for message in messages[2:-1]} == {2**20}
    assert not only.pixels.any()


def test_it_sends_files_too(served: Served) -> None:
    request = by_metadata(COHERENCE, GROUND, headers(served, COHERENCE, GROUND, GROUPS[:1]), format=values_pb2.GTiff)
    _, (only,) = receive(served.downloader.DownloadCube(request), ends_early=False)
    with MemoryFile(only.data) as file, file.open() as opened:
        assert opened.nodata == -1
        np.testing.assert_array_equal(opened.read(1), image(GROUND, 0))


def test_a_missing_file_fails_only_its_own_image(served: Served) -> None:
    listed = headers(served, COHERENCE, GROUND, GROUPS)
    served.cube.store.delete("pixels/0.tif")
    for key in served.cube.store.list("pixels/stack.zarr"):
        served.cube.store.delete(key)
    _, images = receive(served.downloader.DownloadCube(by_metadata(COHERENCE, GROUND, listed)), ends_early=False)
    errors = [received.header.error for received in images]
    assert "pixels/0.tif" in errors[0]
    assert errors[1:3] == ["", NO_DATA]
    assert "pixels/stack.zarr is missing or damaged" in errors[3]
    assert len(images[1].data) == images[1].header.size > 0


def meta_of(uri: str, **changes: Any) -> DatasetMeta:
    fields: dict[str, Any] = {
        "container_uri": uri,
        "bands": [1],
        "dformat": dformat_to_message(COHERENCE.dformat),
        "range_max": 1000,
        "exponent": 1,
    }
    return DatasetMeta(internalsMeta=[InternalMeta(**(fields | changes))])


def refused(served: Served, **changes: Any) -> tuple[grpc.StatusCode, str]:
    request = by_metadata(COHERENCE, GROUND, headers(served, COHERENCE, GROUND, GROUPS[:1]), **changes)
    with pytest.raises(grpc.RpcError) as caught:
        list(served.downloader.DownloadCube(request))
    return caught.value.code(), str(caught.value.details())


def test_files_outside_of_what_is_allowed_are_never_opened(tmp_path: Path) -> None:
    outside, shared, root = tmp_path / "outside", tmp_path / "shared", tmp_path / "cube"
    for folder in (outside, shared):
        put_image(Store.at(str(folder)), "a.tif", image(GROUND), GROUND)
    put_image(Store.at(str(tmp_path / "cube-of-others")), "a.tif", image(GROUND), GROUND)
    cube = filled(str(root), COHERENCE, [(record(0), image(GROUND), GROUND)])
    (root / "pixels" / "link.tif").symlink_to(outside / "a.tif")
    (root / "pixels" / "folder").symlink_to(outside)
    with serving(cube) as server:
        for uri in (
            f"{outside}/a.tif",
            f"{root}/../outside/a.tif",
            f"{root}/pixels/link.tif",
            f"{root}/pixels/folder/a.tif",
            f"file://{outside}/a.tif",
            f"file://{root}/%2e%2e/outside/a.tif",
            f"{tmp_path}/cube-of-others/a.tif",
            "/etc/passwd",
            "s3://bucket/a.tif",
        ):
            code, message = refused(server, datasets_meta=[meta_of(uri)])
            assert (code, message) == (DENIED, f"{uri} cannot be opened: this server may not read there")
        for uri in ("", "a.tif", "/vsicurl/http://127.0.0.1/a.tif", f"/vsizip/{outside}/a.zip", "s3://b/x/../a.tif"):
            code, message = refused(server, datasets_meta=[meta_of(uri)])
            assert code is INVALID
            assert message.startswith(f"{uri} cannot be opened: it is neither an absolute path nor ")
    with serving(cube, allowed=[f"{shared}/"]) as server:
        assert refused(server, datasets_meta=[meta_of(str(shared))])[0] is DENIED
        listed = headers(server, COHERENCE, GROUND, GROUPS[:1])
        request = by_metadata(COHERENCE, GROUND, listed, datasets_meta=[meta_of(f"{shared}/a.tif")])
        _, (only,) = receive(server.downloader.DownloadCube(request), ends_early=False)
        np.testing.assert_array_equal(only.pixels[..., 0], image(GROUND))


def test_a_request_without_a_data_type_is_refused_and_the_server_survives(served: Served) -> None:
    unset = values_pb2.DataFormat(no_data=-1, min_value=0, max_value=1000)
    assert refused(served, ref_dformat=unset) == (INVALID, "ref_dformat must have a data type")
    assert refused(served, ref_dformat=values_pb2.DataFormat()) == (INVALID, "ref_dformat must have a data type")
    assert refused(served, ref_dformat=None)[0] is INVALID
    assert served.downloader.Version(GetVersionRequest()).Version == VERSION


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crs": "EPSG:999999"}, "Invalid crs: EPSG:999999 ("),
        ({"size": Size(width=0, height=4)}, "Invalid shape: 0x4"),
        ({"pix_to_crs": values_pb2.GeoTransform(a=1, b=1)}, "Invalid pixToCRS transform: not invertible"),
        ({"resampling_alg": values_pb2.UNDEFINED}, "resampling_alg must be set"),
        ({"format": 7}, "Invalid file format: 7"),
        (
            {"grouped_records": [GroupedRecords()] * 2},
            "number of datasetsMeta must be equal to the number of record lists",
        ),
        ({"datasets_meta": [DatasetMeta()]}, "At least one dataset must be provided"),
        (
            {"ref_dformat": values_pb2.DataFormat(dtype=values_pb2.DataFormat.Int8, max_value=1)},
            "acd does not support the data type",
        ),
    ],
)
def test_invalid_requests_are_refused(served: Served, changes: dict[str, Any], message: str) -> None:
    code, text = refused(served, **changes)
    assert code is INVALID
    assert text.startswith(message)


@pytest.mark.parametrize(
    "changes",
    [{"exponent": 0}, {"exponent": np.nan}, {"range_min": 5, "range_max": 5}, {"range_max": np.inf}, {"bands": [0]}],
)
def test_an_invalid_mapping_is_refused(served: Served, changes: dict[str, Any]) -> None:
    uri = f"{served.cube.store.url}/pixels/0.tif"
    code, message = refused(served, datasets_meta=[meta_of(uri, **changes)])
    assert code is INVALID
    assert uri in message


@pytest.mark.parametrize("changes", [{"bands": [2]}, {"container_subdir": "x"}])
def test_a_dataset_missing_from_its_file_fails_alone(served: Served, changes: dict[str, Any]) -> None:
    listed = headers(served, COHERENCE, GROUND, GROUPS[:2])
    uri = "pixels/stack.zarr" if "container_subdir" in changes else "pixels/0.tif"
    metas = [meta_of(f"{served.cube.store.url}/{uri}", **changes), listed[1].header.dataset_meta]
    request = by_metadata(COHERENCE, GROUND, listed, datasets_meta=metas)
    _, images = receive(served.downloader.DownloadCube(request), ends_early=False)
    assert uri in images[0].header.error
    assert images[1].header.error == ""


def test_a_request_for_no_images_is_answered_with_none(served: Served) -> None:
    first, images = receive(served.downloader.DownloadCube(GetCubeMetadataRequest(crs="EPSG:32632")), ends_early=False)
    assert (first.count, first.crs, images) == (0, "EPSG:32632", [])


def test_the_downloader_and_the_cube_share_their_limits(served: Served) -> None:
    request = by_metadata(COHERENCE, grid(60000, 60000), headers(served, COHERENCE, GROUND, GROUPS[:1]))
    with pytest.raises(grpc.RpcError) as caught:
        list(served.downloader.DownloadCube(request))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
