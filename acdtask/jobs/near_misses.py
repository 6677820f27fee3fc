"""The closest near miss where no patch was found, and the setting that would show it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from acdtask.change.fragments import FIXED
from acdtask.change.near_misses import NO_SCORE, Near

__all__ = ["Closest", "closest_of", "option_for"]


class Closest(BaseModel, frozen=True):
    """Near misses of an image (`acdtask.change.near_misses.Near`). A score is None if no pixel has one.

    Thresholds apply to scores: z, or smoothed z.

    Attributes:
        z_max: highest score.
        low_px, high_px: number of pixels above low and above high.
        region_px: area of the largest connected region above low.
        group_px: area of the largest group of regions that exceed high.
        wide_z_max: highest score of the regions that are large enough but never exceed high.
    """

    z_max: float | None = None
    low_px: int = 0
    high_px: int = 0
    region_px: int = 0
    group_px: int = 0
    wide_z_max: float | None = None

    @property
    def rank(self) -> tuple[float, ...]:
        """Sort key; greater is closer. A small group lacks only area, a wide region only z."""
        lowest = float("-inf")
        return (
            self.group_px,
            lowest if self.wide_z_max is None else self.wide_z_max,
            lowest if self.z_max is None else self.z_max,
            self.region_px,
            self.low_px,
        )

    def sentence(self, detection: Mapping[str, Any]) -> str:
        """Compare the near misses with the thresholds, and name the option that would show a patch.

        >>> closest = Closest(z_max=2.745, low_px=310, region_px=140, wide_z_max=2.745)
        >>> for part in closest.sentence({"low": 1.7, "high": 3.0, "min_area": 100}).split("; "):
        ...     print(part)
        highest z 2.75 (high is 3)
        310 px above low (1.7), 0 px above high
        largest region 140 px (a patch has more than 100)
        --high 2.7 would show it
        """
        if self.z_max is None:
            return "no pixel has a z"
        text = (
            f"highest {_score_name(detection)} {self.z_max:.2f} (high is {detection['high']:g}); "
            f"{self.low_px} px above low ({detection['low']:g}), {self.high_px} px above high; "
            f"largest region {self.region_px} px (a patch has more than {detection['min_area']})"
        )
        option = option_for(self, detection)
        return f"{text}; {option} would show it" if option else text


def _score_name(detection: Mapping[str, Any]) -> str:
    """The name of the score that thresholds apply to.

    >>> _score_name({"smooth": 1.2})
    'smoothed z'
    """
    return "smoothed z" if detection.get("smooth") else "z"


def closest_of(near: Near) -> Closest:
    """Convert near misses from fixed point to the unit of z."""
    return Closest(
        z_max=_score(near.z_max),
        low_px=near.low_px,
        high_px=near.high_px,
        region_px=near.region_px,
        group_px=near.group_px,
        wide_z_max=_score(near.wide_z_max),
    )


def option_for(closest: Closest, detection: Mapping[str, Any]) -> str:
    """Options of `acdtask monitor` with which the closest near miss becomes a patch; empty if there are none."""
    low = detection["low"]
    if closest.group_px:
        return f"--min-area {closest.group_px - 1}"
    if closest.wide_z_max is not None:
        return _thresholds(_below(closest.wide_z_max), low)
    high = _below(closest.z_max) if closest.z_max is not None else -1.0
    return f"{_thresholds(high, low)} --min-area 0" if high >= 0 else ""


def _thresholds(high: float, low: float) -> str:
    """Options for an upper threshold. The lower one must not exceed it."""
    return f"--high {high:g}" if high >= low else f"--low {high:g} --high {high:g}"


def _below(score: float) -> float:
    """The next tenth below a score in thousandths.

    >>> _below(2.745), _below(2.7)
    (2.7, 2.6)
    """
    return (round(score * FIXED) - 1) // (FIXED // 10) / 10


def _score(fixed: int) -> float | None:
    return None if fixed == NO_SCORE else fixed / FIXED
