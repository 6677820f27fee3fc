"""Settings of consolidate."""

from __future__ import annotations

from pydantic import Field

from acdtask.cube.model import Name, Resampling
from acdtask.dates import LastMoment, Moment
from acdtask.jobs.contract import Settings
from acdtask.jobs.shards import BY_COST, POD_START
from acdtask.jobs.stacks import ONE_TRACK, TAGS

__all__ = ["ConsolidateSettings"]


class ConsolidateSettings(Settings):
    """Which records to consolidate, and into which layout."""

    aoi: str = Field(description="AOI file (a Geocube ingester payload)")
    layout: Name = Field(description="layout whose cells are filled")
    variable: Name = Field(default="CoherenceVV", description="variable to consolidate")
    instance: Name = Field(default="master", description="instance to consolidate")
    start: Moment | None = Field(default=None, description="first datetime; default: the AOI's start")
    end: LastMoment | None = Field(
        default=None, description="last datetime (of a day, 00:00 UTC); default: the AOI's end"
    )
    resampling: Resampling | None = Field(default=None, description="default: the variable's")
    shard_tiles: int | None = Field(default=None, ge=1, description=f"cells per shard; {BY_COST}")
    tags: dict[str, str] = Field(default={}, description=TAGS)
    track: str = Field(default="", description=ONE_TRACK)
    pod_start: float = Field(default=0, ge=0, allow_inf_nan=False, description=POD_START)
