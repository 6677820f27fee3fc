"""Where the images of a window could be judged, from the quality masks of the members."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from acdtask.change.fusion import sample_points
from acdtask.change.patches import geodesic_area
from acdtask.change.zscore import Quality
from acdtask.cube.model import Dataset, Slice
from acdtask.jobs.contract import Site
from acdtask.jobs.fuse.content import Member
from acdtask.jobs.products import ImageProduct, change_variable
from acdtask.raster.grid import Tile
from acdtask.raster.points import move_points
from acdtask.raster.tiling import LON_LAT

__all__ = ["JudgedPixels", "area_points", "judged_km2"]

SEEN_SHARE = 0.5
"""A member saw an outline if it could judge at least this share of it."""
AREA_POINTS = 64
"""Rows and columns of the lattice of points on the bounding box of an area; fewer lie in it."""
LEAST_POINTS = 1000
MOST_ROWS = 1024
TILES_HELD = 64

Points: TypeAlias = NDArray[np.float64]


class JudgedPixels:
    """The pixels of an image that its member could judge. Each mask is read once, if it is needed."""

    def __init__(self, product: ImageProduct, member: Member, site: Site) -> None:
        self._layout = site.cube.layout(member.layout)
        self._variable = change_variable(site.cube.variable(member.variable))
        self._tiles = {(tile.tile.j, tile.tile.i): (tile.tile, tile.change) for tile in product.tiles}
        self._cube = site.cube
        self._mask_of = lru_cache(TILES_HELD)(self._read)

    def at(self, points: Points) -> NDArray[np.bool_]:
        """Whether the pixels at some points were judged.

        Args:
            points: shape (points, 2), longitude and latitude.
        """
        layout, size = self._layout, self._layout.cell_pixels
        side = layout.cell_extent / size
        x, y = move_points(points, LON_LAT, layout.crs).T
        judged = np.zeros(len(points), np.bool_)
        with np.errstate(invalid="ignore"):
            columns, rows = np.floor((x - layout.origin[0]) / side), np.floor((layout.origin[1] - y) / side)
        known = np.isfinite(columns) & np.isfinite(rows)
        columns, rows = (np.where(known, values, 0).astype(np.int64) for values in (columns, rows))
        cells = np.stack([rows // size, columns // size], axis=1)
        for cell in np.unique(cells[known], axis=0).tolist():
            key = (cell[0], cell[1])
            if key in self._tiles:
                here = known & (cells == cell).all(axis=1)
                judged[here] = self._mask_of(key)[rows[here] % size, columns[here] % size]
        return judged

    def sees(self, outline: BaseGeometry) -> bool:
        """Whether at least half of an outline, in longitude and latitude, was judged."""
        return float(np.mean(self.at(sample_points(outline)))) >= SEEN_SHARE

    def _read(self, cell: tuple[int, int]) -> NDArray[np.bool_]:
        tile: Tile
        change: Dataset
        tile, change = self._tiles[cell]
        _, quality = self._cube.read(tile.grid, [Slice(label="", datasets=(change,))], self._variable, "nearest")[0]
        return np.asarray(quality == Quality.VALID)


def area_points(area: BaseGeometry) -> Points:
    """Points of a regular lattice in an area, shape (points, 2): a thousand or more, unless it is extremely thin."""
    left, bottom, right, top = area.bounds
    rows = AREA_POINTS
    while True:
        steps = (np.arange(rows) + 0.5) / rows
        x, y = np.meshgrid(left + steps * (right - left), bottom + steps * (top - bottom))
        inside = shapely.contains_xy(area, x.ravel(), y.ravel())
        if np.count_nonzero(inside) >= LEAST_POINTS or rows >= MOST_ROWS:
            return np.stack([x.ravel()[inside], y.ravel()[inside]], axis=1)
        rows *= 2


def judged_km2(area: BaseGeometry, images: list[JudgedPixels]) -> float:
    """The part of an area, in square kilometres, that at least one image could judge, by the share of lattice points.

    It does not depend on tiles, and counts no ground twice.
    """
    points = area_points(area)
    judged = np.zeros(len(points), np.bool_)
    for image in images:
        judged |= image.at(points)
    return float(np.mean(judged)) * geodesic_area(area) / 1e6 if len(points) else 0.0
