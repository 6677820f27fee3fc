"""Grown tiles: their margins equal what neighbouring tiles read, in every room."""

from __future__ import annotations

import numpy as np
import pytest

from acdtask.cube.follow import End
from acdtask.cube.model import Instance, Slice
from acdtask.raster.data_format import Pixels
from acdtask.raster.grid import Grid, Layout, Window
from tests.cube.builders import grid, image
from tests.cube.conformance.images import NODATA, ground
from tests.cube.conformance.rooms import Room
from tests.cube.conformance.test_consolidation import Job

SCENE = grid(150, 100)
CELL = 64
ASIDE = grid(150, 100, transform=(20, 0, 400007, 0, -20, 5599993))
"""A grid off the layout's pixels, so that images are resampled."""


def read(room: Room, instance: Instance, ids: list[str], on: Grid, layout: str = "") -> Pixels:
    """Read each record on a grid, and all of them as one image, with the datasets that `where` returns."""
    (found,) = room.cube.where(instance.variable, instance.name, ids, [on], layout)
    slices = [Slice(label=record_id, datasets=tuple(d for d in found if d.record_id == record_id)) for record_id in ids]
    slices.append(Slice(label="", datasets=tuple(found)))
    return room.cube.read(on, slices, room.cube.variable(instance.variable))


def assert_grown_tiles_hold_their_neighbours(
    room: Room,
    instance: Instance,
    ids: list[str],
    layout: Layout,
    name: str = "",
    margins: tuple[int, ...] = (1, 16, 70),
) -> None:
    """The tiles of the scene and around it, read separately and joined, equal the grown tiles."""
    columns, rows = range(-2, 5), range(-2, 4)
    tiles = {(i, j): read(room, instance, ids, layout.tile(i, j).grid, name) for j in rows for i in columns}
    whole = np.concatenate([np.concatenate([tiles[i, j] for i in columns], axis=2) for j in rows], axis=1)
    assert (whole != NODATA).any(axis=(1, 2)).all()
    for margin in margins:
        for i, j in ((0, 0), (1, 0), (2, 1)):
            top, left = (j + 2) * CELL - margin, (i + 2) * CELL - margin
            size = CELL + 2 * margin
            grown = read(room, instance, ids, layout.tile(i, j).grid.grown(margin), name)
            np.testing.assert_array_equal(grown, whole[:, top : top + size, left : left + size])


def stacked(room: Room, of: Grid) -> tuple[Instance, list[str]]:
    """Add three records; the second covers a part of the scene."""
    instance = room.instance()
    records = [room.record(number) for number in range(3)]
    part = of.window(Window(row=20, column=50, height=60, width=70))
    datasets = [
        room.container(record, instance, ground(place, number), place)
        for number, (record, place) in enumerate(zip(records, (of, part, of), strict=True))
    ]
    room.cube.index(records, datasets)
    return instance, [record.id for record in records]


def test_a_grown_tile_has_what_its_neighbours_have(room: Room) -> None:
    instance, ids = stacked(room, SCENE)
    layout = room.layout()
    assert_grown_tiles_hold_their_neighbours(room, instance, ids, layout)
    assert_grown_tiles_hold_their_neighbours(room, instance, ids, layout, layout.name, margins=(16,))


@pytest.mark.needs("lattice")
def test_a_grown_tile_that_is_resampled_has_what_its_neighbours_have(room: Room) -> None:
    instance, ids = stacked(room, ASIDE)
    assert_grown_tiles_hold_their_neighbours(room, instance, ids, room.layout(), margins=(1, 16))


def test_a_grown_tile_of_a_product_has_what_its_neighbours_have(room: Room) -> None:
    """A record with a container in each cell but one, like that of a baseline."""
    layout, instance, record = room.layout(), room.instance(), room.record()
    tiles = [layout.tile(i, j) for j in (0, 1) for i in (0, 1, 2) if (i, j) != (2, 0)]
    datasets = [
        room.container(record, instance, image(tile.grid, seed=number), tile.grid, layout=layout.name, cell=tile.cell)
        for number, tile in enumerate(tiles)
    ]
    room.cube.index([record], datasets)
    assert_grown_tiles_hold_their_neighbours(room, instance, [record.id], layout, layout.name)


def test_a_grown_tile_has_what_its_neighbours_have_when_all_is_consolidated(room: Room) -> None:
    job = Job.of(room)
    ids = [record.id for record in job.records]
    before = read(room, job.instance, ids, job.layout.tile(1, 0).grid.grown(16), job.layout.name)
    assert job.followed(job.jobs.consolidate(job.wanted())).end is End.DONE
    assert_grown_tiles_hold_their_neighbours(room, job.instance, ids, job.layout, job.layout.name)
    after = read(room, job.instance, ids, job.layout.tile(1, 0).grid.grown(16), job.layout.name)
    np.testing.assert_array_equal(after, before)


@pytest.mark.needs("two_records")
def test_a_grown_tile_has_what_its_neighbours_have_when_some_records_are_consolidated(room: Room) -> None:
    job = Job.of(room, 3)
    ids = [record.id for record in job.records]
    assert job.followed(job.jobs.consolidate(job.wanted(records=tuple(ids[:2])))).end is End.DONE
    assert_grown_tiles_hold_their_neighbours(room, job.instance, ids, job.layout, job.layout.name)


def test_hundreds_of_reads_on_one_connection_are_answered(room: Room) -> None:
    instance, ids = stacked(room, SCENE)
    layout = room.layout()
    expected = read(room, instance, ids, layout.tile(0, 0).grid, layout.name)
    for _ in range(400):
        np.testing.assert_array_equal(read(room, instance, ids, layout.tile(0, 0).grid, layout.name), expected)
