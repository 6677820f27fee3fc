"""Cloud Optimized GeoTIFFs from arrays, the same bytes every time."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import rasterio
import rasterio.shutil
from affine import Affine
from rasterio.enums import Resampling
from rasterio.io import DatasetWriter, MemoryFile

from acdtask.raster.checksums import NAMESPACE, block_tags, checksum_of
from acdtask.raster.data_format import Pixels
from acdtask.raster.grid import Grid
from acdtask.storage.store import Store

__all__ = ["encode_cog", "write_cog"]

Colour = tuple[int, int, int, int]


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
    """The array as a Cloud Optimized GeoTIFF: ZSTD, tiled, with overviews when it is larger than a block.

    The same array gives the same bytes. The file carries checksums of its blocks (acdtask.raster.checksums). Memory:
    about the array once or twice more, and the compressed file twice.

    Args:
        bands: shape (bands, height, width); uint8, int16, uint16, int32, int64, float32 or float64.
        grid: where the pixels lie.
        nodata: the value that means nodata; None if every pixel is valid.
        scale: physical = stored * scale, written into each band.
        band_names: a description for each band.
        overview_resampling: how overviews are made; "nearest" for classes and masks. nodata is left out of averages.
        colormap: red, green, blue, alpha (0..255) by value, for the first of at most two bands of uint8.
        unit: of the scaled values, written into each band.
        tags: metadata of the file, such as TIFFTAG_DATETIME.
        blocksize: width and height of a block in pixels, a multiple of 16.
    """
    count, height, width = bands.shape
    if (height, width) != grid.shape:
        raise ValueError(f"an array of {height} x {width} px does not fit a grid of {grid.height} x {grid.width} px")
    with (
        rasterio.Env(GDAL_NUM_THREADS="1", GDAL_PAM_ENABLED="NO"),
        MemoryFile(ext=".tif") as file,
        MemoryFile() as scratch,
    ):
        # GDAL's MEM driver loses the nodata of 64-bit integers that rasterio sets.
        whole_numbers_of_64_bits = bands.dtype.name == "int64"
        with rasterio.open(
            scratch.name,
            "w+",
            driver="GTiff" if whole_numbers_of_64_bits else "MEM",
            width=width,
            height=height,
            count=count,
            dtype=bands.dtype.name,
            crs=grid.crs,
            transform=Affine(*grid.transform),
            nodata=nodata,
        ) as image:
            image.write(bands)
            if scale is not None and scale != 1.0:
                image.scales = (scale,) * count
            if any(band_names):
                image.descriptions = tuple(band_names)
            if unit:
                image.units = (unit,) * count
            if colormap is not None:
                image.write_colormap(1, dict(colormap))
            image.update_tags(**(tags or {}))
            levels = [bands, *_overviews(image, overview_resampling, blocksize)]
            image.update_tags(ns=NAMESPACE, **block_tags(levels, blocksize))
            rasterio.shutil.copy(
                image,
                file.name,
                driver="COG",
                COMPRESS="ZSTD",
                PREDICTOR="YES",
                BLOCKSIZE=str(blocksize),
                OVERVIEWS="AUTO",
                OVERVIEW_RESAMPLING=overview_resampling.upper(),
                OVERVIEW_PREDICTOR="YES",
                NUM_THREADS="1",
                COPY_SRC_MDD="YES",
            )
        data = bytearray(file.getbuffer())
    if colormap is not None:
        _unset_alpha(data)
    return bytes(data)


EXTRA_SAMPLES = 338
UNSPECIFIED = 0


def _unset_alpha(data: bytearray) -> None:
    """Let the band after one with a colour table be plain data. GDAL calls it alpha when it copies such an image.

    Args:
        data: a little-endian TIFF or BigTIFF, as GDAL's COG driver writes it.
    """
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
    """Make the overviews that the COG will have, and give their pixels. GDAL's COG driver takes them as they are."""
    factors: list[int] = []
    while max(image.shape) // 2 ** len(factors) > blocksize:
        factors.append(2 ** (len(factors) + 1))
    if factors:
        image.build_overviews(factors, Resampling[resampling])
    for factor in factors:
        yield image.read(out_shape=(image.count, -(-image.height // factor), -(-image.width // factor)))


def write_cog(
    store: Store,
    key: str,
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
) -> str:
    """Put `encode_cog` of the array under the key; returns the file's checksum, as a `Dataset` has it."""
    data = encode_cog(
        bands,
        grid,
        nodata=nodata,
        scale=scale,
        band_names=band_names,
        overview_resampling=overview_resampling,
        colormap=colormap,
        unit=unit,
        tags=tags,
        blocksize=blocksize,
    )
    store.put(key, data)
    return checksum_of(data)
