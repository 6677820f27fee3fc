"""Pictures on coarse grids are made from overviews of GeoTIFFs; images are made from all pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.enums import Resampling as GdalResampling
from rasterio.warp import reproject

from acdtask.cube.local import read as read_module
from acdtask.cube.local.cube import LocalCube
from acdtask.cube.local.overviews import overview_for
from acdtask.cube.model import CubeRequest, Dataset, Image, Outcome
from acdtask.raster.data_format import Pixels
from acdtask.raster.grid import Grid, Window
from tests.cube.builders import dataset, grid, image, put_image, record
from tests.cube.local.test_index import ready

NODATA = -1
SIZE = 2000
OF = grid(SIZE, SIZE)
SIDES = st.integers(1, 80)
MERCATOR = Grid(crs="EPSG:3857", transform=(180, 0, 840000, 0, -180, 6520000), width=200, height=180)


def rough() -> Pixels:
    """Rough ground, and a corner without data."""
    pixels = image(OF, 3)
    pixels[:300, :500] = NODATA
    return pixels


@pytest.fixture
def cube(place: str) -> LocalCube:
    ready(place)
    local = LocalCube.open(place)
    put(local, 0, put_image(local.store, "0.tif", rough(), OF))
    return local


def put(cube: LocalCube, number: int, stored: Dataset) -> None:
    cube.index([record(number)], [stored.model_copy(update={"record_id": record(number).id})])


def coarse(factor: float, **changes: int) -> Grid:
    size = {"width": int(SIZE / factor), "height": int(SIZE / factor)} | changes
    return Grid(crs=OF.crs, transform=(20 * factor, 0, 400000, 0, -20 * factor, 5600000), **size)


def block(crs: str, size: float, x: int, y: int) -> Grid:
    """A block of the lattice on which images are warped. For such blocks, GDAL gives the same values as acd."""
    side = 256 * size
    return Grid(crs=crs, transform=(size, 0, x * side, 0, -size, y * side), width=256, height=256)


BLOCKS = {
    "40 m": (block(OF.crs, 40, 40, 545), 0),
    "60 m": (block(OF.crs, 60, 27, 364), 0),
    "82 m": (block(OF.crs, 82, 20, 266), 1),
    "1 km": (block(OF.crs, 1000, 1, 22), 2),
    "web mercator": (block("EPSG:3857", 180, 18, 142), 1),
}
"""Grids with the number of the overview to read; overviews have pixels of 40, 80 and 160 m."""


def request(of: Grid, number: int = 0) -> CubeRequest:
    return CubeRequest(variable="CoherenceVV", instance="master", grid=of, groups=((record(number).id,),))


def pixels_of(found: Image) -> Pixels:
    assert found.pixels is not None, found.reason
    return found.pixels


def from_level(cube: LocalCube, of: Grid, level: int) -> NDArray[np.float32]:
    """The overview warped to a grid by GDAL; nodata is NaN."""
    local = Path(cube.store.gdal_path("0.tif"))
    with rasterio.Env(**cube.store.gdal_options()), rasterio.open(local, OVERVIEW_LEVEL=level) as overview:
        source = np.where(overview.read(1) == NODATA, np.nan, overview.read(1)).astype(np.float32)
        transform = overview.transform
    made = np.full(of.shape, np.nan, np.float32)
    reproject(
        source,
        made,
        src_transform=transform,
        src_crs=OF.crs,
        src_nodata=np.nan,
        dst_transform=Affine(*of.transform),
        dst_crs=of.crs,
        dst_nodata=np.nan,
        resampling=GdalResampling.bilinear,
    )
    return made


@pytest.mark.parametrize("name", BLOCKS)
def test_a_picture_uses_the_coarsest_overview_that_is_as_fine_as_its_grid(cube: LocalCube, name: str) -> None:
    of, level = BLOCKS[name]
    picture, expected = pixels_of(cube.picture(request(of))), from_level(cube, of, level)
    seen = picture != NODATA
    assert seen.any()
    np.testing.assert_array_equal(seen, ~np.isnan(expected))
    assert np.abs(picture[seen] - expected[seen]).max() <= 1


def test_images_and_slightly_coarser_pictures_use_all_pixels(cube: LocalCube) -> None:
    of = coarse(4)
    (found,) = cube.images(request(of))
    exact = pixels_of(found)
    assert np.abs(exact.astype(int) - pixels_of(cube.picture(request(of)))).max() > 1
    fine = coarse(1.9)
    (found,) = cube.images(request(fine))
    np.testing.assert_array_equal(pixels_of(cube.picture(request(fine))), pixels_of(found))


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> LocalCube:
    place = str(tmp_path_factory.mktemp("here") / "cube")
    ready(place)
    local = LocalCube.open(place)
    put(local, 0, put_image(local.store, "0.tif", rough(), OF))
    return local


@settings(max_examples=20, deadline=None)
@given(
    st.builds(Window, **dict.fromkeys(("row", "column"), st.integers(0, 99)), height=SIDES, width=SIDES),
    st.sampled_from([coarse(2.5), coarse(4), MERCATOR]),
)
def test_a_part_of_a_picture_has_the_pixels_of_the_whole(here: LocalCube, part: Window, whole: Grid) -> None:
    found = here.picture(request(whole.window(part))).pixels
    shown = np.full((part.height, part.width), NODATA) if found is None else found
    np.testing.assert_array_equal(shown, pixels_of(here.picture(request(whole)))[part.slices])


def test_a_picture_with_more_pixels_than_fit_in_memory_uses_an_overview(
    cube: LocalCube, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_module, "WARPED_AT_MOST", SIZE * SIZE)  # half of the image's bytes
    (refused,) = cube.images(request(coarse(20)))
    assert "ACD-712" in refused.reason
    assert cube.picture(request(coarse(20))).outcome is Outcome.DATA


def test_a_file_without_overviews_is_read_whole_and_external_overviews_are_found(tmp_path: Path) -> None:
    ready(str(tmp_path / "cube"))
    cube = LocalCube.open(str(tmp_path / "cube"))
    file = tmp_path / "plain.tif"
    profile = {"driver": "GTiff", "width": SIZE, "height": SIZE, "count": 1, "dtype": "int16", "nodata": NODATA}
    with rasterio.open(file, "w", crs=OF.crs, transform=Affine(*OF.transform), **profile) as made:
        made.write(rough(), 1)
    put(cube, 0, dataset(record(0), str(file), grid=OF))
    (exact,) = cube.images(request(coarse(8)))
    np.testing.assert_array_equal(pixels_of(cube.picture(request(coarse(8)))), pixels_of(exact))

    with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(file, "r+") as made:
        made.build_overviews([8], GdalResampling.nearest)
    assert file.with_name("plain.tif.ovr").exists()
    picture = pixels_of(LocalCube.open(str(tmp_path / "cube")).picture(request(coarse(8))))
    assert np.isin(picture, rough()[::8, ::8]).all()


def test_an_unreadable_file_has_no_overview_and_is_named_by_the_reader(cube: LocalCube) -> None:
    lost = dataset(record(1), "lost.tif", grid=OF)
    put(cube, 1, lost)
    assert overview_for(cube.store, lost, coarse(8)) is None
    found = cube.picture(request(coarse(8), 1))
    assert found.outcome is Outcome.FAILED
    assert "lost.tif is missing" in found.reason
    other = dataset(record(0), "0.tif", grid=grid(SIZE, SIZE - 1))
    assert overview_for(cube.store, other, coarse(8)) is None
