"""Conversion of a container's numbers to those of a variable."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from acdtask.cube.model import Dataset
from acdtask.raster.data_format import DataFormat, Pixels

__all__ = ["Mapping"]

Numbers: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_]

LOOKUP_BYTES = 2
"""Numbers of up to this many bytes are converted with a lookup table."""

SNAP = 4096.0
"""Warped values are first rounded to multiples of 1/4096, so that ties do not depend on a coordinate's last bit."""


@dataclass(frozen=True)
class Mapping:
    """Converts numbers from a container's data format to a variable's; see `Dataset` for the formula.

    Integers are rounded half to even, and clipped only to the range of their dtype.

    Attributes:
        real: what the ends of the container's range are in the variable's numbers.

    >>> source = DataFormat(dtype="uint8", nodata=255, min=0, max=250)
    >>> target = DataFormat(dtype="int16", nodata=-1, min=0, max=1000)
    >>> Mapping(source, target, (0, 1000)).whole(np.array([0, 1, 250, 255], dtype="uint8"))
    array([   0,    4, 1000,   -1], dtype=int16)
    """

    source: DataFormat
    target: DataFormat
    real: tuple[float, float]
    exponent: float = 1.0
    is_linear: bool = field(init=False)
    keeps_range: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_linear", self.exponent == 1.0)
        object.__setattr__(self, "keeps_range", self.is_linear and self.real == (self.source.min, self.source.max))

    @classmethod
    def of(cls, dataset: Dataset, target: DataFormat) -> Mapping:
        """The mapping from a dataset to its variable's format."""
        return _mapping(dataset.dformat, target, dataset.real, dataset.exponent)

    @property
    def is_identity(self) -> bool:
        """Whether every pixel stays unchanged, nodata included."""
        # NaN always counts as nodata (`DataFormat.valid`), so with another nodata value it must be replaced.
        known = np.dtype(self.source.dtype).kind != "f" or np.isnan(self.source.nodata)
        same = self.source.dtype == self.target.dtype and _same(self.source.nodata, self.target.nodata)
        return self.keeps_range and same and bool(known)

    def whole(self, pixels: Pixels) -> Pixels:
        """Convert pixels to the variable's numbers, and nodata to its nodata. May return the same array."""
        if self.is_identity:
            return pixels
        dtype = np.dtype(self.source.dtype)
        if dtype.itemsize > LOOKUP_BYTES or pixels.dtype != dtype:
            return self._calculated(pixels)
        unsigned = pixels.view(f"u{dtype.itemsize}") if dtype.kind == "i" else pixels
        return np.take(_table(self), unsigned)

    def apply(self, pixels: Pixels) -> tuple[Pixels, Mask]:
        """The variable's numbers (undefined where not valid), and the mask of valid pixels."""
        return self.whole(pixels), self.source.valid(pixels)

    def numbers(self, values: Numbers) -> Numbers:
        """Convert valid numbers of the container to numbers of the variable, without rounding."""
        if self.keeps_range:
            return values
        low, high = self.real
        span = self.source.max - self.source.min
        if self.is_linear:
            return (values - self.source.min) * (high - low) / span + low
        return np.clip((values - self.source.min) / span, 0.0, 1.0) ** self.exponent * (high - low) + low

    def rounded(self, values: Numbers, *, snap: bool = False) -> Pixels:
        """Round numbers of the variable to its dtype; `snap` (see SNAP) if they were warped."""
        dtype = np.dtype(self.target.dtype)
        if dtype.kind == "f":
            with np.errstate(over="ignore"):
                return values.astype(dtype)
        if snap:
            values = np.rint(values * SNAP) / SNAP
        limits = np.iinfo(dtype)
        return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)

    def _calculated(self, pixels: Pixels) -> Pixels:
        valid = self.source.valid(pixels)
        if self.keeps_range and np.can_cast(pixels.dtype, self.target.dtype):
            values: Pixels = pixels.astype(self.target.dtype)
        else:
            values = self.rounded(self.numbers(np.where(valid, pixels, self.source.min).astype(np.float64)))
        values[~valid] = self.target.nodata
        return values


@lru_cache(maxsize=256)
def _mapping(source: DataFormat, target: DataFormat, real: tuple[float, float] | None, exponent: float) -> Mapping:
    return Mapping(source, target, real or (target.min, target.max), exponent)


@lru_cache(maxsize=64)
def _table(mapping: Mapping) -> Pixels:
    """The lookup table: the result for every number of the source, indexed by its bits as an unsigned integer."""
    dtype = np.dtype(mapping.source.dtype)
    table = mapping._calculated(np.arange(2 ** (8 * dtype.itemsize), dtype=f"u{dtype.itemsize}").view(dtype))
    table.flags.writeable = False
    return table


def _same(first: float, second: float) -> bool:
    return first == second or (np.isnan(first) and np.isnan(second))
