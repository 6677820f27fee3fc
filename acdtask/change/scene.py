"""The input of a method's steps: an image and its baseline, in a tile and its halo."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acdtask.change.evidence import Evidence

__all__ = ["Ground", "Scene"]


@dataclass(frozen=True, eq=False)
class Ground:
    """The baseline of a tile and its halo, shared by all images. Arrays have shape (height, width).

    Attributes:
        mean: in stored units, NaN where the baseline has no image.
        std: population standard deviation, likewise.
        count: images.
        valid_range: least and greatest valid stored number of the variable.
    """

    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    count: NDArray[Any]
    valid_range: tuple[float, float] = (0, 1000)
    _made: dict[str, NDArray[Any]] = field(default_factory=dict, repr=False)

    def once(self, name: str, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """Something that a step derives from the baseline alone: computed for the first image, then cached."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    def without_margin(self, margin: int) -> Ground:
        """The ground without `margin` pixels on each side."""
        if not margin:
            return self
        cut = (slice(margin, -margin),) * 2
        return Ground(
            self.mean[cut],
            self.std[cut],
            self.count[cut],
            self.valid_range,
            {name: made[cut] for name, made in self._made.items()},
        )


@dataclass(frozen=True, eq=False)
class Scene:
    """An image against its baseline. All arrays have the shape of the ground.

    Attributes:
        ground: the baseline.
        image: in stored units.
        z: NaN outside the area of interest, where there is no data, and in quarantined tiles. Steps that look at
            neighbours treat such pixels as missing, so results do not depend on the tiling.
        extent, seed: what the thresholds are compared with (`Evidence`); z, until a step replaces them.
    """

    ground: Ground
    image: NDArray[Any]
    z: NDArray[np.float32]
    extent: NDArray[np.float32]
    seed: NDArray[np.float32]

    @classmethod
    def of(cls, ground: Ground, image: NDArray[Any], z: NDArray[np.float32]) -> Scene:
        """A scene before any step."""
        return cls(ground, image, z, z, z)

    def with_z(self, z: NDArray[np.float32]) -> Scene:
        """The scene with new scores, to which the thresholds apply."""
        return replace(self, z=z, extent=z, seed=z)

    def without_margin(self, margin: int) -> Scene:
        """The scene without `margin` pixels on each side."""
        if not margin:
            return self
        cut = (slice(margin, -margin),) * 2
        fields = {
            id(one): one[cut] for one in (self.z, self.extent, self.seed)
        }  # keeps `extent is z`, see Evidence.is_plain
        z, extent, seed = (fields[id(one)] for one in (self.z, self.extent, self.seed))
        return Scene(self.ground.without_margin(margin), self.image[cut], z, extent, seed)

    def evidence(self) -> Evidence:
        """The evidence in the scene."""
        drop = np.subtract(self.ground.mean, self.image, dtype=np.float64)
        return Evidence(self.extent, self.seed, self.z, drop, self.ground.count)
