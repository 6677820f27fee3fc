"""Writes arrays as Cloud Optimized GeoTIFFs, byte for byte reproducibly."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import rasterio
import rasterio.shutil
from affine import Affine
from rasterio.enums import Resampling
from rasterio.io import DatasetWriter, MemoryFile

from acdtask.raster.checksums import NAMESPACE, block_tags
from acdtask.raster.data_format import Pixels
from acdtask.raster.grid import Grid

__all__ = ["encode_cog"]

Colour = tuple[int, int, int, int]

COG_OPTIONS = {
    "driver": "COG",
    "COMPRESS": "ZSTD",
    "PREDICTOR": "YES",
    "OVERVIEWS": "AUTO",
    "OVERVIEW_PREDICTOR": "YES",
    "NUM_THREADS": "1",
    "COPY_SRC_MDD": "YES",
}


def encode_cog(
    bands: Pixels,
    grid: Grid,
    *,
    nodata: float | None,
    scale: float | None = None,
    band_names: Sequence[str] = (),
    overview_resampling: Literal["average", "nearest"] = "average",
    colormap: Mapping[int, Colour] | None = None,
    unit: str = "",
    tags: Mapping[str, str] | None = None,
    blocksize: int = 256,
) -> bytes:
    """Encode an array as a Cloud Optimized GeoTIFF: ZSTD, tiled, with overviews if it is larger than a block.

    The same array gives the same bytes. The file carries checksums of its blocks (acdtask.raster.checksums). Memory:
    one to two copies of the array and two of the compressed file.

    Args:
        bands: shape (bands, height, width); uint8, int16, uint16, int32, int64, float32 or float64.
        grid: grid of the array.
        nodata: value of invalid pixels; None if all pixels are valid.
        scale: physical = stored * scale, written into each band.
        band_names: description of each band.
        overview_resampling: "nearest" for classes and masks. Averages ignore nodata.
        colormap: red, green, blue, alpha (0..255) by value, for the first of at most two uint8 bands.
        unit: unit of the scaled values, written into each band.
        tags: metadata of the file, such as TIFFTAG_DATETIME.
        blocksize: width and height of a block in pixels, a multiple of 16.
    """
    _, height, width = bands.shape
    if (height, width) != grid.shape:
        raise ValueError(f"array of {height} x {width} px does not match grid of {grid.height} x {grid.width} px")
    with (
        rasterio.Env(GDAL_NUM_THREADS="1", GDAL_PAM_ENABLED="NO"),
        MemoryFile(ext=".tif") as file,
        MemoryFile() as scratch,
    ):
        with _image(scratch.name, bands, grid, nodata) as image:
            image.write(bands)
            _describe(image, scale, band_names, unit)
            if colormap is not None:
                image.write_colormap(1, dict(colormap))
            image.update_tags(**(tags or {}))
            levels = [bands, *_overviews(image, overview_resampling, blocksize)]
            image.update_tags(ns=NAMESPACE, **block_tags(levels, blocksize))
            rasterio.shutil.copy(
                image,
                file.name,
                BLOCKSIZE=str(blocksize),
                OVERVIEW_RESAMPLING=overview_resampling.upper(),
                **COG_OPTIONS,
            )
        data = bytearray(file.getbuffer())
    if colormap is not None:
        _unset_alpha(data)
    return bytes(data)


def _image(path: str, bands: Pixels, grid: Grid, nodata: float | None) -> DatasetWriter:
    """A new image on the grid, for the bands."""
    return rasterio.open(
        path,
        "w+",
        # rasterio's nodata of an int64 band is lost in GDAL's MEM driver.
        driver="GTiff" if bands.dtype.name == "int64" else "MEM",
        width=grid.width,
        height=grid.height,
        count=len(bands),
        dtype=bands.dtype.name,
        crs=grid.crs,
        transform=Affine(*grid.transform),
        nodata=nodata,
    )


def _describe(image: DatasetWriter, scale: float | None, band_names: Sequence[str], unit: str) -> None:
    if scale is not None and scale != 1.0:
        image.scales = (scale,) * image.count
    if any(band_names):
        image.descriptions = tuple(band_names)
    if unit:
        image.units = (unit,) * image.count


EXTRA_SAMPLES = 338
UNSPECIFIED = 0


def _unset_alpha(data: bytearray) -> None:
    """Clear the alpha flag that GDAL's COG driver sets on the band after a band with a colour table.

    Args:
        data: little-endian TIFF or BigTIFF, as written by GDAL's COG driver; changed in place.
    """
    # The value of ExtraSamples is stored in its directory entry, so it can be changed without moving anything.
    is_big = data[2:4] == struct.pack("<H", 43)
    first, count, entry, pointer = ("<Q", "<Q", "<HHQQ", "<Q") if is_big else ("<I", "<H", "<HHII", "<I")
    (offset,) = struct.unpack_from(first, data, 8 if is_big else 4)
    while offset:
        (entries,) = struct.unpack_from(count, data, offset)
        offset += struct.calcsize(count)
        for _ in range(entries):
            tag, _kind, _length, _value = struct.unpack_from(entry, data, offset)
            if tag == EXTRA_SAMPLES:
                value = offset + struct.calcsize(entry) - struct.calcsize(pointer)
                struct.pack_into("<H", data, value, UNSPECIFIED)
            offset += struct.calcsize(entry)
        (offset,) = struct.unpack_from(pointer, data, offset)


def _overviews(image: DatasetWriter, resampling: Literal["average", "nearest"], blocksize: int) -> Iterator[Pixels]:
    """Build the overviews of the COG and yield their pixels. GDAL's COG driver copies them unchanged."""
    factors: list[int] = []
    while max(image.shape) // 2 ** len(factors) > blocksize:
        factors.append(2 ** (len(factors) + 1))
    if factors:
        image.build_overviews(factors, Resampling[resampling])
    for factor in factors:
        yield image.read(out_shape=(image.count, -(-image.height // factor), -(-image.width // factor)))
