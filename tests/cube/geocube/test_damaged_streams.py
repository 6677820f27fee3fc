"""Damaged streams are refused: never a crash, never invalid pixels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from acdtask.cube.geocube.cube import GeocubeCube
from acdtask.cube.model import Image, Outcome
from acdtask.cube.protocol.cubes_pb2 import GetCubeResponse, GetCubeResponseHeader, ImageChunk
from acdtask.errors import AcdError, ErrorCode
from tests.cube.geocube.scripted import Scripted
from tests.cube.geocube.test_stream import ALL, bits, filled, request


def headers_of(messages: Iterator[Any], change: Any) -> Iterator[Any]:
    for message in messages:
        if message.WhichOneof("response") == "header":
            change(message.header)
        yield message


def _set_records(header: Any) -> None:
    header.grouped_records.records[0].id = "7df1ce41-0000-0000-0000-000000000000"


def _garble(header: Any) -> None:
    header.compression = True
    header.data = b"\xff" * len(header.data)


DAMAGES: dict[str, Any] = {
    "more bytes": lambda m: headers_of(m, lambda h: setattr(h, "data", h.data + b"12")),
    "fewer bytes": lambda m: headers_of(m, lambda h: setattr(h, "data", h.data[:-2])),
    "another size": lambda m: headers_of(m, lambda h: setattr(h, "size", 68)),
    "another shape": lambda m: headers_of(m, lambda h: setattr(h.shape, "dim2", 5)),
    "more bands": lambda m: headers_of(m, lambda h: setattr(h.shape, "dim1", 2)),
    "another type": lambda m: headers_of(m, lambda h: setattr(h, "dtype", 7)),
    "no type": lambda m: headers_of(m, lambda h: setattr(h, "dtype", 0)),
    "no deflate": lambda m: headers_of(m, _garble),
    "other records": lambda m: headers_of(m, _set_records),
    "no records": lambda m: headers_of(m, lambda h: h.grouped_records.Clear()),
    "more parts than come": lambda m: headers_of(m, lambda h: setattr(h, "nb_parts", 3)),
    "no beginning": lambda m: list(m)[1:],
    "a chunk at the beginning": lambda m: [GetCubeResponse(chunk=ImageChunk(part=1, data=b"ab")), *m],
    "a chunk too many": lambda m: [
        *(all_ := list(m))[:2],
        GetCubeResponse(chunk=ImageChunk(part=1, data=b"ab")),
        *all_[2:],
    ],
    "an empty message": lambda m: [next(m), GetCubeResponse(), *m],
    "the same image again": lambda m: [*(whole := list(m))[:2], *whole[1:]],
    "a negative count": lambda m: [GetCubeResponse(global_header=GetCubeResponseHeader(count=-4))],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_stream_is_refused(world: Scripted, cube: GeocubeCube, damage: str) -> None:
    """Never a crash, never invalid pixels."""
    filled(world, 2)
    world.twist = DAMAGES[damage]
    with pytest.raises(AcdError, match="sent a malformed reply") as error:
        list(cube.images(request(world, (0,), (1,))))
    assert error.value.code is ErrorCode.GEOCUBE_FAILED
    assert len(world.calls["GetCube"]) == 1  # a retry would not help


def test_a_decompression_bomb_is_refused(world: Scripted, cube: GeocubeCube) -> None:
    """A few kilobytes that inflate to gigabytes are refused at the first excess bytes."""
    import zlib

    bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = bomb.compress(bytes(1 << 28)) + bomb.flush()
    filled(world, 1)

    def swell(header: Any) -> None:
        header.compression, header.data = True, data

    world.twist = lambda messages: headers_of(messages, swell)
    with pytest.raises(AcdError, match="more than 70 bytes"):
        list(cube.images(request(world, (0,))))


@ALL
@given(places=st.lists(st.integers(0, 9), min_size=1, max_size=10), kept=st.integers(0, 10))
def test_misplaced_messages_are_refused_or_harmless(world: Scripted, places: list[int], kept: int) -> None:
    """Messages left out, duplicated or swapped: the right pixels, or an error with a code.

    Except for a part in exactly the place of another image's part, which the protocol cannot distinguish.
    """
    world.records.clear()
    world.images.clear()
    world.chunk = 30
    images = filled(world, 3)

    streams: list[list[tuple[int, int]]] = []

    def shuffle(messages: Iterator[Any]) -> Iterator[Any]:
        whole = labelled(messages)
        chosen = whole[:kept] + [whole[place % len(whole)] for place in places]
        streams.append([label for label, _ in chosen])
        yield from (message for _, message in chosen)

    world.twist = shuffle
    cube = GeocubeCube(world.connection(attempts=2))
    answers: list[Image] = []
    failure: AcdError | None = None
    try:
        answers = list(cube.images(request(world, (0,), (1,), (2,))))
    except AcdError as error:
        failure = error
    if failure is not None:
        assert failure.code in (ErrorCode.GEOCUBE_FAILED, ErrorCode.GEOCUBE_UNREACHABLE)
        return
    assume(not any(passes_for_another(labels) for labels in streams))
    for answer, image in zip(answers, images, strict=True):
        assert answer.outcome is Outcome.ABSENT or bits(answer.pixels) == image.tobytes()


def labelled(messages: Iterator[Any]) -> list[tuple[tuple[int, int], Any]]:
    """The messages of a stream, each with its image and part number; the global header has image -1."""
    answers: list[tuple[tuple[int, int], Any]] = []
    image = -1
    for message in messages:
        image += message.WhichOneof("response") == "header"
        answers.append(((image, message.chunk.part), message))
    return answers


def passes_for_another(labels: list[tuple[int, int]]) -> bool:
    """Whether a part of one image arrives where the same part of another is expected."""
    image, awaited = -1, 0
    for owner, part in labels:
        if part == 0:
            image, awaited = owner, 1
        elif part == awaited:
            if owner != image:
                return True
            awaited += 1
    return False
