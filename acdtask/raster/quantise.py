"""Converts source values to a variable's stored numbers; nothing is clipped silently."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acdtask.raster.data_format import DataFormat

__all__ = ["Quantised", "quantise"]


@dataclass(frozen=True)
class Quantised:
    """Stored numbers, with counts of the pixels that could not be converted.

    Attributes:
        pixels: shape of the source, dtype of the format; nodata where there is no value.
        valid: number of finite source pixels that are neither nodata nor masked, including those outside the range.
        not_finite: number of infinite pixels that are neither nodata nor masked.
        outside: number of pixels whose stored number would be outside the format's range.
        extreme: source value farthest outside the range; NaN if none is outside.
        nan: number of NaN pixels, masked or not.
        zeros: number of valid pixels that are exactly 0 in the source.
    """

    pixels: NDArray[Any]
    valid: int
    not_finite: int
    outside: int
    extreme: float
    nan: int
    zeros: int


def quantise(
    source: NDArray[Any],
    source_nodata: Iterable[float],
    source_range: tuple[float, float],
    dformat: DataFormat,
    mask: NDArray[np.bool_] | None = None,
) -> Quantised:
    """Map source_range linearly onto the format's range, rounding half to even for integer formats.

    A value is outside if its rounded number is outside the format's range.

    Args:
        source: values, shape (height, width).
        source_nodata: nodata values, each representable in the source's data type; NaN is always nodata.
        source_range: source values mapped to the format's min and max; may be descending.
        dformat: format of the stored numbers.
        mask: True where a pixel may be valid; shape of the source.

    >>> byte = DataFormat(dtype="int16", nodata=-1, min=0, max=1000)
    >>> done = quantise(np.array([0.0, 0.5, 1.0, 80.0, np.nan], "f4"), [0.0], (0.0, 1.0), byte)
    >>> done.pixels.tolist(), done.valid, done.outside, done.extreme
    ([-1, 500, 1000, -1, -1], 3, 1, 80.0)
    """
    dtype = np.dtype(dformat.dtype)
    is_float = np.issubdtype(source.dtype, np.floating)
    known = ~np.isnan(source) if is_float else np.ones(source.shape, bool)
    nan = source.size - int(known.sum())
    if mask is not None:
        known &= mask
    for nodata in source_nodata:
        known &= source != np.asarray(nodata, source.dtype)
    usable = known & np.isfinite(source) if is_float else known
    least, greatest = source_range
    identical = (least, greatest) == (dformat.min, dformat.max)
    values = source.astype(np.float64)
    if not identical:
        with np.errstate(over="ignore"):  # an overflow counts as outside
            values = (values - least) * ((dformat.max - dformat.min) / (greatest - least)) + dformat.min
    if np.issubdtype(dtype, np.integer):
        values = np.rint(values, out=values)
    # After rounding, so that values up to half a step outside are still stored.
    outside = usable & ((values < dformat.min) | (values > dformat.max))
    stored = usable & ~outside
    pixels = np.full(source.shape, dformat.nodata, dtype)
    pixels[stored] = values[stored].astype(dtype)
    return Quantised(
        pixels=pixels,
        valid=int(usable.sum()),
        not_finite=int((known & ~usable).sum()),
        outside=int(outside.sum()),
        extreme=_farthest(source[outside], min(source_range), max(source_range)),
        nan=nan,
        zeros=int((usable & (source == 0)).sum()),
    )


def _farthest(values: NDArray[Any], least: float, greatest: float) -> float:
    if values.size == 0:
        return float("nan")
    distance = np.maximum(least - values.astype(np.float64), values.astype(np.float64) - greatest)
    return float(values[np.argmax(distance)])
