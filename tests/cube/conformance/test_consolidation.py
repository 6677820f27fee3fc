"""Consolidations from beginning to end: states, pauses, failures, locks."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from acdtask.cube.follow import End, Ending, follow
from acdtask.cube.jobs import Consolidates, Consolidation, JobState, Level
from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import Dataset, Instance, Record
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.data_format import Pixels
from acdtask.raster.grid import Layout
from acdtask.serve.consolidation.jobs import ConsolidationJobs
from tests.cube.builders import grid, image
from tests.cube.conformance.rooms import Room

TIMEOUT = 120.0
SCENE = grid(150, 100)
ORDER = ["CREATED", "CONSOLIDATIONINPROGRESS", "CONSOLIDATIONDONE", "CONSOLIDATIONINDEXED", "CONSOLIDATIONEFFECTIVE"]


@dataclass(frozen=True)
class Job:
    """A room with records that can be consolidated."""

    room: Room
    instance: Instance
    layout: Layout
    records: list[Record]
    datasets: list[Dataset]

    @classmethod
    def of(cls, room: Room, count: int = 1) -> Job:
        instance, layout = room.instance(), room.layout()
        records = [room.record(number) for number in range(count)]
        datasets = [
            room.container(record, instance, image(SCENE, number, low=1), SCENE)
            for number, record in enumerate(records)
        ]
        room.cube.index(records, datasets)
        return cls(room, instance, layout, records, datasets)

    @property
    def jobs(self) -> Consolidates:
        """The room's jobs."""
        cube = self.room.cube
        return ConsolidationJobs(cube) if isinstance(cube, LocalCube) else cast(Consolidates, cube)

    def wanted(self, called: str = "job", level: Level = Level.ASYNCHRONOUS, **changes: object) -> Consolidation:
        """A request to consolidate all records."""
        fields: dict[str, object] = {
            "name": self.room.name(called),
            "variable": self.instance.variable,
            "instance": self.instance.name,
            "layout": self.layout.name,
            "records": tuple(record.id for record in self.records),
            "level": level,
        }
        return Consolidation.model_validate(fields | changes)

    def followed(self, job_id: str, approve: object = None) -> Ending:
        return follow(self.jobs, job_id, approve, timeout=TIMEOUT, poll=0.05)  # type: ignore[arg-type]  # a function

    def pixels(self) -> list[Pixels]:
        """Read every image on two cells, one of which has an edge of the scene."""
        groups = [(record.id,) for record in self.records]
        found = [
            result for i in (0, 2) for result in self.room.images(self.instance, self.layout.tile(i, 1).grid, *groups)
        ]
        assert all(result.pixels is not None for result in found), [result.reason for result in found]
        return [np.asarray(result.pixels) for result in found]

    def break_one(self) -> bytes:
        """Delete a container, and return its content."""
        path = Path(self.datasets[-1].uri)
        content = path.read_bytes()
        path.unlink()
        return content

    def restore(self, content: bytes) -> None:
        Path(self.datasets[-1].uri).write_bytes(content)


def refusal(error: pytest.ExceptionInfo[AcdError]) -> ErrorCode:
    return error.value.code


def test_consolidated_images_are_the_same(room: Room) -> None:
    consolidates(room, 1)


@pytest.mark.needs("two_records")
def test_consolidated_images_of_several_records_are_the_same(room: Room) -> None:
    consolidates(room, 3)


def consolidates(room: Room, count: int) -> None:
    job = Job.of(room, count)
    before = job.pixels()
    job_id = job.jobs.consolidate(job.wanted())
    ending = job.followed(job_id)
    assert (ending.end, ending.job.state) == (End.DONE, "DONE"), ending
    assert (ending.job.id, ending.job.name, ending.job.kind) == (job_id, room.name("job"), "consolidation")
    assert (ending.job.failed_tasks, ending.job.waiting, ending.error) == (0, False, "")
    assert ending.job.log
    assert ending.job.created <= ending.job.updated
    for pixels, other in zip(before, job.pixels(), strict=True):
        np.testing.assert_array_equal(pixels, other)
    ids = [record.id for record in job.records]
    assert room.cube.having(job.instance.variable, "master", ids) == frozenset(ids)


@pytest.mark.parametrize(
    ("level", "pauses"),
    [
        (Level.ASYNCHRONOUS, []),
        (Level.CRITICAL, [ORDER[1], ORDER[4]]),
        (Level.MAJOR, [ORDER[0], ORDER[1], ORDER[2], ORDER[4]]),
        (Level.ALL, ORDER),
    ],
)
def test_each_level_pauses_in_its_states(room: Room, level: Level, pauses: list[str]) -> None:
    job, asked = Job.of(room), list[str]()

    def approve(state: JobState) -> bool:
        assert state.waiting
        assert state.level is level
        asked.append(state.state)
        return True

    ending = job.followed(job.jobs.consolidate(job.wanted(level=level)), approve)
    assert ending.end is End.DONE, ending
    assert asked == pauses


def test_a_pause_that_is_not_approved_can_be_cancelled(room: Room) -> None:
    job = Job.of(room)
    before = job.pixels()
    job_id = job.jobs.consolidate(job.wanted(level=Level.CRITICAL))
    ending = job.followed(job_id, lambda state: False)
    assert (ending.end, ending.job.state, ending.job.waiting) == (End.PAUSED, "CONSOLIDATIONINPROGRESS", True)
    job.jobs.cancel_job(job_id)
    cancelled = job.followed(job_id, lambda state: True)
    assert (cancelled.end, cancelled.job.state) == (End.CANCELLED, "FAILED"), cancelled
    np.testing.assert_array_equal(before, job.pixels())
    assert job.followed(job.jobs.consolidate(job.wanted("again"))).end is End.DONE


