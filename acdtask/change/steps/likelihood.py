"""Likelihood: how much better a drop of coherence explains a pixel than the usual spread does.

A change of the ground multiplies the true coherence by some factor f. What is seen is an estimate from L looks, which
is biased upwards where coherence is low, so a total loss does not give 0. With the value e that is expected on this
date and its standard deviation s (both after the steps before), the log likelihood ratio of a value x is

    ratio(x) = ln sum_k w_k N(x; B(f_k g), s_k)  -  ln [ (1 - TAIL) N(x; e, s) + TAIL N(x; e, WIDE s) ]

    B(g) = sqrt(g^2 + (1 - g^2)^1.5 pi / (4 L))         the mean of the estimate of a true coherence g; B(g) = e
    s_k^2 = (1 - f_k^2 g^2)^2 / (2 N) + f_k^2 max(0, s^2 - (1 - g^2)^2 / (2 N))      speckle, and the rest of s

where N is the number of independent looks. Both formulas approximate the moments of the sample coherence (R. Touzi et
al., "Coherence estimation for SAR imagery", IEEE Trans. Geosci. Remote Sens. 37, 1999). FACTORS are of strong drops,
and, with less weight, of weak ones, which count where many neighbours agree. The ratio is limited to +-LIMIT, so that
no single pixel decides, and averaged with a Gaussian of SIGMA px (`gaussian_mean`). Values are on the variable's range,
as 0 to 1. Halo: that of the Gaussian.

The ratio comes from a table in steps of d = (e - x) / s, e and s, of numbers rounded to 2^-10, so that it does not
depend on the C library.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from acdtask.change.scene import Scene
from acdtask.change.steps.smooth import Smooth, gaussian_mean
from acdtask.change.steps.step import Step, StepSettings, Whole
from acdtask.errors import AcdError, ErrorCode

__all__ = ["USUAL_LOOKS", "Likelihood", "LikelihoodSettings"]

FACTORS = ((0.1, 0.2), (0.2, 0.2), (0.3, 0.2), (0.45, 0.2), (0.6, 0.1), (0.8, 0.1))
"""Factors of the true coherence, and their weights."""

TAIL, WIDE = 0.02, 3.0
LIMIT = 8.0
SIGMA = 0.8
INDEPENDENT = 5 / 9
"""Share of the looks that are independent: the windows of neighbouring estimates overlap."""

LEAST_LOOKS, MOST_LOOKS = 2.0, 1000.0
USUAL_LOOKS = 36.0
"""Looks of Sentinel-1 coherence on pixels of some 20 m."""

PER_DEVIATION, LEAST_DEVIATION, MOST_DEVIATION = 8, -6, 16
PER_EXPECTED = 40
PER_ROOT, MOST_ROOT = 80, 0.6
"""The standard deviation is tabulated in steps of its square root, which are finer where it is small."""

TABLE_ROUNDING = 2**10


@dataclass(frozen=True)
class Likelihood(Step):
    """Replaces the extent by the smoothed log likelihood ratio of a drop; `looks` is L.

    >>> from acdtask.change.scene import BaselineArrays
    >>> mean, std = np.full((9, 9), 600, np.float32), np.full((9, 9), 60, np.float32)
    >>> image = np.full((9, 9), 590, np.int16)
    >>> image[3:7, 3:7] = 250
    >>> z = ((mean - image) / std).astype(np.float32)
    >>> ratio = Likelihood(36).apply(Scene.of(BaselineArrays(mean, std, mean), image, z), None).extent
    >>> ratio[0, 0].round(1), ratio[5, 5].round(1)
    (np.float32(-2.6), np.float32(5.5))

    Raises:
        AcdError: SETTING_INVALID for a number of looks that is not between LEAST_LOOKS and MOST_LOOKS.
    """

    looks: float

    def __post_init__(self) -> None:
        if not LEAST_LOOKS <= self.looks <= MOST_LOOKS:
            detail = f"looks is {self.looks:g}; it must be 0, or from {LEAST_LOOKS:g} to {MOST_LOOKS:g}"
            raise AcdError(ErrorCode.SETTING_INVALID, detail)

    @property
    def halo(self) -> int:
        """That of the Gaussian, in pixels."""
        return Smooth(SIGMA).halo

    @classmethod
    def chosen(cls, given: Mapping[str, Any]) -> Self | None:
        """The ratio for `looks` looks; None if that is 0."""
        return cls(float(looks)) if (looks := given.get("looks")) else None

    @classmethod
    def recorded(cls, step: Self | None) -> dict[str, Any]:
        """The number of looks, if the ratio is used."""
        return {"looks": step.looks} if step else {}

    def apply(self, scene: Scene, whole: Whole | None) -> Scene:
        """Use the smoothed ratio as extent."""
        ratio = self.ratio(scene)
        return replace(scene, extent=gaussian_mean(ratio, Smooth(SIGMA).weights()))

    def ratio(self, scene: Scene) -> NDArray[np.float32]:
        """The ratio of each pixel, before smoothing; NaN where z is."""
        least, greatest = scene.baseline.valid_range
        unit = np.float32(1 / (greatest - least))
        unknown = np.isnan(scene.z)
        spread = scene.spread * unit
        expected = scene.deviation * spread
        expected += (scene.image - np.float32(least)) * unit
        np.sqrt(spread, out=spread)
        index = _steps(scene.deviation, PER_DEVIATION, LEAST_DEVIATION, MOST_DEVIATION, unknown)
        index *= PER_EXPECTED + 1
        index += _steps(expected, PER_EXPECTED, 0, 1, unknown)
        index *= round(PER_ROOT * MOST_ROOT) + 1
        index += _steps(spread, PER_ROOT, 0, MOST_ROOT, unknown)
        ratio = _table(self.looks)[index]
        ratio[unknown] = np.nan
        return ratio


class LikelihoodSettings(StepSettings):
    """The looks of the images, for the likelihood ratio."""

    step: ClassVar[type[Step]] = Likelihood
    looks: float | None = Field(
        default=None,
        ge=0,
        le=MOST_LOOKS,
        description="looks of a coherence estimate, from which a patch's extent gets the likelihood of a drop"
        f" (robust: {USUAL_LOOKS:g}; 0: the extent is that of z)",
    )


def _steps(
    values: NDArray[np.float32], per_unit: int, least: float, greatest: float, unknown: NDArray[np.bool_]
) -> NDArray[np.int32]:
    """The nearest step of each value, counted from that of `least`."""
    steps = np.clip(values, np.float32(least), np.float32(greatest))
    steps -= np.float32(least)
    steps *= np.float32(per_unit)
    np.rint(steps, out=steps)
    steps[unknown] = 0
    return steps.astype(np.int32)


@lru_cache(maxsize=4)
def _table(looks: float) -> NDArray[np.float32]:
    """The limited ratio for all steps of deviation, expected value and standard deviation; flat."""
    return (np.round(_exact(looks) * TABLE_ROUNDING) / TABLE_ROUNDING).astype(np.float32).reshape(-1)


def _exact(looks: float) -> NDArray[np.float64]:
    """The ratio at all steps, before rounding."""
    deviation = np.arange(LEAST_DEVIATION * PER_DEVIATION, MOST_DEVIATION * PER_DEVIATION + 1) / PER_DEVIATION
    expected = np.arange(PER_EXPECTED + 1) / PER_EXPECTED
    root = np.maximum(np.arange(round(PER_ROOT * MOST_ROOT) + 1), 0.5) / PER_ROOT
    d, e, s = np.meshgrid(deviation, expected, root * root, indexing="ij", sparse=True)
    true, value = _true_coherence(e, looks), e - d * s
    independent = looks * INDEPENDENT
    rest = np.maximum(s * s - (1 - true**2) ** 2 / (2 * independent), 0)
    drop = np.zeros(np.broadcast_shapes(d.shape, e.shape, s.shape))
    for factor, weight in FACTORS:
        lower = factor * true
        variance = (1 - lower**2) ** 2 / (2 * independent) + factor**2 * rest
        drop += weight * _normal(value - _mean_estimate(lower, looks), variance)
    usual = (1 - TAIL) * _normal(d * s, s * s) + TAIL * _normal(d * s, (WIDE * s) ** 2)
    tiny = np.finfo(np.float64).tiny
    ratio: NDArray[np.float64] = np.log(np.maximum(drop, tiny)) - np.log(np.maximum(usual, tiny))
    return np.clip(ratio, -LIMIT, LIMIT)


def _normal(offset: NDArray[np.float64], variance: NDArray[np.float64]) -> NDArray[np.float64]:
    density: NDArray[np.float64] = np.exp(-0.5 * offset * offset / variance) / np.sqrt(variance)
    return density


def _mean_estimate(true: NDArray[np.float64], looks: float) -> NDArray[np.float64]:
    """B: the mean estimate of a true coherence."""
    mean: NDArray[np.float64] = np.sqrt(true**2 + (1 - true**2) ** 1.5 * np.pi / (4 * looks))
    return mean


def _true_coherence(mean: NDArray[np.float64], looks: float) -> NDArray[np.float64]:
    """The inverse of B, by bisection; 0 for means below that of no coherence."""
    low, high = np.zeros_like(mean), np.ones_like(mean)
    for _ in range(50):
        middle = (low + high) / 2
        below = _mean_estimate(middle, looks) < mean
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2
