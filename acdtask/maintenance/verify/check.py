"""Reading the files of a cube, and comparing them with their checksums."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, TypeAlias

from acdtask.cube.local.chunks import Stack, damaged_chunk, stack_of
from acdtask.cube.local.containers import is_stack
from acdtask.cube.local.stack import METADATA
from acdtask.cube.model import OUTSIDE
from acdtask.maintenance.verify.files import NamedFile
from acdtask.raster.checksums import digest_of
from acdtask.storage.store import Store

__all__ = ["Checked", "Fault", "check_files"]

THREADS = 8
"""Files read at once. Each takes some megabytes of memory, whatever its size."""

Verdict: TypeAlias = Literal["intact", "missing", "damaged", "not checked"]


@dataclass(frozen=True)
class Fault:
    """A file that is missing or damaged."""

    file: NamedFile
    verdict: Verdict
    detail: str = ""


@dataclass
class Checked:
    """What a verification has seen.

    Attributes:
        intact: files that are as they were written.
        not_checked: files without a checksum, which are there, or lie outside the cube.
        bytes_read: how much was read.
        faults: what is missing or damaged, in the order of the files.
    """

    intact: int
    not_checked: int
    bytes_read: int
    faults: list[Fault]


@dataclass
class _Result:
    verdict: Verdict
    size: int = 0
    detail: str = ""


def check_files(
    store: Store, files: Sequence[NamedFile], progress: Callable[[int], None] = lambda _done: None
) -> Checked:
    """Read each file that has a checksum, and compare.

    Args:
        store: of the cube.
        files: what to look at.
        progress: called with the number of files done so far.

    Raises:
        AcdError: what Store raises.
    """
    checked = Checked(0, 0, 0, [])
    with ThreadPoolExecutor(THREADS, thread_name_prefix="acd-verify") as pool:
        results = pool.map(lambda file: _check(store, file), files)
        for done, (file, result) in enumerate(zip(files, results, strict=True), start=1):
            checked.bytes_read += result.size
            checked.intact += result.verdict == "intact"
            checked.not_checked += result.verdict == "not checked"
            if result.verdict in ("missing", "damaged"):
                checked.faults.append(Fault(file, result.verdict, result.detail))
            progress(done)
    return checked


def _check(store: Store, file: NamedFile) -> _Result:
    if file.key.startswith(OUTSIDE):
        return _Result("not checked")
    if is_stack(file.key):
        return _check_stack(store, file)
    if not file.checksum:
        return _Result("not checked" if store.exists(file.key) else "missing")
    pieces = store.pieces(file.key)
    if pieces is None:
        return _Result("missing")
    digest, size = digest_of(pieces)
    return _Result("intact" if digest.startswith(file.checksum) else "damaged", size)


def _check_stack(store: Store, file: NamedFile) -> _Result:
    """A container: its zarr.json, and every chunk that this lists."""
    metadata = store.find(f"{file.key}/{METADATA}")
    if metadata is None:
        return _Result("missing")
    if not file.checksum:
        return _Result("not checked", len(metadata))
    stack = stack_of(metadata) if digest_of([metadata])[0] == file.checksum else None
    if stack is None:
        return _Result("damaged", len(metadata), f"its {METADATA} is not what was written")
    problem, size = _damaged_file(store, file.key, stack)
    if not problem:
        problem, of_chunks = damaged_chunk(store, stack.key(file.key), stack.layout)
        size += of_chunks
    return _Result("damaged" if problem else "intact", len(metadata) + size, problem)


def _damaged_file(store: Store, container: str, stack: Stack) -> tuple[str, int]:
    """What is wrong with the first bad file beside the images, or nothing, and how many bytes were read."""
    size = 0
    for key, checksum in stack.files.items():
        data = store.find(f"{container}/{key}")
        if data is None:
            return f"{key} is missing", size
        size += len(data)
        if digest_of([data])[0] != checksum:
            return f"{key} is not what was written", size
    return "", size
