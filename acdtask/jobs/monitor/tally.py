"""What a tile's scores of an image amount to, and the error of a run in which no pixel has a score."""

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
from acdtask.change.profile import Detection
from acdtask.change.zscore import Quality
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.coverage import Judged

__all__ = ["Tally", "floor_text", "require_images", "require_judged", "tally_of"]

LEVELS = 100
"""Standard deviations below min_std are counted in so many steps."""
FEWEST = 2
"""Images of which a standard deviation can be other than 0."""


class Tally(BaseModel):
    """Counts of a tile and image, or of several; all are integers that add up in any order.

    Attributes:
        quality_px: pixels by name of `Quality`.
        near: the fields of `Near`.
        counts: pixels with too few images, by the number of images; only of tiles where no pixel has a score.
        stds: pixels whose std is too small but not 0, by its share of min_std in hundredths; likewise.
    """

    quality_px: dict[str, int] = {}
    near: tuple[int, ...] = astuple(Near())
    counts: dict[int, int] = {}
    stds: dict[int, int] = {}

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            quality_px=dict(Counter(self.quality_px) + Counter(other.quality_px)),
            near=astuple(Near(*self.near) + Near(*other.near)),
            counts=dict(Counter(self.counts) + Counter(other.counts)),
            stds=dict(Counter(self.stds) + Counter(other.stds)),
        )


def tally_of(change: TileChange, count: NDArray[Any], std: NDArray[np.float32], detection: Detection) -> Tally:
    """The tally of a tile and image.

    Args:
        change: scores and fragments.
        count: images of the baseline, shape (height, width).
        std: standard deviation of the baseline in stored units, the same shape.
        detection: what was judged with.
    """
    quality = change.score.quality
    pixels = np.bincount(quality.ravel(), minlength=len(Quality))
    counts: dict[int, int] = {}
    stds: dict[int, int] = {}
    if not pixels[Quality.VALID]:
        counts = _histogram(count[quality == Quality.TOO_FEW_IMAGES])
        steady = std[(quality == Quality.STEADY) & (std > 0)].astype(np.float64)
        stds = _histogram(np.floor(steady / detection.min_std * LEVELS)) if steady.size else {}
    return Tally(
        quality_px={reason.name: int(pixels[reason]) for reason in Quality},
        near=astuple(change.fragments.near),
        counts=counts,
        stds=stds,
    )


def require_images(images: int, most: int, detection: Detection) -> None:
    """NOTHING_JUDGED if no pixel can have as many images as the detection asks for.

    Args:
        images: of the baseline.
        most: images that many of its pixels have; 0 if that is not known.
        detection: what is judged with.
    """
    if images < detection.min_count:
        raise AcdError(
            ErrorCode.NOTHING_JUDGED,
            f"the baseline has {images} images, so no pixel has the {detection.min_count} that min_count asks for",
            _more_images(min(most or images, images)),
        )


def require_judged(tally: Tally, images: int, detection: Detection, scale: float) -> None:
    """NOTHING_JUDGED if no pixel has a score.

    Args:
        tally: of all tiles and images.
        images: how many images there are.
        detection: what was judged with.
        scale: unit of the variable per stored unit.
    """
    judged = Judged(tally.quality_px)
    if judged.judged_px:
        return
    what = f"{images} image{'' if images == 1 else 's'}"
    if not judged.area_px:
        raise AcdError(
            ErrorCode.NOTHING_JUDGED,
            f"no pixel's centre lies in the AOI, so nothing of {what} was judged",
            "Draw the AOI larger than a pixel of the layout.",
        )
    raise AcdError(
        ErrorCode.NOTHING_JUDGED,
        f"none of {judged.area_px} px of {what} was judged: {judged.reasons}",
        _way_out(tally, detection, scale),
    )


def _way_out(tally: Tally, detection: Detection, scale: float) -> str:
    """What would help against the most frequent reason."""
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
            "Make a baseline of images that cover this place: give 'acdtask baseline local' another --start, --end or "
            "--instance, or the AOI that is monitored."
        )
    return (
        "The images have no data in the AOI: look at them with 'acdtask show dataset', check --variable and "
        "--instance, or leave their records out with --leave-out."
    )


def _more_images(many: int) -> str:
    """The way out for a baseline whose pixels have so many images."""
    widen = "Widen the baseline's period with --start and --end of 'acdtask baseline local'"
    if many < FEWEST:
        return f"{widen}; its pixels have one image, which has no spread."
    return f"{widen}, or judge with fewer images, which is less reliable: --min-count {many}."


def _smaller_std(stds: Mapping[int, int], min_std: float) -> str:
    if not stds:
        return (
            "All images of the baseline are equal there: check that they are different images, and that the source "
            "range given at ingest is that of the values."
        )
    level = _median(stds)
    return (
        "Check that the source range given at ingest is that of the values; or accept a smaller standard deviation, "
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
    found, pixels = np.unique(values.astype(np.int64), return_counts=True)
    return dict(zip(found.tolist(), pixels.tolist(), strict=True))
