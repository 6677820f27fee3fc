"""Cutting work into shards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel

from acdtask.jobs.plans import Shard, Work, WorkT
from acdtask.raster.grid import Tile

__all__ = [
    "BY_COST",
    "HELD_BYTES",
    "MAX_SHARDS",
    "POD_START",
    "Cut",
    "TileOfWork",
    "TilesWork",
    "no_work",
    "shards_of",
]

MAX_SHARDS = 400
"""Beyond it, the status of an Argo workflow no longer fits into its object."""

WORTH = 10
"""Seconds of work that a shard has for each second that its pod takes to start, where there is that much work."""
HELD_BYTES = 256 << 20
"""What a shard collects until it ends, such as tables of fragments, where 400 shards are enough for that."""
POD_START = "seconds that a pod takes to start: a shard gets ten times as many seconds of work, if there are that many"
"""What the setting `pod_start` means."""
BY_COST = "default: what pod_start asks for"


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


@dataclass(frozen=True)
class Cut:
    """How work is cut into shards.

    Attributes:
        units: units of a shard; None to go by what they cost.
        pod_start: seconds that a pod takes to start; 0 is for processes that run already.
        otherwise: units of a shard for such a process.
    """

    units: int | None
    pod_start: float = 0.0
    otherwise: int = 1

    def shards(
        self,
        units: Sequence[UnitT],
        work: Callable[[list[UnitT]], WorkT],
        seconds: Sequence[float],
        held: Sequence[int] = (),
    ) -> list[Shard[WorkT]]:
        """Runs of units: as few as make a pod worth its start, and 400 at most.

        Args:
            units: tiles or files, each with what has to be known of it.
            work: makes the work of a shard of its units.
            seconds: what each unit is expected to take.
            held: bytes that each unit adds to what its shard holds until it ends.

        >>> some = lambda units: Work()
        >>> [shard.units for shard in Cut(units=None, pod_start=10).shards(range(9), some, [30.0] * 9)]
        [4, 5]
        >>> [shard.units for shard in Cut(units=None).shards(range(3), some, [30.0] * 3)]
        [1, 1, 1]
        """
        if self.units is not None or not self.pod_start:
            return shards_of(units, self.units or self.otherwise, work)
        sizes = _sizes(seconds, max(WORTH * self.pod_start, sum(seconds) / MAX_SHARDS), held, HELD_BYTES)
        if len(sizes) > MAX_SHARDS:  # so much is held that memory alone would ask for more shards
            sizes = _sizes(seconds, max(WORTH * self.pod_start, sum(seconds) / MAX_SHARDS), (), HELD_BYTES)
        if len(sizes) > MAX_SHARDS:  # nothing is known of what items cost
            return shards_of(units, 1, work)
        ends = [sum(sizes[: number + 1]) for number in range(len(sizes))]
        parts = [[*units[end - size : end]] for size, end in zip(sizes, ends, strict=True)]
        return [Shard(units=len(part), work=work(part)) for part in parts]


def _sizes(seconds: Sequence[float], enough: float, held: Sequence[int], most: int) -> list[int]:
    """Items of each run. A run ends when it has enough seconds, or when the next item would be too much to hold.

    What is left at the end joins the last run, unless that would hold too much.
    """
    runs: list[tuple[int, int]] = []  # items of a run, and bytes that it holds
    size, worked, kept = 0, 0.0, 0
    for number, cost in enumerate(seconds):
        adds = held[number] if held else 0
        if size and kept + adds > most:
            runs.append((size, kept))
            size, worked, kept = 0, 0.0, 0
        size, worked, kept = size + 1, worked + cost, kept + adds
        if worked >= enough:
            runs.append((size, kept))
            size, worked, kept = 0, 0.0, 0
    if size and runs and runs[-1][1] + kept <= most:
        runs[-1] = (runs[-1][0] + size, runs[-1][1] + kept)
    elif size:
        runs.append((size, kept))
    return [items for items, _ in runs]


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
