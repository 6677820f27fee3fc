"""Checks of a source's names and headers before anything is written."""

from __future__ import annotations

import math

from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.comparable import short_crs
from acdtask.jobs.ingest.pixels import Input
from acdtask.jobs.ingest.reading import Reading, reading_of
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.ingest.sources import Candidate, Unfit

__all__ = ["check_headers", "input_of", "readings_of"]

RESOLUTION_TOLERANCE = 1e-6


def check_headers(candidates: list[Candidate]) -> None:
    """Require one CRS and resolution, and no duplicates.

    INPUT_CRS_MISMATCH, INPUT_RESOLUTION_MISMATCH, INPUT_DUPLICATE.
    """
    if candidates:
        _check_grids(candidates)
        _check_duplicates(candidates)


def input_of(candidate: Candidate, reading: Reading) -> Input:
    """The part of a shard's work that describes one raster."""
    return Input(
        address=candidate.address,
        fingerprint=candidate.fingerprint,
        grid=candidate.grid,
        record=candidate.record,
        reading=reading,
        beside=dict(candidate.header.beside) if candidate.header else {},
        signed=candidate.signed,
    )


def readings_of(
    candidates: list[Candidate], settings: IngestSettings
) -> tuple[list[tuple[Candidate, Reading]], list[Unfit]]:
    """The reading of each opened raster, and the rasters for which it is unclear."""
    readings, unfit = [], []
    for candidate in candidates:
        if candidate.header is None:
            continue
        try:
            reading = reading_of(candidate.address, candidate.header, candidate.asset, settings)
        except AcdError as error:
            if error.code is ErrorCode.SETTING_INVALID:
                raise
            unfit.append(Unfit(candidate.address, candidate.record, error))
        else:
            readings.append((candidate, reading))
    return readings, unfit


def _check_grids(candidates: list[Candidate]) -> None:
    first = candidates[0]
    for candidate in candidates[1:]:
        grid, expected = candidate.grid, first.grid
        if grid.crs != expected.crs:
            raise AcdError(
                ErrorCode.INPUT_CRS_MISMATCH,
                f"{candidate.address} is in {short_crs(grid.crs)}, {first.address} in {short_crs(expected.crs)}",
            )
        is_same = all(
            math.isclose(a, b, rel_tol=RESOLUTION_TOLERANCE)
            for a, b in zip(grid.resolution, expected.resolution, strict=True)
        )
        if not is_same:
            raise AcdError(
                ErrorCode.INPUT_RESOLUTION_MISMATCH,
                f"{candidate.address} has {grid.resolution[0]:g} pixels, {first.address} {expected.resolution[0]:g}",
            )


def _check_duplicates(candidates: list[Candidate]) -> None:
    first_of: dict[object, Candidate] = {}
    for candidate in candidates:
        record, grid = candidate.record, candidate.grid
        pixels = (grid.transform, grid.shape)
        for identity in (record.id, (record.datetime, tuple(sorted(record.tags.items())), pixels)):
            other = first_of.setdefault(identity, candidate)
            if other is not candidate:
                raise AcdError(
                    ErrorCode.INPUT_DUPLICATE,
                    f"{candidate.address} and {other.address} are both {record.datetime.date()} with the same tags",
                )
