"""A TCP proxy that cuts, delays and refuses connections like a failing network, with a seeded generator."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

__all__ = ["Faults", "Proxy"]

PIECE = 16384
LINGER_ZERO = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Faults:
    """Faults of a network.

    Attributes:
        seed: seed of the generator for everything below.
        cut_after: minimum and maximum number of bytes to the client before a connection is cut, half of the time with a
            reset; None to cut none.
        cuts_at_most: number of connections to cut; later ones stay intact.
        delay: longest delay of a piece, in seconds.
    """

    seed: int = 0
    cut_after: tuple[int, int] | None = None
    cuts_at_most: int = 1_000_000
    delay: float = 0.0


class Proxy:
    """Forwards connections to `target`, with faults.

    Attributes:
        cuts: number of connections cut so far.
        refusals: number of connections refused.
    """

    def __init__(self, target: tuple[str, int], faults: Faults | None = None) -> None:
        self._target = target
        self._faults = faults or Faults()
        self._random = random.Random(self._faults.seed)  # noqa: S311  # not a secret: tests must be repeatable
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._refuse_until = 0.0
        self._closed = False
        self.cuts = 0
        self.refusals = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def address(self) -> str:
        """host:port to connect to."""
        host, port = self._listener.getsockname()[:2]
        return f"{host}:{port}"

    def refuse(self, seconds: float) -> None:
        """Cut all connections now, and refuse new ones for some seconds."""
        self._refuse_until = time.monotonic() + seconds
        self.cut_all()

    def cut_all(self) -> None:
        """Cut all open connections."""
        with self._lock:
            doomed = list(self._open)
        for connection in doomed:
            _end(connection, reset=True)

    def close(self) -> None:
        """Stop listening and close all connections."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut_all()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if time.monotonic() < self._refuse_until:
                self.refusals += 1
                _end(client, reset=True)
                continue
            try:
                server = socket.create_connection(self._target, timeout=5)
            except OSError:
                self.refusals += 1
                _end(client, reset=True)
                continue
            server.settimeout(None)
            self._join(client, server)

    def _join(self, client: socket.socket, server: socket.socket) -> None:
        with self._lock:
            self._open |= {client, server}
            budget = None
            if self._faults.cut_after is not None and self.cuts < self._faults.cuts_at_most:
                budget = self._random.randint(*self._faults.cut_after)
            seed = self._random.random()
        threading.Thread(target=self._pump, args=(server, client, budget, seed), daemon=True).start()
        threading.Thread(target=self._pump, args=(client, server, None, seed), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, budget: int | None, seed: float) -> None:
        draw = random.Random(seed)  # noqa: S311  # not a secret: tests must be repeatable
        reset = False
        try:
            while data := source.recv(PIECE):
                if self._faults.delay:
                    time.sleep(draw.uniform(0, self._faults.delay))
                if budget is not None and len(data) >= budget:
                    sink.sendall(data[:budget])
                    reset = draw.random() < 0.5
                    with self._lock:
                        self.cuts += 1
                    break
                if budget is not None:
                    budget -= len(data)
                sink.sendall(data)
        except OSError:
            pass
        with self._lock:
            self._open -= {source, sink}
        _end(sink, reset=reset)
        _end(source, reset=reset)


def _end(connection: socket.socket, *, reset: bool) -> None:
    with contextlib.suppress(OSError):
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
        # This also wakes the thread that reads it: a socket stays open while a thread waits for it.
        connection.shutdown(socket.SHUT_RD if reset else socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        connection.close()
