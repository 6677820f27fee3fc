"""Gaps: tiles that images lack. Everything about partial images is here."""

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
    """The tiles that images lack, because they failed or because the baseline lacks them.

    Products are written below `subfolder`, which is empty for a complete image. For a partial image, it is named by a
    digest of the inputs, so its products never replace those of the complete image.

    Args:
        content: content of the plan.
        left_out: shards left out so far.
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
        self._tiles = {label: tuple(sorted(gaps, key=lambda tile: tile.cell)) for label, gaps in tiles.items()}

    def __iter__(self) -> Iterator[str]:
        """Iterate over the labels of images with gaps, sorted."""
        return iter(sorted(self._tiles))

    def of(self, label: str) -> tuple[QuarantinedTile, ...]:
        """The gaps of an image; empty if it is complete."""
        return self._tiles.get(label, ())

    def subfolder(self, label: str, *made_from: bytes) -> str:
        """Subfolder for products of an incomplete image, named by a digest of their inputs; empty if complete."""
        if label not in self._tiles:
            return ""
        digest = hashlib.sha256()
        for part in made_from:
            digest.update(hashlib.sha256(part).digest())
        return f"{PARTIAL}/{digest.hexdigest()[:12]}/"
