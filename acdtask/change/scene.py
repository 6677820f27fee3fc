"""The input of a method's steps: an image and its baseline in a tile and its halo."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acdtask.change.evidence import Evidence

__all__ = ["BaselineArrays", "Scene"]


@dataclass(frozen=True, eq=False)
class BaselineArrays:
    """The baseline of a tile and its halo, shared by all images. Arrays have shape (height, width).

    Attributes:
        mean: in stored units; NaN where the baseline has no image.
        std: population standard deviation, in stored units; NaN where the baseline has no image.
        count: number of images.
        valid_range: minimum and maximum valid stored value of the variable.
        derived: arrays that steps compute from the baseline alone, by name: filled at the first image, then reused.
    """

    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    count: NDArray[Any]
    valid_range: tuple[float, float] = (0, 1000)
    derived: dict[str, NDArray[Any]] = field(default_factory=dict, repr=False)

    def without_margin(self, margin: int) -> BaselineArrays:
        """Crop `margin` pixels on each side."""
        if not margin:
            return self
        cut = (slice(margin, -margin),) * 2
        return BaselineArrays(
            self.mean[cut],
            self.std[cut],
            self.count[cut],
            self.valid_range,
            {name: derived[cut] for name, derived in self.derived.items()},
        )


@dataclass(frozen=True, eq=False)
class Scene:
    """An image and its baseline. All arrays have shape (height, width).

    Attributes:
        baseline: the baseline.
        image: in stored units.
        z: NaN outside the area of interest, where there is no data, and in quarantined tiles. Steps that look at
            neighbours treat such pixels as missing, so results do not depend on the tiling.
        extent, seed: the fields that thresholds apply to (`Evidence`); z until a step replaces them.
        deviation: drop below the value expected on this date, in units of `spread`; z until a step corrects z for the
            distribution of the image's scores.
        spread: standard deviation of a pixel on this date, in stored units; the baseline's until a step scales it.
        origin: global (row, column) of the first pixel.
    """

    baseline: BaselineArrays
    image: NDArray[Any]
    z: NDArray[np.float32]
    extent: NDArray[np.float32]
    seed: NDArray[np.float32]
    deviation: NDArray[np.float32]
    spread: NDArray[np.float32]
    origin: tuple[int, int] = (0, 0)

    @classmethod
    def of(
        cls, baseline: BaselineArrays, image: NDArray[Any], z: NDArray[np.float32], origin: tuple[int, int] = (0, 0)
    ) -> Scene:
        """A scene before any step."""
        return cls(baseline, image, z, z, z, z, baseline.std, origin)

    def with_z(self, z: NDArray[np.float32]) -> Scene:
        """The scene with new scores, to which the thresholds apply."""
        return replace(self, z=z, extent=z, seed=z, deviation=z)

    def without_margin(self, margin: int) -> Scene:
        """Crop `margin` pixels on each side."""
        if not margin:
            return self
        cut = (slice(margin, -margin),) * 2
        fields = (self.z, self.extent, self.seed, self.deviation, self.spread)
        cropped = {id(field): field[cut] for field in fields}  # keeps `extent is z`, see Evidence.is_plain
        z, extent, seed, deviation, spread = (cropped[id(field)] for field in fields)
        origin = self.origin[0] + margin, self.origin[1] + margin
        baseline = self.baseline.without_margin(margin)
        return Scene(baseline, self.image[cut], z, extent, seed, deviation, spread, origin)

    def evidence(self) -> Evidence:
        """The evidence after all steps."""
        drop = np.subtract(self.baseline.mean, self.image, dtype=np.float64)
        return Evidence(self.extent, self.seed, self.z, drop, self.baseline.count)
