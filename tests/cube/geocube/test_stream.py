"""Cubes from streams: exact arrays, however a stream is divided and wherever it breaks."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acdtask.cube.geocube.cube import GeocubeCube
from acdtask.cube.model import FOREIGN, CubeRequest, Dataset, Outcome, Slice, Variable
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.data_format import DataFormat, Pixels
from tests.cube.builders import grid
from tests.cube.geocube.scripted import NO_DATA, Code, Fault, Scripted, record_of

DTYPES = ("uint8", "int16", "uint16", "int32", "float32", "float64")
GRID = grid(7, 5)
ALL = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def noise(dtype: str, shape: tuple[int, ...], seed: int) -> Pixels:
    """Random bits, which include every kind of number and NaN."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer(np.random.default_rng(seed).bytes(size), dtype).reshape(shape)


def variable_of(dtype: Any, bands: int) -> Variable:
    names = tuple(f"b{number}" for number in range(bands)) if bands > 1 else ("",)
    return Variable(name="v", dformat=DataFormat(dtype=dtype, nodata=0, min=0, max=100), bands=names)


def request(world: Scripted, *groups: tuple[int, ...], on: Any = GRID) -> CubeRequest:
    named = tuple(tuple(record_of(number).id for number in group) for group in groups)
    return CubeRequest(variable=world.variable.name, instance="master", grid=on, groups=named)


def bits(pixels: Pixels | None) -> bytes:
    assert pixels is not None
    return pixels.tobytes()


def filled(world: Scripted, count: int, shape: tuple[int, int] = (5, 7)) -> list[Pixels]:
    images = [np.full(shape, number + 1, "int16") for number in range(count)]
    for number, image in enumerate(images):
        world.put(record_of(number), image)
    return images


def slices_of(world: Scripted, cube: GeocubeCube, groups: list[tuple[int, ...]]) -> list[Slice]:
    ids = {record.name: identity for identity, record in world.records.items()}
    datasets = {
        number: Dataset(
            record_id=record_of(number).id,
            variable="v",
            instance="master",
            uri=f"{FOREIGN}{ids[record_of(number).name]}",
            dformat=world.variable.dformat,
            grid=GRID,
        )
        for group in groups
        for number in group
    }
    return [Slice(label=str(group), datasets=tuple(datasets[number] for number in group)) for group in groups]


