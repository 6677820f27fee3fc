"""Queries by the cells of a layout build only the datasets that they return."""

from __future__ import annotations

from typing import Any

import pytest

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.local.dataset_segments import DatasetSegment
from acdtask.cube.model import Dataset
from acdtask.raster.grid import Layout, RegularGrid
from tests.cube.builders import dataset, record
from tests.cube.local.test_index import ready

LAYOUT = Layout(name="utm32", grid=RegularGrid(crs="EPSG:32632", resolution=20, cell_size=64))
FIRST, SECOND = LAYOUT.tile(0, 0), LAYOUT.tile(1, 0)


def copy(number: int, tile: Any, uri: str) -> Dataset:
    return dataset(record(number), uri, layout="utm32", cell=tile.cell, grid=tile.grid, subdir=str(number))


@pytest.fixture
def cube(tmp_path: Any) -> LocalCube:
    """Five images in two commits; three are consolidated in the first cell and one of them in the second."""
    cube = ready(str(tmp_path / "cube"))
    cube.index(
        [record(number) for number in range(4)], [dataset(record(number), f"{number}.tif") for number in range(4)]
    )
    cube.index([], [copy(number, FIRST, "full.zarr") for number in (0, 1)])
    cube.index([record(4)], [dataset(record(4), "4.tif"), copy(2, FIRST, "room.zarr"), copy(2, SECOND, "other.zarr")])
    return cube


def test_each_cell_has_the_records_that_were_consolidated_for_it(cube: LocalCube) -> None:
    assert cube.records_by_cell("CoherenceVV", "master", "utm32") == {
        FIRST.cell: {record(number).id for number in (0, 1, 2)},
        SECOND.cell: {record(2).id},
    }
    assert cube.records_by_cell("CoherenceVV", "master", "another") == {}


def test_own_datasets_are_not_tiles_of_a_layout(cube: LocalCube) -> None:
    ids = [record(2).id, record(4).id]
    own = sorted((dataset(record(2), "2.tif"), dataset(record(4), "4.tif")), key=lambda stored: stored.record_id)
    assert cube.own_datasets("CoherenceVV", "master", ids) == own


def test_full_containers_are_not_returned(cube: LocalCube) -> None:
    tiles = [FIRST, SECOND]
    found = cube.copies_with_room("CoherenceVV", "master", tiles, fewer_than=2)
    assert {cell: [stored.uri for stored in copies] for cell, copies in found.items()} == {
        FIRST.cell: ["room.zarr"],
        SECOND.cell: ["other.zarr"],
    }
    everything = cube.copies_with_room("CoherenceVV", "master", tiles, fewer_than=3)
    assert sorted(stored.uri for stored in everything[FIRST.cell]) == ["full.zarr", "full.zarr", "room.zarr"]


def test_only_returned_datasets_are_built(cube: LocalCube, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []
    make = DatasetSegment._make

    def counted(segment: DatasetSegment, row: int) -> Dataset:
        built.append(row)
        return make(segment, row)

    monkeypatch.setattr(DatasetSegment, "_make", counted)
    fresh = LocalCube.open(cube.store.url)
    fresh.records_by_cell("CoherenceVV", "master", "utm32")
    assert built == []
    fresh.own_datasets("CoherenceVV", "master", [record(2).id])
    assert len(built) == 1
    fresh.copies_with_room("CoherenceVV", "master", [FIRST, SECOND], fewer_than=2)
    assert len(built) == 3
