"""Centring: z relative to similar pixels of the same image.

Rain, snow or a long baseline lowers the coherence of a land cover everywhere. A pixel is abnormal if it dropped more
than others like it did on the same date. "Like it" means: about as coherent as a rule. So

    z'(p) = z(p) - median of z over the image's pixels whose mean is in the bin of p's mean

with ten bins of equal width over the variable's range (Table 1 of `docs/decisions/0007-centred-scores.md`). Medians
come from histograms of whole numbers, which can be added over tiles in any order: they are those of the whole image,
bit for bit, however it was cut. Halo: none.
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
    "coherence_bins",
    "common_score",
]

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


@dataclass(frozen=True)
class Centring(Step):
    """Subtracts from each z the image's median z of pixels with similar mean coherence.

    >>> from acdtask.change.scene import Ground
    >>> z = np.full((30, 30), 0.5, np.float32)
    >>> z[3, 4] = 2.5
    >>> count = np.full((30, 30), 60)
    >>> scene = Scene.of(Ground(np.full_like(z, 650), np.full_like(z, 30), count), count, z)
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
        """The scene with centred scores."""
        return scene if whole is None else scene.with_z(scene.z - common_score(_bins(scene), whole))


class CentringSettings(StepSettings):
    """Whether z is centred; default: as the profile says."""

    step: ClassVar[type[Step]] = Centring
    centred: bool | None = Field(
        default=None,
        description="measure z against the median of pixels with similar mean coherence in the same image (yes)",
    )


def _bins(scene: Scene) -> NDArray[np.intp]:
    return scene.ground.once("coherence bins", lambda: coherence_bins(scene.ground.mean, *scene.ground.valid_range))
