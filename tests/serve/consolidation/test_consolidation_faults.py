"""Jobs that are killed, done concurrently, or interrupted and continued have the same results."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acdtask.cube.follow import End, JobEvent, follow, require_done
from acdtask.cube.jobs import Level, TaskState
from acdtask.cube.local.cube import LocalCube
from acdtask.cube.local.stack import StackWriter
from acdtask.cube.model import Dataset
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.grid import Layout, RegularGrid
from acdtask.serve.consolidation import jobs, journal
from acdtask.serve.consolidation.runner import JobRunner
from acdtask.storage.store import Store
from tests.conftest import CHECKOUT
from tests.serve.consolidation.small_cube import (
    CELLS,
    IDS,
    consolidated,
    consolidation,
    digests,
    expected_stack,
    jobs_of,
    make_cube,
    stack,
    work,
)

WIDE = Layout(name="wide", grid=RegularGrid(crs="EPSG:32632", resolution=20, cell_size=96, ox=400000, oy=5600000))
"""Two cells suffice for tests that repeat a job many times."""

WRITES = ("put", "create", "delete")


class KilledError(BaseException):
    """Simulates the end of the process: nothing catches it, and nothing more is written."""


@contextmanager
def killed_at(number: int, patch: pytest.MonkeyPatch, *, written: bool) -> Iterator[Callable[[], int]]:
    """Raise before or after the write with this number; returns the counter of writes."""
    count = 0

    def dying(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal count
            count += 1
            if count > number or (count == number and not written):
                raise KilledError
            done = original(*arguments, **named)
            if count == number:
                raise KilledError
            return done

        return call

    with patch.context() as patched:
        for name in WRITES:
            patched.setattr(Store, name, dying(getattr(Store, name)))
        patched.setattr(StackWriter, "write", dying(StackWriter.write))
        yield lambda: count


def start_or_find(cube: LocalCube) -> str:
    """Run the interrupted command again, as a person would."""
    started = jobs_of(cube).jobs("first")
    return started[0].id if started else jobs_of(cube).consolidate(consolidation(layout="wide", records=IDS[:2]))


def start_and_work(folder: Path) -> str:
    cube = LocalCube.open(str(folder))
    return work(cube, start_or_find(cube)).state


def results(cube: LocalCube, folder: Path) -> tuple[list[Dataset], dict[str, str]]:
    return cube.datasets("CoherenceVV", "master"), digests(folder / "consolidated")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared") / "cube"
    make_cube(str(folder)).add_layout(WIDE)
    return folder


@pytest.mark.parametrize("written", [False, True])
def test_a_kill_at_any_write_changes_nothing(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    monkeypatch.setattr(journal, "LEASE_SECONDS", 0.0)
    undisturbed = tmp_path / "undisturbed"
    shutil.copytree(prepared, undisturbed)
    cube = LocalCube.open(str(undisturbed))
    with killed_at(10**6, monkeypatch, written=written) as count:
        work(cube, start_or_find(cube))
        writes = count()
    expected = results(cube, undisturbed)
    assert writes > 30
    assert len(expected[0]) == 3 + 4
    for number in range(1, writes + 1):
        folder = tmp_path / f"killed{number}"
        shutil.copytree(prepared, folder)
        with killed_at(number, monkeypatch, written=written), pytest.raises(KilledError):
            start_and_work(folder)
        assert start_and_work(folder) == "DONE", number
        cube = LocalCube.open(str(folder))
        assert results(cube, folder) == expected, number
        assert len(jobs_of(cube).jobs()) == 1
        shutil.rmtree(folder)


def test_a_kill_at_any_write_of_a_rollback_leaves_nothing(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "LEASE_SECONDS", 0.0)

    def cancel_and_work(cube: LocalCube) -> None:
        if jobs_of(cube).job("first").state == "CONSOLIDATIONDONE":
            jobs_of(cube).cancel_job("first")
        work(cube, "first")

    folders = []
    for name in ("undisturbed", "template"):
        shutil.copytree(prepared, tmp_path / name)
        folders.append(tmp_path / name)
        cube = LocalCube.open(str(tmp_path / name))
        job_id = jobs_of(cube).consolidate(consolidation(level=Level.MAJOR, layout="wide", records=IDS[:2]))
        while work(cube, job_id).state != "CONSOLIDATIONDONE":
            jobs_of(cube).continue_job(job_id)
    with killed_at(10**6, monkeypatch, written=True) as count:
        cancel_and_work(LocalCube.open(str(folders[0])))
        writes = count()
    assert writes > 6
    for number in range(1, writes + 1):
        folder = tmp_path / f"killed{number}"
        shutil.copytree(folders[1], folder)
        with killed_at(number, monkeypatch, written=True), pytest.raises(KilledError):
            cancel_and_work(LocalCube.open(str(folder)))
        cube = LocalCube.open(str(folder))
        cancel_and_work(cube)
        assert jobs_of(cube).job("first").state == "FAILED", number
        assert digests(folder / "consolidated") == {}, number
        jobs_of(cube).consolidate(consolidation(name="second"))
        shutil.rmtree(folder)


def test_a_process_that_is_killed_leaves_a_job_that_another_ends(prepared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cube"
    shutil.copytree(prepared, folder)
    job_id = jobs_of(LocalCube.open(str(folder))).consolidate(consolidation())
    slow = (
        "import sys, time\n"
        "from acdtask.cube.local.stack import StackWriter\n"
        "from acdtask.cube.local.cube import LocalCube\n"
        "from acdtask.serve.consolidation.jobs import ConsolidationJobs\n"
        "finish = StackWriter.finish\n"
        "def slowly(writer):\n"
        "    print('writing', flush=True)\n"
        "    time.sleep(1)\n"
        "    finish(writer)\n"
        "StackWriter.finish = slowly\n"
        "jobs = ConsolidationJobs(LocalCube.open(sys.argv[1]))\n"
        "while jobs.advance(sys.argv[2]): pass\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", slow, str(folder), job_id], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.readline()
    process.kill()
    process.wait()
    process.stdout.close()
    cube = LocalCube.open(str(folder))
    assert jobs_of(cube).job(job_id).state == "CONSOLIDATIONINPROGRESS"
    assert not jobs_of(cube).advance(job_id), "its lease goes on for a while"
    jobs_of(cube).retry_job(job_id, force=True)
    job = work(cube, job_id)
    assert (job.state, job.count(TaskState.DONE)) == ("DONE", 4)
    np.testing.assert_array_equal(stack(cube, "1/1"), expected_stack("1/1"))


@pytest.mark.parametrize("lease", [0.0, 30.0])
def test_many_processes_do_a_job_once(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lease: float
) -> None:
    """With leases of no duration, all processes do every step concurrently."""
    monkeypatch.setattr(journal, "LEASE_SECONDS", lease)
    folder, single = tmp_path / "cube", tmp_path / "single"
    shutil.copytree(prepared, folder)
    shutil.copytree(prepared, single)
    work(LocalCube.open(str(single)), jobs_of(LocalCube.open(str(single))).consolidate(consolidation()))
    job_id = jobs_of(LocalCube.open(str(folder))).consolidate(consolidation())

    def worker(_: int) -> None:
        jobs = jobs_of(LocalCube.open(str(folder)))
        while jobs.job(job_id).state != "DONE":
            jobs.advance(job_id)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(worker, range(4)))
    cube = LocalCube.open(str(folder))
    assert results(cube, folder) == results(LocalCube.open(str(single)), single)
    log = jobs_of(cube).job(job_id).log
    assert sum("TaskSuccessful" in text for text in log) == 4, "each cell is reported once"
    assert len([text for text in log if "New state: DONE" in text]) == 1


def test_only_one_of_many_jobs_locks_the_same_datasets(prepared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cube"
    shutil.copytree(prepared, folder)

    def start(number: int) -> str:
        try:
            return jobs_of(LocalCube.open(str(folder))).consolidate(
                consolidation(name=f"job{number % 5}", records=IDS[number % 2 :])
            )
        except AcdError as error:
            return error.code.name

    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(start, range(20)))
    cube = LocalCube.open(str(folder))
    (job,) = jobs_of(cube).jobs()
    assert replies.count(job.id) == 1
    assert set(replies) <= {job.id, "DATASET_LOCKED", "JOB_CONFLICT"}
    assert work(cube, job.id).state == "DONE"


@contextmanager
def running(runner: JobRunner) -> Iterator[JobRunner]:
    runner.start()
    try:
        yield runner
    finally:
        runner.stop()


def no_errors(job_id: str, error: Exception) -> None:
    raise AssertionError(job_id) from error


def test_runners_do_the_jobs_and_followers_only_watch(prepared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cube"
    shutil.copytree(prepared, folder)
    cube = LocalCube.open(str(folder))
    faults: list[Exception] = []
    other = LocalCube.open(str(folder))

    def note(job_id: str, error: Exception) -> None:
        del job_id
        faults.append(error)

    with running(JobRunner(jobs_of(cube), note, threads=2)) as runner, running(JobRunner(jobs_of(other), note)):
        ids = [
            jobs_of(cube).consolidate(consolidation(name=f"j{n}", records=(IDS[n],), level=Level.CRITICAL))
            for n in range(3)
        ]
        runner.wake()
        approved: list[str] = []

        def approve(job: object) -> bool:
            approved.append(str(getattr(job, "state", "")))
            return True

        for job_id in ids:
            require_done(follow(jobs_of(cube), job_id, approve, poll=0.05, timeout=300))
    assert faults == []
    assert approved == ["CONSOLIDATIONINPROGRESS", "CONSOLIDATIONEFFECTIVE"] * 3
    for cell in CELLS:
        np.testing.assert_array_equal(stack(cube, cell), expected_stack(cell))


def test_a_runner_continues_unfinished_jobs(prepared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cube"
    shutil.copytree(prepared, folder)
    first = LocalCube.open(str(folder))
    job_id = jobs_of(first).consolidate(consolidation())
    for _ in range(3):
        assert jobs_of(first).advance(job_id)
    assert jobs_of(first).job(job_id).active_tasks == 3
    cube = LocalCube.open(str(folder))
    with running(JobRunner(jobs_of(cube), no_errors, poll=0.05)):
        ended = follow_only(cube, job_id)
    assert ended == "DONE"


def follow_only(cube: LocalCube, job_id: str) -> str:
    jobs = jobs_of(cube)
    for _ in range(2400):
        state = jobs.job(job_id).state
        if state == "DONE":
            return state
        time.sleep(0.05)
    return state


def test_a_runner_that_is_stopped_leaves_a_step_that_another_does(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cube"
    shutil.copytree(prepared, folder)
    cube = LocalCube.open(str(folder))
    begun, go_on = threading.Event(), threading.Event()
    write = StackWriter.write

    def held(writer: StackWriter, *arguments: Any) -> None:
        begun.set()
        go_on.wait(120)
        write(writer, *arguments)

    # Blocks of a chunk, so that a cell has many; the stop is seen before the second.
    monkeypatch.setattr("acdtask.cube.local.consolidation_cell.BLOCK", 16)
    monkeypatch.setattr("acdtask.cube.local.stack.CHUNK_PIXELS", 16)
    monkeypatch.setattr(StackWriter, "write", held)
    runner = JobRunner(jobs_of(cube), no_errors)
    runner.start()
    job_id = jobs_of(cube).consolidate(consolidation())
    runner.wake()
    assert begun.wait(120)
    assert not runner.stop(timeout=0.1), "it is within a block"
    go_on.set()
    assert runner.stop(timeout=120)
    assert jobs_of(cube).job(job_id).active_tasks == 4, "the cell is not finished"
    assert work(cube, job_id).state == "DONE"
    np.testing.assert_array_equal(stack(cube, "0/1"), expected_stack("0/1"))


def test_a_cell_that_is_being_written_sees_that_the_job_was_cancelled(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cube"
    shutil.copytree(prepared, folder)
    cube = LocalCube.open(str(folder))
    monkeypatch.setattr("acdtask.cube.local.consolidation_cell.BLOCK", 16)
    monkeypatch.setattr("acdtask.cube.local.stack.CHUNK_PIXELS", 16)
    monkeypatch.setattr(jobs, "LOOK_SECONDS", 0.0)
    job_id = jobs_of(cube).consolidate(consolidation())
    blocks = 0
    write = StackWriter.write

    def cancelling(writer: StackWriter, *arguments: Any) -> None:
        nonlocal blocks
        blocks += 1
        if blocks == 3:
            jobs_of(LocalCube.open(str(folder))).cancel_job(job_id)
        write(writer, *arguments)

    monkeypatch.setattr(StackWriter, "write", cancelling)
    job = work(cube, job_id)
    assert (job.state, blocks) == ("FAILED", 3)
    assert digests(folder / "consolidated") == {}


def test_a_command_given_during_a_step_is_not_lost(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step begins before the command and ends after it, so its event is discarded."""
    folder = tmp_path / "cube"
    shutil.copytree(prepared, folder)
    cube = LocalCube.open(str(folder))
    monkeypatch.setattr(jobs, "LOOK_SECONDS", 1e6)
    job_id = jobs_of(cube).consolidate(consolidation())
    finish = StackWriter.finish
    commands: list[str] = []

    def cancelling(writer: StackWriter) -> None:
        finish(writer)
        if not commands:
            commands.append("cancel")
            jobs_of(LocalCube.open(str(folder))).cancel_job(job_id)

    monkeypatch.setattr(StackWriter, "finish", cancelling)
    job = work(cube, job_id)
    assert (job.state, commands) == ("FAILED", ["cancel"])
    assert not any("TaskSuccessful" in text for text in job.log)
    assert digests(folder / "consolidated") == {}


