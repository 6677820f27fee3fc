"""Overviews: coarser copies of its image that a GeoTIFF carries, for pictures of grids as coarse."""

from __future__ import annotations

from functools import lru_cache

import rasterio
from affine import Affine

from acdtask.cube.local.containers import UNREADABLE, is_stack
from acdtask.cube.model import Dataset
from acdtask.raster.grid import Grid
from acdtask.raster.open_images import open_image
from acdtask.raster.warp import middle_pixel
from acdtask.storage.store import Store

__all__ = ["coarseness", "overview_for"]

LEAST = 2.0
"""An image's first overview has pixels twice as large, or larger."""
NEARLY = 1.001
"""How much larger than the grid's an overview's pixels may be."""


def overview_for(store: Store, dataset: Dataset, grid: Grid) -> tuple[Dataset, int] | None:
    """The coarsest overview of a dataset's GeoTIFF whose pixels are no larger than the grid's.

    It is found by the dataset and the size of the grid's pixels alone, so every tile of a map takes the same one.
    gdalwarp chooses by the same rule, but also one whose pixels are larger by 0.1 of the image's.

    Returns:
        The dataset as it is there, and the overview's number, from 0; None if the image's own pixels are to be read:
        the grid is not twice as coarse, there are no overviews (a consolidated container has none), or the file cannot
        be read, as who reads it will see.
    """
    if is_stack(dataset.uri):
        return None
    ratio = coarseness(grid, dataset.grid)
    if ratio * NEARLY < LEAST:
        return None
    path = store.gdal_path(dataset.uri)
    try:
        with rasterio.Env(**store.gdal_options()):
            with open_image(path, None, store.roots) as image:
                factors: list[int] = image.overviews(dataset.bands[0])
                whole = image.shape == dataset.grid.shape
            fitting = [(factor, level) for level, factor in enumerate(factors) if factor <= ratio * NEARLY]
            if not fitting or not whole:
                return None
            level = max(fitting)[1]
            with open_image(path, level, store.roots) as image:
                height, width = image.shape
    except (*UNREADABLE, IndexError):  # damaged, or without the band
        return None
    scale = Affine.scale(dataset.grid.width / width, dataset.grid.height / height)
    seen = Grid(
        crs=dataset.grid.crs, transform=(Affine(*dataset.grid.transform) @ scale)[:6], width=width, height=height
    )
    return dataset.model_copy(update={"grid": seen}), level


def coarseness(grid: Grid, source: Grid) -> float:
    """How many pixels of an image lie side by side, at its middle, in a pixel of a grid; 0 if it cannot be told.

    >>> source = Grid(crs="EPSG:32632", transform=(20, 0, 400000, 0, -20, 5600000), width=100, height=50)
    >>> round(coarseness(source.model_copy(update={"transform": (100, 0, 0, 0, -60, 0)}), source), 6)
    3.0
    """
    a, b, _, d, e, _ = grid.transform
    return _coarseness(Grid(crs=grid.crs, transform=(a, b, 0, d, e, 0), width=1, height=1), source)


@lru_cache(maxsize=4096)
def _coarseness(pixel: Grid, source: Grid) -> float:
    spanned = middle_pixel(source, pixel)
    return 1 / spanned if spanned else 0.0
