"""`acdtask serve` as a process: start, ports and stop."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.protocol import services_pb2
from acdtask.cube.protocol.services_pb2_grpc import GeocubeStub
from tests.serve.requests import TILES, many_tiles, new_aoi

PATIENCE = 240.0


@dataclass
class Process:
    """A server that listens."""

    running: subprocess.Popen[str]
    address: str
    log: Path

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.running.send_signal(number)
        return self.running.wait(PATIENCE)

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]


def command(cube: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "acdtask", "--log", "json", "serve", "--cube", str(cube), "--port", "0", *options]


@contextmanager
def started(folder: Path, *options: str, **environment: str) -> Iterator[Process]:
    log = folder / "log.jsonl"
    with log.open("w") as stderr:
        running = subprocess.Popen(
            command(folder / "cube", *options),
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env={**os.environ, **environment},
        )
    try:
        assert running.stdout is not None
        address = running.stdout.readline().strip()
        assert address.startswith("geocube://127.0.0.1:"), log.read_text()
        yield Process(running, address.removeprefix("geocube://"), log)
    finally:
        running.kill()
        running.communicate()


def failed(folder: Path, *options: str, **environment: str) -> tuple[int, dict[str, Any]]:
    """Exit status and error of a server that does not start."""
    done = subprocess.run(
        command(folder / "cube", *options),
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=PATIENCE,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stderr.splitlines()[-1])


def until_it_ends(channel: grpc.Channel, statuses: list[int], serving: threading.Event) -> None:
    """Watch the health until the server reports that it no longer serves."""
    stub: Any = health_pb2_grpc.HealthStub(channel)
    for answer in stub.Watch(health_pb2.HealthCheckRequest()):
        statuses.append(answer.status)
        serving.set()
        if answer.status == health_pb2.HealthCheckResponse.NOT_SERVING:
            return


def is_refused(channel: grpc.Channel) -> bool:
    """Whether new calls are eventually refused."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            GeocubeStub(channel).Version(services_pb2.GetVersionRequest(), timeout=PATIENCE)
        except grpc.RpcError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_running_call_is_completed_before_the_server_ends(tmp_path: Path, number: signal.Signals) -> None:
    with started(tmp_path) as server, grpc.insecure_channel(server.address) as channel:
        answers = many_tiles(GeocubeStub(channel))
        count = len(next(answers).tiles)
        statuses: list[int] = []
        watched = threading.Event()
        watching = threading.Thread(target=until_it_ends, args=(channel, statuses, watched))
        watching.start()
        assert watched.wait(PATIENCE)
        server.running.send_signal(number)
        watching.join(PATIENCE)
        assert statuses == [health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING]
        assert is_refused(channel)
        assert server.running.poll() is None
        count += sum(len(answer.tiles) for answer in answers)
        assert count > TILES
        assert server.running.wait(PATIENCE) == 0
        (ended,) = [event for event in server.events() if event["event"] == "call.done" and "TileAOI" in event["rpc"]]
        assert (ended["code"], ended["messages"]) == ("OK", -(-count // 1000))


def test_a_call_beyond_the_grace_period_is_cancelled_and_the_server_ends_with_0(tmp_path: Path) -> None:
    with started(tmp_path, "--grace", "0.3") as server, grpc.insecure_channel(server.address) as channel:
        answers = many_tiles(GeocubeStub(channel))
        next(answers)
        assert server.end() == 0
        with pytest.raises(grpc.RpcError):
            list(answers)


def test_a_second_signal_stops_immediately(tmp_path: Path) -> None:
    with started(tmp_path, "--grace", "600") as server, grpc.insecure_channel(server.address) as channel:
        answers = many_tiles(GeocubeStub(channel))
        next(answers)
        server.running.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert server.running.poll() is None
        assert server.end() == 0


def test_calls_are_logged_without_the_key(tmp_path: Path) -> None:
    secret = "Very-Secret-Key"  # noqa: S105  # of this test
    with started(tmp_path, ACD_SERVE_KEY=secret) as server, grpc.insecure_channel(server.address) as channel:
        stub = GeocubeStub(channel)
        request = services_pb2.GetVersionRequest()
        stub.Version(request, metadata=(("authorization", f"Bearer {secret}"),))
        with pytest.raises(grpc.RpcError):
            stub.Version(request, metadata=(("authorization", "Bearer Wrong-Guess"),))
        assert server.end() == 0
        calls = [event for event in server.events() if event["event"] == "call.done"]
        assert [(event["rpc"], event["code"]) for event in calls] == [
            ("/geocube.Geocube/Version", "OK"),
            ("/geocube.Geocube/Version", "UNAUTHENTICATED"),
        ]
        assert all(event["seconds"] < PATIENCE for event in calls)
        assert secret not in server.log.read_text()
        assert "Wrong-Guess" not in server.log.read_text()


def test_a_missing_cube_is_created_and_persists(tmp_path: Path) -> None:
    identity: list[str] = []
    for _ in range(2):
        with started(tmp_path) as server, grpc.insecure_channel(server.address) as channel:
            if not identity:
                identity.append(new_aoi(GeocubeStub(channel)))
            assert server.end() == 0
    assert LocalCube.open(str(tmp_path / "cube")).store.exists(f"aois/{identity[0]}.json")


def test_a_port_that_is_taken_ends_with_78(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        status, error = failed(tmp_path, "--port", port)
    assert status == 78
    assert error["name"] == "SERVE_FAILED"
    assert port in error["detail"]


@pytest.mark.parametrize(
    ("options", "environment", "name"),
    [
        (["--host", "0.0.0.0"], {}, "SERVE_FAILED"),  # noqa: S104  # on purpose
        (["--tls-cert", "/nope.pem"], {"ACD_SERVE_KEY": "two words"}, "SETTING_INVALID"),
    ],
)
def test_an_invalid_setting_ends_with_78(
    tmp_path: Path, options: Sequence[str], environment: dict[str, str], name: str
) -> None:
    status, error = failed(tmp_path, *options, **environment)
    assert (status, error["name"]) == (78, name)
