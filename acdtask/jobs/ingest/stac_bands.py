"""Bands of a raster as described by its STAC item: their names, and what their numbers mean."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from acdtask.errors import AcdError, ErrorCode

__all__ = ["StatedBand", "stated_bands"]

LISTS = ("bands", "raster:bands", "eo:bands")
"""The band list of STAC 1.1, and those of the STAC 1.0 extensions."""

NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


@dataclass(frozen=True)
class StatedBand:
    """A band as described by an item; None or empty for what is missing."""

    texts: tuple[str, ...] = ()
    data_type: str = ""
    nodata: float | None = None
    scale: float | None = None
    offset: float | None = None


def stated_bands(asset: Mapping[str, Any], address: str, bands: int, alpha: int = 0) -> tuple[StatedBand, ...]:
    """The description of each band of a raster in its STAC asset.

    `asset` is empty if the raster has no item. `bands` is the number of the raster's bands; `alpha` is the number of
    its alpha band, which a list may omit, or 0. STAC_INVALID if a list of bands has another length, or a value is not a
    number.

    >>> (band,) = stated_bands({"raster:bands": [{"nodata": 0, "scale": 0.004}]}, "a.tif", 1)
    >>> band.nodata, band.scale, band.offset
    (0, 0.004, None)
    """
    lists = [_listed(asset, name, address, bands, alpha) for name in LISTS]
    return tuple(_merged(asset, [listed[index] for listed in lists if listed], address) for index in range(bands))


def _listed(asset: Mapping[str, Any], name: str, address: str, bands: int, alpha: int) -> list[Mapping[str, Any]]:
    listed = asset.get(name)
    if listed is None or listed == []:
        return []
    if not isinstance(listed, list) or not all(isinstance(band, dict) for band in listed):
        raise AcdError(ErrorCode.STAC_INVALID, f"in the STAC item of {address}, {name} is not a list of objects")
    if alpha and len(listed) == bands - 1:
        listed = [*listed[: alpha - 1], {}, *listed[alpha - 1 :]]
    if len(listed) != bands:
        raise AcdError(
            ErrorCode.STAC_INVALID,
            f"the STAC item of {address} lists {len(listed)} {name}, but the file has {bands} bands",
            "Correct the item, or ingest the files themselves with a --pattern.",
        )
    return listed


def _merged(asset: Mapping[str, Any], parts: list[Mapping[str, Any]], address: str) -> StatedBand:
    """Merge the descriptions of a band; its own values take precedence over those of the asset."""
    texts = [part[key] for part in parts for key in ("name", "common_name", "description") if key in part]
    return StatedBand(
        texts=tuple(text for text in texts if isinstance(text, str) and text),
        data_type=str(_first([*parts, asset], ("data_type",)) or ""),
        nodata=_number([*parts, asset], ("nodata",), address),
        scale=_number([*parts, asset], ("scale", "raster:scale"), address),
        offset=_number([*parts, asset], ("offset", "raster:offset"), address),
    )


def _first(parts: list[Mapping[str, Any]], names: tuple[str, ...]) -> object:
    values = (part[name] for part in parts for name in names if part.get(name) is not None)
    return next(values, None)


def _number(parts: list[Mapping[str, Any]], names: tuple[str, ...], address: str) -> float | None:
    value = _first(parts, names)
    if isinstance(value, str) and names == ("nodata",):
        value = NOT_FINITE.get(value.lower(), value)
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    raise AcdError(
        ErrorCode.STAC_INVALID, f"the STAC item of {address} has a {names[0]} that is not a number: {value!r}"
    )
