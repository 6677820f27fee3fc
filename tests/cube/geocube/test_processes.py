"""Clients in other processes: pickled, forked, spawned; and the memory of an image."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from acdtask.cube.geocube.client import Geocube, connect
from acdtask.cube.geocube.cube import GeocubeCube
from acdtask.cube.model import CubeRequest
from tests.cube.builders import grid
from tests.cube.geocube.scripted import Scripted, record_of, scripted

ROOT = Path(__file__).resolve().parents[3]

READER = textwrap.dedent(
    """
    import multiprocessing, sys
    from acdtask.cube.geocube.connection import Connection
    from acdtask.cube.geocube.cube import GeocubeCube
    from tests.cube.geocube.test_processes import ask

    if __name__ == "__main__":
        cube = GeocubeCube(Connection.to(sys.argv[1]))
        print(ask((cube, 0)))
        with multiprocessing.get_context(sys.argv[2]).Pool(3) as pool:
            print(*pool.map_async(ask, [(cube, number) for number in range(6)]).get(60))
        print(ask((cube, 1)))
    """
)

LARGE = textwrap.dedent(
    """
    import resource, sys
    from acdtask.cube.geocube.connection import Connection
    from acdtask.cube.geocube.cube import GeocubeCube
    from tests.cube.geocube.test_processes import ask, large

    cube = GeocubeCube(Connection.to(sys.argv[1], compression=int(sys.argv[2])))
    ask((cube, 0))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    size = large(cube)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(size, (after - before) * 1024)
    """
)

LARGE_SIDE = 8192


def ask(work: tuple[GeocubeCube, int]) -> int:
    """The value of an image of 5 x 7 px."""
    cube, number = work
    request = CubeRequest(variable="v", instance="master", grid=grid(7, 5), groups=((record_of(number).id,),))
    (image,) = cube.images(request)
    assert image.pixels is not None
    return int(image.pixels[2, 3])


def large(cube: GeocubeCube) -> int:
    """Read the large image and return its size in bytes."""
    on = grid(LARGE_SIDE, LARGE_SIDE)
    pixels, _ = cube.stack(CubeRequest(variable="v", instance="master", grid=on, groups=((record_of(99).id,),)))
    assert pixels[0, -1, -1] == 5
    return pixels.nbytes


def run(script: str, *arguments: str) -> list[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=200, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_client_is_pickled(world: Scripted) -> None:
    world.put(record_of(0), np.full((5, 7), 42, "int16"))
    cube = GeocubeCube(world.connection(api_key="k"))
    assert ask((cube, 0)) == 42
    again: GeocubeCube = pickle.loads(pickle.dumps(cube))  # noqa: S301  # made here
    assert ask((again, 0)) == 42
    assert world.metadata[-1]["authorization"] == "Bearer k"
    person: Geocube = pickle.loads(pickle.dumps(connect(world.address)))  # noqa: S301  # made here
    assert ask((person.room, 0)) == 42


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_read_correctly_after_calls_of_the_parent(world: Scripted, tmp_path: Path, method: str) -> None:
    for number in range(6):
        world.put(record_of(number), np.full((5, 7), number + 10, "int16"))
    script = tmp_path / "reader.py"
    script.write_text(READER)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(script), world.address, method],
        capture_output=True,
        text=True,
        timeout=200,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["10", "10", "11", "12", "13", "14", "15", "11"]


@pytest.mark.parametrize("level", [-3, 1])
def test_an_image_is_held_in_memory_once(level: int) -> None:
    """128 MiB need less than 1.3 times as much memory, with and without compression."""
    with scripted() as world:
        world.put(record_of(0), np.zeros((5, 7), "int16"))
        world.put(record_of(99), np.full((LARGE_SIDE, LARGE_SIDE), 5, "int16"))
        size, grown = map(int, run(LARGE, world.address, str(level)))
    assert size == LARGE_SIDE * LARGE_SIDE * 2
    assert grown < 1.3 * size
