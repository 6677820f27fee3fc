"""How pixel values are stored: data type, nodata, valid range, resampling."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

__all__ = ["DType", "DataFormat", "Pixels", "Resampling", "format_faults"]

Pixels: TypeAlias = NDArray[Any]
DType = Literal["uint8", "int16", "uint16", "int32", "int64", "float32", "float64"]
Resampling = Literal[
    "nearest", "bilinear", "cubic", "cubic_spline", "lanczos", "average", "mode", "max", "min", "med", "q1", "q3"
]


def _one_nan(number: float) -> float:
    """Replace NaN by one object, so that formats with nodata NaN compare equal."""
    return math.nan if math.isnan(number) else number


def format_faults(
    dtype: DType, *, nodata: float, low: float, high: float, names: tuple[str, str, str] = ("nodata", "min", "max")
) -> list[tuple[str, str]]:
    """Check nodata and a valid range against a data type; returns the faults as (name, fault).

    NaN and infinity need a float type. `names` are the caller's names for nodata, low and high.

    >>> format_faults("int16", nodata=-1.5, low=0, high=100000)
    [('nodata', '-1.5 is not a whole number, as int16 needs'), ('max', '100000 does not fit int16 (-32768 to 32767)')]
    >>> format_faults("float32", nodata=math.nan, low=0, high=1)
    []
    """
    numbers = zip(names, (nodata, low, high), strict=True)
    faults = [(name, fault) for name, number in numbers if (fault := _misfit(dtype, number))]
    if not low < high:
        faults.append((names[1], f"{low:g} is not below {names[2]} {high:g}"))
    return faults


def _misfit(dtype: DType, number: float) -> str:
    """Say why a data type cannot hold a number; empty if it can."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        most = float(np.finfo(kind).max)
        fits = not math.isfinite(number) or abs(number) <= most
        return "" if fits else f"{number:g} does not fit {dtype} (-{most:g} to {most:g})"
    least, greatest = int(np.iinfo(kind).min), int(np.iinfo(kind).max)
    if not math.isfinite(number):
        return f"{number:g} cannot be stored as {dtype}"
    if number != int(number):
        return f"{number:g} is not a whole number, as {dtype} needs"
    shown = f"{int(number)} does not fit {dtype} ({least} to {greatest})"
    return "" if least <= int(number) <= greatest else shown


class DataFormat(BaseModel):
    """Storage format of pixel values: data type, nodata, and the range of valid values."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    dtype: DType
    nodata: Annotated[float, AfterValidator(_one_nan)]
    min: float
    max: float

    @model_validator(mode="after")
    def _held(self) -> DataFormat:
        if faults := format_faults(self.dtype, nodata=self.nodata, low=self.min, high=self.max):
            raise ValueError("; ".join(f"{name} {fault}" for name, fault in faults))
        return self

    def valid(self, pixels: Pixels) -> NDArray[np.bool_]:
        """Mask of valid pixels, True where not nodata; in float formats NaN is always nodata."""
        if np.issubdtype(pixels.dtype, np.floating):
            known = ~np.isnan(pixels)
            return known if np.isnan(self.nodata) else known & (pixels != self.nodata)
        return np.asarray(pixels != self.nodata)
