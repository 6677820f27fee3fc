"""Which datasets of a local cube to read on a grid."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.warp import transform_bounds

from acdtask.cube.model import Dataset
from acdtask.raster.grid import Grid, Window
from acdtask.raster.points import crs_of
from acdtask.raster.warp import intersection, pixel_offset

__all__ = ["Surroundings", "datasets_of_grids"]

DENSIFY = 21


def datasets_of_grids(
    datasets: Iterable[Dataset], order: Sequence[str], grids: Sequence[Grid], layout: str = ""
) -> Iterator[list[Dataset]]:
    """For each grid the datasets to read there, in the order of the record ids.

    Where a record has a consolidated copy, pixels are read from that copy; elsewhere from the record's own datasets. So
    a pixel has one value, whatever grid is read: the margin of a grown tile equals what its neighbours read. Copies
    come after their record's own datasets, and `read_mosaics` lets them hide those.

    Args:
        datasets: candidates.
        order: ids of their records.
        grids: the grids to read.
        layout: use only copies of this layout; empty for copies of any, with the first by name on top.
    """
    place = {record_id: number for number, record_id in enumerate(order)}
    cells: dict[tuple[str, str], list[Dataset]] = defaultdict(list)
    native: list[Dataset] = []
    for dataset in datasets:
        if not dataset.is_copy:
            native.append(dataset)
        elif layout in ("", dataset.layout):
            cells[dataset.layout, dataset.cell].append(dataset)
    # Later layouts first, so that the first by name lies on top.
    copies = sorted(cells.values(), key=lambda cell: cell[0].layout, reverse=True)
    bounds: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {}
    for grid in grids:
        crs = grid.crs
        if crs not in bounds:
            bounds[crs] = _bounds_in(crs, native), _bounds_in(crs, [cell[0] for cell in copies])
        own, tiles = (_meeting(boxes, grid.bounds) for boxes in bounds[crs])
        found = _to_read(grid, [native[row] for row in own], [copies[row] for row in tiles], any_layout=not layout)
        yield sorted(found, key=lambda dataset: place[dataset.record_id])


def _to_read(grid: Grid, native: list[Dataset], cells: list[list[Dataset]], *, any_layout: bool) -> list[Dataset]:
    """Own datasets that copies do not cover completely, then copies on the grid's own pixels."""
    copies: list[Dataset] = []
    covered: dict[tuple[str, str], int] = defaultdict(int)  # pixels by record and layout: cells do not overlap
    for cell in cells:
        window = _overlap(grid, cell[0].grid)
        if window is None:
            continue
        copies += cell
        for record_id in {dataset.record_id for dataset in cell}:
            covered[record_id, cell[0].layout] += window.height * window.width
    whole = {record_id for (record_id, _), pixels in covered.items() if pixels == grid.height * grid.width}
    found = [dataset for dataset in native if dataset.record_id not in whole] + copies
    if any_layout:  # products have only tiles of a layout, which are warped onto other grids
        placed = {dataset.record_id for dataset in found}
        others = [dataset for cell in cells for dataset in cell if dataset.record_id not in placed]
        first = {dataset.record_id: dataset.layout for dataset in others}  # of repeated ids the last one counts
        found += [dataset for dataset in others if dataset.layout == first[dataset.record_id]]
    return found


def _overlap(grid: Grid, source: Grid) -> Window | None:
    """The window of the source that the grid covers, or None if they share no pixel."""
    offset = pixel_offset(grid, source)
    if offset is None:
        return None
    return intersection(Window(row=offset[0], column=offset[1], height=grid.height, width=grid.width), source.shape)


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
