"""Which datasets of a local cube lie in which tile."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.warp import transform_bounds

from acdtask.cube.grid import Tile
from acdtask.cube.local.read import pick_datasets
from acdtask.cube.model import Dataset

__all__ = ["datasets_of_tiles"]

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


def _bounds_in(crs: str, datasets: list[Dataset]) -> NDArray[Any]:
    bounds = [
        one.grid.bounds if one.grid.crs == crs else transform_bounds(one.grid.crs, crs, *one.grid.bounds, DENSIFY)
        for one in datasets
    ]
    return np.array(bounds, np.float64).reshape(-1, 4)
