"""The closest near miss where no patch was found, and the setting that would show it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field

from acdtask.change.fragments import FIXED
from acdtask.change.judgement.choice import IMPROBABLE
from acdtask.change.judgement.model import CERTAIN
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
        probability: probability of the most probable candidate that was rejected, if any.
        false_per_1000km2: number of false patches per 1000 square kilometres with which it would be kept; None if none
            would be enough.
    """

    z_max: float | None = None
    low_px: int = 0
    high_px: int = 0
    region_px: int = 0
    group_px: int = 0
    wide_z_max: float | None = None
    probability: float | None = Field(default=None, exclude_if=lambda value: value is None)
    false_per_1000km2: float | None = Field(default=None, exclude_if=lambda value: value is None)

    def with_candidate(self, probability: float, area_km2: float) -> Closest:
        """Add the most probable candidate that was rejected, in an image with this judged area.

        >>> Closest().with_candidate(0.25, area_km2=400).false_per_1000km2
        1.9
        >>> Closest().with_candidate(0.019, area_km2=400).false_per_1000km2 is None
        True
        """
        if round(probability * CERTAIN) < IMPROBABLE:
            return self.model_copy(update={"probability": probability})
        # Rounded up in the second digit, so that the advised number is enough.
        enough = (1 - probability) / area_km2 * 1000
        unit = 10 ** (math.floor(math.log10(enough)) - 1) if enough else 1.0
        update = {"probability": probability, "false_per_1000km2": float(f"{math.ceil(enough / unit) * unit:.2g}")}
        return self.model_copy(update=update)

    @property
    def rank(self) -> tuple[float, ...]:
        """Sort key; greater is closer. A small group lacks only area, a wide region only z."""
        lowest = float("-inf")
        return (
            -1.0 if self.probability is None else self.probability,
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
        if self.probability is not None:
            return self._sentence_on_candidate(self.probability, option_for(self, detection))
        text = (
            f"highest {_score_name(detection)} {self.z_max:.2f} (high is {detection['high']:g}); "
            f"{self.low_px} px above low ({detection['low']:g}), {self.high_px} px above high; "
            f"largest region {self.region_px} px (a patch has more than {detection['min_area']})"
        )
        option = option_for(self, detection)
        return f"{text}; {option} would show it" if option else text

    def _sentence_on_candidate(self, probability: float, option: str) -> str:
        """Say how probable the closest candidate is, and the option that would show it, if there is one."""
        if option:
            return f"the most probable candidate has a probability of {probability:.2f}; {option} would show it"
        least = IMPROBABLE / CERTAIN
        return f"the most probable candidate has a probability of {probability:.1g}; none below {least:g} is shown"


def _score_name(detection: Mapping[str, Any]) -> str:
    """The name of the score that thresholds apply to.

    >>> _score_name({"smooth": 1.2}), _score_name({"direction": "both"})
    ('smoothed z', '|z|')
    """
    name = "|z|" if detection.get("direction") == "both" else "z"
    return f"smoothed {name}" if detection.get("smooth") else name


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
    if closest.false_per_1000km2 is not None:
        return f"--false-per-1000km2 {closest.false_per_1000km2:g}"
    if "false_per_1000km2" in detection:
        return ""
    low = detection["low"]
    if closest.group_px:
        return f"--min-area {closest.group_px - 1}"
    if closest.wide_z_max is not None:
        return _thresholds(_below(closest.wide_z_max), low)
    if detection.get("looks"):
        return ""  # the pixel with the highest z need not be in the extent of a change
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
