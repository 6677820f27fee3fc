"""Numbers that describe a candidate, for the model.

The contrast of a blob in an image is how much farther it lies below the mean of the baseline than its ring:

    contrast = mean drop inside - mean drop in the ring

A change of the ground has no such contrast in its past; work in a field, a flood plain or a construction site has. All
numbers come from integers (`acdtask.change.judgement.sums`) by single divisions, so they are the same on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acdtask.change.fragments import FIXED
from acdtask.change.judgement.sums import BlobSums

__all__ = ["FEATURES", "UNKNOWN", "Contrasts", "contrasts_of", "features_of"]

UNKNOWN = np.iinfo(np.int64).min
"""A contrast on a date on which less than half of the blob has data."""

_Z, _DROP = 1, 2


@dataclass(frozen=True, eq=False)
class Contrasts:
    """Contrasts of blobs, in fixed point of the unit that was summed.

    Attributes:
        now: shape (blobs,), int64, contrast in the judged image.
        past: shape (blobs, dates), int64, contrast on each date of the baseline, or UNKNOWN.
        inside, ring: shape (blobs,), int64, mean drop of the blob and of its ring in the judged image.
    """

    now: NDArray[np.int64]
    past: NDArray[np.int64]
    inside: NDArray[np.int64]
    ring: NDArray[np.int64]

    def largest(self, rank: int = 1) -> NDArray[np.int64]:
        """The largest contrast of the past, or that of another rank; UNKNOWN if there are fewer; shape (blobs,)."""
        if self.past.shape[1] < rank:
            return np.full(len(self.past), UNKNOWN)
        return np.sort(self.past, axis=1)[:, -rank]

    def date_of_largest(self) -> NDArray[np.intp]:
        """The number of the date with the largest contrast of the past; the first of several; shape (blobs,)."""
        return np.argmax(self.past, axis=1) if self.past.shape[1] else np.zeros(len(self.past), np.intp)


def contrasts_of(sums: BlobSums, area: NDArray[np.int64], *, drop: bool) -> Contrasts:
    """The contrasts of blobs. Without a pixel in the ring, the drop of the ring counts as 0.

    Args:
        sums: sums of the whole image.
        area: shape (blobs,), number of pixels of each blob.
        drop: contrast of the drop in stored units; otherwise of z.
    """
    unit = _DROP if drop else _Z
    px, total = sums.images[..., 0], sums.images[..., unit]
    means = np.rint(total / np.maximum(px, 1)).astype(np.int64)
    contrast = means[:, :, 0] - means[:, :, 1]
    known = 2 * px[:, :-1, 0] >= area[:, np.newaxis]
    past = np.where(known, contrast[:, :-1], UNKNOWN)
    return Contrasts(contrast[:, -1], past, means[:, -1, 0], means[:, -1, 1])


def features_of(blobs: NDArray[np.void], sums: BlobSums) -> dict[str, NDArray[np.float64]]:
    """All numbers of the blobs, by name, each of shape (blobs,).

    Args:
        blobs: BLOB rows (`acdtask.change.seams`).
        sums: sums of the whole image, of the same blobs.
    """
    return {name: np.round(values, 3) for name, values in _raw_features(blobs, sums).items()}


def _raw_features(blobs: NDArray[np.void], sums: BlobSums) -> Mapping[str, NDArray[np.float64]]:
    area = blobs["area"].astype(np.int64)
    contrast = contrasts_of(sums, area, drop=False)
    core_px, _, mean = sums.ground.T
    drops, largest = contrasts_of(sums, area, drop=True), _or_zero(contrast.largest())
    return {
        "contrast": contrast.now / FIXED,
        "past_contrast": largest / FIXED,
        "exceeds_past": (contrast.now - largest) / FIXED,
        "second_past_contrast": _or_zero(contrast.largest(2)) / FIXED,
        "spread_of_past": _spread(contrast.past),
        "highest_seed": blobs["seed_max"] / FIXED,
        "mean_extent": blobs["extent_sum"] / (area * FIXED),
        "mean_z": blobs["z_sum"] / (area * FIXED),
        "ring_z": contrast.ring / FIXED,
        "log_area": np.array([math.log2(pixels) for pixels in area.tolist()]),
        "core_share": core_px / area,
        "relative_drop": drops.now * area / np.maximum(mean, 1),
    }


FEATURES = (
    "contrast",
    "past_contrast",
    "second_past_contrast",
    "spread_of_past",
    "highest_seed",
    "mean_extent",
    "mean_z",
    "ring_z",
    "log_area",
    "core_share",
    "relative_drop",
)
"""Names of the numbers of the model, in its order. The rule has one number, `exceeds_past`.

contrast: of z, in the judged image.
past_contrast, second_past_contrast: the two largest in the baseline.
spread_of_past: standard deviation of the contrasts in the baseline.
exceeds_past: contrast - past_contrast.
highest_seed, mean_extent: of the method's evidence.
mean_z: after the method's steps.
ring_z: mean z of the ring, before them.
log_area: logarithm of the number of pixels to base 2.
core_share: share of pixels whose four neighbours are in the blob.
relative_drop: contrast of the drop, as a share of the baseline's mean.
"""


def _or_zero(contrast: NDArray[np.int64]) -> NDArray[np.int64]:
    """A contrast, or 0 where it is unknown."""
    return np.where(contrast == UNKNOWN, 0, contrast)


def _spread(past: NDArray[np.int64]) -> NDArray[np.float64]:
    """The standard deviation of known contrasts, from exact integers."""
    known = past != UNKNOWN
    values = np.where(known, past, 0)
    count = np.maximum(known.sum(axis=1), 1)
    total, squares = values.sum(axis=1), (values * values).sum(axis=1)
    spread: NDArray[np.float64] = np.sqrt((count * squares - total * total).astype(np.float64)) / (count * FIXED)
    return spread
