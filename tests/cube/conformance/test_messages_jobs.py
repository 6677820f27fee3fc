"""Jobs of a Geocube, message by message: those of `acdtask serve` equal those of a real server."""

from __future__ import annotations

import re
import time
from pathlib import Path

import grpc
import numpy as np
import pytest

from acdtask.cube.protocol import jobs_pb2, records_pb2, values_pb2
from tests.cube.conformance.messages import Wire, pixels_of, refusal_of, streamed

PATIENCE = 30.0
FINAL = {"DONE", "FAILED", "DONEBUTUNTIDY", "INITIALISATIONFAILED", "CONSOLIDATIONFAILED", "CANCELLATIONFAILED"}
LINE = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z - (DEBUG|INFO|WARN|ERROR) \| Status: [A-Z]+ - Message: ")


def started(wire: Wire, name: str = "job", level: int = 1, **changes: object) -> str:
    """Start a consolidation of the first record, and return its id."""
    assert wire.images
    wire.configure()
    only = records_pb2.RecordIdList(ids=wire.records[:1])
    request = wire.consolidation(name, **({"records": only, "execution_level": level} | changes))
    return wire.stub.Consolidate(request).job_id


def job_of(wire: Wire, job_id: str) -> jobs_pb2.Job:
    return wire.stub.GetJob(jobs_pb2.GetJobRequest(id=job_id, log_limit=1000)).job


def settled(wire: Wire, job_id: str, unlike: str = "") -> jobs_pb2.Job:
    """Wait until a job ends, is stuck or pauses, in another state than `unlike`."""
    deadline = time.monotonic() + PATIENCE
    while True:
        job = job_of(wire, job_id)
        if job.state != unlike and (job.state in FINAL or job.waiting):
            return job
        assert time.monotonic() < deadline, f"{job.state} {job.waiting} {list(job.logs)[-3:]}"
        time.sleep(0.1)


def code_of(error: grpc.RpcError) -> grpc.StatusCode:
    return error.code()


def details_of(error: grpc.RpcError) -> str:
    return str(error.details())


def test_a_consolidation_is_done(wire: Wire) -> None:
    job_id = started(wire)
    job = settled(wire, job_id)
    assert (job.id, job.name, job.state) == (job_id, wire.name("job"), "DONE"), list(job.logs)
    assert (job.type, job.active_tasks, job.failed_tasks, job.waiting) == ("CONSOLIDATION", 0, 0, False)
    assert all(LINE.match(line) for line in job.logs), list(job.logs)[:3]
    _, (header, chunks) = streamed(wire.stub.GetCube(wire.cube((wire.records[0],))))
    np.testing.assert_array_equal(pixels_of(header, chunks)[:, :, 0], wire.images[0])


@pytest.mark.parametrize(
    ("level", "pauses"),
    [
        (2, ["CONSOLIDATIONINPROGRESS", "CONSOLIDATIONEFFECTIVE"]),
        (3, ["CREATED", "CONSOLIDATIONINPROGRESS", "CONSOLIDATIONDONE", "CONSOLIDATIONEFFECTIVE"]),
        (
            4,
            [
                "CREATED",
                "CONSOLIDATIONINPROGRESS",
                "CONSOLIDATIONDONE",
                "CONSOLIDATIONINDEXED",
                "CONSOLIDATIONEFFECTIVE",
            ],
        ),
    ],
)
def test_each_level_waits_in_its_states(wire: Wire, level: int, pauses: list[str]) -> None:
    job_id = started(wire, level=level)
    seen, state = [], ""
    while (job := settled(wire, job_id, unlike=state)).state not in FINAL:
        assert job.execution_level == level
        seen.append(job.state)
        state = job.state
        wire.stub.ContinueJob(jobs_pb2.ContinueJobRequest(id=job_id))
    assert (job.state, seen) == ("DONE", pauses)


def test_datasets_are_locked_while_a_job_has_them(wire: Wire) -> None:
    job_id = started(wire, level=2)
    assert settled(wire, job_id).waiting
    error = refusal_of(lambda wire: started(wire, "second"), wire)
    assert code_of(error) is grpc.StatusCode.ALREADY_EXISTS
    assert re.search("Dataset is already locked", details_of(error))
    wire.stub.CancelJob(jobs_pb2.CancelJobRequest(id=job_id))
    assert settled(wire, job_id, unlike="CONSOLIDATIONINPROGRESS").state == "FAILED"
    assert settled(wire, started(wire, "third")).state == "DONE"


