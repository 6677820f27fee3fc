"""How near an image came to having a patch, in integers that merge in any order."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["NOTHING", "Near"]

NOTHING = -(2**62)
"""A score that no pixel has."""


@dataclass(frozen=True)
class Near:
    """What there is of high scores in a tile, or in the whole image. Scores are in thousandths (`fragments.FIXED`).

    A score is what the upper threshold applies to: z, or the method's `Evidence.seed`.
    A region is a 4-connected component of extent > low. A group is what hysteresis leaves: regions with a pixel above
    high that touch each other, corners included; it becomes a patch if it has more than min_area pixels.

    Attributes:
        z_max: the highest score; NOTHING if there is none.
        low_px, high_px: pixels above low and above high.
        region_px: pixels of the largest region.
        group_px: pixels of the largest group.
        wide_z_max: the highest score of the regions of more than min_area pixels that never exceed high; or NOTHING.
    """

    z_max: int = NOTHING
    low_px: int = 0
    high_px: int = 0
    region_px: int = 0
    group_px: int = 0
    wide_z_max: int = NOTHING

    def __add__(self, other: Near) -> Near:
        """The two together. Regions that they share have to be measured where tiles are joined.

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
