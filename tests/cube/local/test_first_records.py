"""Queries with a limit: they decode few records, and return the same ones as without it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from shapely.geometry import box, mapping

from acdtask.cube.local import columns, record_segments
from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import Addition, Record, RecordQuery

COUNT = 3000
AREA = mapping(box(7.0, 50.0, 7.05, 50.05))
QUERIES = {
    "everything": RecordQuery(),
    "tag": RecordQuery(tags={"orbit": "3"}),
    "name": RecordQuery(name="S1_00*"),
    "area": RecordQuery(area=AREA),
    "time": RecordQuery(start=datetime(2018, 1, 2, tzinfo=UTC), end=datetime(2018, 1, 3, tzinfo=UTC)),
    "nothing": RecordQuery(name="no such"),
}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Several segments that overlap in time, with records of the same time and of the same name."""
    address = tmp_path_factory.mktemp("many") / "cube"
    cube = LocalCube.create(str(address))
    records = [
        Record(
            name=f"S1_{number % 997:04d}",
            datetime=datetime(2018, 1, 1, tzinfo=UTC) + timedelta(hours=number % 71),
            tags={"orbit": str(number % 7), "number": str(number)},
            footprint=mapping(box(7 + number % 5, 50, 7.1 + number % 5, 50.1)),
        )
        for number in range(COUNT)
    ]
    for start in range(0, COUNT, 500):
        cube.commit(Addition(records=records[start : start + 500]))
    return address


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_pages_are_parts_of_all_records(address: Path, query: RecordQuery) -> None:
    everything = LocalCube.open(str(address)).records(query)
    cube = LocalCube.open(str(address))
    assert cube.count_records(query) == len(everything)
    for limit in (1, 3, 100, COUNT, COUNT + 1):
        for page in (0, 1, 7):
            part = cube.records(query.model_copy(update={"limit": limit, "page": page}))
            assert part == everything[page * limit :][:limit]
    assert everything == sorted(everything, key=lambda record: (record.datetime, record.name, record.id))


def test_a_limit_decodes_only_a_few_rows(address: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    strings = columns.strings

    def counting(values: object) -> object:
        made = strings(values)  # type: ignore[arg-type]  # any values
        decoded.append(len(made))
        return made

    monkeypatch.setattr(columns, "strings", counting)
    monkeypatch.setattr(record_segments, "strings", counting)
    cube = LocalCube.open(str(address))
    assert len(cube.records(RecordQuery(limit=3))) == 3
    assert cube.count_records(RecordQuery()) == COUNT
    assert sum(decoded) < COUNT / 5, "strings were decoded that are not returned"
