from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from io import BytesIO
from typing import Any

import pytest
import shapely
from arro3.io import read_parquet
from hypothesis import given, settings
from hypothesis import strategies as st

from acdtask.cube.local import index as index_module
from acdtask.cube.local.cube import LocalCube
from acdtask.cube.local.record_segments import RecordSegment
from acdtask.cube.model import Addition, Cube, Instance, Record, RecordQuery
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.grid import Layout, RegularGrid
from acdtask.storage.seal import seal
from acdtask.storage.store import Store
from tests.conftest import CHECKOUT
from tests.cube.builders import COHERENCE, MASTER, START, box, dataset, geojson, grid, record

UTM32 = Layout(name="utm32", grid=RegularGrid(crs="EPSG:32632", resolution=20, cell_size=256))


def heads(cube: LocalCube) -> list[str]:
    return cube.store.list("index/heads")


def ready(place: str) -> LocalCube:
    cube = LocalCube.create(place)
    cube.commit(Addition(variables=[COHERENCE], instances=[MASTER], layouts=[UTM32]))
    return cube


def test_a_local_cube_is_a_cube(place: str) -> None:
    cube: Cube = ready(place)
    assert cube.variable("CoherenceVV") == COHERENCE
    assert cube.variables() == [COHERENCE]
    assert cube.instances("CoherenceVV") == [MASTER]
    assert (cube.layout("utm32"), cube.layouts()) == (UTM32, [UTM32])


def test_records_and_datasets_come_back_as_they_were(place: str) -> None:
    first, second = record(1, tags={"straße": "Köln\n'\"", "orbit": ""}), record(2, footprint={})
    data = [dataset(second, "b.tif", bands=(2, 1)), dataset(first, "a.tif", subdir="3", layout="utm32", cell="1/-2")]
    ready(place).index([second, first], data)
    cube = LocalCube.open(place)
    assert cube.records(RecordQuery()) == [first, second]
    assert [known.id for known in cube.records(RecordQuery())] == [first.id, second.id]
    found = cube.datasets("CoherenceVV", "master")
    assert sorted(found, key=lambda stored: stored.uri) == [data[1], data[0]]
    assert cube.datasets("CoherenceVV", "master", frozenset([second.id])) == [data[0]]
    assert cube.datasets("CoherenceVV", "master", frozenset()) == []


def test_an_empty_cube_can_be_queried(place: str) -> None:
    cube = LocalCube.create(place)
    assert (cube.records(RecordQuery()), cube.variables(), cube.layouts()) == ([], [], [])
    assert cube.commit(Addition()) is False
    assert heads(cube) == []


def test_known_things_make_no_new_head(place: str) -> None:
    cube = ready(place)
    cube.index([record(1)], [dataset(record(1), "a.tif")])
    before = cube.store.list()
    cube.add_variable(COHERENCE)
    cube.add_instance(MASTER)
    cube.add_layout(UTM32)
    cube.index([record(1), record(1)], [dataset(record(1), "a.tif")])
    LocalCube.create(place).index([record(1)], [dataset(record(1), "a.tif")])
    assert cube.store.list() == before
    assert len(heads(cube)) == 2


def test_the_first_of_two_records_of_one_identity_stays(place: str) -> None:
    cube = ready(place)
    cube.index([record(1), record(1, footprint=box(0, 0, 1, 1))], [])
    assert cube.records(RecordQuery()) == [record(1)]


def test_other_data_for_the_same_record_is_a_conflict(place: str) -> None:
    cube = ready(place)
    cube.index([record(1)], [dataset(record(1), "a.tif")])
    before = cube.store.list()
    for other in (dataset(record(1), "b.tif"), dataset(record(1), "a.tif", grid=grid(5, 5))):
        with pytest.raises(AcdError, match=r"already has the file a\.tif") as caught:
            cube.index([record(2)], [dataset(record(2), "c.tif"), other])
        assert caught.value.code is ErrorCode.DATASET_CONFLICT
    with pytest.raises(AcdError, match="already"):
        cube.index([record(2)], [dataset(record(2), "c.tif"), dataset(record(2), "d.tif")])
    assert cube.store.list() == before
    cube.index([], [dataset(record(1), "b.tif", layout="utm32", cell="0/0")])
    assert len(cube.datasets("CoherenceVV", "master")) == 2


