"""Smoothing: evidence of a pixel is the Gaussian mean of z around it.

Speckle is independent from pixel to pixel, or nearly so, and a change is not: a mean over neighbours keeps a change of
several pixels and lowers the noise. With the weights w of a Gaussian of standard deviation sigma (in pixels), cut off
at 4 sigma, and m = 1 where a pixel has a z and 0 where it has none,

    s(p) = sum_q w(q - p) m(q) z(q) / sum_q w(q - p) m(q)        where m(p) = 1, and none elsewhere

which is normalised convolution (H. Knutsson and C.-F. Westin, "Normalized and differential convolution", CVPR 1993).
The thresholds are compared with s; z itself stays what it is, in standard deviations. Halo: 4 sigma, rounded.

A pixel gets the same bits wherever in an array it lies: both sums are separable, and are added up tap by tap, always in
the same order, over whole arrays. Weights are rounded to 2^-20 first, so that they do not depend on the C library.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from acdtask.change.scene import Scene
from acdtask.change.steps.step import Step, StepSettings, Whole
from acdtask.errors import AcdError, ErrorCode

__all__ = ["LARGEST", "Smooth", "SmoothSettings", "gaussian_mean"]

CUT_OFF = 4.0
"""The kernel ends at so many sigma."""

LARGEST = 16.0
"""The largest sigma in pixels: a tile then needs 64 px of its surroundings."""

WEIGHT_STEPS = 2**20
Z_LIMIT = 1e6
"""Larger scores count as this one, so that no infinite one spoils its neighbours."""


@dataclass(frozen=True)
class Smooth(Step):
    """Compares thresholds with the Gaussian mean of z; `sigma` in pixels.

    >>> from acdtask.change.scene import Ground
    >>> z = np.zeros((5, 5), np.float32)
    >>> z[2, 2], z[2, 3] = 4, np.nan
    >>> scene = Smooth(0.5).apply(Scene.of(Ground(z, z, z), z, z), None)
    >>> scene.extent[2, :4].round(2), scene.z is z
    (array([0.  , 0.34, 2.7 ,  nan], dtype=float32), True)

    Raises:
        AcdError: SETTING_INVALID for a sigma that is not above 0, or above LARGEST.
    """

    sigma: float

    def __post_init__(self) -> None:
        if not 0 < self.sigma <= LARGEST:
            detail = f"smooth is {self.sigma}, and it is 0 or up to {LARGEST:g} px"
            raise AcdError(ErrorCode.SETTING_INVALID, detail)

    @property
    def halo(self) -> int:
        """The half width of the kernel."""
        return math.ceil(CUT_OFF * self.sigma - 0.5)

    @classmethod
    def chosen(cls, given: Mapping[str, Any]) -> Self | None:
        """With the sigma that `smooth` is; without, if that is 0."""
        return cls(float(sigma)) if (sigma := given.get("smooth")) else None

    @classmethod
    def recorded(cls, step: Self | None) -> dict[str, Any]:
        """The sigma, if it is smoothed."""
        return {"smooth": step.sigma} if step else {}

    def apply(self, scene: Scene, whole: Whole | None) -> Scene:
        """The scene whose thresholds are compared with the mean of z."""
        smooth = gaussian_mean(scene.z, self.weights())
        return replace(scene, extent=smooth, seed=smooth)

    def weights(self) -> list[float]:
        """Weights of the pixels at distance 0, 1, ... halo along an axis."""
        exact = [math.exp(-0.5 * (distance / self.sigma) ** 2) for distance in range(self.halo + 1)]
        return [round(weight * WEIGHT_STEPS) / WEIGHT_STEPS for weight in exact]


class SmoothSettings(StepSettings):
    """How much z is smoothed."""

    step: ClassVar[type[Step]] = Smooth
    smooth: float | None = Field(
        default=None,
        ge=0,
        le=LARGEST,
        description="compare the thresholds with z averaged under a Gaussian of this standard deviation, in pixels,"
        " such as 1.2 (0: with z itself)",
    )


def gaussian_mean(z: NDArray[np.float32], weights: list[float]) -> NDArray[np.float32]:
    """The mean of those neighbours of each pixel that have a z, itself included; NaN where z is.

    Args:
        z: shape (height, width).
        weights: of the pixels at distance 0, 1, ... along an axis; that at distance 0 is not 0.

    >>> gaussian_mean(np.array([[0, 3, np.nan, 9]], np.float32), [1.0, 0.5])
    array([[ 1.,  2., nan,  9.]], dtype=float32)
    """
    known = ~np.isnan(z)
    values = np.where(known, np.clip(z, -Z_LIMIT, Z_LIMIT), np.float32(0)).astype(np.float64)
    total, weight = (_weighted_sums(field, weights) for field in (values, known.astype(np.float64)))
    mean = np.full(z.shape, np.nan)
    np.divide(total, weight, out=mean, where=known)
    return mean.astype(np.float32)


def _weighted_sums(field: NDArray[np.float64], weights: list[float]) -> NDArray[np.float64]:
    """Sums along rows, then along columns. What lies beyond the array is 0."""
    for _ in range(2):
        field = _along_columns(np.ascontiguousarray(field.T), weights)
    return field


def _along_columns(field: NDArray[np.float64], weights: list[float]) -> NDArray[np.float64]:
    reach, height = len(weights) - 1, len(field)
    padded = np.pad(field, ((reach, reach), (0, 0)))
    total = weights[0] * field
    pair = np.empty_like(field)
    # One pair of taps after the other, over the whole array: no sum's order depends on where a pixel lies. Adding the
    # zeros of the padding changes no bit, so an edge of the array is the same as pixels without a z beyond it.
    for distance in range(1, reach + 1):
        before, after = padded[reach - distance :][:height], padded[reach + distance :][:height]
        np.add(before, after, out=pair)
        pair *= weights[distance]
        total += pair
    return total
