"""Checks of a source's names and headers before anything is written."""

from __future__ import annotations

import math

from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.comparable import short_crs
from acdtask.jobs.ingest.pixels import Input
from acdtask.jobs.ingest.reading import Reading, reading_of
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.ingest.sources import Candidate
from acdtask.jobs.ingest.unusable import Unusable

__all__ = ["check_headers", "input_of", "readings_of"]

RESOLUTION_TOLERANCE = 1e-6


def check_headers(candidates: list[Candidate]) -> tuple[list[Candidate], list[Unusable]]:
    """Separate the rasters that have the CRS and resolution of most, and no duplicate, from the others.

    INPUT_CRS_MISMATCH or INPUT_RESOLUTION_MISMATCH if no CRS and resolution is that of most rasters.
    """
    fitting, unusable = _of_most_grids(candidates)
    distinct, duplicates = _without_duplicates(fitting)
    return distinct, [*unusable, *duplicates]


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
) -> tuple[list[tuple[Candidate, Reading]], list[Unusable]]:
    """The reading of each opened raster, and the rasters for which it is unclear."""
    readings, unusable = [], []
    for candidate in candidates:
        if candidate.header is None:
            continue
        try:
            reading = reading_of(candidate.address, candidate.header, candidate.asset, settings)
        except AcdError as error:
            if error.code is ErrorCode.SETTING_INVALID:
                raise
            unusable.append(Unusable(candidate.address, candidate.record, error))
        else:
            readings.append((candidate, reading))
    return readings, unusable


def _of_most_grids(candidates: list[Candidate]) -> tuple[list[Candidate], list[Unusable]]:
    """The rasters with the CRS and resolution of more than half, and the others. If there is no such half, an error."""
    if not candidates:
        return [], []
    groups: list[list[Candidate]] = []
    for candidate in candidates:
        group = next((group for group in groups if _mismatch(candidate, group[0]) is None), None)
        if group is None:
            groups.append([candidate])
        else:
            group.append(candidate)
    most = max(groups, key=len)
    is_decided = 2 * len(most) > len(candidates)
    expected = most[0] if is_decided else candidates[0]
    mismatches = [(candidate, _mismatch(candidate, expected)) for candidate in candidates]
    unusable = [Unusable(file.address, file.record, error) for file, error in mismatches if error is not None]
    if unusable and not is_decided:
        raise unusable[0].error
    return most, unusable


def _mismatch(candidate: Candidate, other: Candidate) -> AcdError | None:
    """The error if two rasters differ in CRS or resolution."""
    grid, expected = candidate.grid, other.grid
    if grid.crs != expected.crs:
        return AcdError(
            ErrorCode.INPUT_CRS_MISMATCH,
            f"{candidate.address} is in {short_crs(grid.crs)}, {other.address} in {short_crs(expected.crs)}",
        )
    is_same = all(
        math.isclose(a, b, rel_tol=RESOLUTION_TOLERANCE)
        for a, b in zip(grid.resolution, expected.resolution, strict=True)
    )
    if is_same:
        return None
    return AcdError(
        ErrorCode.INPUT_RESOLUTION_MISMATCH,
        f"{candidate.address} has {grid.resolution[0]:g} pixels, {other.address} {expected.resolution[0]:g}",
    )


def _without_duplicates(candidates: list[Candidate]) -> tuple[list[Candidate], list[Unusable]]:
    """The rasters that are alone in being their record, and the others: nothing says which of them is right.

    Rasters with the same time, tags and pixels are duplicates too, whatever their names.
    """
    first_of: dict[object, Candidate] = {}
    errors: dict[str, AcdError] = {}
    for candidate in candidates:
        record, grid = candidate.record, candidate.grid
        pixels = (grid.transform, grid.shape)
        for identity in (record.id, (record.datetime, tuple(sorted(record.tags.items())), pixels)):
            other = first_of.setdefault(identity, candidate)
            if other is candidate:
                continue
            detail = f"{candidate.address} and {other.address} are both {record.datetime.date()} with the same tags"
            for duplicate in (other, candidate):
                errors.setdefault(duplicate.address, AcdError(ErrorCode.INPUT_DUPLICATE, detail))
    return (
        [candidate for candidate in candidates if candidate.address not in errors],
        [
            Unusable(candidate.address, candidate.record, errors[candidate.address])
            for candidate in candidates
            if candidate.address in errors
        ],
    )
