"""The output of a method for a tile: the fields in which patches are found and measured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Evidence"]


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a method says about the pixels of a tile. All fields have shape (height, width).

    Attributes:
        extent: a patch consists of connected pixels where this exceeds the lower threshold; NaN never does.
        seed: in each 4-connected part of a patch, this exceeds the upper threshold at some pixel.
        z: change in standard deviations, positive where it is abnormal in the method's direction; if the method looks
            both ways, positive for a drop below the baseline mean. Pixels where it is NaN belong to no patch.
        drop: drop below the baseline mean in stored units, float64; negative for a rise.
        count: images of the baseline.

    Raises:
        ValueError: the fields differ in shape.
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

    def magnitudes(self) -> tuple[Evidence, NDArray[np.bool_]]:
        """The evidence with rises turned into drops, and where it was turned: where extent is negative.

        >>> z = np.array([[2.5, -4.0]], np.float32)
        >>> evidence, rises = Evidence.of_scores(z, z, z, z).magnitudes()
        >>> evidence.z, evidence.is_plain, rises
        (array([[2.5, 4. ]], dtype=float32), True, array([[False,  True]]))
        """
        rises = self.extent < 0
        fields = (self.extent, self.seed, self.z)
        turned = {id(field): np.where(rises, -field, field) for field in fields}  # keeps `extent is z`, see is_plain
        extent, seed, z = (turned[id(field)] for field in fields)
        drop = np.where(rises, -self.drop, self.drop)
        return replace(self, extent=extent, seed=seed, z=z, drop=drop), rises

    @classmethod
    def of_scores(
        cls, z: NDArray[np.float32], mean: NDArray[np.float32], image: NDArray[Any], count: NDArray[Any]
    ) -> Evidence:
        """Evidence in which both thresholds apply to z.

        Args:
            z: NaN where there is no score.
            mean: mean of the baseline, in stored units.
            image: the new image, in stored units.
            count: images of the baseline.
        """
        if mean.shape != image.shape:
            raise ValueError("mean and image differ in shape")
        return cls(extent=z, seed=z, z=z, drop=np.subtract(mean, image, dtype=np.float64), count=count)
