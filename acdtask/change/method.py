"""A method is a list of steps: how they follow each other, over tiles and over the whole image."""

from __future__ import annotations

from collections.abc import Sequence

from acdtask.change.scene import Scene
from acdtask.change.steps.step import Counts, Step, Whole

__all__ = ["apply_steps", "halo_before", "halo_of", "measure", "measuring"]


def halo_of(steps: Sequence[Step]) -> int:
    """How many pixels around a tile decide what comes out in it."""
    return sum(step.halo for step in steps)


def measuring(steps: Sequence[Step]) -> list[Step]:
    """The steps that measure the whole image, in their order."""
    return [step for step in steps if step.measures]


def halo_before(steps: Sequence[Step], turn: int) -> int:
    """How many pixels around a tile decide what the measuring step number `turn` counts in it."""
    return halo_of(_until(steps, turn))


def measure(scene: Scene, steps: Sequence[Step], wholes: Sequence[Whole]) -> Counts:
    """What the next measuring step counts in a tile.

    Args:
        scene: the tile grown by `halo_before(steps, len(wholes))`.
        steps: the method.
        wholes: what the measuring steps before it have concluded.
    """
    turn = len(wholes)
    before = apply_steps(scene, _until(steps, turn), wholes)
    return measuring(steps)[turn].measure(before.without_margin(halo_before(steps, turn)))


def apply_steps(scene: Scene, steps: Sequence[Step], wholes: Sequence[Whole]) -> Scene:
    """The scene after all steps; what they say is right without the margin of `halo_of(steps)`.

    Args:
        scene: a tile, grown by that margin.
        steps: the method.
        wholes: what the measuring steps have concluded; those at the end that have none do nothing.
    """
    concluded = iter(wholes)
    for step in steps:
        scene = step.apply(scene, next(concluded, None) if step.measures else None)
    return scene


def _until(steps: Sequence[Step], turn: int) -> Sequence[Step]:
    places = [place for place, step in enumerate(steps) if step.measures]
    return steps[: places[turn]]
