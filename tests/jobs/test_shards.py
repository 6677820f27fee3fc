"""Shards are as few as make a pod worth its start, and no more than a workflow can carry."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acdtask.jobs.plans import Work
from acdtask.jobs.shards import HELD_BYTES, MAX_SHARDS, WORTH, Sharding, shards_of

COSTS = st.lists(st.floats(min_value=0.001, max_value=500), min_size=1, max_size=900)


class Items(Work):
    items: list[int]


def items_work(items: list[int]) -> Items:
    return Items(items=items)


def sizes(cut: Sharding, seconds: list[float], held: list[int] | None = None) -> list[int]:
    shards = cut.shards(range(len(seconds)), items_work, seconds, held or [])
    assert [item for shard in shards for item in shard.work.items] == list(range(len(seconds)))
    assert all(shard.units == len(shard.work.items) > 0 for shard in shards)
    return [shard.units for shard in shards]


@given(COSTS, st.floats(min_value=0.1, max_value=60))
def test_every_shard_has_ten_seconds_of_work_for_one_of_its_pod_start_where_there_is_that_much(
    seconds: list[float], pod_start: float
) -> None:
    made = sizes(Sharding(None, pod_start), seconds)
    assert len(made) <= MAX_SHARDS
    ends = [sum(made[: number + 1]) for number in range(len(made))]
    worked = [sum(seconds[end - size : end]) for size, end in zip(made, ends, strict=True)]
    if len(made) > 1:
        assert min(worked) >= WORTH * pod_start * (1 - 1e-9)
    else:
        assert sum(seconds) < 2 * WORTH * pod_start + 500


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ([1.0] * 9, [9]),  # a small day
        ([100.0] * 3, [1, 1, 1]),
        ([60.0] * 5, [2, 3]),  # what is left joins the last
        ([250.0, 1.0, 1.0, 98.0, 30.0], [1, 4]),
    ],
)
def test_the_shards_of_some_work(seconds: list[float], expected: list[int]) -> None:
    assert sizes(Sharding(None, 10), seconds) == expected


def test_work_of_weeks_is_four_hundred_shards_of_one_length() -> None:
    made = sizes(Sharding(None, 10), [50.0] * 40_000)
    assert len(made) == MAX_SHARDS
    assert set(made) == {100}


def test_a_shard_ends_before_it_holds_too_much() -> None:
    half = HELD_BYTES // 2
    assert sizes(Sharding(None, 10), [1.0] * 5, [half] * 5) == [2, 2, 1]
    assert sizes(Sharding(None, 10), [1.0] * 3, [1, 1, HELD_BYTES]) == [2, 1]
    many = sizes(Sharding(None, 10), [1.0] * 1000, [HELD_BYTES] * 1000)
    assert len(many) <= MAX_SHARDS  # of the two limits, this one cannot be passed


@pytest.mark.parametrize("pod_start", [0.0, 10.0])
def test_the_size_that_somebody_has_set_is_kept(pod_start: float) -> None:
    assert sizes(Sharding(2, pod_start), [1000.0] * 5) == [2, 2, 1]


def test_processes_that_run_already_get_the_units_that_suit_them() -> None:
    assert sizes(Sharding(None), [1.0] * 3) == [1, 1, 1]
    assert sizes(Sharding(None, otherwise=4), [1.0] * 6) == [4, 2]
    assert len(sizes(Sharding(None), [1.0] * 1000)) <= MAX_SHARDS


def test_nothing_is_cut_into_nothing() -> None:
    assert Sharding(None, 10).shards([], items_work, []) == shards_of([], 1, items_work) == []


def test_work_of_unknown_cost_is_cut_by_its_number() -> None:
    assert sizes(Sharding(None, 10), [0.0] * 3) == [3]
