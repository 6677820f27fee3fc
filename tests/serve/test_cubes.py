"""Cubes over gRPC have the same pixels as the cube itself reads, for any request."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.io import MemoryFile

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import Slice, Variable
from acdtask.cube.protocol import values_pb2
from acdtask.cube.protocol.convert import (
    NO_DATA,
    RESAMPLINGS,
    dformat_to_message,
    moment_to_message,
    transform_to_message,
)
from acdtask.cube.protocol.cubes_pb2 import GetCubeRequest, GetCubeResponseHeader
from acdtask.cube.protocol.records_pb2 import RecordFilters
from acdtask.raster.data_format import DataFormat, DType, Pixels, Resampling
from acdtask.raster.grid import Grid, Window
from acdtask.serve import pixels as pixels_module
from acdtask.serve.streams import StreamLimits
from tests.cube.builders import COHERENCE, grid, image, record
from tests.serve.streaming import Received, Served, ask, filled, receive, serving

RECORDS = 4
SIZE = grid(600, 500)
ELSEWHERE = grid(600, 500, transform=(20, 0, 900000, 0, -20, 5600000))
DTYPES: dict[DType, float] = {"uint8": 255, "uint16": 0, "int16": -1, "int32": -9, "float32": np.nan, "float64": -1}
LEVELS = st.integers(-3, 9)


def variable_of(dtype: DType, bands: int) -> Variable:
    dformat = DataFormat(dtype=dtype, nodata=DTYPES[dtype], min=0, max=250)
    return Variable(name="V", dformat=dformat, bands=tuple("abc"[:bands]), resampling="bilinear")


def pixels_of(variable: Variable, seed: int) -> Pixels:
    """Noise with a hole; all records cover the same area."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 250, (len(variable.bands), *SIZE.shape)).astype(variable.dformat.dtype)
    pixels[:, 100 * seed : 100 * seed + 200, 50:400] = variable.dformat.nodata
    return pixels


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[DType, int], tuple[Served, Variable]]]:
    """A server for each data type and number of bands."""
    with ExitStack() as stack:
        servers = {}
        for dtype in DTYPES:
            for bands in (1, 3):
                variable = variable_of(dtype, bands)
                images = [(record(k), pixels_of(variable, k), SIZE) for k in range(RECORDS)]
                cube = filled(str(tmp_path_factory.mktemp("cube") / "c"), variable, images)
                servers[dtype, bands] = stack.enter_context(serving(cube)), variable
        yield servers


def expected(
    cube: LocalCube, variable: Variable, on: Grid, group: list[str], resampling: Resampling | None = None
) -> tuple[Pixels, bool]:
    """The pixels of a group, shape (height, width, bands), as the cube itself reads them, and whether any is valid."""
    (datasets,) = cube.where(variable.name, "master", list(dict.fromkeys(group)), [on])
    ordered = tuple(dataset for identity in group for dataset in datasets if dataset.record_id == identity)
    read = cube.read(on, [Slice(label="", datasets=ordered)], variable, resampling)[0]
    bands = read.reshape(len(variable.bands), *on.shape)
    return np.moveaxis(bands, 0, -1), bool(variable.dformat.valid(bands).any())


@st.composite
def windows(draw: st.DrawFn) -> Window:
    return Window(
        row=draw(st.integers(-100, 450)),
        column=draw(st.integers(-100, 550)),
        height=draw(st.integers(1, 600)),
        width=draw(st.integers(1, 600)),
    )


