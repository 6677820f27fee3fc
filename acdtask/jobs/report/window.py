"""The part of the layout that a report shows, and reading it at the size of a picture."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
from shapely.geometry.base import BaseGeometry

from acdtask.cube.model import Cube, Dataset, Slice, Variable
from acdtask.jobs.report.pictures import MAX_SIDE
from acdtask.raster.data_format import Resampling
from acdtask.raster.grid import Grid, Layout, Tile
from acdtask.raster.tiling import LON_LAT, project

__all__ = ["View", "view_of"]


class View(BaseModel):
    """A rectangle of a layout, drawn with `step` layout pixels for a pixel of the picture."""

    grid: Grid
    step: int

    @property
    def exact(self) -> bool:
        """Whether a pixel of the picture is a pixel of the layout."""
        return self.step == 1

    def read(self, cube: Cube, datasets: list[Dataset], variable: Variable, how: Resampling) -> NDArray[Any]:
        """The pixels of some datasets as they are stored, shape (height, width) or (bands, height, width)."""
        return np.asarray(cube.read(self.grid, [Slice(label="", datasets=tuple(datasets))], variable, how)[0])

    def read_physical(self, cube: Cube, datasets: list[Dataset], variable: Variable) -> NDArray[np.float32]:
        """The pixels of some datasets as quantities, NaN where there is none; averaged if the picture is coarser."""
        stored = self.read(cube, datasets, variable, "nearest" if self.exact else "average")
        physical = stored.astype(np.float32) * np.float32(variable.scale)
        physical[~variable.dformat.valid(stored)] = np.nan
        return physical


def view_of(area: BaseGeometry, tiles: list[Tile], layout: Layout) -> View:
    """The view of an area (longitude, latitude): its bounding box, within the tiles, at most MAX_SIDE px a side."""
    min_x, min_y, max_x, max_y = project(area, LON_LAT, layout.crs).bounds
    size = layout.cell_pixels
    resolution = layout.cell_extent / size
    ox, oy = layout.origin
    left = max(math.floor((min_x - ox) / resolution), min(tile.i for tile in tiles) * size)
    right = min(math.ceil((max_x - ox) / resolution), (max(tile.i for tile in tiles) + 1) * size)
    top = max(math.floor((oy - max_y) / resolution), min(tile.j for tile in tiles) * size)
    bottom = min(math.ceil((oy - min_y) / resolution), (max(tile.j for tile in tiles) + 1) * size)
    fine = layout.pixel_grid(top, left, max(bottom - top, 1), max(right - left, 1))
    step = -(-max(fine.shape) // MAX_SIDE)
    a, b, c, d, e, f = fine.transform
    coarse = Grid(
        crs=fine.crs,
        transform=(a * step, b, c, d, e * step, f),
        width=-(-fine.width // step),
        height=-(-fine.height // step),
    )
    return View(grid=coarse, step=step)
