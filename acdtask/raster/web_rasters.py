"""Rasters on the web: their headers by ranges, their pixels as a copy.

No part of a cube is read in this way: whoever reads one has a `Store`, which opens no address of the web.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import rasterio
from rasterio.errors import RasterioError, RasterioIOError
from rasterio.io import DatasetReader

from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.open_raster import TIFF_MARKS, open_raster, open_stream
from acdtask.storage.store import Store
from acdtask.storage.web import Web
from acdtask.storage.web_ranges import RangedFile

__all__ = ["web_copy", "web_header"]


@contextmanager
def web_header(web: Web, address: str) -> Iterator[DatasetReader]:
    """A GeoTIFF, of which its header may be looked at: only what is asked for is fetched.

    WEB_PAGE, INPUT_MISSING, INPUT_CHANGED, INPUT_TOO_LARGE, INPUT_UNREADABLE.
    """
    with RangedFile(web, address) as file:
        if not file.begin.startswith(TIFF_MARKS):
            raise AcdError(ErrorCode.INPUT_UNREADABLE, f"{address} is not a GeoTIFF")
        name = f"/web/{hashlib.sha256(address.encode()).hexdigest()[:16]}.tif"

        def opener(path: str, mode: str = "rb") -> io.RawIOBase:
            if path != name or mode != "rb":
                raise FileNotFoundError(path)
            return file

        try:
            with (
                _named(name, address),
                rasterio.Env(**Store.gdal_options()),
                open_stream(name, opener) as raster,
            ):
                yield raster
        except RasterioError:
            if file.fault is not None:
                raise file.fault from None
            raise
        if file.fault is not None:
            raise file.fault


@contextmanager
def web_copy(web: Web, address: str, mark: str | None = None) -> Iterator[DatasetReader]:
    """A GeoTIFF, fetched whole. INPUT_CHANGED if it has another fingerprint; as `web_header` otherwise.

    The copy has no name in a folder, so that nothing is left of it whatever happens.
    """
    with tempfile.TemporaryFile() as file:
        fetched = web.fetch(address, file)
        if mark is not None and fetched != mark:
            raise AcdError(
                ErrorCode.INPUT_CHANGED, f"{address} is another file than the one that was planned, or is gone"
            )
        path = f"/proc/self/fd/{file.fileno()}"
        with _named(path, address), rasterio.Env(**Store.gdal_options()), open_raster(path) as raster:
            yield raster


@contextmanager
def _named(path: str, address: str) -> Iterator[None]:
    """What GDAL says of a path, said of the address instead."""
    try:
        yield
    except RasterioError as error:
        raise RasterioIOError(str(error.__cause__ or error).replace(path, address)) from None
