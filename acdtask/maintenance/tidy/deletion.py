"""Deletion of objects, or in a dry run counting of what would be deleted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any

from acdtask import log
from acdtask.maintenance.tidy.retention import superseded
from acdtask.storage.listing import PAGE, Entry
from acdtask.storage.store import Store

__all__ = ["CURRENT", "NAMED", "YOUNG", "Broom", "Tally"]

EXAMPLES = 10

YOUNG = "younger than --keep-days"
CURRENT = "newest, or replaced recently"
NAMED = "in use"
"""Reasons for keeping objects."""

_events = log.events("tidy")


@dataclass
class Tally:
    """Count, size and age of objects, by the store's clock."""

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
        """Add another tally."""
        if other.oldest is not None and other.newest is not None:
            self.oldest = min(self.oldest or other.oldest, other.oldest)
            self.newest = max(self.newest or other.newest, other.newest)
        self.objects += other.objects
        self.bytes += other.bytes

    def as_json(self) -> dict[str, Any]:
        """The tally as JSON values; dates are texts, or None without objects."""
        return {
            "objects": self.objects,
            "bytes": self.bytes,
            "oldest": self.oldest.isoformat() if self.oldest else None,
            "newest": self.newest.isoformat() if self.newest else None,
        }


@dataclass
class Broom:
    """Deletes objects in the given order, a page at a time, and counts them.

    Attributes:
        store: of the cube.
        apply: whether to delete, or only to count.
        cutoff: younger objects are kept.
        removed: objects deleted, or to delete, by kind.
        kept: objects kept, by kind and reason.
        unknown: the first keys that acd does not recognise.
    """

    store: Store
    apply: bool
    cutoff: datetime
    removed: dict[str, Tally] = field(default_factory=dict)
    kept: dict[tuple[str, str], Tally] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)

    def remove(self, kind: str, entries: Iterable[Entry], page: int = PAGE) -> None:
        """Delete objects of a kind; objects that are already gone count too."""
        rest = iter(entries)
        while chunk := list(islice(rest, page)):
            if self.apply:
                self.store.delete_all([entry.key for entry in chunk])
            tally = self.removed.setdefault(kind, Tally())
            for entry in chunk:
                tally.add(entry)
            if tally.objects % PAGE < len(chunk):
                _events.info("kind.progress", kind=kind, objects=tally.objects, deleted=self.apply)

    def remove_superseded(
        self, kind: str, versions: Sequence[tuple[int, Entry]], keep: int, page: int = PAGE
    ) -> list[Entry]:
        """Delete the superseded versions, oldest first; count and return the others."""
        to_remove = superseded(versions, keep, self.cutoff)
        self.remove(kind, to_remove, page)
        removed = {entry.key for entry in to_remove}
        kept = [entry for _, entry in versions if entry.key not in removed]
        self.keep(kind, CURRENT, *kept)
        return kept

    def keep(self, kind: str, why: str, *entries: Entry) -> None:
        """Count objects that are kept, and why."""
        for entry in entries:
            self.kept.setdefault((kind, why), Tally()).add(entry)

    def keep_all(self, kind: str, why: str, tally: Tally) -> None:
        """Add the tally of objects that are kept."""
        self.kept.setdefault((kind, why), Tally()).merge(tally)

    def keep_unknown(self, entry: Entry) -> None:
        """Count an object that acd did not make; it is kept."""
        if len(self.unknown) < EXAMPLES:
            self.unknown.append(entry.key)
        self.keep("unknown files", "acd did not make them", entry)
