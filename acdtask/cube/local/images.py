"""Reads the images of a request in batches."""

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

FAILURES_OF_AN_IMAGE = (
    ErrorCode.CUBE_DAMAGED,
    ErrorCode.INPUT_UNREADABLE,
    ErrorCode.GRID_TOO_COARSE,
    ErrorCode.ADDRESS_OUTSIDE,
    ErrorCode.ADDRESS_MALFORMED,
)
"""Errors of a container or a grid, which only affect some images."""


def read_images(
    store: Store, request: CubeRequest, variable: Variable, groups: Iterable[Group], *, overviews: bool = False
) -> Iterator[Image]:
    """Read the image of each group, in order. A batch is read when its first image is requested.

    The groups of a batch have about 64 MiB of pixels. Batches do not affect the results. If a container of a batch is
    damaged, the batch is halved and read again, so that only the groups fail that need the container. Grid and
    resampling are those of the request; `overviews` is as in `read_mosaics`.
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
        if error.code not in FAILURES_OF_AN_IMAGE:
            raise
        if len(batch) == 1:
            yield Image(batch[0][0], Outcome.FAILED, reason=str(error))
            return
        half = len(batch) // 2
        yield from _read(store, request, variable, batch[:half], overviews)
        yield from _read(store, request, variable, batch[half:], overviews)
        return
    valid = variable.dformat.valid
    # The middle row is tested first: in most images it has a valid pixel, so the others need not be tested.
    middles = pixels[..., pixels.shape[-2] // 2, :]
    has_data = np.asarray(valid(middles).any(axis=tuple(range(1, middles.ndim))))
    images = iter(zip(pixels, has_data, strict=True))
    for ids, datasets in batch:
        if not datasets:
            yield Image(ids, Outcome.ABSENT)
            continue
        image, is_known = next(images)
        yield Image(ids, Outcome.DATA, image) if is_known or valid(image).any() else Image(ids, Outcome.NODATA)
