"""Centring: z relative to similar pixels of the same image.

Rain, snow or a long perpendicular baseline lowers the coherence of a land cover everywhere. A pixel is abnormal if it
dropped more than similar pixels did on the same date, where similar means a similar mean coherence:

    z'(p) = z(p) - median of z over the image's pixels whose mean is in the bin of p's mean

with ten bins of equal width over the variable's range (Table 1 of `docs/decisions/0007-centred-scores.md`). Medians
come from integer histograms, which are added over tiles in any order, so they are bit-for-bit those of the whole image
regardless of tiling. Halo: none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from acdtask.change.scene import Scene
from acdtask.change.steps.step import Counts, Step, StepSettings, Whole

__all__ = [
    "BINS",
    "MIN_PIXELS",
    "STEP",
    "Centring",
    "CentringSettings",
    "ScoreHistogram",
    "bins_of_mean",
    "common_score",
]

BINS = 10
"""Number of bins of equal width over the variable's range."""

STEP = 0.01
"""Width of a histogram level, and so the precision of a median."""

LIMIT = 20.0
"""Scores are clipped to this when counted; no median of an image comes near it."""

MIN_PIXELS = 500
"""Bins with fewer scores in the whole image are not centred."""

BINS_NAME = "coherence bins"

_LEVELS = round(2 * LIMIT / STEP) + 1


@dataclass(frozen=True, eq=False)
class ScoreHistogram:
    """Histograms of z, one per bin of mean coherence.

    Attributes:
        counts: shape (BINS, levels), int64; level k counts scores that round to k * STEP - LIMIT.
    """

    counts: NDArray[np.int64]

    @classmethod
    def empty(cls) -> ScoreHistogram:
        """A histogram without scores."""
        return cls(np.zeros((BINS, _LEVELS), np.int64))

    @classmethod
    def of(cls, z: NDArray[np.float32], bins: NDArray[np.intp]) -> ScoreHistogram:
        """Count the scores of a tile.

        Args:
            z: shape (height, width), NaN where there is no score.
            bins: `bins_of_mean` of the same pixels.
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
        >>> bins = bins_of_mean(np.full((30, 30), 250, np.float32), 0, 1000, BINS)
        >>> ScoreHistogram.of(z, bins).medians().tolist()[1:4]
        [0.0, 0.5, 0.0]
        """
        below = np.cumsum(self.counts, axis=1)
        total = below[:, -1:]
        middle = np.argmax(2 * below >= total, axis=1)
        medians = ((middle - _LEVELS // 2) * STEP).astype(np.float32)
        return np.where(total[:, 0] >= MIN_PIXELS, medians, np.float32(0))


def bins_of_mean(mean: NDArray[np.float32], least: float, greatest: float, number: int) -> NDArray[np.intp]:
    """The bin of each pixel's mean, from 0 to number - 1; NaN goes to an arbitrary bin.

    Args:
        mean: mean of the baseline, in stored units, shape (height, width).
        least: minimum valid value of the variable.
        greatest: maximum valid value of the variable.
        number: number of bins of equal width.
    """
    edges = np.linspace(least, greatest, number + 1)[1:-1]
    return np.digitize(mean, edges)


def common_score(bins: NDArray[np.intp], medians: NDArray[np.float32]) -> NDArray[np.float32]:
    """The median z of each pixel's bin, which centring subtracts; float32, same shape as bins."""
    return medians[bins]


@dataclass(frozen=True)
class Centring(Step):
    """Subtracts from each z the image's median z of pixels with similar mean coherence.

    >>> from acdtask.change.scene import BaselineArrays
    >>> z = np.full((30, 30), 0.5, np.float32)
    >>> z[3, 4] = 2.5
    >>> count = np.full((30, 30), 60)
    >>> scene = Scene.of(BaselineArrays(np.full_like(z, 650), np.full_like(z, 30), count), count, z)
    >>> whole = Centring().conclude(Centring().measure(scene))
    >>> Centring().apply(scene, whole).z[3, 3:6]
    array([0., 2., 0.], dtype=float32)
    """

    measures: ClassVar[bool] = True

    @classmethod
    def chosen(cls, given: Mapping[str, Any]) -> Self | None:
        """Centring if `centred` is true."""
        return cls() if given.get("centred") else None

    @classmethod
    def recorded(cls, step: Self | None) -> dict[str, Any]:
        """Whether z is centred."""
        return {"centred": step is not None}

    def measure(self, scene: Scene) -> Counts:
        """Count each z in each bin."""
        return ScoreHistogram.of(scene.z, _bins(scene)).counts

    def conclude(self, counts: Counts) -> Whole:
        """The median of each bin."""
        return ScoreHistogram(counts).medians()

    def apply(self, scene: Scene, whole: Whole | None) -> Scene:
        """Subtract the median of its bin from each z."""
        return scene if whole is None else scene.with_z(scene.z - common_score(_bins(scene), whole))


class CentringSettings(StepSettings):
    """Whether z is centred; default: the profile's."""

    step: ClassVar[type[Step]] = Centring
    centred: bool | None = Field(
        default=None,
        description="measure z against the median of pixels with similar mean coherence in the same image (yes)",
    )


def _bins(scene: Scene) -> NDArray[np.intp]:
    baseline = scene.baseline
    if BINS_NAME not in baseline.derived:
        baseline.derived[BINS_NAME] = bins_of_mean(baseline.mean, *baseline.valid_range, BINS)
    return baseline.derived[BINS_NAME]
