"""Settings of consolidate."""

from __future__ import annotations

from pydantic import Field

from acdtask.cube.model import Name
from acdtask.jobs.selection import SelectionSettings
from acdtask.jobs.shards import BY_COST, POD_START
from acdtask.raster.data_format import Resampling

__all__ = ["ConsolidateSettings"]


class ConsolidateSettings(SelectionSettings):
    """Which records to consolidate, and into which layout."""

    layout: Name = Field(description="layout whose cells are filled")
    variable: Name = Field(default="CoherenceVV", description="variable to consolidate")
    instance: Name = Field(default="master", description="instance to consolidate")
    resampling: Resampling | None = Field(default=None, description="default: the variable's")
    shard_tiles: int | None = Field(default=None, ge=1, description=f"cells per shard; {BY_COST}")
    pod_start: float = Field(default=0, ge=0, allow_inf_nan=False, description=POD_START)
