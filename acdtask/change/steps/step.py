"""What a step of a method is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from acdtask.change.scene import Scene

__all__ = ["Counts", "Step", "StepSettings", "Whole"]

Counts: TypeAlias = NDArray[np.int64]
"""What a step counts in a tile: integers of a fixed shape, so that sums over tiles are the same in any order."""

Whole: TypeAlias = NDArray[Any]
"""What a step knows of the whole image."""


class Step(ABC):
    """An array function that makes evidence clearer. It sees a tile and `halo` pixels around it.

    A step that needs something of the whole image, as a median, `measures`: each tile's `measure` is added up over the
    image, in any order, and every tile's `apply` gets what `conclude` makes of the sum. So the result is the same bits
    however an image was cut, if `apply` gives a pixel bits that depend on the pixels within `halo` of it alone, not on
    where in the array it lies.
    """

    measures: ClassVar[bool] = False

    @property
    def halo(self) -> int:
        """How many pixels around a tile decide what comes out in it."""
        return 0

    @classmethod
    @abstractmethod
    def chosen(cls, given: Mapping[str, Any]) -> Self | None:
        """The step with these settings, or None if they leave it out. SETTING_INVALID, naming the setting."""

    @classmethod
    @abstractmethod
    def recorded(cls, step: Self | None) -> dict[str, Any]:
        """The settings from which `chosen` makes this step, or leaves it out, as a result keeps them.

        A step that older versions did not have records nothing when it is left out, so that results keep their ids.
        """

    def measure(self, scene: Scene) -> Counts:
        """What is counted in a tile, without its surroundings."""
        raise NotImplementedError

    def conclude(self, counts: Counts) -> Whole:
        """What the counts of all tiles together say; small, since every tile gets it."""
        raise NotImplementedError

    @abstractmethod
    def apply(self, scene: Scene, whole: Whole | None) -> Scene:
        """The scene after this step. `whole` is None if nothing was measured; then a step that measures does nothing.

        Pixels without z stay without.
        """


class StepSettings(BaseModel):
    """The settings of one step, under names that no other step has. Options and documents are made from them."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")
    step: ClassVar[type[Step]]
