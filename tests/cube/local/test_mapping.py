"""Numbers of a container as numbers of a variable: equal to those of NumPy and GDAL, also after warping."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.local.mapping import Mapping
from acdtask.cube.model import Dataset, Variable
from acdtask.raster.data_format import DataFormat, DType, Pixels, Resampling
from acdtask.raster.grid import Window
from tests.cube.builders import COHERENCE, grid, image, one_slice, put_image

NAN = float("nan")
INT16 = COHERENCE.dformat
UNIT = DataFormat(dtype="float32", nodata=NAN, min=0, max=1)
UNIT_VARIABLE = COHERENCE.model_copy(update={"dformat": UNIT})


def read(cube: LocalCube, stored: Dataset, variable: Variable, **changes: Any) -> Pixels:
    resampling = changes.pop("resampling", None)
    pixels: Pixels = cube.read(grid(**changes), [one_slice(stored)], variable, resampling)[0]
    return pixels


def test_int16_coherence_is_numpys_division_in_float32(place: str) -> None:
    cube = LocalCube.create(place)
    every = np.arange(-32768, 32768).astype("int16").reshape(256, 256)
    stored = put_image(cube.store, "a.tif", every, grid(256, 256))
    for mapped in (stored, stored.model_copy(update={"real": (0.0, 1.0)})):
        found = read(cube, mapped, UNIT_VARIABLE, width=256, height=256)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, np.where(every == -1, np.nan, every.astype("float32") / np.float32(1000)))
        np.testing.assert_array_equal(found, np.where(every == -1, np.nan, every / 1000).astype("float32"))


def gdal_mapped(folder: Path, pixels: Pixels, dataset: Dataset, dtype: str, real: tuple[float, float]) -> Pixels:
    """The same with a VRT of GDAL, with which Geocube's server reads."""
    height, width = pixels.shape
    profile = {"driver": "GTiff", "width": width, "height": height, "count": 1, "dtype": pixels.dtype.name}
    where = {"crs": "EPSG:32632", "transform": Affine(1, 0, 0, 0, -1, 0)}
    with rasterio.open(folder / "a.tif", "w", **profile, **where) as file:
        file.write(pixels, 1)
    span = (dataset.dformat.max - dataset.dformat.min, real[1] - real[0])
    scale = (
        f"<ScaleOffset>{real[0] - dataset.dformat.min * span[1] / span[0]}</ScaleOffset>"
        f"<ScaleRatio>{span[1] / span[0]}</ScaleRatio>"
        if dataset.exponent == 1
        else f"<Exponent>{dataset.exponent}</Exponent><SrcMin>{dataset.dformat.min}</SrcMin>"
        f"<SrcMax>{dataset.dformat.max}</SrcMax><DstMin>{real[0]}</DstMin><DstMax>{real[1]}</DstMax>"
    )
    (folder / "a.vrt").write_text(
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}"><VRTRasterBand dataType="{dtype}" band="1">'
        f'<ComplexSource><SourceFilename relativeToVRT="1">a.tif</SourceFilename>{scale}</ComplexSource>'
        "</VRTRasterBand></VRTDataset>"
    )
    with rasterio.open(folder / "a.vrt") as file:
        found: Pixels = file.read(1)
        return found


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("exponent", [1.0, 0.5, 2.0, 3.7])
@pytest.mark.parametrize("real", [(0.0, 1.0), (-20.0, 5.0), (100.0, 2000.0)])
def test_mappings_are_gdals(tmp_path: Path, exponent: float, real: tuple[float, float]) -> None:
    cube = LocalCube.create(str(tmp_path / "cube"))
    pixels = np.arange(-250, 1251).astype("int16").reshape(19, 79)
    pixels[pixels == -1] = -2
    stored = put_image(cube.store, "a.tif", pixels, grid(79, 19), real=real, exponent=exponent)
    found = read(cube, stored, UNIT_VARIABLE, width=79, height=19)
    expected = gdal_mapped(tmp_path, pixels, stored, "Float32", real)
    np.testing.assert_allclose(found, expected, rtol=2e-7, atol=1e-5)
    whole = read(cube, stored, COHERENCE, width=79, height=19)
    assert np.abs(whole - gdal_mapped(tmp_path, pixels, stored, "Float64", real)).max() <= 0.5


def test_numbers_are_clipped_only_to_the_dtype(place: str) -> None:
    cube = LocalCube.create(place)
    pixels = np.array([[-2, 0, 500, 1000, 2000, -1]], dtype="int16")
    for dtype, expected in (
        ("float32", [-20, 0, 5000, 10000, 20000, np.nan]),
        ("uint8", [0, 0, 255, 255, 255, 9]),
        ("int16", [-20, 0, 5000, 10000, 20000, 9]),
    ):
        nodata = NAN if dtype == "float32" else 9
        target = DataFormat(dtype=dtype, nodata=nodata, min=0, max=1)
        stored = put_image(cube.store, f"{dtype}.tif", pixels, grid(6, 1), real=(0.0, 10000.0))
        variable = COHERENCE.model_copy(update={"dformat": target})
        assert np.array_equal(read(cube, stored, variable, width=6, height=1)[0], expected, equal_nan=True)


