"""The one place that deletes, or only counts what would be deleted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any

from acdtask import log
from acdtask.storage.listing import PAGE, Entry
from acdtask.storage.store import Store

__all__ = ["CURRENT", "NAMED", "YOUNG", "Broom", "Tally"]

EXAMPLES = 10

YOUNG = "younger than --keep-days"
CURRENT = "the newest, or replaced lately"
NAMED = "in use"
"""Why objects stay."""

_events = log.events("tidy")


@dataclass
class Tally:
    """Objects counted: how many, how large, and how old by the store's clock."""

    objects: int = 0
    bytes: int = 0
    oldest: datetime | None = None
    newest: datetime | None = None

    def add(self, entry: Entry) -> None:
        """Count an object."""
        self.objects += 1
        self.bytes += entry.size
        self.oldest = min(self.oldest or entry.modified, entry.modified)
        self.newest = max(self.newest or entry.modified, entry.modified)

    def merge(self, other: Tally) -> None:
        """Count what another one has counted."""
        if other.oldest is not None and other.newest is not None:
            self.oldest = min(self.oldest or other.oldest, other.oldest)
            self.newest = max(self.newest or other.newest, other.newest)
        self.objects += other.objects
        self.bytes += other.bytes

    def as_json(self) -> dict[str, Any]:
        """The numbers; dates as texts, None if nothing was counted."""
        return {
            "objects": self.objects,
            "bytes": self.bytes,
            "oldest": self.oldest.isoformat() if self.oldest else None,
            "newest": self.newest.isoformat() if self.newest else None,
        }


@dataclass
class Broom:
    """Deletes objects in the order in which they come, a page at a time, and counts.

    Attributes:
        store: of the cube.
        apply: whether to delete; otherwise objects are only counted.
        removed: what went, or would go, by kind.
        kept: what stays, by kind and reason.
        unknown: the first keys that acd does not know.
    """

    store: Store
    apply: bool
    removed: dict[str, Tally] = field(default_factory=dict)
    kept: dict[tuple[str, str], Tally] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)

    def remove(self, kind: str, entries: Iterable[Entry], page: int = PAGE) -> None:
        """Delete objects of a kind; whatever is deleted already counts too."""
        rest = iter(entries)
        while chunk := list(islice(rest, page)):
            if self.apply:
                self.store.delete_all([entry.key for entry in chunk])
            tally = self.removed.setdefault(kind, Tally())
            for entry in chunk:
                tally.add(entry)
            if tally.objects % PAGE < len(chunk):
                _events.info("kind.progress", kind=kind, objects=tally.objects, deleted=self.apply)

    def keep(self, kind: str, why: str, *entries: Entry) -> None:
        """Count what stays, and why."""
        for entry in entries:
            self.kept.setdefault((kind, why), Tally()).add(entry)

    def keep_all(self, kind: str, why: str, tally: Tally) -> None:
        """Count what was counted by itself, and stays."""
        self.kept.setdefault((kind, why), Tally()).merge(tally)

    def keep_unknown(self, entry: Entry) -> None:
        """Count an object that acd has not made; it stays."""
        if len(self.unknown) < EXAMPLES:
            self.unknown.append(entry.key)
        self.keep("unknown files", "acd did not make them", entry)
