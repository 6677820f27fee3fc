"""Counts of scored and unscored pixels, and the error if no pixel of a run has a score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import astuple
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from acdtask.change.detect import TileChange
from acdtask.change.near_misses import Near
from acdtask.change.thresholds import Detection
from acdtask.change.zscore import Quality
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.coverage import JudgedPixels

__all__ = ["PixelTally", "floor_text", "require_images", "require_judged", "tally_of"]

LEVELS = 100
"""Number of histogram levels for standard deviations below min_std."""
FEWEST = 2
"""Minimum number of images with a standard deviation other than 0."""


class PixelTally(BaseModel):
    """Counts of one or more tiles and images, as integers that add up in any order.

    Attributes:
        quality_px: number of pixels by name of `Quality`.
        near: fields of `Near`.
        counts: number of pixels with too few images, by number of images; only of tiles without scores.
        stds: number of pixels with too small a std other than 0, by std in hundredths of min_std; likewise.
    """

    quality_px: dict[str, int] = {}
    near: tuple[int, ...] = astuple(Near())
    counts: dict[int, int] = {}
    stds: dict[int, int] = {}

    def __add__(self, other: PixelTally) -> PixelTally:
        return PixelTally(
            quality_px=dict(Counter(self.quality_px) + Counter(other.quality_px)),
            near=astuple(Near(*self.near) + Near(*other.near)),
            counts=dict(Counter(self.counts) + Counter(other.counts)),
            stds=dict(Counter(self.stds) + Counter(other.stds)),
        )


def tally_of(change: TileChange, count: NDArray[Any], std: NDArray[np.float32], detection: Detection) -> PixelTally:
    """Tally the scores of a tile and image.

    Args:
        change: scores and fragments, shape (height, width).
        count: number of baseline images, same shape.
        std: standard deviation of the baseline in stored units, same shape.
        detection: the method.
    """
    quality = change.score.quality
    pixels = np.bincount(quality.ravel(), minlength=len(Quality))
    counts: dict[int, int] = {}
    stds: dict[int, int] = {}
    if not pixels[Quality.VALID]:
        counts = _histogram(count[quality == Quality.TOO_FEW_IMAGES])
        steady = std[(quality == Quality.STEADY) & (std > 0)].astype(np.float64)
        stds = _histogram(np.floor(steady / detection.min_std * LEVELS)) if steady.size else {}
    return PixelTally(
        quality_px={reason.name: int(pixels[reason]) for reason in Quality},
        near=astuple(change.fragments.near),
        counts=counts,
        stds=stds,
    )


def require_images(images: int, most: int, detection: Detection) -> None:
    """Require that the baseline has enough images for the method. NOTHING_JUDGED.

    Args:
        images: number of baseline images.
        most: number of images that many of its pixels have; 0 if unknown.
        detection: the method.
    """
    if images < detection.min_count:
        raise AcdError(
            ErrorCode.NOTHING_JUDGED,
            f"the baseline has {images} images, so no pixel has the {detection.min_count} that min_count requires",
            _more_images(min(most or images, images)),
        )


def require_judged(tally: PixelTally, images: int, detection: Detection, scale: float) -> None:
    """Require that some pixel has a score. NOTHING_JUDGED.

    Args:
        tally: tally of all tiles and images.
        images: number of images.
        detection: the method.
        scale: physical units per stored unit.
    """
    judged = JudgedPixels(tally.quality_px)
    if judged.judged_px:
        return
    what = f"{images} image{'' if images == 1 else 's'}"
    if not judged.area_px:
        raise AcdError(
            ErrorCode.NOTHING_JUDGED,
            f"the AOI contains no pixel centre, so nothing of {what} was judged",
            "Make the AOI larger than a pixel of the layout.",
        )
    raise AcdError(
        ErrorCode.NOTHING_JUDGED,
        f"none of {judged.area_px} px of {what} was judged: {judged.reasons}",
        _advice(tally, detection, scale),
    )


def _advice(tally: PixelTally, detection: Detection, scale: float) -> str:
    """Advice for the most frequent reason."""
    reasons = {Quality[name]: count for name, count in tally.quality_px.items()}
    for outside in (Quality.VALID, Quality.OUTSIDE):
        reasons.pop(outside, None)
    reason = max(reasons, key=lambda each: (reasons[each], -each))
    if reason is Quality.TOO_FEW_IMAGES:
        return _more_images(_median(tally.counts))
    if reason is Quality.STEADY:
        return _smaller_std(tally.stds, detection.min_std * scale)
    if reason is Quality.NO_BASELINE:
        return (
            "Compute a baseline from images that cover this area: run 'acdtask baseline local' with another --start, "
            "--end or --instance, or with the AOI that is monitored."
        )
    return (
        "The images have no data in the AOI: inspect them with 'acdtask show dataset', check --variable and "
        "--instance, or exclude their records with --leave-out."
    )


def _more_images(many: int) -> str:
    """Advice for a baseline whose pixels have this many images."""
    widen = "Widen the baseline's period with --start and --end of 'acdtask baseline local'"
    if many < FEWEST:
        return f"{widen}; its pixels have only one image, so their standard deviation is 0."
    return f"{widen}, or judge with fewer images, which is less reliable: --min-count {many}."


def _smaller_std(stds: Mapping[int, int], min_std: float) -> str:
    if not stds:
        return (
            "All baseline images are equal there: check that they are different images, and that the source range "
            "given at ingest matches the values."
        )
    level = _median(stds)
    return (
        "Check that the source range given at ingest matches the values; or accept a smaller standard deviation, "
        f"in the unit of the variable: --min-std {floor_text(level / LEVELS * min_std)}."
    )


def _median(pixels: Mapping[int, int]) -> int:
    """The largest value that at least half of the pixels reach.

    >>> _median({18: 3, 12: 2, 2: 1}), _median({7: 1, 9: 1})
    (18, 9)
    """
    half, reached = -(-sum(pixels.values()) // 2), 0
    for value in sorted(pixels, reverse=True):
        reached += pixels[value]
        if reached >= half:
            return value
    return 0


def floor_text(value: float) -> str:
    """Three significant digits, rounded down.

    >>> floor_text(0.00165), floor_text(0.0045567), floor_text(0.0)
    ('0.00165', '0.00455', '0')
    """
    text = f"{value:.3g}"
    if float(text) <= value:
        return text
    digits = f"{value:.12e}".partition("e")
    return f"{float(digits[0][:4] + 'e' + digits[2]):.3g}"


def _histogram(values: NDArray[Any]) -> dict[int, int]:
    levels, pixels = np.unique(values.astype(np.int64), return_counts=True)
    return dict(zip(levels.tolist(), pixels.tolist(), strict=True))
