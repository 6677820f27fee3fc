"""Checksums of a GeoTIFF's blocks: a table that the file carries, checked the first time a block is read."""

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
"""The namespace of GDAL metadata that the tables are in."""

SHA256 = "1220"
"""How multihash begins the hexadecimal digits of a SHA-256."""


class BlockError(ValueError):
    """A GeoTIFF whose blocks are not what was written, or that has no table of them."""


def checksum_of(data: bytes | memoryview) -> str:
    """The SHA-256 of a file as hexadecimal multihash, which is what STAC's `file:checksum` holds.

    >>> checksum_of(b"")[:12]
    '1220e3b0c442'
    """
    return digest_of([data])[0]


def digest_of(pieces: Iterable[bytes | memoryview]) -> tuple[str, int]:
    """`checksum_of` a file that comes in pieces, and its size."""
    digest, size = hashlib.sha256(), 0
    for piece in pieces:
        digest.update(piece)
        size += len(piece)
    return SHA256 + digest.hexdigest(), size


def block_tags(levels: Sequence[Pixels], blocksize: int) -> dict[str, str]:
    """The tables of an image and its overviews, as metadata items.

    A table has the CRC-32C of each block of each band, decoded, as little-endian uint32 in base64. Blocks at the rim
    count only the pixels inside the image.

    Args:
        levels: the image, then its overviews; each of shape (bands, height, width).
        blocksize: width and height of a block.
    """
    tags = {}
    for number, bands in enumerate(levels):
        crcs = np.array(list(_crcs(bands, blocksize)), dtype="<u4")
        tags[_item(number)] = base64.b64encode(crcs.tobytes()).decode()
    return tags


class BlockTable:
    """The checksums of an open GeoTIFF's blocks, and which blocks were checked already.

    Args:
        crcs: uint32, shape (bands, rows of blocks, columns of blocks).
        shape: height and width of the image.
        blocksize: width and height of a block.
    """

    def __init__(self, crcs: NDArray[np.uint32], shape: tuple[int, int], blocksize: int) -> None:
        self._crcs, self._shape, self._blocksize = crcs, shape, blocksize
        self._checked = np.zeros(crcs.shape, dtype=bool)

    @classmethod
    def of_image(cls, image: DatasetReader, level: int | None) -> BlockTable:
        """The table in a file, for the image or one of its overviews. BlockError if there is none that fits."""
        if len(set(image.block_shapes)) != 1 or image.block_shapes[0][0] != image.block_shapes[0][1]:
            raise BlockError("has blocks of other sizes than it was written with")
        blocksize = int(image.block_shapes[0][0])
        try:
            text = image.tags(ns=NAMESPACE).get(_item(0 if level is None else level + 1), "")
            crcs = np.frombuffer(base64.b64decode(text, validate=True), dtype="<u4")
        except (binascii.Error, ValueError) as error:
            raise BlockError("has a damaged table of checksums") from error
        rows, columns = (-(-size // blocksize) for size in image.shape)
        if crcs.size == 0 or crcs.size != image.count * rows * columns:
            raise BlockError("has no table of checksums that fits its pixels")
        return cls(crcs.reshape(image.count, rows, columns), image.shape, blocksize)

    def around(self, window: Window) -> Window:
        """The blocks that a window meets, as one window."""
        size, (height, width) = self._blocksize, self._shape
        top, left = window.row // size * size, window.column // size * size
        bottom = min(-(-(window.row + window.height) // size) * size, height)
        right = min(-(-(window.column + window.width) // size) * size, width)
        return Window(row=top, column=left, height=bottom - top, width=right - left)

    def is_checked(self, bands: Sequence[int], window: Window) -> bool:
        """Whether every block of these bands (from 1) that the window meets was checked."""
        rows, columns = self._blocks(window)
        return all(self._checked[band - 1, rows, columns].all() for band in bands)

    def check(self, bands: Sequence[int], window: Window, pixels: Pixels) -> None:
        """Compare whole blocks with their checksums. BlockError if one differs.

        Args:
            bands: numbers of the bands, from 1.
            window: as `around` gives it.
            pixels: shape (bands, window height, window width).
        """
        rows, columns = self._blocks(window)
        places = product(bands, range(rows.start, rows.stop), range(columns.start, columns.stop))
        for (band, row, column), crc in zip(places, _crcs(pixels, self._blocksize), strict=True):
            if crc != self._crcs[band - 1, row, column]:
                raise BlockError(f"is damaged: block {row}, {column} of band {band} has another checksum")
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
    """The table of an open image, which remembers the blocks that were checked. BlockError."""
    table = _tables.get(image)
    if table is None:
        table = _tables[image] = BlockTable.of_image(image, level)
    return table


def _crcs(bands: Pixels, blocksize: int) -> Iterator[int]:
    """The CRC-32C of each block of an array that begins on a block: band by band, row by row."""
    _, height, width = bands.shape
    for band, row, column in product(bands, range(0, height, blocksize), range(0, width, blocksize)):
        block = band[row : row + blocksize, column : column + blocksize]
        yield google_crc32c.value(block.astype(block.dtype.newbyteorder("<"), copy=False).tobytes())


def _item(number: int) -> str:
    """The metadata item of a level: 0 is the image, 1 its first overview."""
    return f"CRC32C_OVERVIEW_{number}" if number else "CRC32C"
