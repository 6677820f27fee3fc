"""The methods that have names, and what they are for a variable."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from acdtask.change.thresholds import Detection

__all__ = ["MIN_STD_SHARE", "PROFILES", "STANDARD", "TUTORIAL", "detection_for"]

STANDARD = Detection()
"""At least 20 baseline images, a standard deviation of at least 5 (0.005 of coherence), and centred z.

For a variable whose range is not 0 to 1000, `detection_for` scales min_std."""

TUTORIAL = Detection(min_count=1, min_std=0.0, zero_is_nodata=True, steps=())
"""The tutorial's rules: zeros are nodata, any count, any standard deviation above 0, and plain z."""

PROFILES = MappingProxyType({"standard": STANDARD, "tutorial": TUTORIAL})
"""Methods by name."""

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

    >>> detection_for("standard", (0, 1000), 0.001, {}).min_std
    5.0
    >>> detection_for("standard", (0, 250), 0.004, {}).min_std
    1.25
    >>> detection_for("standard", (0, 250), 0.004, {"min_std": 0.002}).min_std
    0.5
    """
    base = PROFILES[profile]
    if "min_std" in given:
        min_std = given["min_std"] / scale
    else:
        min_std = MIN_STD_SHARE * (valid_range[1] - valid_range[0]) if base.min_std else 0.0
    return Detection.of({**base.recorded(), **given, "min_std": float(f"{min_std:.12g}")})
