"""A complete server in this process, with real ports and channels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.protocol.services_pb2_grpc import GeocubeStub
from acdtask.serve.keys import Keys
from acdtask.serve.serve import ServeSettings, Serving


@contextmanager
def serving(cube: LocalCube, keys: Keys | None = None, **settings: object) -> Iterator[Serving]:
    """Serve the cube on free ports, with a grace period of a second."""
    chosen = {"port": 0, "grace": 1.0, "workers": 8, **settings}
    server = Serving(cube, ServeSettings(**chosen), keys or Keys()).start()  # type: ignore[arg-type]  # of many types
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def cube(tmp_path: Path) -> LocalCube:
    """A new, empty cube."""
    return LocalCube.create(str(tmp_path / "cube"))


@pytest.fixture
def stub(cube: LocalCube, tmp_path: Path) -> Iterator[GeocubeStub]:
    """A client of a server of the cube, which may also open the files in `tmp_path`."""
    with serving(cube, data=(str(tmp_path),)) as server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield GeocubeStub(channel)
