"""Consolidation jobs of a local cube, with the states and pauses of a Geocube.

In a Geocube a consolidation takes the datasets that it read out of the index, by a deletion job that follows. Here they
stay: for its own cells a consolidated dataset is read instead (`acdtask.cube.local.lookup`), other layouts
are made from the sources, and nothing is ever lost.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import cached_property
from typing import TYPE_CHECKING, cast

from acdtask.cube.consolidation_params import ConsolidationParams, find_params, keep_params, stored_as
from acdtask.cube.joblog import Severity
from acdtask.cube.model import Consolidation, Dataset, JobState
from acdtask.errors import AcdError, ErrorCode
from acdtask.serve.consolidation.events import Draft, Progress
from acdtask.serve.consolidation.journal import Book
from acdtask.serve.consolidation.states import STANDS_STILL, after_cancel, after_retry, is_final

if TYPE_CHECKING:
    from acdtask.cube.local.cube import LocalCube

__all__ = ["ConsolidatingCube", "Consolidations"]

NOTHING_THERE = "No dataset found for these records and instances"
ATTEMPTS = 50
LOOK_SECONDS = 1.0
LONGEST_NAME = 200


def _never() -> bool:
    return False


class Consolidations:
    """The consolidation jobs of a local cube; they are kept in its store, and go on after a restart."""

    def __init__(self, cube: LocalCube) -> None:
        self._cube = cube
        self._book = Book(cube.store)

    def start(self, wanted: Consolidation) -> str:
        """Make a job and return its id.

        Raises:
            AcdError: SETTING_INVALID, VARIABLE_UNKNOWN, INSTANCE_UNKNOWN, INPUT_BANDS, INPUT_MISSING if no record has a
                dataset, JOB_CONFLICT, DATASET_LOCKED. An unknown layout shows in the job: INITIALISATIONFAILED.
        """
        if not wanted.name.strip() or len(wanted.name) > LONGEST_NAME:
            raise AcdError(ErrorCode.SETTING_INVALID, f"a job's name has 1 to {LONGEST_NAME} characters")
        if not wanted.records:
            raise AcdError(ErrorCode.SETTING_INVALID, f"job {wanted.name} names no record")
        variable = self._cube.variable(wanted.variable)
        if len(variable.bands) > 1:
            raise AcdError(ErrorCode.INPUT_BANDS, f"{variable.name} has several bands; only one can be consolidated")
        params = find_params(self._cube.store, variable.name) or ConsolidationParams()
        stored_as(variable, params)
        if not self._cube.having(wanted.variable, wanted.instance, wanted.records):
            raise AcdError(ErrorCode.INPUT_MISSING, NOTHING_THERE)
        self._book.require_free_name(wanted.name)
        self._book.require_unlocked(wanted.variable, wanted.instance, wanted.records)
        progress = self._book.open(wanted, params)
        try:
            self._book.lock(progress)
        except AcdError as error:
            if error.code is ErrorCode.DATASET_LOCKED:
                self._book.remove(progress)
            raise
        return progress.definition.id

    def require_unlocked(self, datasets: Iterable[Dataset]) -> None:
        """DATASET_LOCKED, naming the job, if one holds any of the datasets."""
        records: dict[tuple[str, str], set[str]] = {}
        for one in datasets:
            records.setdefault((one.variable, one.instance), set()).add(one.record_id)
        for (variable, instance), ids in records.items():
            self._book.require_unlocked(variable, instance, ids)

    def job(self, id_or_name: str) -> JobState:
        """The job with its log. JOB_UNKNOWN."""
        return self._book.find(id_or_name).job_state()

    def jobs(self, pattern: str = "") -> list[JobState]:
        """Jobs whose names match (`*`, `?`; `(?i)` at the end: whatever the case), oldest first, without logs."""
        return [one.job_state(log=False) for one in self._book.all() if _matches(one.name, pattern)]

    def go_on(self, job_id: str) -> None:
        """Let a job go on that waits. JOB_UNKNOWN, JOB_STATE."""

        def change(progress: Progress, draft: Draft) -> None:
            if not progress.waiting:
                raise AcdError(ErrorCode.JOB_STATE, f"job {progress.name} does not wait: it is {progress.state.value}")
            draft.waiting = False
            draft.say("Continued by user")

        self._change(job_id, change)

    def retry(self, job_id: str, *, force: bool = False) -> None:
        """Let a job try again what failed; with `force`, do its step again, whoever does it now. JOB_STATE."""

        def change(progress: Progress, draft: Draft) -> None:
            some = bool(progress.failed)
            state = after_retry(progress.name, progress.state, some_failed=some, force=force)
            draft.say("Retried by user")
            if state is not progress.state:
                draft.enter(state)

        self._change(job_id, change)
        if force:
            self._book.end_lease(self._book.find(job_id).definition.id)

    def cancel(self, job_id: str, *, force: bool = False) -> None:
        """End a job, and remove what it wrote. JOB_STATE if it has ended or its datasets may be in the index already.

        Without `force` also where it is just about to leave a state by itself.
        """

        def change(progress: Progress, draft: Draft) -> None:
            state = after_cancel(progress.name, progress.state, waiting=progress.waiting, force=force)
            draft.say("Cancelled by user")
            draft.enter(state)

        self._change(job_id, change)

    def forget(self, pattern: str = "", state: str = "") -> int:
        """Remove jobs that have ended (in this state) and their logs; their results stay. How many there were."""
        ended = [one for one in self._book.all() if is_final(one.state) and state in ("", one.state.value)]
        chosen = [one for one in ended if _matches(one.name, pattern)]
        for one in chosen:
            self._book.remove(one)
        return len(chosen)

    def unfinished(self) -> list[str]:
        """Ids of the jobs that have a step to do, oldest first."""
        return [one.definition.id for one in self._book.all() if _has_step(one)]

    def advance(self, job_id: str, should_stop: Callable[[], bool] = _never) -> bool:
        """Do the next step of a job, or a part of it.

        Args:
            job_id: of the job.
            should_stop: asked often; if it says yes, what is not done is left to the next call.

        Returns:
            Whether something was done: False if the job ended, stands still or waits, or if another is at work on it.

        Raises:
            AcdError: JOB_UNKNOWN; what the store raises: the job is as it was, and the step can be done again.
        """
        progress = self._book.find(job_id)
        owner, job_id = uuid.uuid4().hex, progress.definition.id
        if not _has_step(progress) or not self._book.take_lease(job_id, owner):
            return False
        try:
            progress = self._book.find(job_id)
            return _has_step(progress) and self._step(progress, owner, should_stop)
        finally:
            with suppress(AcdError):  # a lease ends by itself
                self._book.end_lease(job_id, owner)

    def _step(self, progress: Progress, owner: str, should_stop: Callable[[], bool]) -> bool:
        from acdtask.serve.consolidation.steps import StoppedError, do_step, passes_by_itself

        watch = _Watch(self._book, progress, owner, should_stop)
        try:
            draft = do_step(self._cube, self._book, progress, watch.look)
        except StoppedError:
            return watch.is_overtaken
        except AcdError as error:
            if passes_by_itself(error):
                raise
            draft = self._failure(progress, str(error))
        except Exception as error:
            self._book.append(progress, self._failure(progress, f"ACD-900: {type(error).__name__}: {error}"))
            raise
        self._book.append(progress, draft)
        return True

    def _failure(self, progress: Progress, message: str) -> Draft:
        from acdtask.serve.consolidation.steps import failed_state

        draft = Draft(progress)
        draft.say(message, Severity.ERROR)
        draft.enter(failed_state(progress.state))
        draft.say("Wait for user command...")
        return draft

    def _change(self, id_or_name: str, change: Callable[[Progress, Draft], None]) -> None:
        for _ in range(ATTEMPTS):
            progress = self._book.find(id_or_name)
            draft = Draft(progress)
            change(progress, draft)
            if self._book.append(progress, draft):
                return
        raise AcdError(ErrorCode.STORE_CONTENDED, f"job {id_or_name} was changed by others {ATTEMPTS} times")


class _Watch:
    """Looks up from a long step about once a second: the lease goes on, and the job may have been cancelled."""

    def __init__(self, book: Book, progress: Progress, owner: str, should_stop: Callable[[], bool]) -> None:
        self._book, self._progress, self._owner, self._should_stop = book, progress, owner, should_stop
        self._next = time.monotonic() + LOOK_SECONDS
        self.is_overtaken = False

    def look(self) -> None:
        """Raises StoppedError if the step is to be left."""
        from acdtask.serve.consolidation.steps import StoppedError

        if self._should_stop():
            raise StoppedError
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + LOOK_SECONDS
        self.is_overtaken = self._book.is_overtaken(self._progress)
        if self.is_overtaken or not self._book.take_lease(self._progress.definition.id, self._owner):
            raise StoppedError


class ConsolidatingCube:
    """What makes a local cube one that `Consolidates`; its steps are done by whoever calls `advance`."""

    @cached_property
    def consolidations(self) -> Consolidations:
        """The jobs of the cube."""
        return Consolidations(cast("LocalCube", self))

    def consolidate(self, consolidation: Consolidation) -> str:
        """Start a job and return its id, as `Consolidations.start` says; LAYOUT_UNKNOWN at once."""
        cast("LocalCube", self).layout(consolidation.layout)
        return self.consolidations.start(consolidation)

    def job(self, id_or_name: str) -> JobState:
        """The job with its log. JOB_UNKNOWN."""
        return self.consolidations.job(id_or_name)

    def jobs(self, pattern: str = "") -> list[JobState]:
        """Jobs whose names match a pattern, oldest first, without logs."""
        return self.consolidations.jobs(pattern)

    def continue_job(self, job_id: str) -> None:
        """Let a job go on that waits. JOB_UNKNOWN, JOB_STATE."""
        self.consolidations.go_on(job_id)

    def retry_job(self, job_id: str, *, force: bool = False) -> None:
        """Let a job that failed try again what failed. JOB_UNKNOWN, JOB_STATE."""
        self.consolidations.retry(job_id, force=force)

    def cancel_job(self, job_id: str, *, force: bool = False) -> None:
        """End a job and take back what it did. JOB_UNKNOWN, JOB_STATE."""
        self.consolidations.cancel(job_id, force=force)

    def advance(self, job_id: str) -> bool:
        """Do the next step of a job, as `Consolidations.advance` says."""
        return self.consolidations.advance(job_id)

    def config_consolidation(self, variable: str, params: ConsolidationParams) -> None:
        """Let these be the parameters of the variable's consolidations. VARIABLE_UNKNOWN, SETTING_INVALID."""
        cube = cast("LocalCube", self)
        keep_params(cube.store, cube.variable(variable), params)

    def consolidation_params(self, variable: str) -> ConsolidationParams | None:
        """The parameters of the variable's consolidations, or None if none were set. VARIABLE_UNKNOWN."""
        cube = cast("LocalCube", self)
        return find_params(cube.store, cube.variable(variable).name)


def _has_step(progress: Progress) -> bool:
    return not progress.waiting and progress.state not in STANDS_STILL


def _matches(name: str, pattern: str) -> bool:
    if pattern.endswith("(?i)"):
        name, pattern = name.lower(), pattern.removesuffix("(?i)").lower()
    return not pattern or fnmatchcase(name, pattern.replace("[", "[[]"))
