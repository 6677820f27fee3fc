"""Sealed documents of a cube: every flipped bit is detected, and the error's advice works."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from acdtask.cube.jobs import ConsolidationParams, Level
from acdtask.cube.local.cube import LocalCube
from acdtask.errors import AcdError, ErrorCode
from acdtask.serve.areas import Areas
from acdtask.serve.consolidation.jobs import ConsolidationJobs
from acdtask.serve.consolidation.journal import Journal
from acdtask.serve.deletions import Deletions
from acdtask.serve.managed import Managed
from acdtask.serve.palettes import Colour, Palette, Palettes
from acdtask.storage.seal import seal, unseal
from acdtask.storage.store import Store
from tests.cube.builders import COHERENCE

AREA = {"type": "Polygon", "coordinates": [[[7.0, 50.0], [8.0, 50.0], [8.0, 51.0], [7.0, 50.0]]]}
GREYS = Palette(
    name="grey", colours=(Colour(value=0, r=0, g=0, b=0, a=255), Colour(value=1, r=255, g=255, b=255, a=255))
)


def area(store: Store) -> Callable[[], Any]:
    identity, _ = Areas(store, list).create(AREA)
    return lambda: Areas(store, list).find(identity)


def palette(store: Store) -> Callable[[], Any]:
    Palettes(store).create(GREYS)
    return lambda: Palettes(store).find("grey")


def params(store: Store) -> Callable[[], Any]:
    cube = LocalCube.create(store.url)
    cube.add_variable(COHERENCE)
    jobs = ConsolidationJobs(cube)
    jobs.configure(COHERENCE.name, ConsolidationParams(compression="LOSSY"))
    return lambda: jobs.params(COHERENCE.name)


def managed(store: Store) -> Callable[[], Any]:
    Managed(store).mark("/data/image.tif")
    return lambda: Managed(store).is_marked("/data/image.tif")


def deletion(store: Store) -> Callable[[], Any]:
    cube = LocalCube.create(store.url)
    deletions = Deletions(cube, Managed(store), ConsolidationJobs(cube))
    job = deletions.start("old images", Level.MAJOR, [])
    return lambda: deletions.find(job.id)


MAKERS = {
    "aois/*.json": area,
    "palettes/grey.json": palette,
    "consolidation/*.json": params,
    "managed/*.txt": managed,
    "deletions/*.json": deletion,
}


@pytest.mark.parametrize("pattern", MAKERS)
def test_every_flipped_bit_of_a_document_is_noticed(pattern: str, tmp_path: Path) -> None:
    read = MAKERS[pattern](Store.at(str(tmp_path)))
    expected = read()
    assert expected
    (path,) = tmp_path.glob(pattern)
    original = path.read_bytes()
    for bit in range(0, len(original) * 8, 3):
        flipped = bytearray(original)
        flipped[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(flipped)
        with pytest.raises(AcdError, match=path.name) as caught:
            read()
        assert caught.value.code is ErrorCode.CUBE_DAMAGED
        assert "Delete the file" in caught.value.fix
    path.unlink()
    again = MAKERS[pattern](Store.at(str(tmp_path)))()
    assert again.name == expected.name if pattern.startswith("deletions") else again == expected


def test_deleting_the_damaged_name_of_a_consolidation_frees_the_name(tmp_path: Path) -> None:
    store = Store.at(str(tmp_path))
    key = "jobs/names/5c1b6f8b3b1f4a4b8f3a4e2f9d6c7a10"
    store.put(key, seal(b'{"is": "b0e3a7f2-6a1f-4f0f-9f59-6ac3ed2d9e3d"}').replace(b"b0e3", b"b0e2"))
    with pytest.raises(AcdError, match="names/5c1b6f8b") as caught:
        Journal(store).all()
    assert caught.value.code is ErrorCode.CUBE_DAMAGED
    store.delete(key)
    assert Journal(store).all() == []


@pytest.mark.parametrize("body", [b"{}", b'{"a": 1}', b'{\n "a": [1]\n}'])
def test_what_is_unsealed_is_what_was_sealed(body: bytes) -> None:
    assert unseal(seal(body), "x") == body
    for damaged in (body, seal(body)[:-1], seal(body) + b"\n", seal(body).replace(b"crc32c", b"crc32d"), b""):
        with pytest.raises(AcdError, match="x is damaged: its checksum is"):
            unseal(damaged, "x")
