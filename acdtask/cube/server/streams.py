"""How many cubes are streamed at once, how much they hold, and what becomes of a client that takes nothing."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import grpc
from pydantic import BaseModel, ConfigDict, Field

from acdtask.cube.server.errors import RefusalError
from acdtask.engine.log import events

__all__ = ["StreamLimits", "Streams"]

MessageT = TypeVar("MessageT")

MIB = 1024 * 1024
LOOK_EVERY_S = 1.0


class StreamLimits(BaseModel):
    """What streams of pixels may take of a server."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    streams: int = Field(default=16, ge=1, description="cubes that are streamed at once; the others wait their turn")
    memory_mb: int = Field(default=2048, ge=64, description="MiB of pixels that they hold together, about")
    image_mb: int = Field(default=2048, ge=1, description="MiB of the largest image that may be asked for")
    wait_s: float = Field(default=300, gt=0, description="seconds that a cube waits for its turn before it is refused")
    stall_s: float = Field(
        default=900, gt=0, description="seconds after which a client that takes nothing more is cut off"
    )


@dataclass(eq=False)
class _Sending:
    """A stream, and since when a message of it waits to be taken; None while the server itself is at work."""

    context: grpc.ServicerContext
    since: float | None = None


@dataclass
class Streams:
    """The streams of a server. One for all the services that send pixels.

    Attributes:
        running: streams that send.
        held: bytes that they may hold.
    """

    limits: StreamLimits = field(default_factory=StreamLimits)
    running: int = field(default=0, init=False)
    held: int = field(default=0, init=False)
    _turn: threading.Condition = field(default_factory=threading.Condition)
    _queue: deque[object] = field(default_factory=deque)
    _sending: set[_Sending] = field(default_factory=set)
    _guard: threading.Thread | None = None

    @property
    def waiting(self) -> int:
        """Streams that wait for their turn."""
        return len(self._queue)

    def send(
        self, context: grpc.ServicerContext, size: int, messages: Callable[[], Iterator[MessageT]]
    ) -> Iterator[MessageT]:
        """The messages, from when it is their turn, until the client has all of them, is gone, or takes no more.

        Args:
            context: of the call.
            size: bytes that the stream holds at most.
            messages: begins the work.

        Raises:
            RefusalError: UNAVAILABLE if there was no turn in time.
        """
        with self._slot(context, size) as mine, self._watched(context) as watched:
            if not mine:
                return
            for message in messages():
                watched.since = time.monotonic()
                yield message
                watched.since = None
                if not context.is_active():
                    return

    @contextmanager
    def _slot(self, context: grpc.ServicerContext, size: int) -> Iterator[bool]:
        """First come, first served, so that a large cube is not overtaken for ever. False if the client is gone."""
        ticket = object()
        deadline = time.monotonic() + self.limits.wait_s
        with self._turn:
            self._queue.append(ticket)
            try:
                while not (self._queue[0] is ticket and self._fits(size)) and context.is_active():
                    if time.monotonic() > deadline:
                        busy = f"{self.running} cubes are streamed already (this error may be temporary)"
                        raise RefusalError(grpc.StatusCode.UNAVAILABLE, busy)
                    self._turn.wait(min(LOOK_EVERY_S, self.limits.wait_s))
            finally:
                self._queue.remove(ticket)
                self._turn.notify_all()
            mine = context.is_active()
            self.running += mine
            self.held += size * mine
        try:
            yield mine
        finally:
            with self._turn:
                self.running -= mine
                self.held -= size * mine
                self._turn.notify_all()

    def _fits(self, size: int) -> bool:
        """Whether one more may begin; one that is larger than all the memory runs alone."""
        return self.running == 0 or (
            self.running < self.limits.streams and self.held + size <= self.limits.memory_mb * MIB
        )

    @contextmanager
    def _watched(self, context: grpc.ServicerContext) -> Iterator[_Sending]:
        one = _Sending(context)
        with self._turn:
            self._sending.add(one)
            if self._guard is None:
                self._guard = threading.Thread(target=self._cut_off_the_stalled, name="stalled-streams", daemon=True)
                self._guard.start()
        try:
            yield one
        finally:
            with self._turn:
                self._sending.discard(one)

    def _cut_off_the_stalled(self) -> None:
        """While there are streams. A call that waits in gRPC for its client comes back only if it is cancelled."""
        while True:
            time.sleep(min(LOOK_EVERY_S, self.limits.stall_s / 4))
            with self._turn:
                if not self._sending:
                    self._guard = None
                    return
                sending = list(self._sending)
            for one in sending:
                since = one.since
                if since is not None and time.monotonic() - since > self.limits.stall_s:
                    one.since = None
                    events("serve").warning("stream.stalled", peer=one.context.peer(), seconds=self.limits.stall_s)
                    one.context.cancel()
