"""Fragments: the parts of blobs that lie in one tile, to be joined with those of other tiles.

A fragment is a 4-connected component of extent > low inside a tile. Everything that crosses a seam is an integer, since
sums of floats depend on their order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label

from acdtask.change.components import components
from acdtask.change.evidence import Evidence
from acdtask.change.near_misses import NO_SCORE, Near

__all__ = [
    "BORDER_PIXEL",
    "EVIDENCE",
    "FIXED",
    "FRAGMENT",
    "MEASURES",
    "Z_LIMIT",
    "FragmentTable",
    "Fragments",
    "find_fragments",
]

FIXED = 1000
"""Fixed point: integers count thousandths of a unit (of z, or of a stored number)."""

Z_LIMIT = 1_000_000
"""Scores are clipped to this, so that their sum over 9e9 pixels fits 64 bits."""

MEASURES = np.dtype(
    [
        ("area", "<i8"),
        ("z_max", "<i8"),
        ("z_sum", "<i8"),
        ("drop_sum", "<i8"),
        ("count_sum", "<i8"),
        ("first_row", "<i8"),
        ("first_column", "<i8"),
        ("min_row", "<i8"),
        ("min_column", "<i8"),
        ("max_row", "<i8"),
        ("max_column", "<i8"),
    ]
)
"""Measures of a set of pixels.

area: number of pixels. z_max, z_sum: z in fixed point. drop_sum: mean - image in stored units, in fixed point.
count_sum: number of baseline images. first_row, first_column: the first pixel in raster order. min_row to max_column:
the bounding box, inclusive. Rows and columns are global.
"""

EVIDENCE = np.dtype([("seed_max", "<i8"), ("extent_sum", "<i8")])
"""The highest seed of a set of pixels, and the sum of their extent, in fixed point."""

FRAGMENT = np.dtype([*MEASURES.descr, *EVIDENCE.descr, ("has_high", "?"), ("rises", "?")])
"""A fragment: its measures, its evidence, whether seed > high at any of its pixels, and whether it is a rise found
beside drops; z, seed, extent and drop of a rise count with the opposite sign, as if it were a drop.

