"""The RPCs on jobs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.protocol import datasets_pb2, records_pb2, values_pb2
from acdtask.cube.protocol import jobs_pb2 as pb
from acdtask.cube.protocol.services_pb2_grpc import GeocubeStub
from tests.serve.conftest import serving
from tests.serve.consolidation.small_cube import jobs_of
from tests.serve.requests import NOBODY, create_layout, int16, layout, refusal
from tests.serve.test_datasets import World, tiff

PATIENCE = 60.0
LAYOUT = {"cell_size": "32"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def world(cube: LocalCube, data: Path) -> Iterator[World]:
    """Two records with pixels, and a layout."""
    with serving(cube, data=(str(data),)) as server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        made = World(GeocubeStub(channel))
        for record in made.records:
            made.index(tiff(data / f"{record}.tif"), made.dataset(record_id=record), managed=record == made.records[0])
        create_layout(made.stub, layout(parameters=LAYOUT))
        yield made


def configure(world: World, **changes: Any) -> None:
    params: dict[str, Any] = {"dformat": int16(), "exponent": 1, "resampling_alg": values_pb2.NEAR} | changes
    request = pb.ConfigConsolidationRequest(
        variable_id=world.variable, consolidation_params=pb.ConsolidationParams(**params)
    )
    world.stub.ConfigConsolidation(request)


def consolidate(world: World, name: str = "job", **changes: Any) -> str:
    fields: dict[str, Any] = {
        "job_name": name,
        "instance_id": world.instance,
        "layout_name": "utm",
        "execution_level": values_pb2.ExecutionAsynchronous,
        "records": records_pb2.RecordIdList(ids=world.records),
    }
    if "filters" in changes:
        del fields["records"]
    return world.stub.Consolidate(pb.ConsolidateRequest(**(fields | changes))).job_id


def delete(world: World, **fields: Any) -> pb.Job:
    return world.stub.DeleteDatasets(datasets_pb2.DeleteDatasetsRequest(**fields)).job


def job(world: World, identity: str, **fields: int) -> pb.Job:
    return world.stub.GetJob(pb.GetJobRequest(id=identity, **fields)).job


def waited(world: World, identity: str, *states: str) -> pb.Job:
    """Wait until the job is in one of the states."""
    until = time.monotonic() + PATIENCE
    while (now := job(world, identity, log_limit=1000)).state not in states:
        assert time.monotonic() < until, now
        time.sleep(0.05)
    return now


def test_a_consolidation_is_followed_to_its_end(cube: LocalCube, world: World) -> None:
    configure(world)
    done = waited(world, consolidate(world), "DONE")
    assert (done.type, done.active_tasks, done.failed_tasks, done.waiting) == ("CONSOLIDATION", 0, 0, False)
    assert " - INFO | Status: NEW - Message: " in done.logs[0]
    assert [dataset.layout for dataset in cube.datasets("CoherenceVV", "master") if dataset.layout]
    listed = world.stub.ListJobs(pb.ListJobsRequest(name_like="j*")).jobs
    assert [(job.id, job.state) for job in listed] == [(done.id, "DONE")]
    assert list(listed[0].logs) == list(done.logs[-10:])


def test_records_are_chosen_by_filters(world: World) -> None:
    configure(world)
    filters = records_pb2.RecordFilters(tags={"k": "v"})
    assert waited(world, consolidate(world, filters=filters), "DONE").state == "DONE"


def test_logs_come_in_pages_from_the_newest(world: World) -> None:
    configure(world)
    done = waited(world, consolidate(world), "DONE")
    pages = [list(job(world, done.id, log_page=page, log_limit=3).logs) for page in range(len(done.logs) // 3 + 1)]
    assert [line for page in reversed(pages) for line in page] == list(done.logs)
    assert pages[0] == list(done.logs[-3:])
    assert list(job(world, done.id).logs) == []


def test_a_job_pauses_and_continues_once_per_state(world: World) -> None:
    configure(world)
    identity = consolidate(world, execution_level=values_pb2.StepByStepCritical)
    for state in ("CONSOLIDATIONINPROGRESS", "CONSOLIDATIONEFFECTIVE"):
        now = waited(world, identity, state)
        assert now.waiting
        world.stub.ContinueJob(pb.ContinueJobRequest(id=identity))
    waited(world, identity, "DONE")
    refused = refusal(lambda: world.stub.ContinueJob(pb.ContinueJobRequest(id=identity)))
    assert refused[:2] == (
        "FAILED_PRECONDITION",
        f"Job {identity}: Unable to trigger Continue (current state=DONE)",
    )


@pytest.mark.parametrize("name", ["", "../x", "\0", "a" * 201, "a" * 5000])
def test_an_invalid_layout_name_is_refused_without_a_job(cube: LocalCube, world: World, name: str) -> None:
    configure(world)
    assert refusal(lambda: consolidate(world, layout_name=name)).code == "INVALID_ARGUMENT"
    assert jobs_of(LocalCube.open(cube.store.url)).jobs() == []
    assert waited(world, consolidate(world), "DONE").state == "DONE"


def test_a_job_with_an_unknown_layout_fails_and_locks_its_datasets_until_cancelled(world: World) -> None:
    configure(world)
    stuck = waited(world, consolidate(world, layout_name="nope"), "INITIALISATIONFAILED")
    assert "nope" in "".join(stuck.logs)
    assert not stuck.waiting
    refused = refusal(lambda: consolidate(world, "second"))
    assert refused.code == "ALREADY_EXISTS"
    assert refused.message.startswith("Dataset is already locked: ")
    assert "job job " in refused.message
    assert refused.kind == "dataset"
    world.stub.CancelJob(pb.CancelJobRequest(id=stuck.id))
    waited(world, stuck.id, "FAILED")
    for call, event in (
        (lambda: world.stub.CancelJob(pb.CancelJobRequest(id=stuck.id)), "CancelledByUser"),
        (lambda: world.stub.RetryJob(pb.RetryJobRequest(id=stuck.id)), "Retried"),
        (lambda: world.stub.RetryJob(pb.RetryJobRequest(id=stuck.id, force_any_state=True)), "RetryForced"),
    ):
        message = f"Job {stuck.id}: Unable to trigger {event} (current state=FAILED)"
        assert refusal(call)[:2] == ("FAILED_PRECONDITION", message)
    waited(world, consolidate(world, "second"), "DONE")


def test_a_retry_succeeds_once_the_missing_layout_exists(world: World) -> None:
    configure(world)
    stuck = waited(world, consolidate(world, layout_name="late"), "INITIALISATIONFAILED")
    create_layout(world.stub, layout("late", parameters=LAYOUT))
    world.stub.RetryJob(pb.RetryJobRequest(id=stuck.id))
    waited(world, stuck.id, "DONE")


def test_invalid_consolidations_are_refused_as_by_a_geocube(world: World) -> None:
    nothing = ("NOT_FOUND", "No dataset found for these records and instances")
    no_params = (
        "NOT_FOUND",
        f"ConsolidationParams with id: {world.variable}",
        "ConsolidationParams",
        world.variable,
        "",
    )
    assert refusal(lambda: consolidate(world)) == no_params
    request = pb.GetConsolidationParamsRequest(variable_id=world.variable)
    assert refusal(lambda: world.stub.GetConsolidationParams(request)) == no_params
    configure(world)
    nobody = records_pb2.RecordIdList(ids=[NOBODY])
    assert refusal(lambda: consolidate(world, instance_id=NOBODY))[:2] == nothing
    assert refusal(lambda: consolidate(world, records=nobody))[:2] == nothing
    bad = "INVALID_ARGUMENT"
    for changes, message in (
        ({"execution_level": 0}, "a consolidation job cannot be executed synchronously"),
        ({"records": records_pb2.RecordIdList()}, "At least one record must be provided"),
        ({"instance_id": "abc"}, "Invalid Instance.uuid abc: invalid UUID length: 3"),
        ({"records": records_pb2.RecordIdList(ids=["x"])}, "Invalid Record.uuid x: invalid UUID length: 1"),
    ):
        assert refusal(lambda changes=changes: consolidate(world, **changes))[:2] == (bad, message)  # type: ignore[misc]  # bound now
    waited(world, consolidate(world), "DONE")
    assert refusal(lambda: consolidate(world)) == ("ALREADY_EXISTS", "Job with name: job", "Job", "job", "")
    collapsed = refusal(lambda: consolidate(world, "other", collapse_on_record_id=world.records[0]))
    assert collapsed.code == "UNIMPLEMENTED"


def test_parameters_are_returned_and_replaced(world: World) -> None:
    for compression in (pb.ConsolidationParams.LOSSLESS, pb.ConsolidationParams.NO):
        configure(world, compression=compression, storage_class=values_pb2.INFREQUENT)
        request = pb.GetConsolidationParamsRequest(variable_id=world.variable)
        params = world.stub.GetConsolidationParams(request).consolidation_params
        assert params == pb.ConsolidationParams(
            dformat=int16(),
            exponent=1,
            resampling_alg=values_pb2.NEAR,
            compression=compression,
            storage_class=values_pb2.INFREQUENT,
        )
    for changes in ({"resampling_alg": 0}, {"creation_params": {"X": "y"}}, {"compression": 3}, {"exponent": 2}):
        refused = refusal(lambda changes=changes: configure(world, **changes))  # type: ignore[misc]  # bound now
        assert refused.code == "INVALID_ARGUMENT"


def test_an_unknown_job_is_not_found(world: World) -> None:
    assert refusal(lambda: job(world, NOBODY)) == ("NOT_FOUND", f"Job with id: {NOBODY}", "Job", NOBODY, "")
    assert refusal(lambda: job(world, "x"))[:2] == ("INVALID_ARGUMENT", "Invalid uuid: invalid UUID length: 1")


def test_jobs_are_listed_in_pages_and_cleaned_when_they_have_ended(world: World) -> None:
    configure(world)
    first = waited(world, consolidate(world, "first"), "DONE")
    stuck = waited(world, consolidate(world, "stuck", layout_name="nope"), "INITIALISATIONFAILED")

    def names(**fields: Any) -> list[str]:
        return [job.name for job in world.stub.ListJobs(pb.ListJobsRequest(**fields)).jobs]

    assert names() == ["first", "stuck"]
    assert names(limit=1, page=1) == names(name_like="STUCK(?i)") == ["stuck"]
    message = "Invalid state: must be one of DONE, FAILED, DONEBUTUNTIDY"
    assert refusal(lambda: world.stub.CleanJobs(pb.CleanJobsRequest(state="NEW")))[:2] == ("INVALID_ARGUMENT", message)
    assert world.stub.CleanJobs(pb.CleanJobsRequest(state="FAILED")).count == 0
    assert world.stub.CleanJobs(pb.CleanJobsRequest()).count == 1
    assert refusal(lambda: job(world, first.id)).code == "NOT_FOUND"
    assert names() == [stuck.name]


def test_a_deletion_removes_datasets_and_their_managed_files(cube: LocalCube, world: World, data: Path) -> None:
    managed, own = (data / f"{record}.tif" for record in world.records)
    done = delete(world, job_name="gone", execution_level=values_pb2.ExecutionAsynchronous)
    assert (done.type, done.state) == ("DELETION", "DONE")
    assert job(world, done.id, log_limit=1000).logs == done.logs
    assert cube.datasets("CoherenceVV", "master") == []
    assert (managed.exists(), own.exists()) == (False, True)
    assert f"{managed} was deleted" in "".join(done.logs)
    assert refusal(lambda: delete(world))[:2] == (
        "NOT_FOUND",
        "No dataset found for these records, instances and/or pattern",
    )


def test_a_deletion_removes_only_the_requested_datasets(cube: LocalCube, world: World) -> None:
    assert refusal(lambda: delete(world, record_ids=[NOBODY])).code == "NOT_FOUND"
    assert refusal(lambda: delete(world, instance_ids=[NOBODY])).code == "NOT_FOUND"
    delete(world, dataset_patterns=[f"*{world.records[0].upper()}*(?i)"])
    assert [dataset.record_id for dataset in cube.datasets("CoherenceVV", "master")] == [world.records[1]]


def test_a_deletion_waits_for_a_person(cube: LocalCube, world: World) -> None:
    level = values_pb2.StepByStepCritical
    paused = delete(world, job_name="first", execution_level=level)
    assert (paused.state, paused.waiting) == ("DELETIONINPROGRESS", True)
    assert refusal(lambda: delete(world, job_name="first")).code == "ALREADY_EXISTS"
    world.stub.CancelJob(pb.CancelJobRequest(id=paused.id))
    assert job(world, paused.id).state == "FAILED"
    assert len(cube.datasets("CoherenceVV", "master")) == 2
    again = delete(world, job_name="second", execution_level=level)
    world.stub.ContinueJob(pb.ContinueJobRequest(id=again.id))
    assert job(world, again.id).state == "DONE"
    assert cube.datasets("CoherenceVV", "master") == []
    for call in (
        lambda: world.stub.ContinueJob(pb.ContinueJobRequest(id=again.id)),
        lambda: world.stub.RetryJob(pb.RetryJobRequest(id=again.id)),
        lambda: world.stub.CancelJob(pb.CancelJobRequest(id=again.id)),
    ):
        assert refusal(call).code == "FAILED_PRECONDITION"
    assert world.stub.CleanJobs(pb.CleanJobsRequest(name_like="*")).count == 2


def test_a_deletion_keeps_datasets_locked_by_a_consolidation(cube: LocalCube, world: World) -> None:
    configure(world)
    holder = consolidate(world, "holder", execution_level=values_pb2.StepByStepCritical)
    waited(world, holder, "CONSOLIDATIONINPROGRESS")
    refused = delete(world, job_name="early")
    assert refused.state == "DELETIONFAILED"
    assert "job holder (CONSOLIDATIONINPROGRESS) holds 2 of the 2 records" in refused.logs[-1]
    assert len(cube.datasets("CoherenceVV", "master")) == 2
    world.stub.CancelJob(pb.CancelJobRequest(id=holder))
    waited(world, holder, "FAILED")
    world.stub.RetryJob(pb.RetryJobRequest(id=refused.id))
    assert job(world, refused.id).state == "DONE"
    assert cube.datasets("CoherenceVV", "master") == []


def test_a_managed_file_outside_of_data_is_kept(cube: LocalCube, world: World, tmp_path: Path, data: Path) -> None:
    del data
    uri = tiff(tmp_path / "elsewhere.tif")
    with (
        serving(cube, data=(str(tmp_path),)) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        world.stub = GeocubeStub(channel)
        world.index(uri, world.dataset(), managed=True)
        assert world.container(uri).managed
    with serving(cube) as server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        world.stub = GeocubeStub(channel)
        done = delete(world, dataset_patterns=[uri])
    assert Path(uri).exists()
    assert f"this server may not delete files at {uri}" in "".join(done.logs)
