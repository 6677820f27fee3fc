"""Fixtures: a scripted server and a client of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from acdtask.cube.geocube.cube import GeocubeCube
from acdtask.cube.geocube.downloader import Breaker
from acdtask.cube.geocube.stream import LinkSpeed
from tests.cube.geocube.scripted import Scripted, scripted


@pytest.fixture
def world() -> Iterator[Scripted]:
    """A scripted Geocube, with the caches of this process cleared."""
    Breaker.reset()
    LinkSpeed.forget()
    with scripted() as server:
        yield server


@pytest.fixture
def cube(world: Scripted) -> GeocubeCube:
    """A client of the scripted server with pauses of milliseconds."""
    return GeocubeCube(world.connection())
