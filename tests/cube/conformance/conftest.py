"""Rooms. A test with the fixture `room` runs in each, unless it needs an ability that a room lacks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from rasterio.crs import CRS
from shapely.geometry.base import BaseGeometry

from acdtask.cube.geocube.connection import Connection
from acdtask.cube.geocube.cube import GeocubeCube
from acdtask.cube.local.cube import LocalCube
from acdtask.cube.protocol import layouts_pb2, services_pb2_grpc
from acdtask.cube.protocol.convert import area_to_message, grid_from_message
from acdtask.raster.grid import Layout, Tile
from acdtask.raster.tiling import tiles_of
from tests.cube.builders import geojson
from tests.cube.conformance.messages import Wire
from tests.cube.conformance.rooms import CANNOT, KINDS, Kind, Room
from tests.cube.conformance.served import Served


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
    """A room with unique names and its own folder."""
    opened: Room = request.getfixturevalue(f"{request.param}_room")
    return opened


@pytest.fixture(scope="session")
def local_cube(tmp_path_factory: pytest.TempPathFactory) -> LocalCube:
    """One cube for all tests, like that of a server."""
    return LocalCube.create(str(tmp_path_factory.mktemp("local") / "cube"))


@pytest.fixture
def local_room(local_cube: LocalCube, tmp_path: Path) -> Room:
    """The local cube in this process."""
    return Room("local", local_cube, tmp_path / "containers", tiles_of)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`acdtask serve` with its own cube."""
    base = tmp_path_factory.getbasetemp()
    with Served(str(tmp_path_factory.mktemp("served") / "cube"), "--data", str(base)) as server:
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
    """A Geocube accessed by messages."""
    real = request.param == "geocube"
    address: str = request.getfixturevalue("geocube_address") if real else request.getfixturevalue("served").address
    folder = Path(os.environ.get("GEOCUBE_FOLDER") or tmp_path) if real else tmp_path
    with grpc.insecure_channel(address) as channel:
        yield Wire(services_pb2_grpc.GeocubeStub(channel), folder / "containers")


def behind(kind: Kind, address: str, folder: Path, downloader: str) -> Iterator[Room]:
    """A room on a server."""
    connection = Connection.to(f"geocube://{address}", retry_seconds=20)
    with grpc.insecure_channel(address) as channel:
        stub = services_pb2_grpc.GeocubeStub(channel)

        def reopen(**settings: object) -> GeocubeCube:
            return GeocubeCube(connection.model_copy(update=settings))

        yield Room(
            kind,
            GeocubeCube(connection),
            folder / "containers",
            lambda area, layout: tiles_of_server(stub, area, layout),
            reopen=reopen,
            downloader=f"geocube://{downloader}" if downloader else "",
        )


@pytest.fixture
def serve_room(served: Served, tmp_path: Path) -> Iterator[Room]:
    """acd's client with `acdtask serve`."""
    yield from behind("serve", served.address, tmp_path, served.address)


@pytest.fixture
def geocube_room(geocube_address: str, tmp_path: Path) -> Iterator[Room]:
    """acd's client with a real Geocube server."""
    folder = Path(os.environ.get("GEOCUBE_FOLDER") or tmp_path)
    yield from behind("geocube", geocube_address, folder, os.environ.get("GEOCUBE_DOWNLOADER", ""))


def tiles_of_server(stub: services_pb2_grpc.GeocubeStub, area: BaseGeometry, layout: Layout) -> list[Tile]:
    """The cells of a layout that intersect an area, computed by a server."""
    request = layouts_pb2.TileAOIRequest(aoi=area_to_message(geojson(area)), layout_name=layout.name)
    crs = CRS.from_user_input(layout.crs)
    found = []
    for message in (tile for answer in stub.TileAOI(request) for tile in answer.tiles):
        assert CRS.from_user_input(message.crs) == crs
        grid = grid_from_message(layout.crs, message.transform, message.size_px)
        (ox, oy), extent = layout.origin, layout.cell_extent
        i, j = round((grid.transform[2] - ox) / extent), round((oy - grid.transform[5]) / extent)
        found.append(Tile(layout=layout.name, i=i, j=j, grid=grid))
    return found
