"""Data of the monitor's rounds: the content of a plan, the work of its shards, and the results of the last round."""

from __future__ import annotations

import datetime as dt
from functools import cached_property
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from acdtask.change.thresholds import Detection
from acdtask.cube.model import Slice, Variable
from acdtask.jobs.cautions import Caution
from acdtask.jobs.contract import Content, Context, Plan, Settings
from acdtask.jobs.monitor.halo import BaselineViews
from acdtask.jobs.monitor.images import ImageWork
from acdtask.jobs.monitor.reference import Reference
from acdtask.jobs.monitor.settings import MonitorSettings
from acdtask.jobs.products import MonitorTile
from acdtask.jobs.quarantine import QuarantinedTile
from acdtask.jobs.shards import TileOfWork, TilesWork
from acdtask.jobs.transformed import transformed
from acdtask.raster.data_format import Resampling

__all__ = [
    "CutTile",
    "CutTiles",
    "Method",
    "MonitorContent",
    "MonitorContext",
    "MonitorPlan",
    "MonitorWork",
    "TileWithoutBaseline",
    "TileWork",
    "compared_variable",
]


class Method(BaseModel):
    """What the user asked to watch, and the resulting series id. `area` is a GeoJSON geometry."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    aoi: str
    area: dict[str, Any]
    baseline_name: str
    detection: dict[str, Any]
    instance: str
    layout: str
    name: str
    profile: str
    resampling: Resampling | None
    variable: str
    mixed: bool
    pair_days: tuple[int, ...]
    tags: dict[str, str]
    track: str
    id: str

    @cached_property
    def rules(self) -> Detection:
        """The detection as an object of acdtask.change."""
        return Detection.of(self.detection)

    @property
    def folder(self) -> str:
        """The folder of the series' results."""
        return f"products/{self.aoi}/monitor/{self.id}"

    @property
    def as_settings(self) -> dict[str, Any]:
        """The method as JSON values, as results store it."""
        return self.model_dump(mode="json")


class TileWithoutBaseline(BaseModel):
    """A tile that was left out of the baseline, and the labels of the images with data there."""

    tile: QuarantinedTile
    images: list[str]


class MonitorContent(Content):
    """The images that a monitor judges, and how.

    Attributes:
        method: the method.
        baseline: content id of the baseline version.
        since: start of the series.
        images: the images.
        without_baseline: tiles that the baseline lacks.
        reference: the images of the baseline, for methods that judge candidates by their past.
        lines: sentences about the images, for the user.
        warnings: what makes results of some images less reliable, as far as known before they are judged.
    """

    described: ClassVar[frozenset[str]] = frozenset({"lines", "warnings"})

    method: Method
    baseline: str
    since: dt.datetime
    images: tuple[ImageWork, ...] = ()
    without_baseline: tuple[TileWithoutBaseline, ...] = Field(default=(), exclude_if=lambda value: not value)
    reference: Reference | None = Field(default=None, exclude_if=lambda value: value is None)
    lines: tuple[str, ...] = ()
    warnings: tuple[Caution, ...] = Field(default=(), exclude_if=lambda value: not value)

    def identity(self, settings: Settings) -> dict[str, Any]:
        """The content without the settings, since the method contains the relevant ones."""
        del settings
        return self.decided()

    @cached_property
    def image(self) -> dict[str, ImageWork]:
        """The images by label."""
        return {image.label: image for image in self.images}


class TileWork(TileOfWork):
    """A tile with its baseline and its slices of images, including the method's halo."""

    baseline: BaselineViews
    images: list[Slice]

    def part(self, label: str) -> str:
        """The key of this tile and image in results of rounds."""
        return f"{label}/{self.tile.j}_{self.tile.i}"


class MonitorWork(TilesWork[TileWork]):
    """The tiles of a shard."""


class CutTile(BaseModel):
    """Result of the last round for a tile and image.

    `pieces` are (blob id, polygon as hexadecimal WKB in whole pixels of the layout). `sizes` are the file sizes of the
    z and change rasters in bytes, by key.
    """

    label: str
    place: MonitorTile
    pieces: list[tuple[int, str]]
    sizes: dict[str, int]
    changed_px: int
    quality_px: dict[str, int]


class CutTiles(BaseModel):
    """Result of a shard in the last round."""

    tiles: list[CutTile]


MonitorPlan = Plan[MonitorSettings, MonitorContent]
MonitorContext = Context[MonitorSettings, MonitorContent]


def compared_variable(context: MonitorContext) -> Variable:
    """The variable that is compared: the ingested one, or its transform."""
    ingested = context.site.cube.variable(context.settings.variable)
    return transformed(ingested, context.content.method.rules.transform)
