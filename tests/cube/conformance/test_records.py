"""Records: values, order and queries."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from acdtask.cube.model import Addition, Record, RecordQuery
from tests.cube.builders import START, box
from tests.cube.conformance.rooms import Room

MICROSECOND = timedelta(microseconds=1)


def names(room: Room, **query: Any) -> list[str]:
    """Names of the test's records that match a query, without the prefix."""
    query["name"] = room.name(query.get("name", "*"))
    return room.mine([record.name for record in room.cube.records(RecordQuery(**query))])


def named(room: Room, *names: str, **changes: Any) -> list[Record]:
    """Add records with names, a day apart."""
    records = [
        Record(name=room.name(name), datetime=START + timedelta(days=day), footprint=box(7, 50, 8, 51), **changes)
        for day, name in enumerate(names)
    ]
    room.cube.index(records, [])
    return records


def test_a_record_comes_back_whole(room: Room) -> None:
    record = room.record(
        datetime=datetime(2021, 3, 4, 5, 6, 7, 891234, UTC),
        tags={"orbit": "37", "place": "Köln a/b", "quoted": 'a "b" => \\c, d', "empty": ""},
    )
    assert room.cube.commit(Addition([record])) is True
    (found,) = room.cube.records(RecordQuery(name=record.name))
    assert found == record
    assert found.id == record.id


def test_a_known_record_stays_unchanged(room: Room) -> None:
    first = room.record(footprint=box(7, 50, 8, 51))
    room.cube.index([first], [])
    assert room.cube.commit(Addition([first])) is False
    assert room.cube.commit(Addition([first.model_copy(update={"footprint": box(1, 1, 2, 2)}), room.record(1)])) is True
    assert room.cube.records(RecordQuery(name=room.name("*"))) == [first, room.record(1)]


def test_name_tags_and_datetime_are_the_identity(room: Room) -> None:
    base = room.record()
    others = [
        base.model_copy(update={"tags": {"orbit": "38"}}),
        base.model_copy(update={"tags": {}}),
        base.model_copy(update={"datetime": base.datetime + MICROSECOND}),
    ]
    assert room.cube.commit(Addition([base, *others, base])) is True
    found = room.cube.records(RecordQuery(name=base.name))
    assert {record.id for record in found} == {record.id for record in [base, *others]}
    assert len(found) == 4


def test_records_come_by_datetime_then_name_then_id(room: Room) -> None:
    records = [
        Record(
            name=room.name(name),
            datetime=START + timedelta(days=day),
            tags={"n": str(tag)},
            footprint=box(7, 50, 8, 51),
        )
        for name, day, tag in [("b", 1, 1), ("a", 1, 1), ("a", 1, 2), ("a", 1, 3), ("z", 0, 1), ("c", 2, 1)]
    ]
    room.cube.index(records, [])
    found = room.cube.records(RecordQuery(name=room.name("*")))
    assert found == sorted(records, key=lambda record: (record.datetime, record.name, record.id))


@pytest.mark.parametrize(
    ("start", "end", "found"),
    [
        (None, None, ["0", "1", "2"]),
        (START, None, ["0", "1", "2"]),
        (START + MICROSECOND, None, ["1", "2"]),
        (START + 2 * timedelta(days=1), None, ["2"]),
        (START + 2 * timedelta(days=1) + MICROSECOND, None, []),
        (None, START, ["0"]),
        (None, START - MICROSECOND, []),
        (None, START + timedelta(days=1) - MICROSECOND, ["0"]),
        (START + timedelta(days=1), START + timedelta(days=1), ["1"]),
        (START + timedelta(days=2), START, []),
    ],
)
def test_bounds_of_time_are_inclusive_to_the_microsecond(
    room: Room, start: datetime | None, end: datetime | None, found: list[str]
) -> None:
    named(room, "0", "1", "2")
    assert names(room, start=start, end=end) == found


