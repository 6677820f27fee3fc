"""Limits on clients that read nothing, send nothing, or send malformed messages."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import Variable
from acdtask.cube.protocol import layouts_pb2, records_pb2, services_pb2
from acdtask.cube.protocol.services_pb2_grpc import GeocubeStub
from acdtask.raster.data_format import DataFormat
from acdtask.serve.keys import Keys
from acdtask.serve.serve import Serving
from acdtask.serve.streams import StreamLimits
from tests.cube.builders import grid, record
from tests.limited import with_open_files
from tests.serve.conftest import serving
from tests.serve.requests import list_records, many_tiles, refusal
from tests.serve.streaming import ask, of_zeros, receive
from tests.serve.test_serve_process import command

SIDE = 2000  # 16 MB an image: more than what waits between a server and a client that reads nothing
CLIENTS = 100
STALL_S = 3.0
KEY = (("authorization", "Bearer user-key"),)
OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]
HUGE = Variable(name="Huge", dformat=DataFormat(dtype="float32", nodata=-1, min=0, max=1))
WHOLE, SMALL = ask(HUGE, grid(SIDE, SIDE), [[record(0).id]]), ask(HUGE, grid(64, 64), [[record(0).id]])
VERSION = services_pb2.GetVersionRequest()
GARBAGE = b"\xff\xff\xff\xff garbage"


@pytest.fixture(scope="module")
def zeros(tmp_path_factory: pytest.TempPathFactory) -> LocalCube:
    return of_zeros(tmp_path_factory.mktemp("zeros"), SIDE, 1)[0]


@contextmanager
def channels(server: Serving, count: int) -> Iterator[list[grpc.Channel]]:
    """Channels with separate connections."""
    with ExitStack() as stack:
        address = f"127.0.0.1:{server.port}"
        yield [stack.enter_context(grpc.insecure_channel(address, OWN_CONNECTION)) for _ in range(count)]


def until(condition: Callable[[], bool], seconds: float) -> float:
    """Wait for the condition; returns the seconds that it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "the condition was not met in time"
        time.sleep(0.05)
    return time.monotonic() - began


def ended(stream: Any) -> grpc.StatusCode:
    """The final status of a stream."""
    with pytest.raises(grpc.RpcError) as caught:
        list(stream)
    code: grpc.StatusCode = caught.value.code()
    return code


def test_clients_that_read_nothing_do_not_block_others(zeros: LocalCube) -> None:
    limits = StreamLimits(stall_s=STALL_S)
    with (
        serving(zeros, Keys(user="user-key"), workers=64, limits=limits) as server,
        channels(server, CLIENTS + 1) as (other, *stalling),
    ):
        streams = [GeocubeStub(channel).GetCube(WHOLE, metadata=KEY) for channel in stalling]
        for stream in streams[:3]:
            next(stream)  # the first ones have begun
        stub, began = GeocubeStub(other), time.monotonic()
        assert stub.Version(VERSION, metadata=KEY, timeout=2).Version
        assert len(list(stub.ListRecords(records_pb2.ListRecordsRequest(), metadata=KEY, timeout=2))) == 1
        assert time.monotonic() - began < 2
        for stream in streams[50:]:
            stream.cancel()
        small = stub.GetCube(SMALL, metadata=KEY, timeout=120)
        assert len(receive(small, ends_early=False)[1]) == 1
        assert {ended(stream) for stream in streams[:3]} == {grpc.StatusCode.CANCELLED}


def test_a_client_that_lists_and_reads_nothing_is_disconnected(cube: LocalCube) -> None:
    with serving(cube, workers=1, limits=StreamLimits(stall_s=1)) as server, channels(server, 2) as (slow, other):
        tiles = many_tiles(GeocubeStub(slow))
        next(tiles)
        assert list(GeocubeStub(other).ListRecords(records_pb2.ListRecordsRequest(), timeout=20)) == []
        assert ended(tiles) is grpc.StatusCode.CANCELLED


def test_calls_that_never_send_their_request_block_nobody_and_end(cube: LocalCube) -> None:
    with serving(cube, Keys(user="user-key"), workers=8, request_s=2.0) as server, channels(server, 3) as made:
        silence, forever = threading.Event(), []
        for channel, key in ((made[0], KEY), (made[1], ())):
            for method in ("GetAOI", "ListRecords", "GetCube"):
                call: Any = channel.stream_stream(f"/geocube.Geocube/{method}")
                forever += [call(_silent(silence), metadata=key) for _ in range(30)]
        time.sleep(0.5)
        stub = GeocubeStub(made[2])
        assert stub.ListLayouts(layouts_pb2.ListLayoutsRequest(), metadata=KEY, timeout=10) is not None
        assert list(stub.ListRecords(records_pb2.ListRecordsRequest(), metadata=KEY, timeout=10)) == []
        codes = {ended(call) for call in forever}
        silence.set()
        assert codes == {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAUTHENTICATED}


