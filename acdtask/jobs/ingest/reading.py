"""How to read a raster: which band, which pixels are nodata, and what the numbers mean.

Settings take precedence over the file, its sidecar files and its STAC item. Where none of them is clear, an error asks
the user.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from pydantic import BaseModel

from acdtask.cube.model import Variable
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.ingest.bands import alpha_of, chosen_band
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.ingest.stac_bands import StatedBand, stated_bands
from acdtask.raster.source_files import BandHeader, Header, Masks

__all__ = ["Reading", "describe_readings", "reading_of"]

MIN_STEPS = 50
"""A variable with fewer distinct values is a forgotten setting, not a measurement."""

KINDS_SHOWN = 5


class Reading(BaseModel, frozen=True, ser_json_inf_nan="strings"):
    """How to read the pixels of a raster.

    Attributes:
        band: the band's number, from 1.
        dtype: the band's data type.
        nodata: the values that mean nodata, besides NaN.
        knows_nodata: whether settings, file or item define nodata; if not, the raster must have NaN.
        own_mask, alpha, mask_beside: the masks to apply, as in `Masks`.
        range: the source values that map to the variable's minimum and maximum; descending if the scale is negative.
        said: remarks for the user, as phrases.
    """

    band: int
    dtype: str
    nodata: tuple[int | float, ...]
    knows_nodata: bool
    own_mask: bool
    alpha: int
    mask_beside: bool
    range: tuple[float, float]
    said: tuple[str, ...] = ()

    @property
    def masks(self) -> Masks:
        """The masks to apply."""
        return Masks(self.own_mask, self.alpha, self.mask_beside)


def reading_of(address: str, header: Header, asset: Mapping[str, Any], settings: IngestSettings) -> Reading:
    """Decide how to read a raster.

    `asset` is the raster's asset in its STAC item; empty if it has none. INPUT_BANDS, INPUT_RANGE_UNKNOWN,
    INPUT_CONTRADICTORY, INPUT_NODATA_UNKNOWN, STAC_INVALID, SETTING_INVALID for settings that do not fit the file.
    """
    stated = stated_bands(asset, address, header.bands, alpha_of(header))
    number = chosen_band(address, header, stated, settings.variable, settings.band)
    band, item = header.details[number - 1], stated[number - 1]
    if "complex" in band.dtype:
        raise AcdError(ErrorCode.INPUT_BANDS, f"band {number} of {address} is {band.dtype}, not real")
    remarks = []
    if header.bands > 1 and not (header.bands == 2 and alpha_of(header, stated)):
        name = " / ".join(dict.fromkeys((band.description, *item.texts))).strip(" /")
        remarks.append(f"band {number}{f' ({name})' if name else ''} of {header.bands}")
    source_range, remark = _range(address, band, item, settings)
    remarks += [remark] if remark else []
    nodata, knows = _nodata(address, band, item, settings)
    alpha = alpha_of(header, stated)
    masks = Masks(band.masked, alpha if alpha != number else 0, header.mask_file) if settings.file_nodata else Masks()
    if not (knows or masks) and not np.issubdtype(np.dtype(band.dtype), np.floating):
        raise AcdError(ErrorCode.INPUT_NODATA_UNKNOWN, f"{address} has neither a nodata value nor a mask")
    return Reading(
        band=number,
        dtype=band.dtype,
        nodata=nodata,
        knows_nodata=bool(knows or masks),
        own_mask=masks.own,
        alpha=masks.alpha,
        mask_beside=masks.beside,
        range=source_range,
        said=tuple(remarks),
    )


def describe_readings(readings: Iterable[Reading]) -> list[str]:
    """Remarks on how rasters are read, the most frequent first."""
    counts = Counter(", ".join(reading.said) for reading in readings)
    descriptions = [f"{count} file{'' if count == 1 else 's'}: {text}" for text, count in counts.most_common() if text]
    more = [f"and {len(descriptions) - KINDS_SHOWN} more kinds"] if len(descriptions) > KINDS_SHOWN else []
    return descriptions[:KINDS_SHOWN] + more


def _nodata(
    address: str, band: BandHeader, item: StatedBand, settings: IngestSettings
) -> tuple[tuple[int | float, ...], bool]:
    """The values that mean nodata, and whether nodata is defined at all. SETTING_INVALID."""
    given = settings.source_nodata
    if given is not None and not math.isnan(given) and _number_of(band.dtype, given) is None:
        raise AcdError(
            ErrorCode.SETTING_INVALID,
            f"--source-nodata {given:g} is not a value of {address}, which is {band.dtype}",
        )
    candidates = [given] if given is not None else []
    if settings.file_nodata:
        candidates += [*band.nodata, *([item.nodata] if item.nodata is not None else [])]
    values = [_number_of(band.dtype, value) for value in candidates]
    known = given is not None or not settings.file_nodata or any(number is not None for number in values)
    return tuple(dict.fromkeys(value for value in values if value is not None and not math.isnan(value))), known


def _number_of(dtype: str, value: float) -> int | float | None:
    """A value as a number of a data type, or None if the type cannot represent it."""
    kind = np.dtype(dtype)
    if np.issubdtype(kind, np.floating):
        most = float(np.finfo(kind).max)
        return float(kind.type(value)) if not math.isfinite(value) or abs(value) <= most else None
    if not math.isfinite(value) or value != int(value):
        return None
    return int(value) if np.iinfo(kind).min <= int(value) <= np.iinfo(kind).max else None


def _range(
    address: str, band: BandHeader, item: StatedBand, settings: IngestSettings
) -> tuple[tuple[float, float], str]:
    """The source values that map to the variable's minimum and maximum, and a remark or ""."""
    variable = settings.definition()
    scale, offset = _scale_and_offset(address, band, item, settings)
    is_scaled, is_float = (scale, offset) != (1.0, 0.0), band.dtype.startswith("float")
    if settings.source_minimum is not None or settings.source_maximum is not None:
        least, greatest = _given_range(band, is_scaled=is_scaled, settings=settings)
        remark = f"range {least:g} to {greatest:g} as given, not the file's scale {scale:g}" if is_scaled else ""
    elif is_scaled:
        least, greatest = _scaled_range(variable, scale, offset)
        is_own = (least, greatest) == (variable.dformat.min, variable.dformat.max)
        remark = "" if is_own else f"scale {scale:g}" + (f" and offset {offset:g}" if offset else "")
    elif is_float and _is_unit(variable):
        least, greatest, remark = 0.0, 1.0, ""
    else:
        raise _unknown_range(address, band, variable)
    own = not is_float and (least, greatest) == (variable.dformat.min, variable.dformat.max)
    if not own:
        _check_steps(variable)
    return (least, greatest), remark


