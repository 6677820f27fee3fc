"""Reports the end of a run: puts its events into the outbox, and sends what waits there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from acdtask import log
from acdtask.engine.run_notes import RunNote, attempts_reported, find_note, is_reported, note_reported, notes_of
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.contract import Site
from acdtask.notify.event import FinishedRun, StoredRun, alert_of, end_of, read_run, unreadable
from acdtask.notify.outbox import Event, Outbox

__all__ = ["Delivery", "report_end", "send_waiting"]

_events = log.events("notify")


@dataclass
class Delivery:
    """What happened to the events that waited.

    Attributes:
        sent: events that the receiver has acknowledged.
        refused: addresses of events that it refused for good.
        waiting: number of events that still wait.
        away: why they wait; None if nothing waits.
    """

    sent: list[Event] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    waiting: int = 0
    away: AcdError | None = None


def report_end(finished: FinishedRun, site: Site) -> None:
    """Put the events of a run into the outbox of its AOI, after those of earlier runs that ended without a report.

    Called again, it does only what is missing. RUN_UNKNOWN, EVENT_DAMAGED; errors of Store.
    """
    outbox = Outbox(site, finished.aoi)
    own = find_note(finished.run, finished.aoi, site) if finished.aoi else None
    for note in notes_of(finished.aoi, site) if finished.aoi else ():
        if note.run != finished.run and (own is None or note.began < own.began):
            _report(_stopped(note), outbox, site)
    attempt = own.attempt if own else max(attempts_reported(finished.run, site), 1)
    _report(replace(finished, attempt=attempt), outbox, site, begun=own is not None)


def _stopped(note: RunNote) -> FinishedRun:
    return FinishedRun(note.run, "Stopped", note.aoi, note.workflow, note.namespace, note.monitor, note.attempt)


def _report(finished: FinishedRun, outbox: Outbox, site: Site, *, begun: bool = True) -> None:
    """Put the events of a run into the outbox, unless it has no note and they are there already."""
    if not begun and is_reported(finished.run, finished.attempt, finished.status, site):
        return

    def unless_known(make: Callable[[FinishedRun, StoredRun], Event | None]) -> None:
        def event(known: set[tuple[str, str]]) -> Event | None:
            made = make(finished, _stored(finished, site))
            return None if made is None or made.key in known else made

        added = outbox.add(event)
        if added is not None:
            _events.info("event.added", id=added.id, type=added.attributes["type"], number=added.attributes["sequence"])

    unless_known(alert_of)
    unless_known(end_of)
    if finished.aoi:
        note_reported(finished.run, finished.aoi, finished.attempt, finished.status, site)


def _stored(finished: FinishedRun, site: Site) -> StoredRun:
    """What a run left. If records of a failed run are damaged, that error is the only cause."""
    try:
        return read_run(finished, site)
    except AcdError as error:
        if finished.status == "Succeeded" or error.code.value.retryable:
            raise
        return unreadable(error)


def send_waiting(outbox: Outbox, post: Callable[[Event], object]) -> Delivery:
    """Send the events of an outbox in order, up to the first that the receiver does not take now.

    Args:
        outbox: the outbox.
        post: sends an event. Its transient errors end the delivery; EVENT_REFUSED sets the event aside.

    Raises:
        AcdError: other errors of `post`; EVENTS_BEING_SENT, EVENT_DAMAGED; errors of Store.
    """
    delivery = Delivery()
    if not outbox.waiting():
        return delivery
    with outbox.sending() as lease:
        while waiting := outbox.waiting():
            for number, event in waiting:
                if not lease.renew():
                    delivery.waiting = len(outbox.waiting())
                    delivery.away = AcdError(ErrorCode.EVENTS_BEING_SENT, f"another process sends {outbox.address}")
                    return delivery
                try:
                    post(event)
                except AcdError as error:
                    if error.code is ErrorCode.EVENT_REFUSED:
                        address = outbox.refuse(number, event)
                        _events.warning("event.refused", id=event.id, file=address, detail=error.detail)
                        delivery.refused.append(address)
                        continue
                    if error.code.value.retryable:
                        delivery.waiting, delivery.away = len(outbox.waiting()), error
                        return delivery
                    raise
                outbox.settle(number, event)
                delivery.sent.append(event)
    return delivery
