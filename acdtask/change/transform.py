"""Transforms: the function of an image's values that is compared with the baseline instead of the values themselves.

A z-score measures a difference, so it suits values whose noise is about the same everywhere. Two that are not so:

- Coherence: its noise is small near 1. Fisher's z-transform `arctanh(x)` makes it about constant (R. A. Fisher,
  Metron 1 (1921), 3-32).
- Intensities, such as linear backscatter: speckle multiplies them. `log` is 10 log10(x), in decibels, where noise adds
  (H. H. Arsenault and G. April, J. Opt. Soc. Am. 66 (1976), 1160-1163).

Moments are exact sums of integers, so a transform maps stored integers to stored integers: a table with an entry for
each possible value, in fixed steps that are far finer than the noise. Its entries are the same on every machine.

Where the function has no value at the end of the range (arctanh of 1, log of 0), the value half a stored unit inside is
taken: a stored 1000 of 0 to 1000 means 0.9995 or more.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from acdtask.change.moments import stored_nodata
from acdtask.errors import AcdError, ErrorCode

__all__ = ["NODATA", "STEPS", "TRANSFORM", "Transform", "Transformation"]

Transformation: TypeAlias = Literal["none", "arctanh", "log"]

TRANSFORM = (
    "function of the values to use instead of them, the same in baseline and monitor: arctanh (coherence), or log "
    "(intensities, in dB)"
)
"""Description of the setting."""

STEPS = {"arctanh": 0.0002, "log": 0.01}
"""Transformed value of a stored unit: without unit for arctanh, dB for log."""

UNITS = {"arctanh": "", "log": "dB"}

NODATA = -32768
"""Nodata of transformed images, which are int16."""

_DECIMALS = Context(prec=28)
_LARGEST = 32767
_DOUBTFUL = 1e-5
"""Distance from the middle between two integers, far above the error of double precision."""


@dataclass(frozen=True, eq=False)
class Transform:
    """The transform of a variable, from stored values to int16.

    Attributes:
        name: arctanh or log.
        table: shape (valid values,), int16, increasing: the transformed integer of each, from the smallest.
        lookup: the same for all values of the variable's type, by their bits as an unsigned integer; NODATA for nodata
            and values outside the valid range.
        stored_scale: physical value of a stored unit before the transform.

    >>> transform = Transform.of("log", "uint16", nodata=0, valid_range=(1, 10000), scale=0.001)
    >>> transform.apply(np.array([[0, 1000, 10, 10000]], np.uint16))
    array([[-32768,      0,  -2000,   1000]], dtype=int16)
    >>> transform.valid_range, transform.scale, transform.unit
    ((-3000, 1000), 0.01, 'dB')
    """

    name: str
    table: NDArray[np.int16]
    lookup: NDArray[np.int16]
    stored_scale: float

    @classmethod
    def of(
        cls, name: Transformation, dtype: str, *, nodata: float | None, valid_range: tuple[float, float], scale: float
    ) -> Transform:
        """The transform of a variable.

        Args:
            name: arctanh or log.
            dtype: data type of the variable, integers of 8 or 16 bits.
            nodata: the variable's nodata, or None.
            valid_range: minimum and maximum valid stored value.
            scale: physical = stored * scale.

        Raises:
            AcdError: INPUT_BANDS for another data type, SETTING_INVALID if the range is not in the function's domain.
        """
        kind = np.dtype(dtype)
        if kind.kind not in "iu" or kind.itemsize > 2:
            raise AcdError(
                ErrorCode.INPUT_BANDS,
                f"transform {name} needs integers of 8 or 16 bits, and the images are {dtype}",
                "Store the variable as integers of 8 or 16 bits, with a scale.",
            )
        first, last = int(valid_range[0]), int(valid_range[1])
        _require_domain(name, first, last, scale)
        table = _table(name, first, last, repr(float(scale)))
        lookup = np.full(2 ** (8 * kind.itemsize), NODATA, np.int16)
        lookup[_bits(np.arange(first, last + 1).astype(kind))] = table
        missing = stored_nodata(nodata, kind)
        if missing is not None:
            lookup[_bits(np.array([missing], kind))] = NODATA
        return cls(name, table, lookup, scale)

    @property
    def valid_range(self) -> tuple[int, int]:
        """Minimum and maximum of the transformed integers."""
        return int(self.table[0]), int(self.table[-1])

    @property
    def scale(self) -> float:
        """Transformed value = transformed integer * scale."""
        return STEPS[self.name]

    @property
    def unit(self) -> str:
        """Unit of the transformed value."""
        return UNITS[self.name]

    def apply(self, images: NDArray[Any]) -> NDArray[np.int16]:
        """Transform stored integers of any shape. Nodata, and values outside the valid range, become NODATA.

        Args:
            images: of the variable's data type.
        """
        transformed: NDArray[np.int16] = self.lookup[_bits(images)]
        return transformed

    def of_physical(self, values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Transform physical values, for pictures only: not the same bits on every machine. NaN stays NaN."""
        half = self.stored_scale / 2
        return _decibels(values, half) if self.name == "log" else _arctanh(values, half)


