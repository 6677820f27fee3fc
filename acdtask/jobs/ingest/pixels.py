"""The pixels of a source file: read as the plan says, judged, and never taken from a file that changed since."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from acdtask.cube.model import Record
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.ingest.access import Access
from acdtask.jobs.ingest.reading import Reading
from acdtask.jobs.quarantine import Failure, PartlyFailedError
from acdtask.raster.data_format import DataFormat
from acdtask.raster.grid import Grid
from acdtask.raster.quantise import Quantised, quantise
from acdtask.raster.sidecars import marks_beside
from acdtask.raster.source_files import read_masked_strips
from acdtask.storage.store import Store
from acdtask.storage.web import Web

__all__ = ["Input", "Judged", "each_good_one", "judge", "read_again"]

RowT = TypeVar("RowT", bound=BaseModel)
ResultT = TypeVar("ResultT", bound=BaseModel)

FILE_MARK = re.compile(r'(?P<size>\d+) "?[0-9a-f]+(?P<when>-[0-9a-f]+-[0-9a-f]+)"?')
"""The fingerprint of a file of this machine: its size, then inode, time and size."""


class Input(BaseModel):
    """A raster in a shard's work: where it is, what it becomes, and how it is read.

    `beside` has the fingerprints of the files beside it, by ending. `signed` says that its whole address has a query.
    """

    model_config = ConfigDict(ser_json_inf_nan="strings")

    address: str
    fingerprint: str
    grid: Grid
    record: Record
    reading: Reading
    beside: dict[str, str] = {}
    signed: bool = False


class Judged(BaseModel):
    """A raster that is good: the digest of its stored pixels, how many are valid, and how many of these are 0.0."""

    digest: str
    valid: int
    zeros: int


def judge(one: Input, dformat: DataFormat, access: Access) -> Judged:
    """Read every pixel of a raster.

    Args:
        one: the raster.
        dformat: of the variable.
        access: the way to the files of the source.

    Raises:
        AcdError: INPUT_NOT_FINITE, INPUT_OUT_OF_RANGE, INPUT_NODATA_UNKNOWN, INPUT_ALL_NODATA, INPUT_CHANGED.
    """
    return _read(one, dformat, access, None)


def read_again(one: Input, digest: str, dformat: DataFormat, access: Access) -> tuple[NDArray[Any], Judged]:
    """The stored pixels of a raster that was judged, shape (height, width). INPUT_CHANGED if they are others by now."""
    pixels: NDArray[Any] = np.empty(one.grid.shape, dformat.dtype)
    judged = _read(one, dformat, access, pixels)
    if judged.digest != digest:
        raise AcdError(ErrorCode.INPUT_CHANGED, f"{one.address} has other pixels than it had when it was checked")
    return pixels, judged


def _read(one: Input, dformat: DataFormat, access: Access, into: NDArray[Any] | None) -> Judged:
    """Judge every pixel, and keep the stored ones, if there is an array for them."""
    digest = _digest_of(one)
    counts = {"valid": 0, "not_finite": 0, "outside": 0, "nan": 0, "zeros": 0}
    extreme = float("nan")
    for row, strip in _quantised_strips(one, dformat, access):
        digest.update(strip.pixels.tobytes())
        counts = {name: number + getattr(strip, name) for name, number in counts.items()}
        extreme = extreme if np.isnan(strip.extreme) else strip.extreme
        if into is not None:
            into[row : row + strip.pixels.shape[0]] = strip.pixels
    _check(one, counts, extreme)
    zeros = counts["zeros"] if one.reading.dtype.startswith("float") else 0
    return Judged(digest=digest.hexdigest()[:16], valid=counts["valid"], zeros=zeros)


def each_good_one(
    inputs: Sequence[Input],
    work: Callable[[Input], RowT | None],
    result: Callable[[list[RowT]], ResultT],
    progress: Callable[[int], None],
) -> ResultT:
    """The result of what a work makes of each raster. PartlyFailedError with it, if some of them are bad for good."""
    rows: list[RowT] = []
    bad: dict[str, AcdError] = {}
    for done, one in enumerate(inputs, start=1):
        try:
            row = work(one)
        except AcdError as error:
            if error.code.value.retryable or error.code.value.number // 100 != INPUT_ERRORS:
                raise
            bad[one.address] = error
        else:
            rows += [row] if row is not None else []
        progress(done)
    if bad:
        first = next(iter(bad.values()))
        more = f" (and {len(bad) - 1} more files of the shard are bad)" if len(bad) > 1 else ""
        parts = {address: Failure.of(error) for address, error in bad.items()}
        raise PartlyFailedError(AcdError(first.code, first.detail + more, first.fix), result(rows), parts)
    return result(rows)


INPUT_ERRORS = 2
"""The first digit of the numbers of errors that are about one file of the source."""


def _quantised_strips(one: Input, dformat: DataFormat, access: Access) -> Iterator[tuple[int, Quantised]]:
    store, reading = access.store_of(one.address), one.reading
    expected = (one.grid, reading.dtype)
    with _unchanged(one, store):
        how = (reading.band, reading.masks, access.folder, expected, one.fingerprint)
        strips = read_masked_strips(store, one.address, *how)
        for row, strip, mask in strips:
            yield row, quantise(strip, reading.nodata, reading.range, dformat, mask)


def _check(one: Input, counts: dict[str, int], extreme: float) -> None:
    if counts["not_finite"]:
        raise AcdError(ErrorCode.INPUT_NOT_FINITE, f"{one.address} has {counts['not_finite']} infinite pixels")
    if counts["outside"]:
        least, greatest = sorted(one.reading.range)
        detail = f"{one.address} has {counts['outside']} pixels outside {least:g} to {greatest:g}, such as {extreme:g}"
        raise AcdError(ErrorCode.INPUT_OUT_OF_RANGE, detail)
    if not one.reading.knows_nodata and not counts["nan"]:
        detail = f"{one.address} has no nodata value, no mask and no NaN"
        raise AcdError(ErrorCode.INPUT_NODATA_UNKNOWN, detail)
    if not one.reading.knows_nodata and counts["zeros"]:
        detail = f"{one.address} has NaN and {counts['zeros']} pixels that are exactly 0, and no nodata value"
        fix = "Give --source-nodata 0 if 0 means nodata as well, or --source-nodata nan if it is a value."
        raise AcdError(ErrorCode.INPUT_NODATA_UNKNOWN, detail, fix)
    if not counts["valid"]:
        raise AcdError(ErrorCode.INPUT_ALL_NODATA, f"{one.address} has only nodata")


@contextmanager
def _unchanged(one: Input, store: Store | Web) -> Iterator[None]:
    """INPUT_CHANGED if the file is another one before or after it is read than the one that was planned."""
    _check_fingerprint(one, store)
    try:
        yield
    except AcdError as error:
        if error.code is ErrorCode.INPUT_UNREADABLE:
            _check_fingerprint(one, store)  # a file that is being written reads as damaged
        raise
    _check_fingerprint(one, store)
    beside = {ending: _mark(mark) for ending, mark in marks_beside(store, one.address).items()}
    if beside != {ending: _mark(mark) for ending, mark in one.beside.items()}:
        raise AcdError(ErrorCode.INPUT_CHANGED, f"the mask or the metadata beside {one.address} changed meanwhile")


def _check_fingerprint(one: Input, store: Store | Web) -> None:
    if isinstance(store, Web):  # it compares what it fetches, and reads that
        return
    now = store.fingerprint(one.address.rpartition("/")[2])
    if now is None:
        raise AcdError(ErrorCode.INPUT_CHANGED, f"{one.address} was removed after planning")
    if _mark(now) != _mark(one.fingerprint):
        raise AcdError(ErrorCode.INPUT_CHANGED, f"{one.address} is another file than the one that was planned")


def _mark(fingerprint: str) -> str:
    """A fingerprint without the inode, which a network folder may number anew in every pod.

    >>> _mark('4240 "1a2b-62f1-1090"') == _mark('4240 "ffff-62f1-1090"')
    True
    """
    file = FILE_MARK.fullmatch(fingerprint)
    return f"{file['size']}{file['when']}" if file else fingerprint


def _digest_of(one: Input) -> hashlib._Hash:
    return hashlib.sha256(one.grid.model_dump_json().encode())
