"""What a plan of the monitor has decided, and the work of its shards."""

from __future__ import annotations

import datetime as dt
from functools import cached_property
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from acdtask.change.profile import Detection
from acdtask.cube.model import Slice
from acdtask.jobs.contract import Content, Context, Plan, Settings
from acdtask.jobs.monitor.halo import BaselineViews
from acdtask.jobs.monitor.images import ImageWork
from acdtask.jobs.monitor.settings import MonitorSettings
from acdtask.jobs.quarantine import QuarantinedTile
from acdtask.jobs.shards import TileOfWork, TilesWork
from acdtask.raster.data_format import Resampling

__all__ = [
    "Method",
    "MonitorContent",
    "MonitorContext",
    "MonitorPlan",
    "MonitorWork",
    "TileWithoutBaseline",
    "TileWork",
]


class Method(BaseModel):
    """What the person asked to watch, and the series id made of it. `area` is a GeoJSON geometry."""

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
        """The detection, as the science knows it."""
        return Detection.of(self.detection)

    @property
    def folder(self) -> str:
        """The folder of the results of the series."""
        return f"products/{self.aoi}/monitor/{self.id}"

    @property
    def as_settings(self) -> dict[str, Any]:
        """As results keep it."""
        return self.model_dump(mode="json")


class TileWithoutBaseline(BaseModel):
    """A tile that was left out of the baseline, and the labels of the images that have data there."""

    tile: QuarantinedTile
    images: list[str]


class MonitorContent(Content):
    """What a monitor judges.

    Attributes:
        method: how.
        baseline: content id of the baseline version.
        since: where the series begins.
        images: the images.
        without_baseline: tiles that the baseline should have and has not.
        lines: sentences about the images, for the person who runs the plan.
    """

    described: ClassVar[frozenset[str]] = frozenset({"lines"})

    method: Method
    baseline: str
    since: dt.datetime
    images: tuple[ImageWork, ...] = ()
    without_baseline: tuple[TileWithoutBaseline, ...] = Field(default=(), exclude_if=lambda value: not value)
    lines: tuple[str, ...] = ()

    def identity(self, settings: Settings) -> dict[str, Any]:
        """Without the settings: the method has those that count."""
        del settings
        return self.decided()

    @cached_property
    def image(self) -> dict[str, ImageWork]:
        """The images by label."""
        return {image.label: image for image in self.images}


class TileWork(TileOfWork):
    """A tile, its baseline, and its part of each image, as far around the tile as the method reaches."""

    baseline: BaselineViews
    images: list[Slice]

    def part(self, label: str) -> str:
        """The name of what a round says of this tile and image."""
        return f"{label}/{self.tile.j}_{self.tile.i}"


class MonitorWork(TilesWork[TileWork]):
    """The tiles of a shard."""


MonitorPlan = Plan[MonitorSettings, MonitorContent]
MonitorContext = Context[MonitorSettings, MonitorContent]
