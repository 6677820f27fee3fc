"""A pool of worker processes, none of which outlives its parent."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.reduction import ForkingPickler
from types import TracebackType
from typing import Any, Generic, TypeVar

from acdtask import log
from acdtask.engine.progressbar import ProgressBar
from acdtask.engine.signals import sigterm_as_interrupt
from acdtask.engine.worker import Progress, serve
from acdtask.errors import AcdError, ErrorCode

__all__ = ["Progress", "ProgressBar", "RemoteTraceback", "WorkerPool", "cores"]

Item = TypeVar("Item")
Result = TypeVar("Result")

ONE_THREAD = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "BLIS_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",
        "BLOSC_NTHREADS",
        "GDAL_NUM_THREADS",
    ),
    "1",
)
"""Processes share the cores, so a library that starts one thread per core would only compete with the others."""

GRACE_SECONDS = 1.0
WAKE_SECONDS = 0.5
"""Longest wait. A signal that arrives just before a wait does not end it; Python handles it after the wait."""

_events = log.events("engine")


class RemoteTraceback(Exception):  # noqa: N818  # the cause of an error, never raised itself
    """Traceback of an error in a worker process."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(text)

    def __str__(self) -> str:
        return f"in a worker process:\n{self.text}"


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass
class _Worker(Generic[Item]):
    process: SpawnProcess
    connection: Connection[Any, Any]
    items: list[Item] = field(default_factory=list)
    """The current item, or empty."""
    was_idle: bool = False
    """Whether the worker was idle when it got the current item and has not confirmed it yet."""


class WorkerPool:
    """Runs calls in spawned processes, which start when needed. A pool serves any number of rounds, one at a time.

    In concurrent.futures.ProcessPoolExecutor, a killed worker breaks the pool without naming its item, and one killed
    while it holds the lock of the shared queue blocks the others forever. Here each worker has its own pipe.

    Args:
        workers: number of processes; 0 makes the calls in this process, one after the other, for tests and debugging.

    >>> with WorkerPool(0) as pool:
    ...     sorted(pool.map_unordered(lambda item, progress: item * item, [1, 2, 3]))
    [(1, 1), (2, 4), (3, 9)]
    """

    def __init__(self, workers: int) -> None:
        if workers < 0:
            raise AcdError(ErrorCode.SETTING_INVALID, f"workers is {workers}; it must be at least 0")
        self.workers = workers
        self._idle: list[_Worker[Any]] = []
        self._busy: list[_Worker[Any]] = []
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> WorkerPool:
        self._stack.enter_context(sigterm_as_interrupt())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._stop([*self._busy, *self._idle])
        finally:
            self._stack.close()
        if kind is KeyboardInterrupt:
            raise _interrupted() from None

    def map_unordered(
        self,
        function: Callable[[Item, Progress], Result],
        items: Iterable[Item],
        *,
        on_progress: Callable[[Item, int], None] | None = None,
        tolerate: Callable[[Item, Exception], bool] | None = None,
        label: Callable[[Item], str] = str,
    ) -> Generator[tuple[Item, Result], None, None]:
        """Call the function with each item and yield (item, result) as they finish.

        After a failure that is not tolerated, no more items start; it is raised once the running ones have finished.
        Leaving the iterator early stops the running items.

        Args:
            function: a picklable function of (item, progress); it may call `progress` at any rate.
            items: picklable.
            on_progress: called in this process with an item and the units that it has done.
            tolerate: called in this process with an item and its failure; True continues with the other items.
            label: returns the name of an item for messages.

        Raises:
            AcdError: WORKER_LOST if a worker was killed, INTERRUPTED after Ctrl-C or SIGTERM, those of the function.
        """
        report = on_progress or (lambda _item, _units: None)
        tolerate = tolerate or (lambda _item, _error: False)
        try:
            if self.workers == 0:
                yield from _map_here(function, items, report, tolerate)
            else:
                yield from self._map(function, list(items), report, tolerate, label)
        except KeyboardInterrupt:
            self._stop([*self._busy, *self._idle])
            raise _interrupted() from None

    def _map(
        self,
        function: Callable[[Item, Progress], Result],
        waiting: list[Item],
        report: Callable[[Item, int], None],
        tolerate: Callable[[Item, Exception], bool],
        label: Callable[[Item], str],
    ) -> Generator[tuple[Item, Result], None, None]:
        if self._busy:
            raise RuntimeError("the pool is running another round")
        waiting.reverse()
        started: list[_Worker[Item]] = []
        failure: Exception | None = None
        try:
            while (waiting and failure is None) or started:
                while waiting and failure is None and len(self._busy) < self.workers:
                    started.append(self._assign(function, waiting.pop()))
                for connection in wait([worker.connection for worker in started], WAKE_SECONDS):
                    worker = next(worker for worker in started if worker.connection is connection)
                    item = worker.items[0]
                    kind, value = self._receive(worker, label)
                    if _forwarded(worker, kind, value, report):
                        continue
                    started.remove(worker)
                    died_idle = worker.was_idle
                    self._release(worker, lost=kind == "lost")
                    if kind == "done":
                        yield item, value
                    elif kind == "lost" and died_idle:
                        waiting.append(item)
                    elif not tolerate(item, value):
                        failure = _first_of(failure, value, label(item))
            if failure is not None:
                raise failure
        finally:
            self._stop(started)

    def _assign(self, function: Callable[[Item, Progress], Result], item: Item) -> _Worker[Item]:
        message = ForkingPickler.dumps((function, item))
        while True:
            was_idle = bool(self._idle)
            worker = self._idle.pop() if was_idle else _start()
            worker.was_idle = was_idle
            try:
                worker.connection.send_bytes(message)
            except (BrokenPipeError, ConnectionResetError):  # it was killed while idle
                self._stop([worker])
                continue
            worker.items = [item]
            self._busy.append(worker)
            return worker

    def _receive(self, worker: _Worker[Item], label: Callable[[Item], str]) -> tuple[str, Any]:
        try:
            message = worker.connection.recv_bytes()
        except (EOFError, OSError):
            worker.process.join(GRACE_SECONDS)
            how = _how_it_ended(worker.process.exitcode)
            return "lost", AcdError(ErrorCode.WORKER_LOST, f"the worker process of {label(worker.items[0])} {how}")
        kind, value = pickle.loads(message)  # noqa: S301  # from a process that this one started
        if kind != "failed":
            return kind, value
        error, text = value
        error.__cause__ = RemoteTraceback(text)
        return kind, error

    def _release(self, worker: _Worker[Any], *, lost: bool) -> None:
        worker.items = []
        self._busy.remove(worker)
        if lost:
            self._stop([worker])
        else:
            self._idle.append(worker)

    def _stop(self, workers: list[_Worker[Any]]) -> None:
        """Stop the processes now. They write beside their target and rename, so nothing is left half written.

        An idle process notices the end of its pipe and exits cleanly.
        """
        workers = list(workers)
        for worker in workers:
            if worker in self._idle:
                worker.connection.close()
            else:
                worker.process.terminate()
        deadline = time.monotonic() + GRACE_SECONDS
        for worker in workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            for members in (self._idle, self._busy):
                if worker in members:
                    members.remove(worker)
            worker.connection.close()
            worker.process.close()


