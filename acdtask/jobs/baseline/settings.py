"""Settings of the baseline job."""

from __future__ import annotations

from pydantic import Field

from acdtask.change.methods import BASELINE_CLIPS, Profile
from acdtask.change.moments import LEAST_CLIPPED
from acdtask.change.transform import TRANSFORM, Transformation
from acdtask.cube.model import DescribedName, Name
from acdtask.jobs.selection import ImageSelectionSettings
from acdtask.jobs.shards import BY_COST, POD_START
from acdtask.raster.data_format import Resampling

__all__ = ["ALGORITHM", "BaselineSettings"]

ALGORITHM = 2
"""Raise it when the same images and settings give a different baseline."""


class BaselineSettings(ImageSelectionSettings):
    """Settings that select the images of a baseline and describe its result."""

    variable: DescribedName = Field(default="CoherenceVV", description="variable to describe")
    profile: Profile | None = Field(
        default=None,
        description="method of the monitor that will use it; robust: unusually low values are left out (clip);"
        " tutorial: zeros are nodata, as in the notebook that acd is based on; default: robust for coherence without"
        " transform, otherwise standard",
    )
    clip: float | None = Field(
        default=None,
        ge=0,
        le=100,
        exclude_if=lambda value: value is None,
        description="leave out values more than this many standard deviations below a pixel's mean, in two rounds,"
        f" where there are at least {LEAST_CLIPPED} (robust: {BASELINE_CLIPS['robust']}; otherwise 0: none)",
    )
    transform: Transformation = Field(
        default="none",
        exclude_if=lambda value: value == "none",
        description=TRANSFORM,
    )
    name: Name = Field(default="annual", description="name of the result, used as instance of its variables")
    min_dates: int = Field(default=2, ge=1, description="minimum number of dates; fewer are an error")
    resampling: Resampling | None = Field(default=None, description="default: the variable's")
    shard_tiles: int | None = Field(default=None, ge=1, description=f"tiles per shard; {BY_COST}")
    pod_start: float = Field(default=0, ge=0, allow_inf_nan=False, description=POD_START)

    def clip_for(self, profile: str) -> float:
        """The clip of a baseline for this method; 0 if nothing is left out."""
        return BASELINE_CLIPS.get(profile, 0.0) if self.clip is None else self.clip
