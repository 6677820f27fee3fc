"""How the pixels of a raster are read: which band, which pixels are nodata, and what the numbers mean.

All of it comes from the settings, else from the file, what lies beside it and its STAC item; where none of them says
it, the user is asked.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from acdtask.cube.model import Variable
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.ingest.bands import alpha_of, chosen_band
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.ingest.stac_bands import StatedBand, stated_bands
from acdtask.raster.source_files import BandHeader, Header, Masks

__all__ = ["Reading", "reading_of", "readings_in_words"]

FEWEST_STEPS = 50
"""Fewer different numbers than these are no measurement, but a setting that was forgotten."""

KINDS_AT_MOST = 5


class Reading(BaseModel):
    """How the pixels of a raster are read.

    Attributes:
        band: its number, from 1.
        dtype: the band's data type.
        nodata: the values that mean nodata, besides NaN.
        knows_nodata: whether anything says which pixels are nodata; otherwise NaN has to.
        own_mask, alpha, mask_beside: the masks that count, as in `Masks`.
        range: the source values that become the variable's minimum and maximum; descending if the scale is negative.
        said: what is worth saying of it, as phrases.
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

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
        """The masks that count."""
        return Masks(self.own_mask, self.alpha, self.mask_beside)


def reading_of(address: str, header: Header, asset: Mapping[str, Any], settings: IngestSettings) -> Reading:
    """How to read a raster.

    Args:
        address: of the raster.
        header: of the raster.
        asset: its asset in a STAC item; empty if it comes from none.
        settings: they count before what the file and the item say.

    Raises:
        AcdError: INPUT_BANDS, INPUT_RANGE_UNKNOWN, INPUT_CONTRADICTORY, INPUT_NODATA_UNKNOWN, STAC_INVALID,
            SETTING_INVALID for settings that do not fit the file.
    """
    stated = stated_bands(asset, address, header.bands, alpha_of(header))
    number = chosen_band(address, header, stated, settings.variable, settings.band)
    band, item = header.details[number - 1], stated[number - 1]
    if "complex" in band.dtype:
        raise AcdError(ErrorCode.INPUT_BANDS, f"band {number} of {address} is {band.dtype}, not of real numbers")
    said = []
    if header.bands > 1 and not (header.bands == 2 and alpha_of(header, stated)):
        name = " / ".join(dict.fromkeys((band.description, *item.texts))).strip(" /")
        said.append(f"band {number}{f' ({name})' if name else ''} of {header.bands}")
    source_range, what = _range(address, band, item, settings)
    said += [what] if what else []
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
        said=tuple(said),
    )


def readings_in_words(readings: Iterable[Reading]) -> list[str]:
    """What is worth saying of how rasters are read, the most frequent first."""
    counts = Counter(", ".join(one.said) for one in readings)
    every = [f"{count} file{'' if count == 1 else 's'}: {what}" for what, count in counts.most_common() if what]
    more = [f"and {len(every) - KINDS_AT_MOST} more kinds"] if len(every) > KINDS_AT_MOST else []
    return every[:KINDS_AT_MOST] + more


def _nodata(
    address: str, band: BandHeader, item: StatedBand, settings: IngestSettings
) -> tuple[tuple[int | float, ...], bool]:
    """The values that mean nodata, and whether anybody says which pixels do. SETTING_INVALID."""
    told = settings.source_nodata
    if told is not None and not math.isnan(told) and _number_of(band.dtype, told) is None:
        raise AcdError(
            ErrorCode.SETTING_INVALID,
            f"--source-nodata {told:g} is not a value of {address}, which is {band.dtype}",
        )
    values = [told] if told is not None else []
    if settings.file_nodata:
        values += [*band.nodata, *([item.nodata] if item.nodata is not None else [])]
    numbers = [_number_of(band.dtype, value) for value in values]
    known = told is not None or not settings.file_nodata or any(number is not None for number in numbers)
    return tuple(dict.fromkeys(one for one in numbers if one is not None and not math.isnan(one))), known


def _number_of(dtype: str, value: float) -> int | float | None:
    """A value as a number of a data type, or None if the type has no such number."""
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
    """The source values that become the variable's minimum and maximum, and what to say of it."""
    variable = settings.definition()
    scale, offset = _scale_and_offset(address, band, item, settings)
    is_scaled, is_float = (scale, offset) != (1.0, 0.0), band.dtype.startswith("float")
    if settings.source_minimum is not None or settings.source_maximum is not None:
        least, greatest = _told_range(band, is_scaled=is_scaled, settings=settings)
        said = f"range {least:g} to {greatest:g} as told, not the file's scale {scale:g}" if is_scaled else ""
    elif is_scaled:
        least, greatest = _scaled_range(variable, scale, offset)
        is_own = (least, greatest) == (variable.dformat.min, variable.dformat.max)
        said = "" if is_own else f"scale {scale:g}" + (f" and offset {offset:g}" if offset else "")
    elif is_float and _is_unit(variable):
        least, greatest, said = 0.0, 1.0, ""
    else:
        raise _unknown_range(address, band, variable)
    own = not is_float and (least, greatest) == (variable.dformat.min, variable.dformat.max)
    if not own:
        _check_steps(variable)
    return (least, greatest), said


