"""The rooms. A test that takes `room` runs in each of them, unless it needs what a room cannot do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.protocol import services_pb2_grpc
from acdtask.cube.tiling import tiles_of
from tests.cube.conformance.rooms import CANNOT, KINDS, Room
from tests.cube.conformance.served import Served
from tests.cube.conformance.wire import Wire


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*abilities): what a room of the cube must be able to do")
    config.addinivalue_line("markers", "geocube: needs a real Geocube server (GEOCUBE_SERVER=host:port)")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "wire" in metafunc.fixturenames:
        wires = ["serve", pytest.param("geocube", marks=pytest.mark.geocube)]
        metafunc.parametrize("wire", wires, indirect=True)
    if "room" not in metafunc.fixturenames:
        return
    needs = {ability for mark in metafunc.definition.iter_markers("needs") for ability in mark.args}
    rooms = [
        pytest.param(kind, marks=pytest.mark.geocube if kind == "geocube" else ())
        for kind in KINDS
        if not needs.intersection(CANNOT[kind])
    ]
    metafunc.parametrize("room", rooms, indirect=True)


@pytest.fixture
def room(request: pytest.FixtureRequest, tmp_path: Path) -> Room:
    """A room with names and a folder of its own."""
    opened: Room = request.getfixturevalue(f"{request.param}_room")
    return opened


@pytest.fixture(scope="session")
def local_cube(tmp_path_factory: pytest.TempPathFactory) -> LocalCube:
    """One cube for all tests, as a server is."""
    return LocalCube.create(str(tmp_path_factory.mktemp("local") / "cube"))


@pytest.fixture
def local_room(local_cube: LocalCube, tmp_path: Path) -> Room:
    """The local cube in this process."""
    return Room("local", local_cube, tmp_path / "containers", tiles_of)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`acdtask serve` on a cube of its own."""
    with Served(str(tmp_path_factory.mktemp("served") / "cube")) as server:
        yield server


@pytest.fixture(scope="session")
def geocube_address() -> str:
    """host:port of a real Geocube server."""
    address = os.environ.get("GEOCUBE_SERVER")
    if not address:
        pytest.skip("GEOCUBE_SERVER is unset: no Geocube server to test with")
    return address


@pytest.fixture
def wire(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Wire]:
    """A Geocube by its messages."""
    real = request.param == "geocube"
    address: str = request.getfixturevalue("geocube_address") if real else request.getfixturevalue("served").address
    folder = Path(os.environ.get("GEOCUBE_FOLDER") or tmp_path) if real else tmp_path
    with grpc.insecure_channel(address) as channel:
        yield Wire(services_pb2_grpc.GeocubeStub(channel), folder / "containers")


@pytest.fixture
def serve_room() -> Room:
    """Our client against `acdtask serve`."""
    pytest.skip("acdtask serve is not there yet")


@pytest.fixture
def geocube_room() -> Room:
    """Our client against a real Geocube server."""
    if not os.environ.get("GEOCUBE_SERVER"):
        pytest.skip("GEOCUBE_SERVER is unset: no Geocube server to test with")
    pytest.skip("the client is not there yet")
