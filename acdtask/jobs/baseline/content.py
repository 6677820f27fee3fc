"""Data of the baseline's rounds: the content of a plan, the work of its shards, and their results."""

from __future__ import annotations

import datetime as dt
from typing import Any, ClassVar

from pydantic import BaseModel, Field

from acdtask.change.methods import Profile
from acdtask.cube.model import Record, Slice
from acdtask.jobs.baseline.settings import BaselineSettings
from acdtask.jobs.cautions import Caution
from acdtask.jobs.contract import Content, Context, Plan, Settings
from acdtask.jobs.products import BaselineTile
from acdtask.jobs.shards import TileOfWork, TilesWork

__all__ = [
    "TAG_CONTENT",
    "BaselineContent",
    "BaselineContext",
    "BaselinePlan",
    "BaselineTiles",
    "BaselineWork",
    "StackOfTile",
    "record_of",
]

TAG_CONTENT = "acd:content"


class BaselineContent(Content):
    """Inputs of a baseline.

    Attributes:
        aoi, area: name and GeoJSON geometry of the area.
        start, end: the period.
        last: datetime of the last image.
        profile: the method of the monitor that will use it.
        images, records: labels of the images, and ids of their records.
        tiles: cells of the tiles.
        replaced: addresses of pixels that were replaced after ingestion, by record id.
        track, polarisation: the only track and polarisation of the images; empty if unknown or several.
        lines: sentences about the images, for the user.
        warnings: what makes the baseline less reliable.
    """

    described: ClassVar[frozenset[str]] = frozenset(
        {"aoi", "area", "start", "end", "last", "profile", "track", "polarisation", "lines", "warnings"}
    )

    aoi: str
    area: dict[str, Any]
    start: dt.datetime
    end: dt.datetime
    last: dt.datetime
    profile: Profile
    images: tuple[str, ...]
    records: tuple[str, ...]
    tiles: tuple[str, ...]
    replaced: dict[str, str] = Field(default={}, exclude_if=lambda value: not value)
    track: str = ""
    polarisation: str = ""
    lines: tuple[str, ...] = ()
    warnings: tuple[Caution, ...] = Field(default=(), exclude_if=lambda value: not value)

    def science(self, settings: Settings) -> dict[str, Any]:
        """The settings that affect results, with the resulting area, period and method, as JSON values."""
        fixed = {
            "aoi": self.aoi,
            "start": self.start.isoformat(),
            "end": self.end.isoformat(),
            "profile": self.profile,
        }
        return {**settings.science(), **fixed}

    def identity(self, settings: Settings) -> dict[str, Any]:
        """Settings and images."""
        return {"settings": self.science(settings), "last": self.last.isoformat(), **self.decided()}


class StackOfTile(TileOfWork):
    """A tile with its slices of images."""

    slices: list[Slice]


class BaselineWork(TilesWork[StackOfTile]):
    """The tiles of a shard."""


class BaselineTiles(BaseModel):
    """The tiles that a shard has written."""

    tiles: list[BaselineTile]


BaselinePlan = Plan[BaselineSettings, BaselineContent]
BaselineContext = Context[BaselineSettings, BaselineContent]


def record_of(plan: BaselinePlan) -> Record:
    """The record of the baseline's datasets."""
    content = plan.content
    return Record(
        name=f"{content.aoi}/baseline/{plan.content_id}",
        datetime=content.end,
        tags={
            "acd:job": "baseline",
            "acd:aoi": content.aoi,
            TAG_CONTENT: plan.content_id,
            "start_datetime": content.start.isoformat(),
        },
        footprint=content.area,
    )
