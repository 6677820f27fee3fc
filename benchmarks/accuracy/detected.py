"""What a method says about an image: patches, and candidates that are none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.filters import apply_hysteresis_threshold
from skimage.measure import label

__all__ = ["Detected", "by_hysteresis", "larger_than", "of_mask", "united"]

MIN_AREA = 100
"""The tutorial's smallest area; it is used for methods that state none."""


@dataclass(frozen=True, eq=False)
class Detected:
    """The candidates of an image.

    Attributes:
        labels: shape (height, width), the candidate of each pixel, from 1; 0 is none.
        kept: shape (candidates,), whether a candidate is a patch.
        scores: shape (candidates,), by which candidates are ranked: the higher, the more certain.
        probabilities: shape (candidates,), if the method gives them.
    """

    labels: NDArray[np.int32]
    kept: NDArray[np.bool_]
    scores: NDArray[np.float64]
    probabilities: NDArray[np.float64] | None = None

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The pixels of patches."""
        return np.concatenate([[False], self.kept])[self.labels]


def largest_in(labels: NDArray[np.int32], values: NDArray[np.floating], number: int) -> NDArray[np.float64]:
    """The largest value in each of `number` labels; NaN counts as -inf."""
    largest = np.full(number + 1, -np.inf)
    np.maximum.at(largest, labels.ravel(), np.where(np.isnan(values), -np.inf, values).astype(np.float64).ravel())
    return largest[1:]


def of_mask(mask: NDArray[np.bool_], scores: NDArray[np.floating]) -> Detected:
    """The regions of a mask as patches, joined at edges and corners and ranked by their largest score."""
    labels = np.asarray(label(mask, connectivity=2), np.int32)
    number = int(labels.max(initial=0))
    return Detected(labels, np.ones(number, np.bool_), largest_in(labels, scores, number))


def larger_than(mask: NDArray[np.bool_], area: int) -> NDArray[np.bool_]:
    """The regions of a mask with more than `area` pixels."""
    labels = label(mask, connectivity=2)
    large = np.bincount(labels.ravel()) > area
    large[0] = False
    return np.asarray(large[labels], np.bool_)


def by_hysteresis(z: NDArray[np.floating], low: float, high: float, area: int = MIN_AREA) -> Detected:
    """Regions above `low` with a pixel above `high` and more than `area` pixels; NaN is below any threshold."""
    known = np.where(np.isnan(z), -np.inf, z)
    return of_mask(larger_than(apply_hysteresis_threshold(known, low, high), area), known)


def united(tracks: list[Detected]) -> Detected:
    """The patches of an image of each track, joined where they touch."""
    scores = np.full(tracks[0].labels.shape, -np.inf)
    for detected in tracks:
        scores = np.maximum(scores, np.concatenate([[-np.inf], detected.scores])[detected.labels])
    return of_mask(np.any([detected.mask for detected in tracks], axis=0), scores)
