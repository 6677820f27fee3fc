"""What a plan of the baseline has decided, the work of its shards, and what they have written."""

from __future__ import annotations

import datetime as dt
from typing import Any, ClassVar

from pydantic import BaseModel, Field

from acdtask.cube.model import Record, Slice
from acdtask.jobs.baseline.settings import BaselineSettings
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
    """What a baseline is made of.

    Attributes:
        aoi, area: name and GeoJSON geometry of the area.
        start, end: the period.
        last: datetime of the last image.
        images, records: labels of the images, and ids of their records.
        tiles: the cells.
        replaced: addresses of pixels that were replaced after they were ingested, by record id.
        track, polarisation: of all images; empty if they have none, or several.
        lines: sentences about the images, for the person who runs the plan.
    """

    described: ClassVar[frozenset[str]] = frozenset(
        {"aoi", "area", "start", "end", "last", "track", "polarisation", "lines"}
    )

    aoi: str
    area: dict[str, Any]
    start: dt.datetime
    end: dt.datetime
    last: dt.datetime
    images: tuple[str, ...]
    records: tuple[str, ...]
    tiles: tuple[str, ...]
    replaced: dict[str, str] = Field(default={}, exclude_if=lambda value: not value)
    track: str = ""
    polarisation: str = ""
    lines: tuple[str, ...] = ()

    def science(self, settings: Settings) -> dict[str, Any]:
        """The settings that decide what comes out, with the area and the period that they came to, as JSON values."""
        fixed = {"aoi": self.aoi, "start": self.start.isoformat(), "end": self.end.isoformat()}
        return {**settings.science(), **fixed}

    def identity(self, settings: Settings) -> dict[str, Any]:
        """Those settings, and the images."""
        return {"settings": self.science(settings), "last": self.last.isoformat(), **self.decided()}


class StackOfTile(TileOfWork):
    """A tile, and its part of each image."""

    slices: list[Slice]


class BaselineWork(TilesWork[StackOfTile]):
    """The tiles of a shard."""


class BaselineTiles(BaseModel):
    """What a shard has written."""

    tiles: list[BaselineTile]


BaselinePlan = Plan[BaselineSettings, BaselineContent]
BaselineContext = Context[BaselineSettings, BaselineContent]


def record_of(plan: BaselinePlan) -> Record:
    """The record that the baseline's datasets belong to."""
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
