"""Streams under load: limits, turns, clients that leave or read nothing, memory."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import Variable
from acdtask.cube.protocol.cubes_pb2 import GetCubeRequest
from acdtask.cube.protocol.services_pb2_grpc import GeocubeStub
from acdtask.raster.data_format import DataFormat
from acdtask.serve.pixels import deflated, pieces_of
from acdtask.serve.streams import StreamLimits, Streams
from tests.conftest import CHECKOUT
from tests.cube.builders import grid, record
from tests.serve.streaming import Served, ask, of_zeros, receive, serving

SIDE = 2000  # 16 MB an image: more than what waits between a server and a client that reads nothing
NUMBER = 6
ALL = [[record(k).id] for k in range(NUMBER)]
HUGE = Variable(name="Huge", dformat=DataFormat(dtype="float32", nodata=-1, min=0, max=1))
WHOLE, ONE = ask(HUGE, grid(SIDE, SIDE), ALL), ask(HUGE, grid(64, 64), ALL[:1])


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> LocalCube:
    return of_zeros(tmp_path_factory.mktemp("zeros"), SIDE, 1, NUMBER)[0]


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition was not met in time"
        time.sleep(0.02)


def get(served: Served, request: GetCubeRequest) -> int:
    return len(receive(served.geocube.GetCube(request), ends_early=False)[1])


def test_a_client_that_leaves_frees_its_resources(cube: LocalCube) -> None:
    with serving(cube, StreamLimits(streams=1)) as served:
        for _ in range(3):
            stream = served.geocube.GetCube(WHOLE)
            next(iter(stream))
            until(lambda: served.streams.turns.running == 1)
            stream.cancel()
            until(lambda: served.streams.turns.running == 0)
        assert served.streams.turns.held == 0
        assert get(served, WHOLE) == NUMBER


def test_a_client_that_reads_nothing_is_disconnected(cube: LocalCube) -> None:
    with serving(cube, StreamLimits(streams=1, stall_s=1)) as served:
        stream = iter(served.geocube.GetCube(WHOLE))
        next(stream)
        assert get(served, ONE) == 1  # it waits for its turn until then
        with pytest.raises(grpc.RpcError) as caught:
            list(stream)
        assert caught.value.code() is grpc.StatusCode.CANCELLED


def test_a_slow_client_is_served(cube: LocalCube) -> None:
    with serving(cube, StreamLimits(stall_s=1)) as served:
        began, count = time.monotonic(), 0
        for message in served.geocube.GetCube(WHOLE):
            count += message.WhichOneof("response") == "header"
            time.sleep(0.02)
        assert count == NUMBER
        assert time.monotonic() - began > 2


def test_a_stream_beyond_the_limit_waits_and_is_finally_refused(cube: LocalCube) -> None:
    with serving(cube, StreamLimits(streams=1, wait_s=1)) as served:
        first = iter(served.geocube.GetCube(WHOLE))
        next(first)
        with pytest.raises(grpc.RpcError) as caught:
            get(served, ONE)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert caught.value.details() == "1 streams are running: no turn within 1 s (this error may be temporary)"
        headers = ask(HUGE, grid(SIDE, SIDE), ALL, headers_only=True)
        assert get(served, headers) == NUMBER  # they take no turn
        assert sum(message.WhichOneof("response") == "header" for message in first) == NUMBER
        assert get(served, ONE) == 1


def test_a_client_that_leaves_while_it_waits_gives_up_its_turn(cube: LocalCube) -> None:
    with serving(cube, StreamLimits(streams=1)) as served:
        first = iter(served.geocube.GetCube(WHOLE))
        next(first)
        second = served.geocube.GetCube(WHOLE)
        until(lambda: served.streams.turns.waiting == 1)
        second.cancel()
        until(lambda: served.streams.turns.waiting == 0)
        assert served.streams.turns.running == 1
        assert sum(message.WhichOneof("response") == "header" for message in first) == NUMBER


class _Client:
    """The part of a call that `Streams` uses."""

    def is_active(self) -> bool:
        return True

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"


@given(sizes=st.lists(st.integers(1, 120), min_size=1, max_size=12), streams=st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_streams_together_hold_no_more_than_their_memory(sizes: list[int], streams: int) -> None:
    limits = StreamLimits(streams=streams, memory_mb=100)
    shared, seen, lock = Streams(limits), [], threading.Lock()

    def run(size: int) -> None:
        def messages() -> list[int]:
            with lock:
                seen.append((shared.turns.running, shared.turns.held >> 20))
            time.sleep(0.002)
            return [size]

        context: grpc.ServicerContext = _Client()  # type: ignore[assignment]  # it uses only these methods
        assert list(shared.send(context, size << 20, lambda: iter(messages()))) == [size]

    threads = [threading.Thread(target=run, args=(size,)) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == len(sizes)
    assert all(1 <= running <= streams and (held <= 100 or running == 1) for running, held in seen)
    assert (shared.turns.running, shared.turns.held, shared.turns.waiting) == (0, 0, 0)


@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 40), st.integers(1, 40)),
    dtype=st.sampled_from(["uint8", "int16", "float64"]),
    size=st.integers(1, 3000),
    level=st.integers(-2, 9),
)
@settings(max_examples=200, deadline=None)
def test_pieces_join_to_the_interleaved_image(shape: tuple[int, int, int], dtype: str, size: int, level: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    whole = np.moveaxis(pixels, 0, -1).astype(f"<{pixels.dtype.str[1:]}").tobytes()
    pieces = [bytes(piece) for piece in pieces_of(pixels, size)]
    assert b"".join(pieces) == whole
    assert {len(piece) for piece in pieces[:-1]} <= {size}
    assert 1 <= len(pieces[-1]) <= size
    squeezed = list(deflated(pieces_of(pixels, size), level, size))
    assert zlib.decompress(b"".join(squeezed), -15) == whole
    assert 1 <= len(squeezed) <= len(pieces)


SERVER = """
import sys, json
from pathlib import Path
from acdtask.cube.local.cube import LocalCube
from tests.serve.streaming import serving

def memory(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

with serving(LocalCube.open(sys.argv[1])) as served:
    print(served.address, flush=True)
    for _ in sys.stdin:
        print(json.dumps({"now": memory("VmRSS"), "peak": memory("VmHWM")}), flush=True)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_an_image_of_half_a_gigabyte_is_held_little_more_than_once(tmp_path: Path) -> None:
    cube, variable, on = of_zeros(tmp_path, 8000, 2)
    size = 8000 * 8000 * 2 * 4
    with _process(cube) as (stub, memory):
        list(stub.GetCube(ask(variable, grid(300, 300), [[record(0).id]])))
        before, received = memory("now"), 0
        for message in stub.GetCube(ask(variable, on, [[record(0).id]])):
            received += len(message.header.data) + len(message.chunk.data)
        grown = memory("peak") - before
    assert received == size
    assert grown < 1.25 * size


@contextmanager
def _process(cube: LocalCube) -> Iterator[tuple[GeocubeStub, Callable[[str], int]]]:
    """A server in a separate process, and its memory: "now" or "peak"."""
    command = [sys.executable, "-c", SERVER, cube.store.url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT) as server:
        stdin, stdout = server.stdin, server.stdout
        assert stdin is not None
        assert stdout is not None

        def memory(key: str) -> int:
            stdin.write("\n")
            stdin.flush()
            return int(json.loads(stdout.readline())[key])

        try:
            with grpc.insecure_channel(stdout.readline().strip()) as channel:
                yield GeocubeStub(channel), memory
        finally:
            stdin.close()
            server.wait(30)
