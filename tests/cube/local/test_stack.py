from __future__ import annotations

import hashlib
import json
import random

import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.errors import GroupNotFoundError

from acdtask.cube.local.chunks import damaged_chunk, stack_of
from acdtask.cube.local.cube import LocalCube
from acdtask.cube.local.stack import StackWriter, chunk_shape
from acdtask.cube.model import Dataset
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.checksums import checksum_of
from acdtask.raster.data_format import DataFormat, Pixels
from acdtask.raster.grid import Grid, Window
from acdtask.storage.store import Store
from tests.cube.builders import COHERENCE, dataset, grid, image, one_slice, record

KEY = "consolidated/utm32/8_-138/CoherenceVV.zarr"
RECORDS = [record(number) for number in range(70)]


def images(of: Grid, times: int = 70) -> Pixels:
    stack = np.stack([image(of, seed) for seed in range(times)])
    stack[:, :30] = -1
    stack[5:6] = -1
    return stack


def written(store: Store, stack: Pixels, of: Grid, seed: int = 0, *, finish: bool = True) -> None:
    writer = StackWriter(store, KEY, of, RECORDS[: len(stack)], COHERENCE, "master")
    blocks = of.blocks(256)
    random.Random(seed).shuffle(blocks)  # noqa: S311 - an order, not a secret
    for window in blocks:
        writer.write(window, stack[:, window.slices[0], window.slices[1]])
    if finish:
        writer.finish()


