"""acd's client with `acdtask serve` over a failing network, and with a server that is restarted."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from acdtask.cube.follow import End, follow
from acdtask.cube.geocube.connection import Connection
from acdtask.cube.geocube.cube import GeocubeCube
from acdtask.cube.jobs import Consolidation
from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import CubeRequest, Outcome, Record, RecordQuery
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.data_format import Pixels
from acdtask.raster.grid import Grid
from acdtask.raster.tiling import tiles_of
from tests.cube.builders import grid, image
from tests.cube.conformance.proxy import Faults, Proxy
from tests.cube.conformance.rooms import Room
from tests.cube.conformance.served import Served

SCENE = grid(256, 256)
LARGE = grid(1400, 1200)
COUNT = 24


class Place:
    """A server for a cube with COUNT small images and a large one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.local = LocalCube.create(str(folder / "cube"))
        self.room = Room("local", self.local, folder / "containers", tiles_of)
        self.instance = self.room.instance()
        self.images = [image(SCENE, number, low=1) for number in range(COUNT)]
        self.records = self.room.stack(self.instance, self.images, SCENE)
        self.large = image(LARGE, 99, low=1)
        self.large_record = self.room.record(COUNT)
        self.room.put(self.large_record, self.instance, self.large, LARGE)
        self.server = Served(str(folder / "cube"), "--grace", "0", "--data", str(folder))

    def client(self, address: str, **settings: object) -> GeocubeCube:
        return GeocubeCube(Connection.to(f"geocube://{address}", **({"retry_seconds": 60} | settings)))

    def asked(self, *records: Record, on: Grid = SCENE) -> CubeRequest:
        groups = tuple((record.id,) for record in records)
        return CubeRequest(variable=self.instance.variable, instance=self.instance.name, grid=on, groups=groups)

    def check_all(self, cube: GeocubeCube) -> None:
        """Compare all images."""
        check(cube, self.asked(*self.records), self.images)
        check(cube, self.asked(self.large_record, on=LARGE), [self.large])


def check(cube: GeocubeCube, request: CubeRequest, expected: list[Pixels]) -> None:
    found = list(cube.images(request))
    assert [result.records for result in found] == list(request.groups)
    assert {result.outcome for result in found} == {Outcome.DATA}, [result.reason for result in found if result.reason]
    for result, given in zip(found, expected, strict=True):
        np.testing.assert_array_equal(result.pixels, given)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place(tmp_path_factory.mktemp("faults"))
    with made.server:
        yield made


@pytest.mark.parametrize("compression", [-3, 1])
@pytest.mark.parametrize("seed", range(4))
def test_streams_that_are_cut_anywhere_are_exact(place: Place, seed: int, compression: int) -> None:
    """A connection transfers 50 to 900 kB; the small images have 3 MB, and the large one too."""
    faults = Faults(seed=seed, cut_after=(50_000, 900_000), cuts_at_most=8)
    with Proxy(("127.0.0.1", place.server.port), faults) as proxy:
        place.check_all(place.client(proxy.address, compression=compression))
        assert proxy.cuts >= 2


def test_interrupted_calls_are_repeated(place: Place) -> None:
    """Connections are cut before the first reply, a few times."""
    with Proxy(("127.0.0.1", place.server.port), Faults(seed=5, cut_after=(1, 120), cuts_at_most=5)) as proxy:
        cube = place.client(proxy.address)
        assert len(cube.records(RecordQuery(name=place.room.name("*")))) == COUNT + 1
        assert cube.instances(place.instance.variable) == [place.instance]
        assert proxy.cuts == 5


def test_delays_change_nothing(place: Place) -> None:
    with Proxy(("127.0.0.1", place.server.port), Faults(seed=1, delay=0.01)) as proxy:
        place.check_all(place.client(proxy.address))


def test_a_server_that_is_unavailable_for_a_while_is_waited_for(place: Place) -> None:
    with Proxy(("127.0.0.1", place.server.port)) as proxy:
        cube = place.client(proxy.address)
        arriving = cube.images(place.asked(*place.records))
        first = next(arriving)
        proxy.refuse(2.0)
        found = [first, *arriving]
        for result, given in zip(found, place.images, strict=True):
            np.testing.assert_array_equal(result.pixels, given)
        assert len(cube.records(RecordQuery(name=place.room.name("*")))) == COUNT + 1


