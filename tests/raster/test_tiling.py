from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.warp import transform
from shapely.geometry import shape

from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.grid import Grid, Layout, RegularGrid, WebMercatorGrid
from acdtask.raster.tiling import footprint, project, tiles_as_geojson, tiles_of

UTM32 = Layout(name="utm32", grid=RegularGrid(crs="EPSG:32632", resolution=20, cell_size=256))
UTM60 = Layout(name="utm60", grid=RegularGrid(crs="EPSG:32660", resolution=20, cell_size=1024))
DEGREES = Layout(name="degrees", grid=RegularGrid(crs="EPSG:4326", resolution=0.001, cell_size=1000))
ZOOM9 = Layout(name="z9", grid=WebMercatorGrid(zoom=9))


TILES = [(UTM32, 78, -1094), (UTM60, 3, -20), (ZOOM9, 266, 171), (DEGREES, 7, -50)]
CORNERS = st.lists(st.tuples(st.floats(0, 0.3), st.floats(0, 0.3)), min_size=3, max_size=8)


def cells(area: Any, layout: Layout) -> list[str]:
    return [tile.cell for tile in tiles_of(area, layout)]


@pytest.mark.parametrize(
    ("layout", "i", "j"), [(UTM32, 78, -1094), (UTM60, 3, -20), (ZOOM9, 266, 171), (DEGREES, 7, -50)]
)
def test_the_outline_of_a_tile_needs_that_tile_alone(layout: Layout, i: int, j: int) -> None:
    tile = layout.tile(i, j)
    assert tiles_of(shape(footprint(tile.grid)), layout) == [tile]


def test_tiles_come_by_row_then_column() -> None:
    tiles = tiles_of(shapely.box(7, 50, 7.3, 50.2), UTM32)
    assert tiles == sorted(tiles, key=lambda tile: (tile.j, tile.i))
    assert len(set(tiles)) == len(tiles) > 10


def test_a_hole_and_the_gap_between_islands_need_no_tile() -> None:
    ring = shapely.box(0, 0, 5, 5).difference(shapely.box(1, 1, 4, 4))
    assert len(cells(ring, DEGREES)) == 25 - 9
    islands = shapely.union_all([shapely.box(0.2, 0.2, 0.8, 0.8), shapely.box(100.2, 0.2, 100.8, 0.8)])
    assert cells(islands, DEGREES) == ["0/-1", "100/-1"]


def test_touching_is_not_enough() -> None:
    assert cells(shapely.box(3, 3, 4, 4), DEGREES) == ["3/-4"]
    assert cells(shapely.box(3, 3, 4.01, 4), DEGREES) == ["3/-4", "4/-4"]


def test_an_area_much_smaller_than_a_pixel_has_a_tile() -> None:
    assert cells(shapely.Point(3, 3.5).buffer(1e-8), DEGREES) == ["2/-4", "3/-4"]


def test_an_empty_area_has_no_tile() -> None:
    assert cells(shapely.Polygon(), UTM32) == []


def test_both_sides_of_the_antimeridian_meet_in_a_layout_that_covers_them() -> None:
    split = shapely.union_all([shapely.box(179.9, 9, 180, 9.2), shapely.box(-180, 9, -179.9, 9.2)])
    tiles = tiles_of(split, UTM60)
    columns = sorted({tile.i for tile in tiles})
    assert columns == list(range(columns[0], columns[-1] + 1))
    assert len(columns) in (2, 3)


def test_web_mercator_has_no_tiles_beyond_its_limits() -> None:
    world = Layout(name="z3", grid=WebMercatorGrid(zoom=3))
    assert len(tiles_of(shapely.box(-180, -90, 180, 90), world)) == 64
    assert cells(shapely.box(-180, 80, -179, 90), world) == ["0/0"]


def test_long_straight_edges_are_followed_and_not_cut_short() -> None:
    """In UTM, 50 degrees of a parallel curve by hundreds of kilometres."""
    strip = shapely.box(-15, 59.999, 33, 60.001)
    tiles = tiles_of(strip, UTM32)
    assert shapely.union_all([shape(footprint(tile.grid)) for tile in tiles]).buffer(1e-6).contains(strip)


def test_an_area_beyond_the_crs_is_refused() -> None:
    polar = Layout(name="n", grid=RegularGrid(crs="EPSG:32632", resolution=20, cell_size=256))
    with pytest.raises(AcdError, match="EPSG:32632 is not defined") as caught:
        tiles_of(shapely.box(98.5, -1, 99.5, 1), polar)
    assert caught.value.code is ErrorCode.AOI_INVALID
    with pytest.raises(AcdError) as caught:
        project(shapely.box(0, 0, 1, 1), "EPSG:4326", "EPSG:999999")
    assert caught.value.code is ErrorCode.LAYOUT_INVALID