def _first_of(failure: Exception | None, later: Exception, item: str) -> Exception:
    """The failure to raise: the first. Later ones are logged."""
    if failure is None:
        return later
    _events.error("item.failed", item=item, error=str(later))
    return failure


def _map_here(
    function: Callable[[Item, Progress], Result],
    items: Iterable[Item],
    report: Callable[[Item, int], None],
    tolerate: Callable[[Item, Exception], bool],
) -> Generator[tuple[Item, Result], None, None]:
    for item in items:
        try:
            result = function(item, lambda units, item=item: report(item, units))  # type: ignore[misc]  # mypy: a lambda's default
        except Exception as error:
            if not tolerate(item, error):
                raise
        else:
            yield item, result


def _forwarded(worker: _Worker[Item], kind: str, value: Any, report: Callable[[Item, int], None]) -> bool:
    """Pass on a progress, log or start message. False if the message is a result."""
    if kind == "progress":
        report(worker.items[0], value)
    elif kind == "log":
        logging.getLogger(value.name).handle(value)
    elif kind == "started":
        worker.was_idle = False
    else:
        return False
    return True


def _interrupted() -> AcdError:
    return AcdError(ErrorCode.INTERRUPTED, "the run was stopped by Ctrl-C or a signal")


def _how_it_ended(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"was ended by {signal.Signals(-exit_code).name}"
    return f"ended with status {exit_code}"


def _start() -> _Worker[Any]:
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    in_main_thread = threading.current_thread() is threading.main_thread()
    process = context.Process(
        target=serve,
        args=(theirs, os.getpid() if in_main_thread else 0, log.current()),
        name="acd-worker",
        daemon=True,
    )
    resource_tracker.ensure_running()  # starting it below would unblock SIGINT
    environment = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        process.start()
    finally:
        for name, value in environment.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        theirs.close()  # so that the pipe ends when the worker does
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return _Worker(process, ours)