@given(
    dtype=st.sampled_from(sorted(DTYPES)),
    bands=st.sampled_from([1, 3]),
    window=windows(),
    half_a_pixel=st.booleans(),
    level=LEVELS,
    ends_early=st.booleans(),
    groups=st.lists(st.lists(st.integers(0, RECORDS - 1), min_size=1, max_size=3, unique=True), min_size=1, max_size=3),
)
@settings(max_examples=40, deadline=None)
def test_what_arrives_is_what_the_cube_reads(
    served: dict[tuple[DType, int], tuple[Served, Variable]],
    dtype: DType,
    bands: int,
    window: Window,
    half_a_pixel: bool,
    level: int,
    ends_early: bool,
    groups: list[list[int]],
) -> None:
    server, variable = served[dtype, bands]
    a, b, c, d, e, f = SIZE.window(window).transform
    on = grid(window.width, window.height, transform=(a, b, c + 10 * half_a_pixel, d, e, f))
    ids = [[record(k).id for k in group] for group in groups]
    request = ask(variable, on, ids, level=level, protocol_v11x=ends_early)
    first, images = receive(server.geocube.GetCube(request), ends_early=ends_early)
    assert first.ref_dformat == dformat_to_message(variable.dformat) or np.isnan(variable.dformat.nodata)
    assert [received.records for received in images] == (ids if images else [])
    for group, received in zip(ids, images, strict=False):
        pixels, any_valid = expected(server.cube, variable, on, group)
        if any_valid:
            assert received.header.error == ""
            assert received.header.order == values_pb2.LittleEndian
            assert received.header.compression is (level != -3)
            np.testing.assert_array_equal(received.pixels, pixels, strict=True)
        else:
            assert (received.header.error, received.header.nb_parts, received.header.size) == (NO_DATA, 0, 0)


@pytest.mark.parametrize("resampling", ["nearest", "cubic", "average"])
def test_the_requested_resampling_is_used_and_reported(
    served: dict[tuple[DType, int], tuple[Served, Variable]], resampling: Resampling
) -> None:
    server, variable = served["float32", 1]
    coarse = grid(100, 80, transform=(55, 0, 401000, 0, -55, 5599000))
    request = ask(variable, coarse, [[record(0).id]], resampling_alg=RESAMPLINGS[resampling])
    first, (only,) = receive(server.geocube.GetCube(request), ends_early=False)
    assert first.resampling_alg == RESAMPLINGS[resampling]
    np.testing.assert_array_equal(only.pixels, expected(server.cube, variable, coarse, [record(0).id], resampling)[0])


@dataclass
class Ground:
    """A cube of five records: two of the same area, one elsewhere, one without dataset, one with only nodata."""

    served: Served
    ids: list[str]

    def get(self, request: GetCubeRequest) -> tuple[GetCubeResponseHeader, list[Received]]:
        return receive(self.served.geocube.GetCube(request), ends_early=request.protocol_v11x)


@pytest.fixture
def ground(place: str) -> Iterator[Ground]:
    blank = np.full(SIZE.shape, COHERENCE.dformat.nodata, "int16")
    upper = image(SIZE, 1)
    upper[:, :300] = COHERENCE.dformat.nodata
    images = [
        (record(2), image(SIZE, 0), SIZE),
        (record(1), upper, SIZE),
        (record(0, tags={"orbit": "15"}), image(ELSEWHERE, 2), ELSEWHERE),
        (record(4), blank, SIZE),
    ]
    cube = filled(place, COHERENCE, images)
    cube.index([record(3)], [])
    ids = [record(0, tags={"orbit": "15"}).id, *(record(k).id for k in (1, 2, 3, 4))]
    with serving(cube) as server:
        yield Ground(server, ids)


def test_images_come_in_the_requested_order_without_absent_ones(ground: Ground) -> None:
    _, one, two, three, four = ground.ids
    groups = [[two], [three], [one], [ground.ids[0]], [three, one, two], [two, one], [two]]
    first, images = ground.get(ask(COHERENCE, SIZE, groups))
    assert [received.records for received in images] == [[two], [one], [one, two], [two, one], [two]]
    assert (first.count, first.nb_datasets, first.crs) == (5, 7, SIZE.crs)
    assert first.geotransform == transform_to_message(SIZE)
    np.testing.assert_array_equal(images[2].pixels, images[0].pixels)  # the later record lies on top
    np.testing.assert_array_equal(images[3].pixels[:, 300:], images[1].pixels[:, 300:])
    np.testing.assert_array_equal(images[3].pixels[:, :300], images[0].pixels[:, :300])
    assert ground.get(ask(COHERENCE, SIZE, [[three]]))[1] == []
    assert [received.records for received in ground.get(ask(COHERENCE, SIZE, [[four], [two]], plain=True))[1]] == [
        [four],
        [two],
    ]


