"""Any GeoTIFF that GDAL can write, intact or broken, is ingested correctly or refused with an error number."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rasterio import Affine
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError

from acdtask.errors import AcdError, ErrorCode
from tests.jobs.rasters import CRS, ORIGIN, good_pixels
from tests.jobs.unusual_rasters import NAME, ingest, stored, write_odd

GRID = Affine(20, 0, ORIGIN[0], 0, -20, ORIGIN[1])
DTYPES = ["uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]
DTYPES += ["complex64", "complex128", "complex_int16"]
NUMBERS = [None, 0, -1, -9999, 255, 1.5, -3.4028234663852886e38, 1e300, math.nan, math.inf]
PLACES = [
    GRID,
    Affine(20, 0, ORIGIN[0], 0, 20, ORIGIN[1]),
    GRID @ Affine.rotation(30),
    GRID @ Affine.rotation(90),
    Affine(0, 0, 1, 0, 0, 1),
    Affine(1e-9, 0, 5e5, 0, -1e-9, 5e6),
    Affine(1e12, 0, 5e5, 0, -1e12, 5e6),
    Affine(20, 0, 1e30, 0, -20, 1e30),
]
LOCAL = 'ENGCRS["here",EDATUM["here"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],LENGTHUNIT["metre",1]]'
SYSTEMS = [CRS, "EPSG:4326", "EPSG:3857", "EPSG:3413", "EPSG:4978", "+proj=moll", LOCAL, None]

FAST = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


def error_of(cube: Path, source: Path, **how: Any) -> AcdError | None:
    try:
        ingest(cube, source, **how)
    except AcdError as error:
        return error
    return None


def come_in_or_refused(folder: Path, shape: tuple[int, int], **how: Any) -> AcdError | None:
    """Ingest a folder: the pixels are right, or the error is not a bug."""
    cube = folder / "cube"
    error = error_of(cube, folder / "in", **how)
    if error is not None:
        assert error.code is not ErrorCode.BUG
        assert not stored(cube)
        return error
    (image,) = stored(cube).values()
    assert image.shape == shape
    assert ((image == -1) | ((image >= 0) & (image <= 1000))).all()
    assert (image != -1).any()
    return None


@FAST
@given(
    dtype=st.sampled_from(DTYPES),
    bands=st.integers(1, 4),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    nodata=st.sampled_from(NUMBERS),
    scale=st.sampled_from([None, 0.01, -0.01, 0.0, math.inf, 1e300]),
    offset=st.sampled_from([None, 0.1, math.nan, 1e300]),
    place=st.sampled_from(PLACES),
    crs=st.sampled_from(SYSTEMS),
    masked=st.booleans(),
    big=st.sampled_from(["YES", "NO"]),
    told=st.sampled_from([{}, {"band": 1, "source_minimum": 0, "source_maximum": 100, "source_nodata": math.nan}]),
)
@example(
    dtype="uint8",
    bands=1,
    shape=(1, 1),
    nodata=None,
    scale=None,
    offset=None,
    place=Affine(1e-9, 0, 500000, 0, -1e-9, 5000000),  # its footprint is a point
    crs="EPSG:32632",
    masked=False,
    big="YES",
    told={"band": 1, "source_minimum": 0, "source_maximum": 100, "source_nodata": math.nan},
)
def test_any_raster_that_gdal_writes(
    dtype: str,
    bands: int,
    shape: tuple[int, int],
    nodata: float | None,
    scale: float | None,
    offset: float | None,
    place: Affine,
    crs: str | None,
    masked: bool,
    big: str,
    told: dict[str, Any],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        pixels = np.arange(bands * shape[0] * shape[1]).reshape(bands, *shape)
        kind = "complex64" if dtype == "complex_int16" else dtype
        mask = np.arange(shape[0] * shape[1]).reshape(shape) % 2 == 0 if masked else None
        how: dict[str, Any] = {"nodata": nodata, "scale": scale, "offset": offset, "transform": place, "crs": crs}
        try:
            write_odd(Path(folder) / "in" / NAME, pixels.astype(kind), mask=mask, BIGTIFF=big, **how)
        except (RasterioError, ValueError, OverflowError):
            return  # rasterio does not write it
        come_in_or_refused(Path(folder), shape, **told)


# rasterio's own log callback cannot decode a tag's name of random bytes, says so on stderr, and goes on.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@FAST
@given(data=st.data(), kind=st.sampled_from(["flip", "cut", "zero", "insert"]))
def test_any_damage_of_a_good_file(data: st.DataObject, kind: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write_odd(Path(folder) / "in" / NAME, good_pixels(1, size=5), nodata=-1, descriptions=["coh_VV"])
        body = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            place = data.draw(st.integers(0, len(body) - 1))
            if kind == "flip":
                body[place] = data.draw(st.integers(0, 255))
            elif kind == "cut":
                del body[place : place + data.draw(st.integers(1, 40))]
            elif kind == "zero":
                body[place : place + 4] = b"\0\0\0\0"
            else:
                body[place:place] = data.draw(st.binary(min_size=1, max_size=8))
            if not body:
                break
        path.write_bytes(bytes(body))
        error = error_of(Path(folder) / "cube", Path(folder) / "in")
        assert error is None or error.code is not ErrorCode.BUG


@FAST
@given(mask=st.binary(max_size=80), metadata=st.binary(max_size=80) | st.text(max_size=80).map(str.encode))
def test_anything_beside_a_good_file(mask: bytes, metadata: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write_odd(Path(folder) / "in" / NAME, good_pixels(1, size=5), nodata=-1)
        path.with_name(f"{NAME}.msk").write_bytes(mask)
        path.with_name(f"{NAME}.aux.xml").write_bytes(metadata)
        error = come_in_or_refused(Path(folder), (5, 5))
        assert error is not None
        assert error.code is ErrorCode.INPUT_UNREADABLE


def test_ground_control_points_alone_are_no_place(tmp_path: Path) -> None:
    path = tmp_path / "in" / NAME
    path.parent.mkdir()
    how: dict[str, Any] = {"driver": "GTiff", "dtype": "float32", "count": 1, "height": 32, "width": 32, "nodata": -1}
    corners = [(0, 0), (0, 32), (32, 0), (32, 32)]
    points = [GroundControlPoint(row, column, 6.8 + column / 1e3, 51 - row / 1e3) for row, column in corners]
    with rasterio.open(path, "w", gcps=points, crs="EPSG:4326", **how) as raster:
        raster.write(good_pixels(1), 1)
    error = come_in_or_refused(tmp_path, (32, 32))
    assert error is not None
    assert error.code is ErrorCode.INPUT_CRS_MISSING
    assert "4 ground control points but no geotransform" in error.detail
    assert "gdalwarp" in error.fix


def test_a_colour_table_does_not_say_what_numbers_mean(tmp_path: Path) -> None:
    path = write_odd(tmp_path / "in" / NAME, np.full((4, 4), 90, "uint8"), nodata=0)
    with rasterio.open(path, "r+") as raster:
        raster.colorinterp = (ColorInterp.palette,)
        raster.write_colormap(1, {number: (number, 0, 0) for number in range(256)})
    error = come_in_or_refused(tmp_path, (4, 4))
    assert error is not None
    assert error.code is ErrorCode.INPUT_RANGE_UNKNOWN
    assert come_in_or_refused(tmp_path, (4, 4), source_minimum=0, source_maximum=100) is None
    assert set(stored(tmp_path / "cube").popitem()[1].flat) == {900}


def test_red_green_and_blue_are_no_coherence(tmp_path: Path) -> None:
    colours = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    write_odd(tmp_path / "in" / NAME, np.full((4, 4, 4), 90, "uint8"), colours=colours, photometric="RGB")
    error = come_in_or_refused(tmp_path, (4, 4))
    assert error is not None
    assert error.code is ErrorCode.INPUT_BANDS
    assert "1: red, 2: green, 3: blue, 4: alpha" in error.detail


def test_a_raster_of_more_pixels_than_fit_into_memory_is_refused_before_one_is_read(tmp_path: Path) -> None:
    path = tmp_path / "in" / NAME
    path.parent.mkdir()
    how: dict[str, Any] = {"driver": "GTiff", "dtype": "uint8", "count": 1, "height": 70_000, "width": 70_000}
    with rasterio.open(path, "w", crs=CRS, transform=GRID, SPARSE_OK=True, tiled=True, nodata=0, **how):
        pass
    error = come_in_or_refused(tmp_path, (70_000, 70_000), source_maximum=100)
    assert error is not None
    assert error.code is ErrorCode.INPUT_TOO_LARGE


@pytest.mark.parametrize("turn", [30, 90, 180])
def test_a_rotated_grid_keeps_its_place(turn: int, tmp_path: Path) -> None:
    place = GRID @ Affine.rotation(turn)
    write_odd(tmp_path / "in" / NAME, good_pixels(1), nodata=-1, transform=place)
    assert come_in_or_refused(tmp_path, (32, 32)) is None
    (path,) = (tmp_path / "cube/data").rglob("*.tif")
    with rasterio.open(path) as raster:
        assert raster.transform.almost_equals(place)
