"""Deletion jobs for datasets, with the states and pauses of a Geocube."""

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
CANCELLABLE = {"CREATED", "DELETIONINPROGRESS"}
"""States in which a job may be cancelled, since nothing is deleted yet."""

ENDED = {"DONE", "FAILED"}


class _Deletion(BaseModel):
    """A stored job."""

    model_config = ConfigDict(frozen=True)

    job: JobState
    datasets: tuple[Dataset, ...]


class Deletions:
    """The deletion jobs of a cube, stored in the cube. Steps are done immediately, by the call that continues the job.

    Every method raises AcdError: JOB_UNKNOWN, JOB_STATE, JOB_CONFLICT, and errors of the store. If a step fails, for
    example because a consolidation holds the datasets, the job becomes DELETIONFAILED and can be retried.
    """

    def __init__(self, cube: LocalCube, managed: Managed, consolidations: ConsolidationJobs) -> None:
        self._cube = cube
        self._managed = managed
        self._consolidations = consolidations
        self._lock = threading.Lock()

    def start(self, name: str, level: Level, datasets: Sequence[Dataset]) -> JobState:
        """Start a job and run it until it pauses or ends. JOB_CONFLICT."""
        with self._lock:
            if any(job.name == name for job in self.all()):
                raise AcdError(ErrorCode.JOB_CONFLICT, f"job {name} already exists")
            now = datetime.now(UTC)
            job = JobState(
                id=str(uuid.uuid4()), name=name, kind="deletion", state="NEW", level=level, created=now, updated=now
            )
            job = _logged(job, f"Delete {len(datasets)} dataset(s)")
            return self._run(_Deletion(job=job, datasets=tuple(datasets)))

    def all(self, pattern: str = "") -> list[JobState]:
        """The jobs whose names match, oldest first."""
        matches = matcher(pattern or "*")
        jobs = [self._read(key).job for key in self._cube.store.list(FOLDER)]
        return sorted((job for job in jobs if matches(job.name)), key=lambda job: (job.created, job.id))

    def find(self, identity: str) -> JobState | None:
        """The job with an id, or None."""
        return self._read(_key(identity)).job if self._cube.store.exists(_key(identity)) else None

    def resume(self, identity: str) -> None:
        """Continue a job that pauses."""
        with self._lock:
            deletion = self._require(identity)
            job = deletion.job
            if not job.waiting:
                raise AcdError(ErrorCode.JOB_STATE, f"job {job.name} does not wait: it is {job.state}")
            self._run(_with(deletion, _logged(job, "Continued by user").model_copy(update={"waiting": False})))

    def retry(self, identity: str) -> None:
        """Retry the step that failed."""
        with self._lock:
            deletion = self._require(identity)
            job = deletion.job
            if job.state != "DELETIONFAILED":
                raise AcdError(ErrorCode.JOB_STATE, f"job {job.name} is {job.state}: there is nothing to retry")
            retried = _logged(job, "Retried by user").model_copy(update={"state": "DELETIONINPROGRESS"})
            self._run(_with(deletion, retried))

    def cancel(self, identity: str) -> None:
        """End a job that has deleted nothing yet."""
        with self._lock:
            deletion = self._require(identity)
            job = deletion.job
            if job.state not in CANCELLABLE:
                raise AcdError(ErrorCode.JOB_STATE, f"job {job.name} cannot be cancelled: it is {job.state}")
            cancelled = _logged(job, "Cancelled by user").model_copy(update={"state": "FAILED", "waiting": False})
            self._keep(_with(deletion, _logged(cancelled, "Nothing was deleted")))

    def forget(self, pattern: str, state: str) -> int:
        """Remove jobs that have ended. The number removed."""
        with self._lock:
            ended = [job for job in self.all(pattern) if job.state in ENDED and state in ("", job.state)]
            for job in ended:
                self._cube.store.delete(_key(job.id))
        return len(ended)

    def _run(self, deletion: _Deletion) -> JobState:
        """Do steps until the job pauses, fails or ends."""
        while deletion.job.state in NEXT and not deletion.job.waiting:
            job = deletion.job
            try:
                lines = self._step(deletion)
            except AcdError as error:
                failed = _logged(job, str(error), severity=Severity.ERROR)
                deletion = _with(deletion, failed.model_copy(update={"state": "DELETIONFAILED"}))
                break
            deletion = _with(deletion, _entered(_logged(job, *lines), NEXT[job.state]))
            self._keep(deletion)
        self._keep(deletion)
        return deletion.job

    def _step(self, deletion: _Deletion) -> list[str]:
        """Do the work of the job's state; returns lines for its log. Doing it twice is harmless."""
        if deletion.job.state == "DELETIONINPROGRESS":
            self._consolidations.require_unlocked(deletion.datasets)
            self._cube.remove(datasets=deletion.datasets)
            return ["Remove datasets..."]
        if deletion.job.state == "DELETIONEFFECTIVE":
            uris = {dataset.uri for dataset in deletion.datasets}
            used = {dataset.uri for dataset in self._cube.datasets_at(uris)}
            return [self._managed.release(uri) for uri in sorted(uris - used)]
        return []

    def _require(self, identity: str) -> _Deletion:
        if not self._cube.store.exists(_key(identity)):
            raise AcdError(ErrorCode.JOB_UNKNOWN, f"there is no job {identity!r}")
        return self._read(_key(identity))

    def _read(self, key: str) -> _Deletion:
        store = self._cube.store
        fix = "Delete the file, then delete the datasets again; already deleted ones do no harm."
        return parse_sealed(_Deletion, store.get(key), store.address_of(key), ErrorCode.CUBE_DAMAGED, fix)

    def _keep(self, deletion: _Deletion) -> None:
        self._cube.store.put(_key(deletion.job.id), seal(deletion.model_dump_json().encode()))


def _key(identity: str) -> str:
    return f"{FOLDER}/{identity}.json"


def _with(deletion: _Deletion, job: JobState) -> _Deletion:
    return _Deletion(job=job, datasets=deletion.datasets)


def _logged(job: JobState, *messages: str, severity: Severity = Severity.INFO) -> JobState:
    now = datetime.now(UTC)
    lines = tuple(line(now, severity, job.state, message) for message in messages)
    return job.model_copy(update={"updated": now, "log": job.log + lines})


def _entered(job: JobState, state: str) -> JobState:
    at = PAUSES.get(state)
    waiting = at is not None and job.level.value >= at.value
    pause = ": waiting for user action" if waiting else ""
    return _logged(job.model_copy(update={"state": state, "waiting": waiting}), f"New state: {state}{pause}")
