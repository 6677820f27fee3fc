"""Which pixels of a grid lie in an area."""

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
"""Steps per pixel to which positions are rounded: 20 micrometres for pixels of 20 m."""


def inside_mask(area: BaseGeometry, grid: Grid) -> NDArray[np.bool_]:
    """True where the centre of a pixel lies in the area (longitude, latitude); shape (height, width).

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
    # Outline in pixels of the lattice that all grids of the same pixels share, rounded so that subtracting the grid's
    # first pixel is exact: where an edge runs through pixel centres, all grids decide alike.
    first = _on_lattice(np.array([c / a, f / e]))
    pixels = shapely.transform(outline, lambda xy: (_on_lattice(xy / [a, e]) - first) * [1.0, -1.0])
    return np.asarray(geometry_mask([pixels], grid.shape, Affine(1.0, 0.0, 0.0, 0.0, -1.0, 0.0), invert=True))


def _on_lattice(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.rint(positions * LATTICE_STEPS) / LATTICE_STEPS)
