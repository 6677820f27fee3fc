"""A pixel is inside or outside an area regardless of the grid that it is part of."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from acdtask.raster.grid import Layout, RegularGrid, Window
from acdtask.raster.masks import inside_mask


def lattice(crs: str, resolution: float) -> Layout:
    x, y = (7.0, 50.0) if crs == "EPSG:4326" else (400000.0, 5600000.0)
    return Layout(name="lattice", grid=RegularGrid(crs=crs, resolution=resolution, cell_size=64, ox=x, oy=y))


@settings(deadline=None, max_examples=80)
@given(
    resolution=st.sampled_from([0.1, 0.0003, 1 / 3600, 0.00025]),
    corners=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=3, max_size=6, unique=True),
    shift=st.tuples(st.integers(-30, 30), st.integers(-30, 30)),
    half=st.sampled_from([0.0, 0.5]),
)
def test_an_edge_through_the_centres_of_pixels_is_the_same_in_every_grid(
    resolution: float, corners: list[tuple[int, int]], shift: tuple[int, int], half: float
) -> None:
    whole = lattice("EPSG:4326", resolution).pixel_grid(-40, -40, 140, 140)
    points = [(7.0 + (x + half) * resolution, 50.0 - (y + half) * resolution) for x, y in corners]
    area = shapely.MultiPoint(points).convex_hull.buffer(0)
    expected = inside_mask(area, whole)
    row, column = 40 + shift[0], 40 + shift[1]
    part = inside_mask(area, whole.window(Window(row=row, column=column, height=31, width=45)))
    np.testing.assert_array_equal(part, expected[row : row + 31, column : column + 45])
    tile = lattice("EPSG:4326", resolution).tile(0, 0).grid
    np.testing.assert_array_equal(inside_mask(area, tile), expected[40:104, 40:104])


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32632"])
def test_a_pixel_is_inside_if_its_centre_is(crs: str) -> None:
    layout = lattice(crs, 0.001 if crs == "EPSG:4326" else 100)
    area = shapely.Point(7.06, 49.93).buffer(0.05) if crs == "EPSG:4326" else shapely.Point(7.6, 50.5).buffer(0.02)
    mask = inside_mask(area, layout.pixel_grid(0, 0, 200, 200))
    assert 0 < mask.sum() < mask.size
    if crs == "EPSG:4326":
        rows, columns = np.indices(mask.shape)
        centres = shapely.points(7.0 + (columns + 0.5) * 0.001, 50.0 - (rows + 0.5) * 0.001)
        np.testing.assert_array_equal(mask, shapely.contains(area, centres))
