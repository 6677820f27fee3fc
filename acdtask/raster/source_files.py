"""Reads rasters to be ingested: their headers, and their pixels in strips."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import MaskFlags
from rasterio.io import DatasetReader
from rasterio.windows import Window as RasterWindow

from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.grid import Grid
from acdtask.raster.open_raster import GEOTIFF, NOTHING_REMOTE, VRT, open_raster
from acdtask.raster.sidecars import MASK_ENDING, PAM_ENDING, PamBand, marks_beside, read_pam
from acdtask.raster.vrt import check_vrt, is_vrt
from acdtask.raster.web_rasters import web_copy, web_header
from acdtask.storage.store import Store
from acdtask.storage.traffic import count_pixels_read
from acdtask.storage.web import Web

__all__ = ["BandHeader", "Header", "Masks", "read_header", "read_masked_strips"]

STRIP_PIXELS = 16 * 1024 * 1024
MOST_PIXELS = 2**31
"""Maximum size of a raster: all its stored pixels are in memory at once."""

Strip: TypeAlias = tuple[int, NDArray[Any], NDArray[np.bool_] | None]


@dataclass(frozen=True)
class BandHeader:
    """Metadata of a band, from the raster's header or its sidecar files.

    Attributes:
        dtype: data type.
        nodata: all declared nodata values.
        scale, offset: physical = stored * scale + offset.
        description: name of the band.
        colour: GDAL's colour interpretation.
        masked: whether the raster contains a mask for the band, other than an alpha band.
    """

    dtype: str
    nodata: tuple[float, ...] = ()
    scale: float = 1.0
    offset: float = 0.0
    description: str = ""
    colour: str = ""
    masked: bool = False


@dataclass(frozen=True)
class Header:
    """Metadata of a raster.

    Attributes:
        grid: grid of its pixels.
        dtype: data type of the first band.
        nodata: nodata value of the first band, or None.
        bands: number of bands.
        dtypes: data type of each band.
        details: further metadata of each band.
        beside: fingerprints of its sidecar files by ending, if requested.
    """

    grid: Grid
    dtype: str
    nodata: float | None
    bands: int
    dtypes: tuple[str, ...] = ()
    details: tuple[BandHeader, ...] = ()
    beside: Mapping[str, str] = field(default_factory=dict)

    @property
    def mask_file(self) -> bool:
        """Whether it has a mask file (.msk)."""
        return MASK_ENDING in self.beside


@dataclass(frozen=True)
class Masks:
    """Masks to apply to a band, in addition to nodata values and NaN.

    Attributes:
        own: whether to use the mask inside the raster.
        alpha: number of the alpha band, or 0.
        beside: whether to use the mask file (.msk).
    """

    own: bool = False
    alpha: int = 0
    beside: bool = False

    def __bool__(self) -> bool:
        return self.own or self.alpha > 0 or self.beside


def read_header(store: Store | Web, address: str, vrt_folder: str = "", *, beside: bool = False) -> Header:
    """Read the header of a GeoTIFF, or of a VRT if all its sources are below `vrt_folder`; only `Web` reads the web.

    With `beside`, also the sidecar files (mask and metadata). INPUT_UNREADABLE, INPUT_CRS_MISSING,
    INPUT_REFERS_OUTSIDE, INPUT_TOO_LARGE; ADDRESS_OUTSIDE or ADDRESS_MALFORMED if the store is confined.
    """
    marks = marks_beside(store, address) if beside else {}
    with _opened(store, address, vrt_folder, "opened") as raster:
        grid, nodata, dtypes = _grid(raster, address), raster.nodata, tuple(raster.dtypes)
        pam = read_pam(store, address) if PAM_ENDING in marks else {}
        details = tuple(_band(raster, number, pam.get(number)) for number in range(1, len(dtypes) + 1))
    if MASK_ENDING in marks:
        with _mask_beside(store, address) as mask:
            _check_mask(mask, address, grid.shape, len(dtypes))
    return Header(grid, dtypes[0], nodata, len(dtypes), dtypes, details, marks)


def read_masked_strips(
    store: Store | Web,
    address: str,
    band: int,
    masks: Masks,
    vrt_folder: str = "",
    expected: tuple[Grid, str] | None = None,
    mark: str | None = None,
) -> Iterator[Strip]:
    """Read a band (from 1) from top to bottom, in strips of up to about 16 million pixels; see `read_header`.

    A strip is its first row, its pixels, and a mask, True where the masks say that a pixel is valid; None without
    masks. INPUT_CHANGED if the header's grid and data type (`expected`) differ now, or, for the web, the file's
    fingerprint (`mark`).
    """
    with ExitStack() as stack:
        raster = stack.enter_context(_opened(store, address, vrt_folder, mark=mark))
        mask_file = stack.enter_context(_mask_beside(store, address)) if masks.beside else None
        if expected is not None:
            _check_unchanged(raster, address, band, expected)
        if mask_file is not None:
            _check_mask(mask_file, address, raster.shape, raster.count)
        # Strips are whole rows of the file's blocks, so that no block is decoded twice.
        block = max(raster.block_shapes[band - 1][0], 1)
        rows = max(STRIP_PIXELS // raster.width // block, 1) * block
        for row in range(0, raster.height, rows):
            window = RasterWindow(0, row, raster.width, min(rows, raster.height - row))
            strip = np.asarray(raster.read(band, window=window))
            count_pixels_read(strip.nbytes)
            yield row, strip, _valid(raster, mask_file, band, masks, window)


def _valid(
    raster: DatasetReader, mask_file: DatasetReader | None, band: int, masks: Masks, window: RasterWindow
) -> NDArray[np.bool_] | None:
    valid = []
    if masks.own:
        valid.append(raster.read_masks(band, window=window) != 0)
    if masks.alpha:
        valid.append(raster.read(masks.alpha, window=window) != 0)
    if mask_file is not None:
        valid.append(mask_file.read(band if mask_file.count > 1 else 1, window=window) != 0)
    return np.logical_and.reduce(valid) if valid else None


def _grid(raster: DatasetReader, address: str) -> Grid:
    crs, transform = raster.crs, raster.transform
    points = len(raster.gcps[0])
    if transform.is_identity and points:
        raise AcdError(
            ErrorCode.INPUT_CRS_MISSING,
            f"{address} has {points} ground control points but no geotransform",
            "Warp it onto a grid first: gdalwarp -t_srs EPSG:... -r bilinear in.tif out.tif.",
        )
    if not crs or transform.is_identity:
        raise AcdError(ErrorCode.INPUT_CRS_MISSING, f"{address} has no coordinate system or no geotransform")
    if not (crs.is_projected or crs.is_geographic):
        raise AcdError(
            ErrorCode.INPUT_CRS_MISSING,
            f"{address} has neither a projected nor a geographic CRS ({' '.join(crs.to_wkt().split())[:60]})",
            "If it is in map coordinates, set its CRS: gdal_edit.py -a_srs EPSG:... FILE. If it is in radar "
            "coordinates, geocode it first.",
        )
    if not all(map(math.isfinite, transform)) or transform.determinant == 0:
        raise AcdError(ErrorCode.INPUT_CRS_MISSING, f"{address} has a degenerate geotransform")
    if raster.width * raster.height > MOST_PIXELS:
        detail = f"{address} has {raster.width} x {raster.height} px; the limit is {MOST_PIXELS:,} in total"
        raise AcdError(ErrorCode.INPUT_TOO_LARGE, detail)
    epsg = crs.to_epsg()
    return Grid(
        crs=f"EPSG:{epsg}" if epsg else crs.to_wkt(),
        transform=tuple(transform)[:6],
        width=raster.width,
        height=raster.height,
    )


def _band(raster: DatasetReader, number: int, pam: PamBand | None) -> BandHeader:
    """Merge metadata of the file and its .aux.xml; for scale, offset and description .aux.xml wins, as in GDAL."""
    index, pam = number - 1, pam or PamBand()
    flags = raster.mask_flag_enums[index]
    nodata = [value for value in (raster.nodatavals[index], pam.nodata) if value is not None]
    return BandHeader(
        dtype=raster.dtypes[index],
        nodata=tuple(nodata),
        scale=float(raster.scales[index] if pam.scale is None else pam.scale),
        offset=float(raster.offsets[index] if pam.offset is None else pam.offset),
        description=pam.description or raster.descriptions[index] or "",
        colour=_colour(raster, index),
        masked=MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags,
    )


def _colour(raster: DatasetReader, index: int) -> str:
    try:
        return str(raster.colorinterp[index].name)
    except ValueError:  # a value of a newer GDAL, unknown to rasterio; alpha bands are known
        return ""


def _check_unchanged(raster: DatasetReader, address: str, band: int, expected: tuple[Grid, str]) -> None:
    grid, dtype = expected
    if raster.count < band or (_grid(raster, address), raster.dtypes[band - 1]) != (grid, dtype):
        raise AcdError(ErrorCode.INPUT_CHANGED, f"the grid or data type of {address} has changed since the plan")


def _check_mask(mask: DatasetReader, address: str, shape: tuple[int, int], bands: int) -> None:
    if mask.shape != shape or mask.count not in (1, bands):
        raise AcdError(
            ErrorCode.INPUT_UNREADABLE,
            f"{address}{MASK_ENDING} does not fit {address}: it has {mask.width} x {mask.height} px and {mask.count} "
            "bands",
            "Write the mask again, or remove it if it belongs to another file.",
        )


@contextmanager
def _opened(
    store: Store | Web, address: str, vrt_folder: str, doing: str = "read", mark: str | None = None
) -> Iterator[DatasetReader]:
    if isinstance(store, Web):
        with (
            _explained(address, doing),
            web_copy(store, address, mark) if doing == "read" else web_header(store, address) as raster,
        ):
            yield raster
        return
    path, is_mosaic = store.gdal_path(address), bool(vrt_folder) and is_vrt(address)
    if is_mosaic:
        check_vrt(path, vrt_folder)
    with (
        _explained(address, doing),
        _environment(store, is_mosaic=is_mosaic),
        open_raster(path, roots=store.roots, driver=VRT if is_mosaic else GEOTIFF) as raster,
    ):
        yield raster


@contextmanager
def _mask_beside(store: Store | Web, address: str) -> Iterator[DatasetReader]:
    if isinstance(store, Web):
        with _explained(address + MASK_ENDING), web_copy(store, address + MASK_ENDING) as mask:
            yield mask
        return
    path = store.gdal_path(address + MASK_ENDING)
    with _explained(address + MASK_ENDING), _environment(store), open_raster(path, roots=store.roots) as mask:
        yield mask


@contextmanager
def _environment(store: Store, *, is_mosaic: bool = False) -> Iterator[None]:
    with rasterio.Env(**store.gdal_options()), rasterio.Env(**(NOTHING_REMOTE if is_mosaic else {})):
        yield  # NOTHING_REMOTE must last while pixels are read: GDAL opens a mosaic's sources only then


@contextmanager
def _explained(address: str, doing: str = "read") -> Iterator[None]:
    """Turn all errors that GDAL and rasterio raise for a damaged file into INPUT_UNREADABLE."""
    try:
        yield
    except AcdError:
        raise
    except Exception as error:  # RasterioError, CPLE_BaseError, ValueError, UnicodeDecodeError, MemoryError, ...
        raise AcdError(ErrorCode.INPUT_UNREADABLE, f"{address} cannot be {doing}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return " ".join(str(error.__cause__ or error).split()) or type(error).__name__
