"""Division of work into shards."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Generic, TypeVar

from pydantic import BaseModel

from acdtask.jobs.plans import Shard, Work, WorkT
from acdtask.raster.grid import Tile

__all__ = [
    "BY_COST",
    "HELD_BYTES",
    "MAX_SHARDS",
    "POD_START",
    "Sharding",
    "TileOfWork",
    "TilesWork",
    "by_squares",
    "no_work",
    "shards_of",
]

MAX_SHARDS = 400
"""With more shards, the status of an Argo workflow no longer fits into its object."""

WORTH = 10
"""Minimum seconds of work per second of pod start, if there is enough work."""
HELD_BYTES = 256 << 20
"""Maximum of the data that a shard accumulates, such as tables of fragments, as long as 400 shards suffice."""
POD_START = "seconds that a pod takes to start; a shard gets at least ten times as much work, if there is enough"
"""Description of the setting `pod_start`."""
BY_COST = "default: derived from pod_start"


class TileOfWork(BaseModel):
    """A tile to work on. Each job adds its own fields."""

    tile: Tile


UnitT = TypeVar("UnitT")
TileT = TypeVar("TileT", bound=TileOfWork)


class TilesWork(Work, Generic[TileT]):
    """The work of a shard that consists of tiles."""

    tiles: list[TileT]

    @property
    def names(self) -> tuple[str, ...]:
        """The cells of the tiles."""
        return tuple(tile.tile.cell for tile in self.tiles)


def no_work(work: WorkT) -> list[Shard[WorkT]]:
    """The single shard of a plan that only publishes; its work is empty."""
    return [Shard(units=0, work=work)]


@dataclass(frozen=True)
class Sharding:
    """How work is divided into shards.

    Attributes:
        units: number of units per shard; None derives it from their cost.
        pod_start: seconds that a pod takes to start; 0 if the work is done by running processes.
        otherwise: number of units per shard in that case.
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
        """Divide units into consecutive shards, each with enough work for a pod, at most 400.

        `work` makes the work of a shard from its units. `seconds` are those expected per unit; `held` are the bytes
        that each unit adds to the data its shard accumulates.

        >>> no_content = lambda units: Work()
        >>> [shard.units for shard in Sharding(units=None, pod_start=10).shards(range(9), no_content, [30.0] * 9)]
        [4, 5]
        >>> [shard.units for shard in Sharding(units=None).shards(range(3), no_content, [30.0] * 3)]
        [1, 1, 1]
        """
        parts = _parts(units, self.sizes(seconds, held))
        return [Shard(units=len(part), work=work(part)) for part in parts]

    def sizes(self, seconds: Sequence[float], held: Sequence[int] = ()) -> list[int]:
        """Number of units of each shard; see `shards`."""
        if self.units is not None or not self.pod_start:
            return _equal_sizes(len(seconds), self.units or self.otherwise)
        enough = max(WORTH * self.pod_start, sum(seconds) / MAX_SHARDS)
        sizes = _sizes(seconds, enough, held, HELD_BYTES)
        if len(sizes) > MAX_SHARDS:  # memory alone would require more shards, so it is not limited
            sizes = _sizes(seconds, enough, (), HELD_BYTES)
        # With unknown costs there may still be too many.
        return sizes if len(sizes) <= MAX_SHARDS else _equal_sizes(len(seconds), 1)


def _sizes(seconds: Sequence[float], enough: float, held: Sequence[int], most: int) -> list[int]:
    """Number of items per run. A run ends when it has enough seconds, or when the next item would exceed the memory.

    The remainder joins the last run, unless that would exceed the memory.
    """
    runs: list[tuple[int, int]] = []  # number of items and bytes held per run
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
    """Divide units into consecutive shards of at most `at_most` units, or more if there would be over 400 shards.

    `work` makes the work of a shard from its units.

    >>> class Numbers(Work):
    ...     numbers: list[int]
    >>> [shard.work.numbers for shard in shards_of([1, 2, 3], 2, lambda units: Numbers(numbers=units))]
    [[1, 2], [3]]
    >>> len(shards_of([0] * 1000, 1, lambda units: Numbers(numbers=units)))
    334
    """
    parts = _parts(units, _equal_sizes(len(units), at_most))
    return [Shard(units=len(part), work=work(part)) for part in parts]


def by_squares(tiles: Sequence[TileT], sizes: Sequence[int]) -> list[TileT]:
    """Order tiles so that shards of these sizes are about square, because neighbours share the blocks of their halos.

    The tiles are taken column by column from bands of as many rows as a square shard has. In shards of single tiles,
    they stay in the order of rows.

    >>> from acdtask.raster.grid import Layout, RegularGrid
    >>> layout = Layout(name="utm32", grid=RegularGrid(crs="EPSG:32632", resolution=20, cell_size=1024))
    >>> tiles = [TileOfWork(tile=layout.tile(i, j)) for j in range(2) for i in range(4)]
    >>> [tile.tile.cell for tile in by_squares(tiles, [4, 4])]
    ['0/0', '0/1', '1/0', '1/1', '2/0', '2/1', '3/0', '3/1']
    """
    if not tiles:
        return []
    rows = max(1, round(math.sqrt(len(tiles) / len(sizes))))
    first = min(tile.tile.j for tile in tiles)
    return sorted(tiles, key=lambda work: ((work.tile.j - first) // rows, work.tile.i, work.tile.j))


def _equal_sizes(units: int, at_most: int) -> list[int]:
    """Sizes of shards of at most `at_most` units, or more if there would be over 400 shards."""
    size = max(at_most, -(-units // MAX_SHARDS))
    return [min(size, units - start) for start in range(0, units, size)]


def _parts(units: Sequence[UnitT], sizes: Sequence[int]) -> list[list[UnitT]]:
    """Consecutive units, in parts of these sizes."""
    ends = accumulate(sizes)
    return [[*units[end - size : end]] for size, end in zip(sizes, ends, strict=True)]
