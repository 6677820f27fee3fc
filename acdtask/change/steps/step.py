"""The interface of a method's steps, and what a list of them needs: its halo, and measures of the whole image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from acdtask.change.scene import Scene

__all__ = ["Counts", "Step", "StepSettings", "Whole", "halo_of", "measuring", "reads_twice"]

Counts: TypeAlias = NDArray[np.int64]
"""What a step counts in a tile: integers, whose total over tiles (`Step.total`) does not depend on order."""

Whole: TypeAlias = NDArray[Any]
"""What a step concludes about the whole image."""


class Step(ABC):
    """An array function that refines the evidence of a tile. It sees the tile and `halo` pixels around it.

    A step that depends on the whole image (a median, for example) sets `measures`. The counts of all tiles are added,
    `conclude` reduces the sum, and `apply` receives the result in every tile.

    Results must be bit-for-bit identical regardless of tiling. So the bits that `apply` gives a pixel may depend only
    on pixels within `halo` of it, and not on its position in the array.
    """

    measures: ClassVar[bool] = False

    @property
    def halo(self) -> int:
        """How far beyond a tile pixels affect its result, in pixels."""
        return 0

    @classmethod
    @abstractmethod
    def chosen(cls, given: Mapping[str, Any]) -> Self | None:
        """Create the step if the settings ask for it, otherwise None. SETTING_INVALID, naming the setting."""

    @classmethod
    @abstractmethod
    def recorded(cls, step: Self | None) -> dict[str, Any]:
        """The settings from which `chosen` recreates this step or its absence, as results record them.

        A new step records nothing if it is not used, so that existing results keep their ids.
        """

    def measure(self, scene: Scene) -> Counts:
        """Count in a tile without its halo."""
        raise NotImplementedError

    def total(self, parts: Sequence[Counts]) -> Counts:
        """Add the counts of tiles, at least one, in any order."""
        return np.sum(parts, axis=0, dtype=np.int64)

    def conclude(self, counts: Counts) -> Whole:
        """Reduce the counts of the whole image to a small array, which every tile receives."""
        raise NotImplementedError

    def part(self, whole: Whole, areas: Sequence[tuple[int, int, int, int]]) -> Whole:
        """What tiles need of a conclusion, if it has a value per place.

        Args:
            whole: the conclusion.
            areas: top, left, bottom, right of the tiles with their halo, in global pixels.
        """
        del areas
        return whole

    @abstractmethod
    def apply(self, scene: Scene, whole: Whole | None) -> Scene:
        """Return the scene after this step. Pixels without z must stay without z.

        If nothing was measured, `whole` is None, and a step that measures changes nothing.
        """


class StepSettings(BaseModel):
    """The settings of one step; names are unique among all steps. Options and reference pages are made from them."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")
    step: ClassVar[type[Step]]


def halo_of(steps: Sequence[Step]) -> int:
    """The halo of a method: how far beyond a tile pixels affect its result, in pixels."""
    return sum(step.halo for step in steps)


def measuring(steps: Sequence[Step]) -> list[Step]:
    """The steps that measure the whole image, in order."""
    return [step for step in steps if step.measures]


def reads_twice(steps: Sequence[Step]) -> bool:
    """Whether all tiles must be read before any is judged: to measure the image, or to detect unreadable neighbours.

    >>> from acdtask.change.steps.registry import steps_of
    >>> [reads_twice(steps_of(given)) for given in ({}, {"centred": True}, {"smooth": 1.2})]
    [False, True, True]
    """
    return bool(measuring(steps) or halo_of(steps))