def test_filters_give_the_records_by_datetime(ground: Ground) -> None:
    _, one, two, _, four = ground.ids
    for filters, ids in (
        (RecordFilters(), [one, two, four]),
        (RecordFilters(tags={"orbit": "1*"}), []),
        (RecordFilters(from_time=moment_to_message(record(2).datetime)), [two, four]),
        (RecordFilters(to_time=moment_to_message(record(2).datetime)), [one, two]),
        (RecordFilters(to_time=moment_to_message(record(2).datetime - timedelta(microseconds=1))), [one]),
        (RecordFilters(from_time=moment_to_message(None), to_time=moment_to_message(None)), [one, two, four]),
    ):
        images = ground.get(ask(COHERENCE, SIZE, filters))[1]
        assert [record_id for received in images for record_id in received.records] == ids


def test_a_missing_file_fails_only_its_own_image(ground: Ground) -> None:
    _, one, two, _, four = ground.ids
    ground.served.cube.store.delete("pixels/1.tif")
    for level in (-3, 0):
        first, images = ground.get(ask(COHERENCE, SIZE, [[one], [two], [four], [two, one]], level=level))
        assert first.count == 4
        assert "pixels/1.tif is missing" in images[0].header.error
        assert images[2].header.error == NO_DATA
        assert images[3].header.error == images[0].header.error
        assert images[1].header.error == ""
        np.testing.assert_array_equal(images[1].pixels, expected(ground.served.cube, COHERENCE, SIZE, [two])[0])
        for failed in (images[0], images[2], images[3]):
            header = failed.header
            assert not header.HasField("shape")
            assert (header.nb_parts, header.size, header.dtype, header.compression, header.data) == (
                0,
                0,
                0,
                False,
                b"",
            )
            assert header.dataset_meta.internalsMeta


def test_headers_alone_describe_the_images(ground: Ground) -> None:
    _, one, two, three, _ = ground.ids
    ground.served.cube.store.delete("pixels/1.tif")  # nothing is read
    first, images = ground.get(ask(COHERENCE, SIZE, [[one, two], [three], [two]], headers_only=True))
    assert (first.count, first.nb_datasets) == (2, 3)
    for image_of in images:
        header = image_of.header
        assert (header.shape.dim1, header.shape.dim2, header.shape.dim3) == (1, SIZE.width, SIZE.height)
        assert (header.nb_parts, header.size, header.data, header.error) == (0, 0, b"", "")
    metas = images[0].header.dataset_meta.internalsMeta
    root = ground.served.cube.store.url
    assert [meta.container_uri for meta in metas] == [f"{root}/pixels/1.tif", f"{root}/pixels/0.tif"]
    assert [list(meta.bands) for meta in metas] == [[1], [1]]
    assert (metas[0].range_min, metas[0].range_max, metas[0].exponent) == (0, 1000, 1)
    assert metas[0].dformat == dformat_to_message(COHERENCE.dformat)
    tags = images[1].header.grouped_records.records[0]
    assert (tags.name, dict(tags.tags), tags.time) == ("S1/002", {"orbit": "37"}, moment_to_message(record(2).datetime))


@pytest.mark.parametrize("level", [-3, -2, -1, 0, 1, 6, 9])
def test_how_many_messages_an_image_takes(tmp_path: Path, level: int) -> None:
    large = grid(2000, 1200)  # 4.8 MB: ten parts
    even = np.full(large.shape, 7, "int16")
    even[0, 0] = 8
    with serving(filled(str(tmp_path), COHERENCE, [(record(0), even, large)])) as server:
        for ends_early in (False, True):
            request = ask(COHERENCE, large, [[record(0).id]], level=level, protocol_v11x=ends_early)
            _, (only,) = receive(server.geocube.GetCube(request), ends_early=ends_early)
            assert only.header.nb_parts == 10
            np.testing.assert_array_equal(only.pixels[..., 0], even)
            squeezed = level not in (-3, 0)
            assert only.messages == (only.header.nb_parts if not ends_early or not squeezed else only.messages)
            assert (only.messages < only.header.nb_parts) is (ends_early and squeezed)