def test_an_unavailable_store_is_retried_and_a_bug_becomes_a_state(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cube"
    shutil.copytree(prepared, folder)
    cube = LocalCube.open(str(folder))
    monkeypatch.setattr("acdtask.serve.consolidation.runner.FIRST_DELAY", 0.05)
    faults: list[tuple[str, Exception]] = []
    replace, times = LocalCube.replace, 0

    def away(*arguments: Any, **named: Any) -> list[Dataset]:
        nonlocal times
        times += 1
        if times < 3:
            raise AcdError(ErrorCode.STORE_UNREACHABLE, "it does not answer")
        if times == 3:
            raise ZeroDivisionError("seven by nought")
        return replace(*arguments, **named)

    monkeypatch.setattr(LocalCube, "replace", away)
    job_id = jobs_of(cube).consolidate(consolidation())
    with running(JobRunner(jobs_of(cube), lambda job, error: faults.append((job, error)), poll=0.05)):
        deadline = time.monotonic() + 120
        while jobs_of(cube).job(job_id).state != "CONSOLIDATIONFAILED" and time.monotonic() < deadline:
            time.sleep(0.05)
        assert [type(error).__name__ for _, error in faults] == ["AcdError", "AcdError", "ZeroDivisionError"]
        assert {job for job, _ in faults} == {job_id}
        assert "seven by nought" in "".join(jobs_of(cube).job(job_id).log)
        jobs_of(cube).retry_job(job_id)
        assert follow_only(cube, job_id) == "DONE"


def test_a_full_disk_waits_for_a_person(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cube"
    shutil.copytree(prepared, folder)
    cube = LocalCube.open(str(folder))

    def full(writer: StackWriter) -> None:
        raise AcdError(ErrorCode.DISK_FULL, f"{writer.shape} cannot be written")

    job_id = jobs_of(cube).consolidate(consolidation())
    with monkeypatch.context() as patch:
        patch.setattr(StackWriter, "finish", full)
        ending = follow(jobs_of(cube), job_id)
    assert ending.end is End.STUCK
    assert "ACD-403" in ending.error
    with pytest.raises(AcdError, match="ACD-709"):
        require_done(ending)
    jobs_of(cube).retry_job(job_id)
    assert follow(jobs_of(cube), job_id).is_done


def test_without_a_server_the_follower_does_the_work(prepared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cube"
    shutil.copytree(prepared, folder)
    cube = LocalCube.open(str(folder))
    events: list[JobEvent] = []
    job_id = jobs_of(cube).consolidate(consolidation(level=Level.ALL))
    ending = follow(jobs_of(cube), job_id, lambda job: job.waiting, events.append)
    assert require_done(ending).state == "DONE"
    assert [event.job.state for event in events if event.continued] == [
        "CREATED",
        "CONSOLIDATIONINPROGRESS",
        "CONSOLIDATIONDONE",
        "CONSOLIDATIONINDEXED",
        "CONSOLIDATIONEFFECTIVE",
    ]
    assert tuple(text for event in events for text in event.lines) == ending.job.log
    assert [event.job.active_tasks for event in events if event.job.state == "CONSOLIDATIONINPROGRESS"][-1] == 0
    assert len(consolidated(cube)) == 12
    jobs_of(cube).cancel_job(jobs_of(cube).consolidate(consolidation(name="none", level=Level.MAJOR)), force=True)
    assert follow(jobs_of(cube), "none", lambda _: True).end is End.CANCELLED
