"""The shares of an area that have a baseline and that can be judged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from acdtask.change.moments import Moments
from acdtask.change.thresholds import Detection
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.coverage import ENOUGH, percent
from acdtask.jobs.products import BaselinePixels, BaselineTile

__all__ = ["figures_of", "pixels_of", "require_means", "sentences_of"]

_SUMMED = ("area_px", "mean_px", "scored_px", "few_px", "steady_px", "values", "clipped_values")


def pixels_of(
    moments: Moments, clipped: NDArray[np.int32], inside: NDArray[np.bool_], detection: Detection
) -> BaselinePixels:
    """Count the pixels of a baseline tile.

    Args:
        moments: moments of the tile, shape (height, width).
        clipped: same shape, number of values that were left out as unusually low.
        inside: same shape, True in the area of interest.
        detection: method that defines which pixels can be judged.
    """
    count = moments.count[inside]
    known = count[count > 0]
    std = moments.standard_deviation()[inside]
    enough = count >= detection.min_count
    spread = (std >= np.float64(detection.min_std)) & (std > 0)
    return BaselinePixels(
        area_px=count.size,
        mean_px=known.size,
        scored_px=int(np.count_nonzero(enough & spread)),
        few_px=int(np.count_nonzero((count > 0) & ~enough)),
        steady_px=int(np.count_nonzero(enough & ~spread)),
        most_images=int(known.max(initial=0)),
        half_count=int(np.sort(known)[(known.size - 1) // 2]) if known.size else 0,
        values=int(known.sum(dtype=np.int64)),
        clipped_values=int(clipped[inside].sum(dtype=np.int64)),
    )


def figures_of(tiles: Sequence[BaselineTile]) -> dict[str, int]:
    """Numbers of pixels of all tiles, by name; empty for a baseline of an earlier version."""
    counts = [tile.pixels for tile in tiles if tile.pixels]
    return {name: sum(getattr(pixels, name) for pixels in counts) for name in _SUMMED} if counts else {}


def require_means(tiles: Sequence[BaselineTile], aoi: str) -> None:
    """Require that some pixel has a mean, if there are tiles. BASELINE_EMPTY."""
    figures = figures_of(tiles)
    if figures and not figures["mean_px"]:
        raise AcdError(
            ErrorCode.BASELINE_EMPTY,
            f"none of {figures['area_px']} px of the AOI {aoi} has a mean: the images have no data there",
        )


def sentences_of(tiles: Sequence[BaselineTile], min_count: int) -> list[str]:
    """Sentences about the shares with a mean and that can be judged, with a warning if the latter is small."""
    figures = figures_of(tiles)
    if not figures or not figures["area_px"]:
        return []
    area, scored = figures["area_px"], figures["scored_px"]
    lines = [f"mean and std of {percent(figures['mean_px'], area)} of the area ({figures['mean_px']} of {area} px)"]
    if clipped := figures["clipped_values"]:
        every = figures["values"] + clipped
        lines.append(f"left out {percent(clipped, every)} of the values as unusually low ({clipped} of {every})")
    reasons = [
        f"{figures[name]} px {text}"
        for name, text in (("few_px", f"fewer than {min_count} images"), ("steady_px", "std too small"))
        if figures[name]
    ]
    can = f"{percent(scored, area)} of the area can be judged ({scored} of {area} px)"
    can = f"{can}; without z: {', '.join(reasons)}" if reasons else can
    most = max((tile.pixels.most_images for tile in tiles if tile.pixels), default=0)
    if not scored and most < min_count:
        can += f"; no pixel has more than {most} images: widen the period, or run the monitor with --min-count {most}"
    return [*lines, f"warning: only {can}" if scored < ENOUGH * area else can]