def test_retries_end_after_a_time(place: Place) -> None:
    with Proxy(("127.0.0.1", place.server.port)) as proxy:
        cube = place.client(proxy.address, retry_seconds=1)
        proxy.refuse(60)
        started = time.monotonic()
        with pytest.raises(AcdError) as error:
            cube.variables()
        assert error.value.code is ErrorCode.GEOCUBE_UNREACHABLE
        assert proxy.address in error.value.detail
        assert time.monotonic() - started < 20


def test_writes_over_a_failing_network_happen_once(place: Place) -> None:
    """A commit whose reply is lost is repeated, and adds nothing."""
    with Proxy(("127.0.0.1", place.server.port), Faults(seed=3, cut_after=(40, 700), cuts_at_most=12)) as proxy:
        cube = place.client(proxy.address)
        room = Room("serve", cube, place.folder / "cuts", tiles_of)
        instance = room.instance()
        records = room.stack(instance, place.images[:6], SCENE)
        assert proxy.cuts >= 1
        assert cube.having(instance.variable, "master", [record.id for record in records]) == {
            record.id for record in records
        }
        check(cube, place.asked(*records).model_copy(update={"variable": instance.variable}), place.images[:6])
        assert len(place.local.records(RecordQuery(name=room.name("*")))) == 6
        assert len(place.local.datasets(instance.variable, "master")) == 6


def test_fifty_workers_at_once_are_exact(place: Place) -> None:
    """Each worker has its own connection, half of them over a proxy that cuts connections."""
    faults = Faults(seed=9, cut_after=(100_000, 2_000_000), cuts_at_most=30)
    with Proxy(("127.0.0.1", place.server.port), faults) as proxy:
        cubes = [place.client(proxy.address if number % 2 else place.server.address) for number in range(50)]
        packed = [pickle.dumps(cube) for cube in cubes]
        start = threading.Barrier(50)

        def work(number: int) -> None:
            cube = pickle.loads(packed[number])  # noqa: S301  # made two lines above
            start.wait(60)
            chosen = [(number * 7 + step * 5) % COUNT for step in range(4)]
            request = place.asked(*(place.records[index] for index in chosen))
            check(cube, request, [place.images[index] for index in chosen])

        with ThreadPoolExecutor(50) as pool:
            list(pool.map(work, range(50)))


def test_a_server_that_is_killed_in_the_middle_of_a_stream(tmp_path: Path) -> None:
    place = Place(tmp_path)
    with place.server:
        cube = place.client(place.server.address)
        arriving = cube.images(place.asked(*place.records))
        found = [next(arriving) for _ in range(3)]
        place.server.kill()
        back = threading.Timer(1.0, place.server.start)
        back.start()
        found += arriving
        back.join()
        for result, given in zip(found, place.images, strict=True):
            np.testing.assert_array_equal(result.pixels, given)
        place.check_all(cube)


def test_a_server_that_is_killed_in_the_middle_of_a_job(tmp_path: Path) -> None:
    """The job continues after the restart, and its results are exact."""
    place = Place(tmp_path)
    layout = place.room.layout()
    wanted = Consolidation(
        name=place.room.name("job"),
        variable=place.instance.variable,
        instance=place.instance.name,
        layout=layout.name,
        records=tuple(record.id for record in place.records),
    )
    with place.server:
        cube = place.client(place.server.address)
        job_id = cube.consolidate(wanted)
        for _ in range(2):
            time.sleep(0.3)
            place.server.kill()
            place.server.start()
        ending = follow(cube, job_id, timeout=120, poll=0.1)
        assert ending.end is End.DONE, ending
        place.check_all(cube)
        tile = layout.tile(1, 1)
        expected = [pixels[64:128, 64:128] for pixels in place.images]
        check(cube, place.asked(*place.records, on=tile.grid), expected)
