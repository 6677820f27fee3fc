"""The images of a cube that was asked for, read in batches."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import numpy as np

from acdtask.cube.local.read import bytes_to_read, read_mosaics
from acdtask.cube.model import CubeRequest, Dataset, Image, Outcome, Variable
from acdtask.errors import AcdError, ErrorCode
from acdtask.storage.store import Store

__all__ = ["read_images"]

Group: TypeAlias = tuple[tuple[str, ...], list[Dataset]]

BYTES_AT_ONCE = 64 * 1024 * 1024
THREADS = min(len(os.sched_getaffinity(0)), 8)

BROKEN = (
    ErrorCode.CUBE_DAMAGED,
    ErrorCode.INPUT_UNREADABLE,
    ErrorCode.GRID_TOO_COARSE,
    ErrorCode.ADDRESS_OUTSIDE,
    ErrorCode.ADDRESS_MALFORMED,
)


def read_images(
    store: Store, request: CubeRequest, variable: Variable, groups: Iterable[Group], *, overviews: bool = False
) -> Iterator[Image]:
    """The image of each group, in order, read as they are asked for.

    Groups are read together as long as their pixels take some 64 MB; how they are put together changes no pixel. When
    a container of a batch is broken, its halves are tried, so that only the groups fail that need it.

    Args:
        store: the cube's store.
        request: grid and resampling.
        variable: whose format the images have.
        groups: ids of records, and the datasets to read.
        overviews: as `read_mosaics`.
    """
    for batch in _batches(request, variable, groups):
        yield from _read(store, request, variable, batch, overviews)


def _batches(request: CubeRequest, variable: Variable, groups: Iterable[Group]) -> Iterator[list[Group]]:
    batch: list[Group] = []
    size = 0
    for group in groups:
        more = bytes_to_read(request.grid, group[1], variable, request.resampling) if group[1] else 0
        if batch and size + more > BYTES_AT_ONCE:
            yield batch
            batch, size = [], 0
        batch.append(group)
        size += more
    if batch:
        yield batch


def _read(
    store: Store, request: CubeRequest, variable: Variable, batch: Sequence[Group], overviews: bool
) -> Iterator[Image]:
    wanted = [datasets for _, datasets in batch if datasets]
    try:
        pixels = read_mosaics(store, request.grid, wanted, variable, request.resampling, THREADS, overviews)
    except AcdError as error:
        if error.code not in BROKEN:
            raise
        if len(batch) == 1:
            yield Image(batch[0][0], Outcome.FAILED, reason=str(error))
            return
        half = len(batch) // 2
        yield from _read(store, request, variable, batch[:half], overviews)
        yield from _read(store, request, variable, batch[half:], overviews)
        return
    valid = variable.dformat.valid
    middles = pixels[..., pixels.shape[-2] // 2, :]
    of_data = np.asarray(valid(middles).any(axis=tuple(range(1, middles.ndim))))  # most images say so there
    images = iter(zip(pixels, of_data, strict=True))
    for ids, datasets in batch:
        if not datasets:
            yield Image(ids, Outcome.ABSENT)
            continue
        image, is_data = next(images)
        yield Image(ids, Outcome.DATA, image) if is_data or valid(image).any() else Image(ids, Outcome.NODATA)
