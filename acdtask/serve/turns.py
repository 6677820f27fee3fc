"""Turns: limits the number of concurrent calls, with a fair queue in which no client can take all places."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc

from acdtask.serve.errors import RefusalError

__all__ = ["Turns", "address_of_peer"]

LOOK_EVERY_S = 1.0
TEMPORARY = "(this error may be temporary)"


def address_of_peer(peer: str) -> str:
    """The address of a gRPC peer without the port.

    >>> address_of_peer("ipv4:10.0.0.7:51234"), address_of_peer("ipv6:%5B::1%5D:51234")
    ('ipv4:10.0.0.7', 'ipv6:%5B::1%5D')
    """
    return peer.rpartition(":")[0]


@dataclass(eq=False)
class _Ticket:
    """A call that is running or waiting."""

    number: int
    connection: str
    size: int
    granted: threading.Event = field(default_factory=threading.Event)

    @property
    def address(self) -> str:
        return address_of_peer(self.connection)


class Turns:
    """Assigns turns to calls, fairly among clients.

    The next turn goes to the address with the fewest turns, then to the connection with the fewest, then to the call
    that came first. An address may have at most three quarters of the turns and of all places, which leaves the rest to
    others.

    Args:
        most: maximum number of running calls.
        waiting: maximum number of waiting calls; further ones are refused.
        wait_s: seconds that a call waits before it is refused.
        memory: maximum memory of all running calls in bytes; None for no limit. A larger call runs alone.
        activity: what the calls do, for messages, such as "calls are running".
    """

    def __init__(self, most: int, waiting: int, wait_s: float, *, memory: int | None = None, activity: str) -> None:
        self.most, self.waiting_most, self.memory = most, waiting, memory
        self._wait_s, self._activity = wait_s, activity
        self._lock = threading.Lock()  # held only for bookkeeping: calls wait on the event of their ticket
        self._queue: list[_Ticket] = []
        self._running: set[_Ticket] = set()
        self._by_address: Counter[str] = Counter()
        self._by_connection: Counter[str] = Counter()
        self._numbers = 0

    @property
    def running(self) -> int:
        """Number of running calls."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Number of calls that wait for their turn."""
        return len(self._queue)

    @property
    def held(self) -> int:
        """Memory reserved for the running calls, in bytes."""
        with self._lock:
            return self._held()

    @contextmanager
    def turn(self, context: grpc.ServicerContext, size: int = 0) -> Iterator[bool]:
        """Wait for a turn and hold it while the block runs. Yields False if the client left while waiting.

        The call needs at most `size` bytes of memory. UNAVAILABLE if the client, or all clients together, have too many
        calls, or if the call did not get a turn in time.
        """
        ticket = self._join(context.peer(), size)
        try:
            self._wait(ticket, context)
            yield ticket.granted.is_set()
        finally:
            self._leave(ticket)

    def _join(self, peer: str, size: int) -> _Ticket:
        with self._lock:
            self._numbers += 1
            ticket = _Ticket(self._numbers, peer, size)
            self._queue.append(ticket)
            self._grant()
            # Only a call that has to wait counts against the limits, and it must not count itself.
            if not ticket.granted.is_set():
                self._queue.remove(ticket)
                self._refuse_too_many(ticket)
                self._queue.append(ticket)
        return ticket

    def _refuse_too_many(self, ticket: _Ticket) -> None:
        own = self._by_address[ticket.address] + sum(other.address == ticket.address for other in self._queue)
        if own >= _share(self.most + self.waiting_most):
            raise self._busy(f"this client has {own} calls, the maximum for one client: send fewer at once")
        if len(self._queue) >= self.waiting_most:
            raise self._busy(f"{self.running} {self._activity} and {self.waiting} are waiting: try again later")

    def _busy(self, message: str) -> RefusalError:
        return RefusalError(grpc.StatusCode.UNAVAILABLE, f"{message} {TEMPORARY}")

    def _wait(self, ticket: _Ticket, context: grpc.ServicerContext) -> None:
        deadline = time.monotonic() + self._wait_s
        # gRPC does not wake the thread of a call whose client leaves, so look for that once a second.
        while not ticket.granted.wait(min(LOOK_EVERY_S, self._wait_s)) and context.is_active():
            if time.monotonic() > deadline:
                raise self._busy(f"{self.running} {self._activity}: no turn within {self._wait_s:g} s")

    def _leave(self, ticket: _Ticket) -> None:
        with self._lock:
            if ticket in self._running:
                self._running.discard(ticket)
                for counter, key in ((self._by_address, ticket.address), (self._by_connection, ticket.connection)):
                    counter[key] -= 1
                    if not counter[key]:
                        del counter[key]
            else:
                self._queue.remove(ticket)
            self._grant()

    def _grant(self) -> None:
        """Assign free turns. The next call in line is never overtaken, so a large one does not wait forever."""
        share = _share(self.most)
        while self._queue and len(self._running) < self.most:
            allowed = (ticket for ticket in self._queue if self._by_address[ticket.address] < share)
            ticket = min(allowed, key=self._rank, default=None)
            if ticket is None or not self._fits(ticket):
                return
            self._queue.remove(ticket)
            self._running.add(ticket)
            self._by_address[ticket.address] += 1
            self._by_connection[ticket.connection] += 1
            ticket.granted.set()

    def _rank(self, ticket: _Ticket) -> tuple[int, int, int]:
        return self._by_address[ticket.address], self._by_connection[ticket.connection], ticket.number

    def _fits(self, ticket: _Ticket) -> bool:
        if not self._running:  # a call larger than all of the memory runs alone
            return True
        fits_memory = self.memory is None or self._held() + ticket.size <= self.memory
        return len(self._running) < self.most and fits_memory

    def _held(self) -> int:
        return sum(ticket.size for ticket in self._running)


def _share(places: int) -> int:
    """Three quarters, rounded up.

    >>> [_share(places) for places in (1, 2, 16, 64)]
    [1, 2, 12, 48]
    """
    return -(-places * 3 // 4)