ASIDE = {"transform": (20, 0, 400010, 0, -20, 5600000), "width": 290}


@pytest.mark.parametrize("resampling", ["nearest", "bilinear", "cubic", "average", "max", "min", "med", "q1", "q3"])
def test_warped_pixels_are_mapped_too(place: str, resampling: Resampling) -> None:
    cube = LocalCube.create(place)
    pixels = np.clip(image(grid()), 0, 1000)
    pixels[:30, :40] = -1
    whole = put_image(cube.store, "a.tif", pixels, grid())
    unit = np.where(pixels == -1, np.nan, pixels / 1000).astype("float32")
    as_float = put_image(cube.store, "b.tif", unit, grid(), dformat=UNIT)
    expected = read(cube, as_float, UNIT_VARIABLE, resampling=resampling, **ASIDE)
    np.testing.assert_allclose(
        read(cube, whole, UNIT_VARIABLE, resampling=resampling, **ASIDE), expected, rtol=1e-5, atol=1e-6
    )
    squared = put_image(cube.store, "c.tif", unit**2, grid(), dformat=UNIT)
    of_squares = read(cube, squared, UNIT_VARIABLE, resampling=resampling, **ASIDE)
    mapped = whole.model_copy(update={"exponent": 2.0})
    np.testing.assert_allclose(
        read(cube, mapped, UNIT_VARIABLE, resampling=resampling, **ASIDE), of_squares, rtol=1e-5, atol=1e-6
    )
    assert np.isnan(expected).any()
    assert np.nanmax(expected) <= 1


@pytest.mark.parametrize("resampling", ["max", "min", "med", "q1", "q3"])
def test_ranks_ignore_nodata(place: str, resampling: Resampling) -> None:
    """Ranks among the valid ones of 3 x 3 pixels. Nodata is the smallest number, and would lower them."""
    cube = LocalCube.create(place)
    pixels = np.tile(np.array([[-1, 100, 200], [300, 400, -1], [500, -1, 600]], dtype="int16"), (20, 20))
    pixels[:3, :3] = -1
    stored = put_image(cube.store, "a.tif", pixels, grid(60, 60))
    coarse = {"transform": (60, 0, 400000, 0, -60, 5600000), "width": 20, "height": 20}
    found = read(cube, stored, COHERENCE, resampling=resampling, **coarse)
    rank = {"max": 600, "min": 100, "med": 300, "q1": 200, "q3": 500}[resampling]
    assert found[0, 0] == -1
    assert set(np.delete(found.ravel(), 0).tolist()) == {rank}


DTYPES: list[DType] = ["uint8", "int16", "uint16", "int32", "float32", "float64"]


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(DTYPES),
    st.sampled_from(DTYPES),
    st.integers(0, 100),
    st.integers(1, 150),
    st.tuples(st.floats(-100, 100), st.floats(0.1, 1e4)).map(lambda pair: (pair[0], pair[0] + pair[1])),
    st.sampled_from([1.0, 0.5, 1.7]),
    st.integers(0, 2**32),
)
def test_the_lookup_table_equals_the_formula(
    source: DType, target: DType, low: int, span: int, real: tuple[float, float], exponent: float, seed: int
) -> None:
    mapping = Mapping(
        DataFormat(dtype=source, nodata=7, min=low, max=low + span),
        DataFormat(dtype=target, nodata=0, min=0, max=1),
        real,
        exponent,
    )
    pixels = np.random.default_rng(seed).integers(0, 256, (1, 40, 30)).astype(source)
    values, valid = mapping.apply(pixels)
    ratio = (pixels.astype("f8") - low) / span
    exact = (ratio if exponent == 1 else np.clip(ratio, 0, 1) ** exponent) * (real[1] - real[0]) + real[0]
    np.testing.assert_array_equal(valid, pixels != 7)
    assert (values[~valid] == 0).all()
    if target.startswith("float"):
        np.testing.assert_allclose(values[valid], exact[valid], rtol=1e-6, atol=1e-4)
    else:
        limits = np.iinfo(target)
        assert np.abs(values[valid] - np.clip(exact[valid], limits.min, limits.max)).max(initial=0) <= 0.5 + 1e-6


def test_a_mosaic_of_mapped_datasets(place: str) -> None:
    cube = LocalCube.create(place)
    left, right = np.full((20, 40), 200, dtype="int16"), np.full((20, 40), 3, dtype="uint8")
    left[:, 20:], right[:, :20] = -1, 0
    bytes_format = DataFormat(dtype="uint8", nodata=0, min=1, max=5)
    parts = [
        put_image(cube.store, "a.tif", left, grid(40, 20)),
        put_image(cube.store, "b.tif", right, grid(40, 20), dformat=bytes_format, real=(0.0, 0.5)),
    ]
    found = cube.read(grid(40, 20), [one_slice(*parts), one_slice(*parts[::-1])], UNIT_VARIABLE)
    for mosaic in found:
        np.testing.assert_array_equal(mosaic[:, :20], np.float32(0.2))
        np.testing.assert_array_equal(mosaic[:, 20:], np.float32(0.25))
    shifted = grid(40, 20).window(Window(row=0, column=0, height=20, width=40))
    assert shifted == grid(40, 20)
