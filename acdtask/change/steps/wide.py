"""Wide drops: too weak for their pixels, and for a mean over a few, but evident over many.

Damaged roofs or a thinned stand lower coherence a little over some hundred pixels or more. With w, the Gaussian mean of
z over a greater distance than that of the seed (`gaussian_mean`),

    extent = max(extent, w - MARGIN)        seed = max(seed, w + LIFT)

The maximum over scales is a detector of blobs of unknown size (T. Lindeberg, "Feature detection with automatic scale
selection", Int. J. Comput. Vis. 30, 1998). Halo: that of the Gaussian.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import Field

from acdtask.change.scene import Scene
from acdtask.change.steps.smooth import LARGEST, Smooth, gaussian_mean
from acdtask.change.steps.step import Step, StepSettings, Whole
from acdtask.errors import AcdError, ErrorCode

__all__ = ["USUAL_WIDTH", "Wide", "WideSettings"]

MARGIN = 0.8
"""Where the mean over the greater distance exceeds this, a pixel belongs to the extent."""

LIFT = 0.6
"""How much lower than that of the seed the threshold of the mean is, since it has less noise."""

USUAL_WIDTH = 3.0
"""Standard deviation of the Gaussian of the robust method, in pixels."""


@dataclass(frozen=True)
class Wide(Step):
    """Also looks for drops in a Gaussian mean of z over a greater distance; `sigma` is in pixels.

    >>> from acdtask.change.scene import BaselineArrays
    >>> z = np.zeros((41, 41), np.float32)
    >>> z[10:30, 10:30] = 1.3
    >>> scene = Wide(3.0).apply(Scene.of(BaselineArrays(z, z, z), z, z), None)
    >>> scene.seed.max().round(1), int((scene.extent > 0).sum()), int((scene.extent[20] > 1.2).sum())
    (np.float32(1.9), 400, 20)

    Raises:
        AcdError: SETTING_INVALID for a sigma that is not above 0, or above LARGEST.
    """

    sigma: float

    def __post_init__(self) -> None:
        if not 0 < self.sigma <= LARGEST:
            detail = f"wide is {self.sigma}; it must be 0, or up to {LARGEST:g} px"
            raise AcdError(ErrorCode.SETTING_INVALID, detail)

    @property
    def halo(self) -> int:
        """Half width of the kernel, in pixels."""
        return Smooth(self.sigma).halo

    @classmethod
    def chosen(cls, given: Mapping[str, Any]) -> Self | None:
        """A Gaussian with sigma = `wide`; None if that is 0."""
        return cls(float(sigma)) if (sigma := given.get("wide")) else None

    @classmethod
    def recorded(cls, step: Self | None) -> dict[str, Any]:
        """The sigma, if the step is used."""
        return {"wide": step.sigma} if step else {}

    def apply(self, scene: Scene, whole: Whole | None) -> Scene:
        """Raise extent and seed to what the mean says."""
        mean = gaussian_mean(scene.z, Smooth(self.sigma).weights())
        extent = np.maximum(scene.extent, mean - np.float32(MARGIN))
        return replace(scene, extent=extent, seed=np.maximum(scene.seed, mean + np.float32(LIFT)))


class WideSettings(StepSettings):
    """The distance over which weak drops are looked for."""

    step: ClassVar[type[Step]] = Wide
    wide: float | None = Field(
        default=None,
        ge=0,
        le=LARGEST,
        description="also look for weak, wide drops in z averaged with a Gaussian of this standard deviation in pixels"
        f" (robust: {USUAL_WIDTH:g}; 0: no)",
    )
