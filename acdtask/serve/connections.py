"""Limits on connections: their number, and their idle time."""

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
"""File descriptors needed besides connections: the cube's files, the index, gRPC's own."""

MOST_FILES = 65536


def raise_file_limit(connections: int) -> None:
    """Raise this process's limit of open files as far as allowed. SERVE_FAILED if it is too low for the connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    most = max(allowed, MOST_FILES if soft == resource.RLIM_INFINITY else soft)
    if connections + FILES > most:
        raise AcdError(
            ErrorCode.SERVE_FAILED,
            f"{connections} connections need {connections + FILES} open files, but this process may open only {most}",
            "Lower --connections, or raise the limit of open files (ulimit -n).",
        )


@dataclass(eq=False)
class _OpenConnection:
    """A connection, and the time at which it is closed unless a request arrives before."""

    socket: socket.socket
    address: str
    deadline: float


class _Connection(socket.socket):
    """A socket that notifies its listener when it is closed."""

    listener: Listener | None = None
    key: tuple[Any, ...] = ()

    def close(self) -> None:
        """Close the socket."""
        listener, self.listener = self.listener, None
        if listener is not None:
            listener.forget(self.key)
        super().close()


class Listener(socket.socket):
    """A listening socket that limits the number of connections and the time until they send a request.

    Connections beyond the limit, or beyond three quarters of it from one address, are closed immediately. A connection
    must send a complete request in time; the time starts when it is accepted, so it includes a TLS handshake.
    """

    def __init__(self, family: int, most: int, request_s: float) -> None:
        super().__init__(family, socket.SOCK_STREAM)
        self._most, self._share, self._request_s = most, -(-most * 3 // 4), request_s
        self._registry = threading.Lock()
        self._opened: dict[tuple[Any, ...], _OpenConnection] = {}
        self._by_address: Counter[str] = Counter()
        self._thread: threading.Thread | None = None

    @property
    def opened(self) -> int:
        """Number of open connections."""
        return len(self._opened)

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept the next connection within the limits. Raises OSError as `socket.accept` does."""
        while True:
            number, peer = self._accept()  # type: ignore[attr-defined]  # what socket.accept itself calls
            connection = _Connection(self.family, self.type, self.proto, fileno=number)
            if self._admit(connection, peer[:2]):
                connection.setblocking(False)
                return connection, peer
            connection.close()

    def busy(self, peer: tuple[Any, ...] | None) -> None:
        """Extend the deadline of a connection whose request is being processed."""
        self._extend(peer, ANSWER_S)

    def idle(self, peer: tuple[Any, ...] | None) -> None:
        """Restart the time of a connection for its next request."""
        self._extend(peer, self._request_s)

    def forget(self, key: tuple[Any, ...]) -> None:
        """Remove a closed connection."""
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
            self._opened[peer] = _OpenConnection(connection, address, time.monotonic() + self._request_s)
            self._by_address[address] += 1
            if self._thread is None:  # the watcher runs only while connections are open
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
    """Shut the connection down; the loop that reads from it then closes it."""
    with contextlib.suppress(OSError):  # the client may have closed it already
        connection.shutdown(socket.SHUT_RDWR)
