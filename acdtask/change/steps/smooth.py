"""Smoothing: thresholds apply to a Gaussian mean of z.

Speckle is nearly independent between pixels, and a change is not, so a local mean keeps changes of several pixels and
reduces the noise. With Gaussian weights w of standard deviation sigma (in pixels), truncated at 4 sigma, and m = 1
where a pixel has a z, 0 elsewhere,

    s(p) = sum_q w(q - p) m(q) z(q) / sum_q w(q - p) m(q)        where m(p) = 1, and NaN elsewhere

This is normalised convolution (H. Knutsson and C.-F. Westin, "Normalized and differential convolution", CVPR 1993). The
thresholds are compared with s; z itself is unchanged, in standard deviations. Halo: 4 sigma, rounded.

A pixel gets the same bits wherever it is in an array: both sums are separable and accumulated tap by tap over whole
arrays, always in the same order. Weights are rounded to multiples of 2^-20, so they do not depend on the C library.
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
"""Truncation of the kernel, in sigma."""

LARGEST = 16.0
"""Maximum sigma, in pixels; its halo is 64 px."""

WEIGHT_STEPS = 2**20
Z_LIMIT = 1e6
"""Scores are clipped to this, so that an infinite one does not affect its neighbours."""


@dataclass(frozen=True)
class Smooth(Step):
    """Applies the thresholds to the Gaussian mean of z; `sigma` is in pixels.

    >>> from acdtask.change.scene import BaselineArrays
    >>> z = np.zeros((5, 5), np.float32)
    >>> z[2, 2], z[2, 3] = 4, np.nan
    >>> scene = Smooth(0.5).apply(Scene.of(BaselineArrays(z, z, z), z, z), None)
    >>> scene.extent[2, :4].round(2), scene.z is z
    (array([0.  , 0.34, 2.7 ,  nan], dtype=float32), True)

    Raises:
        AcdError: SETTING_INVALID for a sigma that is not above 0, or above LARGEST.
    """

    sigma: float

    def __post_init__(self) -> None:
        if not 0 < self.sigma <= LARGEST:
            detail = f"smooth is {self.sigma}; it must be 0, or up to {LARGEST:g} px"
            raise AcdError(ErrorCode.SETTING_INVALID, detail)

    @property
    def halo(self) -> int:
        """Half width of the kernel, in pixels."""
        return math.ceil(CUT_OFF * self.sigma - 0.5)

    @classmethod
    def chosen(cls, given: Mapping[str, Any]) -> Self | None:
        """Smoothing with sigma = `smooth`; None if that is 0."""
        return cls(float(sigma)) if (sigma := given.get("smooth")) else None

    @classmethod
    def recorded(cls, step: Self | None) -> dict[str, Any]:
        """The sigma, if there is smoothing."""
        return {"smooth": step.sigma} if step else {}

    def apply(self, scene: Scene, whole: Whole | None) -> Scene:
        """Use the smoothed z as extent and seed."""
        smooth = gaussian_mean(scene.z, self.weights())
        return replace(scene, extent=smooth, seed=smooth)

    def weights(self) -> list[float]:
        """Weights of the pixels at distances 0, 1, ... halo along an axis."""
        exact = [math.exp(-0.5 * (distance / self.sigma) ** 2) for distance in range(self.halo + 1)]
        return [round(weight * WEIGHT_STEPS) / WEIGHT_STEPS for weight in exact]


class SmoothSettings(StepSettings):
    """The amount of smoothing."""

    step: ClassVar[type[Step]] = Smooth
    smooth: float | None = Field(
        default=None,
        ge=0,
        le=LARGEST,
        description="apply the thresholds to z averaged with a Gaussian of this standard deviation in pixels, e.g. 1.2"
        " (0: no smoothing)",
    )


def gaussian_mean(z: NDArray[np.float32], weights: list[float]) -> NDArray[np.float32]:
    """The weighted mean of the valid pixels around each valid pixel; NaN where z is NaN.

    Args:
        z: shape (height, width).
        weights: weights of the pixels at distances 0, 1, ... along an axis; the first is not 0.

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
    """Weighted sums along rows, then along columns; the array is padded with 0."""
    for _ in range(2):
        field = _along_columns(np.ascontiguousarray(field.T), weights)
    return field


def _along_columns(field: NDArray[np.float64], weights: list[float]) -> NDArray[np.float64]:
    reach, height = len(weights) - 1, len(field)
    padded = np.pad(field, ((reach, reach), (0, 0)))
    total = weights[0] * field
    pair = np.empty_like(field)
    # Pairs of taps are added one after the other over the whole array, so the order of a sum is the same for every
    # pixel. Adding padding (0.0) changes no bit: the edge of the array has the same effect as masked pixels.
    for distance in range(1, reach + 1):
        before, after = padded[reach - distance :][:height], padded[reach + distance :][:height]
        np.add(before, after, out=pair)
        pair *= weights[distance]
        total += pair
    return total