def written_as_before(store: Store, stack: Pixels, of: Grid) -> str:
    """A container of acd 0.1: the images of a chunk are compressed together. Returns its checksum."""
    written(store, stack, of)
    group = json.loads(store.get(f"{KEY}/zarr.json"))
    for key in store.list(f"{KEY}/CoherenceVV"):
        store.delete(key)
    target = zarr.open_group(store.zarr_store(KEY, read_only=False), mode="a")
    array = target.create_array(
        "CoherenceVV",
        shape=stack.shape,
        chunks=chunk_shape(len(stack), of),
        dtype=stack.dtype,
        fill_value=-1,
        compressors=(BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle", blocksize=256 * 1024), Crc32cCodec()),
        dimension_names=("time", "y", "x"),
    )
    array[...] = stack
    node = json.loads(store.get(f"{KEY}/CoherenceVV/zarr.json"))
    nodes = group["consolidated_metadata"]["metadata"]
    node["attributes"] = nodes["CoherenceVV"]["attributes"]
    nodes["CoherenceVV"] = node
    files = {"CoherenceVV/zarr.json": json.dumps(node).encode(), "zarr.json": b""}
    store.put(f"{KEY}/CoherenceVV/zarr.json", files["CoherenceVV/zarr.json"])
    group["attributes"]["acd_files"]["CoherenceVV/zarr.json"] = checksum_of(files["CoherenceVV/zarr.json"])
    files["zarr.json"] = json.dumps(group).encode()
    store.put(f"{KEY}/zarr.json", files["zarr.json"])
    return checksum_of(files["zarr.json"])


def test_containers_without_blocks_are_read_and_verified(place: str) -> None:
    of, cube = grid(300, 260), LocalCube.create(place)
    stack = images(of)
    checksum = written_as_before(cube.store, stack, of)
    copies = [at(time, of).model_copy(update={"checksum": checksum}) for time in range(70)]
    for times in (range(70), (69, 3, 5)):
        pixels = cube.read(of, [one_slice(copies[time]) for time in times], COHERENCE)
        np.testing.assert_array_equal(pixels, stack[[*times]])
    block = Window(row=0, column=0, height=256, width=256)
    pixels = cube.read(of.window(block), [one_slice(copy) for copy in copies[:64]], COHERENCE)
    np.testing.assert_array_equal(pixels, stack[:64, :256, :256])
    array = stack_of(cube.store.get(f"{KEY}/zarr.json"))
    assert array is not None
    assert not array.layout.has_blocks
    assert damaged_chunk(cube.store, array.key(KEY), array.layout)[0] == ""
    chunk = f"{KEY}/CoherenceVV/c/0/0/0"
    data = cube.store.get(chunk)
    cube.store.put(chunk, data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    assert "checksum" in damaged_chunk(cube.store, array.key(KEY), array.layout)[0]
    with pytest.raises(AcdError, match=f"{KEY} is damaged"):
        cube.read(of, [one_slice(copies[69]), one_slice(copies[3])], COHERENCE)


@pytest.mark.parametrize("dtype", ["int16", "uint8", "float32", "float64"])
def test_zarr_writes_the_same_bytes(place: str, dtype: str) -> None:
    """Chunks are encoded without zarr, which takes longer: equal bytes prove that they are what its metadata say."""
    dformat = DataFormat(dtype=dtype, nodata=0, min=0, max=250)
    variable = COHERENCE.model_copy(update={"dformat": dformat})
    of, store = grid(70, 300), Store.at(place)
    stack = np.random.default_rng(3).integers(0, 250, (5, *of.shape)).astype(dtype)
    stack[2, :256] = 0
    writer = StackWriter(store, KEY, of, RECORDS[:5], variable)
    writer.write(Window(row=0, column=0, height=300, width=70), stack)
    writer.finish()
    ours = {key: store.get(key) for key in store.list(f"{KEY}/CoherenceVV/c")}
    assert len(ours) == 2
    for key in ours:
        store.delete(key)
    array = zarr.open_group(store.zarr_store(KEY, read_only=False), mode="a")["CoherenceVV"]
    assert isinstance(array, zarr.Array)
    array[...] = stack
    assert {key: len(store.get(key)) for key in ours} == {key: len(data) for key, data in ours.items()}
    np.testing.assert_array_equal(array[...], stack)
    assert {key: store.get(key) for key in ours} == ours


def at(time: int, of: Grid) -> Dataset:
    return dataset(RECORDS[time], KEY, subdir=str(time), grid=of, layout="utm32", cell="8/-138")


@pytest.mark.parametrize(("width", "height"), [(300, 260), (1, 1), (256, 10)])
def test_zarr_and_the_cube_read_what_was_written(place: str, width: int, height: int) -> None:
    of = grid(width, height)
    cube, stack = LocalCube.create(place), images(of)
    written(cube.store, stack, of)
    group = zarr.open_group(cube.store.zarr_store(KEY, read_only=True), mode="r")
    array = group["CoherenceVV"]
    assert isinstance(array, zarr.Array)
    np.testing.assert_array_equal(array[:], stack)
    assert array.shards == chunk_shape(70, of) == (64, min(height, 256), min(width, 256))
    assert array.chunks == (1, min(height, 256), min(width, 256))
    assert array.fill_value == -1
    slices = [one_slice(at(time, of)) for time in (69, 3, 5)]
    np.testing.assert_array_equal(cube.read(of, slices, COHERENCE), stack[[69, 3, 5]])
    inside = Window(row=-2, column=0, height=height + 2, width=1)
    found = cube.read(of.window(inside), slices, COHERENCE)
    np.testing.assert_array_equal(found[:, 2:], stack[[69, 3, 5], :, :1])
    assert (found[:, :2] == -1).all()


def test_its_metadata_describe_it(place: str) -> None:
    store = Store.at(place)
    written(store, images(grid(), 3), grid())
    group = json.loads(store.get(f"{KEY}/zarr.json"))
    assert (group["zarr_format"], group["node_type"]) == (3, "group")
    assert sorted(group["consolidated_metadata"]["metadata"]) == ["CoherenceVV", "spatial_ref", "time", "x", "y"]
    for name, node in group["consolidated_metadata"]["metadata"].items():
        assert json.loads(store.get(f"{KEY}/{name}/zarr.json")) == node
    assert group["attributes"]["images"][1] == {
        "record": "S1/001",
        "record_id": RECORDS[1].id,
        "datetime": "2021-01-07T00:00:00+00:00",
    }
    array = group["consolidated_metadata"]["metadata"]["CoherenceVV"]
    assert array["dimension_names"] == ["time", "y", "x"]
    attributes = array["attributes"]
    assert (attributes["crs"], tuple(attributes["transform"])) == (grid().crs, grid().transform)
    assert (attributes["scale_factor"], attributes["_FillValue"]) == (0.001, -1)


def test_a_stack_is_not_readable_before_it_is_finished(place: str) -> None:
    cube = LocalCube.create(place)
    written(cube.store, images(grid(), 3), grid(), finish=False)
    assert cube.store.list(KEY) != []
    with pytest.raises(GroupNotFoundError):
        zarr.open_group(cube.store.zarr_store(KEY, read_only=True), mode="r")
    with pytest.raises(AcdError, match="is missing"):
        cube.read(grid(), [one_slice(at(0, grid()))], COHERENCE)
    written(cube.store, images(grid(), 3), grid())
    assert (cube.read(grid(), [one_slice(at(0, grid()))], COHERENCE) != -1).any()


def test_the_same_pixels_give_the_same_bytes_in_any_order(place: str) -> None:
    digests = []
    for seed in (1, 2):
        store = Store.at(place).within(str(seed))
        written(store, images(grid(600, 600), 4), grid(600, 600), seed)
        written(store, images(grid(600, 600), 4), grid(600, 600), seed + 1)
        digests.append([(key, hashlib.sha256(store.get(key)).hexdigest()) for key in store.list()])
    assert digests[0] == digests[1]
    assert len(digests[0]) == 1 + 9 + 8


def test_damage_is_named(place: str) -> None:
    cube = LocalCube.create(place)
    written(cube.store, images(grid(), 3), grid())
    chunk = f"{KEY}/CoherenceVV/c/0/0/0"
    data = cube.store.get(chunk)
    middle = len(data) // 2
    flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
    cases = [(chunk, data[:middle]), (chunk, data[:-1]), (chunk, flipped), (chunk, b""), (f"{KEY}/zarr.json", b"{")]
    for key, broken in cases:
        cube.store.put(key, broken)
        for times in ([0, 1, 2], [1, 2]):  # the chunk as a whole, and a range of it
            with pytest.raises(AcdError, match=f"{KEY} is damaged") as caught:
                cube.read(grid(), [one_slice(at(time, grid())) for time in times], COHERENCE)
            assert caught.value.code is ErrorCode.CUBE_DAMAGED


def test_a_time_beyond_the_stack_is_damage(place: str) -> None:
    cube = LocalCube.create(place)
    written(cube.store, images(grid(), 3), grid())
    with pytest.raises(AcdError, match="no image 3"):
        cube.read(grid(), [one_slice(at(3, grid()))], COHERENCE)


def test_blocks_that_share_a_chunk_are_refused(place: str) -> None:
    writer = StackWriter(Store.at(place), KEY, grid(600, 600), RECORDS[:2], COHERENCE)
    for window in (
        Window(row=10, column=0, height=256, width=256),
        Window(row=0, column=0, height=100, width=256),
        Window(row=512, column=0, height=256, width=256),
    ):
        with pytest.raises(ValueError, match="chunks"):
            writer.write(window, np.zeros((2, window.height, window.width), dtype="int16"))
    with pytest.raises(ValueError, match="not a block"):
        writer.write(Window(row=0, column=0, height=256, width=256), np.zeros((2, 256, 256), dtype="float32"))
