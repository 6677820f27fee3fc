"""A downloader is used while it is available; otherwise the server sends the same images."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np
import pytest

from acdtask.cube.geocube.cube import GeocubeCube
from acdtask.cube.geocube.downloader import Breaker
from acdtask.cube.model import CubeRequest, Outcome
from tests.cube.builders import grid
from tests.cube.geocube.scripted import NO_DATA, Code, Fault, Scripted, record_of, scripted

COUNT = 5
REQUEST = CubeRequest(
    variable="v", instance="master", grid=grid(7, 5), groups=tuple((record_of(n).id,) for n in range(COUNT + 1))
)


@pytest.fixture
def beside(world: Scripted) -> Iterator[Scripted]:
    """A downloader that reads the same files as the server."""
    for number in range(COUNT):
        world.put(record_of(number), np.full((5, 7), number + 1, "int16"))
    world.images[list(world.images)[3]] = NO_DATA
    with scripted(world.variable, images=dict(world.images), records=world.records) as other:
        yield other


@pytest.fixture
def near(world: Scripted, beside: Scripted) -> GeocubeCube:
    return GeocubeCube(world.connection(downloader=beside.address))


def exact(cube: GeocubeCube) -> bool:
    answers = list(cube.images(REQUEST))
    kinds = ["DATA", "DATA", "DATA", "NODATA", "DATA", "ABSENT"]
    assert [answer.outcome.name for answer in answers] == kinds
    return all(answer.pixels is None or np.all(answer.pixels == number + 1) for number, answer in enumerate(answers))


def test_pixels_come_from_the_downloader(world: Scripted, beside: Scripted, near: GeocubeCube) -> None:
    assert exact(near)
    assert [call.headers_only for call in world.calls["GetCube"]] == [True]
    (asked,) = beside.calls["DownloadCube"]
    assert asked.ref_dformat.dtype  # without it, a Geocube's downloader crashes
    assert asked.resampling_alg


def test_an_unavailable_downloader_is_not_used_for_a_while(world: Scripted, beside: Scripted) -> None:
    beside.faults["DownloadCube"] = deque([Fault()] * 50)
    cube = GeocubeCube(world.connection(downloader=beside.address))
    for _ in range(3):
        assert exact(cube)
    assert len(beside.calls["DownloadCube"]) == 2  # attempts of the first cube
    Breaker.reset()
    beside.faults["DownloadCube"].clear()
    assert exact(cube)
    assert len(beside.calls["DownloadCube"]) == 3


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.UNIMPLEMENTED, Code.UNAUTHENTICATED, Code.INTERNAL])
def test_the_server_continues_a_broken_stream_of_a_downloader(
    world: Scripted, beside: Scripted, near: GeocubeCube, code: object
) -> None:
    beside.faults["DownloadCube"] = deque([Fault(code, after=3), *[Fault(code)] * 5])  # type: ignore[arg-type]  # a code
    assert exact(near)
    assert len(world.calls["GetCube"][-1].grouped_records.records) == 3


def test_a_downloader_without_access_to_the_files(world: Scripted, beside: Scripted, near: GeocubeCube) -> None:
    for identity in beside.images:
        beside.images[identity] = "rpc error: code = Unknown desc = GDAL 4: no such file"
    assert exact(near)
    assert len(beside.calls["DownloadCube"]) == 1
    assert Breaker.is_open(near._reader._source._downloader.endpoint)  # type: ignore[union-attr]  # it has one


def test_an_unreadable_image_fails_alone(world: Scripted, beside: Scripted, near: GeocubeCube) -> None:
    broken = list(world.images)[1]
    world.images[broken] = beside.images[broken] = "rpc error: code = Unknown desc = GDAL 4: damaged"
    answers = list(near.images(REQUEST))
    assert [answer.outcome.name for answer in answers] == ["DATA", "FAILED", "DATA", "NODATA", "DATA", "ABSENT"]
    assert len(beside.calls["DownloadCube"]) == 1
    assert answers[1].outcome is Outcome.FAILED
    assert "damaged" in answers[1].reason


def test_the_server_replaces_a_damaged_stream_of_a_downloader(
    world: Scripted, beside: Scripted, near: GeocubeCube
) -> None:
    beside.twist = lambda messages: list(messages)[1:]  # type: ignore[assignment,return-value]  # a list does as well
    assert exact(near)
