"""What the steps of a method work on: an image and its baseline, in a tile and as far around it as they reach."""

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
    """The baseline of a tile and its surroundings, the same for all images. Arrays have shape (height, width).

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
        """What a step makes of the baseline alone: made for the first image, and kept for the others."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    def without_margin(self, margin: int) -> Ground:
        """The same without so many pixels on each side."""
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
        z: NaN where nothing may be said: outside the area of interest, where there are no data, in tiles that are left
            out. Whatever looks at neighbours takes those pixels for absent, so that no tiling shows in the result.
        extent, seed: what the thresholds are compared with (`Evidence`); z, until a step says otherwise.
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
        """The scene with other scores, which the thresholds are compared with."""
        return replace(self, z=z, extent=z, seed=z)

    def without_margin(self, margin: int) -> Scene:
        """The scene without so many pixels on each side."""
        if not margin:
            return self
        cut = (slice(margin, -margin),) * 2
        fields = {id(one): one[cut] for one in (self.z, self.extent, self.seed)}  # the same array stays the same one
        z, extent, seed = (fields[id(one)] for one in (self.z, self.extent, self.seed))
        return Scene(self.ground.without_margin(margin), self.image[cut], z, extent, seed)

    def evidence(self) -> Evidence:
        """What the scene says of its pixels."""
        drop = np.subtract(self.ground.mean, self.image, dtype=np.float64)
        return Evidence(self.extent, self.seed, self.z, drop, self.ground.count)
