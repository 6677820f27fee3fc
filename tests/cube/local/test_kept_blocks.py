"""A run's cache changes no pixel, and never hides that a file was replaced, damaged or deleted."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.local.stack import StackWriter
from acdtask.cube.model import Dataset, Variable
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.data_format import Pixels, Resampling
from acdtask.raster.grid import Window
from acdtask.storage.block_cache import BlockCache
from acdtask.storage.store import Store
from acdtask.storage.traffic import traffic_so_far
from tests.cube.builders import COHERENCE, dataset, grid, image, one_slice, record
from tests.raster.cogs import write_cog

OF = grid(700, 600)
COG, STACK = "pixels/a.tif", "stack.zarr"
CHUNK = f"{STACK}/CoherenceVV/c/0/0/0"
TWO_BANDS = COHERENCE.model_copy(update={"bands": ("VV", "VH")})

Put = Callable[[Store, int], Dataset]
"""Writes a file with pixels of a seed, and returns its dataset."""


def put_cog(store: Store, seed: int) -> Dataset:
    checksum = write_cog(store, COG, image(OF, seed)[np.newaxis], OF, nodata=COHERENCE.dformat.nodata)
    return dataset(record(0), COG, grid=OF, checksum=checksum)


def put_plain_cog(store: Store, seed: int) -> Dataset:
    return put_cog(store, seed).model_copy(update={"checksum": ""})


def put_stack(store: Store, seed: int) -> Dataset:
    writer = StackWriter(store, STACK, OF, [record(number) for number in range(3)], COHERENCE, "master")
    pixels = np.stack([image(OF, seed + number) for number in (50, 0, 60)])
    for window in OF.blocks(256):
        writer.write(window, pixels[:, *window.slices])
    checksum = writer.finish()
    return dataset(record(1), STACK, subdir="1", grid=OF, layout="utm32", cell="8/-138", checksum=checksum)


EITHER = pytest.mark.parametrize("put", [put_cog, put_plain_cog, put_stack])


@pytest.fixture
def cube(place: str) -> Iterator[LocalCube]:
    """A cube whose reads go through a cache."""
    made = LocalCube.create(place)
    with BlockCache.temporary() as cache:
        made.blocks = cache
        yield made


def make_old(cube: LocalCube) -> None:
    """Date the files of a folder back by a minute."""
    for path in Path(cube.store.url).rglob("*") if cube.store.is_folder else ():
        if path.is_file():
            status = path.stat()
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns - 60 * 10**9))


def read(cube: LocalCube, of: Dataset, window: Window | None = None, variable: Variable = COHERENCE) -> Pixels:
    part = OF.window(window) if window else OF
    return np.asarray(cube.read(part, [one_slice(of)], variable)[0])


@EITHER
def test_any_windows_are_read_as_without_a_cache(cube: LocalCube, put: Put) -> None:
    of, whole = put(cube.store, 1), image(OF, 1)
    make_old(cube)
    random = np.random.default_rng(0)
    for _ in range(25):
        row, column = int(random.integers(0, 599)), int(random.integers(0, 699))
        height, width = int(random.integers(1, 600 - row + 1)), int(random.integers(1, 700 - column + 1))
        window = Window(row=row, column=column, height=height, width=width)
        np.testing.assert_array_equal(read(cube, of, window), whole[window.slices])
    np.testing.assert_array_equal(read(cube, of), whole)
    before = traffic_so_far()
    np.testing.assert_array_equal(read(cube, of), whole)
    again = traffic_so_far() - before
    assert again.object_bytes_read < 20_000  # metadata


def test_bands_are_kept_apart(cube: LocalCube) -> None:
    pixels = np.stack([image(OF, 1), image(OF, 2)])
    write_cog(cube.store, COG, pixels, OF, nodata=COHERENCE.dformat.nodata)
    make_old(cube)
    both = dataset(record(0), COG, grid=OF, bands=(1, 2))
    for _ in range(2):
        np.testing.assert_array_equal(read(cube, both, variable=TWO_BANDS), pixels)
        for band in (1, 2):
            np.testing.assert_array_equal(read(cube, both.model_copy(update={"bands": (band,)})), pixels[band - 1])


@EITHER
def test_a_file_that_was_replaced_is_read_again(cube: LocalCube, put: Put) -> None:
    for seed in range(3):
        of = put(cube.store, seed)
        if seed < 2:
            make_old(cube)
        for _ in range(2):
            np.testing.assert_array_equal(read(cube, of), image(OF, seed))


@EITHER
@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[: len(data) // 2], lambda data: data[:64]])
def test_a_file_that_was_damaged_or_deleted_is_an_error_as_without_a_cache(
    cube: LocalCube, put: Put, damage: Callable[[bytes], bytes]
) -> None:
    of = put(cube.store, 1)
    make_old(cube)
    for _ in range(2):
        read(cube, of)
    key = CHUNK if of.uri == STACK else COG
    if damaged := damage(cube.store.get(key)):
        cube.store.put(key, damaged)
    else:
        cube.store.delete(key)
    make_old(cube)
    for _ in range(2):
        with pytest.raises(AcdError) as caught:
            read(cube, of)
        assert caught.value.code is ErrorCode.CUBE_DAMAGED


@EITHER
def test_a_block_that_was_damaged_on_its_way_is_not_kept(cube: LocalCube, put: Put) -> None:
    of = put(cube.store, 1)
    key = CHUNK if of.uri == STACK else COG
    whole = cube.store.get(key)
    middle = len(whole) // 2
    cube.store.put(key, whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    make_old(cube)
    if of.checksum:
        with pytest.raises(AcdError):
            read(cube, of)
    cube.store.put(key, whole)
    make_old(cube)
    np.testing.assert_array_equal(read(cube, of), image(OF, 1))


def test_a_young_file_is_not_kept(tmp_path: Path) -> None:
    """Its next write may leave its size and time as they are."""
    cube = LocalCube.create(str(tmp_path / "cube"))
    with BlockCache.temporary() as cube.blocks:
        of = put_stack(cube.store, 1)
        assert cube.store.state_of(CHUNK) == ""
        read(cube, of)
        assert cube.blocks is not None
        assert (cube.blocks.folder / "index").stat().st_size == 0
        make_old(cube)
        assert cube.store.state_of(CHUNK)
        read(cube, of)
        assert (cube.blocks.folder / "index").stat().st_size > 0


@pytest.mark.parametrize("kernel", [None, "bilinear"])
def test_an_original_is_not_read_where_copies_replace_all_of_it(tmp_path: Path, kernel: Resampling | None) -> None:
    """Tiles with a halo find the original of each image too, since it extends beyond their neighbours."""
    cube = LocalCube.create(str(tmp_path / "cube"))
    left, right = (OF.window(Window(row=0, column=column, height=600, width=350)) for column in (0, 350))
    copies = []
    for number, part in enumerate((left, right)):
        write_cog(cube.store, f"{number}.tif", image(OF, 1)[:, 350 * number :][np.newaxis, :, :350], part, nodata=-1)
        copies.append(dataset(record(0), f"{number}.tif", grid=part, layout="utm", cell=f"{number}/0"))
    original = dataset(record(0), "lost.tif", grid=OF)
    shifted = OF.model_copy(update={"transform": (20, 0, 400010, 0, -20, 5600000)}) if kernel else OF
    if kernel is None:
        pixels = cube.read(OF, [one_slice(original, *copies)], COHERENCE)
        np.testing.assert_array_equal(pixels[0], image(OF, 1))
        original = original.model_copy(update={"grid": grid(701, 600)})
    with pytest.raises(AcdError) as caught:  # it has a column that no copy has, or other pixels
        cube.read(shifted.model_copy(update={"width": 701}), [one_slice(original, *copies)], COHERENCE, kernel)
    assert caught.value.code is ErrorCode.CUBE_DAMAGED
