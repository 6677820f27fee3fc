"""Streams of a Geocube, message by message: those of `acdtask serve` equal those of a real server."""

from __future__ import annotations

import uuid
from pathlib import Path

import numpy as np
import pytest
from rasterio.io import MemoryFile

from acdtask.cube.protocol import records_pb2, values_pb2
from tests.cube.builders import grid
from tests.cube.conformance.messages import INT16, SCENE, UNKNOWN_ID, Wire, pixels_of, streamed

NOT_ENOUGH = "rpc error: code = NotFound desc = Not enough valid pixels (skipped)"


@pytest.mark.parametrize("v11x", [False, True])
@pytest.mark.parametrize("level", [-3, -2, -1, 0, 1, 6, 9])
def test_a_cube_in_every_compression(wire: Wire, level: int, v11x: bool) -> None:
    groups = [(record,) for record in wire.records]
    assert wire.images
    head, *slices = streamed(wire.stub.GetCube(wire.cube(*groups, compression_level=level, protocol_v11x=v11x)))
    assert (head.count, head.nb_datasets, head.ref_dformat) == (3, 3, INT16)
    assert head.resampling_alg == values_pb2.BILINEAR
    for (header, chunks), group, given in zip(slices, groups, wire.images, strict=True):
        assert [record.id for record in header.grouped_records.records] == list(group)
        assert (header.dtype, header.error) == (values_pb2.DataFormat.Int16, "")
        assert header.compression is (level != -3)
        assert [chunk.part for chunk in chunks] == list(range(1, len(chunks) + 1))
        assert len(chunks) <= header.nb_parts - 1
        np.testing.assert_array_equal(pixels_of(header, chunks)[:, :, 0], given)


def test_a_large_image_comes_in_chunks(wire: Wire) -> None:
    large = grid(1200, 1000)
    pixels = np.random.default_rng(1).integers(1, 1000, large.shape).astype("int16")
    wire.stub.IndexDatasets(wire.container(wire.write(pixels, large), wire.records[0]))
    for level in (-3, 1, 9):
        request = wire.cube((wire.records[0],), on=large, compression_level=level)
        _, (header, chunks) = streamed(wire.stub.GetCube(request))
        assert header.size == pixels.nbytes
        assert header.nb_parts == -(-pixels.nbytes // (512 * 1024))
        assert all(len(chunk.data) < 2**21 for chunk in chunks)
        np.testing.assert_array_equal(pixels_of(header, chunks)[:, :, 0], pixels)


def test_headers_only(wire: Wire) -> None:
    assert wire.images
    request = wire.cube(*((record,) for record in wire.records[::-1]), headers_only=True)
    head, *slices = streamed(wire.stub.GetCube(request))
    assert head.count == 3
    assert [header.grouped_records.records[0].id for header, _ in slices] == wire.records[::-1]
    for header, chunks in slices:
        assert (header.nb_parts, header.size, header.data, chunks) == (0, 0, b"", [])
        assert (header.shape.dim1, header.shape.dim2, header.shape.dim3) == (1, SCENE.width, SCENE.height)
        (meta,) = header.dataset_meta.internalsMeta
        assert meta.container_uri.startswith(str(wire.folder))
        assert (list(meta.bands), meta.dformat, meta.range_min, meta.range_max, meta.exponent) == (
            [1],
            INT16,
            0,
            1000,
            1,
        )


def test_slices_without_pixels(wire: Wire) -> None:
    """No data and failures are slices with an error; groups without a dataset are omitted."""
    full = np.full(SCENE.shape, 7, "int16")
    empty, gone, data = wire.records
    wire.stub.IndexDatasets(wire.container(wire.write(np.full(SCENE.shape, -1, "int16")), empty))
    lost = wire.write(full)
    wire.stub.IndexDatasets(wire.container(lost, gone))
    wire.stub.IndexDatasets(wire.container(wire.write(full), data))
    Path(lost).unlink()
    groups = [(gone,), (UNKNOWN_ID,), (data,), (empty,)]
    head, *slices = streamed(wire.stub.GetCube(wire.cube(*groups)))
    assert head.count == 3
    assert [header.grouped_records.records[0].id for header, _ in slices] == [gone, data, empty]
    assert lost in slices[0][0].error
    assert slices[1][0].error == ""
    assert slices[2][0].error == NOT_ENOUGH
    for header, chunks in (slices[0], slices[2]):
        assert (header.nb_parts, header.size, header.data, chunks) == (0, 0, b"", [])


def test_a_cube_of_nothing(wire: Wire) -> None:
    assert wire.records
    (head,) = streamed(wire.stub.GetCube(wire.cube((str(uuid.uuid4()),))))
    assert (head.count, head.nb_datasets) == (0, 0)
    far = grid(50, 40, transform=(20, 0, 700000, 0, -20, 5000000))
    assert wire.images
    (head,) = streamed(wire.stub.GetCube(wire.cube((wire.records[0],), on=far)))
    assert head.count == 0


def test_a_cube_of_files(wire: Wire) -> None:
    assert wire.images
    _, (header, chunks) = streamed(wire.stub.GetCube(wire.cube((wire.records[0],), format=values_pb2.GTiff)))
    data = b"".join([header.data, *(chunk.data for chunk in chunks)])
    assert len(data) == header.size
    with MemoryFile(data).open() as file:
        assert (file.crs.to_epsg(), tuple(file.transform)[:6], file.nodata) == (32632, SCENE.transform, -1)
        np.testing.assert_array_equal(file.read(1), wire.images[0])


def test_a_cube_by_filters_is_one_of_datetimes(wire: Wire) -> None:
    assert wire.images
    request = wire.cube(filters=records_pb2.RecordFilters(tags={"orbit": "37"}))
    head, *slices = streamed(wire.stub.GetCube(request))
    assert head.count == 3
    assert [header.grouped_records.records[0].id for header, _ in slices] == wire.records
