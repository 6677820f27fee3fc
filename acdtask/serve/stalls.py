"""Cancels calls whose client neither sends its request nor reads the response."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import grpc

from acdtask.log import events

__all__ = ["StallGuard"]

LOOK_EVERY_S = 1.0
LOG = events("serve")


@dataclass(eq=False)
class _Wait:
    """A call that waits for its client."""

    context: grpc.ServicerContext
    since: float
    seconds: float


class StallGuard:
    """Cancels calls that wait too long for their client.

    gRPC blocks the thread of a call while it waits for the client; only cancelling the call frees the thread. A request
    must arrive within `request_s` seconds; the client must read each message of a stream within `stall_s`.
    """

    def __init__(self, request_s: float, stall_s: float) -> None:
        self.request_s, self.stall_s = request_s, stall_s
        self._lock = threading.Lock()
        self._waits: set[_Wait] = set()
        self._thread: threading.Thread | None = None

    def requesting(self, context: grpc.ServicerContext) -> AbstractContextManager[None]:
        """Guard a block that waits for a request."""
        return self._guarded(context, self.request_s)

    def sending(self, context: grpc.ServicerContext) -> AbstractContextManager[None]:
        """Guard a block that waits until the client reads a message."""
        return self._guarded(context, self.stall_s)

    @contextmanager
    def _guarded(self, context: grpc.ServicerContext, seconds: float) -> Iterator[None]:
        wait = _Wait(context, time.monotonic(), seconds)
        with self._lock:
            self._waits.add(wait)
            if self._thread is None:  # the watcher runs only while calls wait
                self._thread = threading.Thread(target=self._watch, name="stalled-calls", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._waits.discard(wait)

    def _watch(self) -> None:
        pause = min(LOOK_EVERY_S, self.request_s / 4, self.stall_s / 4)
        while True:
            time.sleep(pause)
            now = time.monotonic()
            with self._lock:
                if not self._waits:
                    self._thread = None  # under the lock, so a call that arrives now starts a new watcher
                    return
                late = [wait for wait in self._waits if now - wait.since > wait.seconds]
                self._waits.difference_update(late)
            for wait in late:
                LOG.repeated("call.stalled", peer=wait.context.peer(), seconds=wait.seconds)
                wait.context.cancel()