Row k has label k + 1.
"""

BORDER_PIXEL = np.dtype([("row", "<i8"), ("column", "<i8"), ("label", "<i4")])
"""A pixel of a fragment in the outermost row or column of its tile; row and column are global."""


@dataclass(frozen=True, eq=False)
class FragmentTable:
    """Everything that joining needs from a tile. Border pixels are the only pixels in it.

    Attributes:
        origin: global (row, column) of the tile's first pixel.
        shape: (height, width) of the tile.
        min_area: the minimum area that was used to prune fragments.
        fragments: FRAGMENT rows in raster order of their first pixel; row k has label k + 1.
        diagonals: shape (n, 2), int32, labels of fragments that touch at a corner inside the tile, smaller label first.
        border: BORDER_PIXEL rows in raster order.
    """

    origin: tuple[int, int]
    shape: tuple[int, int]
    min_area: int
    fragments: NDArray[np.void]
    diagonals: NDArray[np.int32]
    border: NDArray[np.void]


@dataclass(frozen=True, eq=False)
class Fragments:
    """The fragments of a tile.

    Attributes:
        labels: shape (height, width), int32, the label of each pixel; 0 is background.
        table: what joining needs.
        near: near misses inside the tile; `seams.join_near` adds those that cross its border.
    """

    labels: NDArray[np.int32]
    table: FragmentTable
    near: Near


@dataclass(frozen=True, eq=False)
class _Pixels:
    """Pixels of fragments in raster order: flat index and label of each; labels run from 0 to number - 1."""

    index: NDArray[np.int64]
    label: NDArray[np.int32]
    number: int

    def only(self, kept: NDArray[np.bool_]) -> _Pixels:
        """The pixels of the kept fragments, renumbered in raster order."""
        inside = kept[self.label]
        index, old = self.index[inside], self.label[inside]
        first = np.full(self.number, np.iinfo(np.int64).max)
        first[old[::-1]] = index[::-1]  # the last of repeated indices wins
        number = int(np.count_nonzero(kept))
        rank = np.empty(self.number, np.int32)
        rank[np.argsort(first)] = np.arange(self.number, dtype=np.int32)
        return _Pixels(index, rank[old], number)

    def any(self, pixels: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """For each fragment, whether any of its pixels is True."""
        has_true = np.zeros(self.number, np.bool_)
        has_true[self.label[pixels]] = True
        return has_true

    def sum(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        total = np.zeros(self.number, np.int64)
        np.add.at(total, self.label, values)
        return total

    def max(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        largest = np.full(self.number, np.iinfo(np.int64).min)
        np.maximum.at(largest, self.label, values)
        return largest


def find_fragments(
    evidence: Evidence, *, low: float, high: float, min_area: int, origin: tuple[int, int], both: bool = False
) -> Fragments:
    """Find the fragments of a tile that may be part of a patch.

    Where extent and seed are z, joining the fragments of all tiles (`acdtask.change.seams`) gives the same as
    `skimage.filters.apply_hysteresis_threshold(z, low, high)` (4 neighbours), `skimage.measure.label(connectivity=2)`
    (8 neighbours) and area > min_area on the whole image. What can be decided inside the tile is decided here: a
    fragment off the border in which seed never exceeds `high` is dropped, and so is a group of touching fragments that
    are all off the border and together have no more than min_area pixels.

    Args:
        evidence: evidence of the tile, without its halo.
        low: lower threshold; extent exceeds it at every pixel of a fragment.
        high: upper threshold; a fragment, joined over all tiles, is kept if seed exceeds it at one of its pixels.
        min_area: a patch has more pixels than this.
        origin: global (row, column) of the tile's first pixel; may be negative.
        both: whether rises (extent < -low, seed < -high) are found too. A fragment is a drop or a rise: pixels of
            opposite sign never belong to the same fragment, nor do fragments of opposite sign to the same group.
    """
    evidence, rises = evidence.magnitudes() if both else (evidence, None)
    shape, z, seed = evidence.z.shape, evidence.z.reshape(-1), evidence.seed.reshape(-1)
    # Thresholds as doubles, as skimage compares: in single precision 1.7 is not below float32(1.7).
    low, high = np.float64(min(low, high)), np.float64(high)
    # 1 1 0 0    Label 1 and label 2 share no pixel edge, so they are two fragments. They touch at a corner, so they
    # 0 0 2 0    become one blob, unless one of them has no seed above `high` anywhere in the image: then it goes first.
    above = evidence.extent > low
    if not evidence.is_plain:
        above &= ~np.isnan(evidence.z)
    all_labels, number = _label(above, rises)
    # Lists of the pixels above low, mostly a few per cent of a tile, are far quicker than passes over whole images.
    index = np.flatnonzero(above)
    pixels = _Pixels(index, all_labels.reshape(-1)[index] - 1, number)
    near = _near(evidence, pixels, high, min_area)
    # Off the border a fragment is complete, so its own pixels decide. On the border its seed may lie in the next tile.
    pixels = pixels.only(pixels.any(_on_border(index, shape)) | pixels.any(seed[index] > high))
    # Only now the groups: a fragment that hysteresis removes must not connect two others at its corners.
    labels = _labels_image(pixels, shape)
    diagonals = _of_one_sign(_diagonal_pairs(pixels, labels), _rising(pixels, rises))
    kept, dropped_px = _undecided_or_large(pixels, diagonals, shape, min_area)
    pixels = pixels.only(kept)
    labels = _labels_image(pixels, shape)

    fragments = np.zeros(pixels.number, FRAGMENT)
    scores, seeds = _fixed_scores(z[pixels.index]), seed[pixels.index]
    fragments["area"] = np.bincount(pixels.label, minlength=pixels.number)
    fragments["has_high"] = pixels.any(seeds > high)
    fragments["seed_max"] = pixels.max(_fixed_scores(seeds))
    extent = scores if evidence.is_plain else _fixed_scores(evidence.extent.reshape(-1)[pixels.index])
    fragments["extent_sum"] = pixels.sum(extent)
    fragments["rises"] = _rising(pixels, rises)
    fragments["z_max"] = pixels.max(scores)
    fragments["z_sum"] = pixels.sum(scores)
    fragments["drop_sum"] = pixels.sum(_fixed(evidence.drop.reshape(-1)[pixels.index]))
    fragments["count_sum"] = pixels.sum(evidence.count.reshape(-1)[pixels.index].astype(np.int64))
    _measure_extents(fragments, pixels, shape[1], origin)
    table = FragmentTable(
        origin=origin,
        shape=(shape[0], shape[1]),
        min_area=min_area,
        fragments=fragments,
        diagonals=_of_one_sign(_diagonal_pairs(pixels, labels), fragments["rises"]) + np.int32(1),
        border=_border_pixels(pixels, shape, origin),
    )
    return Fragments(labels, table, near + Near(group_px=dropped_px))


def _label(above: NDArray[np.bool_], rises: NDArray[np.bool_] | None) -> tuple[NDArray[np.int32], int]:
    """Number the 4-connected components of a mask; with `rises`, drops and rises are never of one component."""
    signs = above.astype(np.uint8) if rises is None else np.where(rises, 2, 1).astype(np.uint8) * above
    labels, number = label(signs, connectivity=1, return_num=True)  # neighbours of different values are separated
    return labels, number


def _rising(pixels: _Pixels, rises: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    """Whether each fragment is a rise."""
    if rises is None:
        return np.zeros(pixels.number, np.bool_)
    return pixels.any(rises.reshape(-1)[pixels.index])


def _of_one_sign(pairs: NDArray[np.int32], rising: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The pairs of fragments, numbered from 0, that are both drops or both rises."""
    same: NDArray[np.int32] = pairs[rising[pairs[:, 0]] == rising[pairs[:, 1]]]
    return same


