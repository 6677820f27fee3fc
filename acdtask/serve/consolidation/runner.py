"""Doing the jobs of a cube in the background, for a server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from acdtask.errors import AcdError, ErrorCode

if TYPE_CHECKING:
    from acdtask.cube.local.cube import LocalCube

__all__ = ["JobRunner"]

FIRST_DELAY = 1.0
LONGEST_DELAY = 60.0


class JobRunner:
    """Threads that advance the jobs of a cube, also those that were there before. Other runners may do the same.

    Used as a context manager it starts and stops. A job that fails is a state of that job; what goes wrong beside, such
    as a store that does not answer, is told to `on_error`, and the job is tried again later and later.

    Args:
        cube: whose jobs.
        on_error: called in a thread of the runner with the id of the job (empty if it was none) and the error.
        threads: how many jobs at once.
        poll: seconds between two looks for work, unless `wake` is called.
    """

    def __init__(
        self, cube: LocalCube, on_error: Callable[[str, Exception], None], threads: int = 1, poll: float = 1.0
    ) -> None:
        self._jobs, self._on_error, self._poll = cube.consolidations, on_error, poll
        self._stop, self._work = threading.Event(), threading.Condition()
        self._woken = 0
        self._delays: dict[str, tuple[float, float]] = {}
        self._threads = [
            threading.Thread(target=self._run, name=f"jobs-{number}", daemon=True) for number in range(threads)
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Say that there may be work: a job was started, continued, retried or cancelled."""
        with self._work:
            self._woken += 1
            self._work.notify_all()

    def stop(self, timeout: float = 30.0) -> bool:
        """End: a step is left at the next block of pixels, and goes on wherever the job is advanced next.

        Returns:
            Whether every thread has ended within the timeout, in seconds.
        """
        self._stop.set()
        self.wake()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        while not self._stop.is_set():
            seen = self._woken
            if not self._pass():
                with self._work:
                    if self._woken == seen:
                        self._work.wait(self._poll)

    def _pass(self) -> bool:
        """Advance each job by a step. Whether anything was done."""
        try:
            waiting = self._jobs.unfinished()
        except Exception as error:  # noqa: BLE001 - told to whoever runs the server; the next look may go well
            self._on_error("", error)
            return False
        done = False
        for one in waiting:
            done |= not self._stop.is_set() and self._advance(one)
        return done

    def _advance(self, job_id: str) -> bool:
        now = time.monotonic()
        not_before, delay = self._delays.get(job_id, (0.0, FIRST_DELAY))
        if now < not_before:
            return False
        try:
            done = self._jobs.advance(job_id, self._stop.is_set)
        except Exception as error:  # noqa: BLE001 - told to whoever runs the server; other jobs go on
            if not (isinstance(error, AcdError) and error.code is ErrorCode.JOB_UNKNOWN):  # another removed it
                self._delays[job_id] = (now + delay, min(2 * delay, LONGEST_DELAY))
                self._on_error(job_id, error)
            return False
        self._delays.pop(job_id, None)
        return done
