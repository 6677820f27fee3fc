"""Follows a job of any cube until it ends or needs a person."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, runtime_checkable

from acdtask.cube.jobs import Consolidates, JobState, Level
from acdtask.errors import AcdError, ErrorCode

__all__ = ["ENDED", "STUCK", "Advances", "End", "Ending", "JobEvent", "ending_of", "follow", "require_done"]

ENDED = frozenset({"DONE", "DONEBUTUNTIDY", "FAILED"})
"""States of a job that has ended and locks no datasets."""

STUCK = frozenset(
    {"INITIALISATIONFAILED", "CONSOLIDATIONFAILED", "CANCELLATIONFAILED", "ROLLBACKFAILED", "DELETIONFAILED"}
)
"""States in which a job stays, with its datasets locked, until it is retried or cancelled."""

ELIDED = re.compile(r"^\[\.\.\. .*\]$")
"""A server's note that it omitted earlier or later lines of a log."""

POLL_GROWTH = 1.5
LONGEST_POLL = 15.0

INACTIVE_BUG = "A dataset with the status INACTIVE already refers to the container"
"""The error of Geocube 1.0.3 for every container with two or more records (a bug since February 2025)."""


class End(Enum):
    """Reason why a job is no longer followed."""

    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    STUCK = "stuck"
    PAUSED = "paused"  # it waits, and was not approved
    TIMED_OUT = "timed out"


@dataclass(frozen=True)
class Ending:
    """Result of following a job.

    Attributes:
        end: why the job is no longer followed.
        job: its last known state.
        error: the latest error; empty if nothing has failed.
        advice: what to do next; empty if there is nothing to do.
        warning: a problem of a job that is done.
    """

    end: End
    job: JobState
    error: str = ""
    advice: str = ""
    warning: str = ""

    @property
    def is_done(self) -> bool:
        """Whether the job has succeeded."""
        return self.end is End.DONE


@dataclass(frozen=True)
class JobEvent:
    """A change of a job.

    Attributes:
        job: its current state.
        lines: new lines of its log.
        entered: whether it has entered a state, or started or ended a pause.
        continued: whether the follower has just continued it.
    """

    job: JobState
    lines: tuple[str, ...] = ()
    entered: bool = False
    continued: bool = False


@runtime_checkable
class Advances(Protocol):
    """Jobs without a server of their own, whose steps are done by callers."""

    def advance(self, id_or_name: str) -> bool:
        """Do the next step of a job unless another process is doing it, and return whether anything was done."""


class Clock(Protocol):
    """A clock, such as the module `time`."""

    def monotonic(self) -> float:
        """The current time in seconds."""

    def sleep(self, seconds: float, /) -> None:
        """Wait for some seconds."""


def follow(
    cube: Consolidates,
    job_id: str,
    approve: Callable[[JobState], bool] | None = None,
    on_event: Callable[[JobEvent], None] | None = None,
    *,
    timeout: float = 86400.0,
    poll: float = 1.0,
    clock: Clock = time,
) -> Ending:
    """Follow a job until it ends, is stuck, or the timeout expires.

    If the jobs have no server (`Advances`), their steps are done here. If `approve` accepts a pause, the job is
    continued once: a Geocube takes up to ten seconds to process the request, and reports `waiting` until then.

    Args:
        cube: cube with the job.
        job_id: id or name of the job.
        approve: called with the job at each pause. If it returns False, the job stays paused and is no longer followed.
        on_event: called when the state, tasks or log of the job have changed.
        timeout: seconds.
        poll: shortest interval between two requests, in seconds. It grows while nothing happens.
        clock: measures the time.

    Raises:
        AcdError: JOB_UNKNOWN; SETTING_INVALID if the job pauses and there is no `approve`; errors of the cube that are
            permanent, or that last until the timeout.
    """
    return _Follower(cube, approve, on_event or (lambda _: None), clock, poll).run(job_id, timeout)


def require_done(ending: Ending) -> JobState:
    """Require that a job is done. JOB_STUCK, JOB_FAILED (also if cancelled), JOB_RUNNING (timed out or paused)."""
    if ending.is_done:
        return ending.job
    code = {End.STUCK: ErrorCode.JOB_STUCK, End.FAILED: ErrorCode.JOB_FAILED, End.CANCELLED: ErrorCode.JOB_FAILED}
    reason = f": {ending.error}" if ending.error else ""
    state = "was cancelled" if ending.end is End.CANCELLED else f"is {ending.job.state}"
    raise AcdError(code.get(ending.end, ErrorCode.JOB_RUNNING), f"job {ending.job.name} {state}{reason}", ending.advice)


def ending_of(job: JobState) -> Ending | None:
    """The ending of a job; None while it runs or pauses."""
    error = job.error
    if job.state == "DONE":
        return Ending(End.DONE, job)
    if job.state == "DONEBUTUNTIDY":
        warning = f"job {job.name} is done, but did not delete all its old files: {error or 'see its log'}"
        return Ending(End.DONE, job, error, "Retry the job to delete them.", warning)
    if job.state == "FAILED":
        if job.cancelled:
            return Ending(End.CANCELLED, job, error, "If it is still needed, start it again under another name.")
        return Ending(End.FAILED, job, error, "Check the job's log, then start it again under another name.")
    if job.state in STUCK:
        return Ending(End.STUCK, job, error, _advice(job, error))
    return None