def _near(evidence: Evidence, pixels: _Pixels, high: np.float64, min_area: int) -> Near:
    """Near misses of a tile: its seeds, and its regions off the border. `pixels` are those of all regions."""
    seeds = evidence.seed.reshape(-1)[pixels.index]
    # Where there is one field, the highest of all pixels is among those above low.
    highest = seeds.max() if seeds.size and evidence.is_plain else np.fmax.reduce(evidence.seed, axis=None)
    area = np.bincount(pixels.label, minlength=pixels.number)
    inside = ~pixels.any(_on_border(pixels.index, evidence.z.shape))
    wide = inside & (area > min_area) & ~pixels.any(seeds > high)
    return Near(
        z_max=NO_SCORE if np.isnan(highest) else int(_fixed_scores(highest)),
        low_px=len(seeds),
        high_px=int(np.count_nonzero(seeds > high)),
        region_px=int(area[inside].max(initial=0)),
        wide_z_max=int(_fixed_scores(seeds[wide[pixels.label]].max())) if wide.any() else NO_SCORE,
    )


def _fixed_scores(scores: NDArray[np.float32] | np.float32) -> NDArray[np.int64]:
    return _fixed(np.clip(np.asarray(scores, np.float64), -Z_LIMIT, Z_LIMIT))


def _fixed(values: NDArray[np.float64] | np.float64) -> NDArray[np.int64]:
    return np.asarray(np.rint(values * FIXED)).astype(np.int64)


def _on_border(index: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    row, column = np.divmod(index, shape[1])
    border: NDArray[np.bool_] = (row == 0) | (row == shape[0] - 1) | (column == 0) | (column == shape[1] - 1)
    return border


def _labels_image(pixels: _Pixels, shape: tuple[int, ...]) -> NDArray[np.int32]:
    labels = np.zeros(shape, np.int32)
    labels.reshape(-1)[pixels.index] = pixels.label + np.int32(1)
    return labels


def _diagonal_pairs(pixels: _Pixels, labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Sorted unique pairs of fragments, numbered from 0, that touch at a corner; smaller number first."""
    height, width = labels.shape
    row, column = np.divmod(pixels.index, width)
    keys = []
    # The row below, to the right and to the left, is enough: each touching corner is seen from its upper pixel.
    for step, has_neighbour in ((1, column < width - 1), (-1, column > 0)):
        has_corner = has_neighbour & (row < height - 1)
        label = pixels.label[has_corner].astype(np.int64)
        other = labels.reshape(-1)[pixels.index[has_corner] + width + step].astype(np.int64) - 1
        differ = (other >= 0) & (other != label)
        label, other = label[differ], other[differ]
        # A pair as one number, so that sorting and removing duplicates is one call: (2, 5) of 10 fragments is 25.
        keys.append(np.minimum(label, other) * pixels.number + np.maximum(label, other))
    key = np.unique(np.concatenate(keys))
    return np.stack(np.divmod(key, max(pixels.number, 1)), axis=1).astype(np.int32)


def _undecided_or_large(
    pixels: _Pixels, diagonals: NDArray[np.int32], shape: tuple[int, ...], min_area: int
) -> tuple[NDArray[np.bool_], int]:
    """Mark fragments whose group reaches the border or has more than min_area pixels.

    Also the area of the largest group that is neither.
    """
    group = components(pixels.number, diagonals)
    area = np.zeros(pixels.number, np.int64)
    np.add.at(area, group, np.bincount(pixels.label, minlength=pixels.number))
    reaches_border = np.zeros(pixels.number, np.bool_)
    reaches_border[group[pixels.any(_on_border(pixels.index, shape))]] = True
    kept = reaches_border | (area > min_area)
    return kept[group], int(area[~kept].max(initial=0))


def _measure_extents(fragments: NDArray[np.void], pixels: _Pixels, width: int, origin: tuple[int, int]) -> None:
    row, column = np.divmod(pixels.index, width)
    row, column = row + origin[0], column + origin[1]
    fragments["first_row"][pixels.label[::-1]] = row[::-1]  # the last of repeated indices wins
    fragments["first_column"][pixels.label[::-1]] = column[::-1]
    fragments["min_row"] = fragments["first_row"]  # raster order: no pixel of it is above the first
    fragments["min_column"] = -pixels.max(-column)
    fragments["max_row"][pixels.label] = row  # and none is below the last
    fragments["max_column"] = pixels.max(column)


def _border_pixels(pixels: _Pixels, shape: tuple[int, ...], origin: tuple[int, int]) -> NDArray[np.void]:
    on_border = _on_border(pixels.index, shape)
    row, column = np.divmod(pixels.index[on_border], shape[1])
    border = np.empty(len(row), BORDER_PIXEL)
    border["row"], border["column"] = row + origin[0], column + origin[1]
    border["label"] = pixels.label[on_border] + 1
    return border
