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

__all__ = ["DAMAGE_FIX", "SegmentFiles"]

SEGMENTS_AT_MOST = 8
ROWS_OF_A_FULL_SEGMENT = 50_000
"""Segments with at least this many rows are not merged any more."""

MERGED_GROWTH = 4
"""New rows are merged with a segment of up to this many times as many rows."""

DAMAGE_FIX = (
    "Restore it from a backup. Without one, delete the newest files in index/heads one by one until"
    " 'acdtask records' works; each deletion undoes one commit. Then rerun the jobs since then."
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
    """The segments below `index/` of a store. They never change, so each is read once. Thread-safe."""

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
            raise TypeError(f"{ref.key} is not a {kind.__name__}")
        return segment

    def _bytes_of(self, ref: SegmentRef) -> bytes:
        data = self._store.find(ref.key)
        if data is None or hashlib.sha256(data).hexdigest()[:32] not in ref.key:
            state = "missing" if data is None else "damaged: its checksum is wrong"
            raise AcdError(ErrorCode.CUBE_DAMAGED, f"{self._store.address_of(ref.key)} is {state}", DAMAGE_FIX)
        return data

    def keep(self, refs: Iterable[SegmentRef]) -> None:
        """Keep only some segments in memory: those that the newest head lists."""
        with self._lock:
            self._loaded = {ref.key: self._loaded[ref.key] for ref in refs if ref.key in self._loaded}

    def reduced(
        self,
        refs: tuple[SegmentRef, ...],
        folder: str,
        kind: type[SegmentT],
        rows_of: Callable[[SegmentT], Sequence[int]],
    ) -> tuple[SegmentRef, ...]:
        """The segments without some rows. Segments that have none of these rows stay unchanged."""
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
        """The segments with new rows added: in a new segment, merged with the newest ones that are not much larger.

        From older to newer segments, sizes fall by MERGED_GROWTH or more. So while the index grows from tens to tens of
        thousands of rows, a row is rewritten only a few times.
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
            self._store.put(key, data)  # renews its date: `acdtask tidy` deletes old segments that no head lists
        with self._lock:
            self._loaded[key] = segment
            if reused:
                self._reused[key] = segment
        return SegmentRef(key=key, rows=len(segment))

    def restore_reused(self, refs: Iterable[SegmentRef]) -> None:
        """Write segments again that `acdtask tidy` deleted just before a new head listed them."""
        with self._lock:
            named = {ref.key: self._reused.pop(ref.key) for ref in refs if ref.key in self._reused}
        for key, segment in named.items():
            if not self._store.exists(key):
                self._store.put(key, segment.encode())
