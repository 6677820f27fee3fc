"""Near misses: how close an image came to having a patch, as integers that merge in any order."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["NO_SCORE", "Near"]

NO_SCORE = -(2**62)
"""Sentinel for a score that no pixel has."""


@dataclass(frozen=True)
class Near:
    """Near misses in a tile or in the whole image. Scores are in thousandths (`fragments.FIXED`).

    A score is what the upper threshold applies to: z, or the method's `Evidence.seed`.
    A region is a 4-connected component of extent > low. A group consists of regions that each have a pixel above high
    and that touch each other, corners included; it becomes a patch if it has more than min_area pixels.

    Attributes:
        z_max: highest score, or NO_SCORE.
        low_px, high_px: number of pixels above low and above high.
        region_px: area of the largest region.
        group_px: area of the largest group.
        wide_z_max: highest score of the regions of more than min_area pixels that never exceed high, or NO_SCORE.
    """

    z_max: int = NO_SCORE
    low_px: int = 0
    high_px: int = 0
    region_px: int = 0
    group_px: int = 0
    wide_z_max: int = NO_SCORE

    def __add__(self, other: Near) -> Near:
        """Merge two sets of near misses. Regions that cross a seam must be measured separately (`seams.join_near`).

        >>> Near(z_max=2100, low_px=7, region_px=5) + Near(z_max=1900, low_px=4, region_px=4)
        Near(z_max=2100, low_px=11, high_px=0, region_px=5, group_px=0, wide_z_max=-4611686018427387904)
        """
        return Near(
            z_max=max(self.z_max, other.z_max),
            low_px=self.low_px + other.low_px,
            high_px=self.high_px + other.high_px,
            region_px=max(self.region_px, other.region_px),
            group_px=max(self.group_px, other.group_px),
            wide_z_max=max(self.wide_z_max, other.wide_z_max),
        )
