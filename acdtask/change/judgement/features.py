"""Numbers that describe a candidate, for the model.

The contrast of a blob in an image is how much farther it lies below the mean of the baseline than its ring:

    contrast = mean drop inside - mean drop in the ring

A change of the ground has no such contrast in its past; work in a field, a flood plain or a construction site has. How
much of a drop can be seen depends on the date: in summer or rain little coherence is left to lose. So some numbers
compare a contrast with the level that the ring lets one expect in the blob on that date,

    level = mean of the baseline in the blob - mean drop in the ring

All numbers come from integers (`acdtask.change.judgement.sums`) by few divisions and square roots, so they are the same
on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acdtask.change.fragments import FIXED, Z_LIMIT
from acdtask.change.judgement.sums import BlobSums
from acdtask.change.steps.likelihood import USUAL_LOOKS, Likelihood
from acdtask.change.steps.step import Step

__all__ = ["FEATURES", "UNKNOWN", "CoherenceScale", "Contrasts", "contrasts_of", "features_of"]

UNKNOWN = np.iinfo(np.int64).min
"""A contrast on a date on which less than half of the blob has data."""

_Z, _DROP, _SQUARE = 1, 2, 3

LEAST_VISIBLE = 0.02
"""Least coherence above that of noise that a contrast is compared with."""
MOST_RELATIVE = 2.0
"""Largest relative contrast; a total loss of coherence is 1."""
UNEVEN = 0.06
"""Standard deviation of the mean of a blob, as a share of its level: moisture and growth differ between fields."""
WINDOW_PX = 9
"""Pixels of a window of estimation: estimates nearer than that are of the same looks."""
LEAST_SPECKLE = 0.01
"""Least standard deviation of an estimate that the spread inside a blob is compared with."""
LIKE = 0.1
"""Largest difference of coherence between dates that are alike."""


@dataclass(frozen=True)
class CoherenceScale:
    """What stored values mean.

    Attributes:
        least, greatest: stored values of coherence 0 and 1.
        looks: looks of an estimate.
    """

    least: float
    greatest: float
    looks: float

    @classmethod
    def of(cls, valid_range: tuple[float, float], steps: Iterable[Step]) -> CoherenceScale:
        """The scale of a variable, with the looks that the method's likelihood has, or the usual ones."""
        looks = [step.looks for step in steps if isinstance(step, Likelihood)]
        return cls(*valid_range, looks[0] if looks else USUAL_LOOKS)

    @property
    def span(self) -> float:
        """The stored value of a difference in coherence of 1."""
        return self.greatest - self.least

    @property
    def floor(self) -> float:
        """Mean estimate of no coherence (R. Touzi et al., IEEE Trans. Geosci. Remote Sens. 37, 1999), 0 to 1."""
        return math.sqrt(math.pi / (4 * self.looks))


@dataclass(frozen=True, eq=False)
class Contrasts:
    """Contrasts of blobs, in fixed point of the unit that was summed.

    Attributes:
        inside, ring: shape (blobs, dates + 1), int64, mean of the blob and of its ring on each date of the baseline,
            and in the judged image.
        known: shape (blobs, dates), whether at least half of the blob has data on the date.
    """

    inside: NDArray[np.int64]
    ring: NDArray[np.int64]
    known: NDArray[np.bool_]

    @property
    def now(self) -> NDArray[np.int64]:
        """The contrast in the judged image, shape (blobs,)."""
        return self.inside[:, -1] - self.ring[:, -1]

    @property
    def past(self) -> NDArray[np.int64]:
        """The contrast on each date of the baseline, or UNKNOWN, shape (blobs, dates)."""
        return np.where(self.known, self.inside[:, :-1] - self.ring[:, :-1], UNKNOWN)

    def largest(self, rank: int = 1) -> NDArray[np.int64]:
        """The largest contrast of the past, or that of another rank; UNKNOWN if there are fewer; shape (blobs,)."""
        if self.known.shape[1] < rank:
            return np.full(len(self.known), UNKNOWN)
        return np.sort(self.past, axis=1)[:, -rank]

    def date_of_largest(self) -> NDArray[np.intp]:
        """The number of the date with the largest contrast of the past; the first of several; shape (blobs,)."""
        return np.argmax(self.past, axis=1) if self.known.shape[1] else np.zeros(len(self.known), np.intp)


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
    return Contrasts(means[:, :, 0], means[:, :, 1], 2 * px[:, :-1, 0] >= area[:, np.newaxis])


