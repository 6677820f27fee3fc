from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.local.mapping import Mapping
from acdtask.cube.model import Slice
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.data_format import DataFormat, Pixels, Resampling
from acdtask.raster.grid import Grid, Layout, RegularGrid, Window
from acdtask.storage.store import Store
from tests.cube.builders import COHERENCE, grid, image, one_slice, put_image

NODATA = -1
KERNELS: list[Resampling] = ["nearest", "bilinear", "cubic", "cubic_spline", "lanczos", "average", "mode"]
KERNELS += ["max", "min", "med", "q1", "q3"]


def cube_at(place: str) -> LocalCube:
    return LocalCube.create(place)


def ground(of: Grid, seed: int = 0) -> Pixels:
    pixels = image(of, seed)
    pixels[:20, :30] = NODATA
    return pixels


def expected(pixels: Pixels, window: Window) -> Pixels:
    """A window of pixels, which may extend beyond them."""
    around = 2000
    padded = np.pad(pixels, around, constant_values=NODATA)
    row, column = window.row + around, window.column + around
    return padded[row : row + window.height, column : column + window.width]


@pytest.mark.parametrize(
    "window",
    [
        Window(row=0, column=0, height=200, width=300),
        Window(row=17, column=250, height=100, width=100),
        Window(row=-30, column=-40, height=300, width=400),
        Window(row=199, column=299, height=1, width=1),
        Window(row=500, column=0, height=5, width=5),
    ],
)
def test_aligned_pixels_are_copied_bit_for_bit(place: str, window: Window) -> None:
    cube, pixels = cube_at(place), ground(grid())
    found = cube.read(grid().window(window), [one_slice(put_image(cube.store, "a.tif", pixels, grid()))], COHERENCE)
    np.testing.assert_array_equal(found, expected(pixels, window)[np.newaxis])
    assert found.dtype == np.int16


def test_no_slice_and_no_dataset_are_nodata(place: str) -> None:
    cube = cube_at(place)
    assert cube.read(grid(5, 4), [], COHERENCE).shape == (0, 4, 5)
    assert np.unique(cube.read(grid(5, 4), [one_slice()], COHERENCE)).tolist() == [NODATA]


def test_a_later_dataset_lies_on_top_where_it_is_valid(place: str) -> None:
    cube = cube_at(place)
    low, high = np.full((200, 300), 100, dtype="int16"), np.full((200, 300), 900, dtype="int16")
    high[:, :150] = NODATA
    bottom, top = put_image(cube.store, "low.tif", low, grid()), put_image(cube.store, "high.tif", high, grid())
    for resampling in ("nearest", "bilinear"):
        for target in (grid(), grid(transform=(20, 0, 400003, 0, -20, 5599996), width=298, height=198)):
            both = cube.read(target, [one_slice(bottom, top), one_slice(top, bottom)], COHERENCE, resampling)
            assert (both[0, :, :148] == 100).all()
            assert (both[0, :, 151:] == 900).all()
            assert (both[1] == 100).all()


def test_order_within_a_slice_holds_across_containers_and_kinds(place: str) -> None:
    """A container may be at the bottom of one slice and on top of another."""
    cube = cube_at(place)
    parts = [put_image(cube.store, f"{n}.tif", np.full((50, 60), n, dtype="int16"), grid(60, 50)) for n in range(3)]
    shifted = grid(60, 50, transform=(20, 0, 399990, 0, -20, 5600010))
    parts.append(put_image(cube.store, "3.tif", np.full((50, 60), 3, dtype="int16"), shifted))
    orders = [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0), (2, 0)]
    inner = grid().window(Window(row=5, column=5, height=20, width=20))
    found = cube.read(inner, [one_slice(*(parts[n] for n in order)) for order in orders], COHERENCE, "nearest")
    assert [np.unique(mosaic).tolist() for mosaic in found] == [[order[-1]] for order in orders]


