"""Limits on concurrent streams of pixels and their memory."""

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
    """Limits of the streams of pixels of a server."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    streams: int = Field(
        default=16, ge=1, description="maximum number of concurrent streams; others wait for their turn"
    )
    memory_mb: int = Field(default=2048, ge=64, description="approximate MiB of memory for all streams together")
    image_mb: int = Field(default=2048, ge=1, description="maximum size of a requested image in MiB")
    wait_s: float = Field(
        default=300, gt=0, description="seconds that a stream waits for its turn before it is refused"
    )
    waiting: int = Field(default=WAITING, ge=1, description="maximum number of waiting streams")
    stall_s: float = Field(
        default=30, gt=0, description="seconds after which a client that reads no message is disconnected"
    )


class Streams:
    """The streams of a server, shared by all services that send pixels."""

    def __init__(self, limits: StreamLimits) -> None:
        self.limits = limits
        self.turns = Turns(
            self.limits.streams,
            self.limits.waiting,
            self.limits.wait_s,
            memory=self.limits.memory_mb * MIB,
            activity="streams are running",
        )

    def send(
        self, context: grpc.ServicerContext, size: int, messages: Callable[[], Iterator[MessageT]]
    ) -> Iterator[MessageT]:
        """Wait for a turn, then yield the messages until the client has all of them or leaves.

        The stream needs at most `size` bytes of memory. UNAVAILABLE if it did not get a turn in time, or too many
        streams are waiting.
        """
        with self.turns.turn(context, size) as granted:
            if not granted:
                return
            # `messages` is called only now: a stream must not read pixels before its turn.
            for message in messages():
                yield message
                if not context.is_active():
                    return
