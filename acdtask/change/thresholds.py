"""Thresholds, rules, steps and judgement of a method. The methods that have names are in `acdtask.change.methods`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from acdtask.change.judgement.judging import Judging
from acdtask.change.moments import stored_nodata
from acdtask.change.steps.centring import Centring
from acdtask.change.steps.likelihood import Likelihood
from acdtask.change.steps.registry import recorded_steps, steps_of
from acdtask.change.steps.step import Step
from acdtask.change.transform import Transformation
from acdtask.errors import AcdError, ErrorCode

__all__ = ["RULES", "Detection", "Direction"]

Direction = Literal["drop", "rise", "both"]
"""The abnormal changes: below the mean, above it, or both."""


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
        direction: which changes are abnormal: drops below the mean, rises above it, or both.
        transform: function of the stored values that is compared instead of them (`acdtask.change.transform`); callers
            apply it to images, and every other number here is of the transformed values.
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
    direction: Direction = "drop"
    transform: Transformation = "none"
    steps: tuple[Step, ...] = (Centring(),)
    judging: Judging | None = None

    def __post_init__(self) -> None:
        for name in ("low", "high", "min_std"):
            if not math.isfinite(getattr(self, name)):
                raise AcdError(
                    ErrorCode.SETTING_INVALID, f"{name} is {getattr(self, name)}; it must be a finite number"
                )
        for name, allowed in (("direction", get_args(Direction)), ("transform", get_args(Transformation))):
            if getattr(self, name) not in allowed:
                raise AcdError(
                    ErrorCode.SETTING_INVALID, f"{name} is {getattr(self, name)!r}; it must be {', '.join(allowed)}"
                )
        drops_only = self.judging is not None or any(isinstance(step, Likelihood) for step in self.steps)
        if drops_only and (self.direction != "drop" or self.transform != "none"):
            raise AcdError(
                ErrorCode.SETTING_INVALID,
                f"direction is {self.direction} and transform is {self.transform}; the likelihood of a drop and the "
                "judgement of candidates know only drops of values without transform",
                "Use --profile standard without --looks, or leave out --direction and --transform.",
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

        A rule of `LATER_RULES` is not recorded at its default, so that existing results keep their ids.

        >>> Detection.of(Detection(low=1.5).recorded()) == Detection(low=1.5)
        True
        """
        rules = {name: getattr(self, name) for name in RULES}
        known = {name: value for name, value in rules.items() if value != LATER_RULES.get(name)}
        return {**known, **recorded_steps(self.steps), **Judging.recorded(self.judging)}

    def without_zeros(self, images: NDArray[Any], nodata: float | None) -> tuple[NDArray[Any], float | None]:
        """Images with zeros replaced by nodata, and the nodata to use.

        Without `zero_is_nodata`, both are returned unchanged.

        Args:
            images: integers of any shape.
            nodata: the variable's nodata, or None.

        >>> import numpy as np
        >>> Detection(zero_is_nodata=True).without_zeros(np.array([0, 5, -1], np.int16), -1)
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

LATER_RULES: Mapping[str, str] = MappingProxyType({"direction": "drop", "transform": "none"})
"""Rules that methods recorded by earlier versions lack, with their defaults."""
