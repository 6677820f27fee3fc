"""From coherence, as people have it in arrays, to the integers that a baseline is exact with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.data_format import DataFormat, DType
from acdtask.raster.quantise import quantise

__all__ = ["DEFAULT_SCALE", "Stored"]

DEFAULT_SCALE = 0.001
"""Floats are stored in thousandths, as `acdtask ingest` stores them."""

WHOLE = 1e-6


@dataclass(frozen=True)
class Stored:
    """How coherence from 0 to 1 is kept as integers: coherence = stored * scale.

    Attributes:
        scale: 1 over a whole number of at most 65534 steps.

    Raises:
        AcdError: SETTING_INVALID for another scale.

    >>> Stored(0.001).greatest, Stored(1 / 255).nodata, Stored(0.00002).dtype
    (1000, -1, 'uint16')
    """

    scale: float = DEFAULT_SCALE

    def __post_init__(self) -> None:
        steps = 1 / self.scale if self.scale > 0 else math.nan
        if not (1 <= steps <= np.iinfo(np.uint16).max - 1 and abs(steps - round(steps)) <= WHOLE * steps):
            raise AcdError(
                ErrorCode.SETTING_INVALID,
                f"scale is {self.scale:g}, and not 1 over a whole number from 1 to 65534",
                "Give the coherence that a stored 1 means, such as 0.001 for images from 0 to 1000.",
            )

    @property
    def greatest(self) -> int:
        """The integer that a coherence of 1 is stored as."""
        return round(1 / self.scale)

    @property
    def dtype(self) -> DType:
        """The type of the integers."""
        return "int16" if self.greatest <= np.iinfo(np.int16).max else "uint16"

    @property
    def nodata(self) -> int:
        """The integer that means no data."""
        return -1 if self.dtype == "int16" else int(np.iinfo(np.uint16).max)

    @property
    def dformat(self) -> DataFormat:
        """The format of the integers, as a variable of a cube has it."""
        return DataFormat(dtype=self.dtype, nodata=self.nodata, min=0, max=self.greatest)

    def of(self, values: NDArray[Any], nodata: float | None, what: str) -> NDArray[Any]:
        """The integers of an array of coherence.

        Args:
            values: floats from 0 to 1, or integers from 0 to `greatest`; what is masked is no data.
            nodata: the value that means no data, besides NaN; None if there is none.
            what: what an error calls the array.

        Raises:
            AcdError: STACK_UNFIT for another type of number, INPUT_NOT_FINITE, INPUT_OUT_OF_RANGE.

        >>> Stored().of(np.array([0.5, np.nan, -9999.0, 0.0]), -9999, "the image")
        array([500,  -1,  -1,   0], dtype=int16)
        """
        missing = np.ma.getmaskarray(values)
        values = np.ma.getdata(values)
        if nodata is not None and not np.isnan(nodata):
            missing = missing | (values == nodata)
        if values.dtype.kind == "f":
            return self._of_floats(np.where(missing, values.dtype.type(np.nan), values), what)
        if values.dtype.kind in "iu":
            return self._of_integers(values, missing, what)
        raise AcdError(ErrorCode.STACK_UNFIT, f"{what} is of type {values.dtype}, neither floats nor integers")

    def _of_floats(self, values: NDArray[Any], what: str) -> NDArray[Any]:
        made = quantise(values, (), (0.0, 1.0), self.dformat)
        if made.not_finite:
            raise AcdError(
                ErrorCode.INPUT_NOT_FINITE,
                f"{what} has {made.not_finite} infinite values",
                "Replace them with NaN, which means no data.",
            )
        if made.outside:
            raise AcdError(
                ErrorCode.INPUT_OUT_OF_RANGE,
                f"{what} has {made.outside} values outside 0 to 1, such as {made.extreme:g}",
                "Give coherence from 0 to 1, and nodata= if a value such as -9999 means no data.",
            )
        return made.pixels

    def _of_integers(self, values: NDArray[Any], missing: NDArray[np.bool_], what: str) -> NDArray[Any]:
        outside = ~missing & ((values < 0) | (values > self.greatest))
        if outside.any():
            raise AcdError(
                ErrorCode.INPUT_OUT_OF_RANGE,
                f"{what} has {int(outside.sum())} values outside 0 to {self.greatest}, such as {values[outside][0]}",
                "Give the scale that makes coherence of them, and nodata= for the value that means no data.",
            )
        kept: NDArray[Any] = np.where(missing, 0, values).astype(self.dtype)
        kept[missing] = self.nodata
        return kept
