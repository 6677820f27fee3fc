"""Choice of the datasets of a local cube to read on a grid."""

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

__all__ = ["DatasetChoice", "datasets_of_grids"]

DENSIFY = 21
"""Points per edge when bounds are reprojected; the default of GDAL."""


def datasets_of_grids(
    datasets: Iterable[Dataset], order: Sequence[str], grids: Sequence[Grid], layout: str = ""
) -> Iterator[list[Dataset]]:
    """For each grid, the datasets to read, in the order of the record ids.

    Where a record has a consolidated copy, pixels are read from the copy; elsewhere, from the record's own datasets. So
    a pixel has the same value on every grid, and the margin of a grown tile equals what its neighbours read. Copies
    come after their record's own datasets, which `read_mosaics` hides below them. With a layout, only its copies are
    used; otherwise those of any layout, with the first by name on top.
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
        own, tiles = (_intersecting(boxes, grid.bounds) for boxes in bounds[crs])
        chosen = _to_read(grid, [native[row] for row in own], [copies[row] for row in tiles], any_layout=not layout)
        # The sort is stable, so a record's copies stay after its own datasets.
        yield sorted(chosen, key=lambda dataset: place[dataset.record_id])


def _to_read(grid: Grid, native: list[Dataset], cells: list[list[Dataset]], *, any_layout: bool) -> list[Dataset]:
    """Own datasets that are not covered completely by copies, then copies with the same pixels as the grid."""
    copies: list[Dataset] = []
    covered: dict[tuple[str, str], int] = defaultdict(int)  # pixels by record and layout
    for cell in cells:
        window = _overlap(grid, cell[0].grid)
        if window is None:
            continue
        copies += cell
        for record_id in {dataset.record_id for dataset in cell}:
            covered[record_id, cell[0].layout] += window.height * window.width
    # Cells of a layout do not overlap, so the sum of their pixels says whether they cover the whole grid.
    whole = {record_id for (record_id, _), pixels in covered.items() if pixels == grid.height * grid.width}
    chosen = [dataset for dataset in native if dataset.record_id not in whole] + copies
    if any_layout:  # products exist only as tiles of a layout, which are warped onto other grids
        placed = {dataset.record_id for dataset in chosen}
        others = [dataset for cell in cells for dataset in cell if dataset.record_id not in placed]
        # The layouts come in descending order and a dict keeps the last value: the first layout by name.
        first = {dataset.record_id: dataset.layout for dataset in others}
        chosen += [dataset for dataset in others if dataset.layout == first[dataset.record_id]]
    return chosen


def _overlap(grid: Grid, source: Grid) -> Window | None:
    """The window of the source that the grid covers, or None if they share no pixel."""
    offset = pixel_offset(grid, source)
    if offset is None:
        return None
    return intersection(Window(row=offset[0], column=offset[1], height=grid.height, width=grid.width), source.shape)


def _intersecting(bounds: NDArray[Any], box: tuple[float, float, float, float]) -> list[int]:
    """The rows of the bounds that intersect a box; touching is not enough."""
    min_x, min_y, max_x, max_y = box
    mask = (bounds[:, 0] < max_x) & (bounds[:, 2] > min_x) & (bounds[:, 1] < max_y) & (bounds[:, 3] > min_y)
    return np.flatnonzero(mask).tolist()


class DatasetChoice:
    """Chooses the datasets of records for an image on a grid.

    `default_resampling`: whether the image has the variable's resampling, with which copies are made.
    """

    def __init__(self, grid: Grid, *, default_resampling: bool) -> None:
        self._grid = grid
        self._default_resampling = default_resampling

    def intersects(self, grid: Grid) -> bool:
        """Whether another grid overlaps the image's."""
        min_x, min_y, max_x, max_y = self._grid.bounds
        left, bottom, right, top = _bounds(self._grid.crs, grid)
        return left < max_x and right > min_x and bottom < max_y and top > min_y

    def choose(self, datasets: Sequence[Dataset]) -> list[Dataset]:
        """Choose the datasets of a record to read, from those that overlap the image.

        A copy that has all of the grid's pixels is preferred: it equals the record's own container in the cube, and is
        faster to read. That is not certain for containers outside the cube, since the record may have got more of them
        after it was copied. A record with tiles of layouts only, such as a product, is read from its first layout.
        """
        own = [dataset for dataset in datasets if not dataset.is_copy]
        copies = [dataset for dataset in datasets if dataset.is_copy]
        if all(not d.is_outside and not d.exchanged for d in own) and (self._default_resampling or not own):
            for copy in copies:
                if _is_part(self._grid, copy.grid):
                    return [copy]
        return own or [copy for copy in copies if copy.layout == copies[0].layout]


def _bounds_in(crs: str, datasets: list[Dataset]) -> NDArray[Any]:
    return np.array([_bounds(crs, dataset.grid) for dataset in datasets], np.float64).reshape(-1, 4)


@lru_cache(maxsize=65536)
def _bounds(crs: str, grid: Grid) -> tuple[float, float, float, float]:
    return grid.bounds if grid.crs == crs else transform_bounds(grid.crs, crs_of(crs), *grid.bounds, DENSIFY)


@lru_cache(maxsize=4096)
def _is_part(grid: Grid, source: Grid) -> bool:
    """Whether all pixels of the grid are pixels of the source."""
    window = _overlap(grid, source)
    return window is not None and (window.height, window.width) == grid.shape