def _scale_and_offset(
    address: str, band: BandHeader, item: StatedBand, settings: IngestSettings
) -> tuple[float, float]:
    """Scale and offset of the file or its STAC item; 1 and 0 if neither has them. INPUT_CONTRADICTORY."""
    file, stac = (band.scale, band.offset), (1.0 if item.scale is None else item.scale, item.offset or 0.0)
    is_given = settings.source_minimum is not None and settings.source_maximum is not None
    problems = []
    if item.data_type and item.data_type != "other" and item.data_type != band.dtype:
        problems.append(f"is {band.dtype}, but its STAC item says {item.data_type}")
    if (1.0, 0.0) not in (file, stac) and not all(map(math.isclose, file, stac)):
        problems.append(f"has scale {file[0]:g} and offset {file[1]:g}, but its STAC item {stac[0]:g} and {stac[1]:g}")
    chosen = stac if file == (1.0, 0.0) else file
    if not all(map(math.isfinite, chosen)) or chosen[0] == 0 or not _spans(settings.definition(), *chosen):
        problems.append(f"has scale {chosen[0]:g} and offset {chosen[1]:g}, which are not usable")
    if problems and not is_given:
        raise AcdError(ErrorCode.INPUT_CONTRADICTORY, f"{address} {problems[0]}")
    return chosen


