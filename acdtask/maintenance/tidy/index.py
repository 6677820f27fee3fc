"""Tidying of the index: old heads, and segments that no head lists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime

from acdtask.cube.local.index import HINT, Index
from acdtask.cube.local.state import Head, SegmentRef
from acdtask.errors import AcdError, ErrorCode
from acdtask.maintenance.references import Names, key_of, unsure_if_damaged
from acdtask.maintenance.tidy.deletion import CURRENT, NAMED, YOUNG, Broom
from acdtask.maintenance.tidy.retention import Retention, superseded
from acdtask.storage.listing import Entry
from acdtask.storage.store import Store

__all__ = ["Heads", "read_heads", "sweep_index"]

HEAD = re.compile(r"index/heads/(\d{8})\.json")
SEGMENT = re.compile(r"index/(records|datasets)/[0-9a-f]{32}\.parquet")


class Heads:
    """The heads to keep and those to remove.

    Attributes:
        listed: number and object of each head.
        to_remove: heads to remove, oldest first.
    """

    def __init__(self, store: Store, listed: list[tuple[int, Entry]], retention: Retention, cutoff: datetime) -> None:
        self._store = store
        self.listed = sorted(listed, key=lambda version: version[0])
        self.to_remove = superseded(listed, retention.keep_heads, cutoff)
        removed = {entry.key for entry in self.to_remove}
        self.kept = [(number, entry) for number, entry in self.listed if entry.key not in removed]

    def segments(self) -> set[str]:
        """The segments listed by kept heads. TIDY_UNSURE."""
        return {ref.key for head in self._heads() for ref in head.segments}

    def containers(self) -> Names:
        """The cube's files named by kept heads, also by absolute address. TIDY_UNSURE."""
        names = Names()
        seen: set[str] = set()
        for head in self._heads():
            for ref in head.datasets:
                if ref.key not in seen:
                    seen.add(ref.key)
                    names.add(key_of(uri, self._store) for uri in self._uris(ref, head))
        return names

    def _heads(self) -> Iterator[Head]:
        """The kept heads, and heads committed since they were listed."""
        for number, _ in self.kept:
            head = self._head(number)
            if head is not None:
                yield head
        number = self.kept[-1][0] if self.kept else 0
        while (head := self._head(number + 1)) is not None:
            yield head
            number += 1

    def _head(self, number: int) -> Head | None:
        """A head; None if it does not exist (any more)."""
        with unsure_if_damaged():
            return Index(self._store).numbered(number)

    def _uris(self, ref: SegmentRef, head: Head) -> frozenset[str]:
        """The containers of a segment; empty if another process removed the head. Not cached, to save memory."""
        try:
            return Index(self._store).uris(ref)
        except AcdError as error:
            if error.code is ErrorCode.CUBE_DAMAGED and self._head(head.number) is None:
                return frozenset()
            raise AcdError(ErrorCode.TIDY_UNSURE, error.detail) from error


def read_heads(store: Store) -> list[tuple[int, Entry]]:
    """List the number and object of each head."""
    matches = ((HEAD.fullmatch(entry.key), entry) for entry in store.entries("index/heads"))
    return [(int(match[1]), entry) for match, entry in matches if match]


def sweep_index(store: Store, heads: Heads, broom: Broom) -> None:
    """Remove old heads, oldest first, to leave an unbroken chain; then segments that no kept head lists."""
    if broom.apply and heads.to_remove:
        _renew_hint(store, heads)
    broom.remove("heads of the index", heads.to_remove, page=1)
    broom.keep("heads of the index", CURRENT, *(entry for _, entry in heads.kept))
    listed = [*store.entries("index/records"), *store.entries("index/datasets")]
    named = heads.segments()
    to_remove = []
    for entry in listed:
        if not SEGMENT.fullmatch(entry.key):
            broom.keep_unknown(entry)
        elif entry.key in named:
            broom.keep("segments of the index", NAMED, entry)
        elif entry.modified > broom.cutoff:
            broom.keep("segments of the index", YOUNG, entry)
        else:
            to_remove.append(entry)
    broom.remove("segments of the index", to_remove)


def _renew_hint(store: Store, heads: Heads) -> None:
    """Point the hint to a kept head."""
    hint = store.find(HINT)
    if hint is None or not hint.isdigit() or int(hint) < heads.kept[0][0]:
        store.put(HINT, str(heads.kept[-1][0]).encode())
