"""Removals, exchanges and updates in a cube's index; records with several datasets."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
from arro3.io import read_parquet
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.local.dataset_segments import DatasetSegment
from acdtask.cube.model import Addition, Dataset, Instance, RecordQuery, Variable
from acdtask.errors import AcdError, ErrorCode
from acdtask.storage.seal import unseal
from acdtask.storage.store import Store
from tests.cube.builders import COHERENCE, MASTER, dataset, grid, record
from tests.cube.local.test_index import UTM32, heads, ready

OTHER = Instance(variable="CoherenceVV", name="other")


def of_cube(cube: LocalCube, instance: str = "master") -> list[Dataset]:
    return cube.datasets("CoherenceVV", instance)


def refused(code: ErrorCode, message: str, action: Callable[[], Any]) -> None:
    with pytest.raises(AcdError, match=message) as caught:
        action()
    assert caught.value.code is code


def cell(number: int, of: str, **changes: Any) -> Dataset:
    return dataset(record(number), of, **({"layout": "utm32", "cell": "1/1"} | changes))


@pytest.mark.parametrize("address", ["/data/{}.tif", "s3://bucket/{}.tif", "file:///data/{}.tif"])
def test_a_record_may_have_several_datasets_outside_the_cube(place: str, address: str) -> None:
    cube = ready(place)
    several = [dataset(record(1), address.format(name)) for name in ("a", "b", "c")]
    several.append(dataset(record(1), address.format("a"), subdir="GTIFF_DIR:2"))
    several.append(dataset(record(1), address.format("a"), bands=(3, 2)))
    cube.index([record(1)], several[:2])
    cube.index([], several)
    assert cube.commit(Addition(datasets=several)) is False
    assert sorted(of_cube(LocalCube.open(place)), key=str) == sorted(several, key=str)


def test_a_band_of_a_container_outside_is_one_dataset(place: str) -> None:
    cube = ready(place)
    cube.index([record(1), record(2)], [dataset(record(1), "/data/a.tif", bands=(1, 2))])
    cube.add_instance(OTHER)
    before = cube.store.list()
    of_first = f"record {record(1).id}, CoherenceVV:master"
    for other, message in (
        (dataset(record(2), "/data/a.tif", bands=(1, 2)), f"another record or instance: {of_first}"),
        (dataset(record(2), "/data/a.tif", bands=(2,)), f"another record or instance: {of_first}"),
        (dataset(record(1), "/data/a.tif", bands=(1, 2), instance="other"), of_first),
        (
            dataset(record(1), "/data/a.tif", bands=(1, 2), real=(0, 1)),
            f"already a dataset of {of_first}, with another mapping",
        ),
        (dataset(record(1), "/data/a.tif", bands=(2, 1)), f"already a dataset of {of_first}"),
    ):
        refused(ErrorCode.DATASET_CONFLICT, message, lambda other=other: cube.index([], [other]))  # type: ignore[misc]
    assert cube.store.list() == before
    cube.index([], [dataset(record(2), "/data/a.tif", bands=(3,))])
    assert len(of_cube(cube)) == 2


def test_the_variables_own_range_is_not_another_mapping(place: str) -> None:
    cube = ready(place)
    plain = dataset(record(1), "/data/a.tif")
    cube.index([record(1)], [plain.model_copy(update={"real": (0.0, 1000.0)})])
    assert cube.commit(Addition(datasets=[plain])) is False
    assert of_cube(LocalCube.open(place)) == [plain]


MAPPINGS = st.fixed_dictionaries(
    {},
    optional={
        "real": st.tuples(st.floats(-5, 0), st.floats(1, 1e9)),
        "exponent": st.floats(0.1, 5),
        "exchanged": st.booleans(),
    },
)


@settings(max_examples=50, deadline=None)
@given(st.lists(MAPPINGS, max_size=5))
def test_segments_keep_mappings(mappings: list[dict[str, Any]]) -> None:
    datasets = [dataset(record(number), f"{number}.tif", **changes) for number, changes in enumerate(mappings)]
    segment = DatasetSegment.decode(DatasetSegment.of(datasets).encode())
    found = [segment.dataset(row) for row in range(len(segment))]
    assert sorted(found, key=lambda stored: stored.uri) == datasets
    assert [stored.model_dump_json() for stored in sorted(found, key=lambda stored: stored.uri)] == [
        stored.model_dump_json() for stored in datasets
    ]


def test_defaults_are_not_written() -> None:
    plain = dataset(record(1), "a.tif")
    assert set(plain.model_dump()) == {
        *("record_id", "variable", "instance", "uri", "subdir", "bands", "dformat", "grid", "layout", "cell")
    }
    assert "palette" not in COHERENCE.model_dump_json()
    table = read_parquet(BytesIO(DatasetSegment.of([plain]).encode())).read_all()
    assert table.column("dformats").to_pylist() == [COHERENCE.dformat.model_dump_json()]
    for wrong in ({"real": (1, 1)}, {"real": (0, float("inf"))}, {"exponent": 0}):
        with pytest.raises(ValidationError):
            dataset(record(1), "a.tif", **wrong)


def test_what_has_datasets_is_not_removed(place: str) -> None:
    cube = ready(place)
    cube.index([record(1), record(2)], [dataset(record(1), "a.tif"), cell(1, "x.zarr")])
    before = cube.store.list()
    cases: list[tuple[dict[str, Any], str]] = [
        (
            {"records": [record(2).id, record(1).id]},
            f"record S1/001 {record(1).id} has a dataset of CoherenceVV:master",
        ),
        ({"instances": [("CoherenceVV", "master")]}, "instance CoherenceVV:master has datasets"),
        ({"variables": ["CoherenceVV"]}, "variable CoherenceVV has datasets"),
        ({"layouts": ["utm32"], "datasets": [dataset(record(1), "a.tif")]}, r"layout utm32 has datasets.* x\.zarr"),
    ]
    for what, message in cases:
        refused(ErrorCode.IN_USE, message, lambda what=what: cube.remove(**what))  # type: ignore[misc]
    assert cube.store.list() == before


def test_everything_is_removed_at_once(place: str) -> None:
    cube = ready(place)
    mine = [dataset(record(1), "a.tif"), dataset(record(2), "b.tif"), cell(1, "x.zarr"), cell(2, "x.zarr", subdir="1")]
    cube.index([record(1), record(2), record(3)], mine)
    count = len(heads(cube))
    assert cube.remove(records=[record(1).id], datasets=[mine[0], mine[2]]) == ["a.tif"]
    assert [known.name for known in cube.records(RecordQuery())] == ["S1/002", "S1/003"]
    assert of_cube(LocalCube.open(place)) == [mine[1], mine[3]]
    assert len(heads(cube)) == count + 1
    gone = cube.remove(
        records=[record(2).id, record(3).id], datasets=[mine[1], mine[3]], variables=["CoherenceVV"], layouts=["utm32"]
    )
    assert gone == ["b.tif", "x.zarr"]
    reopened = LocalCube.open(place)
    assert (reopened.records(RecordQuery()), reopened.variables(), reopened.layouts()) == ([], [], [])
    refused(ErrorCode.VARIABLE_UNKNOWN, "CoherenceVV", lambda: reopened.instances("CoherenceVV"))
    assert json.loads(unseal(cube.store.get(heads(cube)[-1]), "head")) == {
        "number": count + 2,
        "records": [],
        "datasets": [],
        "variables": [],
        "instances": [],
        "layouts": [],
    }


def test_removing_what_is_missing_has_no_effect(place: str) -> None:
    cube = ready(place)
    cube.index([record(1)], [dataset(record(1), "a.tif")])
    before = cube.store.list()
    other = dataset(record(1), "a.tif", grid=grid(5, 5))
    assert cube.remove([record(9).id], [other], ["Z"], [("CoherenceVV", "z"), ("Z", "z")], ["z"]) == []
    assert cube.store.list() == before
    assert cube.remove(datasets=[dataset(record(1), "a.tif")]) == ["a.tif"]
    count = len(heads(cube))
    assert cube.remove(datasets=[dataset(record(1), "a.tif")]) == ["a.tif"]
    assert len(heads(cube)) == count
    cube.index([], [dataset(record(1), "b.tif")])
    assert [stored.uri for stored in of_cube(cube)] == ["b.tif"]


def test_instances_are_removed_one_by_one(place: str) -> None:
    cube = ready(place)
    cube.add_instance(OTHER)
    cube.index([record(1)], [dataset(record(1), "a.tif")])
    cube.remove(instances=[("CoherenceVV", "other")])
    assert LocalCube.open(place).instances("CoherenceVV") == [MASTER]


def test_an_exchange_is_one_head_and_happens_once(place: str) -> None:
    cube = ready(place)
    old = [dataset(record(1), "/data/a.tif"), dataset(record(1), "b.tif"), dataset(record(2), "c.tif")]
    new = [cell(1, "x.zarr"), cell(2, "x.zarr", subdir="1")]
    effective = [stored.model_copy(update={"exchanged": True}) for stored in new]
    cube.index([record(1), record(2)], [*old, cell(2, "copy.zarr", cell="9/9")])
    count = len(heads(cube))
    assert cube.exchange(old, new) == ["/data/a.tif", "b.tif", "c.tif"]
    assert sorted(of_cube(LocalCube.open(place)), key=lambda stored: stored.uri)[1:] == effective
    assert len(heads(cube)) == count + 1
    assert cube.exchange(old, new) == ["/data/a.tif", "b.tif", "c.tif"]
    assert len(heads(cube)) == count + 1
    newer = [cell(1, "y.zarr"), cell(2, "y.zarr", subdir="1")]
    assert cube.exchange(effective, newer) == ["x.zarr"]
    assert {stored.uri for stored in of_cube(cube)} == {"copy.zarr", "y.zarr"}


def test_an_exchange_of_a_dataset_that_another_removed_has_no_effect(place: str) -> None:
    cube = ready(place)
    old = [dataset(record(1), "a.tif"), dataset(record(2), "b.tif")]
    cube.index([record(1), record(2)], old)
    LocalCube.open(place).remove(datasets=old[:1])
    before = cube.store.list()
    refused(
        ErrorCode.DATASET_CONFLICT,
        rf"a\.tif is no longer a dataset of record {record(1).id}",
        lambda: cube.exchange(old, [cell(1, "x.zarr"), cell(2, "x.zarr", subdir="1")]),
    )
    assert cube.store.list() == before
    cube.index([], [cell(2, "other.zarr")])
    refused(
        ErrorCode.DATASET_CONFLICT,
        r"already has the file other\.zarr",
        lambda: cube.exchange(old[1:], [cell(2, "x.zarr")]),
    )
    assert old[1] in of_cube(cube)


def test_a_change_is_applied_to_the_state_of_a_faster_writer(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cube, rival, create = ready(place), LocalCube.open(place), Store.create
    old = [dataset(record(1), "a.tif"), dataset(record(2), "b.tif")]
    cube.index([record(1), record(2)], old)

    def overtaken(store: Store, key: str, data: bytes) -> bool:
        if store is cube.store and "heads" in key:
            monkeypatch.setattr(Store, "create", create)
            rival.remove(datasets=old[:1])
            rival.index([record(3)], [dataset(record(3), "c.tif")])
        return create(store, key, data)

    monkeypatch.setattr(Store, "create", overtaken)
    assert cube.remove(records=[record(1).id, record(2).id], datasets=old) == ["a.tif", "b.tif"]
    assert cube.records(RecordQuery()) == [record(3)]
    assert [stored.uri for stored in of_cube(cube)] == ["c.tif"]


def test_variables_and_instances_are_updated(place: str) -> None:
    cube = ready(place)
    cube.update_variable("CoherenceVV", unit="1", resampling="cubic", palette="grey")
    cube.update_variable("CoherenceVV", description="coherence")
    cube.update_instance("CoherenceVV", "master", {"a": "1", "b": "2"})
    cube.update_instance("CoherenceVV", "master", {"b": "3"}, remove_keys=["a", "none"])
    reopened = LocalCube.open(place)
    assert reopened.variable("CoherenceVV") == COHERENCE.model_copy(
        update={"unit": "1", "resampling": "cubic", "description": "coherence", "palette": "grey"}
    )
    assert reopened.instances("CoherenceVV") == [MASTER.model_copy(update={"metadata": {"b": "3"}})]
    count = len(heads(cube))
    cube.update_variable("CoherenceVV", unit="1")
    cube.update_instance("CoherenceVV", "master")
    assert len(heads(cube)) == count
    refused(ErrorCode.VARIABLE_UNKNOWN, "'Z'", lambda: cube.update_variable("Z", unit="1"))
    refused(ErrorCode.INSTANCE_UNKNOWN, "'z'", lambda: cube.update_instance("CoherenceVV", "z"))
    cube.add_variable(Variable.model_validate(reopened.variable("CoherenceVV").model_dump()))


def test_layouts_without_datasets_are_removed(place: str) -> None:
    cube = ready(place)
    assert cube.layouts() == [UTM32]
    cube.remove(layouts=["utm32"])
    assert LocalCube.open(place).layouts() == []
