"""Following a job of a cube until it ends, or until it needs a person: the same for every room."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, runtime_checkable

from acdtask.cube.joblog import LogReader, is_cancelled, last_error
from acdtask.cube.model import Consolidates, JobState, Level
from acdtask.errors import AcdError, ErrorCode

__all__ = ["ENDED", "STUCK", "Advances", "End", "Ending", "JobEvent", "ending_of", "follow", "require_done"]

ENDED = frozenset({"DONE", "DONEBUTUNTIDY", "FAILED"})
"""A job never leaves these by itself, and holds no dataset."""

STUCK = frozenset(
    {"INITIALISATIONFAILED", "CONSOLIDATIONFAILED", "CANCELLATIONFAILED", "ROLLBACKFAILED", "DELETIONFAILED"}
)
"""A job stays in these until a person retries or cancels it; its datasets are locked all the while."""

POLL_GROWTH = 1.5
LONGEST_POLL = 15.0

INACTIVE_BUG = "A dataset with the status INACTIVE already refers to the container"
"""What Geocube 1.0.3 says of every container of two or more records (its fault, since February 2025)."""


class End(Enum):
    """How following a job ended."""

    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    STUCK = "stuck"
    PAUSED = "paused"  # it waits, and the approval was refused
    TIMED_OUT = "timed out"


@dataclass(frozen=True)
class Ending:
    """How following a job ended, and what its reader may do.

    Attributes:
        job: as it was seen last.
        error: the message of the last ERROR line of its log; empty if there is none.
        advice: what to do; empty where there is nothing to do.
        warning: what is wrong although it is done.
    """

    end: End
    job: JobState
    error: str = ""
    advice: str = ""
    warning: str = ""

    @property
    def is_done(self) -> bool:
        """Whether what was asked for is there."""
        return self.end is End.DONE


@dataclass(frozen=True)
class JobEvent:
    """Something new about a job.

    Attributes:
        job: as it is now.
        lines: of its log, those that were not reported before.
        entered: whether its state, or that it waits, is new.
        continued: whether it was told just now to go on.
    """

    job: JobState
    lines: tuple[str, ...] = ()
    entered: bool = False
    continued: bool = False


@runtime_checkable
class Advances(Protocol):
    """A cube whose jobs need somebody to do their steps."""

    def advance(self, job_id: str) -> bool:
        """Do the next step of the job, unless there is none or another does it now. Whether something was done."""


class Clock(Protocol):
    """Seconds that pass; the module `time` is one."""

    def monotonic(self) -> float:
        """Now."""

    def sleep(self, seconds: float, /) -> None:
        """Wait."""


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
    """Watch a job until it ends, is stuck, or time is over.

    A cube that has nobody else to do its jobs (`Advances`) has their steps done here. A pause is continued once, when
    `approve` says yes: a Geocube takes up to ten seconds to hear of it, and shows `waiting` until then.

    Args:
        cube: where the job is.
        job_id: its id or its name.
        approve: called at each pause with the job; no ends the following, and leaves the job where it is.
        on_event: called when the job's state or its log has grown.
        timeout: seconds until the following ends, whatever the job does.
        poll: shortest pause between two looks, in seconds; it grows while nothing happens.
        clock: what measures the time.

    Raises:
        AcdError: JOB_UNKNOWN; SETTING_INVALID if the job pauses and there is no `approve`; what the cube raises, once
            it is no passing fault, or time is over.
    """
    return _Follower(cube, approve, on_event or _ignore, clock, poll).run(job_id, timeout)


def require_done(ending: Ending) -> JobState:
    """The job if it is done. JOB_STUCK, JOB_FAILED (also if it was cancelled), JOB_RUNNING (time over or paused)."""
    if ending.is_done:
        return ending.job
    code = {End.STUCK: ErrorCode.JOB_STUCK, End.FAILED: ErrorCode.JOB_FAILED, End.CANCELLED: ErrorCode.JOB_FAILED}
    said = f": {ending.error}" if ending.error else ""
    how = "was cancelled" if ending.end is End.CANCELLED else f"is {ending.job.state}"
    raise AcdError(code.get(ending.end, ErrorCode.JOB_RUNNING), f"job {ending.job.name} {how}{said}", ending.advice)


def ending_of(job: JobState) -> Ending | None:
    """How a job that needs no more watching ended; None while it goes on or pauses."""
    error = last_error(job.log)
    if job.state == "DONE":
        return Ending(End.DONE, job)
    if job.state == "DONEBUTUNTIDY":
        warning = f"job {job.name} is done, but left files behind: {error or 'see its log'}"
        return Ending(End.DONE, job, error, "Retry the job to remove what it left.", warning)
    if job.state == "FAILED":
        if is_cancelled(job.log):
            return Ending(End.CANCELLED, job, error, "Start it again under another name if it is still wanted.")
        return Ending(End.FAILED, job, error, "Look at the job's log, then start it again under another name.")
    if job.state in STUCK:
        return Ending(End.STUCK, job, error, _advice(job, error))
    return None


def _advice(job: JobState, error: str) -> str:
    if INACTIVE_BUG in error:
        return (
            "This version of the Geocube server cannot put two records into one container: cancel the job to set its "
            "datasets free, and update the server or use a layout with max_records 1."
        )
    if job.state in ("ROLLBACKFAILED", "CANCELLATIONFAILED"):
        return "Mend what the error names, then retry the job: it goes on taking back what it did."
    return "Mend what the error names, then retry the job, or cancel it to set its datasets free."


def _ignore(event: JobEvent) -> None:
    del event


@dataclass(frozen=True)
class _Pause:
    """A pause of a job: a state, and the how manieth time that it was entered (as far as the log tells)."""

    state: str
    entry: int

    @classmethod
    def of(cls, job: JobState) -> _Pause:
        return cls(job.state, sum(f"New state: {job.state}" in line for line in job.log))


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
        self._seen: JobState | None = None
        self._continued: _Pause | None = None
        self._is_new = False

    def run(self, job_id: str, timeout: float) -> Ending:
        deadline = self._clock.monotonic() + timeout
        pauses = self._pauses()
        failure: AcdError | None = None
        while True:
            try:
                self._is_new = False
                job, failure = self._look(job_id), None
                ending = ending_of(job) or self._act(job)
                if ending is not None:
                    return ending
                busy = self._advance(job)
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

    def _look(self, job_id: str) -> JobState:
        """The job as it is now; what is new is reported."""
        job, seen = self._cube.job(job_id), self._seen
        lines = self._log.new_lines(job.log)
        entered = seen is None or (seen.state, seen.waiting) != (job.state, job.waiting)
        if not job.waiting or (seen is not None and seen.state != job.state):
            self._continued = None
        self._seen = job
        if entered or lines or (seen is not None and _tasks(seen) != _tasks(job)):
            self._tell(JobEvent(job, lines, entered))
        return job

    def _tell(self, event: JobEvent) -> None:
        self._is_new = True
        self._on_event(event)

    def _act(self, job: JobState) -> Ending | None:
        """Continue a job that waits, once a pause, if it may go on."""
        if self._approve is None and job.level is not Level.ASYNCHRONOUS:
            raise AcdError(
                ErrorCode.SETTING_INVALID,
                f"job {job.name} pauses (level {job.level.name}), and there is no one to approve",
                "Say who approves its pauses, or start jobs at the level ASYNCHRONOUS.",
            )
        if not job.waiting or not self._is_new_pause(job):
            return None
        if self._approve is not None and not self._approve(job):
            return Ending(End.PAUSED, job, last_error(job.log), "Continue the job, or cancel it.")
        self._continued = _Pause.of(job)
        self._continue(job)
        self._tell(JobEvent(job, continued=True))
        return None

    def _is_new_pause(self, job: JobState) -> bool:
        pause, before = _Pause.of(job), self._continued
        return before is None or before.state != pause.state or before.entry < pause.entry

    def _continue(self, job: JobState) -> None:
        try:
            self._cube.continue_job(job.id)
        except AcdError as error:
            if error.code is not ErrorCode.JOB_STATE:  # somebody else continued it
                raise

    def _advance(self, job: JobState) -> bool:
        if isinstance(self._cube, Advances):
            return self._cube.advance(job.id)
        return False

    def _timed_out(self, failure: AcdError | None) -> Ending:
        if self._seen is None or failure is not None:
            raise failure or AcdError(ErrorCode.BUG, "a job was followed and never seen")
        advice = "Follow it again, or give it more time."
        if self._seen.waiting:
            advice = "It waits, although it was told to go on: see whether the server's workers run, then continue it."
        return Ending(End.TIMED_OUT, self._seen, last_error(self._seen.log), advice)


def _tasks(job: JobState) -> tuple[int, int]:
    return job.active_tasks, job.failed_tasks