@pytest.mark.parametrize("dtype", DTYPES)
@ALL
@given(
    level=st.integers(-3, 9),
    bands=st.integers(1, 3),
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    chunk=st.integers(1, 5000),
    knows_v11x=st.booleans(),
    big=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
    flat=st.booleans(),
)
def test_any_stream_gives_the_exact_array(
    world: Scripted,
    dtype: str,
    level: int,
    bands: int,
    shape: tuple[int, int],
    chunk: int,
    knows_v11x: bool,
    big: bool,
    seed: int,
    flat: bool,
) -> None:
    """For every data type, shape, number of bands, byte order, chunk size, compression and version of the protocol."""
    height, width = shape
    whole = (bands, height, width) if bands > 1 else shape
    images = [noise(dtype, whole, seed + number) for number in range(3)]
    if flat:  # compresses to almost nothing, so an image ends with many empty chunks
        images = [np.zeros_like(image) for image in images]
    world.variable, world.knows_v11x, world.big = variable_of(dtype, bands), knows_v11x, big
    world.chunk = max(chunk, images[0].nbytes // 100)
    world.records.clear()
    world.images.clear()
    for number, image in enumerate(images):
        world.put(record_of(number), image)
    cube = GeocubeCube(world.connection(compression=level))
    on = grid(width, height)
    answers = list(cube.images(request(world, (0,), (1,), (2,), on=on)))
    stack, _ = cube.stack(request(world, (2,), (0,), on=on))
    assert [answer.outcome for answer in answers] == [Outcome.DATA] * 3
    assert [bits(answer.pixels) for answer in answers] == [image.tobytes() for image in images]
    assert stack.dtype == np.dtype(dtype)
    assert stack.tobytes() == images[2].tobytes() + images[0].tobytes()


@ALL
@given(
    cuts=st.lists(st.tuples(st.integers(0, 25), st.sampled_from([*range(7)])), max_size=6),
    level=st.sampled_from([-3, 0, 6]),
)
def test_a_stream_that_breaks_anywhere_is_resumed(world: Scripted, cuts: list[tuple[int, int]], level: int) -> None:
    """After any number of messages, with any error of servers and networks."""
    codes = [Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.ABORTED, Code.CANCELLED, None, Code.INTERNAL, Code.UNKNOWN]
    world.records.clear()
    world.images.clear()
    world.calls.clear()
    world.chunk = 23
    images = filled(world, 4)
    world.images[next(iter(world.images))] = NO_DATA
    world.faults["GetCube"] = deque(
        Fault(
            codes[how], "Received RST_STREAM with error code 2", after=max(after, codes[how] is Code.DEADLINE_EXCEEDED)
        )
        for after, how in cuts
        if not (codes[how] is Code.DEADLINE_EXCEEDED and after < 5)  # a deadline without any image is the end
    )
    cube = GeocubeCube(world.connection(compression=level, attempts=8))
    answers = list(cube.images(request(world, (0,), (1,), (9,), (2,), (3, 1))))
    kinds = [answer.outcome for answer in answers]
    assert kinds == [Outcome.NODATA, Outcome.DATA, Outcome.ABSENT, Outcome.DATA, Outcome.DATA]
    assert [bits(answers[place].pixels) for place in (1, 3, 4)] == [images[n].tobytes() for n in (1, 2, 1)]


def test_only_missing_groups_are_requested_again(world: Scripted, cube: GeocubeCube) -> None:
    images = filled(world, 6)
    world.faults["GetCube"] = deque([Fault(after=4), Fault(), Fault(code=None, after=2)])
    answers = list(cube.images(request(world, *((number,) for number in range(6)))))
    assert [bits(answer.pixels) for answer in answers] == [image.tobytes() for image in images]
    assert [len(call.grouped_records.records) for call in world.calls["GetCube"]] == [6, 3, 3, 2]


def test_attempts_without_progress_are_limited(world: Scripted) -> None:
    filled(world, 3)
    cube = GeocubeCube(world.connection(attempts=3))
    world.faults["GetCube"] = deque([Fault(after=2), Fault(), Fault(after=2), Fault(), Fault()])
    images = cube.images(request(world, (0,), (1,), (2,)))
    assert next(images).outcome is Outcome.DATA
    assert next(images).outcome is Outcome.DATA
    with pytest.raises(AcdError, match="cannot be reached: try again") as error:
        next(images)
    assert error.value.code is ErrorCode.GEOCUBE_UNREACHABLE
    assert error.value.code.value.retryable


def test_a_stream_that_always_ends_early_is_an_unreachable_server(world: Scripted) -> None:
    filled(world, 2)
    cube = GeocubeCube(world.connection(attempts=3))
    world.faults["GetCube"] = deque([Fault(code=None, after=1)] * 9)
    with pytest.raises(AcdError, match="ended a cube after 0 of 2 images") as error:
        list(cube.images(request(world, (0,), (1,))))
    assert error.value.code is ErrorCode.GEOCUBE_UNREACHABLE
    assert len(world.calls["GetCube"]) == 3


def test_an_unresponsive_server_is_given_up_after_one_deadline(world: Scripted) -> None:
    filled(world, 2)
    world.delay = 5.0
    cube = GeocubeCube(world.connection(deadlines={"cube": 0.3}))
    with pytest.raises(AcdError, match="does not answer in time") as error:
        list(cube.images(request(world, (0,), (1,))))
    assert error.value.code is ErrorCode.GEOCUBE_UNREACHABLE
    assert len(world.calls["GetCube"]) == 1


def test_every_group_has_its_outcome(world: Scripted, cube: GeocubeCube) -> None:
    """Data, no data, absent and failed, in the requested order; some records of a group suffice for its image."""
    (data,) = filled(world, 1)
    world.put(record_of(1), NO_DATA)
    broken = world.put(record_of(2), "rpc error: code = Unknown desc = backend.GetCube.CastFile: GDAL 4: no such file")
    world.put(record_of(3))
    groups = [(0,), (1,), (2,), (3,), (8,), (3, 0), (0, 9), (1, 0), (0,), (0, 2)]
    answers = list(cube.images(request(world, *groups)))
    names = ["DATA", "NODATA", "FAILED", "ABSENT", "ABSENT", "DATA", "DATA", "DATA", "DATA", "FAILED"]
    assert [answer.outcome.name for answer in answers] == names
    assert [answer.records for answer in answers] == [tuple(record_of(n).id for n in group) for group in groups]
    assert answers[2].reason == f"backend.GetCube.CastFile: GDAL 4: no such file (/data/{broken}.tif)"
    for answer in answers:
        assert (answer.pixels is not None) == (answer.outcome is Outcome.DATA)
        assert answer.pixels is None or np.array_equal(answer.pixels, data)


def test_images_wanted_twice_are_requested_once(world: Scripted, cube: GeocubeCube) -> None:
    images = filled(world, 2)
    answers = list(cube.images(request(world, (0,), (1,), (0,), (0,))))
    assert [bits(answer.pixels) for answer in answers] == [images[n].tobytes() for n in (0, 1, 0, 0)]
    assert [len(call.grouped_records.records) for call in world.calls["GetCube"]] == [2]
    stack, images_of_stack = cube.stack(request(world, (0,), (1,), (0,)))
    assert stack.shape == (2, 5, 7)
    assert [bits(answer.pixels) for answer in images_of_stack] == [images[n].tobytes() for n in (0, 1, 0)]


def test_images_that_are_not_consumed_are_not_sent(world: Scripted, cube: GeocubeCube) -> None:
    """Closing the iterator cancels the call: the server does not continue to the last image."""
    sent = []

    def counted(messages: Iterator[Any]) -> Iterator[Any]:
        for message in messages:
            sent.append(message)
            yield message

    world.twist = counted
    for number in range(40):
        world.put(record_of(number), np.zeros((1000, 1000), "int16"))
    images = cube.images(request(world, *((number,) for number in range(40)), on=grid(1000, 1000)))
    assert next(images).outcome is Outcome.DATA
    images.close()  # type: ignore[attr-defined]  # it is a generator
    assert len(sent) < 100  # of 161


def test_read_assigns_images_to_slices(world: Scripted, cube: GeocubeCube) -> None:
    images = filled(world, 3)
    world.put(record_of(3), NO_DATA)
    world.put(record_of(4))
    slices = slices_of(world, cube, [(2,), (3,), (0, 1), (), (4,), (2,)])
    pixels = cube.read(GRID, slices, world.variable)
    nothing = np.full((5, 7), -1, "int16")
    np.testing.assert_array_equal(pixels, [images[2], nothing, images[1], nothing, nothing, images[2]])
    assert world.calls["ListDatasets"] == []  # the addresses of the slices contain the ids


def test_read_raises_if_an_image_failed(world: Scripted, cube: GeocubeCube) -> None:
    filled(world, 2)
    world.put(record_of(2), "rpc error: code = Unknown desc = GDAL 4: gone")
    with pytest.raises(AcdError, match=r"image \(2,\): GDAL 4: gone \(/data/") as error:
        cube.read(GRID, slices_of(world, cube, [(0,), (2,), (1,)]), world.variable)
    assert error.value.code is ErrorCode.IMAGE_FAILED


def test_read_as_another_data_type_is_refused(world: Scripted, cube: GeocubeCube) -> None:
    filled(world, 1)
    with pytest.raises(AcdError) as error:
        cube.read(GRID, slices_of(world, cube, [(0,)]), variable_of("float32", 1))
    assert error.value.code is ErrorCode.VARIABLE_CONFLICT


def test_many_groups_are_split_into_several_requests(world: Scripted, cube: GeocubeCube) -> None:
    """Requests are limited to 4 MiB."""
    shared = np.ones((1, 1), "int16")
    for number in range(3):
        world.put(record_of(number), shared)
    ids = [record_of(number).id for number in range(3)]
    groups = tuple((ids[0], *[ids[1]] * n, ids[2]) for n in range(150, 450))
    ask = CubeRequest(variable="v", instance="master", grid=grid(1, 1), groups=groups)
    assert [answer.outcome for answer in cube.images(ask)] == [Outcome.DATA] * 300
    sizes = [call.ByteSize() for call in world.calls["GetCube"]]
    assert len(sizes) > 3
    assert max(sizes) < 1024 * 1024


def test_refused_requests_are_not_retried(world: Scripted, cube: GeocubeCube) -> None:
    filled(world, 1)
    for fault, code in [
        (Fault(Code.INVALID_ARGUMENT, "Invalid shape: 0x0"), ErrorCode.GEOCUBE_REFUSED),
        (Fault(Code.NOT_FOUND, "no", ("Variable Instance", "x")), ErrorCode.INSTANCE_UNKNOWN),
        (Fault(Code.UNKNOWN, "pq: something"), ErrorCode.GEOCUBE_FAILED),
        (Fault(Code.RESOURCE_EXHAUSTED, "an image is too large"), ErrorCode.GEOCUBE_REFUSED),
        (Fault(Code.UNAUTHENTICATED, "invalid token"), ErrorCode.GEOCUBE_DENIED),
    ]:
        world.calls.clear()
        world.faults["GetCube"] = deque([fault])
        with pytest.raises(AcdError) as error:
            list(cube.images(request(world, (0,))))
        assert error.value.code is code
        assert len(world.calls["GetCube"]) == 1
        assert isinstance(error.value.__cause__, grpc.RpcError)
    assert next(iter(cube.images(request(world, (0,))))).outcome is Outcome.DATA
