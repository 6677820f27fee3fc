"""The outbox of an AOI: events in the store, in order, until a receiver has acknowledged them (docs/decisions/0043).

Below `events/<aoi>/`:

- `outbox/00000012.json` is an event. The file with the next number is created atomically, so that of two writers one
  tries again. A delivered event is replaced by a stub with its id; the last KEPT_STUBS stubs stay, so that numbers are
  never used again and an event is not added twice.
- `refused/00000012.json` is an event that the receiver refused for good.
- `senders/00000003.json` is a lease: the newest belongs to the process that may send. It expires if not renewed.

The outbox is as long as what waits in it, whatever the number of events of the past.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from pydantic import BaseModel
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.contract import Series, Site
from acdtask.jobs.fence import newest_number
from acdtask.jobs.news import EVENTS, Announced, News
from acdtask.storage.seal import parse_sealed, seal
from acdtask.storage.store import Store

__all__ = ["LEASE_SECONDS", "NO_AOI", "Entry", "Event", "Lease", "Outbox"]

NO_AOI = "acd.tidy"
"""Takes the place of the AOI for runs without one; names of AOIs have no dot at this place of the chart."""

KEPT_STUBS = 8
KEPT_LEASES = 3
LEASE_SECONDS = 90.0
"""Longer than one post may take."""
PACE_SECONDS = 0.5
"""Seconds between two attempts to take the lease."""

HINT = "Delete the file: its event is lost, and those after it are sent."


class Event(BaseModel, frozen=True):
    """An event that waits for its receiver.

    Attributes:
        attributes: of the CloudEvent, with its time.
        data: its content.
        announces: what is recorded as announced, by series, before the event leaves the outbox.
    """

    attributes: dict[str, str]
    data: dict[str, Any]
    announces: tuple[tuple[Series, tuple[Announced, ...]], ...] = ()

    @property
    def id(self) -> str:
        """The id of the event, unique within its source."""
        return self.attributes["id"]

    @property
    def key(self) -> tuple[str, str]:
        """Source and id, by which a receiver recognises a repeated event."""
        return self.attributes["source"], self.id


class Entry(BaseModel, frozen=True):
    """A file of the outbox: an event, or the stub of one that is delivered or refused."""

    id: str
    source: str
    event: Event | None = None


class _Lease(BaseModel, frozen=True):
    holder: str
    until: datetime


class Lease:
    """The right to send the events of an outbox, for a while."""

    def __init__(self, folder: Store, number: int, holder: str) -> None:
        self._folder, self._number, self._holder = folder, number, holder

    def renew(self) -> bool:
        """Extend the lease; False if another process has taken over."""
        if newest_number(self._folder) != self._number:
            return False
        self._write(datetime.now(UTC) + timedelta(seconds=LEASE_SECONDS))
        return True

    def release(self) -> None:
        """End the lease, unless another process has taken over."""
        if newest_number(self._folder) == self._number:
            self._write(datetime.now(UTC))

    def _write(self, until: datetime) -> None:
        self._folder.put(_name(self._number), _body(_Lease(holder=self._holder, until=until)))


class Outbox:
    """The events of an AOI that are to be sent."""

    def __init__(self, site: Site, aoi: str) -> None:
        self._store = site.store
        self._folder = site.store.within(f"{EVENTS}/{aoi or NO_AOI}")
        self._events, self._refused = self._folder.within("outbox"), self._folder.within("refused")
        self._senders = self._folder.within("senders")
        self.address = self._folder.address_of("outbox")

    def entries(self) -> dict[int, Entry]:
        """The events that wait and the stubs of the last ones before, by number. EVENT_DAMAGED."""
        entries = {number: self._entry(number) for number in self._numbers()}
        return {number: entry for number, entry in entries.items() if entry is not None}

    def waiting(self) -> list[tuple[int, Event]]:
        """The events to send, in order."""
        return [(number, entry.event) for number, entry in self.entries().items() if entry.event is not None]

    def add(self, make: Callable[[set[tuple[str, str]]], Event | None]) -> Event | None:
        """Add an event at the end. Returns it, or None if `make` had none to add.

        `make` gets source and id of the events that wait or waited last. It is called when all images of events in the
        outbox are recorded as announced, and again if another process has added an event meanwhile: no image is in two
        events. EVENT_DAMAGED, STORE_CONTENDED.
        """
        for _ in range(20):
            entries = self.entries()
            for entry in entries.values():
                if entry.event is not None:
                    self.record_announced(entry.event)
            event = make({(entry.source, entry.id) for entry in entries.values()})
            if event is None:
                return None
            number = max(entries, default=0) + 1
            attributes = {**event.attributes, "sequence": f"{number:08d}"}
            event = event.model_copy(update={"attributes": attributes})
            body = _body(Entry(id=event.id, source=event.attributes["source"], event=event))
            # If a reply is lost, the store's own retry finds our file.
            if self._events.create(_name(number), body) or self._events.find(_name(number)) == body:
                self.record_announced(event)
                return event
        raise AcdError(ErrorCode.STORE_CONTENDED, f"other runs keep adding events to {self.address}")

    def record_announced(self, event: Event) -> None:
        """Record that the images of an event are announced."""
        for series, images in event.announces:
            news = News(self._store, series)
            for image in images:
                news.acknowledge(image)

    def settle(self, number: int, event: Event) -> None:
        """Remove an event that was delivered, and the oldest stubs."""
        self.record_announced(event)
        stub = Entry(id=event.id, source=event.attributes["source"])
        self._events.put(_name(number), _body(stub))
        for other in self._numbers():
            entry = self._entry(other) if other <= number - KEPT_STUBS else None
            if entry is not None and entry.event is None:
                self._events.delete(_name(other))

    def refuse(self, number: int, event: Event) -> str:
        """Set an event aside that the receiver refused for good, and return the address where it is kept."""
        key = _name(number)
        self._refused.put(key, _body(Entry(id=event.id, source=event.attributes["source"], event=event)))
        self.settle(number, event)
        return self._refused.address_of(key)

    def restore_refused(self) -> int:
        """Add the refused events again, at the end, with the same ids. Returns their number."""
        keys = [key for key in self._refused.list() if "/" not in key]
        for key in keys:
            data, address = self._refused.get(key), self._refused.address_of(key)
            event = parse_sealed(Entry, data, address, ErrorCode.EVENT_DAMAGED, HINT).event
            waiting = {waiting.key for _, waiting in self.waiting()}
            if event is not None and event.key not in waiting:
                self.add(partial(_again, event))
            self._refused.delete(key)
        return len(keys)

    @contextmanager
    def sending(self, wait: float = 2 * LEASE_SECONDS) -> Iterator[Lease]:
        """Take the lease. Another process that sends is awaited for `wait` seconds. EVENTS_BEING_SENT."""
        attempts = Retrying(
            retry=retry_if_exception(_is_being_sent),
            stop=stop_after_delay(wait),
            wait=wait_fixed(PACE_SECONDS),
            reraise=True,
        )
        lease = attempts(self._take_lease, uuid.uuid4().hex)
        try:
            yield lease
        finally:
            lease.release()

    def _take_lease(self, holder: str) -> Lease:
        """Take the lease if nobody has it. EVENTS_BEING_SENT."""
        numbers = sorted(int(key.partition(".")[0]) for key in self._senders.list() if "/" not in key)
        newest = numbers[-1] if numbers else 0
        now = datetime.now(UTC)
        if not newest or self._is_over(newest, now):
            body = _body(_Lease(holder=holder, until=now + timedelta(seconds=LEASE_SECONDS)))
            name = _name(newest + 1)
            if self._senders.create(name, body) or self._senders.find(name) == body:
                for number in numbers[:-KEPT_LEASES]:
                    self._senders.delete(_name(number))
                return Lease(self._senders, newest + 1, holder)
        raise AcdError(ErrorCode.EVENTS_BEING_SENT, f"another process is sending {self.address}")

    def _is_over(self, number: int, now: datetime) -> bool:
        data, address = self._senders.find(_name(number)), self._senders.address_of(_name(number))
        if data is None:
            return True
        fix = "Delete the file: it only says which process sends events."
        return parse_sealed(_Lease, data, address, ErrorCode.EVENT_DAMAGED, fix).until <= now

    def _numbers(self) -> list[int]:
        return sorted(int(key.partition(".")[0]) for key in self._events.list() if "/" not in key)

    def _entry(self, number: int) -> Entry | None:
        data, address = self._events.find(_name(number)), self._events.address_of(_name(number))
        return None if data is None else parse_sealed(Entry, data, address, ErrorCode.EVENT_DAMAGED, HINT)


def _again(event: Event, known: set[tuple[str, str]]) -> Event:
    del known  # it is added again whatever was there
    return event


def _is_being_sent(error: BaseException) -> bool:
    return isinstance(error, AcdError) and error.code is ErrorCode.EVENTS_BEING_SENT


def _name(number: int) -> str:
    return f"{number:08d}.json"


def _body(document: BaseModel) -> bytes:
    return seal(document.model_dump_json().encode())