def test_an_unknown_layout_fails_the_job_and_cancelling_unlocks_its_datasets(wire: Wire) -> None:
    job_id = started(wire, layout_name="nope")
    job = settled(wire, job_id)
    assert (job.state, job.waiting) == ("INITIALISATIONFAILED", False)
    assert any("ERROR" in line for line in job.logs)
    assert code_of(refusal_of(lambda wire: started(wire, "second"), wire)) is grpc.StatusCode.ALREADY_EXISTS
    wire.stub.CancelJob(jobs_pb2.CancelJobRequest(id=job_id))
    assert settled(wire, job_id, unlike="INITIALISATIONFAILED").state == "FAILED"
    assert settled(wire, started(wire, "third")).state == "DONE"


def test_a_failed_consolidation_is_retried(wire: Wire) -> None:
    uri = wire.write(np.full((100, 150), 5, "int16"))
    wire.stub.IndexDatasets(wire.container(uri, wire.records[0]))
    content = Path(uri).read_bytes()
    Path(uri).unlink()
    wire.configure()
    only = records_pb2.RecordIdList(ids=wire.records[:1])
    job_id = wire.stub.Consolidate(wire.consolidation(records=only)).job_id
    job = settled(wire, job_id)
    assert (job.state, job.waiting) == ("CONSOLIDATIONFAILED", False)
    assert job.failed_tasks >= 1
    Path(uri).write_bytes(content)
    wire.stub.RetryJob(jobs_pb2.RetryJobRequest(id=job_id))
    job = settled(wire, job_id, unlike="CONSOLIDATIONFAILED")
    assert (job.state, job.failed_tasks) == ("DONE", 0), list(job.logs)


def test_a_job_that_has_ended_cannot_be_changed(wire: Wire) -> None:
    job_id = started(wire)
    settled(wire, job_id)
    orders = (
        lambda wire: wire.stub.RetryJob(jobs_pb2.RetryJobRequest(id=job_id)),
        lambda wire: wire.stub.CancelJob(jobs_pb2.CancelJobRequest(id=job_id)),
    )
    for order in orders:
        error = refusal_of(order, wire)
        assert code_of(error) is grpc.StatusCode.FAILED_PRECONDITION, details_of(error)
        assert re.search(rf"Job {job_id}: Unable to trigger .* \(current state=DONE\)", details_of(error))


def test_jobs_have_unique_names_and_are_listed_by_name(wire: Wire) -> None:
    job_id = started(wire)
    settled(wire, job_id)
    error = refusal_of(lambda wire: started(wire), wire)
    assert code_of(error) is grpc.StatusCode.ALREADY_EXISTS
    assert f"Job with name: {wire.name('job')}" in details_of(error)
    for pattern in (wire.name("job"), wire.name("jo?"), wire.name("JOB(?i)")):
        listed = wire.stub.ListJobs(jobs_pb2.ListJobsRequest(name_like=pattern)).jobs
        assert [listed_job.id for listed_job in listed] == [job_id], pattern
    assert not wire.stub.ListJobs(jobs_pb2.ListJobsRequest(name_like=wire.name("none"))).jobs


def test_jobs_that_ended_can_be_cleaned(wire: Wire) -> None:
    job_id = started(wire)
    settled(wire, job_id)
    asked = jobs_pb2.CleanJobsRequest(name_like=wire.name("job"), state="FAILED")
    assert wire.stub.CleanJobs(asked).count == 0
    assert wire.stub.CleanJobs(jobs_pb2.CleanJobsRequest(name_like=wire.name("job"), state="DONE")).count == 1
    assert code_of(refusal_of(lambda wire: job_of(wire, job_id), wire)) is grpc.StatusCode.NOT_FOUND


def test_a_consolidated_variable_may_be_of_another_data_type(wire: Wire) -> None:
    """It is stored according to the parameters, and read according to the variable."""
    assert wire.images
    stored = values_pb2.DataFormat(dtype=values_pb2.DataFormat.UInt16, no_data=65535, min_value=0, max_value=10000)
    params = jobs_pb2.ConsolidationParams(dformat=stored, exponent=1, resampling_alg=values_pb2.NEAR)
    wire.stub.ConfigConsolidation(
        jobs_pb2.ConfigConsolidationRequest(variable_id=wire.variable, consolidation_params=params)
    )
    only = records_pb2.RecordIdList(ids=wire.records[:1])
    job = settled(wire, wire.stub.Consolidate(wire.consolidation(records=only)).job_id)
    assert job.state == "DONE", list(job.logs)
    _, (header, chunks) = streamed(wire.stub.GetCube(wire.cube((wire.records[0],))))
    assert np.abs(pixels_of(header, chunks)[:, :, 0] - wire.images[0]).max() <= 1
