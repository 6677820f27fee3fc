"""Z-scores: the drop of a pixel below its baseline mean, in standard deviations."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acdtask.change.moments import stored_nodata

__all__ = ["Quality", "ZScore", "z_score"]


class Quality(IntEnum):
    """Whether a pixel has a z, and if not, why. Where several reasons hold, the first of 1, 4, 2, 3 is given."""

    VALID = 0
    NO_DATA = 1
    """The image has no data there."""
    TOO_FEW_IMAGES = 2
    """The baseline has images there, but fewer than min_count."""
    STEADY = 3
    """The standard deviation is 0 or below min_std, so any change would look abnormal."""
    NO_BASELINE = 4
    """The baseline has no image there."""
    OUTSIDE = 5
    """The pixel is outside the area of interest. Set by callers; `z_score` knows no area."""


@dataclass(frozen=True)
class ZScore:
    """Standard scores and their quality.

    Attributes:
        z: shape (height, width), float32, in standard deviations, positive where the image is below the mean, or above
            it for a method that looks for rises; NaN where quality is not VALID.
        quality: shape (height, width), uint8, `Quality` values.
    """

    z: NDArray[np.float32]
    quality: NDArray[np.uint8]


def _mark(quality: NDArray[np.uint8], where: NDArray[np.bool_], reason: Quality) -> None:
    if where.any():  # most images have few reasons, and `any` is ten times cheaper than `copyto`
        np.copyto(quality, np.uint8(reason), where=where)


def z_score(
    image: NDArray[Any],
    mean: NDArray[np.float32],
    std: NDArray[np.float32],
    count: NDArray[Any],
    *,
    nodata: float | None,
    min_count: int,
    min_std: float,
) -> ZScore:
    """Compute z = (mean - image) / std in float32.

    All arrays have shape (height, width). Pixels with nodata, without a baseline, or with a standard deviation of 0
    get no z, whatever the thresholds.

    Args:
        image: the new image, integers, in stored units.
        mean: mean of the baseline, in stored units.
        std: population standard deviation of the baseline, in stored units.
        count: number of baseline images.
        nodata: the stored value that means no data in the image, or None.
        min_count: minimum number of baseline images.
        min_std: minimum standard deviation, in stored units.

    >>> import numpy as np
    >>> image = np.array([[300, -1, 300, 300]], np.int16)
    >>> mean = np.full((1, 4), 800, np.float32)
    >>> std = np.array([[100, 100, 0, 100]], np.float32)
    >>> count = np.array([[60, 60, 60, 3]])
    >>> scores = z_score(image, mean, std, count, nodata=-1, min_count=20, min_std=5)
    >>> scores.z, scores.quality
    (array([[ 5., nan, nan, nan]], dtype=float32), array([[0, 1, 3, 2]], dtype=uint8))
    """
    quality = np.zeros(image.shape, np.uint8)
    # "not at least" instead of "below", so that NaN in a view of the baseline never passes.
    _mark(quality, ~(std > 0 if min_std <= 0 else std >= np.float64(min_std)), Quality.STEADY)
    _mark(quality, ~(count >= min_count), Quality.TOO_FEW_IMAGES)
    _mark(quality, ~(count > 0), Quality.NO_BASELINE)
    missing = stored_nodata(nodata, image.dtype)
    if missing is not None:
        _mark(quality, image == missing, Quality.NO_DATA)
    # Dividing by NaN gives NaN without a warning and without branching per pixel.
    divisor = np.where(quality == Quality.VALID, std, np.float32(np.nan)) if quality.any() else std
    drop = np.subtract(mean, image, dtype=np.float32)
    np.divide(drop, divisor, out=drop)
    return ZScore(drop, quality)
