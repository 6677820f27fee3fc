"""The log of a job in Geocube's words: the only place where events become prose."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from acdtask.serve.consolidation.events import Command, Event, Progress
from acdtask.serve.consolidation.states import NEEDS_PERSON, State
from acdtask.serve.log_lines import Severity, line

__all__ = ["log_of"]


Message = tuple[Severity, str]

COMMANDS = {Command.CONTINUE: "Continued", Command.RETRY: "Retried", Command.CANCEL: "Cancelled"}


def log_of(job: Progress) -> tuple[str, ...]:
    """The log of a job, oldest line first."""
    first, *others = job.events
    count = len(job.definition.wanted.records)
    lines = [line(first.at, Severity.INFO, first.state.value, f"Create a consolidation of {count} record(s)")]
    before = Progress.begun(job.definition, first)
    for event in others:
        after = before.then(event)
        messages = _said_in(before, after, event)
        lines += [line(event.at, severity, before.state.value, message) for severity, message in messages]
        if after.state is not before.state:
            messages = _said_on_entering(after)
            lines += [line(event.at, severity, after.state.value, message) for severity, message in messages]
        before = after
    return tuple(lines)


def _said_in(before: Progress, after: Progress, event: Event) -> Iterator[Message]:
    if event.command is not None:
        yield Severity.INFO, f"{COMMANDS[event.command]} by user"
    elif event.error:
        yield Severity.ERROR, event.error
    elif before.state in _STEPS:
        yield from _STEPS[before.state](before, after, event)


def _said_on_entering(job: Progress) -> Iterator[Message]:
    yield Severity.INFO, f"New state: {job.state.value}{': waiting for user action' if job.waiting else ''}"
    if job.state in NEEDS_PERSON:
        yield Severity.INFO, "Wait for user command..."


def _prepared(_: Progress, after: Progress, __: Event) -> Iterator[Message]:
    yield Severity.INFO, "Prepare consolidation orders..."
    for number, order in enumerate(after.orders.cells):
        outline = " ".join(f"[{lon:.7f} {lat:.7f}]" for lon, lat in order.outline)
        yield (
            Severity.DEBUG,
            f"Prepare 1 container(s) with {order.records} record(s) and {order.datasets} dataset(s) "
            f"(Cell:{order.cell}, geographic: [{outline}]) (id:{after.task_id(number)})",
        )
    yield Severity.INFO, f"Consolidation orders prepared ({len(after.orders.cells)} task(s))"


def _written(before: Progress, after: Progress, event: Event) -> Iterator[Message]:
    tasks = sorted({*event.done, *event.failed})
    if tasks and not before.done and not before.failed:
        yield Severity.INFO, f"Consolidate {len(before.pending)} cell(s)..."
    for number in tasks:
        task, reason = before.task_id(number), event.failed.get(number, "")
        if reason:
            yield Severity.ERROR, f"Task {task} failed: {reason}"
        outcome = "TaskFailed" if reason else "TaskSuccessful"
        yield Severity.DEBUG, f"TaskEvt received with status {outcome} (id:{task}, err:{reason})"
    if after.state is State.CONSOLIDATIONFAILED:
        yield Severity.ERROR, f"Job failed: {len(after.failed)} task(s) failed"


def _checked(_: Progress, __: Progress, event: Event) -> Iterator[Message]:
    yield Severity.INFO, "Indexing new datasets..."
    for reason in event.failed.values():
        yield Severity.ERROR, reason


def _indexed(_: Progress, __: Progress, event: Event) -> Iterator[Message]:
    if event.superseded:
        count = event.superseded
        yield Severity.WARN, f"{count} dataset(s) were consolidated by others or removed meanwhile, and stay so"
    yield Severity.INFO, f"{event.indexed} dataset(s) are read from the new containers from now on"


def _rolled_back(before: Progress, _: Progress, __: Event) -> Iterator[Message]:
    yield Severity.INFO, "Rollback..."
    if before.may_be_read:
        yield Severity.WARN, "The containers stay: the index may have them already"
    yield Severity.ERROR, "Job failed"


def _always(message: str) -> Callable[[Progress, Progress, Event], Iterator[Message]]:
    return lambda *_: iter([(Severity.INFO, message)])


_STEPS: dict[State, Callable[[Progress, Progress, Event], Iterator[Message]]] = {
    State.CREATED: _prepared,
    State.CONSOLIDATIONINPROGRESS: _written,
    State.CONSOLIDATIONDONE: _checked,
    State.CONSOLIDATIONINDEXED: _indexed,
    State.CONSOLIDATIONEFFECTIVE: _always("The datasets that were consolidated stay in the index, for other layouts"),
    State.CONSOLIDATIONRETRYING: _always("Retry consolidation..."),
    State.CONSOLIDATIONCANCELLING: _always("Job has been cancelled"),
    State.ABORTED: _rolled_back,
}
