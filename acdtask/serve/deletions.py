"""Deletion of datasets as jobs, with the states and pauses of a Geocube."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict

from acdtask.cube.jobs import JobState, Level
from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import Dataset
from acdtask.cube.patterns import matcher
from acdtask.errors import AcdError, ErrorCode
from acdtask.serve.consolidation.jobs import ConsolidationJobs
from acdtask.serve.log_lines import Severity, line
from acdtask.serve.managed import Managed
from acdtask.storage.seal import parse_sealed, seal

__all__ = ["Deletions"]

FOLDER = "deletions"
NEXT = {
    "NEW": "CREATED",
    "CREATED": "DELETIONINPROGRESS",
    "DELETIONINPROGRESS": "DELETIONEFFECTIVE",
    "DELETIONEFFECTIVE": "DONE",
}
PAUSES = {
    "CREATED": Level.MAJOR,
    "DELETIONINPROGRESS": Level.CRITICAL,
    "DELETIONEFFECTIVE": Level.MAJOR,
}
TAKEN_BACK = {"CREATED", "DELETIONINPROGRESS"}
"""Where a job may be cancelled, since nothing is deleted yet."""

ENDED = {"DONE", "FAILED"}


class _Deletion(BaseModel):
    """A job as it is kept."""

    model_config = ConfigDict(frozen=True)

    job: JobState
    datasets: tuple[Dataset, ...]


class Deletions:
    """The deletion jobs of a cube, kept in its store. A step is done at once, by the call that lets the job go on.

    Every method raises AcdError: JOB_UNKNOWN, JOB_STATE, JOB_CONFLICT, and what Store raises; a step that fails leaves
    the job where it was, as DELETIONFAILED, to be retried: such as one whose datasets a consolidation holds.
    """

    def __init__(self, cube: LocalCube, managed: Managed, consolidations: ConsolidationJobs) -> None:
        self._cube = cube
        self._managed = managed
        self._consolidations = consolidations
        self._lock = threading.Lock()

    def start(self, name: str, level: Level, datasets: Sequence[Dataset]) -> JobState:
        """Make a job of that name, and let it go until it pauses or has ended. JOB_CONFLICT."""
        with self._lock:
            if any(one.name == name for one in self.all()):
                raise AcdError(ErrorCode.JOB_CONFLICT, f"there is a job {name} already")
            now = datetime.now(UTC)
            job = JobState(
                id=str(uuid.uuid4()), name=name, kind="deletion", state="NEW", level=level, created=now, updated=now
            )
            told = _told(job, f"Delete {len(datasets)} dataset(s)")
            return self._go_on(_Deletion(job=told, datasets=tuple(datasets)))

    def all(self, pattern: str = "") -> list[JobState]:
        """The jobs whose names match, oldest first."""
        matches = matcher(pattern or "*")
        found = [job for key in self._cube.store.list(FOLDER) if (job := self._read(key).job) and matches(job.name)]
        return sorted(found, key=lambda job: (job.created, job.id))

    def find(self, identity: str) -> JobState | None:
        """The job of an id, or None."""
        return self._read(_key(identity)).job if self._cube.store.exists(_key(identity)) else None

    def go_on(self, identity: str) -> None:
        """Let a job go on that waits."""
        with self._lock:
            one = self._known(identity)
            if not one.job.waiting:
                raise AcdError(ErrorCode.JOB_STATE, f"job {one.job.name} does not wait: it is {one.job.state}")
            self._go_on(_with(one, _told(one.job, "Continued by user").model_copy(update={"waiting": False})))

    def retry(self, identity: str) -> None:
        """Do again what failed."""
        with self._lock:
            one = self._known(identity)
            if one.job.state != "DELETIONFAILED":
                raise AcdError(ErrorCode.JOB_STATE, f"job {one.job.name} is {one.job.state}: there is nothing to retry")
            again = _told(one.job, "Retried by user").model_copy(update={"state": "DELETIONINPROGRESS"})
            self._go_on(_with(one, again))

    def cancel(self, identity: str) -> None:
        """End a job that has deleted nothing yet."""
        with self._lock:
            one = self._known(identity)
            if one.job.state not in TAKEN_BACK:
                raise AcdError(ErrorCode.JOB_STATE, f"job {one.job.name} cannot be cancelled: it is {one.job.state}")
            told = _told(one.job, "Cancelled by user").model_copy(update={"state": "FAILED", "waiting": False})
            self._keep(_with(one, _told(told, "Nothing was deleted")))

    def forget(self, pattern: str, state: str) -> int:
        """Remove jobs that have ended; how many."""
        with self._lock:
            ended = [job for job in self.all(pattern) if job.state in ENDED and state in ("", job.state)]
            for job in ended:
                self._cube.store.delete(_key(job.id))
        return len(ended)

    def _go_on(self, one: _Deletion) -> JobState:
        while one.job.state in NEXT and not one.job.waiting:
            try:
                lines = self._step(one)
            except AcdError as error:
                failed = _told(one.job, str(error), severity=Severity.ERROR).model_copy(
                    update={"state": "DELETIONFAILED"}
                )
                one = _with(one, failed)
                break
            one = _with(one, _entered(_told(one.job, *lines), NEXT[one.job.state]))
            self._keep(one)
        self._keep(one)
        return one.job

    def _step(self, one: _Deletion) -> list[str]:
        """The work of a state, and what is told of it; doing it twice is harmless."""
        if one.job.state == "DELETIONINPROGRESS":
            self._consolidations.require_unlocked(one.datasets)
            self._cube.remove(datasets=one.datasets)
            return ["Remove datasets..."]
        if one.job.state == "DELETIONEFFECTIVE":
            uris = {dataset.uri for dataset in one.datasets}
            used = {dataset.uri for dataset in self._cube.datasets_at(uris)}
            return [self._managed.let_go(uri) for uri in sorted(uris - used)]
        return []

    def _known(self, identity: str) -> _Deletion:
        if not self._cube.store.exists(_key(identity)):
            raise AcdError(ErrorCode.JOB_UNKNOWN, f"there is no job {identity!r}")
        return self._read(_key(identity))

    def _read(self, key: str) -> _Deletion:
        store = self._cube.store
        fix = "Delete the file and delete the datasets again: datasets that are gone already do no harm."
        return parse_sealed(_Deletion, store.get(key), store.address_of(key), ErrorCode.CUBE_DAMAGED, fix)

    def _keep(self, one: _Deletion) -> None:
        self._cube.store.put(_key(one.job.id), seal(one.model_dump_json().encode()))


def _key(identity: str) -> str:
    return f"{FOLDER}/{identity}.json"


def _with(one: _Deletion, job: JobState) -> _Deletion:
    return _Deletion(job=job, datasets=one.datasets)


def _told(job: JobState, *messages: str, severity: Severity = Severity.INFO) -> JobState:
    now = datetime.now(UTC)
    lines = tuple(line(now, severity, job.state, message) for message in messages)
    return job.model_copy(update={"updated": now, "log": job.log + lines})


def _entered(job: JobState, state: str) -> JobState:
    at = PAUSES.get(state)
    waiting = at is not None and job.level.value >= at.value
    pause = ": waiting for user action" if waiting else ""
    return _told(job.model_copy(update={"state": state, "waiting": waiting}), f"New state: {state}{pause}")
