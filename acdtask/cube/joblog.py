"""The log of a job: lines of text that a person reads, and the map of tasks that is only told there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum

__all__ = [
    "CellTask",
    "LogReader",
    "Severity",
    "TaskMap",
    "TaskState",
    "is_cancelled",
    "last_error",
    "line",
    "tasks_of",
]

LINE = re.compile(r"^(?P<date>\S+) - (?P<severity>[A-Z]+) \| Status: (?P<state>\w*) - Message: (?P<message>.*)$", re.S)
ELIDED = re.compile(r"^\[\.\.\. .*\]$")
"""How a server says that there are more lines before or after those that it sent."""

PREPARED = re.compile(r"\bCell:\s*(?P<cell>[^,()\s]+)")
CONTAINERS = re.compile(r"(\d+) container")
RECORDS = re.compile(r"(\d+) record")
DATASETS = re.compile(r"(\d+) dataset")
TASK = re.compile(r"\(id:\s*(?P<id>[^,()\s]+)")
REPORTED = re.compile(r"\bstatus\s+Task(?P<status>[A-Za-z]+)")
REASON = re.compile(r"\berr:\s*(?P<reason>.*?)\)?\s*$", re.S)


class Severity(Enum):
    """How much a line matters."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARN = "WARN"
    ERROR = "ERROR"


class TaskState(Enum):
    """What became of a cell."""

    PREPARED = "prepared"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


_STATES = {
    "Successful": TaskState.DONE,
    "Failed": TaskState.FAILED,
    "Cancelled": TaskState.CANCELLED,
    "Ignored": TaskState.CANCELLED,
}


@dataclass(frozen=True)
class CellTask:
    """A cell of a layout that a job fills. `containers`, `records` and `datasets` are 0 where the log does not tell."""

    cell: str
    state: TaskState
    containers: int = 0
    records: int = 0
    datasets: int = 0
    reason: str = ""


@dataclass(frozen=True)
class TaskMap:
    """The cells of a job by name, as far as its log tells.

    Attributes:
        others: tasks that the log reports on without having said of which cell they are, by id.
    """

    cells: dict[str, CellTask]
    others: dict[str, TaskState]

    def count(self, state: TaskState) -> int:
        """How many cells are in a state."""
        return sum(one.state is state for one in self.cells.values())


def line(moment: datetime, severity: Severity, state: str, message: str) -> str:
    """A line as Geocube writes it.

    >>> line(datetime(2026, 11, 23, 3, 29, 43, 600000, UTC), Severity.INFO, "NEW", "Create")
    '2026-11-23T03:29:43.6Z - INFO | Status: NEW - Message: Create'
    """
    second = moment.astimezone(UTC)
    fraction = f".{second.microsecond:06d}".rstrip("0").rstrip(".")
    stamp = second.strftime("%Y-%m-%dT%H:%M:%S")
    return f"{stamp}{fraction}Z - {severity.value} | Status: {state} - Message: {message}"


def last_error(log: Sequence[str]) -> str:
    """The message of the last ERROR line that says more than that the job failed; of the last one if none does."""
    errors = [found["message"].strip() for text in log if (found := LINE.match(text)) and found["severity"] == "ERROR"]
    telling = [message for message in errors if not _is_only_failure(message)]
    return (telling or errors or [""])[-1]


def _is_only_failure(message: str) -> bool:
    return re.fullmatch(r"(Consolidation|Deletion|Rollback|Job) failed(: \d+ task\S* failed)?\.?", message) is not None


def is_cancelled(log: Sequence[str]) -> bool:
    """Whether the job was cancelled."""
    states = {found["state"] for text in log if (found := LINE.match(text))}
    return not states.isdisjoint({"ABORTED", "CONSOLIDATIONCANCELLING"})


def tasks_of(log: Sequence[str]) -> TaskMap:
    """The map of tasks that the lines tell of; a line in other words than known is passed over.

    >>> told = ["Prepare 1 container(s) with 60 record(s) and 60 dataset(s) (Cell:8/-138, geographic: []) (id:a1)",
    ...         "TaskEvt received with status TaskSuccessful (id:a1, err:)"]
    >>> tasks_of(told).cells["8/-138"]
    CellTask(cell='8/-138', state=<TaskState.DONE: 'done'>, containers=1, records=60, datasets=60, reason='')
    """
    cells: dict[str, CellTask] = {}
    cell_of: dict[str, str] = {}
    others: dict[str, TaskState] = {}
    for text in log:
        task = TASK.search(text)
        if prepared := PREPARED.search(text):
            cell = prepared["cell"]
            cells[cell] = CellTask(
                cell, TaskState.PREPARED, _number(CONTAINERS, text), _number(RECORDS, text), _number(DATASETS, text)
            )
            if task:
                cell_of[task["id"]] = cell
        elif task and (reported := REPORTED.search(text)) and reported["status"] in _STATES:
            state, reason = _STATES[reported["status"]], REASON.search(text)
            if (known := cell_of.get(task["id"])) is None:
                others[task["id"]] = state
            else:
                why = reason["reason"] if reason and state is TaskState.FAILED else ""
                cells[known] = replace(cells[known], state=state, reason=why)
    return TaskMap(cells, others)


def _number(pattern: re.Pattern[str], text: str) -> int:
    found = pattern.search(text)
    return int(found[1]) if found else 0


class LogReader:
    """Tells new lines of a log from those seen before, though each look may show only the newest part of it."""

    def __init__(self) -> None:
        self._seen: list[str] = []

    def new_lines(self, log: Sequence[str]) -> tuple[str, ...]:
        """The lines that no earlier call was given."""
        lines = [text for text in log if not ELIDED.match(text)]
        if not lines:
            return ()
        fresh = lines[self._known(lines) :]
        self._seen += fresh
        return tuple(fresh)

    def _known(self, lines: list[str]) -> int:
        """How many of the lines, from the first, end where those seen end."""
        if not self._seen:
            return 0
        for length in range(len(lines), 0, -1):
            both = min(length, len(self._seen))
            if lines[length - 1] == self._seen[-1] and lines[length - both : length] == self._seen[-both:]:
                return length
        return 0
