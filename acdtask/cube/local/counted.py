"""The store behind a Zarr array, with what it moves counted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeAlias

from obstore.store import LocalStore, MemoryStore, S3Store
from zarr.storage import ObjectStore

from acdtask.cube.local.traffic import count_object_read, count_written

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

__all__ = ["CountedStore"]

Backend: TypeAlias = LocalStore | S3Store | MemoryStore


class CountedStore(ObjectStore[Backend]):
    """Keeps and reads as zarr's own; `acdtask.cube.local.traffic` hears of it."""

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """An object or a range of it, or None."""
        return _counted(await super().get(key, prototype, byte_range))

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Ranges of objects."""
        return [_counted(one) for one in await super().get_partial_values(prototype, key_ranges)]

    async def set(self, key: str, value: Buffer) -> None:
        """Write an object."""
        await super().set(key, value)
        count_written(len(value))


def _counted(value: Buffer | None) -> Buffer | None:
    if value is not None:
        count_object_read(len(value))
    return value
