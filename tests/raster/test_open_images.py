"""Images kept open always return the pixels of the current file."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.errors import RasterioIOError
from rasterio.windows import Window

from acdtask.raster.open_images import SETTLED_SECONDS, OpenImages, forget_image, open_image

SIZE = 96


def pixels_of(seed: int) -> np.ndarray[tuple[int, int], np.dtype[np.int16]]:
    return np.random.default_rng(seed).integers(-30000, 30000, (SIZE, SIZE), dtype=np.int16)


def write(path: Path, seed: int, *, age: float = 60.0) -> None:
    """Write an image that looks `age` seconds old; an existing file is overwritten in place."""
    profile = {"width": SIZE, "height": SIZE, "count": 1, "dtype": "int16", "crs": "EPSG:32632"}
    tiles = {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}
    with rasterio.open(path, "w", driver="GTiff", transform=Affine(1, 0, 0, 0, -1, SIZE), **profile, **tiles) as image:
        image.write(pixels_of(seed), 1)
    then = time.time() - age - seed
    os.utime(path, (then, then))


@pytest.fixture
def images() -> Iterator[OpenImages]:
    pool = OpenImages(most=3)
    yield pool
    pool.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write(tmp_path / "image.tif", 1)
    return tmp_path / "image.tif"


def test_a_file_is_opened_once_and_concurrent_readers_have_their_own_images(images: OpenImages, file: Path) -> None:
    with images.opened(str(file)) as first:
        np.testing.assert_array_equal(first.read(1), pixels_of(1))
    with images.opened(str(file)) as again, images.opened(str(file)) as other:
        assert again is first
        assert other is not first
        assert len(images) == 0
    assert len(images) == 2
    assert not first.closed


def test_an_overview_stays_open_beside_its_image(images: OpenImages, file: Path) -> None:
    with rasterio.open(file, "r+") as image:
        image.build_overviews([2, 4])
    os.utime(file, (0, 0))
    opened = []
    for _ in range(2):
        for level, side in ((None, SIZE), (0, SIZE // 2), (1, SIZE // 4)):
            with images.opened(str(file), level) as image:
                assert image.shape == (side, side)
                opened.append(image)
    assert opened[:3] == opened[3:]
    assert len(images) == 3
    images.forget(str(file))
    assert all(image.closed for image in opened)


def test_a_file_that_was_replaced_is_reopened(images: OpenImages, file: Path) -> None:
    with images.opened(str(file)) as first:
        first.read(1)
    write(file.with_name("new.tif"), 2)
    file.with_name("new.tif").replace(file)
    with images.opened(str(file)) as second:
        np.testing.assert_array_equal(second.read(1), pixels_of(2))
    assert first.closed
    write(file, 3)  # in place
    with images.opened(str(file)) as third:
        np.testing.assert_array_equal(third.read(1), pixels_of(3))
    assert second.closed


def test_a_file_that_was_just_written_is_not_kept_open(images: OpenImages, file: Path) -> None:
    write(file, 0, age=SETTLED_SECONDS / 2)
    with images.opened(str(file)) as image:
        image.read(1)
    assert image.closed
    assert len(images) == 0


def test_a_removed_file_is_missing_and_its_image_is_closed(images: OpenImages, file: Path) -> None:
    with images.opened(str(file)) as image:
        image.read(1)
    file.unlink()
    with pytest.raises(RasterioIOError, match=r"image\.tif"), images.opened(str(file)):
        pass
    assert image.closed


def test_an_image_that_could_not_be_read_is_not_kept(images: OpenImages, file: Path) -> None:
    with pytest.raises(IndexError), images.opened(str(file)) as image:
        image.read(2)
    assert image.closed
    assert len(images) == 0


def test_the_least_recently_read_are_closed_when_there_are_too_many(images: OpenImages, tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.tif" for number in range(5)]
    seen = []
    for number, file in enumerate(files):
        write(file, number)
        with images.opened(str(file)) as image:
            seen.append(image)
        with images.opened(str(files[0])) as image:
            assert image is seen[0]
    assert [image.closed for image in seen] == [False, True, True, False, False]
    assert len(images) == 3
    images.forget(str(files[4]))
    assert [image.closed for image in seen] == [False, True, True, False, True]
    images.close()
    assert all(image.closed for image in seen)


def test_an_image_about_to_be_deleted_is_closed(file: Path) -> None:
    with open_image(str(file)) as image:
        image.read(1)
    assert not image.closed
    forget_image(str(file))
    assert image.closed


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["read", "write", "replace"])), max_size=25))
def test_what_is_read_is_what_was_written_last(tmp_path: Path, steps: list[tuple[str, str]]) -> None:
    images, seeds = OpenImages(most=2), dict.fromkeys("abcd", 0)
    for name in seeds:
        write(tmp_path / name, 0)
    for seed, (name, action) in enumerate(steps, start=1):
        file = tmp_path / name
        if action == "read":
            with images.opened(str(file)) as image:
                np.testing.assert_array_equal(image.read(1), pixels_of(seeds[name]))
            continue
        write(file if action == "write" else tmp_path / "new", seed)
        if action == "replace":
            (tmp_path / "new").replace(file)
        seeds[name] = seed
    images.close()


def test_threads_read_windows_of_the_same_files(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.tif" for number in range(4)]
    for number, file in enumerate(files):
        write(file, number)
    images, expected = OpenImages(most=4), [pixels_of(number) for number in range(4)]

    def read(seed: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(100):
            which, row, column = random.integers((4, SIZE - 20, SIZE - 20))
            with images.opened(str(files[which])) as image:
                pixels = image.read(1, window=Window(column, row, 20, 20))
            np.testing.assert_array_equal(pixels, expected[which][row : row + 20, column : column + 20])

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(read, range(8)))
    assert len(images) <= 4
    images.close()


FORKS = """
import os, sys, threading
import numpy as np
from acdtask.raster import open_images
from acdtask.raster.open_images import open_image

file, expected = sys.argv[1], np.load(sys.argv[2])
def read():
    with open_image(file) as image:
        return np.array_equal(image.read(1), expected)

assert read()
of_parent, held, forked, wrong = open_images._images, threading.Event(), threading.Event(), threading.Event()
assert len(of_parent) == 1
def hold_and_read():
    with open_image(file) as image:
        held.set()
        forked.wait()
        np.array_equal(image.read(1), expected) or wrong.set()
# The thread holds an image but is not inside GDAL, or a child could wait forever for GDAL's locks.
reader = threading.Thread(target=hold_and_read)
reader.start()
held.wait()
children = []
for _ in range(8):
    child = os.fork()
    if not child:
        is_new = open_images._images is not of_parent and len(open_images._images) == 0
        os._exit(0 if is_new and all([read() for _ in range(20)]) else 1)
    children.append(child)
ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
forked.set()
reader.join()
sys.exit(0 if ends == [0] * 8 and not wrong.is_set() and read() else f"{ends} {wrong.is_set()}")
"""


def test_a_forked_process_opens_its_own_images(file: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "expected.npy", pixels_of(1))
    # Python 3.12 and newer warn about forking with threads, which this test does on purpose.
    command = [
        sys.executable,
        "-W",
        "ignore:This process:DeprecationWarning",
        "-c",
        FORKS,
        str(file),
        str(tmp_path / "expected.npy"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