def test_several_bands_come_in_the_order_of_the_dataset(place: str) -> None:
    cube = cube_at(place)
    bands = np.stack([ground(grid(), seed) for seed in range(3)])
    both = COHERENCE.model_copy(update={"bands": ("VV", "VH")})
    stored = put_image(cube.store, "a.tif", bands, grid()).model_copy(update={"bands": (3, 1)})
    found = cube.read(grid(), [one_slice(stored)], both)
    np.testing.assert_array_equal(found, bands[[2, 0]][np.newaxis])
    shifted = grid(transform=(20, 0, 400010, 0, -20, 5600000))
    warped = cube.read(shifted, [one_slice(stored)], both, "bilinear")
    alone = cube.read(shifted, [one_slice(stored.model_copy(update={"bands": (1,)}))], COHERENCE, "bilinear")
    np.testing.assert_array_equal(warped[0, 1], alone[0])


@pytest.mark.parametrize("resampling", KERNELS)
def test_warping_is_what_gdal_does_and_nodata_never_blends(place: str, resampling: Resampling) -> None:
    cube = cube_at(place)
    pixels = np.clip(ground(grid()), NODATA, 1000)
    valid = pixels != NODATA
    pixels[valid] = np.clip(pixels[valid], 400, 600)
    target = grid(200, 150, crs="EPSG:32633", transform=(20, 0, -24000, 0, -20, 5625000))
    stored = put_image(cube.store, "a.tif", pixels, grid())
    found = cube.read(target, [one_slice(stored)], COHERENCE, resampling)[0]
    assert found.dtype == np.int16
    assert 0.3 < (found != NODATA).mean() < 1
    assert set(np.unique(found)) - {NODATA} <= set(
        range(400 - 30, 600 + 30) if resampling in ("cubic", "lanczos") else range(400, 601)
    )
    reference = np.full(target.shape, np.nan)
    rasterio.warp.reproject(
        np.where(valid, pixels, np.nan),
        reference,
        src_transform=Affine(*grid().transform),
        src_crs=grid().crs,
        src_nodata=np.nan,
        dst_transform=Affine(*target.transform),
        dst_crs=target.crs,
        dst_nodata=np.nan,
        resampling=rasterio.enums.Resampling[resampling],
    )
    both = (found != NODATA) & ~np.isnan(reference)
    assert both.sum() > 0.98 * (~np.isnan(reference)).sum()
    # By default, GDAL tolerates an error of an eighth of a pixel in coordinates, and so do these limits.
    assert np.abs(found[both] - reference[both]).mean() < (15 if resampling in ("nearest", "mode") else 6)


def test_a_shift_by_half_a_pixel_is_the_mean_rounded_half_to_even(place: str) -> None:
    cube = cube_at(place)
    pixels = np.tile(np.array([0, 1, 2, 5, 6, 9, 13], dtype="int16"), (5, 1))
    stored = put_image(cube.store, "a.tif", pixels, grid(7, 5))
    target = grid(6, 5, transform=(20, 0, 400010, 0, -20, 5600000))
    assert cube.read(target, [one_slice(stored)], COHERENCE, "bilinear")[0, 2].tolist() == [0, 2, 4, 6, 8, 11]


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:3035"])
def test_a_point_keeps_its_value_in_another_crs(place: str, crs: str) -> None:
    cube = cube_at(place)
    of = grid(400, 400)
    rows, columns = np.mgrid[:400, :400]
    plane = (rows + columns).astype("int16")
    stored = put_image(cube.store, "a.tif", plane, of)
    (x,), (y,) = rasterio.warp.transform(of.crs, crs, [404000], [5596000])
    step = 0.0002 if crs == "EPSG:4326" else 20
    target = Grid(crs=crs, transform=(step, 0, x - 10.5 * step, 0, -step, y + 10.5 * step), width=21, height=21)
    centre = cube.read(target, [one_slice(stored)], COHERENCE, "bilinear")[0, 10, 10]
    assert abs(int(centre) - (199.5 + 199.5)) <= 1


def test_a_rotated_image_is_placed_correctly(place: str) -> None:
    cube = cube_at(place)
    turned = Affine.translation(401000, 5599000) @ Affine.rotation(30) @ Affine.scale(20, -20)
    of = grid(100, 80, transform=tuple(turned[:6]))
    rows, columns = np.mgrid[:80, :100]
    stored = put_image(cube.store, "a.tif", (rows * 5 + columns).astype("int16"), of)
    x, y = turned @ (60.5, 40.5)
    target = grid(1, 1, transform=(20, 0, x - 10, 0, -20, y + 10))
    assert abs(int(cube.read(target, [one_slice(stored)], COHERENCE, "bilinear")[0, 0, 0]) - 260) <= 1
    back = cube.read(of, [one_slice(stored)], COHERENCE, "nearest")
    np.testing.assert_array_equal(back[0], rows * 5 + columns)


