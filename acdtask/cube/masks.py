"""Which pixels of a grid lie in an area."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.features import geometry_mask
from shapely.geometry.base import BaseGeometry

from acdtask.cube.grid import Grid
from acdtask.cube.tiling import LON_LAT, project

__all__ = ["inside_mask"]


def inside_mask(area: BaseGeometry, grid: Grid) -> NDArray[np.bool_]:
    """True where the centre of a pixel lies in the area (longitude, latitude); shape (height, width).

    >>> from shapely.geometry import box
    >>> grid = Grid(crs="EPSG:4326", transform=(1, 0, 0, 0, -1, 3), width=3, height=3)
    >>> inside_mask(box(0.6, 0.4, 2.4, 3), grid).astype(int).tolist()
    [[0, 1, 0], [0, 1, 0], [0, 1, 0]]
    """
    there = project(area, LON_LAT, grid.crs)
    if there.is_empty:
        return np.zeros(grid.shape, bool)
    return np.asarray(geometry_mask([there], grid.shape, Affine(*grid.transform), invert=True))
