"""Tidying of events: what waits in an outbox and what was announced stays, whatever its age."""

from __future__ import annotations

import re

from acdtask.jobs.news import EVENTS
from acdtask.maintenance.tidy.deletion import NAMED, Broom
from acdtask.storage.store import Store

__all__ = ["sweep_events"]

KINDS = {
    "events that wait, and the last ones sent": re.compile(r"outbox/\d{8}\.json"),
    "events that a receiver refused": re.compile(r"refused/\d{8}\.json"),
    "leases of senders": re.compile(r"senders/\d{8}\.json"),
    "notes of runs that did not report their end": re.compile(r"runs/[^/]+\.json"),
    "news of watches": re.compile(r"news/[0-9a-f]{16}/(watermark|(pending|announced)/\d{4}-\d\d/[\w.-]+)\.json"),
}
"""Files below the folder of an AOI. Those of an outbox are few: notifying removes what was sent."""

ANY_AOI = re.compile(rf"{EVENTS}/.+?/(?=(outbox|refused|senders|runs|news)/)")


def sweep_events(store: Store, broom: Broom) -> None:
    """Count the files of events, all of which are kept: without them, events would be lost or sent again."""
    for entry in store.entries(EVENTS):
        folder = ANY_AOI.match(entry.key)
        rest = entry.key[folder.end() :] if folder else ""
        kind = next((kind for kind, pattern in KINDS.items() if pattern.fullmatch(rest)), "")
        if kind:
            broom.keep(kind, NAMED, entry)
        else:
            broom.keep_unknown(entry)
