"""Mean field: a pixel belongs to a change if it looks like one, and if its neighbours do.

Changes are wider than a pixel. In a Markov random field that prefers equal neighbours (J. Besag, "On the statistical
analysis of dirty pictures", J. R. Stat. Soc. B 48, 1986), the mean-field approximation of the log odds q of a change is
the fixed point of

    q(p) = h(p) + COUPLING sum_n w_n t(q(n))        t(q) = tanh(q / 2), in Pade's form q (108 + q^2) / (216 + 18 q^2)

over the eight neighbours n, with w = 1, or DIAGONAL at corners, and h = extent - RARITY; extent is the log likelihood
ratio. It starts at h and is iterated ITERATIONS times. The zero of q depends on the prior, so it is no probability: the
new extent is q + MARGIN. Neighbours without z count as undecided (t = 0). Halo: a pixel per iteration.

A wide drop may be too weak for each of its pixels, and so for the field, and yet be evident from their mean. So where z
was smoothed, the extent is at least smoothed z - WEAK. (Drops to 0.8 of the coherence, planted as discs of 8 px radius
into 30 real pairs: 25 have 30 % of their pixels in a candidate without this, 28 with it.)

Only additions, products and quotients are used, in the same order for each pixel and over whole arrays, so a pixel gets
the same bits wherever it is in an array, and on any machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from acdtask.change.scene import Scene
from acdtask.change.steps.step import Step, StepSettings, Whole

__all__ = ["MeanField", "MeanFieldSettings"]

ITERATIONS = 8
COUPLING = 0.6
DIAGONAL = 0.7
RARITY = 1.0
MARGIN = 4.0
"""Where q exceeds -MARGIN, a pixel belongs to the extent of a change."""

WEAK = 1.9
"""Where smoothed z exceeds this, a pixel belongs to the extent as well."""

SATURATED = 6.0
"""t is 1 from here on."""

Field32 = NDArray[np.float32]


@dataclass(frozen=True)
class MeanField(Step):
    """Lets neighbours support each other's extent, which must be a log likelihood ratio.

    >>> from acdtask.change.scene import BaselineArrays
    >>> ratio = np.full((40, 40), -4, np.float32)
    >>> ratio[10, 10], ratio[20:24, 20:24] = 1, 2
    >>> scene = Scene.of(BaselineArrays(ratio, ratio, ratio), ratio, ratio)
    >>> extent = MeanField().apply(scene, None).extent
    >>> extent[10, 10] > 0, int((extent[20:24, 20:24] > 0).sum()), int((extent > 0).sum())
    (np.False_, 16, 16)
    """

    @property
    def halo(self) -> int:
        """One pixel per iteration."""
        return ITERATIONS

    @classmethod
    def chosen(cls, given: Mapping[str, Any]) -> Self | None:
        """The mean field if `mean_field` is true."""
        return cls() if given.get("mean_field") else None

    @classmethod
    def recorded(cls, step: Self | None) -> dict[str, Any]:
        """That there is a mean field, if so."""
        return {"mean_field": True} if step else {}

    def apply(self, scene: Scene, whole: Whole | None) -> Scene:
        """Replace the extent by q + MARGIN, and by smoothed z - WEAK where that is more."""
        unknown = np.isnan(scene.z)
        own = scene.extent - np.float32(RARITY)
        own[unknown] = 0
        missing = unknown if unknown.any() else None
        odds = own
        for _ in range(ITERATIONS):
            odds = _iterated(own, odds, missing)
        extent = odds + np.float32(MARGIN)
        extent[unknown] = np.nan
        if scene.seed is not scene.z:
            np.maximum(extent, scene.seed - np.float32(WEAK), out=extent)
        return replace(scene, extent=extent)


class MeanFieldSettings(StepSettings):
    """Whether neighbours support each other's extent."""

    step: ClassVar[type[Step]] = MeanField
    mean_field: bool | None = Field(
        default=None, description="let neighbouring pixels support each other's extent (robust: yes); needs --looks"
    )


def _iterated(own: Field32, odds: Field32, missing: NDArray[np.bool_] | None) -> Field32:
    """An iteration. Where `missing`, the odds are 0."""
    height, width = own.shape
    leaning = np.zeros((height + 2, width + 2), np.float32)
    leaning[1:-1, 1:-1] = _leaning(odds)
    beside = leaning[:, :-2] + leaning[:, 2:]
    sides = leaning[:-2, 1:-1] + leaning[2:, 1:-1]
    sides += beside[1:-1]
    corners = beside[:-2] + beside[2:]
    corners *= np.float32(DIAGONAL)
    sides += corners
    sides *= np.float32(COUPLING)
    sides += own
    if missing is not None:
        sides[missing] = 0
    return sides


def _leaning(odds: Field32) -> Field32:
    """The leaning t of each pixel, from -1 to 1."""
    limited = np.clip(odds, -SATURATED, SATURATED)
    squared = limited * limited
    limited *= squared + np.float32(108)
    squared *= np.float32(18)
    squared += np.float32(216)
    limited /= squared
    return limited
