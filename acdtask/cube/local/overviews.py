"""Choice of overviews: the coarser copies of its image in a GeoTIFF, for pictures on coarse grids."""

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

LOWEST_FACTOR = 2.0
"""The pixels of an image's first overview are at least this much larger."""
TOLERANCE = 1.001
"""An overview's pixels may be larger than the grid's by this factor."""


def overview_for(store: Store, dataset: Dataset, grid: Grid) -> tuple[Dataset, int] | None:
    """The coarsest overview of a dataset's GeoTIFF with pixels no larger than the grid's.

    The choice depends only on the dataset and the size of the grid's pixels, so it is the same for all tiles of a map.
    gdalwarp uses the same rule, but with a tolerance of 0.1 pixels of the image.

    Returns:
        The dataset with the overview's grid, and the overview's number, from 0. None if the image itself is to be
        read: the grid is not coarse enough, there are no overviews (as in consolidated containers), or the file is
        unreadable, which its reader will report.
    """
    if is_stack(dataset.uri):
        return None
    ratio = coarseness(grid, dataset.grid)
    if ratio * TOLERANCE < LOWEST_FACTOR:
        return None
    path = store.gdal_path(dataset.uri)
    try:
        with rasterio.Env(**store.gdal_options()):
            with open_image(path, None, store.roots) as image:
                factors: list[int] = image.overviews(dataset.bands[0])
                has_shape = image.shape == dataset.grid.shape
            fitting = [(factor, level) for level, factor in enumerate(factors) if factor <= ratio * TOLERANCE]
            if not fitting or not has_shape:
                return None
            level = max(fitting)[1]
            with open_image(path, level, store.roots) as image:
                height, width = image.shape
    except (*UNREADABLE, IndexError):  # damaged, or without the band
        return None
    scale = Affine.scale(dataset.grid.width / width, dataset.grid.height / height)
    overview = Grid(
        crs=dataset.grid.crs, transform=(Affine(*dataset.grid.transform) @ scale)[:6], width=width, height=height
    )
    return dataset.model_copy(update={"grid": overview}), level


def coarseness(grid: Grid, source: Grid) -> float:
    """Number of an image's pixels side by side in a pixel of a grid, at the middle of the image; 0 if undefined.

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