def _spans(variable: Variable, scale: float, offset: float) -> bool:
    """Whether the variable's minimum and maximum map to distinct, finite source values."""
    least, greatest = _scaled_range(variable, scale, offset)
    return math.isfinite(greatest - least) and greatest != least and math.isfinite(1 / (greatest - least))


def _scaled_range(variable: Variable, scale: float, offset: float) -> tuple[float, float]:
    """The source values of the variable's minimum and maximum; exact if the source has the variable's format."""
    low, high = variable.dformat.min, variable.dformat.max
    if offset == 0 and math.isclose(scale, variable.scale):
        return low, high
    return (low * variable.scale - offset) / scale, (high * variable.scale - offset) / scale


def _given_range(band: BandHeader, *, is_scaled: bool, settings: IngestSettings) -> tuple[float, float]:
    """The range in the settings. One side may be omitted where it is unambiguous. SETTING_INVALID."""
    least, greatest = settings.source_minimum, settings.source_maximum
    plain_unit = band.dtype.startswith("float") and not is_scaled and _is_unit(settings.definition())
    if least is None and (plain_unit or settings.minimum == 0):
        least = 0.0
    if greatest is None and plain_unit:
        greatest = 1.0
    if least is None or greatest is None:
        names = ["--source-minimum", "--source-maximum"]
        given, other = names if greatest is None else reversed(names)
        raise AcdError(ErrorCode.SETTING_INVALID, f"{given} needs {other} for these rasters")
    if not least < greatest:
        raise AcdError(
            ErrorCode.SETTING_INVALID, f"--source-minimum {least:g} is not below --source-maximum {greatest:g}"
        )
    return least, greatest


def _is_unit(variable: Variable) -> bool:
    """Whether the variable's quantity runs from 0 to 1, so that plain floats are read as the quantity."""
    low, high = variable.dformat.min * variable.scale, variable.dformat.max * variable.scale
    return math.isclose(low, 0, abs_tol=1e-9) and math.isclose(high, 1)


def _unknown_range(address: str, band: BandHeader, variable: Variable) -> AcdError:
    low, high = variable.dformat.min * variable.scale, variable.dformat.max * variable.scale
    shown = f"{variable.name} runs from {low:g} to {high:g}"
    if band.dtype.startswith("float"):
        detail = f"{address} is {band.dtype} without a scale, but {shown}"
        fix = f"If the values are {variable.name} itself, add --source-minimum {low:g} --source-maximum {high:g}."
    else:
        detail = f"{address} is {band.dtype} and does not say how its values map to {variable.name}: {shown}"
        example = {"uint8": 255, "int16": 10000}.get(band.dtype, 10000)
        fix = (
            f"Give the values for {low:g} and {high:g}, such as --source-minimum 0 --source-maximum {example}, or "
            "write the scale into the files (gdal_edit -a_scale)."
        )
    return AcdError(ErrorCode.INPUT_RANGE_UNKNOWN, detail, fix)


def _check_steps(variable: Variable) -> None:
    """Require enough distinct values, so that rounding keeps the measurement. SETTING_INVALID."""
    dformat = variable.dformat
    steps = dformat.max - dformat.min
    if np.issubdtype(np.dtype(dformat.dtype), np.integer) and steps < MIN_STEPS:
        raise AcdError(
            ErrorCode.SETTING_INVALID,
            f"--minimum {dformat.min:g} to --maximum {dformat.max:g} leaves only {steps + 1:g} values of "
            f"{dformat.dtype}, to which all pixels would be rounded",
            f"Use a finer scale, such as --maximum {1000 * steps:g} --scale {variable.scale / 1000:g}.",
        )
