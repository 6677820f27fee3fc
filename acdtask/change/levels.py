"""The distribution of an image's z by block of pixels and by mean coherence, as integers that add up over tiles.

z is counted in levels of 0.2, for each block of BLOCK x BLOCK px of the global pixel lattice and each of BINS bins of
mean coherence. Within a level, scores are taken as evenly spread, so medians and quantiles are known to 0.01. All sums
are of integers, so neither tiles nor their order show in them. Only levels that occur are kept: some hundred numbers a
block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["BINS", "BLOCK", "HUNDREDTHS", "LevelCounts", "ZLevels", "cells_of"]

BLOCK = 96
"""Width and height of a block in pixels. Block (r, c) has the rows from r * BLOCK and the columns from c * BLOCK."""

BINS = 20
"""Number of bins of equal width over the variable's range."""

HUNDREDTHS = 100
"""Integers here count hundredths of z."""

WIDTH = 20
"""Width of a level, in hundredths."""

REACH = 31
"""Levels on either side of the one around 0; scores beyond are counted in the outermost."""

_LEVELS = 2 * REACH + 1
_CELLS = BINS * _LEVELS
_BLOCK_BITS, _CELL_BITS = 22, 12
_FIRST_BLOCK = -(2 ** (_BLOCK_BITS - 1))
_GROUPS_AT_ONCE = 256
_POSITIONS = 10 * (REACH + 1) * WIDTH
"""Positions of a level that was shifted twice, in hundredths."""


@dataclass(frozen=True, eq=False)
class LevelCounts:
    """Counts of scores, without zeros.

    Attributes:
        rows: shape (2, n), int64: keys in ascending order, and the number of scores with each. A key is made of the
            block's row and column, the bin, and the level.
    """

    rows: NDArray[np.int64]

    @classmethod
    def of(cls, z: NDArray[np.float32], cells: NDArray[np.int32], origin: tuple[int, int]) -> LevelCounts:
        """Count the scores of a tile.

        Args:
            z: shape (height, width), NaN where there is no score.
            cells: `cells_of` the same pixels.
            origin: global (row, column) of the first pixel.

        >>> z = np.array([[0.0, 0.31, np.nan, 0.35]], np.float32)
        >>> LevelCounts.of(z, cells_of(np.zeros((1, 4), np.uint8), (0, 95)), (0, 95)).rows[1].tolist()
        [1, 2]
        """
        grid = _BlockGrid.of(z.shape, origin)
        scaled = np.clip(z, -REACH * WIDTH / HUNDREDTHS, REACH * WIDTH / HUNDREDTHS)
        scaled *= np.float32(HUNDREDTHS / WIDTH)
        np.rint(scaled, out=scaled)
        unknown = np.isnan(scaled)
        scaled[unknown] = 0
        index = cells + scaled.astype(np.int32)
        index[unknown] = grid.size * _CELLS
        counts = np.bincount(index.reshape(-1), minlength=grid.size * _CELLS + 1)[:-1]
        occurring = np.flatnonzero(counts)
        block, cell = np.divmod(occurring, _CELLS)
        keys = (grid.keys[block] << _CELL_BITS) + cell
        order = np.argsort(keys)
        return cls(np.stack([keys[order], counts[occurring][order]]))

    @classmethod
    def total(cls, parts: Sequence[LevelCounts]) -> LevelCounts:
        """The sum of the counts of tiles, in any order."""
        rows = np.concatenate([np.zeros((2, 0), np.int64), *(part.rows for part in parts)], axis=1)
        keys, index = np.unique(rows[0], return_inverse=True)
        counts = np.zeros(len(keys), np.int64)
        np.add.at(counts, index, rows[1])
        return cls(np.stack([keys, counts]))


