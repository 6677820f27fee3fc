"""Methods: thresholds, rules and steps, and the named methods."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from acdtask.change.moments import stored_nodata
from acdtask.change.steps.centring import Centring
from acdtask.change.steps.likelihood import USUAL_LOOKS
from acdtask.change.steps.registry import recorded_steps, steps_of
from acdtask.change.steps.step import Step
from acdtask.errors import AcdError, ErrorCode

__all__ = [
    "BASELINE_CLIPS",
    "DEFAULT_PROFILE",
    "MIN_STD_SHARE",
    "PROFILES",
    "ROBUST",
    "RULES",
    "STANDARD",
    "TUTORIAL",
    "Detection",
    "Profile",
    "detection_for",
]

Profile: TypeAlias = Literal["robust", "standard", "tutorial"]
"""The name of a named method."""

DEFAULT_PROFILE: Profile = "standard"


@dataclass(frozen=True)
class Detection:
    """A method: thresholds, rules and steps that separate abnormal change from the usual.

    Attributes:
        low: lower threshold of the extent; every pixel of a patch exceeds it. The extent is z, in standard deviations,
            unless a step replaces it.
        high: upper threshold of the seed, in standard deviations; in each 4-connected part of a patch, at least one
            pixel exceeds it.
        min_area: a patch has more pixels than this.
        min_count: minimum number of baseline images.
        min_std: minimum standard deviation, in stored units; 0 itself is never accepted.
        zero_is_nodata: a stored 0 means no data, in addition to the variable's own nodata.
        steps: steps that turn z into evidence, in order (`acdtask.change.steps`).

    Raises:
        AcdError: SETTING_INVALID, naming the setting.
    """

    low: float = 1.7
    high: float = 3.0
    min_area: int = 100
    min_count: int = 20
    min_std: float = 5.0
    zero_is_nodata: bool = False
    steps: tuple[Step, ...] = (Centring(),)

    def __post_init__(self) -> None:
        for name in ("low", "high", "min_std"):
            if not math.isfinite(getattr(self, name)):
                raise AcdError(
                    ErrorCode.SETTING_INVALID, f"{name} is {getattr(self, name)}; it must be a finite number"
                )
        if self.low > self.high:
            raise AcdError(
                ErrorCode.SETTING_INVALID, f"low is {self.low}; it must not exceed high, which is {self.high}"
            )
        for name, smallest in (("low", 0), ("min_area", 0), ("min_count", 1), ("min_std", 0)):
            if getattr(self, name) < smallest:
                raise AcdError(
                    ErrorCode.SETTING_INVALID, f"{name} is {getattr(self, name)}; it must be at least {smallest}"
                )

    @classmethod
    def of(cls, recorded: Mapping[str, Any]) -> Detection:
        """Recreate a method from what `recorded` returned. SETTING_INVALID.

        >>> Detection.of({"low": 1.5, "centred": False}).steps
        ()
        """
        rules = {name: recorded[name] for name in RULES if name in recorded}
        return cls(**rules, steps=steps_of(recorded))

    def recorded(self) -> dict[str, Any]:
        """Thresholds, rules and step settings as JSON values by name, as results store them.

        >>> Detection.of(STANDARD.recorded()) == STANDARD
        True
        """
        return {**{name: getattr(self, name) for name in RULES}, **recorded_steps(self.steps)}

    def without_zeros(self, images: NDArray[Any], nodata: float | None) -> tuple[NDArray[Any], float | None]:
        """Images with zeros replaced by nodata, and the nodata to use.

        Without `zero_is_nodata`, both are returned unchanged.

        Args:
            images: integers of any shape.
            nodata: the variable's nodata, or None.

        >>> import numpy as np
        >>> TUTORIAL.without_zeros(np.array([0, 5, -1], np.int16), -1)
        (array([-1,  5, -1], dtype=int16), -1)
        """
        if not self.zero_is_nodata or nodata == 0:
            return images, nodata
        missing = stored_nodata(nodata, images.dtype)
        if missing is None:
            return images, 0
        return np.where(images == 0, images.dtype.type(missing), images), nodata


RULES = tuple(field.name for field in fields(Detection) if field.name != "steps")
"""The settings of a method other than those of its steps."""

STANDARD = Detection()
"""At least 20 baseline images, a standard deviation of at least 5 (0.005 of coherence), and centred z.

For a variable whose range is not 0 to 1000, `detection_for` scales min_std."""

TUTORIAL = Detection(min_count=1, min_std=0.0, zero_is_nodata=True, steps=())
"""The tutorial's rules: zeros are nodata, any count, any standard deviation above 0, and plain z."""

ROBUST = Detection(
    low=0.0,
    high=2.5,
    min_area=25,
    steps=steps_of({"calibrated": True, "smooth": 1.2, "looks": USUAL_LOOKS, "mean_field": True}),
)
"""z calibrated by the image's own scores. Seeds are where smoothed z is high, and the extent comes from the likelihood
of a drop, supported by neighbours (docs/decisions/0033)."""

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
