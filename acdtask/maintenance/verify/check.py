"""Comparison of a cube's files with their checksums."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, TypeAlias

from acdtask.cube.local.chunks import StackArray, damaged_chunk, stack_of
from acdtask.cube.local.containers import is_stack
from acdtask.cube.local.stack import METADATA
from acdtask.cube.model import OUTSIDE
from acdtask.maintenance.verify.files import NamedFile
from acdtask.raster.checksums import digest_of
from acdtask.storage.store import Store

__all__ = ["CheckResult", "Fault", "check_files"]

THREADS = 8
"""Files read in parallel. Each takes a few megabytes of memory, whatever its size."""

Verdict: TypeAlias = Literal["intact", "missing", "damaged", "not checked"]


@dataclass(frozen=True)
class Fault:
    """A file that is missing or damaged."""

    file: NamedFile
    verdict: Verdict
    detail: str = ""


@dataclass
class CheckResult:
    """Counts and faults of a verification.

    Attributes:
        intact: number of files whose checksum matches.
        not_checked: number of existing files without a checksum, and of files outside the cube.
        bytes_read: number of bytes read.
        faults: missing and damaged files, in the order of the files.
    """

    intact: int
    not_checked: int
    bytes_read: int
    faults: list[Fault]


@dataclass
class _FileResult:
    verdict: Verdict
    size: int = 0
    detail: str = ""


def check_files(
    store: Store, files: Sequence[NamedFile], progress: Callable[[int], None] = lambda _done: None
) -> CheckResult:
    """Read each file that has a checksum, and compare them. `progress` gets the number of files done so far."""
    total = CheckResult(0, 0, 0, [])
    with ThreadPoolExecutor(THREADS, thread_name_prefix="acd-verify") as pool:
        results = pool.map(lambda file: _check(store, file), files)
        for done, (file, result) in enumerate(zip(files, results, strict=True), start=1):
            total.bytes_read += result.size
            total.intact += result.verdict == "intact"
            total.not_checked += result.verdict == "not checked"
            if result.verdict in ("missing", "damaged"):
                total.faults.append(Fault(file, result.verdict, result.detail))
            progress(done)
    return total


def _check(store: Store, file: NamedFile) -> _FileResult:
    if file.key.startswith(OUTSIDE):
        return _FileResult("not checked")
    if is_stack(file.key):
        return _check_stack(store, file)
    if not file.checksum:
        return _FileResult("not checked" if store.exists(file.key) else "missing")
    pieces = store.pieces(file.key)
    if pieces is None:
        return _FileResult("missing")
    digest, size = digest_of(pieces)
    return _FileResult("intact" if digest.startswith(file.checksum) else "damaged", size)


def _check_stack(store: Store, file: NamedFile) -> _FileResult:
    """Check a container: its zarr.json, and every chunk listed there."""
    metadata = store.find(f"{file.key}/{METADATA}")
    if metadata is None:
        return _FileResult("missing")
    if not file.checksum:
        return _FileResult("not checked", len(metadata))
    stack = stack_of(metadata) if digest_of([metadata])[0] == file.checksum else None
    if stack is None:
        return _FileResult("damaged", len(metadata), f"the checksum of its {METADATA} does not match")
    problem, size = _damaged_file(store, file.key, stack)
    if not problem:
        problem, chunks_size = damaged_chunk(store, stack.key(file.key), stack.layout)
        size += chunks_size
    return _FileResult("damaged" if problem else "intact", len(metadata) + size, problem)


def _damaged_file(store: Store, container: str, stack: StackArray) -> tuple[str, int]:
    """The problem of the first damaged file beside the images, or "", and the number of bytes read."""
    size = 0
    for key, checksum in stack.files.items():
        data = store.find(f"{container}/{key}")
        if data is None:
            return f"{key} is missing", size
        size += len(data)
        if digest_of([data])[0] != checksum:
            return f"the checksum of {key} does not match", size
    return "", size
