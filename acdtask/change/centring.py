"""What a whole image has in common: rain, snow or a long baseline lowers the coherence of a land cover everywhere.

A pixel is abnormal if it dropped more than others like it did on the same date. "Like it" means: about as coherent as
a rule. So z is taken relative to the image's median z of the pixels whose mean coherence is in the same bin (Table 1 of
`docs/decisions/0007-centred-scores.md`). Medians come from histograms of whole numbers, which can be added over tiles
in any order: they are those of the whole image, bit for bit, however it was cut.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["BINS", "MIN_PIXELS", "STEP", "ScoreHistogram", "coherence_bins", "common_score"]

BINS = 10
"""The range of the variable is cut into so many bins of equal width."""

STEP = 0.01
"""Width of a histogram's step, and the precision of a median."""

LIMIT = 20.0
"""Scores beyond are counted at the ends; no median of an image lies there."""

MIN_PIXELS = 500
"""A bin with fewer scores in the whole image is left as it is."""

_LEVELS = round(2 * LIMIT / STEP) + 1


@dataclass(frozen=True, eq=False)
class ScoreHistogram:
    """How often each score occurs in each bin of mean coherence.

    Attributes:
        counts: shape (BINS, levels), int64; level k stands for z from k * STEP - LIMIT, rounded.
    """

    counts: NDArray[np.int64]

    @classmethod
    def empty(cls) -> ScoreHistogram:
        """No score yet."""
        return cls(np.zeros((BINS, _LEVELS), np.int64))

    @classmethod
    def of(cls, z: NDArray[np.float32], bins: NDArray[np.intp]) -> ScoreHistogram:
        """The histogram of a tile.

        Args:
            z: shape (height, width), NaN where there is no score.
            bins: `coherence_bins` of the same pixels.
        """
        known = ~np.isnan(z)
        level = np.rint(np.clip(z[known].astype(np.float64), -LIMIT, LIMIT) / STEP).astype(np.int64) + _LEVELS // 2
        counts = np.bincount(bins[known] * _LEVELS + level, minlength=BINS * _LEVELS)
        return cls(counts.reshape(BINS, _LEVELS).astype(np.int64))

    def __add__(self, other: ScoreHistogram) -> ScoreHistogram:
        return ScoreHistogram(self.counts + other.counts)

    def medians(self) -> NDArray[np.float32]:
        """The median z of each bin, to STEP; 0 for bins with fewer than MIN_PIXELS scores; shape (BINS,).

        >>> z = np.full((30, 30), 0.5, np.float32)
        >>> bins = coherence_bins(np.full((30, 30), 250, np.float32), 0, 1000)
        >>> ScoreHistogram.of(z, bins).medians().tolist()[1:4]
        [0.0, 0.5, 0.0]
        """
        below = np.cumsum(self.counts, axis=1)
        total = below[:, -1:]
        middle = np.argmax(2 * below >= total, axis=1)
        medians = ((middle - _LEVELS // 2) * STEP).astype(np.float32)
        return np.where(total[:, 0] >= MIN_PIXELS, medians, np.float32(0))


def coherence_bins(mean: NDArray[np.float32], least: float, greatest: float) -> NDArray[np.intp]:
    """The bin of each pixel's mean, 0 to BINS - 1; NaN goes to any bin.

    Args:
        mean: mean of the baseline, in stored units, shape (height, width).
        least: least valid value of the variable.
        greatest: greatest valid value of the variable.
    """
    edges = np.linspace(least, greatest, BINS + 1)[1:-1]
    return np.digitize(mean, edges)


def common_score(bins: NDArray[np.intp], medians: NDArray[np.float32]) -> NDArray[np.float32]:
    """What each pixel's z has in common with its bin: to be taken away from it; float32, the shape of bins."""
    return medians[bins]
