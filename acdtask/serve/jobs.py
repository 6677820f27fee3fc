"""The RPCs on jobs, consolidation and deletion; each method serves the RPC of the same name."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import partial

from acdtask.cube.jobs import Consolidation, ConsolidationParams, JobState, Level
from acdtask.cube.model import Dataset, Variable
from acdtask.cube.patterns import matcher
from acdtask.cube.protocol import datasets_pb2, values_pb2
from acdtask.cube.protocol import jobs_pb2 as pb
from acdtask.cube.protocol.convert import RESAMPLING_NAMES, RESAMPLINGS, dformat_to_message, moment_to_message
from acdtask.errors import AcdError, ErrorCode
from acdtask.serve.catalogue import Catalogue
from acdtask.serve.consolidation.jobs import NO_DATASETS, ConsolidationJobs
from acdtask.serve.deletions import Deletions
from acdtask.serve.errors import RefusalError, already_exists, invalid, not_found, not_served, unhandled, uuid_of
from acdtask.serve.ids import instance_id, variable_id
from acdtask.serve.messages import dformat_of, is_name, page_of, query_of, require_short

__all__ = ["JobCalls"]

CLEANED = ("DONE", "FAILED", "DONEBUTUNTIDY")
LINES_OF_A_LIST = 10
CREATION_PARAMS = frozenset(
    f"{name}{suffix}"
    for name in ("PHOTOMETRIC", "COMPRESS", "JPEG_QUALITY", "PREDICTOR", "ZLEVEL", "ZSTD_LEVEL", "MAX_Z_ERROR")
    for suffix in ("", "_OVERVIEW")
) | {"JPEGTABLESMODE"}


class JobCalls:
    """The RPCs on jobs of both kinds. Every method raises RefusalError or AcdError.

    `wake` is called when a consolidation job has a step to do.
    """

    def __init__(
        self, catalogue: Catalogue, consolidations: ConsolidationJobs, deletions: Deletions, wake: Callable[[], None]
    ) -> None:
        self._catalogue = catalogue
        self._cube = catalogue.cube
        self._consolidations = consolidations
        self._deletions = deletions
        self._wake = wake

    def config_consolidation(self, request: pb.ConfigConsolidationRequest) -> pb.ConfigConsolidationResponse:
        """Set the consolidation parameters of a variable, replacing any previous ones."""
        params = request.consolidation_params
        if params.resampling_alg not in RESAMPLING_NAMES:
            raise invalid("Resampling algorithm cannot be undefined")
        for name in sorted(params.creation_params):
            if name not in CREATION_PARAMS:
                raise invalid(f"unknown creationParams {name}")
        if params.compression not in pb.ConsolidationParams.Compression.values():
            raise invalid(f"compression {params.compression} is unknown")
        if params.storage_class not in values_pb2.StorageClass.values():
            raise invalid(f"storage class {params.storage_class} is unknown")
        variable = self._variable(request.variable_id)
        if params.dformat.dtype == values_pb2.DataFormat.UNDEFINED:
            raise invalid("ConsolidationParams: DataFormats are not compatible")
        self._consolidations.configure(
            variable.name,
            ConsolidationParams.model_validate(
                {
                    "dformat": dformat_of(params.dformat),
                    "exponent": params.exponent,
                    "resampling": RESAMPLING_NAMES[params.resampling_alg],
                    "compression": pb.ConsolidationParams.Compression.Name(params.compression),
                    "creation_params": dict(params.creation_params),
                    "storage_class": values_pb2.StorageClass.Name(params.storage_class),
                }
            ),
        )
        return pb.ConfigConsolidationResponse()

    def get_consolidation_params(self, request: pb.GetConsolidationParamsRequest) -> pb.GetConsolidationParamsResponse:
        """Return the consolidation parameters of a variable."""
        uuid_of(request.variable_id, f"Invalid uuid {request.variable_id}")
        try:
            variable = self._variable(request.variable_id)
        except RefusalError:
            raise _no_params(request.variable_id) from None
        return pb.GetConsolidationParamsResponse(consolidation_params=self._params(variable, request.variable_id))

    def consolidate(self, request: pb.ConsolidateRequest) -> pb.ConsolidateResponse:
        """Start a consolidation."""
        for record_id in request.records.ids:
            uuid_of(record_id, f"Invalid Record.uuid {record_id}")
        uuid_of(request.instance_id, f"Invalid Instance.uuid {request.instance_id}")
        if request.collapse_on_record_id:
            raise not_served("acd consolidates each record separately and does not support collapse_on_record_id")
        level = _level(request.execution_level)
        if level is None:
            raise invalid("a consolidation job cannot be executed synchronously")
        records = self._records(request)
        try:
            variable, instance = self._catalogue.instance(request.instance_id)
        except RefusalError:
            raise not_found("", "", "", NO_DATASETS) from None
        if not self._cube.having(variable.name, instance.name, records):
            raise not_found("", "", "", NO_DATASETS)
        self._params(variable, variable_id(variable.name))
        self._refuse_name(request.job_name)
        _require_layout_name(request.layout_name)
        wanted = Consolidation.model_construct(
            name=request.job_name,
            variable=variable.name,
            instance=instance.name,
            layout=request.layout_name,
            records=tuple(records),
            level=level,
        )
        job_id = self._started(wanted)
        self._wake()
        return pb.ConsolidateResponse(job_id=job_id)

    def delete_datasets(self, request: datasets_pb2.DeleteDatasetsRequest) -> datasets_pb2.DeleteDatasetsResponse:
        """Start a job that deletes datasets. Without record ids, instance ids or patterns, these do not restrict it."""
        datasets = self._chosen(request)
        if not datasets:
            raise not_found("", "", "", "No dataset found for these records, instances and/or pattern")
        name = request.job_name or str(uuid.uuid4())
        self._refuse_name(name)
        job = self._deletions.start(name, _level(request.execution_level) or Level.ASYNCHRONOUS, datasets)
        return datasets_pb2.DeleteDatasetsResponse(job=_to_message(job, job.log[-1000:]))

    def list_jobs(self, request: pb.ListJobsRequest) -> pb.ListJobsResponse:
        """List the jobs whose names match, oldest first, with the newest lines of their logs."""
        rows = page_of(request.limit, request.page)
        pattern = request.name_like or "*"
        matching = sorted(
            [*self._consolidations.jobs(pattern), *self._deletions.all(pattern)], key=lambda job: (job.created, job.id)
        )
        jobs = [self._job(job.id) for job in matching[rows]]
        return pb.ListJobsResponse(jobs=[_to_message(job, job.log[-LINES_OF_A_LIST:]) for job in jobs])

    def get_job(self, request: pb.GetJobRequest) -> pb.GetJobResponse:
        """Return a job with a page of its log, counted from the newest line; without a limit, no log."""
        page = page_of(request.log_limit, request.log_page)
        job = self._job(request.id)
        newest_first = job.log[::-1][page] if request.log_limit else ()
        return pb.GetJobResponse(job=_to_message(job, newest_first[::-1]))

    def continue_job(self, request: pb.ContinueJobRequest) -> pb.ContinueJobResponse:
        """Continue a job that pauses."""
        self._act(request.id, "Continue", self._consolidations.continue_job, self._deletions.resume)
        return pb.ContinueJobResponse()

    def retry_job(self, request: pb.RetryJobRequest) -> pb.RetryJobResponse:
        """Retry a failed job."""
        event = "RetryForced" if request.force_any_state else "Retried"
        retry = partial(self._consolidations.retry_job, force=request.force_any_state)
        self._act(request.id, event, retry, self._deletions.retry)
        return pb.RetryJobResponse()

    def cancel_job(self, request: pb.CancelJobRequest) -> pb.CancelJobResponse:
        """End a job and undo what it did."""
        event = "CancelledByUserForced" if request.force_any_state else "CancelledByUser"
        cancel = partial(self._consolidations.cancel_job, force=request.force_any_state)
        self._act(request.id, event, cancel, self._deletions.cancel)
        return pb.CancelJobResponse()

    def clean_jobs(self, request: pb.CleanJobsRequest) -> pb.CleanJobsResponse:
        """Remove jobs that have ended."""
        if request.state and request.state not in CLEANED:
            raise invalid(f"Invalid state: must be one of {', '.join(CLEANED)}")
        count = self._consolidations.forget(request.name_like, request.state)
        return pb.CleanJobsResponse(count=count + self._deletions.forget(request.name_like, request.state))

    def _variable(self, identity: str) -> Variable:
        uuid_of(identity, f"Invalid uuid {identity}")
        return self._catalogue.variable(identity)

    def _params(self, variable: Variable, identity: str) -> pb.ConsolidationParams:
        params = self._consolidations.params(variable.name)
        if params is None:
            raise _no_params(identity)
        return pb.ConsolidationParams(
            dformat=dformat_to_message(params.dformat or variable.dformat),
            exponent=params.exponent,
            resampling_alg=RESAMPLINGS[params.resampling or variable.resampling],
            compression=pb.ConsolidationParams.Compression.Value(params.compression),
            creation_params=params.creation_params,
            storage_class=values_pb2.StorageClass.Value(params.storage_class),
        )

    def _records(self, request: pb.ConsolidateRequest) -> list[str]:
        if request.HasField("records"):
            if not request.records.ids:
                raise invalid("At least one record must be provided")
            return list(dict.fromkeys(uuid_of(record_id) for record_id in request.records.ids))
        return [record.id for record in self._cube.records(query_of(request.filters))]

    def _refuse_name(self, name: str) -> None:
        if any(job.name == name for job in (*self._consolidations.jobs(), *self._deletions.all())):
            raise already_exists("Job", "name", name)

    def _started(self, wanted: Consolidation) -> str:
        try:
            return self._consolidations.start(wanted)  # the job itself detects an unknown layout
        except AcdError as error:
            if error.code is ErrorCode.JOB_CONFLICT:
                raise already_exists("Job", "name", wanted.name) from error
            if error.code is ErrorCode.DATASET_LOCKED:
                message = f"Dataset is already locked: {error.detail}"
                raise already_exists("dataset", "id", error.detail, message) from error
            raise

    def _chosen(self, request: datasets_pb2.DeleteDatasetsRequest) -> list[Dataset]:
        records = frozenset(request.record_ids) or None
        patterns = [matcher(pattern) for pattern in request.dataset_patterns]
        return [
            dataset
            for variable in self._cube.variables()
            for instance in self._cube.instances(variable.name)
            if not request.instance_ids or instance_id(variable.name, instance.name) in request.instance_ids
            for dataset in self._cube.datasets(variable.name, instance.name, records)
            if not patterns or any(fits(self._catalogue.address_of(dataset.uri)) for fits in patterns)
        ]

    def _job(self, identity: str) -> JobState:
        wanted = uuid_of(identity)
        deletion = self._deletions.find(wanted)
        if deletion is not None:
            return deletion
        try:
            return self._consolidations.job(wanted)
        except AcdError as error:
            if error.code is not ErrorCode.JOB_UNKNOWN:
                raise
            raise not_found("Job", "id", identity) from error

    def _act(
        self, identity: str, event: str, on_consolidation: Callable[[str], None], on_deletion: Callable[[str], None]
    ) -> None:
        job = self._job(identity)
        try:
            (on_deletion if job.kind == "deletion" else on_consolidation)(job.id)
        except AcdError as error:
            if error.code is not ErrorCode.JOB_STATE:
                raise
            raise unhandled(f"Job {job.id}: Unable to trigger {event} (current state={job.state})") from error
        self._wake()


def _require_layout_name(name: str) -> None:
    """INVALID_ARGUMENT if the name is not valid for a layout; the job itself checks that the layout exists."""
    require_short(name)
    if not is_name(name):
        raise invalid(f"invalid layout name: {name}")


def _no_params(identity: str) -> RefusalError:
    return not_found("ConsolidationParams", "id", identity)


def _level(number: values_pb2.ExecutionLevel.ValueType) -> Level | None:
    """The execution level, or None for synchronous execution."""
    if number == values_pb2.ExecutionSynchronous:
        return None
    if number not in values_pb2.ExecutionLevel.values():
        raise invalid(f"execution level {number} is unknown")
    return Level(number)


def _to_message(job: JobState, lines: tuple[str, ...]) -> pb.Job:
    return pb.Job(
        id=job.id,
        name=job.name,
        type=job.kind.upper(),
        state=job.state,
        creation_time=moment_to_message(job.created),
        last_update_time=moment_to_message(job.updated),
        logs=lines,
        active_tasks=job.active_tasks,
        failed_tasks=job.failed_tasks,
        execution_level=values_pb2.ExecutionLevel.ValueType(job.level.value),
        waiting=job.waiting,
    )