def test_a_datetime_is_a_moment_in_utc(room: Room) -> None:
    east = timezone(timedelta(hours=2))
    records = [
        room.record(0, datetime=datetime(2021, 1, 1, 1, 30, tzinfo=east)),
        room.record(1, datetime=datetime(1969, 7, 20, 20, 17, 40, 123456, UTC)),
        room.record(2, datetime=datetime(2199, 12, 31, 23, 59, 59, 999999, UTC)),
    ]
    room.cube.index(records, [])
    assert [record.datetime.isoformat() for record in room.cube.records(RecordQuery(name=room.name("*")))] == [
        "1969-07-20T20:17:40.123456+00:00",
        "2020-12-31T23:30:00+00:00",
        "2199-12-31T23:59:59.999999+00:00",
    ]
    assert names(room, end=datetime(2021, 1, 1, 1, 30, tzinfo=east)) == ["S1/001", "S1/000"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*", ["S1A/1", "S1A/12", "S1B/1", "s1a/1", "S1A_1", "S1A-1"]),
        ("S1A/1", ["S1A/1"]),
        ("S1A/?", ["S1A/1"]),
        ("S1A/*", ["S1A/1", "S1A/12"]),
        ("S1A?1", ["S1A/1", "S1A_1", "S1A-1"]),
        ("S1A_1", ["S1A_1"]),
        ("S1A_*", ["S1A_1"]),
        ("*1", ["S1A/1", "S1B/1", "s1a/1", "S1A_1", "S1A-1"]),
        ("*1A*2", ["S1A/12"]),
        ("S1A/1(?i)", ["S1A/1", "s1a/1"]),
        ("S1?/1*(?i)", ["S1A/1", "S1A/12", "S1B/1", "s1a/1"]),
        ("S1A.1", []),
        ("S1", []),
        ("??????", ["S1A/12"]),
    ],
)
def test_patterns_of_names(room: Room, pattern: str, found: list[str]) -> None:
    named(room, "S1A/1", "S1A/12", "S1B/1", "s1a/1", "S1A_1", "S1A-1")
    assert names(room, name=pattern) == found


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ({}, ["0", "1", "2", "3"]),
        ({"orbit": "37"}, ["0", "1"]),
        ({"orbit": ""}, ["0", "1", "2"]),
        ({"orbit": "*"}, ["0", "1", "2"]),
        ({"orbit": "3?"}, ["0", "1"]),
        ({"orbit": "?37"}, ["2"]),
        ({"orbit": "*37"}, ["0", "1", "2"]),
        ({"orbit": "37", "pass": "ASCENDING"}, ["0"]),
        ({"pass": "ascending"}, ["1"]),
        ({"pass": "ascending(?i)"}, ["0", "1"]),
        ({"pass": "asc*(?i)"}, ["0", "1"]),
        ({"pass": "a_cending"}, []),
        ({"orbit": "37", "pass": "DESCENDING"}, []),
        ({"absent": ""}, []),
        ({"Orbit": "37"}, []),
    ],
)
def test_records_must_have_every_tag(room: Room, tags: dict[str, str], found: list[str]) -> None:
    given = [{"orbit": "37", "pass": "ASCENDING"}, {"orbit": "37", "pass": "ascending"}, {"orbit": "137"}, {}]
    for number, own in enumerate(given):
        room.cube.index([room.record(number, tags=own)], [])
    assert [name.removeprefix("S1/00") for name in names(room, tags=tags)] == found


