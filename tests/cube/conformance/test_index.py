"""Datasets are indexed once, and refused if they are invalid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from acdtask.cube.model import Addition, Dataset, Instance, Outcome, Record, Slice
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.grid import Window
from tests.cube.builders import grid
from tests.cube.conformance.rooms import Room, dformat

SMALL = grid(50, 40)


def written(room: Room, instance: Instance, number: int = 0) -> tuple[Record, Dataset]:
    record = room.record(number)
    return record, room.container(record, instance, np.full((40, 50), number + 1, "int16"), SMALL)


def refused(room: Room, records: list[Record], datasets: list[Dataset]) -> AcdError:
    with pytest.raises(AcdError) as error:
        room.cube.index(records, datasets)
    return error.value


def test_indexing_twice_adds_nothing(room: Room) -> None:
    instance = room.instance()
    record, dataset = written(room, instance)
    assert room.cube.commit(Addition([record], [dataset])) is True
    assert room.cube.commit(Addition([record], [dataset])) is False
    assert room.cube.commit(Addition([record], [dataset, dataset])) is False
    assert [dataset.record_id for dataset in room.cube.datasets(instance.variable, "master")] == [record.id]


def test_having_returns_the_records_with_a_dataset(room: Room) -> None:
    instance = room.instance()
    pairs = [written(room, instance, number) for number in range(3)]
    bare = room.record(9)
    room.cube.index([record for record, _ in pairs] + [bare], [dataset for _, dataset in pairs])
    ids = [record.id for record, _ in pairs]
    assert room.cube.having(instance.variable, "master", [*ids[:2], bare.id]) == frozenset(ids[:2])
    assert room.cube.having(instance.variable, "master", []) == frozenset()
    other = room.instance(room.cube.variable(instance.variable), "annual")
    assert room.cube.having(other.variable, "annual", ids) == frozenset()


def test_datasets_come_by_record(room: Room) -> None:
    instance = room.instance()
    pairs = [written(room, instance, number) for number in range(4)]
    room.cube.index([record for record, _ in pairs], [dataset for _, dataset in pairs])
    ids = [record.id for record, _ in pairs]
    assert [dataset.record_id for dataset in room.cube.datasets(instance.variable, "master")] == sorted(ids)
    some = frozenset(ids[1:3])
    found = room.cube.datasets(instance.variable, "master", some)
    assert [dataset.record_id for dataset in found] == sorted(some)
    assert {(dataset.variable, dataset.instance) for dataset in found} == {(instance.variable, "master")}
    assert room.cube.datasets(instance.variable, "master", frozenset()) == []


def test_a_container_belongs_to_one_record(room: Room) -> None:
    instance = room.instance()
    record, dataset = written(room, instance)
    room.cube.index([record], [dataset])
    other = room.record(1)
    error = refused(room, [other], [dataset.model_copy(update={"record_id": other.id})])
    assert error.code is ErrorCode.DATASET_CONFLICT
    assert dataset.uri in error.detail
    assert room.image(instance, SMALL, record).outcome is Outcome.DATA
    assert room.image(instance, SMALL, other).outcome is Outcome.ABSENT


def test_containers_of_one_record_join(room: Room) -> None:
    """Parts of a scene, each in its own file."""
    instance, whole = room.instance(), np.arange(2000, dtype="int16").reshape(40, 50) % 1000
    record = room.record()
    parts = [Window(row=0, column=column, height=40, width=25) for column in (0, 25)]
    datasets = [room.container(record, instance, whole[part.slices], SMALL.window(part)) for part in parts]
    room.cube.index([record], datasets[:1])
    assert room.cube.commit(Addition([record], datasets)) is True
    np.testing.assert_array_equal(room.image(instance, SMALL, record).pixels, whole)
    assert [dataset.record_id for dataset in room.cube.datasets(instance.variable, "master")] == [record.id] * 2


def test_another_mapping_of_the_same_container_is_refused(room: Room) -> None:
    instance = room.instance()
    record, dataset = written(room, instance)
    room.cube.index([record], [dataset])
    changed = dataset.dformat.model_copy(update={"max": 500.0})
    assert refused(room, [], [dataset.model_copy(update={"dformat": changed})]).code is ErrorCode.DATASET_CONFLICT


def test_bands_of_one_container_may_be_of_several_instances(room: Room) -> None:
    variable = room.variable()
    first, second = room.instance(variable, "VV"), room.instance(variable, "VH")
    record = room.record()
    bands = np.stack([np.full((40, 50), value, "int16") for value in (3, 4)])
    dataset = room.container(record, first, bands, SMALL, bands=(1,))
    room.cube.index([record], [dataset, dataset.model_copy(update={"instance": "VH", "bands": (2,)})])
    values = [
        np.unique(np.asarray(room.image(instance, SMALL, record).pixels)).tolist() for instance in (first, second)
    ]
    assert values == [[3], [4]]


@pytest.mark.needs("opening")
def test_a_missing_container_is_refused(room: Room) -> None:
    instance = room.instance()
    record, dataset = written(room, instance)
    Path(dataset.uri).unlink()
    error = refused(room, [record], [dataset])
    assert error.code is ErrorCode.INPUT_MISSING
    assert dataset.uri in error.detail
    assert room.cube.having(instance.variable, "master", [record.id]) == frozenset()


@pytest.mark.needs("opening")
def test_a_container_that_is_not_a_raster_is_refused(room: Room) -> None:
    instance = room.instance()
    record, dataset = written(room, instance)
    Path(dataset.uri).write_text("no raster")
    error = refused(room, [record], [dataset])
    assert error.code is ErrorCode.INPUT_UNREADABLE
    assert dataset.uri in error.detail


@pytest.mark.needs("opening")
def test_a_missing_band_is_refused(room: Room) -> None:
    instance = room.instance()
    record, dataset = written(room, instance)
    error = refused(room, [record], [dataset.model_copy(update={"bands": (2,)})])
    assert error.code is ErrorCode.INPUT_BANDS
    assert dataset.uri in error.detail


@pytest.mark.needs("opening")
def test_a_dataset_with_too_many_bands_is_refused(room: Room) -> None:
    instance = room.instance()
    record = room.record()
    dataset = room.container(record, instance, np.full((2, 40, 50), 3, "int16"), SMALL)
    assert refused(room, [record], [dataset]).code is ErrorCode.INPUT_BANDS


def test_unknown_variable_instance_and_record_are_refused(room: Room) -> None:
    instance = room.instance()
    record, dataset = written(room, instance)
    unknown = dataset.model_copy(update={"variable": room.name("unknown")})
    assert refused(room, [record], [unknown]).code is ErrorCode.VARIABLE_UNKNOWN
    unknown = dataset.model_copy(update={"instance": "unknown"})
    assert refused(room, [record], [unknown]).code is ErrorCode.INSTANCE_UNKNOWN


@pytest.mark.needs("opening")
def test_after_a_refusal_the_rest_can_be_indexed(room: Room) -> None:
    """After an interruption, the next commit adds the rest."""
    instance = room.instance()
    good, bad = written(room, instance), written(room, instance, 1)
    content = Path(bad[1].uri).read_bytes()
    Path(bad[1].uri).unlink()
    both = ([good[0], bad[0]], [good[1], bad[1]])
    refused(room, *both)
    Path(bad[1].uri).write_bytes(content)
    assert room.cube.commit(Addition(*both)) is True
    assert room.cube.commit(Addition(*both)) is False
    found = room.images(instance, SMALL, (good[0].id,), (bad[0].id,))
    assert [np.unique(np.asarray(result.pixels)).tolist() for result in found] == [[1], [2]]


def test_products_of_tiles_are_datasets_of_their_cells(room: Room) -> None:
    """A record may have a container in each cell of a layout."""
    layout, instance = room.layout(), room.instance(room.variable("v", dformat=dformat("int16")))
    record = room.record()
    tiles = [layout.tile(i, 0) for i in (0, 1)]
    datasets = [
        room.container(
            record,
            instance,
            np.full((64, 64), tile.i + 1, "int16"),
            tile.grid,
            layout=layout.name,
            cell=tile.cell,
            dformat=dformat("int16"),
        )
        for tile in tiles
    ]
    room.cube.index([record], datasets)
    assert room.cube.commit(Addition([record], datasets)) is False
    variable = room.cube.variable(instance.variable)
    found = room.cube.where(instance.variable, "master", [record.id], [tile.grid for tile in tiles])
    for tile, near in zip(tiles, found, strict=True):
        assert [dataset.record_id for dataset in near] == [record.id]
        pixels = room.cube.read(tile.grid, [Slice(label="", datasets=tuple(near))], variable)
        np.testing.assert_array_equal(pixels[0], np.full((64, 64), tile.i + 1))
        np.testing.assert_array_equal(room.image(instance, tile.grid, record).pixels, pixels[0])