def features_of(blobs: NDArray[np.void], sums: BlobSums, scale: CoherenceScale) -> dict[str, NDArray[np.float64]]:
    """All numbers of the blobs, by name, each of shape (blobs,).

    Args:
        blobs: BLOB rows (`acdtask.change.seams`).
        sums: sums of the whole image, of the same blobs.
        scale: meaning of stored values.
    """
    drops = contrasts_of(sums, blobs["area"].astype(np.int64), drop=True)
    numbers = {
        **_raw_features(blobs, sums, drops),
        **_relative_features(blobs, sums, drops, scale),
        **_unevenness(blobs, sums, drops, scale),
    }
    numbers = {name: np.round(values, 3) for name, values in numbers.items()}
    return {**numbers, **{_product(*factors): numbers[factors[0]] * numbers[factors[1]] for factors in PRODUCTS}}


def _product(first: str, second: str) -> str:
    return f"{first} x {second}"


def _relative_features(
    blobs: NDArray[np.void], sums: BlobSums, drops: Contrasts, scale: CoherenceScale
) -> Mapping[str, NDArray[np.float64]]:
    """Contrasts compared with what could be seen on their dates. All arrays have shape (blobs, dates)."""
    area = blobs["area"].astype(np.int64)
    contrast = (drops.inside - drops.ring) / (FIXED * scale.span)
    mean = (sums.ground[:, 2] / (area * FIXED) - scale.least) / scale.span
    level = np.clip(mean[:, np.newaxis] - drops.ring / (FIXED * scale.span), 0, 1)
    visible = np.maximum(level - scale.floor, LEAST_VISIBLE)
    speckle = (1 - level * level) ** 2 / (2 * scale.looks * np.maximum(area / WINDOW_PX, 1)[:, np.newaxis])
    certain = contrast / np.sqrt(speckle + (UNEVEN * level) ** 2)
    like = drops.known & (np.abs(level[:, :-1] - level[:, -1:]) <= LIKE)
    return {
        "relative_contrast": np.clip(contrast[:, -1] / visible[:, -1], -MOST_RELATIVE, MOST_RELATIVE),
        "certain_past": _largest_known(certain[:, :-1], drops.known),
        "usual_past": np.sqrt(_mean_known(certain[:, :-1] ** 2, drops.known)),
        "dates_alike": like.sum(axis=1).astype(np.float64),
        "level": level[:, -1],
    }


def _unevenness(
    blobs: NDArray[np.void], sums: BlobSums, drops: Contrasts, scale: CoherenceScale
) -> Mapping[str, NDArray[np.float64]]:
    """How uneven the ground of a blob is, and how differently its parts behaved in the past."""
    area = blobs["area"].astype(np.int64)
    px, square = sums.images[:, :-1, 0, 0], sums.images[:, :-1, 0, _SQUARE]
    drop = drops.inside[:, :-1] / (FIXED * scale.span)
    mean = (sums.ground[:, 2] / (area * FIXED) - scale.least) / scale.span
    level = np.clip(mean[:, np.newaxis] - drop, 0, 1)
    speckle = np.maximum((1 - level * level) ** 2 / (2 * scale.looks), LEAST_SPECKLE**2)
    variance = np.maximum(square / (np.maximum(px, 1) * scale.span**2) - drop * drop, 0)
    _, _, total, squares, ring_px, ring_total, ring_squares = sums.ground.T
    around = _spread_of_mean(np.maximum(ring_px, 1), ring_total, ring_squares, scale)
    return {
        "past_spread": _mean_known(np.sqrt(variance / speckle), drops.known),
        "uneven_ground": _spread_of_mean(area, total, squares, scale) - around,
    }


