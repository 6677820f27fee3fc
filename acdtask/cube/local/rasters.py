"""Reading rasters that are not in the cube yet: their headers, and their pixels in strips."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError, RasterioIOError
from rasterio.windows import Window as RasterWindow

from acdtask.cube.grid import Grid
from acdtask.cube.local.store import Store
from acdtask.cube.local.traffic import count_pixels_read
from acdtask.errors import AcdError, ErrorCode

__all__ = ["Header", "read_header", "read_strips"]

STRIP_PIXELS = 16 * 1024 * 1024


@dataclass(frozen=True)
class Header:
    """What a raster says of itself. `nodata` is None where it says none; `dtypes` has that of each band."""

    grid: Grid
    dtype: str
    nodata: float | None
    bands: int
    dtypes: tuple[str, ...] = ()


def read_header(store: Store, address: str) -> Header:
    """The header of a raster. INPUT_UNREADABLE, INPUT_CRS_MISSING."""
    with rasterio.Env(**store.gdal_options()):
        try:
            with rasterio.open(store.gdal_path(address)) as raster:
                crs, transform, nodata = raster.crs, raster.transform, raster.nodata
                width, height, dtypes, bands = raster.width, raster.height, tuple(raster.dtypes), raster.count
        except (RasterioIOError, RasterioError) as error:
            raise AcdError(ErrorCode.INPUT_UNREADABLE, f"{address} cannot be opened: {_reason(error)}") from error
    if crs is None or transform.is_identity:
        raise AcdError(ErrorCode.INPUT_CRS_MISSING, f"{address} has no coordinate system or no geotransform")
    epsg = crs.to_epsg()
    grid = Grid(
        crs=f"EPSG:{epsg}" if epsg else crs.to_wkt(), transform=tuple(transform)[:6], width=width, height=height
    )
    return Header(grid, dtypes[0], nodata, bands, dtypes)


def read_strips(store: Store, address: str, band: int) -> Iterator[tuple[int, NDArray[Any]]]:
    """The rows of a band from top to bottom, as (first row, array) of some million pixels. INPUT_UNREADABLE."""
    with rasterio.Env(**store.gdal_options()):
        try:
            with rasterio.open(store.gdal_path(address)) as raster:
                block = max(raster.block_shapes[band - 1][0], 1)
                rows = max(STRIP_PIXELS // raster.width // block, 1) * block
                for row in range(0, raster.height, rows):
                    height = min(rows, raster.height - row)
                    strip = np.asarray(raster.read(band, window=RasterWindow(0, row, raster.width, height)))
                    count_pixels_read(strip.nbytes)
                    yield row, strip
        except (RasterioIOError, RasterioError) as error:
            raise AcdError(ErrorCode.INPUT_UNREADABLE, f"{address} cannot be read: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return " ".join(str(error.__cause__ or error).split())
