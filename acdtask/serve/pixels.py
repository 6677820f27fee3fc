"""Converts images to the bytes of a stream: interleaved, cut into pieces, compressed, without a second copy."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

import numpy as np
import rasterio
from affine import Affine
from rasterio.io import MemoryFile

from acdtask.cube.local.images import read_images as read_batches
from acdtask.cube.model import CubeRequest, Dataset, Image, Outcome, Variable
from acdtask.raster.data_format import Pixels
from acdtask.raster.grid import Grid, Window
from acdtask.storage.store import Store

__all__ = [
    "CHUNK",
    "WORKING_BYTES",
    "Group",
    "bytes_of_image",
    "bytes_of_stream",
    "cut",
    "deflated",
    "pieces_of",
    "read_images",
    "tiff_of",
]

Group: TypeAlias = tuple[tuple[str, ...], list[Dataset]]

CHUNK = 512 * 1024
"""Bytes of a message before compression. Most clients refuse messages of 4 MiB or more."""

STRIP = 16 * 1024 * 1024
"""Larger images, in bytes, are read in strips directly into the image."""

WORKING_BYTES = 128 * 1024 * 1024
"""Approximate maximum memory needed in addition to the image itself."""

STRIP_ROWS = 256
"""Height of a block: strips end at block boundaries if the grid begins at one."""


def bytes_of_image(grid: Grid, variable: Variable) -> int:
    """Size in bytes of an image of the variable on the grid."""
    return grid.height * grid.width * len(variable.bands) * np.dtype(variable.dformat.dtype).itemsize


def bytes_of_stream(grid: Grid, variable: Variable, *, tiff: bool) -> int:
    """Approximate maximum memory of a stream of images, in bytes: an image, its file, and the reading of a batch."""
    return bytes_of_image(grid, variable) * (2 if tiff else 1) + WORKING_BYTES


def read_images(store: Store, request: CubeRequest, variable: Variable, groups: Iterable[Group]) -> Iterator[Image]:
    """The image of each group, in order, read lazily.

    Small images are read in batches. A large image is assembled from strips, so that there is only one copy of it in
    memory. Grid and resampling are those of the request.
    """
    if _is_small(request.grid, variable):
        yield from read_batches(store, request, variable, groups)
        return
    for group in groups:
        yield _in_strips(store, request, variable, group)


def _in_strips(store: Store, request: CubeRequest, variable: Variable, group: Group) -> Image:
    # A strip may have no dataset or no valid pixel although the image has: the outcomes of all strips decide.
    grid = request.grid
    pixels: Pixels = np.empty((len(variable.bands), *grid.shape), variable.dformat.dtype)
    outcomes = set()
    for window in _strips(grid, variable):
        part = request.model_copy(update={"grid": grid.window(window)})
        image = next(read_batches(store, part, variable, [group]))
        if image.outcome is Outcome.FAILED:
            return image
        outcomes.add(image.outcome)
        pixels[:, window.slices[0]] = variable.dformat.nodata if image.pixels is None else image.pixels
    if Outcome.DATA in outcomes:
        return Image(group[0], Outcome.DATA, pixels if len(variable.bands) > 1 else pixels[0])
    return Image(group[0], Outcome.NODATA if Outcome.NODATA in outcomes else Outcome.ABSENT)


def _is_small(grid: Grid, variable: Variable) -> bool:
    """Whether the image is read at once; rotated images always are, since they are warped as one block."""
    return bool(grid.transform[1] or grid.transform[3]) or bytes_of_image(grid, variable) <= STRIP


def _strips(grid: Grid, variable: Variable) -> Iterator[Window]:
    row_bytes = bytes_of_image(grid, variable) // grid.height
    rows = max(STRIP // row_bytes // STRIP_ROWS, 1) * STRIP_ROWS
    for row in range(0, grid.height, rows):
        yield Window(row=row, column=0, height=min(rows, grid.height - row), width=grid.width)


def pieces_of(pixels: Pixels, size: int = CHUNK) -> Iterator[memoryview]:
    """The bytes of an image in pieces, band-interleaved by pixel (all bands of the first pixel first), little-endian.

    Args:
        pixels: shape (height, width) or (bands, height, width).
        size: bytes of a piece; the last piece may be shorter.

    >>> bands = np.array([[[1, 2, 3]], [[4, 5, 6]]], "uint8")
    >>> [piece.tolist() for piece in pieces_of(bands, 4)]
    [[1, 4, 2, 5], [3, 6]]
    """
    flat = pixels.reshape(len(pixels) if pixels.ndim == 3 else 1, -1)
    flat = flat.astype(flat.dtype.newbyteorder("<"), copy=False)
    if len(flat) == 1:
        yield from cut(np.ascontiguousarray(flat[0]).data.cast("B"), size)
        return
    step = len(flat) * flat.itemsize  # bytes of a pixel
    for first in range(0, flat.nbytes, size):
        # A piece may begin and end within a pixel: interleave all pixels that it touches, then cut its bytes out.
        last = min(first + size, flat.nbytes)
        start, end = first // step, -(-last // step)
        whole = np.ascontiguousarray(flat[:, start:end].T).data.cast("B")
        yield whole[first - start * step : last - start * step]


def cut(data: memoryview, size: int = CHUNK) -> Iterator[memoryview]:
    """Cut bytes into pieces of a size; the last piece may be shorter."""
    for first in range(0, len(data), size):
        yield data[first : first + size]


def deflated(pieces: Iterable[memoryview], level: int, size: int = CHUNK) -> Iterator[bytes]:
    """Compress pieces with raw DEFLATE, into at most as many pieces.

    Args:
        pieces: at least one.
        level: -2 (Huffman only) to 9.
        size: a compressed piece is yielded once it has at least this number of bytes.

    >>> zlib.decompress(b"".join(deflated(pieces_of(np.zeros((300, 300), "uint8")), 6)), -15) == bytes(90000)
    True
    """
    strategy = zlib.Z_HUFFMAN_ONLY if level == -2 else zlib.Z_DEFAULT_STRATEGY
    engine = zlib.compressobj(max(level, -1), zlib.DEFLATED, -zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, strategy)
    ready: list[bytes] = []
    held = 0
    for piece in pieces:
        if held >= size:
            yield b"".join(ready)
            ready, held = [], 0
        ready.append(engine.compress(piece))
        held += len(ready[-1])
    ready.append(engine.flush())
    yield b"".join(ready)


@contextmanager
def tiff_of(pixels: Pixels, grid: Grid, nodata: float) -> Iterator[memoryview]:
    """The bytes of an uncompressed, pixel-interleaved GeoTIFF of (height, width) or (bands, height, width) pixels."""
    bands = pixels.reshape(-1, *grid.shape)
    with MemoryFile(ext=".tif") as file:
        with (
            rasterio.Env(GDAL_PAM_ENABLED="NO"),
            file.open(
                driver="GTiff",
                width=grid.width,
                height=grid.height,
                count=len(bands),
                dtype=bands.dtype.name,
                crs=grid.crs,
                transform=Affine(*grid.transform),
                nodata=nodata,
                interleave="pixel",
                bigtiff="IF_SAFER",
            ) as image,
        ):
            image.write(bands)
        yield memoryview(file.getbuffer()).cast("B")