def _spread_of_mean(
    px: NDArray[np.int64], total: NDArray[np.int64], squares: NDArray[np.int64], scale: CoherenceScale
) -> NDArray[np.float64]:
    """The standard deviation of the baseline's mean over pixels, 0 to 1."""
    mean = total / (px * FIXED)
    spread: NDArray[np.float64] = np.sqrt(np.maximum(squares / px - mean * mean, 0)) / scale.span
    return spread


def _mean_known(values: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The mean of the known values of each row, which are not negative, or 0; an exact sum, in fixed point."""
    fixed = np.where(known, np.rint(np.minimum(values, Z_LIMIT) * FIXED), 0).astype(np.int64)
    mean: NDArray[np.float64] = fixed.sum(axis=1) / (np.maximum(known.sum(axis=1), 1) * FIXED)
    return mean


def _largest_known(values: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The largest known value of each row, or 0."""
    return np.max(np.where(known, values, 0.0), axis=1, initial=0.0)


def _raw_features(blobs: NDArray[np.void], sums: BlobSums, drops: Contrasts) -> Mapping[str, NDArray[np.float64]]:
    area = blobs["area"].astype(np.int64)
    contrast = contrasts_of(sums, area, drop=False)
    core_px, mean = sums.ground[:, 0], sums.ground[:, 2]
    largest = _or_zero(contrast.largest())
    return {
        "contrast": contrast.now / FIXED,
        "past_contrast": largest / FIXED,
        "exceeds_past": (contrast.now - largest) / FIXED,
        "second_past_contrast": _or_zero(contrast.largest(2)) / FIXED,
        "spread_of_past": _spread(contrast.past),
        "highest_seed": blobs["seed_max"] / FIXED,
        "mean_extent": blobs["extent_sum"] / (area * FIXED),
        "mean_z": blobs["z_sum"] / (area * FIXED),
        "ring_z": contrast.ring[:, -1] / FIXED,
        "log_area": np.array([math.log2(pixels) for pixels in area.tolist()]),
        "core_share": core_px / area,
        "relative_drop": drops.now * area / np.maximum(mean, 1),
    }


PRODUCTS = (
    ("ring_z", "certain_past"),
    ("highest_seed", "highest_seed"),
    ("ring_z", "log_area"),
    ("ring_z", "level"),
    ("spread_of_past", "ring_z"),
    ("ring_z", "usual_past"),
    ("level", "usual_past"),
)
"""Products of numbers that a logistic regression, which is linear, needs as numbers of their own.

They were chosen one after the other: of all products, the one that most lowers the log loss on the fitting scenes when
each part of them is judged by a model of the others; the last two when the numbers of fields were added.
"""

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
    "relative_contrast",
    "certain_past",
    "dates_alike",
    "level",
    "usual_past",
    "past_spread",
    "uneven_ground",
    *(_product(*factors) for factors in PRODUCTS),
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
relative_contrast: contrast of the drop, as a share of the coherence above that of noise that was left to lose.
certain_past: largest contrast of the drop in the baseline, in standard deviations of what speckle and fields cause.
dates_alike: number of dates of the baseline on which the level differs by at most LIKE.
level: expected coherence of the blob on the date, from its ring.
usual_past: root mean square of the contrasts of the drop in the baseline, in the same standard deviations.
past_spread: standard deviation of the drop within the blob, in those of speckle, on average over the baseline.
uneven_ground: standard deviation of the baseline's mean within the blob, less that within its ring.

Of the last three, the first is high and the others are low for a field: it differs from what is around it, and its
parts are alike. An event does not follow fields.
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
