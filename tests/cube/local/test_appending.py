"""Which records share a container, and how new containers replace older ones in the index."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from acdtask.cube.local.appending import containers_with_room, merge_count, plan_containers
from acdtask.cube.local.consolidation_cell import CellWork, container_key
from acdtask.cube.local.cube import LocalCube
from acdtask.cube.local.stack import CHUNK_TIMES
from acdtask.cube.model import Addition, Dataset, Slice
from acdtask.raster.data_format import DataFormat
from acdtask.raster.grid import Layout, RegularGrid
from acdtask.storage.store import Store
from tests.cube.builders import COHERENCE, dataset, record
from tests.cube.local.test_index import heads, ready

TILE = Layout(name="utm32", grid=RegularGrid(crs="EPSG:32632", resolution=20, cell_size=64)).tile(1, 1)
RECORDS = [record(number) for number in range(1300)]
IDS = [owner.id for owner in RECORDS]
KNOWN = dict(zip(IDS, RECORDS, strict=True))


def copy(number: int, uri: str, **changes: Any) -> Dataset:
    place = {"layout": TILE.layout, "cell": TILE.cell, "grid": TILE.grid}
    return dataset(record(number), uri, **(place | changes))


def copies_in(cube: LocalCube) -> list[Dataset]:
    return cube.copies_with_room("CoherenceVV", "master", [TILE], fewer_than=10**9)[TILE.cell]


def planned(numbers: list[int], copies: list[Dataset]) -> list[CellWork]:
    """The containers planned for a cell with new records, given in any order."""
    slices = [Slice(label=IDS[n], datasets=(dataset(RECORDS[n], f"{n}.tif"),)) for n in numbers]

    def key_of(part: list[Slice]) -> str:
        return container_key("CoherenceVV", "master", TILE, part, None)

    return plan_containers(TILE, slices, copies, KNOWN, COHERENCE.dformat, key_of)


def indexed(work: list[CellWork]) -> list[Dataset]:
    """The datasets of containers, as added to the index by a gather."""
    return [
        copy(RECORDS.index(owner), cell.key, subdir=str(place))
        for cell in work
        for place, owner in enumerate(cell.records)
    ]


def after(copies: list[Dataset], work: list[CellWork]) -> list[Dataset]:
    """The copies of a cell once its new containers are indexed."""
    replaced = [stored for cell in work for stored in cell.replaced]
    gone = {stored.record_id for stored in replaced}
    kept = [stored for stored in copies if stored.record_id not in gone]
    return kept + indexed(work)


def sizes(copies: list[Dataset]) -> list[int]:
    uris = [stored.uri for stored in copies]
    return sorted((uris.count(uri) for uri in set(uris)), reverse=True)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 90), max_size=14))
@example([1] * 12)
@example(list(range(63, 50, -1)))
def test_any_history_of_batches_leaves_full_containers_and_at_most_six_others(batches: list[int]) -> None:
    copies: list[Dataset] = []
    written = total = 0
    for size in batches:
        work = planned(list(range(total, total + size)), copies)
        copies = after(copies, work)
        written += sum(len(cell.records) for cell in work)
        total += size
        assert sorted(stored.record_id for stored in copies) == sorted(IDS[:total])
        assert max(sizes(copies)) <= CHUNK_TIMES
        assert sum(size < CHUNK_TIMES for size in sizes(copies)) <= 6
    assert written <= 7 * total


def test_a_year_of_days_is_five_full_containers_and_few_small_ones() -> None:
    counts: list[int] = []
    written: list[int] = []
    for day in range(1, 366):
        pending = merge_count(1, sorted(size for size in counts if size < CHUNK_TIMES))
        small = sorted(size for size in counts if size < CHUNK_TIMES)
        merged = 1 + sum(small[:pending])
        counts = [size for size in counts if size == CHUNK_TIMES] + small[pending:] + [merged]
        written.append(merged)
        assert sum(counts) == day
    assert sorted(counts, reverse=True) == [64, 64, 64, 64, 64, 32, 8, 4, 1]
    assert max(written) == CHUNK_TIMES
    assert sum(written) / len(written) < 5


def test_many_records_at_once_are_cut_into_full_containers_in_time_order() -> None:
    work = planned([149 - number for number in range(150)], [])
    assert [len(cell.records) for cell in work] == [64, 64, 22]
    moments = [owner.datetime for cell in work for owner in cell.records]
    assert moments == sorted(moments)
    assert [part.label for cell in work for part in cell.slices] == [
        owner.id for cell in work for owner in cell.records
    ]


def test_a_late_record_is_sorted_into_the_container_that_it_is_appended_to() -> None:
    old = [copy(5, "a.zarr", subdir="0"), copy(7, "a.zarr", subdir="1")]
    (cell,) = planned([6, 1], old)
    assert [owner.name for owner in cell.records] == ["S1/001", "S1/005", "S1/006", "S1/007"]
    assert cell.replaced == old
    assert [part.datasets[0].uri for part in cell.slices] == ["1.tif", "a.zarr", "6.tif", "a.zarr"]


def test_full_and_foreign_containers_are_left_alone() -> None:
    full = [copy(number, "full.zarr", subdir=str(number)) for number in range(CHUNK_TIMES)]
    small = [copy(100, "small.zarr")]
    others = [
        copy(101, "image.tif"),
        copy(102, "bytes.zarr", dformat=DataFormat(dtype="uint8", nodata=255, min=0, max=250)),
        copy(103, "mapped.zarr", real=(0, 1)),
        copy(104, "curved.zarr", exponent=2.0),
    ]
    assert containers_with_room([*full, *others, *small], COHERENCE.dformat) == [small]
    assert containers_with_room(full[1:], COHERENCE.dformat) == [full[1:]], "one was removed: there is room again"


def test_the_same_records_make_the_same_containers_in_any_order() -> None:
    old = [copy(5, "a.zarr", subdir="0"), copy(7, "b.zarr", subdir="0")]
    assert planned([8, 9], old) == planned([9, 8], old[::-1])


def test_copies_with_room_are_those_of_the_cell(place: str) -> None:
    cube = ready(place)
    mine = [copy(number, "a.zarr", subdir=str(number)) for number in range(3)]
    others = [copy(0, "b.zarr", cell="9/9"), copy(0, "c.zarr", layout="other"), dataset(record(0), "0.tif")]
    exchanged = copy(3, "d.zarr", exchanged=True)
    cube.index([record(number) for number in range(4)], [*mine, *others, exchanged])
    assert sorted(copies_in(cube), key=lambda stored: stored.subdir) == mine


def test_a_replacement_is_one_head_and_happens_once(place: str) -> None:
    cube = ready(place)
    old = [copy(1, "a.zarr", subdir="0"), copy(2, "a.zarr", subdir="1")]
    native = [dataset(record(number), f"{number}.tif") for number in (1, 2, 3)]
    cube.index([record(1), record(2), record(3)], [*native, *old])
    count = len(heads(cube))
    new = [copy(number, "b.zarr", subdir=str(number)) for number in (1, 2, 3)]
    assert cube.replace(old, new) == []
    assert sorted(copies_in(LocalCube.open(place)), key=lambda stored: stored.subdir) == new, "they are still copies"
    assert len(cube.datasets("CoherenceVV", "master")) == 6, "sources stay"
    before = cube.store.list()
    assert len(heads(cube)) == count + 1
    assert cube.replace(old, new) == []
    assert LocalCube.open(place).replace(old, new) == []
    assert cube.store.list() == before


def test_changes_of_others_are_kept(place: str) -> None:
    cube = ready(place)
    old = [copy(number, "a.zarr", subdir=str(number)) for number in (1, 2, 3)]
    cube.index([record(number) for number in range(1, 6)], old)
    rival = LocalCube.open(place)
    theirs = [copy(1, "theirs.zarr", subdir="0"), copy(4, "theirs.zarr", subdir="1")]
    assert rival.replace(old[:1], theirs) == []
    rival.remove(datasets=[old[1]])
    mine = [copy(number, "mine.zarr", subdir=str(number)) for number in (1, 2, 3, 4, 5)]
    late = [mine[0], mine[1], mine[3]]
    assert cube.replace(old, mine) == late
    uris = {stored.record_id: stored.uri for stored in copies_in(cube)}
    assert uris == {
        record(1).id: "theirs.zarr",
        record(3).id: "mine.zarr",
        record(4).id: "theirs.zarr",
        record(5).id: "mine.zarr",
    }
    before = cube.store.list()
    assert cube.replace(old, mine) == late
    assert cube.store.list() == before


def test_repeating_an_old_replacement_does_not_restore_an_older_container(place: str) -> None:
    cube = ready(place)
    cube.index([record(number) for number in (1, 2, 3)], [])
    days = [[copy(n, f"{day}.zarr", subdir=str(n)) for n in range(1, day + 1)] for day in (1, 2, 3)]
    cube.replace([], days[0])
    cube.replace(days[0], days[1])
    cube.replace(days[1], days[2])
    before = cube.store.list()
    assert cube.replace([], days[0]) == days[0]
    assert cube.replace(days[0], days[1]) == days[1]
    assert cube.store.list() == before
    assert copies_in(cube) == sorted(days[2], key=lambda stored: stored.record_id)


def test_a_copy_of_a_record_that_was_removed_meanwhile_is_not_indexed(place: str) -> None:
    cube = ready(place)
    old = [copy(1, "a.zarr")]
    cube.index([record(1), record(2), record(3)], old)
    LocalCube.open(place).remove(records=[record(1).id, record(2).id], datasets=old)
    new = [copy(number, "b.zarr", subdir=str(number)) for number in (1, 2, 3)]
    assert cube.replace(old, new) == new[:2]
    assert copies_in(cube) == new[2:]


def test_a_replacement_is_applied_to_the_state_of_a_faster_writer(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cube, rival, create = ready(place), LocalCube.open(place), Store.create
    old = [copy(1, "a.zarr", subdir="0"), copy(2, "a.zarr", subdir="1")]
    cube.index([record(1), record(2), record(3)], old)
    theirs = [copy(1, "theirs.zarr", subdir="0"), copy(2, "theirs.zarr", subdir="1")]

    def overtaken(store: Store, key: str, data: bytes) -> bool:
        if store is cube.store and "heads" in key:
            monkeypatch.setattr(Store, "create", create)
            rival.replace(old, theirs)
        return create(store, key, data)

    monkeypatch.setattr(Store, "create", overtaken)
    mine = [copy(number, "mine.zarr", subdir=str(number)) for number in (1, 2, 3)]
    assert cube.replace(old, mine) == mine[:2]
    assert {stored.uri for stored in copies_in(cube)} == {"theirs.zarr", "mine.zarr"}
    assert len(copies_in(cube)) == 3


def test_the_current_index_stays_small_day_after_day(tmp_path: Any) -> None:
    """After 130 days with one new record each, there are few segments, no larger than their rows need."""
    cube = ready(str(tmp_path / "cube"))
    copies: list[Dataset] = []
    for day in range(130):
        cube.index([record(day)], [dataset(record(day), f"{day}.tif")])
        work = planned([day], copies)
        replaced = [stored for cell in work for stored in cell.replaced]
        assert cube.replace(replaced, indexed(work)) == []
        copies = after(copies, work)
        head = json.loads(cube.store.get(heads(cube)[-1]))
        assert len(head["records"]) <= 8
        assert len(head["datasets"]) <= 8
        assert sum(segment["rows"] for segment in head["datasets"]) == 2 * (day + 1)
    live = sum(cube.store.size(segment["key"]) for table in ("records", "datasets") for segment in head[table])
    whole = LocalCube.create(str(tmp_path / "whole"))
    whole.commit(Addition(variables=[COHERENCE], instances=cube.instances("CoherenceVV")))
    whole.index([record(day) for day in range(130)], cube.datasets("CoherenceVV", "master"))
    at_once = sum(
        whole.store.size(key) for part in ("records", "datasets") for key in whole.store.list(f"index/{part}")
    )
    assert live < 2 * at_once
    assert sizes(copies) == [64, 64, 2]
