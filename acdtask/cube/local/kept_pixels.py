"""Pixels of a GeoTIFF that a run reads more than once, block by block in its cache."""

from __future__ import annotations

import math

import numpy as np

from acdtask.cube.model import Dataset
from acdtask.raster.data_format import Pixels
from acdtask.raster.grid import Window
from acdtask.storage.block_cache import BlockCache

__all__ = ["KeptWindow"]

BLOCK = 256
"""Side of the blocks of the GeoTIFFs that acd writes."""


class KeptWindow:
    """A window of a GeoTIFF, extended to whole blocks, with those of its blocks that a cache has.

    Blocks are kept decoded, since GDAL does not say how they are stored.

    Args:
        cache: the cache of the run.
        path: path or address of the file.
        state: state of the file (`Store.state_of`); with another state, its blocks have other names.
        dataset: a dataset of the file, whose data type the file has.
        window: part of the dataset's grid.
    """

    def __init__(self, cache: BlockCache, path: str, state: str, dataset: Dataset, window: Window) -> None:
        self._cache, self._window = cache, window
        self._bands, self._dtype = len(dataset.bands), np.dtype(dataset.dformat.dtype)
        height, width = dataset.grid.shape
        identity = (path, state, dataset.checksum, dataset.bands, self._dtype.str, height, width)
        self._names: dict[Window, bytes] = {}
        for row in range(window.row // BLOCK * BLOCK, window.row + window.height, BLOCK):
            for column in range(window.column // BLOCK * BLOCK, window.column + window.width, BLOCK):
                block = Window(
                    row=row, column=column, height=min(BLOCK, height - row), width=min(BLOCK, width - column)
                )
                self._names[block] = cache.name(*identity, row, column)
        self._pixels = {block: self._found(block) for block in self._names}

    def missing(self) -> Window | None:
        """The smallest window with all blocks that the cache does not have; None if it has all."""
        blocks = [block for block, pixels in self._pixels.items() if pixels is None]
        if not blocks:
            return None
        top, left = min(block.row for block in blocks), min(block.column for block in blocks)
        bottom = max(block.row + block.height for block in blocks)
        right = max(block.column + block.width for block in blocks)
        return Window(row=top, column=left, height=bottom - top, width=right - left)

    def add(self, window: Window, pixels: Pixels) -> None:
        """Take the missing blocks from the pixels of `missing`, and keep them."""
        for block in [block for block, known in self._pixels.items() if known is None]:
            top, left = block.row - window.row, block.column - window.column
            part = np.ascontiguousarray(pixels[:, top : top + block.height, left : left + block.width])
            self._pixels[block] = part
            self._cache.keep(self._names[block], memoryview(part).cast("B"))

    def read(self, target: Pixels | None) -> Pixels:
        """The window's pixels, shape (bands, height, width): the target, if it is given and has this shape.

        All blocks have been found or added.
        """
        shape = self._bands, self._window.height, self._window.width
        fits = target is not None and target.shape == shape and target.dtype == self._dtype
        result: Pixels = target if target is not None and fits else np.empty(shape, self._dtype)
        for block, pixels in self._pixels.items():
            if pixels is not None:
                # Position of the block in the window; negative if the block begins before it.
                top, left = block.row - self._window.row, block.column - self._window.column
                part = pixels[:, max(-top, 0) : shape[1] - top, max(-left, 0) : shape[2] - left]
                result[:, max(top, 0) : top + block.height, max(left, 0) : left + block.width] = part
        return result

    def _found(self, block: Window) -> Pixels | None:
        shape = self._bands, block.height, block.width
        data = self._cache.find(self._names[block])
        if data is None or len(data) != math.prod(shape) * self._dtype.itemsize:
            return None
        return np.frombuffer(data, self._dtype).reshape(shape)
