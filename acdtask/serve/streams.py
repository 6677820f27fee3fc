"""How many cubes are streamed at once, and how much memory they hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import grpc
from pydantic import BaseModel, ConfigDict, Field

from acdtask.serve.turns import Turns

__all__ = ["StreamLimits", "Streams"]

MessageT = TypeVar("MessageT")

MIB = 1024 * 1024
WAITING = 256


class StreamLimits(BaseModel):
    """What streams of pixels may take of a server."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    streams: int = Field(default=16, ge=1, description="cubes that are streamed at once; the others wait their turn")
    memory_mb: int = Field(default=2048, ge=64, description="MiB of pixels that they hold together, about")
    image_mb: int = Field(default=2048, ge=1, description="MiB of the largest image that may be asked for")
    wait_s: float = Field(default=300, gt=0, description="seconds that a cube waits for its turn before it is refused")
    waiting: int = Field(default=WAITING, ge=1, description="cubes that may wait for their turn")
    stall_s: float = Field(
        default=30, gt=0, description="seconds after which a client that takes no message is cut off"
    )


class Streams:
    """The streams of a server. One for all the services that send pixels."""

    def __init__(self, limits: StreamLimits | None = None) -> None:
        self.limits = limits or StreamLimits()
        self.turns = Turns(
            self.limits.streams,
            self.limits.waiting,
            self.limits.wait_s,
            memory=self.limits.memory_mb * MIB,
            work="cubes are streamed",
        )

    @property
    def running(self) -> int:
        """Streams that send."""
        return self.turns.running

    @property
    def held(self) -> int:
        """Bytes that they may hold."""
        return self.turns.held

    @property
    def waiting(self) -> int:
        """Streams that wait for their turn."""
        return self.turns.waiting

    def send(
        self, context: grpc.ServicerContext, size: int, messages: Callable[[], Iterator[MessageT]]
    ) -> Iterator[MessageT]:
        """The messages, from when it is their turn, until the client has all of them or is gone.

        Args:
            context: of the call.
            size: bytes that the stream holds at most.
            messages: begins the work.

        Raises:
            RefusalError: UNAVAILABLE if there was no turn in time, or too many streams wait already.
        """
        with self.turns.turn(context, size) as granted:
            if not granted:
                return
            for message in messages():
                yield message
                if not context.is_active():
                    return