@pytest.mark.parametrize(
    ("area", "found"),
    [
        (box(6, 49, 12, 52), ["0", "1", "2"]),
        (box(7.25, 50.25, 7.5, 50.5), ["0"]),
        (box(7.9, 50.9, 9.1, 50.95), ["0", "1"]),
        (box(6, 49, 7, 50), ["0"]),  # touches at a corner
        (box(6, 49, 6.75, 52), []),
        (box(10.25, 50.25, 10.5, 50.5), []),  # in the hole
        (box(10.1, 50.1, 10.5, 50.5), ["2"]),
        (
            {
                "type": "MultiPolygon",
                "coordinates": [box(0, 0, 1, 1)["coordinates"], box(8.5, 50, 9, 51)["coordinates"]],
            },
            ["1"],
        ),
    ],
)
def test_footprints_intersect_the_area(room: Room, area: dict[str, Any], found: list[str]) -> None:
    outer, hole = box(10, 50, 11, 51)["coordinates"][0], box(10.125, 50.125, 10.875, 50.875)["coordinates"][0][::-1]
    footprints = [box(7, 50, 8, 51), box(8.5, 50, 9.5, 51), {"type": "Polygon", "coordinates": [outer, hole]}]
    for number, footprint in enumerate(footprints):
        room.cube.index([room.record(number, footprint=footprint)], [])
    assert [name.removeprefix("S1/00") for name in names(room, area=area)] == found


def test_footprints_come_back(room: Room) -> None:
    outer, hole = box(10, 50, 11, 51)["coordinates"][0], box(10.125, 50.125, 10.875, 50.875)["coordinates"][0][::-1]
    footprints: list[dict[str, Any]] = [
        box(6.8, 50.7, 7.25, 51.1),
        box(-179.5, -50.25, -179.25, -50),
        {"type": "Polygon", "coordinates": [outer, hole]},
        {
            "type": "MultiPolygon",
            "coordinates": [box(179, 0, 180, 1)["coordinates"], box(-180, 0, -179, 1)["coordinates"]],
        },
    ]
    records = [room.record(number, footprint=footprint) for number, footprint in enumerate(footprints)]
    room.cube.index(records, [])
    assert [record.footprint for record in room.cube.records(RecordQuery(name=room.name("*")))] == footprints


def test_coordinates_are_accurate_to_half_a_metre(room: Room) -> None:
    """Geocube stores coordinates in 32 bits."""
    record = room.record(footprint=box(123.456789, 50.123456789, 123.987654321, 51.1))
    room.cube.index([record], [])
    (found,) = room.cube.records(RecordQuery(name=record.name))
    for point, given in zip(found.footprint["coordinates"][0], record.footprint["coordinates"][0], strict=True):
        assert point == pytest.approx(given, abs=5e-6)


def paged(room: Room, limit: int, count: int) -> list[list[Record]]:
    """All pages with a limit, and one more."""
    query = RecordQuery(name=room.name("*"), limit=limit)
    return [room.cube.records(query.model_copy(update={"page": page})) for page in range(-(-count // limit) + 1)]


@pytest.mark.parametrize("limit", [1, 3, 5, 10, 11])
def test_pages_make_up_the_whole(room: Room, limit: int) -> None:
    room.records(10)
    whole = room.cube.records(RecordQuery(name=room.name("*")))
    pages = paged(room, limit, 10)
    assert [record for page in pages for record in page] == whole
    assert all(len(page) == limit for page in pages[:-2])
    assert pages[-1] == []


@pytest.mark.needs("ties")
def test_pages_keep_the_order_of_records_with_one_datetime(room: Room) -> None:
    records = [room.record(number // 3, tags={"n": str(number)}) for number in range(10)]
    room.cube.index(records, [])
    whole = room.cube.records(RecordQuery(name=room.name("*")))
    for limit in (1, 3, 4):
        assert [record for page in paged(room, limit, 10) for record in page] == whole


def test_a_thousand_records_at_once(room: Room) -> None:
    records = [
        Record(name=room.name(f"n/{n:04d}"), datetime=START + timedelta(hours=n), footprint=box(7, 50, 8, 51))
        for n in range(1200)
    ]
    assert room.cube.commit(Addition(records)) is True
    assert room.cube.records(RecordQuery(name=room.name("*"))) == records
    assert room.cube.commit(Addition(records[::-1])) is False
    late = room.cube.records(RecordQuery(name=room.name("*"), start=records[1190].datetime, limit=5))
    assert late == records[1190:1195]
