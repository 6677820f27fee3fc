"""Cutting work into shards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from pydantic import BaseModel

from acdtask.cube.grid import Tile
from acdtask.jobs.plans import Shard, Work, WorkT

__all__ = ["MAX_SHARDS", "TileOfWork", "TilesWork", "no_work", "shards_of"]

MAX_SHARDS = 400
"""Beyond it, the status of an Argo workflow no longer fits into its object."""


class TileOfWork(BaseModel):
    """A tile to work on. Each job adds what it needs to know of it."""

    tile: Tile


UnitT = TypeVar("UnitT")
TileT = TypeVar("TileT", bound=TileOfWork)


class TilesWork(Work, Generic[TileT]):
    """The work of a shard of tiles."""

    tiles: list[TileT]

    @property
    def names(self) -> tuple[str, ...]:
        """Its cells."""
        return tuple(work.tile.cell for work in self.tiles)


def no_work(work: WorkT) -> list[Shard[WorkT]]:
    """The one shard of a plan that computes nothing, and only publishes; its work is empty."""
    return [Shard(units=0, work=work)]


def shards_of(units: Sequence[UnitT], at_most: int, work: Callable[[list[UnitT]], WorkT]) -> list[Shard[WorkT]]:
    """Runs of at most so many units each, or of more if there would be over 400 shards otherwise.

    Args:
        units: tiles or files, each with what has to be known of it.
        at_most: units of a shard.
        work: makes the work of a shard of its units.

    >>> class Numbers(Work):
    ...     numbers: list[int]
    >>> [shard.work.numbers for shard in shards_of([1, 2, 3], 2, lambda some: Numbers(numbers=some))]
    [[1, 2], [3]]
    >>> len(shards_of([0] * 1000, 1, lambda some: Numbers(numbers=some)))
    334
    """
    size = max(at_most, -(-len(units) // MAX_SHARDS))
    parts = [[*units[start : start + size]] for start in range(0, len(units), size)]
    return [Shard(units=len(part), work=work(part)) for part in parts]
