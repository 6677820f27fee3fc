"""First round: measures each image for the method's steps, and concludes over all tiles."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from acdtask.change.steps.step import Counts, Step, halo_of, measuring, reads_twice
from acdtask.change.thresholds import Detection
from acdtask.jobs.codec import ArrayOf
from acdtask.jobs.contract import Handouts, Nothing, Results, Round
from acdtask.jobs.monitor.content import MonitorContent, MonitorContext, MonitorWork
from acdtask.jobs.monitor.gaps import Gaps
from acdtask.jobs.monitor.scorer import scorer_of
from acdtask.raster.grid import Tile

__all__ = ["Conclusions", "ImageConclusions", "MeasureImages", "is_measured"]


class Measured(BaseModel):
    """Counts of the tiles of a shard, by image label.

    `areas` are top, left, bottom and right of its tiles with the halo of the method, in pixels of the layout.
    """

    counts: dict[str, Annotated[NDArray[np.int64], ArrayOf(np.int64, None)]]
    areas: list[tuple[int, int, int, int]] = []


class ImageConclusions(BaseModel):
    """Conclusions about a whole image.

    Attributes:
        wholes: conclusion of each measuring step of the method.
        subfolder: subfolder of its z rasters in the image's folder.
    """

    wholes: list[Annotated[NDArray[Any], ArrayOf(None, None)]] = []
    subfolder: str = ""


class Conclusions(BaseModel):
    """Handout of a shard: conclusions by image label, and the cells of failed tiles, which must not be read."""

    images: dict[str, ImageConclusions] = {}
    left_out: list[str] = []

    def of(self, content: MonitorContent) -> dict[str, ImageConclusions]:
        """Conclusions about the images; without this round, those that follow from the plan alone."""
        if self.images:
            return self.images
        gaps = Gaps(content)
        return {label: ImageConclusions(subfolder=gaps.subfolder(label)) for label in content.image}


def is_measured(detection: Detection) -> bool:
    """Whether a method needs this round, to measure or to detect tiles that cannot be read."""
    return reads_twice(detection.steps)


class MeasureImages(Round[MonitorWork, Nothing, Measured]):
    """Measures each tile, then concludes over all of them."""

    name = "statistics"
    optional = True

    def run(self, work: MonitorWork, handout: Nothing, context: MonitorContext) -> Measured:
        """Sum the counts of the shard's tiles, per image.

        Each tile is read even if nothing is measured, so that an unreadable one is left out before its neighbours need
        it.
        """
        steps = context.content.method.rules.steps
        parts: dict[str, list[Counts]] = defaultdict(list)
        for done, tile in enumerate(work.tiles, start=1):
            scorer = scorer_of(tile, context, around=False)
            for image, counts in scorer.counts():
                parts[image.label].append(counts)
            context.progress(done)
        areas = [_area_of(tile.tile, halo_of(steps)) for tile in work.tiles]
        return Measured(counts={label: _total(steps, of_image) for label, of_image in parts.items()}, areas=areas)

    def gather(self, results: Results[MonitorWork, Measured], context: MonitorContext) -> Handouts[Conclusions]:
        """Sum the counts of all shards, and hand out the conclusions about their images."""
        steps, gaps = context.content.method.rules.steps, Gaps(context.content, results.left_out)
        parts: dict[str, list[Counts]] = defaultdict(list)
        labels: dict[int, list[str]] = {}
        areas: dict[int, list[tuple[int, int, int, int]]] = {}
        for shard, measured in results:
            labels[shard], areas[shard] = sorted(measured.counts), measured.areas
            for label, counts in measured.counts.items():
                parts[label].append(counts)
        concluded: dict[str, ImageConclusions] = {}
        for label in list(parts):
            counts = _total(steps, parts.pop(label))
            wholes = [step.conclude(counts) for step in measuring(steps)[:1]]
            subfolder = gaps.subfolder(label, *(whole.tobytes() for whole in wholes))
            concluded[label] = ImageConclusions(wholes=wholes, subfolder=subfolder)
        failed = sorted({cell for shard in results.left_out for cell in shard.work.names}) if halo_of(steps) else []
        return Handouts(
            {
                shard: Conclusions(
                    images={label: _part(concluded[label], steps, areas[shard]) for label in image_labels},
                    left_out=failed,
                )
                for shard, image_labels in labels.items()
            }
        )


def _total(steps: Sequence[Step], parts: Sequence[Counts]) -> Counts:
    """The counts of several tiles together."""
    return next((step.total(parts) for step in measuring(steps)), parts[0])


def _part(
    of_image: ImageConclusions, steps: Sequence[Step], areas: Sequence[tuple[int, int, int, int]]
) -> ImageConclusions:
    """What a shard needs of the conclusions."""
    wholes = [step.part(whole, areas) for step, whole in zip(measuring(steps), of_image.wholes, strict=False)]
    return ImageConclusions(wholes=wholes, subfolder=of_image.subfolder)


def _area_of(tile: Tile, halo: int) -> tuple[int, int, int, int]:
    (row, column), (height, width) = tile.origin, tile.grid.shape
    return row - halo, column - halo, row + height + halo, column + width + halo
