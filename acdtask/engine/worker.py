"""The main loop of a worker process, which answers calls until its pipe or its parent ends."""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from typing import Any

from acdtask import log

__all__ = ["Progress", "serve"]

Progress = Callable[[int], None]
"""Called by a running item with the number of units done so far."""

PROGRESS_SECONDS = 0.1
"""Minimum interval between a worker's progress reports."""

_PR_SET_PDEATHSIG = 1


def serve(connection: Connection[Any, Any], parent: int, logging_of_parent: log.LogSettings) -> None:
    """Answer calls from the pipe, one after the other, until it ends.

    `parent` is the id of the parent process, whose death kills this one; 0 if it was not started from its main thread.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    _die_with(parent)
    channel = _Channel(connection)
    log.install(logging_of_parent, _Forward(channel))
    while True:
        try:
            message = connection.recv_bytes()
        except (EOFError, OSError):
            return
        channel.send(bytes(ForkingPickler.dumps(("started", None))))
        channel.send(_answer(message, channel))


def _answer(message: bytes, channel: _Channel) -> bytes:
    try:
        function, item = pickle.loads(message)  # noqa: S301  # from the parent
        progress = _Throttle(channel)
        result = function(item, progress)
        progress.flush()
        return bytes(ForkingPickler.dumps(("done", result)))
    except Exception as error:  # noqa: BLE001  # the parent raises it again
        return _failure(error)


def _failure(error: Exception) -> bytes:
    text = "".join(traceback.format_exception(error))
    try:
        message = bytes(ForkingPickler.dumps(("failed", (error, text))))
        pickle.loads(message)  # noqa: S301  # our own bytes; some exceptions can be pickled but not unpickled
    except Exception:  # noqa: BLE001  # __reduce__ may raise anything
        return bytes(ForkingPickler.dumps(("failed", (RuntimeError(f"{type(error).__qualname__}: {error}"), text))))
    return message


def _die_with(parent: int) -> None:
    """Make this process end when its parent does, whatever the cause.

    The kernel's signal also ends calls that never return to Python. It is tied to the thread that started this process,
    so it is only requested if that was the main thread. The watching thread covers other cases and systems.
    """
    threading.Thread(target=_watch_parent, name="acd-watch-parent", daemon=True).start()
    if parent and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent died before the signal was requested
            os._exit(1)


def _watch_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


class _Channel:
    """The worker's end of the pipe, safe for several threads."""

    def __init__(self, connection: Connection[Any, Any]) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, message: bytes) -> None:
        with self._lock:
            self._connection.send_bytes(message)


class _Throttle:
    """The `progress` callback of a running item, limited in rate."""

    def __init__(self, channel: _Channel) -> None:
        self._channel = channel
        self._next = 0.0
        self._unsent: int | None = None

    def __call__(self, units: int) -> None:
        self._unsent = units
        now = time.monotonic()
        if now >= self._next:
            self._next = now + PROGRESS_SECONDS
            self.flush()

    def flush(self) -> None:
        """Report the progress that the rate limit held back."""
        if self._unsent is not None:
            self._channel.send(bytes(ForkingPickler.dumps(("progress", self._unsent))))
            self._unsent = None


class _Forward(logging.Handler):
    """Sends log records to the parent, which alone writes to the terminal."""

    def __init__(self, channel: _Channel) -> None:
        super().__init__()
        self._channel = channel
        self._formatter = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            record.exc_text = self._formatter.formatException(record.exc_info)
        record.msg, record.args, record.exc_info = record.getMessage(), None, None
        try:
            message = bytes(ForkingPickler.dumps(("log", record)))
        except Exception:  # noqa: BLE001  # fields of any type; the event matters more than their types
            record.fields = {key: str(value) for key, value in getattr(record, "fields", {}).items()}
            message = bytes(ForkingPickler.dumps(("log", record)))
        self._channel.send(message)
