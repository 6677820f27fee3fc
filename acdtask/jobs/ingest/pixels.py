"""The pixels of a source file: read as planned, checked, and refused if the file changed after planning."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from acdtask.cube.model import Record
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.ingest.access import Access
from acdtask.jobs.ingest.reading import Reading
from acdtask.jobs.quarantine import Failure, UnusableInputsError
from acdtask.raster.data_format import DataFormat
from acdtask.raster.grid import Grid
from acdtask.raster.quantise import Quantised, quantise
from acdtask.raster.sidecars import marks_beside
from acdtask.raster.source_files import read_masked_strips
from acdtask.storage.store import Store
from acdtask.storage.web import Web

__all__ = ["Input", "PixelSummary", "check_pixels", "process_inputs", "read_checked"]

RowT = TypeVar("RowT")
ResultT = TypeVar("ResultT", bound=BaseModel)

LOCAL_FINGERPRINT = re.compile(r'(?P<size>\d+) "?[0-9a-f]+(?P<when>-[0-9a-f]+-[0-9a-f]+)"?')
"""The fingerprint of a local file: its size, then inode, modification time and size."""


class Input(BaseModel, ser_json_inf_nan="strings"):
    """A raster in a shard's work: its address, its record, and how to read it.

    Attributes:
        beside: fingerprints of its sidecar files, by ending.
        signed: whether its full address has a query, which is not stored.
    """

    address: str
    fingerprint: str
    grid: Grid
    record: Record
    reading: Reading
    beside: dict[str, str] = {}
    signed: bool = False


class PixelSummary(BaseModel):
    """A valid raster: the digest of its stored pixels, and the number of valid pixels and of those exactly 0.0."""

    digest: str
    valid: int
    zeros: int


def check_pixels(file: Input, dformat: DataFormat, access: Access, into: NDArray[Any] | None = None) -> PixelSummary:
    """Read and check every pixel of a raster, and write the stored pixels into the array, if one is given.

    INPUT_NOT_FINITE, INPUT_OUT_OF_RANGE, INPUT_NODATA_UNKNOWN, INPUT_ALL_NODATA, INPUT_CHANGED.
    """
    digest = hashlib.sha256(file.grid.model_dump_json().encode())
    counts = {"valid": 0, "not_finite": 0, "outside": 0, "nan": 0, "zeros": 0}
    extreme = float("nan")
    for row, strip in _quantised_strips(file, dformat, access):
        digest.update(strip.pixels.tobytes())
        counts = {name: number + getattr(strip, name) for name, number in counts.items()}
        extreme = extreme if np.isnan(strip.extreme) else strip.extreme
        if into is not None:
            into[row : row + strip.pixels.shape[0]] = strip.pixels
    _check(file, counts, extreme)
    zeros = counts["zeros"] if file.reading.dtype.startswith("float") else 0
    return PixelSummary(digest=digest.hexdigest()[:16], valid=counts["valid"], zeros=zeros)


def read_checked(file: Input, digest: str, dformat: DataFormat, access: Access) -> tuple[NDArray[Any], PixelSummary]:
    """The stored pixels of a checked raster, shape (height, width). INPUT_CHANGED if they have changed since."""
    pixels: NDArray[Any] = np.empty(file.grid.shape, dformat.dtype)
    summary = check_pixels(file, dformat, access, pixels)
    if summary.digest != digest:
        raise AcdError(ErrorCode.INPUT_CHANGED, f"the pixels of {file.address} changed after they were checked")
    return pixels, summary


def process_inputs(
    inputs: Sequence[Input],
    process: Callable[[Input], RowT | None],
    result: Callable[[list[RowT]], ResultT],
    progress: Callable[[int], None],
) -> ResultT:
    """Process each raster and build the result. UnusableInputsError, with the result, if some cannot be used."""
    rows: list[RowT] = []
    failures: dict[str, AcdError] = {}
    for done, file in enumerate(inputs, start=1):
        try:
            row = process(file)
        except AcdError as error:
            if error.code.value.retryable or error.code.value.number // 100 != INPUT_ERRORS:
                raise
            failures[file.address] = error
        else:
            rows += [row] if row is not None else []
        progress(done)
    if failures:
        first = next(iter(failures.values()))
        unusable = {address: Failure.of(error) for address, error in failures.items()}
        raise UnusableInputsError(first, result(rows), unusable)
    return result(rows)


INPUT_ERRORS = 2
"""First digit of the numbers of errors about a single source file."""


def _quantised_strips(file: Input, dformat: DataFormat, access: Access) -> Iterator[tuple[int, Quantised]]:
    store, reading = access.store_of(file.address), file.reading
    expected = (file.grid, reading.dtype)
    with _unchanged(file, store):
        how = (reading.band, reading.masks, access.folder, expected, file.fingerprint)
        strips = read_masked_strips(store, file.address, *how)
        for row, strip, mask in strips:
            yield row, quantise(strip, reading.nodata, reading.range, dformat, mask)


def _check(file: Input, counts: dict[str, int], extreme: float) -> None:
    if counts["not_finite"]:
        raise AcdError(ErrorCode.INPUT_NOT_FINITE, f"{file.address} has {counts['not_finite']} infinite pixels")
    if counts["outside"]:
        least, greatest = sorted(file.reading.range)
        detail = f"{file.address} has {counts['outside']} pixels outside {least:g} to {greatest:g}, such as {extreme:g}"
        raise AcdError(ErrorCode.INPUT_OUT_OF_RANGE, detail)
    if not file.reading.knows_nodata and not counts["nan"]:
        detail = f"{file.address} has no nodata value, no mask and no NaN"
        raise AcdError(ErrorCode.INPUT_NODATA_UNKNOWN, detail)
    if not file.reading.knows_nodata and counts["zeros"]:
        detail = f"{file.address} has no nodata value, but NaN and {counts['zeros']} pixels that are exactly 0"
        fix = "Give --source-nodata 0 if 0 also means nodata, or --source-nodata nan if 0 is a value."
        raise AcdError(ErrorCode.INPUT_NODATA_UNKNOWN, detail, fix)
    if not counts["valid"]:
        raise AcdError(ErrorCode.INPUT_ALL_NODATA, f"{file.address} has only nodata")


@contextmanager
def _unchanged(file: Input, store: Store | Web) -> Iterator[None]:
    """Check before and after reading that the file is the planned one. INPUT_CHANGED."""
    _check_fingerprint(file, store)
    try:
        yield
    except AcdError as error:
        if error.code is ErrorCode.INPUT_UNREADABLE:
            _check_fingerprint(file, store)  # a file that is being written looks damaged
        raise
    _check_fingerprint(file, store)
    beside = {ending: _identity_of_file(mark) for ending, mark in marks_beside(store, file.address).items()}
    if beside != {ending: _identity_of_file(mark) for ending, mark in file.beside.items()}:
        raise AcdError(ErrorCode.INPUT_CHANGED, f"the mask or metadata beside {file.address} changed after planning")


def _check_fingerprint(file: Input, store: Store | Web) -> None:
    if isinstance(store, Web):  # `Web` compares fingerprints as it fetches
        return
    current = store.fingerprint(file.address.rpartition("/")[2])
    if current is None:
        raise AcdError(ErrorCode.INPUT_CHANGED, f"{file.address} was removed after planning")
    if _identity_of_file(current) != _identity_of_file(file.fingerprint):
        raise AcdError(ErrorCode.INPUT_CHANGED, f"{file.address} changed after planning")


def _identity_of_file(fingerprint: str) -> str:
    """A fingerprint without its inode number, which can differ between pods on a network folder.

    >>> _identity_of_file('4240 "1a2b-62f1-1090"') == _identity_of_file('4240 "ffff-62f1-1090"')
    True
    """
    match = LOCAL_FINGERPRINT.fullmatch(fingerprint)
    return f"{match['size']}{match['when']}" if match else fingerprint
