"""Opens rasters on the web: headers by range requests, pixels from a temporary copy.

Used only for ingestion. Cubes are read through `Store`, which opens no web addresses.
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
    """Open a GeoTIFF to read its header, fetching only the ranges needed.

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
    """Download and open a GeoTIFF. INPUT_CHANGED if its fingerprint is not `mark`; other errors as in `web_header`.

    The copy is an unnamed temporary file, so nothing remains of it even after a crash.
    """
    with tempfile.TemporaryFile() as file:
        fetched = web.fetch(address, file)
        if mark is not None and fetched != mark:
            raise AcdError(ErrorCode.INPUT_CHANGED, f"{address} was changed or removed after planning")
        path = f"/proc/self/fd/{file.fileno()}"
        with _named(path, address), rasterio.Env(**Store.gdal_options()), open_raster(path) as raster:
            yield raster


@contextmanager
def _named(path: str, address: str) -> Iterator[None]:
    """Replace the path in GDAL's errors by the address."""
    try:
        yield
    except RasterioError as error:
        raise RasterioIOError(str(error.__cause__ or error).replace(path, address)) from None
