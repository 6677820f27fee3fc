"""Jobs: started once, read with their complete log, continued once per pause; lock errors name the holder."""

from __future__ import annotations

import threading
from collections import deque

import numpy as np
import pytest

from acdtask.cube.geocube.cube import GeocubeCube
from acdtask.cube.jobs import Consolidation, Level
from acdtask.cube.protocol.jobs_pb2 import Job
from acdtask.cube.protocol.layouts_pb2 import Layout as LayoutMessage
from acdtask.errors import AcdError, ErrorCode
from tests.cube.geocube.scripted import Code, Fault, Scripted, record_of

JOB = "00000000-0000-0000-0000-00000000000a"
GRID = {"grid": "regular", "crs": "EPSG:32632", "resolution": "20", "cell_size": "64"}


def wanted(**changes: object) -> Consolidation:
    fields: dict[str, object] = {
        "name": "first",
        "variable": "v",
        "instance": "master",
        "layout": "utm",
        "records": (record_of(0).id,),
    }
    return Consolidation.model_validate(fields | changes)


@pytest.fixture
def ready(world: Scripted) -> Scripted:
    """A server with a record that can be consolidated."""
    world.put(record_of(0), np.zeros((5, 7), "int16"))
    world.layouts["utm"] = LayoutMessage(name="utm", grid_parameters=GRID)
    return world


def test_a_job_sets_default_parameters_if_there_are_none(ready: Scripted, cube: GeocubeCube) -> None:
    job_id = cube.consolidate(wanted(level=Level.CRITICAL))
    assert cube.job(job_id).name == cube.job("first").name == "first"
    (configured,), (asked,) = ready.calls["ConfigConsolidation"], ready.calls["Consolidate"]
    assert configured.variable_id == ready.variable_id
    assert configured.consolidation_params.exponent == 1
    assert (asked.layout_name, asked.execution_level, list(asked.records.ids)) == ("utm", 2, list(ready.records))


def test_a_job_whose_reply_is_lost_is_found_again(ready: Scripted, cube: GeocubeCube) -> None:
    ready.faults["Consolidate"] = deque([Fault(), Fault(processed=True)])
    job_id = cube.consolidate(wanted())
    assert list(ready.jobs) == [job_id]


def test_a_name_that_is_taken_is_refused(ready: Scripted, cube: GeocubeCube) -> None:
    cube.consolidate(wanted())
    with pytest.raises(AcdError, match="already has a job first") as error:
        cube.consolidate(wanted())
    assert error.value.code is ErrorCode.JOB_CONFLICT


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"a": "CONSOLIDATIONFAILED", "b": "DONE"}, r"the only unfinished job is a \(CONSOLIDATIONFAILED\)"),
        ({"a": "CREATED", "b": "NEW", "c": "FAILED"}, r"one of 2 unfinished jobs: a \(CREATED\), b \(NEW\)"),
        ({"a": "DONE"}, "has just ended"),
    ],
)
def test_a_lock_error_names_the_possible_holders(
    ready: Scripted, cube: GeocubeCube, names: dict[str, str], message: str
) -> None:
    for number, (name, state) in enumerate(names.items()):
        ready.jobs[name] = Job(id=str(number), name=name, state=state)
    ready.faults["Consolidate"] = deque(
        [Fault(Code.ALREADY_EXISTS, "Dataset is already locked: 4f", ("dataset", "4f"))]
    )
    with pytest.raises(AcdError, match=message) as error:
        cube.consolidate(wanted())
    assert error.value.code is ErrorCode.DATASET_LOCKED


def test_invalid_consolidations_are_refused_without_a_call(ready: Scripted, cube: GeocubeCube) -> None:
    refused: list[tuple[dict[str, object], ErrorCode]] = [
        ({"layout": "none"}, ErrorCode.LAYOUT_UNKNOWN),
        ({"variable": "none"}, ErrorCode.VARIABLE_UNKNOWN),
        ({"instance": "none"}, ErrorCode.INSTANCE_UNKNOWN),
        ({"records": ()}, ErrorCode.SETTING_INVALID),
        ({"name": " "}, ErrorCode.SETTING_INVALID),
        ({"records": (record_of(7).id,)}, ErrorCode.INPUT_MISSING),
    ]
    for change, code in refused:
        with pytest.raises(AcdError) as error:
            cube.consolidate(wanted(**change))
        assert error.value.code is code, change
    assert ready.calls["Consolidate"] == []


@pytest.mark.parametrize("count", [0, 1, 999, 1000, 1001, 3500])
def test_a_log_of_any_length_is_read_completely(world: Scripted, cube: GeocubeCube, count: int) -> None:
    lines = [f"2026-11-23T03:29:43.60Z - INFO | Status: NEW - Message: {number}" for number in range(count)]
    world.jobs[JOB] = Job(id=JOB, name="j", state="NEW", logs=lines)
    assert cube.job(JOB).log == tuple(lines)


def test_a_pause_is_continued_once(world: Scripted, cube: GeocubeCube) -> None:
    """A Geocube shows `waiting` until it processes the order; each further call would be an error in its log."""
    job = world.jobs[JOB] = Job(id=JOB, name="j", state="CREATED", waiting=True)
    job.last_update_time.seconds = 1
    for _ in range(5):
        cube.continue_job("j")
    assert len(world.calls["ContinueJob"]) == 1
    job.state, job.last_update_time.seconds = "CONSOLIDATIONDONE", 2
    cube.continue_job(JOB)
    assert len(world.calls["ContinueJob"]) == 2
    job.waiting = False
    with pytest.raises(AcdError, match="job j does not wait: it is CONSOLIDATIONDONE") as error:
        cube.continue_job(JOB)
    assert error.value.code is ErrorCode.JOB_STATE


def test_orders_are_sent_once(world: Scripted, cube: GeocubeCube) -> None:
    world.jobs[JOB] = Job(id=JOB, name="j", state="CONSOLIDATIONFAILED")
    world.faults["RetryJob"] = deque([Fault()])
    with pytest.raises(AcdError) as error:
        cube.retry_job(JOB)
    assert error.value.code is ErrorCode.GEOCUBE_UNREACHABLE
    assert len(world.calls["RetryJob"]) == 1


def test_an_order_returns_once_the_server_has_processed_it(world: Scripted, cube: GeocubeCube) -> None:
    """The server queues orders; until it processes a retry, the job still looks failed."""
    job = world.jobs[JOB] = Job(id=JOB, name="j", state="CONSOLIDATIONFAILED")

    def hear() -> None:
        job.state = "CONSOLIDATIONRETRYING"

    hearing = threading.Timer(0.5, hear)
    hearing.start()
    cube.retry_job(JOB)
    hearing.join()
    assert cube.job(JOB).state == "CONSOLIDATIONRETRYING"
    assert len(world.calls["RetryJob"]) == 1
    assert 3 <= len(world.calls["GetJob"]) <= 10


def test_an_unknown_job_is_named(cube: GeocubeCube) -> None:
    for unknown in (JOB, "nobody"):
        for call in (cube.job, cube.continue_job, cube.retry_job, cube.cancel_job):
            with pytest.raises(AcdError, match=unknown) as error:
                call(unknown)
            assert error.value.code is ErrorCode.JOB_UNKNOWN
