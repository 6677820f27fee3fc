"""The output of a method for a tile: fields that patches are found in and measured on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Evidence"]


@dataclass(frozen=True, eq=False)
class Evidence:
    """Fields of one shape (height, width).

    Attributes:
        extent: a patch is made of connected pixels in which this exceeds the lower threshold; NaN is never above.
        seed: some pixel of each 4-connected part of a patch exceeds the upper threshold in this.
        z: drop below the usual value, in standard deviations. Pixels where it is NaN are in no patch.
        drop: the same in stored units, float64.
        count: images of the baseline.

    Raises:
        ValueError: the shapes differ.
    """

    extent: NDArray[np.float32]
    seed: NDArray[np.float32]
    z: NDArray[np.float32]
    drop: NDArray[np.float64]
    count: NDArray[Any]

    def __post_init__(self) -> None:
        if len({field.shape for field in (self.extent, self.seed, self.z, self.drop, self.count)}) > 1:
            raise ValueError("extent, seed, z, drop and count differ in shape")

    @property
    def is_plain(self) -> bool:
        """Whether both thresholds apply to z itself."""
        return self.extent is self.z and self.seed is self.z

    @classmethod
    def of_scores(
        cls, z: NDArray[np.float32], mean: NDArray[np.float32], image: NDArray[Any], count: NDArray[Any]
    ) -> Evidence:
        """The evidence of scores alone.

        Args:
            z: NaN where there is no score.
            mean: mean of the baseline, in stored units.
            image: the new image, in stored units.
            count: images of the baseline.
        """
        if mean.shape != image.shape:
            raise ValueError("mean and image differ in shape")
        return cls(extent=z, seed=z, z=z, drop=np.subtract(mean, image, dtype=np.float64), count=count)
