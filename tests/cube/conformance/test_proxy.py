"""The proxy for tests of network faults."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.cube.conformance.proxy import Faults, Proxy

DATA = bytes(range(251)) * 4000


@pytest.fixture
def source() -> Iterator[tuple[str, int]]:
    """A server that sends DATA to each client that requests it."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)

    def give(connection: socket.socket) -> None:
        with connection:
            try:
                if connection.recv(3) == b"get":
                    connection.sendall(DATA)
            except OSError:
                return

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=give, args=(connection,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[:2]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def fetched(proxy: Proxy) -> bytes:
    """The data received on a connection until it ends."""
    host, port = proxy.address.split(":")
    received = bytearray()
    try:
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(b"get")
            while data := connection.recv(65536):
                received += data
    except ConnectionError:
        pass
    return bytes(received)


def test_without_faults_everything_arrives(source: tuple[str, int]) -> None:
    with Proxy(source) as proxy:
        assert hashlib.sha256(fetched(proxy)).digest() == hashlib.sha256(DATA).digest()
        assert (proxy.cuts, proxy.refusals) == (0, 0)


def test_a_seed_cuts_at_the_same_bytes(source: tuple[str, int]) -> None:
    lengths = []
    for _ in range(2):
        with Proxy(source, Faults(seed=7, cut_after=(1, 400_000), cuts_at_most=6)) as proxy:
            found = [fetched(proxy) for _ in range(8)]
            assert proxy.cuts == 6
        assert all(DATA.startswith(piece) for piece in found)
        assert all(len(piece) <= 400_000 for piece in found[:6])
        assert found[6:] == [DATA, DATA]
        lengths.append([len(piece) for piece in found if len(piece) < len(DATA)])
    assert len(set(lengths[0])) > 1


def test_a_refusing_proxy_accepts_again(source: tuple[str, int]) -> None:
    with Proxy(source) as proxy:
        proxy.refuse(0.4)
        assert fetched(proxy) == b""
        assert proxy.refusals >= 1
        time.sleep(0.5)
        assert fetched(proxy) == DATA


def test_delays_change_no_data(source: tuple[str, int]) -> None:
    with Proxy(source, Faults(seed=3, delay=0.01)) as proxy:
        started = time.monotonic()
        assert fetched(proxy) == DATA
        assert time.monotonic() - started > 0.05
