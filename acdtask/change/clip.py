"""Clipping: moments of a stack without values that are unusually low for their pixel.

A year of images may contain changes itself, above all farm work and floods. They lower the mean and widen the standard
deviation, so that the next change looks usual. In each of ROUNDS rounds, values below

    mean - clip * std

of what is left are taken out of the exact moments; low values only, since coherence that is unusually high hides no
change. (P. J. Huber and E. M. Ronchetti, "Robust statistics", 2nd ed., Wiley 2009, section 1.2, discusses such rules.)
The limit rises from round to round, so the result is the moments of all values that reach the last one. Each pixel is
treated by itself: no halo.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from acdtask.change.moments import Moments, stored_nodata

__all__ = ["ROUNDS", "clipped_moments"]

ROUNDS = 2


def clipped_moments(stack: NDArray[Any], nodata: float | None, clip: float) -> tuple[Moments, NDArray[np.int32]]:
    """Moments of a stack without unusually low values, and the number of values left out of each pixel.

    Args:
        stack: shape (images, height, width), integers of 8 or 16 bits.
        nodata: the stored value that means no data, or None.
        clip: standard deviations below the mean; 0 leaves nothing out.

    Raises:
        AcdError: INPUT_BANDS for any other type.

    >>> stack = np.array([700, 710, 690, 705, 695, 702, 698, 699, 701, 250], np.int16).reshape(10, 1, 1)
    >>> moments, left_out = clipped_moments(stack, -1, 2.5)
    >>> moments.mean(), left_out
    (array([[700.]], dtype=float32), array([[1]], dtype=int32))
    """
    every = Moments.of_images(stack, nodata)
    moments = every
    if not clip or not stack.size:
        return moments, np.zeros(moments.count.shape, np.int32)
    missing = stored_nodata(nodata, stack.dtype)
    valid = np.ones(stack.shape, np.bool_) if missing is None else stack != missing
    for _ in range(ROUNDS):
        low = stack < _limit(moments, clip, stack.dtype)
        low &= valid
        moments = every - Moments.of(stack, low)
    return moments, every.count - moments.count


def _limit(moments: Moments, clip: float, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The lowest integer that is not clipped, for each pixel."""
    count = np.maximum(moments.count, 1).astype(np.float64)
    spread = moments.count * moments.total_of_squares - moments.total * moments.total
    limit = np.ceil((moments.total - clip * np.sqrt(spread.astype(np.float64))) / count)
    bounds = np.iinfo(dtype)
    return np.clip(limit, bounds.min, bounds.max).astype(dtype)