def _advice(job: JobState, error: str) -> str:
    if INACTIVE_BUG in error:
        return (
            "This version of the Geocube server cannot put two records into one container. Cancel the job to unlock "
            "its datasets, then update the server or use a layout with max_records 1."
        )
    if job.state in ("ROLLBACKFAILED", "CANCELLATIONFAILED"):
        return "Fix the cause of the error, then retry the job: it continues to undo its work."
    return "Fix the cause of the error, then retry the job, or cancel it to unlock its datasets."


class _Follower:
    def __init__(
        self,
        cube: Consolidates,
        approve: Callable[[JobState], bool] | None,
        on_event: Callable[[JobEvent], None],
        clock: Clock,
        poll: float,
    ) -> None:
        self._cube, self._approve, self._on_event = cube, approve, on_event
        self._clock, self._poll = clock, poll
        self._log = LogReader()
        self._last: JobState | None = None
        self._continued: JobState | None = None
        self._is_new = False

    def run(self, job_id: str, timeout: float) -> Ending:
        deadline = self._clock.monotonic() + timeout
        pauses = self._pauses()
        failure: AcdError | None = None
        while True:
            try:
                self._is_new = False
                job, failure = self._current(job_id), None
                ending = ending_of(job) or self._act(job)
                if ending is not None:
                    return ending
                busy = isinstance(self._cube, Advances) and self._cube.advance(job.id)
            except AcdError as error:
                if not error.code.value.retryable:
                    raise
                failure, busy = error, False
            if self._clock.monotonic() >= deadline:
                return self._timed_out(failure)
            if busy or self._is_new:
                pauses = self._pauses()
            if not busy:
                self._clock.sleep(min(next(pauses), max(deadline - self._clock.monotonic(), 0.0)))

    def _pauses(self) -> Iterator[float]:
        pause = self._poll
        while True:
            yield pause
            pause = max(min(pause * POLL_GROWTH, LONGEST_POLL), self._poll)

    def _current(self, job_id: str) -> JobState:
        """Get the current state of the job, and report changes."""
        job, previous = self._cube.job(job_id), self._last
        lines = self._log.new_lines(job.log)
        entered = previous is None or (previous.state, previous.waiting) != (job.state, job.waiting)
        if not job.waiting or (previous is not None and previous.state != job.state):
            self._continued = None
        self._last = job
        if entered or lines or (previous is not None and _tasks(previous) != _tasks(job)):
            self._report(JobEvent(job, lines, entered))
        return job

    def _report(self, event: JobEvent) -> None:
        self._is_new = True
        self._on_event(event)

    def _act(self, job: JobState) -> Ending | None:
        """Continue a waiting job, once for each pause, if `approve` accepts."""
        if self._approve is None and job.level is not Level.ASYNCHRONOUS:
            raise AcdError(
                ErrorCode.SETTING_INVALID,
                f"job {job.name} pauses (level {job.level.name}), but no `approve` function was given",
                "Pass `approve`, or start jobs at the level ASYNCHRONOUS.",
            )
        if not job.waiting or not self._is_new_pause(job):
            return None
        if self._approve is not None and not self._approve(job):
            return Ending(End.PAUSED, job, job.error, "Continue the job, or cancel it.")
        self._continued = job
        self._continue(job)
        self._report(JobEvent(job, continued=True))
        return None

    def _is_new_pause(self, job: JobState) -> bool:
        # Between two requests, a job may leave a state and enter it again. Only `entries` shows a new pause.
        before = self._continued
        return before is None or before.state != job.state or before.entries < job.entries

    def _continue(self, job: JobState) -> None:
        try:
            self._cube.continue_job(job.id)
        except AcdError as error:
            if error.code is not ErrorCode.JOB_STATE:  # another client has continued it
                raise

    def _timed_out(self, failure: AcdError | None) -> Ending:
        if self._last is None or failure is not None:
            raise failure or AcdError(ErrorCode.BUG, "a job timed out, but its state is unknown")
        advice = "Follow it again, or with a longer timeout."
        if self._last.waiting:
            advice = "It still waits after it was continued. Check the server's workers, then continue it again."
        return Ending(End.TIMED_OUT, self._last, self._last.error, advice)


def _tasks(job: JobState) -> tuple[int, int]:
    return job.active_tasks, job.failed_tasks


class LogReader:
    """Finds the new lines of a log that may be truncated to its newest lines."""

    def __init__(self) -> None:
        self._known: list[str] = []

    def new_lines(self, log: Sequence[str]) -> tuple[str, ...]:
        """The lines that earlier calls have not returned."""
        lines = [text for text in log if not ELIDED.match(text)]
        if not lines:
            return ()
        fresh = lines[self._count_known(lines) :]
        self._known += fresh
        return tuple(fresh)

    def _count_known(self, lines: list[str]) -> int:
        """Number of leading lines that are known.

        That is the longest beginning of the lines that ends as the known lines do. Example: c d e begins with c d, the
        end of the known lines a b c d.
        """
        if not self._known:
            return 0
        for length in range(len(lines), 0, -1):
            both = min(length, len(self._known))
            if lines[length - 1] == self._known[-1] and lines[length - both : length] == self._known[-both:]:
                return length
        return 0