def _scale_and_offset(
    address: str, band: BandHeader, item: StatedBand, settings: IngestSettings
) -> tuple[float, float]:
    """Those of the file or of its item; 1 and 0 if neither says any. INPUT_CONTRADICTORY."""
    file, stac = (band.scale, band.offset), (1.0 if item.scale is None else item.scale, item.offset or 0.0)
    told = settings.source_minimum is not None and settings.source_maximum is not None
    problems = []
    if item.data_type and item.data_type != "other" and item.data_type != band.dtype:
        problems.append(f"is {band.dtype}, and its STAC item says {item.data_type}")
    if (1.0, 0.0) not in (file, stac) and not all(map(math.isclose, file, stac)):
        problems.append(f"has scale {file[0]:g} and offset {file[1]:g}, and its STAC item {stac[0]:g} and {stac[1]:g}")
    chosen = stac if file == (1.0, 0.0) else file
    if not all(map(math.isfinite, chosen)) or chosen[0] == 0 or not _spans(settings.definition(), *chosen):
        problems.append(f"has scale {chosen[0]:g} and offset {chosen[1]:g}, which say nothing")
    if problems and not told:
        raise AcdError(ErrorCode.INPUT_CONTRADICTORY, f"{address} {problems[0]}")
    return chosen


def _spans(variable: Variable, scale: float, offset: float) -> bool:
    """Whether the variable's least and greatest quantity are different numbers of the source, and finite."""
    least, greatest = _scaled_range(variable, scale, offset)
    return math.isfinite(greatest - least) and greatest != least and math.isfinite(1 / (greatest - least))


def _scaled_range(variable: Variable, scale: float, offset: float) -> tuple[float, float]:
    """The source values of the variable's least and greatest quantity; its own format comes out exactly."""
    low, high = variable.dformat.min, variable.dformat.max
    if offset == 0 and math.isclose(scale, variable.scale):
        return low, high
    return (low * variable.scale - offset) / scale, (high * variable.scale - offset) / scale


def _told_range(band: BandHeader, *, is_scaled: bool, settings: IngestSettings) -> tuple[float, float]:
    """The range that the settings say. One side may be missing where there is no doubt of it. SETTING_INVALID."""
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
    """Whether the variable's quantity runs from 0 to 1, so that plain floats are taken for it."""
    low, high = variable.dformat.min * variable.scale, variable.dformat.max * variable.scale
    return math.isclose(low, 0, abs_tol=1e-9) and math.isclose(high, 1)


def _unknown_range(address: str, band: BandHeader, variable: Variable) -> AcdError:
    low, high = variable.dformat.min * variable.scale, variable.dformat.max * variable.scale
    shown = f"{variable.name} runs from {low:g} to {high:g}"
    if band.dtype.startswith("float"):
        detail = f"{address} is {band.dtype} without a scale, and {shown}"
        fix = f"If the numbers are {variable.name} itself, add --source-minimum {low:g} --source-maximum {high:g}."
    else:
        detail = f"{address} is {band.dtype} and does not say which number is which {variable.name}: {shown}"
        example = {"uint8": 255, "int16": 10000}.get(band.dtype, 10000)
        fix = (
            f"Give the numbers of {low:g} and of {high:g}, such as --source-minimum 0 --source-maximum {example}, or "
            "write the scale into the files (gdal_edit -a_scale)."
        )
    return AcdError(ErrorCode.INPUT_RANGE_UNKNOWN, detail, fix)


def _check_steps(variable: Variable) -> None:
    """SETTING_INVALID if nearly all of a measurement would be rounded away."""
    dformat = variable.dformat
    steps = dformat.max - dformat.min
    if np.issubdtype(np.dtype(dformat.dtype), np.integer) and steps < FEWEST_STEPS:
        raise AcdError(
            ErrorCode.SETTING_INVALID,
            f"--minimum {dformat.min:g} to --maximum {dformat.max:g} leaves {steps + 1:g} different numbers of "
            f"{dformat.dtype}, to which all values would be rounded",
            f"Give more of them, such as --maximum {1000 * steps:g} --scale {variable.scale / 1000:g}.",
        )