@pytest.mark.parametrize("level", [-2, 0, 1])
def test_noise_that_grows_by_compression_fits_its_parts(tmp_path: Path, level: int) -> None:
    large = grid(1024, 1024)  # four parts, exactly
    noise = np.random.default_rng(0).integers(-32768, 32767, large.shape).astype("int16")
    variable = COHERENCE.model_copy(update={"dformat": DataFormat(dtype="int16", nodata=-32768, min=-32767, max=32767)})
    with serving(filled(str(tmp_path), variable, [(record(0), noise, large)])) as server:
        for ends_early in (False, True):
            request = ask(variable, large, [[record(0).id]], level=level, protocol_v11x=ends_early)
            _, (only,) = receive(server.geocube.GetCube(request), ends_early=ends_early)
            assert only.header.nb_parts == 4
            np.testing.assert_array_equal(only.pixels[..., 0], noise)


@pytest.mark.parametrize("level", [-3, 1])
@pytest.mark.parametrize("bands", [1, 3])
def test_an_image_as_a_file_opens_as_one(
    served: dict[tuple[DType, int], tuple[Served, Variable]], level: int, bands: int
) -> None:
    server, variable = served["float32", bands]
    part = SIZE.window(Window(row=90, column=40, height=333, width=222))
    request = ask(variable, part, [[record(0).id], [record(1).id]], level=level, file=values_pb2.GTiff)
    _, images = receive(server.geocube.GetCube(request), ends_early=False)
    for number, received in enumerate(images):
        assert len(received.data) == received.header.size
        assert (received.header.shape.dim1, received.header.shape.dim2, received.header.shape.dim3) == (bands, 222, 333)
        with MemoryFile(received.data) as file, file.open() as opened:
            assert opened.driver == "GTiff"
            assert opened.crs == rasterio.CRS.from_user_input(part.crs)
            assert tuple(opened.transform)[:6] == part.transform
            assert np.isnan(opened.nodata)
            pixels = np.moveaxis(opened.read(), 0, -1)
        np.testing.assert_array_equal(pixels, expected(server.cube, variable, part, [record(number).id])[0])


def test_a_large_image_read_in_strips_is_the_same(
    served: dict[tuple[DType, int], tuple[Served, Variable]], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, variable = served["int16", 3]
    aligned, warped = SIZE, grid(650, 600, transform=(20, 0, 400110, 0, -20, 5600050))
    requests = [ask(variable, on, [[record(0).id, record(1).id], [record(3).id]]) for on in (aligned, warped)]
    at_once = [receive(server.geocube.GetCube(request), ends_early=False)[1] for request in requests]
    monkeypatch.setattr(pixels_module, "STRIP", 600_000)
    in_strips = [receive(server.geocube.GetCube(request), ends_early=False)[1] for request in requests]
    assert [[received.data for received in cube] for cube in in_strips] == [
        [received.data for received in cube] for cube in at_once
    ]


@pytest.mark.parametrize("gone", [False, True])
def test_a_large_image_of_nodata_or_of_a_missing_file_says_so(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    monkeypatch.setattr(pixels_module, "STRIP", 200_000)
    if gone:
        ground.served.cube.store.delete("pixels/3.tif")
    _, (only,) = ground.get(ask(COHERENCE, SIZE, [[ground.ids[4]]]))
    assert ("is missing" in only.header.error) is gone
    assert (only.header.error == NO_DATA) is not gone


UNKNOWN = "00000000-0000-0000-0000-000000000001"
INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
TOO_MUCH = grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"crs": "EPSG:999999"}, INVALID, "Invalid crs: EPSG:999999 ("),
        ({"crs": ""}, INVALID, "Invalid crs:  ("),
        ({"size": values_pb2.Size()}, INVALID, "Invalid shape: 0x0"),
        ({"size": values_pb2.Size(width=5, height=-1)}, INVALID, "Invalid shape: 5x-1"),
        ({"pix_to_crs": values_pb2.GeoTransform()}, INVALID, "Invalid pixToCRS transform: not invertible"),
        ({"pix_to_crs": values_pb2.GeoTransform(b=np.nan, f=1)}, INVALID, "Invalid pixToCRS transform: not invertible"),
        ({"compression_level": 10}, INVALID, "CompressionLevel must be in [-3, 9]"),
        ({"compression_level": -4}, INVALID, "CompressionLevel must be in [-3, 9]"),
        ({"instances_id": []}, INVALID, "At least one instance must be provided"),
        ({"instances_id": [UNKNOWN] * 2}, INVALID, "Exactly one instance must be provided"),
        ({"instances_id": ["abc"]}, INVALID, "Invalid Instance.uuid abc: invalid UUID length: 3"),
        ({"instances_id": [UNKNOWN]}, NOT_FOUND, f"Variable Instance with id: {UNKNOWN}"),
        ({"resampling_alg": 77}, INVALID, "Invalid resampling: 77"),
        ({"format": 5}, INVALID, "Invalid file format: 5"),
        (
            {"size": values_pb2.Size(width=10**6, height=10**6)},
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "an image of 1000000x",
        ),
    ],
)
def test_invalid_requests_are_refused_as_by_a_geocube(
    served: dict[tuple[DType, int], tuple[Served, Variable]],
    changes: dict[str, Any],
    code: grpc.StatusCode,
    message: str,
) -> None:
    server, variable = served["int16", 1]
    with pytest.raises(grpc.RpcError) as caught:
        list(server.geocube.GetCube(ask(variable, SIZE, [[record(0).id]], **changes)))
    assert caught.value.code() is code
    assert str(caught.value.details()).startswith(message)