def test_the_catalogue_refuses_other_definitions_and_unknown_names(place: str) -> None:
    cube = ready(place)
    other_grid = RegularGrid(crs="EPSG:32632", resolution=10, cell_size=256)
    cases: list[tuple[Any, ErrorCode]] = [
        (lambda: cube.add_variable(COHERENCE.model_copy(update={"unit": "m"})), ErrorCode.VARIABLE_CONFLICT),
        (lambda: cube.add_layout(Layout(name="utm32", grid=other_grid)), ErrorCode.LAYOUT_CONFLICT),
        (lambda: cube.add_instance(Instance(variable="Z", name="z")), ErrorCode.VARIABLE_UNKNOWN),
        (lambda: cube.variable("Z"), ErrorCode.VARIABLE_UNKNOWN),
        (lambda: cube.instances("Z"), ErrorCode.VARIABLE_UNKNOWN),
        (lambda: cube.layout("Z"), ErrorCode.LAYOUT_UNKNOWN),
        (lambda: cube.datasets("Z", "master"), ErrorCode.VARIABLE_UNKNOWN),
        (lambda: cube.datasets("CoherenceVV", "z"), ErrorCode.INSTANCE_UNKNOWN),
        (lambda: cube.index([record(1)], [dataset(record(1), "a", instance="z")]), ErrorCode.INSTANCE_UNKNOWN),
        (lambda: cube.index([], [dataset(record(1), "a")]), ErrorCode.BUG),
        (lambda: cube.records(RecordQuery(area={"type": "Nothing"})), ErrorCode.AOI_UNREADABLE),
    ]
    for action, code in cases:
        with pytest.raises(AcdError) as caught:
            action()
        assert caught.value.code is code
    assert len(heads(cube)) == 1


def test_everything_of_a_commit_shows_at_once(place: str) -> None:
    reader = LocalCube.create(place)
    LocalCube.open(place).commit(Addition([record(1)], [dataset(record(1), "a.tif")], [COHERENCE], [MASTER], [UTM32]))
    assert len(heads(reader)) == 1
    assert reader.datasets("CoherenceVV", "master") == [dataset(record(1), "a.tif")]


def test_only_existing_cubes_are_opened(place: str) -> None:
    with pytest.raises(AcdError) as caught:
        LocalCube.open(place)
    assert caught.value.code is ErrorCode.CUBE_UNKNOWN
    LocalCube.create(place)
    Store.at(place).put("cube.json", seal(b'{"acd_cube": 99, "needs_acd": "7.0"}'))
    with pytest.raises(AcdError, match=r"acd 7\.0") as caught:
        LocalCube.create(place)
    assert caught.value.code is ErrorCode.CUBE_VERSION
    for damaged in (b"[]", b'{"acd_cube": 1, "needs_acd": "0.1.0"}', seal(b'{"acd_cube": "x", "needs_acd": "7.0"}')):
        Store.at(place).put("cube.json", damaged)
        with pytest.raises(AcdError, match=r"cube\.json is damaged") as caught:
            LocalCube.open(place)
        assert caught.value.code is ErrorCode.CUBE_DAMAGED
    Store.at(place).delete("cube.json")
    LocalCube.create(place)


def test_damage_is_named(place: str) -> None:
    ready(place).index([record(1)], [])
    cube = LocalCube.open(place)
    segment = cube.store.list("index/records")[0]
    data = cube.store.get(segment)
    for damaged in (data[:50], data[:-1] + b"x"):
        cube.store.put(segment, damaged)
        with pytest.raises(AcdError, match=segment) as caught:
            LocalCube.open(place).records(RecordQuery())
        assert caught.value.code is ErrorCode.CUBE_DAMAGED
    cube.store.delete(segment)
    with pytest.raises(AcdError, match=f"{segment} is missing"):
        LocalCube.open(place).records(RecordQuery())
    cube.store.put(heads(cube)[-1], b"{")
    with pytest.raises(AcdError, match=heads(cube)[-1]) as caught:
        LocalCube.open(place).variables()
    assert caught.value.code is ErrorCode.CUBE_DAMAGED


@pytest.mark.parametrize("hint", [None, b"", b"rubbish", b"1", b"99"])
def test_the_hint_is_never_the_truth(place: str, hint: bytes | None) -> None:
    cube = ready(place)
    for number in range(3):
        cube.index([record(number)], [])
    cube.store.delete("index/hint")
    if hint is not None:
        cube.store.put("index/hint", hint)
    assert len(LocalCube.open(place).records(RecordQuery())) == 3


def test_small_segments_are_merged_and_nothing_is_lost(place: str) -> None:
    cube = ready(place)
    for number in range(30):
        cube.index([record(number)], [dataset(record(number), f"{number}.tif")])
    head = json.loads(cube.store.get(heads(cube)[-1]))
    for table in ("records", "datasets"):
        assert len(head[table]) <= 8
        assert sum(segment["rows"] for segment in head[table]) == 30
    for reader in (cube, LocalCube.open(place), pickle.loads(pickle.dumps(cube))):  # noqa: S301 - made in this test
        assert reader.records(RecordQuery()) == [record(number) for number in range(30)]
        assert len(reader.datasets("CoherenceVV", "master")) == 30
    assert cube.commit(Addition([record(5)], [dataset(record(5), "5.tif")])) is False