@dataclass(frozen=True, eq=False)
class ZLevels:
    """The counts of an image as separate columns, one row per block, bin and level that occur.

    Attributes:
        blocks: shape (blocks, 2), row and column of each block, in ascending order.
        block: index of each row's block in `blocks`; ascending.
        bin: bin of each row.
        start: lower edge of each row's level, in hundredths.
        count: number of scores.
    """

    blocks: NDArray[np.int64]
    block: NDArray[np.int64]
    bin: NDArray[np.int64]
    start: NDArray[np.int64]
    count: NDArray[np.int64]

    @classmethod
    def of(cls, counts: LevelCounts) -> ZLevels:
        """Take keys apart."""
        keys, count = counts.rows
        names, block = np.unique(keys >> _CELL_BITS, return_inverse=True)
        column = (names & (2**_BLOCK_BITS - 1)) + _FIRST_BLOCK
        blocks = np.stack([(names >> _BLOCK_BITS) + _FIRST_BLOCK, column], axis=1)
        bin_, level = np.divmod(keys & (2**_CELL_BITS - 1), _LEVELS)
        return cls(blocks, block.astype(np.int64), bin_, (level - REACH) * WIDTH - WIDTH // 2, count)

    def shifted(self, by: NDArray[np.int64]) -> ZLevels:
        """The levels after `by` (one value per row, in hundredths) is subtracted from their scores."""
        return ZLevels(self.blocks, self.block, self.bin, self.start - by, self.count)

    def totals(self, group: NDArray[np.int64], groups: int) -> NDArray[np.int64]:
        """The number of scores in each group; `group` is that of each row."""
        total = np.zeros(groups, np.int64)
        np.add.at(total, group, self.count)
        return total

    def quantiles(
        self, group: NDArray[np.int64], groups: int, fractions: Sequence[tuple[int, int]]
    ) -> NDArray[np.int64]:
        """Quantiles of each group, in hundredths; 0 for groups without scores. Shape (fractions, groups).

        Args:
            group: group of each row.
            groups: number of groups.
            fractions: quantiles as numerator and denominator.

        >>> cells = cells_of(np.zeros((1, 5), np.uint8), (0, 0))
        >>> counts = LevelCounts.of(np.array([[0, 0, 0.4, 2, 2]], np.float32), cells, (0, 0))
        >>> levels = ZLevels.of(counts)
        >>> levels.quantiles(np.zeros(3, np.int64), 1, [(1, 2), (4, 5)]).tolist()
        [[40], [200]]
        """
        result = np.zeros((len(fractions), groups), np.int64)
        order = np.argsort(group, kind="stable")
        sorted_group = group[order]
        for first in range(0, groups, _GROUPS_AT_ONCE):
            last = min(first + _GROUPS_AT_ONCE, groups)
            rows = order[slice(*np.searchsorted(sorted_group, [first, last]))]
            steps = np.zeros((last - first, _POSITIONS), np.int64)
            place = group[rows] - first, self.start[rows] + _POSITIONS // 2
            np.add.at(steps, place, self.count[rows])
            np.add.at(steps, (place[0], place[1] + WIDTH), -self.count[rows])
            below = np.cumsum(np.cumsum(steps, axis=1), axis=1)
            for number, (numerator, denominator) in enumerate(fractions):
                reached = below * denominator >= below[:, -1:] * numerator
                position = np.argmax(reached, axis=1) + 1 - _POSITIONS // 2
                result[number, first:last] = np.where(below[:, -1] > 0, position, 0)
        return result


def cells_of(bins: NDArray[np.uint8], origin: tuple[int, int]) -> NDArray[np.int32]:
    """The index of each pixel's block and bin in the counts of a tile, at level 0.

    Args:
        bins: `acdtask.change.steps.centring.bins_of_mean`, shape (height, width).
        origin: global (row, column) of the first pixel.
    """
    grid = _BlockGrid.of(bins.shape, origin)
    cells = bins.astype(np.int32)
    cells *= np.int32(_LEVELS)
    cells += (grid.rows * np.int32(grid.columns_of_blocks * _CELLS))[:, np.newaxis]
    cells += (grid.columns * np.int32(_CELLS))[np.newaxis]
    cells += np.int32(REACH)
    return cells


@dataclass(frozen=True, eq=False)
class _BlockGrid:
    """The blocks that a tile touches, in raster order.

    Attributes:
        keys: key of each block.
        rows, columns: for each row and column of the tile, that of its block, counted from the first.
        columns_of_blocks: number of blocks side by side.
    """

    keys: NDArray[np.int64]
    rows: NDArray[np.int32]
    columns: NDArray[np.int32]
    columns_of_blocks: int

    @property
    def size(self) -> int:
        """The number of blocks."""
        return len(self.keys)

    @classmethod
    def of(cls, shape: tuple[int, ...], origin: tuple[int, int]) -> _BlockGrid:
        """The blocks of a tile. ValueError if the tile is too far from the origin."""
        (top, rows), (left, columns) = (_lines(first, size) for first, size in zip(origin, shape, strict=True))
        height, width = int(rows[-1]) + 1, int(columns[-1]) + 1
        names = [np.arange(first, first + size) - _FIRST_BLOCK for first, size in ((top, height), (left, width))]
        if any(name[0] < 0 or name[-1] >= 2**_BLOCK_BITS for name in names):
            raise ValueError(f"the tile at {origin} is too far from the layout's origin")
        keys = (names[0][:, np.newaxis] << _BLOCK_BITS) + names[1][np.newaxis]
        return cls(keys.reshape(-1), rows, columns, width)


def _lines(first: int, size: int) -> tuple[int, NDArray[np.int32]]:
    """Along one axis: the first block, and the block of each pixel, counted from it."""
    top = first // BLOCK
    return top, ((np.arange(first, first + size) // BLOCK) - top).astype(np.int32)
