"""Masks of the pixels inside an area."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.features import geometry_mask
from shapely.geometry.base import BaseGeometry

from acdtask.raster.grid import Grid
from acdtask.raster.tiling import LON_LAT, project

__all__ = ["inside_mask"]

LATTICE_STEPS = 2**20
"""Positions are rounded to 1/LATTICE_STEPS of a pixel: 20 micrometres for 20 m pixels."""


def inside_mask(area: BaseGeometry, grid: Grid) -> NDArray[np.bool_]:
    """Mask of the pixels whose centre is in an area in longitude and latitude; True inside, shape (height, width).

    >>> from shapely.geometry import box
    >>> grid = Grid(crs="EPSG:4326", transform=(1, 0, 0, 0, -1, 3), width=3, height=3)
    >>> inside_mask(box(0.6, 0.4, 2.4, 3), grid).astype(int).tolist()
    [[0, 1, 0], [0, 1, 0], [0, 1, 0]]
    """
    outline = project(area, LON_LAT, grid.crs)
    if outline.is_empty:
        return np.zeros(grid.shape, bool)
    a, b, c, d, e, f = grid.transform
    if b or d:
        return np.asarray(geometry_mask([outline], grid.shape, Affine(*grid.transform), invert=True))
    # Pixel coordinates count from the CRS origin, so they are the same for all grids with the same pixels. Rounding
    # makes subtracting the grid's first pixel exact: an edge through pixel centres gives the same mask in every tiling.
    first = _on_lattice(np.array([c / a, f / e]))
    pixels = shapely.transform(outline, lambda xy: (_on_lattice(xy / [a, e]) - first) * [1.0, -1.0])
    return np.asarray(geometry_mask([pixels], grid.shape, Affine(1.0, 0.0, 0.0, 0.0, -1.0, 0.0), invert=True))


def _on_lattice(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.rint(positions * LATTICE_STEPS) / LATTICE_STEPS)
