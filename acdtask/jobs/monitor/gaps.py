"""Tiles that images have to do without: everything that the monitor knows of partial images."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator

from acdtask.jobs.contract import LeftOutShard
from acdtask.jobs.monitor.content import MonitorContent, MonitorWork
from acdtask.jobs.products import PARTIAL
from acdtask.jobs.quarantine import QuarantinedTile

__all__ = ["Gaps"]


class Gaps:
    """The tiles that images have to do without, since they failed, or since the baseline lacks them.

    Whoever writes a product asks for its `subfolder`. That of a whole image is empty. Products of a partial image lie
    in a subfolder that is named by what they were made from: so they never replace those of the whole one.

    Args:
        content: of the plan.
        left_out: shards that are left out so far.
    """

    def __init__(self, content: MonitorContent, left_out: Iterable[LeftOutShard[MonitorWork]] = ()) -> None:
        tiles: dict[str, list[QuarantinedTile]] = defaultdict(list)
        for without in content.without_baseline:
            for label in without.images:
                tiles[label].append(without.tile)
        for shard in left_out:
            for work in shard.work.tiles:
                for image in work.images:
                    tile = QuarantinedTile(cell=work.tile.cell, job="monitor", failure=shard.why.failure)
                    tiles[image.label].append(tile)
        self._tiles = {label: tuple(sorted(some, key=lambda tile: tile.cell)) for label, some in tiles.items()}

    def __iter__(self) -> Iterator[str]:
        """The labels of the images that have gaps, in order."""
        return iter(sorted(self._tiles))

    def of(self, label: str) -> tuple[QuarantinedTile, ...]:
        """The gaps of an image; none if it is whole."""
        return self._tiles.get(label, ())

    def subfolder(self, label: str, *made_from: bytes) -> str:
        """Where below the folder of an image something lies that was made from these inputs; empty or with a slash."""
        if label not in self._tiles:
            return ""
        digest = hashlib.sha256()
        for part in made_from:
            digest.update(hashlib.sha256(part).digest())
        return f"{PARTIAL}/{digest.hexdigest()[:12]}/"
