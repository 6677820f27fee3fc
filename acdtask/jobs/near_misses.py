"""What came closest to a patch where none was found, and which setting would show it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from acdtask.change.fragments import FIXED
from acdtask.change.near_misses import NOTHING, Near

__all__ = ["Closest", "closest_of", "option_for"]


class Closest(BaseModel):
    """How near an image came to having a patch (`acdtask.change.near_misses.Near`). A score is None if no pixel has it.

    A score is what the thresholds apply to: z, or smoothed z.

    Attributes:
        z_max: highest z.
        low_px, high_px: pixels above low and above high.
        region_px: pixels of the largest connected region above low.
        group_px: pixels of the largest group of regions that exceed high.
        wide_z_max: highest z of the regions that are large enough and never exceed high.
    """

    model_config = ConfigDict(frozen=True)

    z_max: float | None = None
    low_px: int = 0
    high_px: int = 0
    region_px: int = 0
    group_px: int = 0
    wide_z_max: float | None = None

    @property
    def rank(self) -> tuple[float, ...]:
        """The greater, the closer. A group too small lacks area alone, a wide region too low lacks z alone."""
        lowest = float("-inf")
        return (
            self.group_px,
            lowest if self.wide_z_max is None else self.wide_z_max,
            lowest if self.z_max is None else self.z_max,
            self.region_px,
            self.low_px,
        )

    def sentence(self, detection: Mapping[str, Any]) -> str:
        """What there was, against the thresholds of the detection, and which option would show a patch.

        >>> seen = Closest(z_max=2.745, low_px=310, region_px=140, wide_z_max=2.745)
        >>> for part in seen.sentence({"low": 1.7, "high": 3.0, "min_area": 100}).split("; "):
        ...     print(part)
        highest z 2.75 (high is 3)
        310 px above low (1.7), 0 px above high
        largest region 140 px (a patch has more than 100)
        --high 2.7 would show it
        """
        if self.z_max is None:
            return "no pixel has a z"
        seen = (
            f"highest {_score_name(detection)} {self.z_max:.2f} (high is {detection['high']:g}); "
            f"{self.low_px} px above low ({detection['low']:g}), {self.high_px} px above high; "
            f"largest region {self.region_px} px (a patch has more than {detection['min_area']})"
        )
        option = option_for(self, detection)
        return f"{seen}; {option} would show it" if option else seen


def _score_name(detection: Mapping[str, Any]) -> str:
    """What the thresholds are compared with.

    >>> _score_name({"smooth": 1.2})
    'smoothed z'
    """
    return "smoothed z" if detection.get("smooth") else "z"


def closest_of(near: Near) -> Closest:
    """The same in the unit of z."""
    return Closest(
        z_max=_score(near.z_max),
        low_px=near.low_px,
        high_px=near.high_px,
        region_px=near.region_px,
        group_px=near.group_px,
        wide_z_max=_score(near.wide_z_max),
    )


def option_for(closest: Closest, detection: Mapping[str, Any]) -> str:
    """Options of `acdtask monitor` that make one patch of what came closest; empty if none can."""
    low = detection["low"]
    if closest.group_px:
        return f"--min-area {closest.group_px - 1}"
    if closest.wide_z_max is not None:
        return _thresholds(_below(closest.wide_z_max), low)
    high = _below(closest.z_max) if closest.z_max is not None else -1.0
    return f"{_thresholds(high, low)} --min-area 0" if high >= 0 else ""


def _thresholds(high: float, low: float) -> str:
    """Options for a high threshold; low must not lie above it."""
    return f"--high {high:g}" if high >= low else f"--low {high:g} --high {high:g}"


def _below(score: float) -> float:
    """The tenth below a score that was rounded to thousandths.

    >>> _below(2.745), _below(2.7)
    (2.7, 2.6)
    """
    return (round(score * FIXED) - 1) // (FIXED // 10) / 10


def _score(fixed: int) -> float | None:
    return None if fixed == NOTHING else fixed / FIXED