def test_a_stuck_job_is_retried_when_its_cause_is_fixed(room: Room) -> None:
    job = Job.of(room)
    before = job.pixels()
    content = job.break_one()
    job_id = job.jobs.consolidate(job.wanted())
    stuck = job.followed(job_id)
    assert (stuck.end, stuck.job.state) == (End.STUCK, "CONSOLIDATIONFAILED"), stuck
    assert stuck.error
    assert stuck.advice
    assert any(Path(job.datasets[-1].uri).name in line for line in stuck.job.log)
    job.restore(content)
    job.jobs.retry_job(job_id)
    ending = job.followed(job_id)
    assert ending.end is End.DONE, ending
    np.testing.assert_array_equal(before, job.pixels())


def test_cancelling_a_stuck_job_unlocks_its_datasets(room: Room) -> None:
    job = Job.of(room)
    before = job.pixels()
    content = job.break_one()
    job_id = job.jobs.consolidate(job.wanted())
    assert job.followed(job_id).end is End.STUCK
    job.restore(content)
    job.jobs.cancel_job(job_id)
    ending = job.followed(job_id)
    assert (ending.end, ending.job.state) == (End.CANCELLED, "FAILED"), ending
    np.testing.assert_array_equal(before, job.pixels())
    assert job.followed(job.jobs.consolidate(job.wanted("again"))).end is End.DONE


def test_a_lock_names_its_job(room: Room) -> None:
    job = Job.of(room)
    first = job.jobs.consolidate(job.wanted("first", Level.CRITICAL))
    assert job.followed(first, lambda state: False).end is End.PAUSED
    with pytest.raises(AcdError, match=room.name("first")) as error:
        job.jobs.consolidate(job.wanted("second"))
    assert refusal(error) is ErrorCode.DATASET_LOCKED
    with pytest.raises(AcdError) as error:
        job.jobs.job(room.name("second"))
    assert refusal(error) is ErrorCode.JOB_UNKNOWN
    job.jobs.cancel_job(first)
    job.followed(first, lambda state: True)


def test_consolidating_again_changes_nothing(room: Room) -> None:
    job = Job.of(room)
    before = job.pixels()
    for name in ("first", "second"):
        ending = job.followed(job.jobs.consolidate(job.wanted(name)))
        assert ending.end is End.DONE, ending
        np.testing.assert_array_equal(before, job.pixels())


def test_jobs_are_found_by_id_name_and_pattern(room: Room) -> None:
    job = Job.of(room)
    ids = []
    for name in ("b", "a", "other"):
        ids.append(job.jobs.consolidate(job.wanted(name)))
        assert job.followed(ids[-1]).end is End.DONE
    assert job.jobs.job(ids[0]).name == room.name("b")
    assert job.jobs.job(room.name("b")).id == ids[0]
    listed = [state for state in job.jobs.jobs(room.name("*")) if state.kind == "consolidation"]
    assert [state.id for state in listed] == ids
    assert [state.id for state in job.jobs.jobs(room.name("?")) if state.kind == "consolidation"] == ids[:2]
    assert [state.id for state in job.jobs.jobs(room.name("other"))] == ids[2:]
    assert job.jobs.jobs(room.name("none*")) == []


def test_an_unknown_job_is_refused(room: Room) -> None:
    jobs = Job.of(room).jobs
    identity, name = str(uuid.uuid4()), room.name("unknown")
    calls = [(call, identity) for call in (jobs.job, jobs.continue_job, jobs.retry_job, jobs.cancel_job)]
    for call, unknown in [*calls, (jobs.job, name)]:
        with pytest.raises(AcdError, match=unknown) as error:
            call(unknown)
        assert refusal(error) is ErrorCode.JOB_UNKNOWN


def test_a_job_that_has_ended_cannot_be_changed(room: Room) -> None:
    job = Job.of(room)
    job_id = job.jobs.consolidate(job.wanted())
    assert job.followed(job_id).end is End.DONE
    for call in (job.jobs.continue_job, job.jobs.retry_job, job.jobs.cancel_job):
        with pytest.raises(AcdError) as error:
            call(job_id)
        assert refusal(error) is ErrorCode.JOB_STATE


def test_job_names_are_unique(room: Room) -> None:
    job = Job.of(room)
    assert job.followed(job.jobs.consolidate(job.wanted())).end is End.DONE
    with pytest.raises(AcdError, match=room.name("job")) as error:
        job.jobs.consolidate(job.wanted())
    assert refusal(error) is ErrorCode.JOB_CONFLICT


def test_invalid_consolidations_are_refused(room: Room) -> None:
    job = Job.of(room)
    unknown = room.name("unknown")
    refused: list[tuple[dict[str, Any], ErrorCode]] = [
        ({"variable": unknown}, ErrorCode.VARIABLE_UNKNOWN),
        ({"instance": unknown}, ErrorCode.INSTANCE_UNKNOWN),
        ({"layout": unknown}, ErrorCode.LAYOUT_UNKNOWN),
        ({"records": (str(uuid.uuid4()),)}, ErrorCode.INPUT_MISSING),
        ({"records": ()}, ErrorCode.SETTING_INVALID),
        ({"name": ""}, ErrorCode.SETTING_INVALID),
    ]
    for change, code in refused:
        with pytest.raises(AcdError) as error:
            job.jobs.consolidate(job.wanted(**change))
        assert refusal(error) is code, change
    assert job.jobs.jobs(room.name("*")) == []
    assert job.followed(job.jobs.consolidate(job.wanted())).end is End.DONE
