"""Which datasets of a local cube lie in which tile."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.warp import transform_bounds

from acdtask.cube.grid import Grid, Tile
from acdtask.cube.local.read import pick_datasets
from acdtask.cube.local.warp import pixel_offset
from acdtask.cube.model import Dataset
from acdtask.cube.points import crs_of

__all__ = ["Surroundings", "datasets_of_tiles"]

DENSIFY = 21


def datasets_of_tiles(
    datasets: Iterable[Dataset], order: Sequence[str], tiles: Sequence[Tile]
) -> Iterator[list[Dataset]]:
    """For each tile the datasets that lie there, by the order of their records' ids.

    A record has the copies consolidated for the tile, or else its own ones.
    """
    place = {record_id: number for number, record_id in enumerate(order)}
    consolidated: dict[tuple[str, str], list[Dataset]] = defaultdict(list)
    native: list[Dataset] = []
    for one in datasets:
        if one.is_copy:
            consolidated[one.layout, one.cell].append(one)
        else:
            native.append(one)
    bounds: dict[str, NDArray[Any]] = {}
    for tile in tiles:
        crs = tile.grid.crs
        if crs not in bounds:
            bounds[crs] = _bounds_in(crs, native)
        near = [native[row] for row in _meeting(bounds[crs], tile.grid.bounds)]
        found = pick_datasets(near + consolidated[tile.layout, tile.cell], tile.layout, tile.cell)
        yield sorted(found, key=lambda one: place[one.record_id])


def _meeting(bounds: NDArray[Any], box: tuple[float, float, float, float]) -> list[int]:
    min_x, min_y, max_x, max_y = box
    near = (bounds[:, 0] < max_x) & (bounds[:, 2] > min_x) & (bounds[:, 1] < max_y) & (bounds[:, 3] > min_y)
    return np.flatnonzero(near).tolist()


class Surroundings:
    """What lies where an image is wanted.

    Args:
        grid: that of the image.
        as_it_is: whether pixels are wanted as the variable resamples them, which is how copies were made.
    """

    def __init__(self, grid: Grid, *, as_it_is: bool) -> None:
        self._grid = grid
        self._as_it_is = as_it_is

    def meets(self, grid: Grid) -> bool:
        """Whether another grid has ground in common with this one."""
        min_x, min_y, max_x, max_y = self._grid.bounds
        left, bottom, right, top = _bounds(self._grid.crs, grid)
        return left < max_x and right > min_x and bottom < max_y and top > min_y

    def choose(self, datasets: Sequence[Dataset]) -> list[Dataset]:
        """Which datasets of a record to read, out of those that meet the grid.

        A copy is as good as the container of the cube that it was made of, and faster, where it has the grid's own
        pixels, all of them. What lies outside the cube may have got more datasets since. A record that has nothing but
        the tiles of layouts, as a product, is read from those of the first one.
        """
        own = [one for one in datasets if not one.is_copy]
        copies = [one for one in datasets if one.is_copy]
        if all(not one.is_outside and not one.exchanged for one in own) and (self._as_it_is or not own):
            for one in copies:
                if _is_part(self._grid, one.grid):
                    return [one]
        return own or [one for one in copies if one.layout == copies[0].layout]


def _bounds_in(crs: str, datasets: list[Dataset]) -> NDArray[Any]:
    return np.array([_bounds(crs, one.grid) for one in datasets], np.float64).reshape(-1, 4)


@lru_cache(maxsize=65536)
def _bounds(crs: str, grid: Grid) -> tuple[float, float, float, float]:
    return grid.bounds if grid.crs == crs else transform_bounds(grid.crs, crs_of(crs), *grid.bounds, DENSIFY)


@lru_cache(maxsize=4096)
def _is_part(grid: Grid, source: Grid) -> bool:
    """Whether the grid's pixels are all pixels of the source."""
    offset = pixel_offset(grid, source)
    if offset is None:
        return False
    row, column = offset
    return 0 <= row <= source.height - grid.height and 0 <= column <= source.width - grid.width
