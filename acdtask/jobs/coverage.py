"""The share of an area that was judged, and the reasons why the rest was not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from acdtask.change.zscore import Quality

__all__ = ["ENOUGH", "JudgedPixels", "percent"]

ENOUGH = 0.5
"""A result with a smaller share of judged pixels gets a warning."""

_REASONS = {
    Quality.NO_DATA: "no data in the image",
    Quality.TOO_FEW_IMAGES: "too few images in the baseline",
    Quality.STEADY: "std too small",
    Quality.NO_BASELINE: "no image in the baseline",
}


@dataclass(frozen=True)
class JudgedPixels:
    """Number of pixels per name of `Quality`, over one or more images."""

    quality_px: Mapping[str, int] = field(default_factory=dict)

    @property
    def judged_px(self) -> int:
        """Number of pixels with a z."""
        return self.quality_px.get(Quality.VALID.name, 0)

    @property
    def area_px(self) -> int:
        """Number of pixels in the area of interest, summed over images."""
        return sum(count for name, count in self.quality_px.items() if name != Quality.OUTSIDE.name)

    @property
    def share(self) -> float:
        """The share of the area that was judged; 0 if it has no pixels."""
        return self.judged_px / self.area_px if self.area_px else 0.0

    @property
    def figures(self) -> dict[str, float]:
        """Numbers of pixels as figures, by name."""
        reasons = {f"{reason.name.lower()}_px": self.quality_px.get(reason.name, 0) for reason in _REASONS}
        return {"area_px": self.area_px, "judged_px": self.judged_px, **reasons}

    @property
    def reasons(self) -> str:
        """The reasons why pixels have no z, most frequent first.

        >>> JudgedPixels({"VALID": 5, "NO_DATA": 2, "STEADY": 3, "OUTSIDE": 9}).reasons
        '3 px std too small, 2 px no data in the image'
        """
        counts = sorted((-self.quality_px.get(reason.name, 0), text) for reason, text in _REASONS.items())
        return ", ".join(f"{-count} px {text}" for count, text in counts if count)

    @property
    def sentence(self) -> str:
        """The share that was judged, and the reasons for the rest.

        >>> JudgedPixels({"VALID": 3, "NO_DATA": 1}).sentence
        'judged 75% of the area (3 of 4 px); without z: 1 px no data in the image'
        >>> JudgedPixels({"VALID": 1999, "NO_DATA": 1}).sentence
        'judged 99.9% of the area (1999 of 2000 px); without z: 1 px no data in the image'
        """
        only = "" if self.share >= ENOUGH else "only "
        share = (
            f"judged {only}{percent(self.judged_px, self.area_px)} of the area ({self.judged_px} of {self.area_px} px)"
        )
        return f"{share}; without z: {reasons}" if (reasons := self.reasons) else share


def percent(part: int, whole: int) -> str:
    """A percentage, rounded down so that 100% means all, with a decimal above 99%.

    >>> percent(1, 3), percent(999, 1000), percent(0, 0)
    ('33%', '99.9%', '0%')
    """
    tenths = 1000 * part // whole if whole else 0
    return f"{tenths // 10}%" if tenths % 10 == 0 or tenths < 990 else f"{tenths / 10:.1f}%"
