"""Settings of baseline."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from acdtask.cube.model import DescribedName, Name, Resampling
from acdtask.jobs.contract import Settings

__all__ = ["BaselineSettings"]


class BaselineSettings(Settings):
    """Which images make the baseline."""

    aoi: str = Field(description="AOI file (a Geocube ingester payload)")
    layout: Name = Field(description="layout whose tiles are computed")
    variable: DescribedName = Field(default="CoherenceVV", description="variable to describe")
    instance: Name = Field(default="master", description="instance to read")
    start: datetime | None = Field(default=None, description="first datetime; default: the AOI's start")
    end: datetime | None = Field(default=None, description="last datetime; default: the AOI's end")
    records: str = Field(default="", description="only records whose names match this pattern (* and ?)")
    leave_out: tuple[str, ...] = Field(default=(), description="records to leave out: patterns of names (* and ?)")
    profile: Literal["standard", "tutorial"] = Field(
        default="standard", description="tutorial: zeros are nodata, as in the notebook that acd grew from"
    )
    name: Name = Field(default="annual", description="name of the result: the instance of its variables")
    min_dates: int = Field(default=2, ge=1, description="minimum number of dates; fewer are an error")
    resampling: Resampling | None = Field(default=None, description="default: the variable's")
    shard_tiles: int = Field(default=1, ge=1, description="tiles per shard")