@pytest.mark.parametrize("plain", [True, False])
def test_a_cube_without_records_is_refused_and_one_of_unknown_records_is_empty(
    served: dict[tuple[DType, int], tuple[Served, Variable]], plain: bool
) -> None:
    server, variable = served["int16", 1]
    for groups, message in (
        ([], "At least one record must be provided"),
        ([["x"]], "Invalid Record.uuid x: invalid UUID length: 1"),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            list(server.geocube.GetCube(ask(variable, SIZE, groups, plain=plain)))
        assert (caught.value.code(), caught.value.details()) == (INVALID, message)
    first, images = receive(server.geocube.GetCube(ask(variable, SIZE, [[UNKNOWN]], plain=plain)), ends_early=False)
    assert (first.count, images) == (0, [])


def test_the_size_of_an_image_is_limited_by_the_operator(tmp_path: Path) -> None:
    small = grid(1024, 512)  # 1 MiB
    with serving(
        filled(str(tmp_path), COHERENCE, [(record(0), image(small), small)]), StreamLimits(image_mb=1)
    ) as server:
        assert len(receive(server.geocube.GetCube(ask(COHERENCE, small, [[record(0).id]])), ends_early=False)[1]) == 1
        with pytest.raises(grpc.RpcError) as caught:
            list(server.geocube.GetCube(ask(COHERENCE, grid(1025, 512), [[record(0).id]])))
        assert caught.value.code() is TOO_MUCH
        headers = ask(COHERENCE, grid(1025, 512), [[record(0).id]], headers_only=True)
        assert len(receive(server.geocube.GetCube(headers), ends_early=False)[1]) == 1


def test_fifty_clients_at_once_get_exactly_their_own(tmp_path: Path) -> None:
    tiles = [SIZE.window(Window(row=7 * k, column=9 * k, height=200, width=150)) for k in range(50)]
    cube = filled(str(tmp_path), COHERENCE, [(record(k), image(SIZE, k), SIZE) for k in range(3)])
    ids = [[record(k).id] for k in range(3)]
    with serving(cube, StreamLimits(streams=3)) as server, ThreadPoolExecutor(50) as pool:
        cubes = list(
            pool.map(lambda on: receive(server.geocube.GetCube(ask(COHERENCE, on, ids)), ends_early=False), tiles)
        )
    for on, (_, images) in zip(tiles, cubes, strict=True):
        for (identity,), received in zip(ids, images, strict=True):
            np.testing.assert_array_equal(received.pixels, expected(cube, COHERENCE, on, [identity])[0])
