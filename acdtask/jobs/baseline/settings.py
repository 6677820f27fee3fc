"""Settings of baseline."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from acdtask.cube.model import DescribedName, Name, Resampling
from acdtask.dates import LastMoment, Moment
from acdtask.jobs.contract import Settings
from acdtask.jobs.shards import BY_COST, POD_START
from acdtask.jobs.stacks import MIXED, ONE_TRACK, PAIR_DAYS, TAGS, RecordChoice

__all__ = ["ALGORITHM", "BaselineSettings"]

ALGORITHM = 1
"""Raise it when the same images and settings give another baseline."""


class BaselineSettings(Settings):
    """Which images make the baseline."""

    aoi: str = Field(description="AOI file (a Geocube ingester payload)")
    layout: Name = Field(description="layout whose tiles are computed")
    variable: DescribedName = Field(default="CoherenceVV", description="variable to describe")
    instance: Name = Field(default="master", description="instance to read")
    start: Moment | None = Field(default=None, description="first datetime; default: the AOI's start")
    end: LastMoment | None = Field(
        default=None, description="last datetime (of a day, 00:00 UTC); default: the AOI's end"
    )
    records: str = Field(default="", description="only records whose names match this pattern (* and ?)")
    leave_out: tuple[str, ...] = Field(default=(), description="records to leave out: patterns of names (* and ?)")
    profile: Literal["standard", "tutorial"] = Field(
        default="standard", description="tutorial: zeros are nodata, as in the notebook that acd grew from"
    )
    name: Name = Field(default="annual", description="name of the result: the instance of its variables")
    min_dates: int = Field(default=2, ge=1, description="minimum number of dates; fewer are an error")
    resampling: Resampling | None = Field(default=None, description="default: the variable's")
    shard_tiles: int | None = Field(default=None, ge=1, description=f"tiles per shard; {BY_COST}")
    tags: dict[str, str] = Field(default={}, description=TAGS)
    track: str = Field(default="", description=ONE_TRACK)
    pair_days: tuple[int, ...] = Field(default=(), description=PAIR_DAYS)
    mixed: bool = Field(default=False, description=MIXED)
    pod_start: float = Field(default=0, ge=0, allow_inf_nan=False, description=POD_START)

    def choice(self) -> RecordChoice:
        """Which records to take."""
        return RecordChoice(self.records, self.leave_out, self.tags, self.track, self.pair_days, self.mixed)
