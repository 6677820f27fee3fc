"""What is checked of a source before anything is written."""

from __future__ import annotations

import math

from acdtask.cube.local.rasters import Header
from acdtask.cube.model import DataFormat
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.ingest.sources import Candidate

__all__ = ["check_headers", "source_nodata_of", "source_range_of"]

RESOLUTION_TOLERANCE = 1e-6


def check_headers(candidates: list[Candidate], settings: IngestSettings) -> None:
    """Raise for the first thing in names and headers that does not fit together.

    INPUT_BANDS, INPUT_NODATA_UNKNOWN, INPUT_CRS_MISMATCH, INPUT_RESOLUTION_MISMATCH, INPUT_DUPLICATE.
    """
    for candidate in candidates:
        header = candidate.header
        if header is None:
            continue
        if settings.band > header.bands:
            raise AcdError(
                ErrorCode.INPUT_BANDS, f"{candidate.address} has {header.bands} bands, not band {settings.band}"
            )
        if "complex" in header.dtype:
            raise AcdError(ErrorCode.INPUT_BANDS, f"{candidate.address} is {header.dtype}, not a real number")
        source_nodata_of(candidate.address, header, settings)
    _check_grids(candidates)
    _check_duplicates(candidates)


def source_nodata_of(address: str, header: Header, settings: IngestSettings) -> float:
    """The source value that means nodata: the setting's, else the file's. INPUT_NODATA_UNKNOWN."""
    nodata = settings.source_nodata if settings.source_nodata is not None else header.nodata
    if nodata is None:
        raise AcdError(ErrorCode.INPUT_NODATA_UNKNOWN, f"{address} has no nodata value")
    return float(nodata)


def source_range_of(dtype: str, settings: IngestSettings, dformat: DataFormat) -> tuple[float, float]:
    """The source values that become the least and the greatest valid value: 0 and 1 for float rasters by default."""
    default = (0.0, 1.0) if dtype.startswith("float") else (dformat.min, dformat.max)
    least = default[0] if settings.source_minimum is None else settings.source_minimum
    greatest = default[1] if settings.source_maximum is None else settings.source_maximum
    if not least < greatest:
        raise AcdError(ErrorCode.SETTING_INVALID, f"source_minimum {least:g} is not below source_maximum {greatest:g}")
    return least, greatest


def _check_grids(candidates: list[Candidate]) -> None:
    first = candidates[0]
    for candidate in candidates[1:]:
        here, there = candidate.grid, first.grid
        if here.crs != there.crs:
            raise AcdError(
                ErrorCode.INPUT_CRS_MISMATCH,
                f"{candidate.address} is in {_short(here.crs)}, {first.address} in {_short(there.crs)}",
            )
        same = all(
            math.isclose(a, b, rel_tol=RESOLUTION_TOLERANCE)
            for a, b in zip(here.resolution, there.resolution, strict=True)
        )
        if not same:
            raise AcdError(
                ErrorCode.INPUT_RESOLUTION_MISMATCH,
                f"{candidate.address} has pixels of {here.resolution[0]:g}, {first.address} of {there.resolution[0]:g}",
            )


def _check_duplicates(candidates: list[Candidate]) -> None:
    seen: dict[object, Candidate] = {}
    for candidate in candidates:
        record, grid = candidate.record, candidate.grid
        where = (grid.transform, grid.shape)
        for identity in (record.id, (record.datetime, tuple(sorted(record.tags.items())), where)):
            other = seen.setdefault(identity, candidate)
            if other is not candidate:
                raise AcdError(
                    ErrorCode.INPUT_DUPLICATE,
                    f"{candidate.address} and {other.address} are both {record.datetime.date()} with the same tags",
                )


def _short(crs: str) -> str:
    return crs if len(crs) < 40 else f"{crs[:37]}..."
