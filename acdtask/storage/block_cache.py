"""Keeps blocks that a run reads more than once, in a file that its processes share until it ends."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from struct import Struct
from typing import Self

import google_crc32c
import numpy as np

from acdtask import log

__all__ = ["MOST_BYTES", "BlockCache"]

MOST_BYTES = 2 << 30
"""Maximum size of all blocks of a run: enough for what a pod that plans does itself."""
FREE_SHARE = 4
"""A run uses at most a quarter of the free space."""

PREFIX = "acd-blocks-"
OWNER = "owner"
"""File that the process which made a folder keeps locked; the kernel unlocks it when that process ends."""

HEAD = Struct("<QQ")
"""The index begins with the number of blocks, and the bytes of all."""
RECORD = Struct("<32sQLL")
"""Then for each block its name, offset, size, and CRC-32C."""

_events = log.events("storage")


class BlockCache:
    """Blocks by name, in a folder. Safe for several threads and processes; picklable.

    Once it is full, it keeps what it has: a run goes over its blocks round after round, and a cache that drops the
    oldest would always drop the one needed next. A block that cannot be kept or read is read again from where it came
    from, so no method raises an error.

    Args:
        folder: an existing folder.
        most_bytes: maximum size of all blocks.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     cache = BlockCache(Path(folder), most_bytes=1000)
    ...     cache.keep(cache.name("a.tif", 0), b"pixels")
    ...     bytes(cache.find(cache.name("a.tif", 0)) or b""), cache.find(cache.name("a.tif", 1))
    (b'pixels', None)
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self.folder, self.most_bytes = folder, most_bytes
        self._lock = threading.Lock()
        self._known: dict[bytes, tuple[int, int, int]] = {}
        self._records = 0
        self._blocks = _opened(folder / "blocks", self)
        self._index = _opened(folder / "index", self)

    def __reduce__(self) -> tuple[Callable[[Path, int], BlockCache], tuple[Path, int]]:
        return _in_this_process, (self.folder, self.most_bytes)

    @classmethod
    @contextmanager
    def temporary(cls, most_bytes: int = MOST_BYTES) -> Iterator[Self | None]:
        """An empty cache in the folder for temporary files, removed at the end; None if it cannot be made."""
        with ExitStack() as stack:
            cache = None
            try:
                cache = stack.enter_context(cls._made(most_bytes))
            except OSError as error:
                _events.warning("cache.unavailable", error=str(error))
            yield cache

    @classmethod
    @contextmanager
    def _made(cls, most_bytes: int) -> Iterator[Self]:
        _remove_abandoned()
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        try:
            with (folder / "new").open("wb") as owner:
                fcntl.flock(owner, fcntl.LOCK_EX)
                # Only a locked file gets this name, so no other run takes the folder for an abandoned one.
                (folder / "new").rename(folder / OWNER)
                yield cls(folder, min(most_bytes, shutil.disk_usage(folder).free // FREE_SHARE))
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @staticmethod
    def name(*parts: object) -> bytes:
        """The name of a block, from what identifies it."""
        return hashlib.sha256(repr(parts).encode()).digest()

    def find(self, name: bytes) -> memoryview | None:
        """The newest block with a name; None if there is none, or it is damaged."""
        try:
            with self._lock:
                if name not in self._known:
                    self._read_index()
            offset, size, checksum = self._known[name]
            data = memoryview(os.pread(self._blocks, size, offset))
        except (OSError, KeyError):
            return None
        return data if len(data) == size and _checksum(name, data) == checksum else None

    def keep(self, name: bytes, data: bytes | memoryview) -> None:
        """Keep a block, unless the cache or the disk is full."""
        with suppress(OSError), self._lock:
            fcntl.flock(self._index, fcntl.LOCK_EX)
            try:
                self._append(name, data)
            finally:
                fcntl.flock(self._index, fcntl.LOCK_UN)

    def _append(self, name: bytes, data: bytes | memoryview) -> None:
        records, used = self._head()
        if used + len(data) > self.most_bytes or os.pwrite(self._blocks, data, used) != len(data):
            return
        record = RECORD.pack(name, used, len(data), _checksum(name, data))
        os.pwrite(self._index, record, HEAD.size + records * RECORD.size)
        # Written last: what a killed process had not finished is overwritten by the next block.
        os.pwrite(self._index, HEAD.pack(records + 1, used + len(data)), 0)

    def _read_index(self) -> None:
        """Read the records that other processes, or this one, have added."""
        records, _ = self._head()
        start = HEAD.size + self._records * RECORD.size
        added = os.pread(self._index, (records - self._records) * RECORD.size, start)
        for name, *place in RECORD.iter_unpack(added[: len(added) // RECORD.size * RECORD.size]):
            self._known[name] = (place[0], place[1], place[2])
            self._records += 1

    def _head(self) -> tuple[int, int]:
        head = os.pread(self._index, HEAD.size, 0)
        records, used = HEAD.unpack(head) if len(head) == HEAD.size else (0, 0)
        return records, used


@lru_cache(maxsize=1)
def _in_this_process(folder: Path, most_bytes: int) -> BlockCache:
    """The cache in a folder. A process that gets it with each of its tasks opens it once."""
    return BlockCache(folder, most_bytes)


def _opened(path: Path, owner: BlockCache) -> int:
    """The descriptor of a file, which is closed when its owner is no longer used."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    weakref.finalize(owner, os.close, descriptor)
    return descriptor


def _checksum(name: bytes, data: bytes | memoryview) -> int:
    block = np.frombuffer(data, np.uint8)  # google_crc32c refuses a memoryview
    return int(google_crc32c.extend(google_crc32c.value(name), block))


def _remove_abandoned() -> None:
    """Remove the folders of this user's runs that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError), (folder / OWNER).open("rb") as owner:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if folder.stat(follow_symlinks=False).st_uid == os.getuid():
                shutil.rmtree(folder, ignore_errors=True)