@settings(max_examples=40, deadline=None)
@given(
    st.floats(-8, 26),
    st.floats(35, 70),
    st.lists(st.tuples(st.floats(0, 0.3), st.floats(0, 0.3)), min_size=3, max_size=8),
)
def test_the_tiles_are_those_that_a_plain_search_finds(
    lon: float, lat: float, corners: list[tuple[float, float]]
) -> None:
    area = shapely.MultiPoint(corners).convex_hull
    if area.area < 1e-6:
        return
    area = shapely.affinity.translate(area, lon, lat)
    projected = project(area, "EPSG:4326", UTM32.crs)
    expected = {
        tile.cell
        for tile in UTM32.cells_within(projected.bounds)
        if shapely.box(*tile.grid.bounds).intersection(projected).area > 1
    }
    actual = set(cells(area, UTM32))
    assert expected <= actual
    slivers = actual - expected
    assert all(
        shapely.box(*tile.grid.bounds).buffer(1).intersects(projected)
        for tile in UTM32.cells_within(projected.buffer(100).bounds)
        if tile.cell in slivers
    )


def test_ten_thousand_cells_are_found_quickly() -> None:
    begin = time.perf_counter()
    tiles = tiles_of(shapely.Point(9, 50).buffer(3.5, quad_segs=2000), UTM32)
    assert len(tiles) > 10_000
    assert time.perf_counter() - begin < 3


def test_a_footprint_goes_counter_clockwise_and_is_rounded() -> None:
    outline = footprint(UTM32.tile(78, -1094).grid)
    assert outline["type"] == "Polygon"
    assert shape(outline).exterior.is_ccw
    assert all(value == round(value, 7) for point in outline["coordinates"][0] for value in point)
    assert outline["coordinates"][0][0] == outline["coordinates"][0][-1]


@pytest.mark.parametrize("pixels", [1, 3000, 12800])
def test_the_edge_of_a_footprint_follows_the_curved_grid(pixels: int) -> None:
    large = Grid(crs="EPSG:32632", transform=(20, 0, 166000, 0, -20, 6700000), width=pixels, height=pixels)
    edge = np.linspace(0, pixels * 20, 501)
    lon, lat = transform(large.crs, "EPSG:4326", 166000 + edge, np.full(501, 6700000.0))
    ring = shapely.LinearRing(footprint(large)["coordinates"][0])
    assert shapely.distance(ring, shapely.points(lon, lat)).max() < 2e-6


def test_a_footprint_over_the_antimeridian_is_cut_there() -> None:
    over = Grid(crs="EPSG:32660", transform=(20, 0, 750000, 0, -20, 1000000), width=10240, height=1024)
    outline = footprint(over)
    parts = [part.bounds for part in shape(outline).geoms]
    assert outline["type"] == "MultiPolygon"
    assert sorted((west == -180, east == 180) for west, _, east, _ in parts) == [(False, True), (True, False)]
    assert shape(outline).area == pytest.approx(1.86 * 0.185, rel=0.05)


def test_a_footprint_around_a_pole_reaches_the_pole() -> None:
    north = Grid(crs="EPSG:3413", transform=(1000, 0, -500000, 0, -1000, 500000), width=1000, height=1000)
    outline = shape(footprint(north))
    assert outline.is_valid
    assert outline.bounds[0] == -180
    assert outline.bounds[2:] == (180, 90)
    assert outline.contains(shapely.Point(33.3, 89.5))
    assert not outline.contains(shapely.Point(33.3, 80))


def test_the_whole_world_has_the_whole_world_as_footprint() -> None:
    world = shape(footprint(Layout(name="z0", grid=WebMercatorGrid(zoom=0)).tile(0, 0).grid))
    assert world.bounds == pytest.approx((-180, -85.0511288, 180, 85.0511288))
    assert world.area == pytest.approx(360 * 170.1022576)


def test_a_rotated_grid_has_a_rotated_footprint() -> None:
    turned = Grid(crs="EPSG:4326", transform=(0.01, 0.01, 7, 0.01, -0.01, 50), width=10, height=10)
    outline = shape(footprint(turned))
    diamond = shapely.Polygon([(7, 50), (7.1, 49.9), (7.2, 50), (7.1, 50.1)])
    assert outline.symmetric_difference(diamond).area < 1e-6


def test_tiles_as_geojson_name_their_cells() -> None:
    collection = tiles_as_geojson([UTM32.tile(78, -1094)])
    feature = collection["features"][0]
    assert feature["properties"] == {"layout": "utm32", "cell": "78/-1094", "i": 78, "j": -1094}
    assert feature["geometry"] == footprint(UTM32.tile(78, -1094).grid)
    assert tiles_as_geojson([]) == {"type": "FeatureCollection", "features": []}
