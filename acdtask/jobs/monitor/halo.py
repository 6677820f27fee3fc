"""The halo of a tile: the neighbours that a method needs, and the windows to read."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from acdtask.cube.model import Dataset
from acdtask.jobs.products import BaselineTile
from acdtask.raster.grid import Tile, Window

__all__ = ["BaselineViews", "mask_of", "views_around", "windows_around"]


class BaselineViews(BaseModel):
    """Mean, standard deviation and count of a tile, which come first, and of its neighbours with a baseline."""

    mean: tuple[Dataset, ...]
    standard_deviation: tuple[Dataset, ...]
    count: tuple[Dataset, ...]

    @property
    def neighbours(self) -> set[str]:
        """The cells of the neighbours."""
        return {dataset.cell for dataset in self.mean[1:]}


def views_around(tile: Tile, baseline: Mapping[str, BaselineTile], halo: int) -> BaselineViews:
    """The baseline views of a tile and of its neighbours within a halo.

    Args:
        tile: a tile with a baseline.
        baseline: the tiles with a baseline, by cell.
        halo: in pixels.
    """
    cells = [tile.cell, *(cell for cell in _cells(tile, halo) if cell in baseline)]
    tiles = [baseline[cell] for cell in cells]
    return BaselineViews(
        mean=tuple(product.mean for product in tiles),
        standard_deviation=tuple(product.standard_deviation for product in tiles),
        count=tuple(product.count for product in tiles),
    )


def windows_around(tile: Tile, cells: Collection[str], halo: int) -> list[Window]:
    """Windows of a grown tile that cover the tile and the given neighbours, each pixel once.

    With all neighbours, this is a single window. Other neighbours are not read at all: a file that cannot be read in a
    quarantined tile must not fail its neighbours too.

    Args:
        tile: the tile.
        cells: the neighbours to cover.
        halo: in pixels.
    """
    height, width = tile.grid.shape
    rows, columns = _spans(height, halo), _spans(width, halo)
    wanted = [
        [not (down or across) or f"{tile.i + across}/{tile.j + down}" in cells for across, _, _ in columns]
        for down, _, _ in rows
    ]
    windows: list[Window] = []
    # A run of cells is joined to the window above it if both have the same columns.
    for (_, top, bottom), of_row in zip(rows, wanted, strict=True):
        for first, last in _runs(of_row):
            left, right = columns[first][1], columns[last][2]
            above = next((window for window in windows if _continues(window, top, left, right)), None)
            start = top
            if above is not None:
                windows.remove(above)
                start = above.row
            windows.append(Window(row=start, column=left, height=bottom - start, width=right - left))
    return windows


def mask_of(windows: Collection[Window], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """A mask of the given shape that is True inside the windows."""
    mask = np.zeros(shape, np.bool_)
    for window in windows:
        mask[window.slices] = True
    return mask


def _cells(tile: Tile, halo: int) -> list[str]:
    """The cells within a halo of a tile, without the tile, by row, then column."""
    height, width = tile.grid.shape
    return [
        f"{tile.i + across}/{tile.j + down}"
        for down, _, _ in _spans(height, halo)
        for across, _, _ in _spans(width, halo)
        if down or across
    ]


def _spans(size: int, halo: int) -> list[tuple[int, int, int]]:
    """Along one axis of a grown tile: each cell's offset in cells, first pixel and last pixel (exclusive).

    >>> _spans(10, 16)
    [(-2, 0, 6), (-1, 6, 16), (0, 16, 26), (1, 26, 36), (2, 36, 42)]
    """
    cells = -(-halo // size)
    ends = [(cell, halo + cell * size) for cell in range(-cells, cells + 1)]
    return [(cell, max(start, 0), min(start + size, size + 2 * halo)) for cell, start in ends]


def _runs(wanted: list[bool]) -> list[tuple[int, int]]:
    """The first and last index of each run of True.

    >>> _runs([True, True, False, True])
    [(0, 1), (3, 3)]
    """
    starts = [index for index, flag in enumerate(wanted) if flag and not (index and wanted[index - 1])]
    ends = [index for index, flag in enumerate(wanted) if flag and not (wanted[index + 1 :] and wanted[index + 1])]
    return list(zip(starts, ends, strict=True))


def _continues(window: Window, top: int, left: int, right: int) -> bool:
    """Whether a window ends just above a row and has the same columns."""
    return window.row + window.height == top and (window.column, window.column + window.width) == (left, right)
