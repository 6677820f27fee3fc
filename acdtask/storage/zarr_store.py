"""Store of Zarr arrays that counts the bytes read and written."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from obstore.store import LocalStore, MemoryStore, S3Store
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.storage import ObjectStore

from acdtask.storage.roots import Roots, open_file
from acdtask.storage.traffic import count_object_read, count_written

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

__all__ = ["CountedStore"]

Backend: TypeAlias = LocalStore | S3Store | MemoryStore


class CountedStore(ObjectStore[Backend]):
    """zarr's ObjectStore, with bytes counted in `acdtask.storage.traffic` and reads optionally confined to roots."""

    _folder: Path | None = None
    _roots: Roots | None = None

    def confine(self, folder: Path, roots: Roots) -> None:
        """Restrict reads to files below the roots, after resolving links."""
        self._folder, self._roots = folder, roots

    def with_read_only(self, read_only: bool = False) -> CountedStore:
        """Copy of the store with the given access."""
        store = CountedStore(self.store, read_only=read_only)
        store._folder, store._roots = self._folder, self._roots
        return store

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Read an object or a range of it; None if it is missing."""
        if self._folder is None:
            return _counted(await super().get(key, prototype, byte_range))
        try:
            with open_file(str(self._folder / key), self._roots) as descriptor:
                data = _read(descriptor, byte_range)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        return _counted(prototype.buffer.from_bytes(data))

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Read ranges of objects; None for each missing object."""
        if self._folder is not None:
            return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]
        return [_counted(value) for value in await super().get_partial_values(prototype, key_ranges)]

    async def set(self, key: str, value: Buffer) -> None:
        """Write an object."""
        await super().set(key, value)
        count_written(len(value))


def _read(descriptor: int, byte_range: ByteRequest | None) -> bytes:
    start, end = 0, os.fstat(descriptor).st_size
    if isinstance(byte_range, RangeByteRequest):
        start, end = byte_range.start, min(byte_range.end, end)
    elif isinstance(byte_range, OffsetByteRequest):
        start = byte_range.offset
    elif isinstance(byte_range, SuffixByteRequest):
        start = max(end - byte_range.suffix, 0)
    with open(descriptor, "rb", closefd=False) as file:
        file.seek(start)
        return file.read(max(end - start, 0))


def _counted(value: Buffer | None) -> Buffer | None:
    if value is not None:
        count_object_read(len(value))
    return value
