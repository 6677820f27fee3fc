"""Opening rasters: the only place where acd opens one that it did not write, with the drivers that it allows."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from io import RawIOBase

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError, RasterioIOError
from rasterio.io import DatasetReader

from acdtask.errors import AcdError, ErrorCode
from acdtask.storage.roots import Roots, open_file

__all__ = ["GEOTIFF", "NOTHING_REMOTE", "TIFF_MARKS", "VRT", "open_raster", "open_stream"]

# GDAL writes masks (.msk) without a geotransform; of a raster that needs one, acd checks it.
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)

GEOTIFF, VRT = "GTiff", "VRT"

TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of a TIFF or BigTIFF."""

ALLOWED_REMOTE = "CPL_VSIL_CURL_ALLOWED_FILENAME"
FORGOTTEN = "CPL_VSIL_CURL_NON_CACHED"
"""Files whose bytes GDAL forgets when they are closed; otherwise it would not notice that they were replaced."""
NOTHING_REMOTE = {ALLOWED_REMOTE: "nothing", "GDAL_VRT_ENABLE_PYTHON": "NO"}
"""Options for rasterio.Env: no reads over the network, and no Python code in VRTs."""


def open_raster(
    path: str, level: int | None = None, roots: Roots | None = None, driver: str = GEOTIFF
) -> DatasetReader:
    """Open a raster or one of its overviews. Call it within `rasterio.Env(**store.gdal_options())`.

    Sidecar files (.ovr, .msk, .aux.xml, .tfw) are never read, since GDAL would open them with any driver.

    Args:
        path: from `Store.gdal_path`: an absolute path, or /vsis3/...
        level: number of the overview, from 0; None opens the raster itself.
        roots: folders that a local file must lie below when it is opened. GDAL gets the open descriptor, not the path,
            so swapping a link meanwhile has no effect. For S3, only `Store.gdal_path` checks the roots.
        driver: the only GDAL driver to try.

    Raises:
        AcdError: ADDRESS_OUTSIDE, ADDRESS_MALFORMED.
        RasterioIOError: the raster cannot be opened.
    """
    if path.startswith("/vsis3/"):
        with rasterio.Env(**{ALLOWED_REMOTE: path, FORGOTTEN: path}):
            return _open(path, level, driver)
    if path.startswith("/vsi"):
        raise AcdError(ErrorCode.ADDRESS_MALFORMED, f"{path} is a GDAL virtual path")
    with rasterio.Env(**NOTHING_REMOTE):
        return _open(path, level, driver) if roots is None else _open_below(path, level, roots, driver)


def open_stream(name: str, opener: Callable[[str, str], RawIOBase]) -> DatasetReader:
    """Open a GeoTIFF through a Python file object; GDAL itself accesses neither files nor servers. RasterioIOError.

    The object's virtual name must not be that of an existing file. `opener` is called with a name and a mode, and
    raises FileNotFoundError for any other name.
    """
    with rasterio.Env(**NOTHING_REMOTE):
        return rasterio.open(name, driver=GEOTIFF, sharing=False, opener=opener)


def _open_below(path: str, level: int | None, roots: Roots, driver: str) -> DatasetReader:
    descriptor = -1
    try:
        with open_file(path, roots) as descriptor:
            return _open(f"/proc/self/fd/{descriptor}", level, driver)
    except RasterioError as error:
        reason = str(error.__cause__ or error).replace(f"/proc/self/fd/{descriptor}", path)
        raise RasterioIOError(reason) from None
    except OSError as error:
        raise RasterioIOError(f"{path}: {error.strerror or 'not a file'}") from error


def _open(path: str, level: int | None, driver: str) -> DatasetReader:
    options = {} if level is None else {"OVERVIEW_LEVEL": level}
    return rasterio.open(path, driver=driver, sharing=False, **options)
