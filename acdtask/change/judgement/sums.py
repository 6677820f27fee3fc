"""Sums over candidates and their rings, on the judged date and on each date of the baseline.

For each blob, each image and each of inside and ring: the number of pixels with data, the sum of z, and the sums of the
drop below the mean of the baseline and of its square. All are integers, so the sums of tiles add up to those of the
whole image in any order. The judged image is summed with the same formula as the images of the baseline, without
centring: what all pixels of a date have in common is in the blob and in its ring, and cancels in their difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acdtask.change.fragments import FIXED, Z_LIMIT
from acdtask.change.judgement.footprints import Footprints
from acdtask.change.moments import stored_nodata

__all__ = ["GROUND", "SUMS", "BlobSums", "add_sums", "ground_sums", "image_sums"]

SUMS = ("px", "z", "drop", "square")
"""Last axis of `BlobSums.images`: number of pixels with data, sums of z and of the drop in stored units, both in fixed
point (`acdtask.change.fragments.FIXED`), and the sum of the squares of the drop, rounded to stored units first."""

GROUND = ("core_px", "count", "mean", "square", "ring_px", "ring_mean", "ring_square")
"""Last axis of `BlobSums.ground`, summed over the blob, and the last three over its ring.

core_px: pixels whose four neighbours belong to it. count: number of images of the baseline. mean: of the baseline, in
stored units, in fixed point. square: squares of this mean, rounded to stored units first. ring_px: number of pixels.
"""


@dataclass(frozen=True, eq=False)
class BlobSums:
    """Sums of the blobs of an image, in a tile or in the whole image.

    Attributes:
        ids: shape (blobs,), int32, ascending.
        ground: shape (blobs, 7), int64; see `GROUND`.
        images: shape (blobs, images, 2, 4), int64: inside and ring, then `SUMS`. The last image is the judged one.
    """

    ids: NDArray[np.int32]
    ground: NDArray[np.int64]
    images: NDArray[np.int64]

    @classmethod
    def zeros(cls, ids: NDArray[np.int32], images: int) -> BlobSums:
        """Sums of no pixel."""
        ground = np.zeros((len(ids), len(GROUND)), np.int64)
        return cls(ids, ground, np.zeros((len(ids), images, 2, len(SUMS)), np.int64))


def image_sums(
    images: NDArray[Any],
    mean: NDArray[np.float32],
    std: NDArray[np.float32],
    footprints: Footprints,
    *,
    nodata: float | None,
) -> NDArray[np.int64]:
    """Sum images over the footprints of a window.

    Args:
        images: shape (images, height, width), integers, in stored units.
        mean: shape (height, width), mean of the baseline.
        std: shape (height, width), standard deviation of the baseline; above 0 in all footprints.
        footprints: those of the same window.
        nodata: the stored value that means no data, or None.

    Returns:
        Sums like `BlobSums.images`, of the blobs in `footprints.ids`.
    """
    key = footprints.blob * 2 + footprints.in_ring
    order = np.argsort(key, kind="stable")
    rows, starts = np.unique(key[order], return_index=True)
    totals = np.zeros((len(images), len(footprints.ids) * 2, len(SUMS)), np.int64)
    if len(rows):
        index = footprints.index[order]
        expected, spread = (view.reshape(-1)[index].astype(np.float64) for view in (mean, std))
        missing = stored_nodata(nodata, images.dtype)
        for image, total in zip(images, totals, strict=True):  # one at a time, so that memory does not grow with them
            values = _values(image.reshape(-1)[index], expected, spread, missing)
            total[rows] = np.add.reduceat(values, starts, axis=1).T
    return totals.reshape(len(images), len(footprints.ids), 2, len(SUMS)).swapaxes(0, 1)


def _values(
    pixels: NDArray[Any], mean: NDArray[np.float64], std: NDArray[np.float64], missing: int | None
) -> NDArray[np.int64]:
    """The values of `SUMS` of each pixel, shape (4, pixels); 0 where there is no data."""
    known = np.ones(pixels.shape, np.bool_) if missing is None else pixels != missing
    drop = np.where(known, mean - pixels, 0.0)
    z = np.clip(drop / std, -Z_LIMIT, Z_LIMIT)
    fixed = [np.rint(values * FIXED).astype(np.int64) for values in (z, drop)]
    return np.stack([known.astype(np.int64), *fixed, np.rint(drop).astype(np.int64) ** 2])


def ground_sums(mean: NDArray[np.float32], count: NDArray[Any], footprints: Footprints) -> NDArray[np.int64]:
    """Sum the baseline over the blobs of a tile and their rings.

    Args:
        mean: shape (height, width), mean of the baseline.
        count: same shape, number of images of the baseline.
        footprints: those of the tile.

    Returns:
        Sums like `BlobSums.ground`.
    """
    totals = np.zeros((len(footprints.ids), len(GROUND)), np.int64)
    totals[:, 0] = footprints.core_px
    flat = mean.reshape(-1)[footprints.index].astype(np.float64)
    fixed, square = np.rint(flat * FIXED).astype(np.int64), np.rint(flat).astype(np.int64) ** 2
    images, pixel = count.reshape(-1)[footprints.index].astype(np.int64), np.ones(len(flat), np.int64)
    for members, columns in (
        (~footprints.in_ring, {1: images, 2: fixed, 3: square}),
        (footprints.in_ring, {4: pixel, 5: fixed, 6: square}),
    ):
        for column, values in columns.items():
            np.add.at(totals[:, column], footprints.blob[members], values[members])
    return totals


def add_sums(parts: Sequence[BlobSums], images: int) -> BlobSums:
    """Add the sums of tiles, in any order.

    Args:
        parts: sums of the tiles of one image, over the same images.
        images: number of images.
    """
    ids = np.unique(np.concatenate([np.zeros(0, np.int32), *(part.ids for part in parts)]))
    total = BlobSums.zeros(ids, images)
    for part in parts:
        rows = np.searchsorted(ids, part.ids)
        total.ground[rows] += part.ground
        total.images[rows] += part.images
    return total
