"""Methods: thresholds, rules, steps and judgement, and the named methods."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acdtask.change.judgement.judging import CANDIDATES, Judging
from acdtask.change.moments import stored_nodata
from acdtask.change.steps.centring import Centring
from acdtask.change.steps.registry import recorded_steps, steps_of
from acdtask.change.steps.smooth import Smooth
from acdtask.change.steps.step import Step
from acdtask.errors import AcdError, ErrorCode

__all__ = ["MIN_STD_SHARE", "PROFILES", "ROBUST", "RULES", "STANDARD", "TUTORIAL", "Detection", "detection_for"]


@dataclass(frozen=True)
class Detection:
    """A method: thresholds, rules and steps that separate abnormal change from the usual.

    Attributes:
        low: lower threshold, in standard deviations; every pixel of a patch exceeds it.
        high: upper threshold; in each 4-connected part of a patch, at least one pixel exceeds it.
        min_area: a patch has more pixels than this.
        min_count: minimum number of baseline images.
        min_std: minimum standard deviation, in stored units; 0 itself is never accepted.
        zero_is_nodata: a stored 0 means no data, in addition to the variable's own nodata.
        steps: steps that turn z into evidence, in order (`acdtask.change.steps`).
        judging: how candidates are judged by their own history (`acdtask.change.judgement`). The thresholds and
            min_area then define candidates. None: all blobs are patches.

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
    judging: Judging | None = None

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
        return cls(**rules, steps=steps_of(recorded), judging=Judging.chosen(recorded))

    def recorded(self) -> dict[str, Any]:
        """Thresholds, rules, and settings of steps and judgement as JSON values by name, as results store them.

        >>> Detection.of(STANDARD.recorded()) == STANDARD
        True
        """
        rules = {name: getattr(self, name) for name in RULES}
        return {**rules, **recorded_steps(self.steps), **Judging.recorded(self.judging)}

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


RULES = tuple(field.name for field in fields(Detection) if field.name not in ("steps", "judging"))
"""The settings of a method other than those of its steps and of its judgement."""

STANDARD = Detection()
"""At least 20 baseline images, a standard deviation of at least 5 (0.005 of coherence), and centred z.

For a variable whose range is not 0 to 1000, `detection_for` scales min_std."""

TUTORIAL = Detection(min_count=1, min_std=0.0, zero_is_nodata=True, steps=())
"""The tutorial's rules: zeros are nodata, any count, any standard deviation above 0, and plain z."""

ROBUST = Detection(
    low=0.9,
    high=1.8,
    min_area=15,
    steps=(Centring(), Smooth(1.2)),
    judging=Judging(),
)
"""Generous candidates, each judged by its own history."""

PROFILES = MappingProxyType({"standard": STANDARD, "tutorial": TUTORIAL, "robust": ROBUST})
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

    Raises:
        AcdError: SETTING_INVALID, also for a threshold of patches if the method judges candidates, and for a setting of
            the judgement if it does not: they would have no effect.

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
        (CANDIDATES, "Choose how many patches are shown with --false-per-1000km2, or use --profile standard.")
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