def _bits(stored: NDArray[Any]) -> NDArray[np.unsignedinteger[Any]]:
    """Integers of 8 or 16 bits, read as unsigned."""
    return stored.view(np.uint8 if stored.dtype.itemsize == 1 else np.uint16)


def _decibels(values: NDArray[np.floating[Any]], half: float) -> NDArray[np.float64]:
    return 10 * np.log10(np.maximum(values.astype(np.float64), half))


def _arctanh(values: NDArray[np.floating[Any]], half: float) -> NDArray[np.float64]:
    return np.arctanh(np.clip(values.astype(np.float64), half - 1, 1 - half))


def _require_domain(name: str, first: int, last: int, scale: float) -> None:
    if name == "log" and first < 0:
        raise AcdError(
            ErrorCode.SETTING_INVALID,
            f"transform is log, but the variable's valid values begin at {first * scale:g}",
            "Use log for intensities from 0 up; values that are in decibels already need no transform.",
        )
    if name == "arctanh" and max(-first, last) > (1 + scale / 2) / scale:
        raise AcdError(
            ErrorCode.SETTING_INVALID,
            f"transform is arctanh, but the variable's valid values go from {first * scale:g} to {last * scale:g}",
            "Use arctanh for values from -1 to 1, such as coherence.",
        )


@lru_cache(maxsize=8)
def _table(name: str, first: int, last: int, scale: str) -> NDArray[np.int16]:
    """The transformed integers of the stored values from first to last; `scale` is the shortest decimal of the scale.

    The last bit of a C library's logarithm differs between machines. It only matters where the value is near the middle
    between two integers, so these entries are computed with decimals.
    """
    limit = Decimal(scale) / 2
    numbers = np.arange(first, last + 1, dtype=np.float64) * float(scale)
    half = float(limit)
    steps = (_decibels if name == "log" else _arctanh)(numbers, half) / STEPS[name]
    if np.abs(steps).max() > _LARGEST:
        raise AcdError(
            ErrorCode.SETTING_INVALID,
            f"transform {name} of values from {numbers[0]:g} to {numbers[-1]:g} does not fit 16 bits",
            "Ingest the variable with a larger --scale.",
        )
    table = np.rint(steps).astype(np.int16)
    for index in np.flatnonzero(np.abs(steps - np.floor(steps) - 0.5) < _DOUBTFUL).tolist():
        table[index] = _exact(name, (first + index) * Decimal(scale), limit)
    table.setflags(write=False)
    return table


def _exact(name: str, value: Decimal, half: Decimal) -> int:
    """A table entry from correctly rounded decimals."""
    if name == "log":
        transformed = 10 * _DECIMALS.log10(max(value, half))
    else:
        inside = min(max(value, half - 1), 1 - half)
        transformed = _DECIMALS.ln(_DECIMALS.divide(1 + inside, 1 - inside)) / 2
    return int((transformed / Decimal(repr(STEPS[name]))).to_integral_value(ROUND_HALF_EVEN))
