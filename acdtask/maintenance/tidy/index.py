"""The index: old heads, and segments that no head names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from acdtask.cube.local.index import HINT, Index
from acdtask.cube.local.state import Head, SegmentRef
from acdtask.errors import AcdError, ErrorCode
from acdtask.maintenance.references import Names, key_of
from acdtask.maintenance.tidy.deletion import CURRENT, NAMED, YOUNG, Broom
from acdtask.maintenance.tidy.retention import Retention, superseded
from acdtask.storage.listing import Entry
from acdtask.storage.store import Store

__all__ = ["Heads", "read_heads", "sweep_index"]

HEAD = re.compile(r"index/heads/(\d{8})\.json")
SEGMENT = re.compile(r"index/(records|datasets)/[0-9a-f]{32}\.parquet")


class Heads:
    """The heads that stay, and those that go.

    Attributes:
        listed: number and object of each head.
        going: those to remove, oldest first.
    """

    def __init__(self, store: Store, listed: list[tuple[int, Entry]], retention: Retention, cutoff: datetime) -> None:
        self._store = store
        self.listed = sorted(listed, key=lambda version: version[0])
        self.going = superseded(listed, retention.keep_heads, cutoff)
        gone = {entry.key for entry in self.going}
        self.kept = [(number, entry) for number, entry in self.listed if entry.key not in gone]

    def segments(self) -> set[str]:
        """The segments that the heads name which stay. TIDY_UNSURE."""
        return {ref.key for head in self._heads() for ref in head.segments}

    def containers(self) -> Names:
        """The files of the cube that the heads name which stay, also by absolute addresses. TIDY_UNSURE."""
        names = Names()
        seen: set[str] = set()
        for head in self._heads():
            for ref in head.datasets:
                if ref.key not in seen:
                    seen.add(ref.key)
                    names.add(key_of(uri, self._store) for uri in self._uris(ref, head))
        return names

    def _heads(self) -> Iterator[Head]:
        """The kept heads, and those that were committed since they were listed."""
        for number, _ in self.kept:
            head = self._head(number)
            if head is not None:
                yield head
        number = self.kept[-1][0] if self.kept else 0
        while (head := self._head(number + 1)) is not None:
            yield head
            number += 1

    def _head(self, number: int) -> Head | None:
        """A head; None if there is none (any more)."""
        with unsure_if_damaged():
            return Index(self._store).numbered(number)

    def _uris(self, ref: SegmentRef, head: Head) -> frozenset[str]:
        """The containers of a segment; none if another process has removed the head. Nothing stays in memory."""
        try:
            return Index(self._store).uris(ref)
        except AcdError as error:
            if error.code is ErrorCode.CUBE_DAMAGED and self._head(head.number) is None:
                return frozenset()
            raise AcdError(ErrorCode.TIDY_UNSURE, error.detail) from error


@contextmanager
def unsure_if_damaged() -> Iterator[None]:
    """Turn CUBE_DAMAGED into TIDY_UNSURE."""
    try:
        yield
    except AcdError as error:
        if error.code is ErrorCode.CUBE_DAMAGED:
            raise AcdError(ErrorCode.TIDY_UNSURE, error.detail) from error
        raise


def read_heads(store: Store) -> list[tuple[int, Entry]]:
    """Number and object of each head."""
    found = ((HEAD.fullmatch(entry.key), entry) for entry in store.entries("index/heads"))
    return [(int(match[1]), entry) for match, entry in found if match]


def sweep_index(store: Store, heads: Heads, cutoff: datetime, broom: Broom) -> None:
    """Remove old heads, oldest first, so that what is left is a chain; then segments that none of the others names."""
    if broom.apply and heads.going:
        _renew_hint(store, heads)
    broom.remove("heads of the index", heads.going, page=1)
    broom.keep("heads of the index", CURRENT, *(entry for _, entry in heads.kept))
    listed = [*store.entries("index/records"), *store.entries("index/datasets")]
    named = heads.segments()
    going = []
    for entry in listed:
        if not SEGMENT.fullmatch(entry.key):
            broom.keep_unknown(entry)
        elif entry.key in named:
            broom.keep("segments of the index", NAMED, entry)
        elif entry.modified > cutoff:
            broom.keep("segments of the index", YOUNG, entry)
        else:
            going.append(entry)
    broom.remove("segments of the index", going)


def _renew_hint(store: Store, heads: Heads) -> None:
    """Let the hint name a head that stays."""
    hint = store.find(HINT)
    if hint is None or not hint.isdigit() or int(hint) < heads.kept[0][0]:
        store.put(HINT, str(heads.kept[-1][0]).encode())
