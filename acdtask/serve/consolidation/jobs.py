"""The consolidation jobs of a cube, with the states and pauses of a Geocube.

A Geocube follows a consolidation by a deletion job, which removes its source datasets from the index. Here the sources
stay: reads use the consolidated datasets for their own cells (`acdtask.cube.local.lookup`), and the sources for other
layouts.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from acdtask.cube.jobs import Consolidation, ConsolidationParams, JobState, stored_as
from acdtask.cube.local.consolidation_cell import require_one_band
from acdtask.cube.model import Dataset
from acdtask.cube.patterns import matcher
from acdtask.errors import AcdError, ErrorCode
from acdtask.serve.consolidation.events import Command, Event, Progress
from acdtask.serve.consolidation.journal import Journal
from acdtask.serve.consolidation.log import log_of
from acdtask.serve.consolidation.states import NEEDS_PERSON, after_cancel, after_retry, failed_state, is_final
from acdtask.serve.consolidation.steps import JobStep, StoppedError, passes_by_itself
from acdtask.storage.seal import parse_sealed, seal

if TYPE_CHECKING:
    from acdtask.cube.local.cube import LocalCube

__all__ = ["ConsolidationJobs"]

NO_DATASETS = "No dataset found for these records and instances"
ATTEMPTS = 50
LOOK_SECONDS = 1.0
LONGEST_NAME = 200


class ConsolidationJobs:
    """The consolidation jobs of a cube: it `Consolidates` (acdtask.cube.jobs).

    Jobs are stored in the cube, so they survive a restart. Their steps are done by callers of `advance`.
    """

    def __init__(self, cube: LocalCube) -> None:
        self._cube = cube
        self._journal = Journal(cube.store)

    def configure(self, variable: str, params: ConsolidationParams) -> None:
        """Set the parameters of a variable's future consolidations. VARIABLE_UNKNOWN, SETTING_INVALID."""
        stored_as(self._cube.variable(variable), params)
        self._cube.store.put(_params_key(variable), seal(params.model_dump_json().encode()))

    def params(self, variable: str) -> ConsolidationParams | None:
        """The parameters of a variable's consolidations, or None if none were set. VARIABLE_UNKNOWN, CUBE_DAMAGED."""
        store, key = self._cube.store, _params_key(self._cube.variable(variable).name)
        data = store.find(key)
        if data is None:
            return None
        fix = "Delete the file and set the parameters again."
        return parse_sealed(ConsolidationParams, data, store.address_of(key), ErrorCode.CUBE_DAMAGED, fix)

    def consolidate(self, consolidation: Consolidation) -> str:
        """Start a job and return its id. Raises as `start` does, and LAYOUT_UNKNOWN."""
        self._cube.layout(consolidation.layout)
        return self.start(consolidation)

    def start(self, wanted: Consolidation) -> str:
        """Start a job and return its id. If the layout is unknown, the job ends in the state INITIALISATIONFAILED.

        SETTING_INVALID, VARIABLE_UNKNOWN, INSTANCE_UNKNOWN, INPUT_BANDS, INPUT_MISSING if no record has a dataset,
        JOB_CONFLICT, DATASET_LOCKED.
        """
        if not wanted.name.strip() or len(wanted.name) > LONGEST_NAME:
            raise AcdError(ErrorCode.SETTING_INVALID, f"a job's name has 1 to {LONGEST_NAME} characters")
        if not wanted.records:
            raise AcdError(ErrorCode.SETTING_INVALID, f"job {wanted.name} names no record")
        variable = self._cube.variable(wanted.variable)
        require_one_band(variable)
        params = self.params(variable.name) or ConsolidationParams()
        stored_as(variable, params)
        if not self._cube.having(wanted.variable, wanted.instance, wanted.records):
            raise AcdError(ErrorCode.INPUT_MISSING, NO_DATASETS)
        self._journal.require_free_name(wanted.name)
        self._journal.require_unlocked(wanted.variable, wanted.instance, wanted.records)
        job = self._journal.open(wanted, params)
        try:
            self._journal.lock(job)
        except AcdError as error:
            if error.code is ErrorCode.DATASET_LOCKED:
                self._journal.remove(job)
            raise
        return job.id

    def require_unlocked(self, datasets: Iterable[Dataset]) -> None:
        """DATASET_LOCKED, naming the job, if a job holds any of the datasets."""
        records: dict[tuple[str, str], set[str]] = {}
        for dataset in datasets:
            records.setdefault((dataset.variable, dataset.instance), set()).add(dataset.record_id)
        for (variable, instance), ids in records.items():
            self._journal.require_unlocked(variable, instance, ids)

    def job(self, id_or_name: str) -> JobState:
        """The job with its log. JOB_UNKNOWN."""
        job = self._journal.find(id_or_name)
        return job.job_state(log_of(job))

    def jobs(self, pattern: str = "") -> list[JobState]:
        """Jobs whose names match (`*`, `?`; a final `(?i)` ignores case), oldest first, without logs."""
        matches = matcher(pattern or "*")
        return [job.job_state() for job in self._journal.all() if matches(job.name)]

    def continue_job(self, job_id: str) -> None:
        """Continue a job that pauses. JOB_UNKNOWN, JOB_STATE."""

        def change(job: Progress) -> Event:
            if not job.waiting:
                raise AcdError(ErrorCode.JOB_STATE, f"job {job.name} does not wait: it is {job.state.value}")
            return Event(state=job.state, command=Command.CONTINUE)

        self._change(job_id, change)

    def retry_job(self, job_id: str, *, force: bool = False) -> None:
        """Retry what failed; with `force` also a step that another process may be doing. JOB_UNKNOWN, JOB_STATE."""

        def change(job: Progress) -> Event:
            state = after_retry(job.name, job.state, some_failed=bool(job.failed), force=force)
            return Event(state=state, command=Command.RETRY)

        self._change(job_id, change)
        if force:
            self._journal.end_lease(self._journal.find(job_id).id)

    def cancel_job(self, job_id: str, *, force: bool = False) -> None:
        """End a job and delete what it wrote; with `force` also while it is about to leave its state.

        JOB_UNKNOWN; JOB_STATE if it has ended, or the index may contain its datasets already.
        """

        def change(job: Progress) -> Event:
            state = after_cancel(job.name, job.state, waiting=job.waiting, force=force)
            return Event(state=state, command=Command.CANCEL)

        self._change(job_id, change)

    def forget(self, pattern: str = "", state: str = "") -> int:
        """Remove jobs that have ended (in this state) with their logs; their results stay. The number removed."""
        matches = matcher(pattern or "*")
        ended = [job for job in self._journal.all() if is_final(job.state) and state in ("", job.state.value)]
        chosen = [job for job in ended if matches(job.name)]
        for job in chosen:
            self._journal.remove(job)
        return len(chosen)

    def unfinished(self) -> list[str]:
        """Ids of the jobs that have a step to do, oldest first."""
        return [job.id for job in self._journal.all() if _has_step(job)]

    def advance(self, id_or_name: str, should_stop: Callable[[], bool] = lambda: False) -> bool:
        """Do the next step of a job, or a part of it, and return whether anything was done.

        False if the job has ended, waits, or is being advanced by another process. `should_stop` is called often; once
        it returns True, the rest of the step is left to the next call. JOB_UNKNOWN; errors of the store, after which
        the step can be repeated.
        """
        job = self._journal.find(id_or_name)
        owner = uuid.uuid4().hex
        if not _has_step(job) or not self._journal.take_lease(job.id, owner):
            return False
        try:
            job = self._journal.find(id_or_name)
            return _has_step(job) and self._step(job, owner, should_stop)
        finally:
            with suppress(AcdError):  # a lease expires by itself
                self._journal.end_lease(job.id, owner)

    def _step(self, job: Progress, owner: str, should_stop: Callable[[], bool]) -> bool:
        watch = _Watch(self._journal, job, owner, should_stop)
        try:
            event = JobStep(self._cube, self._journal, job, watch.look).work()
        except StoppedError:
            return watch.is_overtaken
        except AcdError as error:
            if passes_by_itself(error):
                raise
            event = Event(state=failed_state(job.state), error=str(error))
        except Exception as error:
            reason = f"ACD-900: {type(error).__name__}: {error}"
            self._journal.append(job, Event(state=failed_state(job.state), error=reason))
            raise
        self._journal.append(job, event)
        return True

    def _change(self, id_or_name: str, change: Callable[[Progress], Event]) -> None:
        for _ in range(ATTEMPTS):
            job = self._journal.find(id_or_name)
            if self._journal.append(job, change(job)):
                return
        raise AcdError(ErrorCode.STORE_CONTENDED, f"job {id_or_name} was changed by others {ATTEMPTS} times")


class _Watch:
    """Called during a long step: about once a second it renews the lease and checks whether the job has changed."""

    def __init__(self, journal: Journal, job: Progress, owner: str, should_stop: Callable[[], bool]) -> None:
        self._journal, self._job, self._owner, self._should_stop = journal, job, owner, should_stop
        self._next = time.monotonic() + LOOK_SECONDS
        self.is_overtaken = False

    def look(self) -> None:
        """Raises StoppedError if the step is to be left."""
        if self._should_stop():
            raise StoppedError
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + LOOK_SECONDS
        self.is_overtaken = self._journal.is_overtaken(self._job)
        if self.is_overtaken or not self._journal.take_lease(self._job.id, self._owner):
            raise StoppedError


def _params_key(variable: str) -> str:
    return f"consolidation/{variable}.json"


def _has_step(job: Progress) -> bool:
    return not job.waiting and not is_final(job.state) and job.state not in NEEDS_PERSON
