"""Cutting work into shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from acdtask.jobs.contract import Shard

__all__ = ["BY_COST", "HELD_BYTES", "MAX_SHARDS", "NO_WORK", "POD_START", "Cut", "cells_of", "shards_of"]

MAX_SHARDS = 400
"""Beyond it, the status of an Argo workflow no longer fits into its object."""

WORTH = 10
"""Seconds of work that a shard has for each second that its pod takes to start, where there is that much work."""
HELD_BYTES = 256 << 20
"""What a shard collects until it ends, such as tables of fragments, where 400 shards are enough for that."""
POD_START = "seconds that a pod takes to start: a shard gets ten times as many seconds of work, if there are that many"
"""What the setting `pod_start` means."""
BY_COST = "default: what pod_start asks for"

NO_WORK = Shard(units=0, work={"tiles": []})
"""The shard of a plan that computes nothing, and only publishes what is there again."""


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
        self, items: Sequence[Any], name: str, seconds: Sequence[float], held: Sequence[int] = ()
    ) -> list[Shard]:
        """Runs of items: as few as make a pod worth its start, and 400 at most.

        Args:
            items: JSON values, one for each unit of work.
            name: what a shard's work calls its items.
            seconds: what each item is expected to take.
            held: bytes that each item adds to what its shard holds until it ends.

        >>> [shard.units for shard in Cut(units=None, pod_start=10).shards(range(9), "tiles", [30.0] * 9)]
        [4, 5]
        >>> [shard.units for shard in Cut(units=None).shards(range(3), "tiles", [30.0] * 3)]
        [1, 1, 1]
        """
        if self.units is not None or not self.pod_start:
            return shards_of(list(items), self.units or self.otherwise, name)
        sizes = _sizes(seconds, max(WORTH * self.pod_start, sum(seconds) / MAX_SHARDS), held, HELD_BYTES)
        if len(sizes) > MAX_SHARDS:  # so much is held that memory alone would ask for more shards
            sizes = _sizes(seconds, max(WORTH * self.pod_start, sum(seconds) / MAX_SHARDS), (), HELD_BYTES)
        if len(sizes) > MAX_SHARDS:  # nothing is known of what items cost
            return shards_of(list(items), 1, name)
        ends = [sum(sizes[: number + 1]) for number in range(len(sizes))]
        parts = [list(items[end - size : end]) for size, end in zip(sizes, ends, strict=True)]
        return [Shard(units=len(part), work={name: part}) for part in parts]


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


def shards_of(items: list[Any], at_most: int, name: str) -> list[Shard]:
    """Runs of at most so many items each, or of more if there would be over 400 shards otherwise.

    Args:
        items: JSON values, one for each unit of work.
        at_most: items of a shard.
        name: what a shard's work calls its items.

    >>> [shard.work for shard in shards_of([1, 2, 3], 2, "numbers")]
    [{'numbers': [1, 2]}, {'numbers': [3]}]
    >>> len(shards_of([0] * 1000, 1, "zeros"))
    334
    """
    size = max(at_most, -(-len(items) // MAX_SHARDS))
    parts = [items[start : start + size] for start in range(0, len(items), size)]
    return [Shard(units=len(part), work={name: part}) for part in parts]


def cells_of(shard: Shard) -> tuple[str, ...]:
    """The cells of a shard that works on tiles.

    >>> cells_of(Shard(units=1, work={"tiles": [{"tile": {"i": 3, "j": -7}}]}))
    ('3/-7',)
    """
    return tuple(f"{raw['tile']['i']}/{raw['tile']['j']}" for raw in shard.work["tiles"])