TARGET = Layout(name="laea", grid=RegularGrid(crs="EPSG:3035", resolution=20, cell_size=400, ox=7.0, oy=13.0))


@pytest.fixture(scope="module")
def warped_whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[LocalCube, list[Slice]]:
    cube = LocalCube.create(str(tmp_path_factory.mktemp("warped")))
    of = grid(500, 450)
    slices = [one_slice(put_image(cube.store, f"{n}.tif", ground(of, n), of)) for n in range(3)]
    return cube, slices


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["nearest", "bilinear", "cubic"]),
    st.integers(0, 380),
    st.integers(0, 380),
    st.integers(1, 400),
    st.integers(1, 400),
    st.integers(1, 3),
)
def test_the_extent_of_a_request_does_not_change_a_pixel(
    warped_whole: tuple[LocalCube, list[Slice]],
    kernel: Resampling,
    row: int,
    column: int,
    height: int,
    width: int,
    count: int,
) -> None:
    cube, slices = warped_whole
    (x,), (y,) = rasterio.warp.transform("EPSG:32632", "EPSG:3035", [405000], [5595500])
    first_row, first_column = int((13 - y) / 20) - 200, int((x - 7) / 20) - 200
    whole = cube.read(TARGET.pixel_grid(first_row, first_column, 400, 400), slices, COHERENCE, kernel)
    height, width = min(height, 400 - row), min(width, 400 - column)
    part = TARGET.pixel_grid(first_row + row, first_column + column, height, width)
    found = cube.read(part, slices[:count], COHERENCE, kernel)
    assert (whole != NODATA).mean() > 0.5
    np.testing.assert_array_equal(found, whole[:count, row : row + height, column : column + width])


@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("kernel", KERNELS)
def test_images_read_together_equal_those_read_alone(place: str, kernel: Resampling, holes: bool) -> None:
    cube, of = cube_at(place), grid()
    slices = []
    for number in range(5):
        pixels = image(of, number)
        if holes:
            pixels[np.random.default_rng(number).uniform(size=pixels.shape) < 0.05] = NODATA
            pixels[50 : 90 + number, 60:100] = NODATA
        slices.append(one_slice(put_image(cube.store, f"{number}.tif", pixels, of)))
    target = grid(200, 150, crs="EPSG:32633", transform=(20, 0, -24000, 0, -20, 5625000))
    together = cube.read(target, slices, COHERENCE, kernel)
    assert ((together == NODATA).any(axis=0) & (together != NODATA).any(axis=0)).any() == holes
    alone = np.concatenate([cube.read(target, [part], COHERENCE, kernel) for part in slices])
    np.testing.assert_array_equal(together, alone)


def test_ranges_map_linearly_and_nodata_stays_nodata(place: str) -> None:
    cube = cube_at(place)
    bytes_format = DataFormat(dtype="uint8", nodata=255, min=0, max=200)
    pixels = np.array([[0, 1, 100, 200, 255]], dtype="uint8")
    stored = put_image(cube.store, "a.tif", pixels, grid(5, 1), dformat=bytes_format)
    assert cube.read(grid(5, 1), [one_slice(stored)], COHERENCE).tolist() == [[[0, 5, 500, 1000, NODATA]]]
    unit = COHERENCE.model_copy(update={"dformat": DataFormat(dtype="float32", nodata=float("nan"), min=0, max=1)})
    found = cube.read(grid(5, 1), [one_slice(stored)], unit)
    np.testing.assert_allclose(found[0, 0], [0, 0.005, 0.5, 1, np.nan], rtol=1e-6)
    quarter = grid(4, 1, transform=(20, 0, 400005, 0, -20, 5600000))
    blended = cube.read(quarter, [one_slice(stored)], unit, "bilinear")
    np.testing.assert_allclose(blended[0, 0, 0], 0.25 * 0.005, atol=1e-4)


