"""The segments of an index as files: read once and kept in memory, merged by size, written under their digest."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, Self, TypeVar

from acdtask.cube.local.state import SegmentRef
from acdtask.cube.model import Dataset, Record
from acdtask.errors import AcdError, ErrorCode
from acdtask.storage.store import Store

__all__ = ["WAY_OUT", "SegmentFiles"]

SEGMENTS_AT_MOST = 8
ROWS_OF_A_FULL_SEGMENT = 50_000
"""A segment with as many rows is not merged any more."""

MERGED_GROWTH = 4
"""New rows are merged with a segment that has up to this many times as many rows."""

WAY_OUT = (
    "Restore it from a copy. Without one, delete the newest files in index/heads, one after the other, until"
    " 'acdtask records' works: each one takes back one commit. Then run the jobs since then again."
)


class _Segment(Protocol):
    def __len__(self) -> int: ...
    def encode(self) -> bytes: ...
    @classmethod
    def decode(cls, data: bytes) -> Self: ...
    @classmethod
    def merged(cls, segments: Sequence[Self]) -> Self: ...
    def without(self, rows: Sequence[int]) -> Self: ...


SegmentT = TypeVar("SegmentT", bound=_Segment)


class SegmentFiles:
    """The segments below `index/` of a store. They never change, so each is read once. Threads may share it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._loaded: dict[str, _Segment] = {}
        self._reused: dict[str, _Segment] = {}
        self._lock = threading.Lock()

    def segment(self, ref: SegmentRef, kind: type[SegmentT]) -> SegmentT:
        """A segment. CUBE_DAMAGED."""
        segment = self._loaded.get(ref.key)
        if segment is None:
            segment = kind.decode(self._bytes_of(ref))
            with self._lock:
                self._loaded[ref.key] = segment
        if not isinstance(segment, kind):
            raise TypeError(f"{ref.key} is no {kind.__name__}")
        return segment

    def _bytes_of(self, ref: SegmentRef) -> bytes:
        data = self._store.find(ref.key)
        if data is None or hashlib.sha256(data).hexdigest()[:32] not in ref.key:
            state = "missing" if data is None else "damaged: it is not what was written"
            raise AcdError(ErrorCode.CUBE_DAMAGED, f"{self._store.address_of(ref.key)} is {state}", WAY_OUT)
        return data

    def keep(self, refs: Iterable[SegmentRef]) -> None:
        """Forget the segments that a newer head does not name."""
        with self._lock:
            self._loaded = {ref.key: self._loaded[ref.key] for ref in refs if ref.key in self._loaded}

    def reduced(
        self,
        refs: tuple[SegmentRef, ...],
        folder: str,
        kind: type[SegmentT],
        rows_of: Callable[[SegmentT], Sequence[int]],
    ) -> tuple[SegmentRef, ...]:
        """The segments without some rows; those that have none of them stay as they are."""
        kept = []
        for ref in refs:
            segment = self.segment(ref, kind)
            rows = rows_of(segment)
            if len(rows) < len(segment):
                kept.append(self._write(folder, segment.without(rows)) if rows else ref)
        return tuple(kept)

    def extended(
        self, refs: tuple[SegmentRef, ...], folder: str, rows: Sequence[Record | Dataset], kind: type[SegmentT]
    ) -> tuple[SegmentRef, ...]:
        """The segments and one more for the new rows, merged with the newest ones that are not much larger.

        Sizes fall by MERGED_GROWTH or more from segment to segment, so that a row is written again a few times while
        the index grows from tens of rows to tens of thousands, and not with every few commits.
        """
        if not rows:
            return refs
        make: Callable[[Sequence[Record | Dataset]], SegmentT] = kind.of  # type: ignore[attr-defined]  # both have it
        segment = make(rows)
        small = [ref for ref in refs if ref.rows < ROWS_OF_A_FULL_SEGMENT]
        full = [ref for ref in refs if ref.rows >= ROWS_OF_A_FULL_SEGMENT]
        count, merged = 0, len(rows)
        for ref in reversed(small):
            if ref.rows > MERGED_GROWTH * merged and len(refs) - count < SEGMENTS_AT_MOST:
                break
            count, merged = count + 1, merged + ref.rows
        if count:
            segment = kind.merged([*(self.segment(ref, kind) for ref in small[-count:]), segment])
        return *full, *small[: len(small) - count], self._write(folder, segment)

    def _write(self, folder: str, segment: _Segment) -> SegmentRef:
        data = segment.encode()
        key = f"index/{folder}/{hashlib.sha256(data).hexdigest()[:32]}.parquet"
        reused = not self._store.create(key, data)
        if reused:
            self._store.put(key, data)  # as new as any other: `acdtask tidy` removes old ones that no head names
        with self._lock:
            self._loaded[key] = segment
            if reused:
                self._reused[key] = segment
        return SegmentRef(key=key, rows=len(segment))

    def restore_reused(self, refs: Iterable[SegmentRef]) -> None:
        """Write again what `acdtask tidy` removed in the moment when a new head began to name it."""
        with self._lock:
            named = {ref.key: self._reused.pop(ref.key) for ref in refs if ref.key in self._reused}
        for key, segment in named.items():
            if not self._store.exists(key):
                self._store.put(key, segment.encode())
