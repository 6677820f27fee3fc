"""Background threads of a server that do its consolidation jobs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from acdtask.errors import AcdError, ErrorCode
from acdtask.serve.consolidation.jobs import ConsolidationJobs

__all__ = ["JobRunner"]

FIRST_DELAY = 1.0
LONGEST_DELAY = 60.0


class JobRunner:
    """Threads that advance jobs, including those left by an earlier process. Several runners may share a cube.

    A failed job has a state that says so; other errors, such as an
    unreachable store, are passed to `on_error` in a thread of the runner, with the id of the job (empty if there is
    none), and the job is retried with growing delays. `poll` is the number of seconds between two looks for work,
    unless `wake` is called.
    """

    def __init__(
        self,
        jobs: ConsolidationJobs,
        on_error: Callable[[str, Exception], None],
        threads: int = 1,
        poll: float = 1.0,
    ) -> None:
        self.jobs, self._on_error, self._poll = jobs, on_error, poll
        self._stop, self._work = threading.Event(), threading.Condition()
        self._woken = 0
        self._delays: dict[str, tuple[float, float]] = {}
        self._threads = [
            threading.Thread(target=self._run, name=f"jobs-{number}", daemon=True) for number in range(threads)
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Look for work now, because a job was started, continued, retried or cancelled."""
        with self._work:
            self._woken += 1
            self._work.notify_all()

    def stop(self, timeout: float = 30.0) -> bool:
        """Stop at the next block of pixels. The step continues when the job is advanced again, here or elsewhere.

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
            unfinished = self.jobs.unfinished()
        except Exception as error:  # noqa: BLE001 - reported to the operator; the next look may succeed
            self._on_error("", error)
            return False
        done = False
        for job_id in unfinished:
            done |= not self._stop.is_set() and self._advance(job_id)
        return done

    def _advance(self, job_id: str) -> bool:
        now = time.monotonic()
        not_before, delay = self._delays.get(job_id, (0.0, FIRST_DELAY))
        if now < not_before:
            return False
        try:
            done = self.jobs.advance(job_id, self._stop.is_set)
        except Exception as error:  # noqa: BLE001 - reported to the operator; other jobs continue
            if not (isinstance(error, AcdError) and error.code is ErrorCode.JOB_UNKNOWN):  # another removed it
                self._delays[job_id] = (now + delay, min(2 * delay, LONGEST_DELAY))
                self._on_error(job_id, error)
            return False
        self._delays.pop(job_id, None)
        return done
