"""How many connections a server takes, and how long one may stay without a request."""

from __future__ import annotations

import contextlib
import resource
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from acdtask.errors import AcdError, ErrorCode
from acdtask.log import events

__all__ = ["Listener", "raise_file_limit"]

LOG = events("serve")
LOOK_EVERY_S = 1.0
ANSWER_S = 300.0
FILES = 256
"""Descriptors that the server needs beside its connections: the cube's files, the index, gRPC's own."""

MOST_FILES = 65536


def raise_file_limit(connections: int) -> None:
    """Let this process open as many files as the system allows. SERVE_FAILED if that is too few for the connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    most = max(allowed, MOST_FILES if soft == resource.RLIM_INFINITY else soft)
    if connections + FILES > most:
        raise AcdError(
            ErrorCode.SERVE_FAILED,
            f"{connections} connections need {connections + FILES} open files, and this process may have {most}",
            "Give a lower --connections, or raise the limit of open files (ulimit -n).",
        )


@dataclass(eq=False)
class _Open:
    """A connection, and when it ends unless a request comes before."""

    socket: socket.socket
    address: str
    deadline: float


class _Connection(socket.socket):
    """A socket that tells its listener when it is closed."""

    listener: Listener | None = None
    key: tuple[Any, ...] = ()

    def close(self) -> None:
        """Close it."""
        listener, self.listener = self.listener, None
        if listener is not None:
            listener.forget(self.key)
        super().close()


class Listener(socket.socket):
    """A listening socket that closes connections that are too many, or too late.

    Connections beyond the limit, or beyond three quarters of it from one address, are closed at once. A connection
    ends that sends no complete request in time, from the moment it is accepted, so that a TLS handshake counts too.
    """

    def __init__(self, family: int, most: int, request_s: float) -> None:
        super().__init__(family, socket.SOCK_STREAM)
        self._most, self._share, self._request_s = most, -(-most * 3 // 4), request_s
        self._registry = threading.Lock()
        self._opened: dict[tuple[Any, ...], _Open] = {}
        self._by_address: Counter[str] = Counter()
        self._thread: threading.Thread | None = None

    @property
    def opened(self) -> int:
        """Connections that are open."""
        return len(self._opened)

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection that may stay. OSError as `socket.accept` raises it."""
        while True:
            number, peer = self._accept()  # type: ignore[attr-defined]  # what socket.accept itself calls
            connection = _Connection(self.family, self.type, self.proto, fileno=number)
            if self._admit(connection, peer[:2]):
                connection.setblocking(False)
                return connection, peer
            connection.close()

    def busy(self, peer: tuple[Any, ...] | None) -> None:
        """The connection has sent a request, which is worked on."""
        self._extend(peer, ANSWER_S)

    def idle(self, peer: tuple[Any, ...] | None) -> None:
        """The request was answered; the next one has its time from now."""
        self._extend(peer, self._request_s)

    def forget(self, key: tuple[Any, ...]) -> None:
        """The connection is closed."""
        with self._registry:
            gone = self._opened.pop(key, None)
            if gone is not None:
                self._by_address[gone.address] -= 1
                if not self._by_address[gone.address]:
                    del self._by_address[gone.address]

    def _admit(self, connection: _Connection, peer: tuple[Any, ...]) -> bool:
        address = str(peer[0])
        with self._registry:
            if len(self._opened) >= self._most or self._by_address[address] >= self._share:
                LOG.repeated("connection.refused", port="http", address=address, connections=len(self._opened))
                return False
            connection.listener, connection.key = self, peer
            self._opened[peer] = _Open(connection, address, time.monotonic() + self._request_s)
            self._by_address[address] += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="late-connections", daemon=True)
                self._thread.start()
        return True

    def _extend(self, peer: tuple[Any, ...] | None, seconds: float) -> None:
        opened = self._opened.get(tuple(peer or ())[:2])
        if opened is not None:
            opened.deadline = time.monotonic() + seconds

    def _watch(self) -> None:
        while True:
            time.sleep(min(LOOK_EVERY_S, self._request_s / 4))
            with self._registry:
                if not self._opened:
                    self._thread = None
                    return
                late = [opened for opened in self._opened.values() if opened.deadline < time.monotonic()]
                for opened in late:
                    LOG.repeated("connection.late", port="http", address=opened.address, seconds=self._request_s)
                    _end(opened.socket)


def _end(connection: socket.socket) -> None:
    """Let the loop that reads from the connection see its end, and close it."""
    with contextlib.suppress(OSError):  # the client may have been faster
        connection.shutdown(socket.SHUT_RDWR)
