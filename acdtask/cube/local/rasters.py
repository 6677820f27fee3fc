"""Reading rasters that are not in the cube yet: their headers, and their pixels in strips."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window as RasterWindow

from acdtask.cube.grid import Grid
from acdtask.cube.local.open_raster import GEOTIFF, NOTHING_REMOTE, VRT, open_raster
from acdtask.cube.local.store import Store
from acdtask.cube.local.traffic import count_pixels_read
from acdtask.cube.local.vrt import check_vrt, is_vrt
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


def read_header(store: Store, address: str, vrt_folder: str = "") -> Header:
    """The header of a GeoTIFF.

    Args:
        store: the cube's store, or that of the source.
        address: of the raster.
        vrt_folder: a VRT is read too, if all that it refers to is below this folder; default: no VRT is read.

    Raises:
        AcdError: INPUT_UNREADABLE, INPUT_CRS_MISSING, INPUT_REFERS_OUTSIDE; ADDRESS_OUTSIDE or ADDRESS_MALFORMED if the
            store is confined.
    """
    try:
        with _opened(store, address, vrt_folder) as raster:
            crs, transform, nodata = raster.crs, raster.transform, raster.nodata
            gcps = len(raster.gcps[0])
            width, height, dtypes, bands = raster.width, raster.height, tuple(raster.dtypes), raster.count
    except RasterioError as error:
        raise AcdError(ErrorCode.INPUT_UNREADABLE, f"{address} cannot be opened: {_reason(error)}") from error
    if transform.is_identity and gcps:
        raise AcdError(
            ErrorCode.INPUT_CRS_MISSING,
            f"{address} has {gcps} ground control points, and no geotransform",
            "Warp it onto a grid: gdalwarp -t_srs EPSG:... -r bilinear in.tif out.tif.",
        )
    if crs is None or transform.is_identity:
        raise AcdError(ErrorCode.INPUT_CRS_MISSING, f"{address} has no coordinate system or no geotransform")
    if not (crs.is_projected or crs.is_geographic):
        raise AcdError(
            ErrorCode.INPUT_CRS_MISSING,
            f"{address} has a coordinate system that is not of the Earth ({' '.join(crs.to_wkt().split())[:60]})",
            "If it is in a map's coordinates, say in which: gdal_edit.py -a_srs EPSG:... FILE. If it is in radar "
            "coordinates, geocode it first.",
        )
    epsg = crs.to_epsg()
    grid = Grid(
        crs=f"EPSG:{epsg}" if epsg else crs.to_wkt(), transform=tuple(transform)[:6], width=width, height=height
    )
    return Header(grid, dtypes[0], nodata, bands, dtypes)


def read_strips(store: Store, address: str, band: int, vrt_folder: str = "") -> Iterator[tuple[int, NDArray[Any]]]:
    """The rows of a band from top to bottom, as (first row, array) of some million pixels. As `read_header`."""
    try:
        with _opened(store, address, vrt_folder) as raster:
            block = max(raster.block_shapes[band - 1][0], 1)
            rows = max(STRIP_PIXELS // raster.width // block, 1) * block
            for row in range(0, raster.height, rows):
                height = min(rows, raster.height - row)
                strip = np.asarray(raster.read(band, window=RasterWindow(0, row, raster.width, height)))
                count_pixels_read(strip.nbytes)
                yield row, strip
    except RasterioError as error:
        raise AcdError(ErrorCode.INPUT_UNREADABLE, f"{address} cannot be read: {_reason(error)}") from error


@contextmanager
def _opened(store: Store, address: str, vrt_folder: str) -> Iterator[DatasetReader]:
    path, is_mosaic = store.gdal_path(address), bool(vrt_folder) and is_vrt(address)
    if is_mosaic:
        check_vrt(path, vrt_folder)
    with (
        rasterio.Env(**store.gdal_options()),
        rasterio.Env(**(NOTHING_REMOTE if is_mosaic else {})),  # sources are opened when they are read
        open_raster(path, roots=store.roots, driver=VRT if is_mosaic else GEOTIFF) as raster,
    ):
        yield raster


def _reason(error: Exception) -> str:
    return " ".join(str(error.__cause__ or error).split())
