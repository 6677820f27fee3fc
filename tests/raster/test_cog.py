from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rio_cogeo.cogeo import cog_validate

from acdtask.raster.cog import encode_cog
from acdtask.raster.data_format import Pixels
from acdtask.raster.grid import Grid
from tests.cube.builders import grid

NAN = float("nan")


def pixels(dtype: str, bands: int, of: Grid) -> Pixels:
    values = np.random.default_rng(7).normal(100, 30, (bands, *of.shape))
    return np.clip(values, 1, 250).astype(dtype)


def checked(data: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Path:
    """Write the bytes to a file, and check that GDAL and rio-cogeo accept it."""
    path = tmp_path / "image.tif"
    path.write_bytes(data)
    assert cog_validate(str(path), strict=True) == (True, [], [])
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
    return path


@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [
        ("int16", -1),
        ("uint8", 0),
        ("uint8", 255),
        ("uint16", 0),
        ("int32", -1),
        ("int64", -1),
        ("float32", float("nan")),
        ("float32", -9999.0),
        ("float64", NAN),
        ("float64", None),
    ],
)
@pytest.mark.parametrize(("width", "height"), [(1, 1), (256, 256), (257, 30), (700, 1100)])
def test_what_is_written_is_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, dtype: str, nodata: float | None, width: int, height: int
) -> None:
    of = grid(width, height)
    bands = pixels(dtype, 2, of)
    if nodata is not None:
        bands[:, : height // 3] = nodata
    path = checked(encode_cog(bands, of, nodata=nodata, scale=0.001, band_names=("VV", "VH")), tmp_path, caplog)
    with rasterio.open(path) as image:
        np.testing.assert_array_equal(image.read(), bands)
        np.testing.assert_equal(image.nodata, nodata)
        assert image.transform[:6] == of.transform
        assert (image.crs.to_string(), image.scales, image.descriptions) == (of.crs, (0.001, 0.001), ("VV", "VH"))
        assert image.compression.name == "zstd"
        assert bool(image.overviews(1)) == (max(width, height) > 256)
        assert image.block_shapes[0] == (256, 256)


def test_overviews_ignore_nodata(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    of = grid(512, 512)
    bands = np.full((1, 512, 512), 800, dtype="int16")
    bands[:, :, ::2] = -1
    path = checked(encode_cog(bands, of, nodata=-1), tmp_path, caplog)
    with rasterio.open(path, overview_level=0) as overview:
        assert np.unique(overview.read()).tolist() == [800]


def test_classes_keep_their_values_and_colours(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    of = grid(600, 600)
    bands = np.random.default_rng(1).choice([0, 5, 9], (1, 600, 600)).astype("uint8")
    colours = {5: (255, 0, 0, 255), 9: (0, 0, 255, 255)}
    data = encode_cog(bands, of, nodata=0, overview_resampling="nearest", colormap=colours)
    path = checked(data, tmp_path, caplog)
    with rasterio.open(path) as image:
        assert {value: image.colormap(1)[value] for value in colours} == colours
    with rasterio.open(path, overview_level=0) as overview:
        assert np.unique(overview.read()).tolist() == [0, 5, 9]


def test_the_same_pixels_give_the_same_bytes_in_any_process() -> None:
    script = (
        "import hashlib; from acdtask.raster.cog import encode_cog; from tests.cube.builders import grid, image;"
        "print(hashlib.sha256(encode_cog(image(grid(700, 600))[None], grid(700, 600), nodata=-1)).hexdigest())"
    )
    root = str(Path(__file__).parents[2])
    hashes = {
        subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONPATH": root, "GDAL_NUM_THREADS": threads, "PYTHONHASHSEED": threads},
        ).stdout
        for threads in ("1", "4")
    }
    assert len(hashes) == 1


def test_an_array_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="does not match"):
        encode_cog(np.zeros((1, 5, 6), dtype="uint8"), grid(5, 6), nodata=None)


def test_memory_stays_near_three_arrays() -> None:
    script = """
import resource, numpy as np
from acdtask.raster.checksums import checksum_of
from acdtask.raster.cog import encode_cog
from tests.cube.builders import grid
encode_cog(np.zeros((1, 64, 64), dtype="float32"), grid(64, 64), nodata=float("nan"))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
bands = np.random.default_rng(0).random((1, 4096, 4096), dtype="float32")
encode_cog(bands, grid(4096, 4096), nodata=float("nan"))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / bands.nbytes)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    # The array, its copy in GDAL, and the file twice: noise does not compress.
    assert float(done.stdout) < 4.3
