"""First round: measures each image for the method's steps, and concludes over all tiles."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from acdtask.change.steps.step import halo_of, measuring, reads_twice
from acdtask.change.thresholds import Detection
from acdtask.jobs.codec import ArrayOf
from acdtask.jobs.contract import Handouts, Nothing, Results, Round
from acdtask.jobs.monitor.content import MonitorContent, MonitorContext, MonitorWork
from acdtask.jobs.monitor.gaps import Gaps
from acdtask.jobs.monitor.scorer import scorer_of

__all__ = ["Conclusions", "ImageConclusions", "MeasureImages", "is_measured"]


class Measured(BaseModel):
    """Counts of the tiles of a shard, by image label."""

    counts: dict[str, Annotated[NDArray[np.int64], ArrayOf(np.int64, None)]]


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
        """Sum the counts of the shard's tiles, per image."""
        counts: dict[str, NDArray[np.int64]] = {}
        for done, tile in enumerate(work.tiles, start=1):
            scorer = scorer_of(tile, context, around=False)
            for image in tile.images:
                of_tile = scorer.measure(image)
                counts[image.label] = counts[image.label] + of_tile if image.label in counts else of_tile
            context.progress(done)
        return Measured(counts=counts)

    def gather(self, results: Results[MonitorWork, Measured], context: MonitorContext) -> Handouts[Conclusions]:
        """Sum the counts of all shards, and hand out the conclusions about their images."""
        steps, gaps = context.content.method.rules.steps, Gaps(context.content, results.left_out)
        total: dict[str, NDArray[np.int64]] = {}
        labels: dict[int, list[str]] = {}
        for shard, measured in results:
            labels[shard] = sorted(measured.counts)
            for label, counts in measured.counts.items():
                total[label] = total[label] + counts if label in total else counts
        concluded: dict[str, ImageConclusions] = {}
        for label, counts in total.items():
            wholes = [step.conclude(counts) for step in measuring(steps)[:1]]
            subfolder = gaps.subfolder(label, *(whole.tobytes() for whole in wholes))
            concluded[label] = ImageConclusions(wholes=wholes, subfolder=subfolder)
        failed = sorted({cell for shard in results.left_out for cell in shard.work.names}) if halo_of(steps) else []
        return Handouts(
            {
                shard: Conclusions(images={label: concluded[label] for label in image_labels}, left_out=failed)
                for shard, image_labels in labels.items()
            }
        )
