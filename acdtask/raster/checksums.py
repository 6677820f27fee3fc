"""Checksums of a GeoTIFF's blocks, stored in the file and verified when a block is first read."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from weakref import WeakKeyDictionary

import google_crc32c
import numpy as np
from numpy.typing import NDArray
from rasterio.io import DatasetReader

from acdtask.raster.data_format import Pixels
from acdtask.raster.grid import Window

__all__ = ["NAMESPACE", "SHA256", "BlockError", "BlockTable", "block_tags", "checksum_of", "digest_of", "table_of"]

NAMESPACE = "ACD"
"""GDAL metadata domain of the tables."""

SHA256 = "1220"
"""Multihash prefix of a SHA-256 in hexadecimal."""


class BlockError(ValueError):
    """A GeoTIFF with a damaged block, or without a usable checksum table."""


def checksum_of(data: bytes | memoryview) -> str:
    """SHA-256 of a file as a hexadecimal multihash, as in STAC's `file:checksum`.

    >>> checksum_of(b"")[:12]
    '1220e3b0c442'
    """
    return digest_of([data])[0]


def digest_of(pieces: Iterable[bytes | memoryview]) -> tuple[str, int]:
    """Checksum and size in bytes of a file given in pieces."""
    digest, size = hashlib.sha256(), 0
    for piece in pieces:
        digest.update(piece)
        size += len(piece)
    return SHA256 + digest.hexdigest(), size


def block_tags(levels: Sequence[Pixels], blocksize: int) -> dict[str, str]:
    """Checksum tables of an image and its overviews, as metadata items.

    A table holds the CRC-32C of each block of each band, computed from the decoded pixels, as little-endian uint32 in
    base64. Blocks at the edge include only the pixels inside the image. The first level is the image, the others are
    its overviews, each of shape (bands, height, width).
    """
    tags = {}
    for number, bands in enumerate(levels):
        # Checksums of decoded pixels, since GDAL does not expose the compressed blocks when it reads a window.
        crcs = np.array(list(_crcs(bands, blocksize)), dtype="<u4")
        tags[_item(number)] = base64.b64encode(crcs.tobytes()).decode()
    return tags


class BlockTable:
    """Checksums of an open GeoTIFF's blocks, and which blocks have been verified.

    Checksums have the shape (bands, rows of blocks, columns of blocks). Sizes are in pixels.
    """

    def __init__(self, crcs: NDArray[np.uint32], shape: tuple[int, int], blocksize: int) -> None:
        self._crcs, self._shape, self._blocksize = crcs, shape, blocksize
        self._checked = np.zeros(crcs.shape, dtype=bool)

    @classmethod
    def of_image(cls, image: DatasetReader, level: int | None) -> BlockTable:
        """Read the table of an image or of one of its overviews. BlockError if it is missing or does not fit."""
        if len(set(image.block_shapes)) != 1 or image.block_shapes[0][0] != image.block_shapes[0][1]:
            raise BlockError("has an unexpected block size")
        blocksize = int(image.block_shapes[0][0])
        try:
            text = image.tags(ns=NAMESPACE).get(_item(0 if level is None else level + 1), "")
            crcs = np.frombuffer(base64.b64decode(text, validate=True), dtype="<u4")
        except (binascii.Error, ValueError) as error:
            raise BlockError("has a damaged checksum table") from error
        rows, columns = (-(-size // blocksize) for size in image.shape)
        if crcs.size == 0 or crcs.size != image.count * rows * columns:
            raise BlockError("has no checksum table that fits its pixels")
        return cls(crcs.reshape(image.count, rows, columns), image.shape, blocksize)

    def around(self, window: Window) -> Window:
        """Expand a window to whole blocks, clipped to the image."""
        size, (height, width) = self._blocksize, self._shape
        top, left = window.row // size * size, window.column // size * size
        bottom = min(-(-(window.row + window.height) // size) * size, height)
        right = min(-(-(window.column + window.width) // size) * size, width)
        return Window(row=top, column=left, height=bottom - top, width=right - left)

    def is_checked(self, bands: Sequence[int], window: Window) -> bool:
        """Whether all blocks of these bands (from 1) that the window intersects have been verified."""
        rows, columns = self._blocks(window)
        return all(self._checked[band - 1, rows, columns].all() for band in bands)

    def check(self, bands: Sequence[int], window: Window, pixels: Pixels) -> None:
        """Verify the blocks in a window from `around` against their checksums. BlockError on a mismatch.

        Numbers of bands count from 1. Pixels have the shape (bands, window height, window width).
        """
        rows, columns = self._blocks(window)
        blocks = product(bands, range(rows.start, rows.stop), range(columns.start, columns.stop))
        for (band, row, column), crc in zip(blocks, _crcs(pixels, self._blocksize), strict=True):
            if crc != self._crcs[band - 1, row, column]:
                raise BlockError(f"is damaged: block {row}, {column} of band {band} does not match its checksum")
        for band in bands:
            self._checked[band - 1, rows, columns] = True

    def _blocks(self, window: Window) -> tuple[slice, slice]:
        size = self._blocksize
        return (
            slice(window.row // size, -(-(window.row + window.height) // size)),
            slice(window.column // size, -(-(window.column + window.width) // size)),
        )


_tables: WeakKeyDictionary[DatasetReader, BlockTable] = WeakKeyDictionary()


def table_of(image: DatasetReader, level: int | None) -> BlockTable:
    """Checksum table of an open image; it remembers the verified blocks. BlockError."""
    table = _tables.get(image)
    if table is None:
        table = _tables[image] = BlockTable.of_image(image, level)
    return table


def _crcs(bands: Pixels, blocksize: int) -> Iterator[int]:
    """CRC-32C of each block of an array aligned to the blocks: band by band, row by row."""
    _, height, width = bands.shape
    for band, row, column in product(bands, range(0, height, blocksize), range(0, width, blocksize)):
        block = band[row : row + blocksize, column : column + blocksize]
        yield google_crc32c.value(block.astype(block.dtype.newbyteorder("<"), copy=False).tobytes())


def _item(number: int) -> str:
    """Name of a level's metadata item; level 0 is the image, 1 its first overview."""
    return f"CRC32C_OVERVIEW_{number}" if number else "CRC32C"
