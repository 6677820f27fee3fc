"""Cutting work into shards."""

from __future__ import annotations

from typing import Any

from acdtask.jobs.contract import Shard

__all__ = ["MAX_SHARDS", "shards_of"]

MAX_SHARDS = 400
"""Beyond it, the status of an Argo workflow no longer fits into its object."""


def shards_of(tiles: list[dict[str, Any]], shard_tiles: int) -> list[Shard]:
    """Runs of at most shard_tiles tiles each, or of more if there would be over 400 shards otherwise.

    >>> [shard.units for shard in shards_of([{}] * 5, 2)]
    [2, 2, 1]
    >>> len(shards_of([{}] * 1000, 1))
    334
    """
    size = max(shard_tiles, -(-len(tiles) // MAX_SHARDS))
    parts = [tiles[start : start + size] for start in range(0, len(tiles), size)]
    return [Shard(units=len(part), work={"tiles": part}) for part in parts]