def test_records_are_found_by_id_in_the_order_of_the_ids(place: str) -> None:
    cube = ready(place)
    for number in range(12):  # several segments
        cube.index([record(number)], [])
    wanted = [record(number) for number in (7, 0, 11, 7)]
    assert cube.records_by_id([wanted[0].id, record(99).id, *(known.id for known in wanted[1:])]) == wanted
    assert cube.records_by_id([]) == []


def test_a_segment_is_geoparquet(place: str) -> None:
    split = {
        "type": "MultiPolygon",
        "coordinates": [
            [[[179.0, 0.0], [180.0, 0.0], [180.0, 1.0], [179.0, 1.0], [179.0, 0.0]]],
            [[[-180.0, 0.0], [-179.0, 0.0], [-179.0, 1.0], [-180.0, 1.0], [-180.0, 0.0]]],
        ],
    }
    cube = ready(place)
    cube.index([record(1), record(2, footprint=split), record(3, footprint={})], [])
    table = read_parquet(BytesIO(cube.store.get(cube.store.list("index/records")[0]))).read_all()
    geo = json.loads(table.schema.metadata[b"geo"])
    assert geo["version"] == "1.1.0"
    assert geo["columns"]["geometry"]["encoding"] == "WKB"
    assert geo["columns"]["geometry"]["geometry_types"] == ["MultiPolygon", "Polygon"]
    shapes = shapely.from_wkb(table.column("geometry").to_pylist())
    assert [None if shape is None else shape.bounds for shape in shapes] == [(7, 50, 8, 51), (-180, 0, 180, 1), None]
    assert cube.records(RecordQuery(area=box(-179.6, 0.2, -179.5, 0.3))) == [record(2, footprint=split)]
    assert cube.records(RecordQuery(area=box(0, 0, 1, 1))) == []


def test_a_segment_has_the_same_bytes_in_any_order() -> None:
    records = [record(number) for number in range(20)]
    assert RecordSegment.of(records).encode() == RecordSegment.of(records[::-1]).encode()


TAGS = st.dictionaries(st.sampled_from(["orbit", "name", "ü"]), st.sampled_from(["", "7", "37", "137", "a.b", "[x]"]))
PATTERNS = st.sampled_from(["", "*", "7", "*7", "?7", "?", "a.b", "A.B", "A?B(?i)", "A.B(?i)", "[X](?i)", "[*", "none"])
MOMENTS = st.integers(0, 20).map(lambda days: START + timedelta(days=days, microseconds=days))
CORNERS = st.tuples(st.integers(-5, 5), st.integers(-5, 5))
RECORDS = st.lists(
    st.builds(
        lambda number, moment, tags, corner: Record(
            name=f"S1/{number}",
            datetime=moment,
            tags=tags,
            footprint=box(corner[0], corner[1], corner[0] + 1.5, corner[1] + 2.5) if number % 5 else {},
        ),
        st.integers(0, 30),
        MOMENTS,
        TAGS,
        CORNERS,
    ),
    max_size=20,
)
QUERIES = st.builds(
    RecordQuery,
    name=st.sampled_from(["", "S1/*", "S1/1?", "S1/7", "*2", "s1/*", "s1/7(?i)", "s1/1?(?i)", "*(?i)", "(?i)"]),
    tags=st.dictionaries(st.sampled_from(["orbit", "ü"]), PATTERNS, max_size=2),
    start=st.none() | MOMENTS,
    end=st.none() | MOMENTS,
    area=st.none() | CORNERS.map(lambda corner: geojson(shapely.Point(corner).buffer(2.2))),
    limit=st.sampled_from([0, 0, 3]),
    page=st.integers(0, 2),
)


def plainly(records: list[Record], query: RecordQuery) -> list[Record]:
    """The result of a query, computed record by record."""

    def matches(text: str | None, pattern: str) -> bool:
        if text is None:
            return False
        if pattern.endswith("(?i)"):
            text, pattern = text.lower(), pattern[:-4].lower()
        return fnmatchcase(text, pattern.replace("[", "[[]"))

    found = [
        candidate
        for candidate in {candidate.id: candidate for candidate in reversed(records)}.values()
        if (not query.name or matches(candidate.name, query.name))
        and all(matches(candidate.tags.get(tag), pattern or "*") for tag, pattern in query.tags.items())
        and (query.start is None or candidate.datetime >= query.start)
        and (query.end is None or candidate.datetime <= query.end)
        and (
            query.area is None
            or (
                bool(candidate.footprint)
                and shapely.geometry.shape(query.area).intersects(shapely.geometry.shape(candidate.footprint))
            )
        )
    ]
    found.sort(key=lambda candidate: (candidate.datetime, candidate.name, candidate.id))
    start = query.page * query.limit
    return found[start : start + query.limit] if query.limit else found


