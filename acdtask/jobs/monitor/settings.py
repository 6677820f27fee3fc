"""Settings of the monitor job."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from acdtask.change.judgement.judging import Judging
from acdtask.change.methods import MIN_STD_SHARE, ROBUST, STANDARD, Profile
from acdtask.change.steps.registry import AllStepSettings
from acdtask.change.thresholds import RULES, Direction
from acdtask.change.transform import TRANSFORM, Transformation
from acdtask.cube.model import Name
from acdtask.dates import LastMoment, Moment
from acdtask.jobs.selection import ImageSelectionSettings
from acdtask.jobs.shards import BY_COST, POD_START
from acdtask.raster.data_format import Resampling

__all__ = ["ImageSettings", "MonitorSettings"]

ACCEPTED = Judging().false_per_1000km2


class ImageSettings(ImageSelectionSettings):
    """Settings of the monitor other than those of the method's steps."""

    layout: Name = Field(description="layout of the baseline")
    variable: Name = Field(default="CoherenceVV", description="variable to compare")
    start: Moment | None = Field(default=None, description="first datetime; default: after the baseline's last date")
    end: LastMoment | None = Field(default=None, description="last datetime (of a day, 00:00 UTC); default: no limit")
    baseline_name: Name = Field(default="annual", description="instance of the baseline")
    baseline: str = Field(default="latest", description="content id of the baseline, or latest")
    name: Name = Field(default="monitor", description="name of the result, used as instance of its variables")
    profile: Profile | None = Field(
        default=None,
        description="method: robust (z calibrated by the image, extent by likelihood and neighbours, each candidate"
        " judged by its own history), standard (centred z), or tutorial (zeros are nodata and std > 0 is the only"
        " guard, as in the first notebook); default: that of the baseline, or standard if the baseline is for robust"
        " and direction is not drop",
    )
    direction: Direction = Field(
        default="drop", description="which changes are abnormal: drops below the mean, rises above it, or both"
    )
    transform: Transformation = Field(default="none", description=TRANSFORM)
    low: float | None = Field(
        default=None,
        allow_inf_nan=False,
        description=f"lower threshold: connected pixels above it extend a patch ({STANDARD.low}); not for robust",
    )
    high: float | None = Field(
        default=None,
        allow_inf_nan=False,
        description=f"upper threshold: some pixel of a patch must exceed it ({STANDARD.high}); for robust, some pixel"
        f" of a candidate, in z averaged over neighbours ({ROBUST.high})",
    )
    min_area: int | None = Field(
        default=None,
        ge=0,
        description=f"a patch must have more pixels than this ({STANDARD.min_area}), for robust ({ROBUST.min_area})",
    )
    false_per_1000km2: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="only for robust: number of false patches that are accepted in 1000 square kilometres of an image;"
        f" the most probable candidates are kept until this number is expected ({ACCEPTED:g})",
    )
    judged_by: Literal["model", "rule"] | None = Field(
        default=None,
        description="only for robust: what gives the probability of a candidate: a model of several numbers, or how far"
        " its contrast to its surroundings exceeds the largest in its past (model)",
    )
    min_count: int | None = Field(
        default=None,
        ge=1,
        description=f"minimum number of baseline images; pixels with fewer get no z ({STANDARD.min_count})",
    )
    min_std: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="minimum std, in the variable's unit (after transform); below it, no z "
        f"({MIN_STD_SHARE} of its range: {MIN_STD_SHARE} of coherence)",
    )
    resampling: Resampling | None = Field(default=None, description="default: the variable's")
    shard_tiles: int | None = Field(default=None, ge=1, description=f"tiles per shard; {BY_COST}")
    again: bool = Field(
        default=False,
        description="judge images between start and end again if they were judged against another baseline version",
    )
    pod_start: float = Field(default=0, ge=0, allow_inf_nan=False, description=POD_START)


class MonitorSettings(AllStepSettings, ImageSettings):
    """Settings that select images and baseline, and define what counts as abnormal.

    Missing thresholds and step settings are taken from the profile.
    """

    def rules_given(self) -> dict[str, Any]:
        """The thresholds, and the settings of steps and judgement that were given, by name."""
        names = (*RULES, *AllStepSettings.model_fields, *Judging.names())
        return {name: value for name in names if (value := getattr(self, name, None)) is not None}
