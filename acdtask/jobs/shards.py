"""Cutting work into shards."""

from __future__ import annotations

from typing import Any

from acdtask.jobs.contract import Shard

__all__ = ["MAX_SHARDS", "NO_WORK", "cells_of", "shards_of"]

MAX_SHARDS = 400
"""Beyond it, the status of an Argo workflow no longer fits into its object."""

NO_WORK = Shard(units=0, work={"tiles": []})
"""The shard of a plan that computes nothing, and only publishes what is there again."""


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
