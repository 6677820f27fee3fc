"""The images of a baseline: where candidates are compared with their past."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence

from pydantic import BaseModel

from acdtask.change.methods import PROFILES
from acdtask.change.thresholds import Detection
from acdtask.cube.aoi import Aoi
from acdtask.cube.model import Cube, Slice
from acdtask.jobs.baseline.settings import BaselineSettings
from acdtask.jobs.products import BaselineManifest
from acdtask.jobs.stacks import Stacks
from acdtask.raster.data_format import Resampling
from acdtask.raster.grid import Tile

__all__ = ["Reference", "ReferenceImage", "reference_of"]


class ReferenceImage(BaseModel, frozen=True, extra="forbid"):
    """An image of a baseline, and the ids of its records."""

    label: str
    datetime: dt.datetime
    records: tuple[str, ...]


class Reference(BaseModel, frozen=True, extra="forbid"):
    """The images of a baseline, by datetime, and how they were read.

    Only tiles with candidates read them, so the plan has the ids of their records; the tiles look up where the pixels
    are. With a `clip`, the baseline has left out unusually low values, which remain part of a candidate's past.
    """

    variable: str
    instance: str
    profile: str
    resampling: Resampling | None
    clip: float
    images: tuple[ReferenceImage, ...]

    @property
    def rules(self) -> Detection:
        """The rules of the baseline, which say whether zeros are nodata."""
        return PROFILES[self.profile]

    def slices(self, cube: Cube, tiles: Sequence[Tile]) -> Iterator[list[tuple[int, Slice]]]:
        """For each tile, the images with datasets there, with their position in `images`."""
        position = {record: number for number, image in enumerate(self.images) for record in image.records}
        grids, layout = [tile.grid for tile in tiles], tiles[0].layout if tiles else ""
        for datasets in cube.where(self.variable, self.instance, [*position], grids, layout):
            grouped: dict[int, Slice] = {}
            for dataset in datasets:
                number = position[dataset.record_id]
                before = grouped[number].datasets if number in grouped else ()
                grouped[number] = Slice(label=self.images[number].label, datasets=(*before, dataset))
            yield sorted(grouped.items())


def reference_of(baseline: BaselineManifest, aoi: Aoi, cube: Cube) -> Reference:
    """Find the images of a baseline again, with the settings that it was made with."""
    settings = BaselineSettings.model_validate(baseline.settings)
    stacks = Stacks(cube, settings.selection(aoi, baseline.start, baseline.end))
    records: dict[str, list[str]] = {label: [] for label in baseline.images}
    datetimes: dict[str, dt.datetime] = {}
    for record in stacks.records:
        label = stacks.label_of(record)
        if label in records:
            records[label].append(record.id)
            datetimes[label] = max(record.datetime, datetimes.get(label, record.datetime))
    images = [
        ReferenceImage(label=label, datetime=datetimes[label], records=tuple(ids))
        for label, ids in records.items()
        if ids
    ]
    return Reference(
        variable=baseline.variable,
        instance=baseline.instance,
        profile=baseline.profile,
        resampling=settings.resampling,
        clip=settings.clip_for(baseline.profile),
        images=tuple(images),
    )
