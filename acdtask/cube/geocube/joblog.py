"""Parses the log of a Geocube job, the only source for its tasks, errors and repeated states."""

from __future__ import annotations

import re
from collections.abc import Sequence

from acdtask.cube.jobs import CellTask, JobState, TaskState

__all__ = ["last_error", "read_log", "tasks_of"]

LINE = re.compile(r"^(?P<date>\S+) - (?P<severity>[A-Z]+) \| Status: (?P<state>\w*) - Message: (?P<message>.*)$", re.S)
PREPARED = re.compile(r"\bCell:\s*(?P<cell>[^,()\s]+)")
CONTAINERS = re.compile(r"(\d+) container")
RECORDS = re.compile(r"(\d+) record")
DATASETS = re.compile(r"(\d+) dataset")
TASK = re.compile(r"\(id:\s*(?P<id>[^,()\s]+)")
REPORTED = re.compile(r"\bstatus\s+Task(?P<status>[A-Za-z]+)")
REASON = re.compile(r"\berr:\s*(?P<reason>.*?)\)?\s*$", re.S)

_STATES = {
    "Successful": TaskState.DONE,
    "Failed": TaskState.FAILED,
    "Cancelled": TaskState.CANCELLED,
    "Ignored": TaskState.CANCELLED,
}


def read_log(job: JobState) -> JobState:
    """The job, completed with the facts that only its log reports."""
    log = job.log
    states = {match["state"] for text in log if (match := LINE.match(text))}
    facts = {
        "entries": sum(f"New state: {job.state}" in text for text in log),
        "cancelled": not states.isdisjoint({"ABORTED", "CONSOLIDATIONCANCELLING"}),
        "error": last_error(log),
        "tasks": tuple(tasks_of(log).values()),
    }
    return job.model_copy(update=facts)


def last_error(log: Sequence[str]) -> str:
    """The message of the last ERROR line, if possible one that says more than that the job failed."""
    errors = [match["message"].strip() for text in log if (match := LINE.match(text)) and match["severity"] == "ERROR"]
    causes = [message for message in errors if not _is_only_failure(message)]
    return (causes or errors or [""])[-1]


def _is_only_failure(message: str) -> bool:
    return re.fullmatch(r"(Consolidation|Deletion|Rollback|Job) failed(: \d+ task\S* failed)?\.?", message) is not None


def tasks_of(log: Sequence[str]) -> dict[str, CellTask]:
    """The tasks of cells, by cell, as far as a log reports them. Lines in an unknown form are ignored.

    >>> log = ["Prepare 1 container(s) with 60 record(s) and 60 dataset(s) (Cell:8/-138, geographic: []) (id:a1)",
    ...        "TaskEvt received with status TaskSuccessful (id:a1, err:)"]
    >>> tasks_of(log)["8/-138"]
    CellTask(cell='8/-138', state=<TaskState.DONE: 'done'>, containers=1, records=60, datasets=60, reason='')
    """
    cells: dict[str, CellTask] = {}
    cell_of: dict[str, str] = {}
    for text in log:
        task = TASK.search(text)
        if prepared := PREPARED.search(text):
            cell = prepared["cell"]
            cells[cell] = CellTask(
                cell=cell,
                state=TaskState.PREPARED,
                containers=_number(CONTAINERS, text),
                records=_number(RECORDS, text),
                datasets=_number(DATASETS, text),
            )
            if task:
                cell_of[task["id"]] = cell
        elif task and (reported := REPORTED.search(text)) and reported["status"] in _STATES:
            state, reason = _STATES[reported["status"]], REASON.search(text)
            if (known := cell_of.get(task["id"])) is not None:
                why = reason["reason"] if reason and state is TaskState.FAILED else ""
                cells[known] = cells[known].model_copy(update={"state": state, "reason": why})
    return cells


def _number(pattern: re.Pattern[str], text: str) -> int:
    match = pattern.search(text)
    return int(match[1]) if match else 0
