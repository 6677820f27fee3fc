"""Settings of the job fuse."""

from __future__ import annotations

import re
from typing import ClassVar, Self

from pydantic import Field, model_validator

from acdtask.change.judgement.judging import Judging
from acdtask.cube.model import Name
from acdtask.jobs.contract import Settings
from acdtask.jobs.shards import BY_COST, POD_START

__all__ = ["FuseSettings"]

MEMBER = re.compile(r"[\w.-]+/[\w.-]+/[\w.-]+")


class FuseSettings(Settings):
    """Which monitoring results to fuse, and how much of the fusion to show."""

    execution: ClassVar[frozenset[str]] = frozenset({"shard_windows", "pod_start"})

    aoi: str = Field(description="AOI file (a Geocube ingester payload)")
    members: tuple[str, ...] = Field(
        description="monitoring result to fuse, as VARIABLE/LAYOUT/NAME, such as CoherenceVV/utm/monitor; two or more"
    )
    name: Name = Field(default="fused", description="name of the result")
    window_days: float = Field(
        default=3.0,
        ge=0,
        le=366,
        allow_inf_nan=False,
        description="days from the first to the last image of a window, which has at most one image of each member;"
        " half of the time between two passes of a track is a good choice",
    )
    false_per_1000km2: float = Field(
        default=Judging().false_per_1000km2,
        ge=0,
        allow_inf_nan=False,
        description="number of false patches that are accepted in 1000 square kilometres of a window; the most probable"
        " findings are kept until this number is expected",
    )
    shard_windows: int | None = Field(default=None, ge=1, description=f"windows per shard; {BY_COST}, or 10")
    pod_start: float = Field(default=0, ge=0, allow_inf_nan=False, description=POD_START)

    @model_validator(mode="after")
    def _named(self) -> Self:
        for member in self.members:
            if not MEMBER.fullmatch(member):
                raise ValueError(f"{member!r} is not VARIABLE/LAYOUT/NAME, such as CoherenceVV/utm/monitor")
        return self
