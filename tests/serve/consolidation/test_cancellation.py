"""Cancellation of consolidation jobs, in each of their states."""

from __future__ import annotations

from pathlib import Path

import pytest

from acdtask.cube.jobs import Level
from acdtask.cube.local.cube import LocalCube
from acdtask.errors import ErrorCode
from tests.serve.consolidation.small_cube import (
    consolidated,
    consolidation,
    digests,
    jobs_of,
    make_cube,
    refused,
    work,
    work_to,
)


@pytest.fixture
def cube(tmp_path: Path) -> LocalCube:
    return make_cube(str(tmp_path / "cube"))


CANCELS = [
    # state, paused there, by force, ends as FAILED
    ("NEW", False, False, False),
    ("NEW", False, True, True),
    ("CREATED", True, False, True),
    ("CREATED", False, False, False),
    ("CREATED", False, True, True),
    ("CONSOLIDATIONINPROGRESS", True, False, True),
    ("CONSOLIDATIONINPROGRESS", False, False, True),
    ("CONSOLIDATIONDONE", True, False, True),
    ("CONSOLIDATIONDONE", False, False, False),
    ("CONSOLIDATIONDONE", False, True, True),
    ("CONSOLIDATIONINDEXED", True, False, True),
    ("CONSOLIDATIONINDEXED", False, True, False),
    ("CONSOLIDATIONEFFECTIVE", True, True, False),
    ("CONSOLIDATIONEFFECTIVE", False, True, False),
    ("DONE", False, True, False),
]


@pytest.mark.parametrize(("state", "paused", "force", "ends"), CANCELS)
def test_a_job_is_cancelled_in_the_states_that_allow_it(
    cube: LocalCube, tmp_path: Path, state: str, paused: bool, force: bool, ends: bool
) -> None:
    job_id = jobs_of(cube).consolidate(consolidation(level=Level.ALL if paused else Level.ASYNCHRONOUS))
    job = work_to(cube, job_id, state)
    assert job.waiting is paused
    if not ends:
        with refused(ErrorCode.JOB_STATE):
            jobs_of(cube).cancel_job(job_id, force=force)
        assert work_to(cube, job_id, "DONE").state == "DONE"
        return
    jobs_of(cube).cancel_job(job_id, force=force)
    job = work(cube, job_id)
    assert job.state == "FAILED"
    assert consolidated(cube) == []
    assert digests(tmp_path / "cube" / "consolidated") == {}
    with refused(ErrorCode.JOB_STATE):
        jobs_of(cube).cancel_job(job_id, force=True)
    assert work(cube, jobs_of(cube).consolidate(consolidation(name="second"))).state == "DONE", "nothing is locked"


@pytest.mark.parametrize("state", ["INITIALISATIONFAILED", "CONSOLIDATIONFAILED"])
def test_a_stuck_job_is_cancelled(cube: LocalCube, tmp_path: Path, state: str) -> None:
    if state == "INITIALISATIONFAILED":
        job_id = jobs_of(cube).start(consolidation(layout="nowhere"))
    else:
        cube.store.delete("pixels/1.tif")
        job_id = jobs_of(cube).consolidate(consolidation())
    assert work(cube, job_id).state == state
    jobs_of(cube).cancel_job(job_id)
    assert work(cube, job_id).state == "FAILED"
    assert digests(tmp_path / "cube" / "consolidated") == {}
    jobs_of(cube).consolidate(consolidation(name="second"))


def test_a_job_in_progress_is_cancelled_after_some_cells(cube: LocalCube, tmp_path: Path) -> None:
    job_id = jobs_of(cube).consolidate(consolidation())
    work_to(cube, job_id, "CONSOLIDATIONINPROGRESS")
    assert jobs_of(cube).advance(job_id)
    assert jobs_of(cube).job(job_id).active_tasks == 3
    jobs_of(cube).cancel_job(job_id)
    assert jobs_of(cube).job(job_id).state == "CONSOLIDATIONCANCELLING"
    assert work(cube, job_id).state == "FAILED"
    assert digests(tmp_path / "cube" / "consolidated") == {}


def test_containers_that_may_be_in_the_index_are_not_removed(cube: LocalCube, tmp_path: Path) -> None:
    job_id = jobs_of(cube).consolidate(consolidation())
    work_to(cube, job_id, "CONSOLIDATIONINDEXED")
    cube.store.delete(next(key for key in cube.store.list("jobs") if "/orders/" in key))
    job = work(cube, job_id)
    assert job.state == "CONSOLIDATIONFAILED"
    assert "is missing" in job.error
    before = digests(tmp_path / "cube" / "consolidated")
    jobs_of(cube).cancel_job(job_id)
    assert work(cube, job_id).state == "FAILED"
    assert digests(tmp_path / "cube" / "consolidated") == before != {}
