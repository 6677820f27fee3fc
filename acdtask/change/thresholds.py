"""The thresholds, rules and steps of a method. The methods that have names are in `acdtask.change.methods`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acdtask.change.moments import stored_nodata
from acdtask.change.steps.centring import Centring
from acdtask.change.steps.registry import recorded_steps, steps_of
from acdtask.change.steps.step import Step
from acdtask.errors import AcdError, ErrorCode

__all__ = ["RULES", "Detection"]


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

        >>> Detection.of(Detection(low=1.5).recorded()) == Detection(low=1.5)
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
        >>> Detection(zero_is_nodata=True).without_zeros(np.array([0, 5, -1], np.int16), -1)
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
