"""The methods that have names, and what they are for a variable."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from acdtask.change.judgement.judging import ONLY_WITHOUT_JUDGEMENT, Judging
from acdtask.change.steps.likelihood import USUAL_LOOKS
from acdtask.change.steps.registry import steps_of
from acdtask.change.steps.wide import USUAL_WIDTH
from acdtask.change.thresholds import Detection
from acdtask.errors import AcdError, ErrorCode

__all__ = [
    "BASELINE_CLIPS",
    "MIN_STD_SHARE",
    "PROFILES",
    "ROBUST",
    "STANDARD",
    "TUTORIAL",
    "Profile",
    "detection_for",
]

Profile: TypeAlias = Literal["robust", "standard", "tutorial"]
"""The name of a named method."""

STANDARD = Detection()
"""At least 20 baseline images, a standard deviation of at least 5 (0.005 of coherence), and centred z.

For a variable whose range is not 0 to 1000, `detection_for` scales min_std."""

TUTORIAL = Detection(min_count=1, min_std=0.0, zero_is_nodata=True, steps=())
"""The tutorial's rules: zeros are nodata, any count, any standard deviation above 0, and plain z."""

ROBUST = Detection(
    low=0.0,
    high=1.6,
    min_area=15,
    steps=steps_of({"calibrated": True, "smooth": 1.2, "looks": USUAL_LOOKS, "mean_field": True, "wide": USUAL_WIDTH}),
    judging=Judging(),
)
"""z calibrated by the image's own scores. Seeds are where smoothed z is high, and the extent comes from the likelihood
of a drop, supported by neighbours; weak, wide drops are found in a wider mean (docs/decisions/0033). These are generous
candidates; each is judged by its own history (docs/decisions/0035)."""

PROFILES: Mapping[str, Detection] = MappingProxyType({"robust": ROBUST, "standard": STANDARD, "tutorial": TUTORIAL})
"""Methods by name."""

BASELINE_CLIPS: Mapping[str, float] = MappingProxyType({"robust": 2.5})
"""For each profile whose baselines leave out unusually low values: the clip (`Moments.clipped`)."""

MIN_STD_SHARE = 0.005
"""Minimum standard deviation of the standard profile, as a fraction of the variable's range."""


def detection_for(profile: str, valid_range: tuple[float, float], scale: float, given: Mapping[str, Any]) -> Detection:
    """The method of a profile for a variable, with some settings overridden.

    Args:
        profile: a name of PROFILES.
        valid_range: minimum and maximum valid stored value of the variable.
        scale: physical units per stored unit.
        given: overriding settings by name, including those of steps; min_std in physical units.

    Returns:
        The method, with min_std in stored units.

    Raises:
        AcdError: SETTING_INVALID, also for the lower threshold if the method judges candidates, and for a setting of
            the judgement if it does not.

    >>> detection_for("standard", (0, 1000), 0.001, {}).min_std
    5.0
    >>> detection_for("standard", (0, 250), 0.004, {}).min_std
    1.25
    >>> detection_for("standard", (0, 250), 0.004, {"min_std": 0.002}).min_std
    0.5
    """
    base = PROFILES[profile]
    _require_settings_of(profile, base, given)
    if "min_std" in given:
        min_std = given["min_std"] / scale
    else:
        min_std = MIN_STD_SHARE * (valid_range[1] - valid_range[0]) if base.min_std else 0.0
    return Detection.of({**base.recorded(), **given, "min_std": float(f"{min_std:.12g}")})


def _require_settings_of(profile: str, base: Detection, given: Mapping[str, Any]) -> None:
    """Refuse settings that the profile does not have."""
    other, fix = (
        (
            ONLY_WITHOUT_JUDGEMENT,
            "Choose how many patches are shown with --false-per-1000km2, or use --profile standard.",
        )
        if base.judging
        else (Judging.names(), "Use --profile robust, or choose the thresholds with --low, --high and --min-area.")
    )
    unused = [name for name in other if name in given]
    if unused:
        what = "judges candidates by their history" if base.judging else "does not judge candidates"
        raise AcdError(
            ErrorCode.SETTING_INVALID,
            f"{' and '.join(unused)} cannot be used with the profile {profile}, which {what}",
            fix,
        )