def _silent(until_set: threading.Event) -> Iterator[bytes]:
    until_set.wait(60)
    yield from ()


def test_reflection_without_a_key_blocks_nobody(cube: LocalCube) -> None:
    with serving(cube, workers=4, request_s=2.0) as server, channels(server, 2) as (stranger, other):
        silence = threading.Event()
        call: Any = stranger.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
        streams = [call(_silent(silence)) for _ in range(50)]
        time.sleep(0.5)
        assert GeocubeStub(other).ListLayouts(layouts_pb2.ListLayoutsRequest(), timeout=10) is not None
        codes = {ended(stream) for stream in streams}
        silence.set()
        assert codes <= {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE}


@pytest.mark.parametrize("method", ["GetAOI", "ListRecords", "GetCube", "TileAOI", "ListDatasets", "CreateRecords"])
def test_a_malformed_message_is_refused_and_the_connection_stays_usable(cube: LocalCube, method: str) -> None:
    with serving(cube) as server, channels(server, 1) as (channel,):
        call: Any = channel.unary_stream(f"/geocube.Geocube/{method}")
        for _ in range(250):
            assert refusal(lambda: call(GARBAGE, timeout=20)).code == "INVALID_ARGUMENT"
        assert GeocubeStub(channel).Version(VERSION, timeout=5).Version
        assert list_records(GeocubeStub(channel)) == []


def test_health_survives_malformed_requests(cube: LocalCube) -> None:
    with serving(cube) as server, channels(server, 1) as (channel,):
        for method in ("Check", "Watch"):
            call: Any = channel.unary_stream(f"/grpc.health.v1.Health/{method}")
            for _ in range(110):
                assert refusal(lambda: call(GARBAGE, timeout=20)).code == "INVALID_ARGUMENT"  # noqa: B023  # called here
        assert GeocubeStub(channel).Version(VERSION, timeout=5).Version


def test_a_call_without_a_request_is_refused(cube: LocalCube) -> None:
    with serving(cube) as server, channels(server, 1) as (channel,):
        call: Any = channel.stream_stream("/geocube.Geocube/ListRecords")
        assert refusal(lambda: call(iter(()), timeout=20)).code == "INVALID_ARGUMENT"


@contextmanager
def limited(folder: Path, *options: str) -> Iterator[tuple[int, int, Path]]:
    """A server with a limit of 1,024 open files: its ports and its log."""
    log = folder / "log.jsonl"
    with log.open("w") as stderr:
        running = subprocess.Popen(
            with_open_files(1024, *command(folder / "cube", "--http-port", "0", *options)),
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env={**os.environ, "ACD_SERVE_KEY": "user-key"},
        )
    try:
        assert running.stdout is not None
        lines = [running.stdout.readline().strip() for _ in range(2)]
        assert all(lines), log.read_text()
        yield int(lines[0].rpartition(":")[2]), int(lines[1].rpartition(":")[2]), log
    finally:
        running.kill()
        running.communicate()


@pytest.fixture
def many_files() -> Iterator[None]:
    """Raise the limit of open files for the sockets of this test."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        pytest.skip(f"this machine allows {hard} open files, and the test needs 4096")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def is_closed(connection: socket.socket) -> bool:
    """Whether the server has closed the connection; received bytes are discarded."""
    connection.setblocking(False)
    try:
        while connection.recv(4096):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def answers_version(port: int) -> bool:
    with grpc.insecure_channel(f"127.0.0.1:{port}", OWN_CONNECTION) as channel:
        try:
            return bool(GeocubeStub(channel).Version(VERSION, metadata=KEY, timeout=2).Version)
        except grpc.RpcError:
            return False


def answers_health(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:  # http
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.mark.usefixtures("many_files")
@pytest.mark.parametrize("sent", [b"", b"GET /health HTTP/1.1\r\nHost: a\r\nX-Half: ", b"PRI * HTTP/2.0\r\n\r\nSM"])
def test_connections_without_a_complete_request_are_closed_and_do_not_fill_the_log(tmp_path: Path, sent: bytes) -> None:
    with limited(tmp_path) as (port, http_port, log), ExitStack() as stack:
        opened = []
        for number in range(2200):
            to = ("127.0.0.1", (port, http_port)[number % 2])
            opened.append(stack.enter_context(socket.create_connection(to, timeout=20)))
            if sent:
                with suppress(OSError):  # it may be closed at once
                    opened[-1].sendall(sent)
        assert until(lambda: answers_version(port), 40) < 40
        assert until(lambda: answers_health(http_port), 40) < 40
        until(lambda: all(map(is_closed, opened)), 60)
        assert log.stat().st_size < 50_000
        assert "Traceback" not in log.read_text()
