"""The inside of a worker process: it answers calls until its pipe, or its parent, ends."""

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
"""Called by a running item with the number of units that it has done so far."""

PROGRESS_SECONDS = 0.1
"""A worker reports at most this often."""

_PR_SET_PDEATHSIG = 1


def serve(connection: Connection[Any, Any], parent: int, logging_of_parent: log.LogSettings) -> None:
    """Answer what comes over the pipe, one call after the other, until it ends.

    Args:
        connection: the worker's end of the pipe.
        parent: the process to die with, by the kernel's hand; 0 if it was not its main thread that started this one.
        logging_of_parent: what the parent logs.
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
        pickle.loads(message)  # noqa: S301  # our own bytes: some exceptions can be pickled and not unpickled
    except Exception:  # noqa: BLE001  # whatever __reduce__ raises
        return bytes(ForkingPickler.dumps(("failed", (RuntimeError(f"{type(error).__qualname__}: {error}"), text))))
    return message


def _die_with(parent: int) -> None:
    """End this process when its parent does, however that dies.

    The kernel's signal also ends a call that never returns to Python; it is tied to the thread that started this
    process, so it is asked for only if that was the main one. The watching thread is for other cases and systems.
    """
    threading.Thread(target=_watch_parent, name="acd-watch-parent", daemon=True).start()
    if parent and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the signal was asked for
            os._exit(1)


def _watch_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


class _Channel:
    """The worker's end of the pipe, for more than one thread."""

    def __init__(self, connection: Connection[Any, Any]) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, message: bytes) -> None:
        with self._lock:
            self._connection.send_bytes(message)


class _Throttle:
    """The `progress` of a running item."""

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
        """Report what the rate held back."""
        if self._unsent is not None:
            self._channel.send(bytes(ForkingPickler.dumps(("progress", self._unsent))))
            self._unsent = None


class _Forward(logging.Handler):
    """Hands log records to the parent, which alone writes to the terminal."""

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
        except Exception:  # noqa: BLE001  # a field of any type; the event is worth more than its type
            record.fields = {key: str(value) for key, value in getattr(record, "fields", {}).items()}
            message = bytes(ForkingPickler.dumps(("log", record)))
        self._channel.send(message)