def test_a_float_image_becomes_whole_numbers_half_to_even() -> None:
    source = DataFormat(dtype="float32", nodata=float("nan"), min=0, max=1000)
    mapping = Mapping(source, COHERENCE.dformat, (0, 1000))
    values, valid = mapping.apply(np.array([0.5, 1.5, 2.5, np.nan, 70000], dtype="float32"))
    assert values.tolist() == [0, 2, 2, NODATA, 32767]
    assert valid.tolist() == [True, True, True, False, True]


def test_numbers_too_large_for_a_dtype_do_not_wrap_around() -> None:
    source = DataFormat(dtype="int32", nodata=-1, min=0, max=1000)
    mapping = Mapping(source, COHERENCE.dformat, (0, 1000))
    assert mapping.whole(np.array([70000], dtype="int32")).tolist() == [32767]


def test_cubic_does_not_overshoot_the_range(place: str) -> None:
    cube = cube_at(place)
    pixels = np.zeros((40, 40), dtype="int16")
    pixels[:, 20:] = 1000
    stored = put_image(cube.store, "a.tif", pixels, grid(40, 40))
    target = grid(60, 60, transform=(13, 0, 400000, 0, -13, 5600000))
    found = cube.read(target, [one_slice(stored)], COHERENCE, "cubic")
    assert (found.min(), found.max()) == (0, 1000)


def test_a_missing_or_damaged_container_is_named(place: str, tmp_path: Any) -> None:
    cube = cube_at(place)
    stored = put_image(cube.store, "data/a.tif", ground(grid(600, 600)), grid(600, 600))
    data = cube.store.get("data/a.tif")
    outside = Store.at(str(tmp_path / "other"))
    outside.put("a.tif", data[: len(data) // 2])
    cube.store.put("data/half.tif", data[: len(data) // 2])
    cube.store.put("data/none.tif", b"")
    cube.store.put("data/text.tif", b"no raster at all")
    cases = [
        ("data/missing.tif", ErrorCode.CUBE_DAMAGED, "data/missing.tif is missing"),
        ("data/half.tif", ErrorCode.CUBE_DAMAGED, "data/half.tif is damaged"),
        ("data/none.tif", ErrorCode.CUBE_DAMAGED, "data/none.tif is damaged"),
        ("data/text.tif", ErrorCode.CUBE_DAMAGED, "data/text.tif is damaged"),
        (f"{outside.url}/a.tif", ErrorCode.INPUT_UNREADABLE, "other/a.tif is damaged"),
        (f"{outside.url}/b.tif", ErrorCode.INPUT_UNREADABLE, "other/b.tif is missing"),
        ("data/missing.zarr", ErrorCode.CUBE_DAMAGED, "data/missing.zarr is missing"),
    ]
    for uri, code, message in cases:
        broken = stored.model_copy(update={"uri": uri, "subdir": "0"})
        with pytest.raises(AcdError, match=message) as caught:
            cube.read(grid(600, 600), [one_slice(stored), one_slice(broken)], COHERENCE)
        assert caught.value.code is code
    with pytest.raises(AcdError, match="600 x 600"):
        cube.read(grid(), [one_slice(stored.model_copy(update={"grid": grid()}))], COHERENCE)


def test_containers_outside_the_cube_are_read(place: str, tmp_path: Any) -> None:
    pixels, other = ground(grid()), Store.at(str(tmp_path / "other"))
    stored = put_image(other, "a.tif", pixels, grid()).model_copy(update={"uri": f"{other.url}/a.tif"})
    np.testing.assert_array_equal(cube_at(place).read(grid(), [one_slice(stored)], COHERENCE)[0], pixels)


@pytest.mark.s3
def test_an_unreachable_store_is_not_called_damaged(s3_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cube = cube_at(s3_address)
    stored = put_image(cube.store, "a.tif", ground(grid()), grid())
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(AcdError) as caught:
        LocalCube(Store.at(s3_address)).read(grid(), [one_slice(stored.model_copy(update={"uri": "b.tif"}))], COHERENCE)
    assert caught.value.code is ErrorCode.STORE_DENIED
