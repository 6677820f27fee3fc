"""Consolidation jobs of a local cube, from start to each possible end."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from acdtask.cube.follow import Advances
from acdtask.cube.geocube.joblog import read_log, tasks_of
from acdtask.cube.jobs import Consolidates, Level, TaskState
from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import Addition, Cube, Instance
from acdtask.errors import ErrorCode
from acdtask.raster.grid import Layout, RegularGrid, WebMercatorGrid
from tests.cube.builders import COHERENCE, dataset, grid, put_image, record
from tests.serve.consolidation.small_cube import (
    CELLS,
    IDS,
    LAYOUT,
    RECORDS,
    consolidated,
    consolidation,
    digests,
    expected_stack,
    jobs_of,
    make_cube,
    refused,
    stack,
    work,
    work_to,
)

PAUSES = {
    Level.ASYNCHRONOUS: [],
    Level.CRITICAL: ["CONSOLIDATIONINPROGRESS", "CONSOLIDATIONEFFECTIVE"],
    Level.MAJOR: ["CREATED", "CONSOLIDATIONINPROGRESS", "CONSOLIDATIONDONE", "CONSOLIDATIONEFFECTIVE"],
    Level.ALL: [
        "CREATED",
        "CONSOLIDATIONINPROGRESS",
        "CONSOLIDATIONDONE",
        "CONSOLIDATIONINDEXED",
        "CONSOLIDATIONEFFECTIVE",
    ],
}


@pytest.fixture
def cube(tmp_path: Path) -> LocalCube:
    return make_cube(str(tmp_path / "cube"))


def test_jobs_of_a_local_cube_consolidate(cube: LocalCube) -> None:
    room: Cube = cube
    jobs: Consolidates = jobs_of(cube)
    assert (room.layouts(), jobs.jobs()) == ([LAYOUT], [])
    assert isinstance(jobs, Advances)


@pytest.mark.parametrize("level", list(Level))
def test_a_job_pauses_as_its_level_says(place: str, level: Level) -> None:
    cube = make_cube(place)
    job_id = jobs_of(cube).consolidate(consolidation(level=level))
    assert jobs_of(cube).job("first") == jobs_of(cube).job(job_id)
    assert (jobs_of(cube).job(job_id).state, jobs_of(cube).job(job_id).waiting) == ("NEW", False)
    pauses = []
    while (job := work(cube, job_id)).state != "DONE":
        assert job.waiting
        pauses.append(job.state)
        assert not jobs_of(cube).advance(job_id)
        assert job.active_tasks == (4 if job.state == "CONSOLIDATIONINPROGRESS" else 0)
        assert bool(consolidated(cube)) == (job.state == "CONSOLIDATIONEFFECTIVE")
        jobs_of(cube).continue_job(job_id)
        with refused(ErrorCode.JOB_STATE, "does not wait"):
            jobs_of(cube).continue_job(job_id)
    assert pauses == PAUSES[level]
    assert (job.waiting, job.active_tasks, job.failed_tasks, job.kind) == (False, 0, 0, "consolidation")
    assert {(dataset.record_id, dataset.cell) for dataset in consolidated(cube)} == {
        (record_id, cell) for record_id in IDS for cell in CELLS
    }
    for cell in CELLS:
        np.testing.assert_array_equal(stack(cube, cell), expected_stack(cell))
    assert len(cube.datasets("CoherenceVV", "master")) == 3 + 12, "sources stay"


def test_consolidated_pixels_are_read_from_the_container(cube: LocalCube) -> None:
    work(cube, jobs_of(cube).consolidate(consolidation()))
    for number in range(3):
        cube.store.delete(f"pixels/{number}.tif")
    np.testing.assert_array_equal(stack(cube, "1/1"), expected_stack("1/1"))


def test_its_log_has_geocubes_format(cube: LocalCube) -> None:
    job = work(cube, jobs_of(cube).consolidate(consolidation()))
    log = job.log
    form = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z - (DEBUG|INFO|WARN|ERROR) \| Status: [A-Z]+ - Message: .+"
    assert [text for text in log if not re.fullmatch(form, text)] == []
    prepared = [text for text in log if "Prepare 1" in text]
    assert len(prepared) == 4
    assert re.search(
        r"Prepare 1 container\(s\) with 3 record\(s\) and 3 dataset\(s\) \(Cell:0/0, geographic: "
        r"\[\[7\.\d+ 50\.\d+\]( \[7\.\d+ 50\.\d+\]){4}\]\) \(id:[0-9a-f-]{36}\)$",
        prepared[0],
    )
    tasks = tasks_of(log)
    assert list(tasks) == list(CELLS)
    assert {task.state for task in tasks.values()} == {TaskState.DONE}
    assert job.tasks == tuple(tasks.values())
    states = list(dict.fromkeys(text.split(" Status: ")[1].split(" ")[0] for text in log))
    assert states == ["NEW", *PAUSES[Level.ALL], "DONE"]
    times = [datetime.fromisoformat(text.split(" ")[0]) for text in log]
    assert times == sorted(times)


@pytest.mark.parametrize("life", ["done", "failed", "cancelled", "retried"])
def test_a_client_reads_the_state_of_the_job_in_its_log(cube: LocalCube, tmp_path: Path, life: str) -> None:
    jobs = jobs_of(cube)
    source = tmp_path / "cube" / "pixels" / "1.tif"
    pixels = source.read_bytes()
    if life in ("failed", "retried"):
        source.unlink()
    job_id = jobs.consolidate(consolidation())
    if life == "cancelled":
        work_to(cube, job_id, "CONSOLIDATIONINPROGRESS")
        assert jobs.advance(job_id)
        jobs.cancel_job(job_id)
    job = work(cube, job_id)
    if life == "retried":
        source.write_bytes(pixels)
        jobs.retry_job(job_id)
        job = work_to(cube, job_id, "CONSOLIDATIONINPROGRESS")
        assert job.entries == 2
        job = work(cube, job_id)
    assert job.state == {"failed": "CONSOLIDATIONFAILED", "cancelled": "FAILED"}.get(life, "DONE")
    assert job.cancelled == (life == "cancelled")
    assert bool(job.error) == (life in ("failed", "retried"))
    read = read_log(job.model_copy(update={"entries": 0, "cancelled": False, "error": "", "tasks": ()}))
    assert (read.entries, read.cancelled, read.tasks) == (job.entries, job.cancelled, job.tasks)
    assert read.error.endswith(job.error)


def test_consolidating_again_is_done_without_tasks(cube: LocalCube, tmp_path: Path) -> None:
    work(cube, jobs_of(cube).consolidate(consolidation()))
    before = digests(tmp_path / "cube" / "consolidated")
    job = work(cube, jobs_of(cube).consolidate(consolidation(name="again")))
    assert job.state == "DONE"
    assert job.tasks == ()
    assert digests(tmp_path / "cube" / "consolidated") == before


def test_a_new_record_gets_a_container_of_its_own(cube: LocalCube) -> None:
    work(cube, jobs_of(cube).consolidate(consolidation(records=IDS[:2])))
    job = work(cube, jobs_of(cube).consolidate(consolidation(name="more", records=(*IDS, IDS[0]))))
    assert job.state == "DONE"
    assert {task.records for task in job.tasks} == {1}
    np.testing.assert_array_equal(stack(cube, "0/0"), expected_stack("0/0"))


def test_job_after_job_appends_to_small_containers(tmp_path: Path) -> None:
    records = tuple(record(number) for number in range(6))
    cube = make_cube(str(tmp_path / "cube"), records)
    sizes: list[list[int]] = []
    files: dict[str, str] = {}
    for number in range(6):
        wanted = tuple(record.id for record in records[: number + 1])
        job = work(cube, jobs_of(cube).consolidate(consolidation(name=f"day{number}", records=wanted)))
        assert job.state == "DONE"
        assert files.items() <= digests(tmp_path / "cube" / "consolidated").items(), "older containers are not changed"
        files = digests(tmp_path / "cube" / "consolidated")
        uris = [dataset.uri for dataset in consolidated(cube) if dataset.cell == "1/0"]
        sizes.append(sorted((uris.count(uri) for uri in set(uris)), reverse=True))
    assert sizes == [[1], [2], [2, 1], [4], [4, 1], [4, 2]]
    np.testing.assert_array_equal(stack(cube, "1/0"), expected_stack("1/0"))


def test_a_cancelled_job_leaves_the_containers_that_it_would_have_appended_to(cube: LocalCube, tmp_path: Path) -> None:
    work(cube, jobs_of(cube).consolidate(consolidation(records=IDS[:1])))
    before, copies = digests(tmp_path / "cube" / "consolidated"), consolidated(cube)
    job_id = jobs_of(cube).consolidate(consolidation(name="second", level=Level.CRITICAL))
    work_to(cube, job_id, "CONSOLIDATIONINPROGRESS")
    jobs_of(cube).continue_job(job_id)
    assert jobs_of(cube).advance(job_id)
    jobs_of(cube).cancel_job(job_id)
    assert work(cube, job_id).state == "FAILED"
    assert digests(tmp_path / "cube" / "consolidated") == before
    assert consolidated(cube) == copies


@pytest.mark.parametrize(
    "layout",
    [
        Layout(name="mercator", grid=WebMercatorGrid(zoom=13)),
        Layout(name="lonlat", grid=RegularGrid(crs="EPSG:4326", resolution=0.0003, cell_size=128)),
    ],
)
def test_another_layout_is_made_from_the_sources(cube: LocalCube, layout: Layout) -> None:
    cube.add_layout(layout)
    job = work(cube, jobs_of(cube).consolidate(consolidation(layout=layout.name)))
    assert job.state == "DONE"
    cells = [task.cell for task in job.tasks]
    before = {cell: stack(make_cube(f"{cube.store.url}-2"), cell, layout) for cell in cells}
    assert len(cells) > 1
    assert any((pixels != -1).any() for pixels in before.values())
    for cell, pixels in before.items():
        np.testing.assert_array_equal(stack(cube, cell, layout), pixels)
    assert work(cube, jobs_of(cube).consolidate(consolidation(name="utm"))).state == "DONE"
    np.testing.assert_array_equal(stack(cube, "1/0"), expected_stack("1/0"))


def test_an_unknown_layout_fails_the_job_and_a_retry_repairs_it(cube: LocalCube) -> None:
    job_id = jobs_of(cube).start(consolidation(layout="nowhere"))
    job = work(cube, job_id)
    assert (job.state, job.waiting) == ("INITIALISATIONFAILED", False)
    assert "nowhere" in job.error
    with refused(ErrorCode.DATASET_LOCKED, "job first"):
        jobs_of(cube).consolidate(consolidation(name="second"))
    cube.add_layout(Layout(name="nowhere", grid=RegularGrid(crs="EPSG:32632", resolution=20, cell_size=50)))
    jobs_of(cube).retry_job(job_id)
    assert work(cube, job_id).state == "DONE"


def test_invalid_consolidations_are_refused_immediately(cube: LocalCube) -> None:
    cube.add_variable(COHERENCE.model_copy(update={"name": "Two", "bands": ("a", "b")}))
    cube.add_instance(Instance(variable="Two", name="master"))
    for wrong, code, match in (
        (
            consolidation(records=(record(77).id,)),
            ErrorCode.INPUT_MISSING,
            "No dataset found for these records and instances",
        ),
        (consolidation(records=()), ErrorCode.SETTING_INVALID, "names no record"),
        (consolidation(variable="Nope"), ErrorCode.VARIABLE_UNKNOWN, "Nope"),
        (consolidation(instance="nope"), ErrorCode.INSTANCE_UNKNOWN, "nope"),
        (consolidation(layout="nowhere"), ErrorCode.LAYOUT_UNKNOWN, "nowhere"),
        (consolidation(variable="Two"), ErrorCode.INPUT_BANDS, "Two"),
        (consolidation(name=" "), ErrorCode.SETTING_INVALID, "name"),
        (consolidation(name="x" * 201), ErrorCode.SETTING_INVALID, "name"),
    ):
        with refused(code, match):
            jobs_of(cube).consolidate(wrong)
    assert jobs_of(cube).jobs() == []
    jobs = jobs_of(cube)
    for method in (jobs.job, jobs.continue_job, jobs.retry_job, jobs.cancel_job, jobs.advance):
        for unknown in ("nope", "../../x", "3b0f1a51-9a3b-4c5e-8c39-4a5b64d0f0aa"):
            with refused(ErrorCode.JOB_UNKNOWN):
                method(unknown)


def test_a_name_is_taken_once(place: str) -> None:
    cube = make_cube(place)
    jobs_of(cube).consolidate(consolidation())
    with refused(ErrorCode.JOB_CONFLICT, "'first'"):
        jobs_of(cube).consolidate(consolidation())
    work(cube, "first")
    with refused(ErrorCode.JOB_CONFLICT):
        jobs_of(cube).consolidate(consolidation())
    assert jobs_of(cube).forget("fir*") == 1
    with refused(ErrorCode.JOB_UNKNOWN):
        jobs_of(cube).job("first")
    assert work(cube, jobs_of(cube).consolidate(consolidation())).state == "DONE"


def test_datasets_are_locked_until_the_job_has_ended(cube: LocalCube) -> None:
    cube.add_instance(Instance(variable="CoherenceVV", name="other"))
    stored = put_image(cube.store, "pixels/other.tif", np.ones((90, 100), np.int16), grid(100, 90))
    cube.index([], [dataset(RECORDS[2], stored.uri, grid=grid(100, 90), instance="other")])
    jobs_of(cube).consolidate(consolidation(records=IDS[:2]))
    other = LocalCube.open(cube.store.url)
    with refused(ErrorCode.DATASET_LOCKED, r"job first \(NEW\) holds 1 of the 2 records"):
        jobs_of(other).consolidate(consolidation(name="second", records=IDS[1:]))
    jobs_of(other).consolidate(consolidation(name="third", records=IDS[2:]))
    work(cube, "third")
    jobs_of(other).consolidate(consolidation(name="fourth", instance="other"))
    assert [job.name for job in jobs_of(other).jobs()] == ["first", "third", "fourth"]
    work(cube, "first")
    assert work(other, jobs_of(other).consolidate(consolidation(name="second", records=IDS[1:]))).state == "DONE"


def test_jobs_are_listed_by_pattern_and_age(place: str) -> None:
    cube = make_cube(place)
    for number, name in enumerate(["b/1", "a/2", "A [x]"]):
        jobs_of(cube).consolidate(consolidation(name=name, records=(IDS[number],)))
    assert [job.name for job in jobs_of(cube).jobs()] == ["b/1", "a/2", "A [x]"]
    assert [job.name for job in jobs_of(cube).jobs("a*")] == ["a/2"]
    assert [job.name for job in jobs_of(cube).jobs("a*(?i)")] == ["a/2", "A [x]"]
    assert [job.name for job in jobs_of(cube).jobs("A [x]")] == ["A [x]"]
    assert [job.name for job in jobs_of(cube).jobs("?/?")] == ["b/1", "a/2"]


def test_a_damaged_source_fails_its_cells_and_a_retry_does_only_them(cube: LocalCube, tmp_path: Path) -> None:
    # A fourth image that meets the two cells on the right alone.
    right = grid(30, 90, transform=(20, 0, 401400, 0, -20, 5600000))
    late = record(3)
    cube.commit(Addition([late]))
    file = tmp_path / "late.tif"
    stored = put_image(cube.store, "late.tif", np.ones((90, 30), np.int16), right)
    cube.index([], [dataset(late, str(file), grid=right)])
    job_id = jobs_of(cube).consolidate(consolidation(records=(*IDS, late.id)))
    job = work(cube, job_id)
    assert (job.state, job.failed_tasks, job.active_tasks) == ("CONSOLIDATIONFAILED", 2, 0)
    assert str(file) in job.error
    tasks = {task.cell: task for task in job.tasks}
    assert {cell for cell, task in tasks.items() if task.state is TaskState.FAILED} == {"1/0", "1/1"}
    assert str(file) in tasks["1/0"].reason
    assert consolidated(cube) == []
    assert not jobs_of(cube).advance(job_id)
    written = digests(tmp_path / "cube" / "consolidated")
    jobs_of(cube).retry_job(job_id)
    assert work(cube, job_id).state == "CONSOLIDATIONFAILED", "the file is still damaged"
    file.write_bytes((tmp_path / "cube" / stored.uri).read_bytes())
    jobs_of(cube).retry_job(job_id)
    job = work(cube, job_id)
    assert (job.state, job.failed_tasks) == ("DONE", 0)
    assert job.count(TaskState.DONE) == 4
    assert written.items() <= digests(tmp_path / "cube" / "consolidated").items()
    np.testing.assert_array_equal(stack(cube, "1/1"), expected_stack("1/1"))
    with refused(ErrorCode.JOB_STATE, "nothing to retry"):
        jobs_of(cube).retry_job(job_id, force=True)


def test_a_container_that_is_lost_before_it_is_indexed_is_made_again(cube: LocalCube) -> None:
    job_id = jobs_of(cube).consolidate(consolidation(level=Level.MAJOR))
    work_to(cube, job_id, "CONSOLIDATIONDONE")
    lost = next(key for key in cube.store.list("consolidated") if key.endswith(".zarr/zarr.json"))
    cube.store.delete(lost)
    jobs_of(cube).continue_job(job_id)
    job = work(cube, job_id)
    assert (job.state, job.failed_tasks) == ("CONSOLIDATIONFAILED", 1)
    jobs_of(cube).retry_job(job_id)
    assert work_to(cube, job_id, "DONE").failed_tasks == 0
    for cell in CELLS:
        np.testing.assert_array_equal(stack(cube, cell), expected_stack(cell))


def test_datasets_consolidated_by_others_meanwhile_are_kept(cube: LocalCube) -> None:
    job_id = jobs_of(cube).consolidate(consolidation(level=Level.ALL))
    work_to(cube, job_id, "CONSOLIDATIONINDEXED")
    theirs = put_image(cube.store, "theirs.tif", expected_stack("0/0")[1], grid(64, 64))
    cube.index([], [dataset(RECORDS[1], theirs.uri, grid=grid(64, 64), layout="utm", cell="0/0")])
    jobs_of(cube).continue_job(job_id)
    job = work_to(cube, job_id, "DONE")
    assert any("1 dataset(s) were consolidated by others" in text for text in job.log)
    assert [dataset.uri for dataset in consolidated(cube) if (dataset.record_id, dataset.cell) == (IDS[1], "0/0")] == [
        "theirs.tif"
    ]
    np.testing.assert_array_equal(stack(cube, "0/0"), expected_stack("0/0"))
