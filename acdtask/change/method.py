"""Applying a list of steps to tiles, with measures of the whole image in between."""

from __future__ import annotations

from collections.abc import Sequence

from acdtask.change.scene import Scene
from acdtask.change.steps.step import Counts, Step, Whole

__all__ = ["apply_steps", "halo_before", "halo_of", "measure", "measuring", "reads_twice"]


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


def halo_before(steps: Sequence[Step], turn: int) -> int:
    """The halo that measuring step number `turn` (from 0) needs to count."""
    return halo_of(_until(steps, turn))


def measure(scene: Scene, steps: Sequence[Step], wholes: Sequence[Whole]) -> Counts:
    """Count in a tile for the next measuring step.

    Args:
        scene: the tile grown by `halo_before(steps, len(wholes))`.
        steps: the method.
        wholes: conclusions of the measuring steps before it.
    """
    turn = len(wholes)
    before = apply_steps(scene, _until(steps, turn), wholes)
    return measuring(steps)[turn].measure(before.without_margin(halo_before(steps, turn)))


def apply_steps(scene: Scene, steps: Sequence[Step], wholes: Sequence[Whole]) -> Scene:
    """Apply all steps. The result is valid without a margin of `halo_of(steps)` pixels.

    Args:
        scene: a tile, grown by that margin.
        steps: the method.
        wholes: conclusions of the measuring steps; measuring steps without one change nothing.
    """
    concluded = iter(wholes)
    for step in steps:
        scene = step.apply(scene, next(concluded, None) if step.measures else None)
    return scene


def _until(steps: Sequence[Step], turn: int) -> Sequence[Step]:
    positions = [position for position, step in enumerate(steps) if step.measures]
    return steps[: positions[turn]]