@settings(max_examples=60, deadline=None)
@given(RECORDS, RECORDS, QUERIES)
def test_a_query_equals_a_plain_search(
    tmp_path_factory: pytest.TempPathFactory, first: list[Record], second: list[Record], query: RecordQuery
) -> None:
    cube = LocalCube.create(str(tmp_path_factory.mktemp("cube")))
    cube.index(first, [])
    cube.index(second, [])
    assert cube.records(query) == plainly(first + second, query)


def test_pages_are_counted_from_0_and_only_with_a_limit(place: str) -> None:
    cube = ready(place)
    cube.index([record(number) for number in range(7)], [])
    pages = [cube.records(RecordQuery(limit=3, page=page)) for page in range(4)]
    assert [[known.name for known in page] for page in pages] == [
        ["S1/000", "S1/001", "S1/002"],
        ["S1/003", "S1/004", "S1/005"],
        ["S1/006"],
        [],
    ]
    assert len(cube.records(RecordQuery(page=2))) == 7


def test_dates_are_inclusive_and_in_utc_by_default(place: str) -> None:
    cube = ready(place)
    cube.index([record(1)], [])
    moment = record(1).datetime
    assert len(cube.records(RecordQuery(start=moment, end=moment.replace(tzinfo=None)))) == 1
    assert cube.records(RecordQuery(start=moment + timedelta(microseconds=1))) == []
    assert cube.records(RecordQuery(end=datetime(1969, 1, 1, tzinfo=UTC))) == []


WRITER = """
import sys
from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import RecordQuery
from tests.cube.builders import dataset, record
cube, first, count = LocalCube.open(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
for number in range(count):
    mine, shared = record(first + number), record(number)
    cube.index([mine, shared], [dataset(mine, f"{first + number}.tif"), dataset(shared, f"{number}.tif")])
    assert mine in LocalCube.open(sys.argv[1]).records(RecordQuery())
"""


def test_two_writers_at_once_lose_nothing_and_duplicate_nothing(place: str) -> None:
    cube, count = ready(place), 20
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, place, str(first), str(count)],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        )
        for first in (100, 200)
    ]
    errors = [writer.communicate(timeout=120)[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0], errors
    numbers = [*range(count), *range(100, 100 + count), *range(200, 200 + count)]
    assert cube.records(RecordQuery()) == [record(number) for number in numbers]
    assert sorted(stored.uri for stored in cube.datasets("CoherenceVV", "master")) == sorted(
        f"{n}.tif" for n in numbers
    )
    assert [int(key[-13:-5]) for key in heads(cube)] == list(range(1, len(heads(cube)) + 1))
    assert len(heads(cube)) >= 1 + 2 * count


def test_a_writer_that_is_always_overtaken_gives_up(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cube = ready(str(tmp_path))
    monkeypatch.setattr(index_module, "COMMIT_ATTEMPTS", 3)
    monkeypatch.setattr(Store, "create", lambda *_: False)
    monkeypatch.setattr(Store, "get", lambda *_: b"another head")
    with pytest.raises(AcdError) as caught:
        cube.index([record(1)], [])
    assert caught.value.code is ErrorCode.STORE_CONTENDED


def test_a_head_is_published_even_if_the_reply_is_lost(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cube, create = ready(str(tmp_path)), Store.create

    def create_and_lose_the_reply(store: Store, key: str, data: bytes) -> bool:
        create(store, key, data)
        return False

    monkeypatch.setattr(Store, "create", create_and_lose_the_reply)
    assert cube.commit(Addition([record(1)])) is True
    assert len(heads(cube)) == 2


def test_a_reused_segment_is_restored_although_another_thread_has_forgotten_it(tmp_path: Any) -> None:
    cube = ready(str(tmp_path / "cube"))
    cube.index([record(1)], [])
    head, files = cube.head(), cube._files
    again = files.extended((), "records", [record(1)], RecordSegment)  # the same rows, so the file exists
    assert again == head.records
    files.keep([])  # as by another thread that has a head without it
    cube.store.delete(again[0].key)  # as tidy does
    files.restore_reused(head.segments)
    assert LocalCube.open(cube.store.url).records(RecordQuery()) == [record(1)]
