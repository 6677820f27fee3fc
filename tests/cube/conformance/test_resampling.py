"""Images on other grids, and numbers with other ranges than the variable's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio.warp
import scipy.ndimage

from acdtask.raster.data_format import DataFormat, Pixels, Resampling
from acdtask.raster.grid import Grid, Layout, RegularGrid, WebMercatorGrid
from acdtask.raster.points import move_points
from tests.cube.builders import COHERENCE, grid
from tests.cube.conformance.images import NODATA, ground, shown
from tests.cube.conformance.rooms import WIDE, Room, dformat


def smooth(of: Grid) -> Pixels:
    """Ground that changes by less than 2 per pixel."""
    rows, columns = np.mgrid[: of.height, : of.width]
    return np.asarray(500 + 100 * np.sin(rows / 67) * np.cos(columns / 61), "int16")


@pytest.mark.parametrize("resampling", ["nearest", "bilinear", "cubic", "cubic_spline", "lanczos"])
@pytest.mark.parametrize("target", ["shifted", "utm33", "web"])
def test_resampled_pixels_equal_those_of_gdal(room: Room, target: str, resampling: Resampling) -> None:
    """Within a step of quantisation, except beside nodata; for nearest, within the difference of neighbours."""
    on = {
        "shifted": grid(280, 180, transform=(20, 0, 400107, 0, -20, 5599889)),
        "utm33": grid(200, 150, crs="EPSG:32633", transform=(20, 0, -24000, 0, -20, 5625000)),
        "web": grid(150, 100, crs="EPSG:3857", transform=(32, 0, 845500, 0, -32, 6541000)),
    }[target]
    instance, pixels = room.instance(), smooth(grid())
    (record,) = room.stack(instance, [pixels], grid())
    found = shown(room.image(instance, on, record, resampling=resampling))
    reference = np.full(on.shape, np.nan)
    rasterio.warp.reproject(
        pixels.astype("float64"),
        reference,
        src_transform=rasterio.Affine(*grid().transform),
        src_crs=grid().crs,
        dst_transform=rasterio.Affine(*on.transform),
        dst_crs=on.crs,
        src_nodata=np.nan,
        dst_nodata=np.nan,
        resampling=rasterio.warp.Resampling[resampling],
        tolerance=0,
        XSCALE=1,
        YSCALE=1,
    )
    both = scipy.ndimage.binary_erosion((found != NODATA) & ~np.isnan(reference), iterations=4)
    assert both.mean() > 0.2
    assert ((found != NODATA) == ~np.isnan(reference)).mean() > 0.97
    step = {"nearest": 4, "lanczos": WIDE[room.kind], "cubic_spline": WIDE[room.kind]}.get(resampling, 1)
    assert np.abs(found[both] - reference[both]).max() <= step + 1e-6


LAYOUTS = {
    "utm33": RegularGrid(crs="EPSG:32633", resolution=20, cell_size=256),
    "shifted": RegularGrid(crs="EPSG:32632", resolution=20, cell_size=256, ox=5120 * 78 + 7, oy=7),
    "coarser": RegularGrid(crs="EPSG:32632", resolution=30, cell_size=256),
    "zoom 12": WebMercatorGrid(zoom=12),
    "zoom 13": WebMercatorGrid(zoom=13),
}


@pytest.mark.parametrize("resampling", ["nearest", "bilinear", "cubic", "average", "mode", "max", "med"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_tile_of_rough_ground_equals_that_of_gdalwarp(room: Room, layout: str, resampling: Resampling) -> None:
    """Within a step, also beside nodata: positions are as inexact as those of gdalwarp, up to 1/8 px."""
    of = grid(600, 500)
    on = tile_at(Layout(name=layout, grid=LAYOUTS[layout]), 406000, 5595000)
    pixels = np.random.default_rng(0).integers(200, 801, of.shape).astype("int16")
    pixels[:20, :30] = NODATA
    reference = np.full(on.shape, NODATA, "int16")
    rasterio.warp.reproject(
        pixels,
        reference,
        src_transform=rasterio.Affine(*of.transform),
        src_crs=of.crs,
        src_nodata=NODATA,
        dst_transform=rasterio.Affine(*on.transform),
        dst_crs=on.crs,
        dst_nodata=NODATA,
        resampling=rasterio.warp.Resampling[resampling],
    )
    instance = room.instance()
    (record,) = room.stack(instance, [pixels], of)
    found = shown(room.image(instance, on, record, resampling=resampling))
    seen = (found != NODATA) & (reference != NODATA)
    # With kernels for areas, older versions of GDAL add a pixel beyond the edge.
    assert ((found != NODATA) != (reference != NODATA)).mean() <= {"geocube": 0.005}.get(room.kind, 0)
    assert seen.mean() > 0.1
    assert np.abs(found - reference)[seen].max() <= 1


def tile_at(layout: Layout, x: float, y: float) -> Grid:
    """The tile of a layout at a point in EPSG:32632."""
    ((x, y),) = move_points(np.array([[x, y]]), "EPSG:32632", layout.crs)
    (tile,) = layout.cells_within((x, y, x + 1, y + 1))
    return tile.grid


@pytest.mark.parametrize("resampling", ["average", "mode", "max", "min", "med", "q1", "q3"])
def test_blocks_of_pixels_become_one(room: Room, resampling: Resampling) -> None:
    """On a grid four times as coarse, each pixel consists of 16 whole ones."""
    instance, pixels = room.instance(), smooth(grid())
    (record,) = room.stack(instance, [pixels], grid())
    coarse = grid(75, 50, transform=(80, 0, 400000, 0, -80, 5600000))
    found = shown(room.image(instance, coarse, record, resampling=resampling)).astype(float)
    blocks = pixels.reshape(50, 4, 75, 4).swapaxes(1, 2).reshape(50, 75, 16)
    if resampling == "mode":
        assert (np.sort(blocks, axis=2)[:, :, [0, -1]] - found[..., np.newaxis] * [1, 1] <= [0, 16]).all()
        return
    means: dict[str, Callable[[], Pixels]] = {
        "average": lambda: blocks.mean(axis=2),
        "max": lambda: blocks.max(axis=2),
        "min": lambda: blocks.min(axis=2),
        "med": lambda: np.median(blocks, axis=2),
        "q1": lambda: np.quantile(blocks, 0.25, axis=2),
        "q3": lambda: np.quantile(blocks, 0.75, axis=2),
    }
    assert np.abs(found - means[resampling]()).max() <= (4 if resampling in ("med", "q1", "q3") else 1)


def test_the_variables_resampling_is_the_default(room: Room) -> None:
    checks = np.asarray((np.indices((200, 300)).sum(axis=0) % 2) * 1000, "int16")
    half = grid(280, 180, transform=(20, 0, 400110, 0, -20, 5599890))
    found = {}
    for resampling in ("nearest", "bilinear"):
        instance = room.instance(room.variable(resampling, resampling=resampling))
        (record,) = room.stack(instance, [checks], grid())
        found[resampling] = shown(room.image(instance, half, record))
    assert set(np.unique(found["nearest"])) == {0, 1000}
    assert set(np.unique(found["bilinear"])) == {500}


@pytest.mark.parametrize("resampling", ["nearest", "bilinear", "cubic", "lanczos"])
def test_an_image_does_not_depend_on_the_rest_of_the_request(room: Room, resampling: Resampling) -> None:
    """Also beside nodata, other images, a missing file, and a group."""
    instance, on = room.instance(), grid(150, 100)
    records = room.stack(instance, [ground(on, seed) for seed in range(3)], on)
    gone = room.record(8)
    Path(room.put(gone, instance, ground(on), on).uri).unlink()
    ids = [record.id for record in records]
    shifted = grid(150, 100, transform=(20, 0, 400007, 0, -20, 5599993))
    groups = [(gone.id,), *((record_id,) for record_id in ids), tuple(ids)]
    together = room.images(instance, shifted, *groups, resampling=resampling)
    for group, mosaic in zip(groups[1:], together[1:], strict=True):
        (alone,) = room.images(instance, shifted, group, resampling=resampling)
        np.testing.assert_array_equal(shown(mosaic), shown(alone))


def maps(room: Room, stored: DataFormat, target: DataFormat) -> None:
    instance = room.instance(room.variable("v", dformat=target))
    random = np.random.default_rng(5)
    pixels = random.uniform(stored.min, stored.max, (40, 50)).astype(stored.dtype)
    pixels[0, :3] = [stored.min, stored.max, stored.nodata]
    (record,) = room.stack(instance, [pixels], grid(50, 40), dformat=stored)
    found = shown(room.image(instance, grid(50, 40), record)).astype("float64")
    share = (pixels.astype("float64") - stored.min) / (stored.max - stored.min)
    expected = target.min + share * (target.max - target.min)
    assert found[0, 2] == target.nodata
    found[0, 2] = expected[0, 2] = 0
    step = 1e-6 if target.dtype.startswith("float") else 1.0
    assert np.abs(found - expected).max() <= step
    assert found[0, :2].tolist() == [target.min, target.max]


@pytest.mark.parametrize(
    ("stored", "target"),
    [
        (dformat("uint8", max=250), COHERENCE.dformat),
        (dformat("float32", max=1), COHERENCE.dformat),
        (dformat("int16", max=1000), dformat("float32", nodata=-9999, max=1)),
        (dformat("int16", min=0, max=500, nodata=999), dformat("uint8", max=200)),
    ],
)
def test_numbers_map_from_the_containers_range_to_the_variables(
    room: Room, stored: DataFormat, target: DataFormat
) -> None:
    maps(room, stored, target)


@pytest.mark.needs("nodata")
@pytest.mark.parametrize(
    ("stored", "target"),
    [
        (dformat("float32", nodata=float("nan"), max=1), COHERENCE.dformat),
        (dformat("int16", min=-500, max=500, nodata=-32768), dformat("uint8", max=200)),
    ],
)
def test_nodata_that_the_variables_type_cannot_hold_is_nodata(
    room: Room, stored: DataFormat, target: DataFormat
) -> None:
    maps(room, stored, target)


@pytest.mark.parametrize("exponent", [1.0, 2.0, 0.5])
def test_numbers_map_onto_real_ones_by_an_exponent(room: Room, exponent: float) -> None:
    """A container with 0..200 stores 100..900 of a variable with 0..1000."""
    instance, stored = room.instance(), dformat("uint8", max=200)
    pixels = np.arange(2000).reshape(40, 50).astype("uint8") % 201
    record = room.record()
    room.put(record, instance, pixels, grid(50, 40), dformat=stored, real=(100.0, 900.0), exponent=exponent)
    found = shown(room.image(instance, grid(50, 40), record)).astype("float64")
    expected = 100 + 800 * (pixels / 200.0) ** exponent
    assert np.abs(found - expected).max() <= 1
    assert (found[0, 0], found.max()) == (100, 900)
