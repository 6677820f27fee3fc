"""Jobs of a Geocube: consolidations started, looked at, continued, retried and cancelled."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import grpc

from acdtask.cube.geocube.catalogue import Catalogue
from acdtask.cube.geocube.link import Link, ServerError
from acdtask.cube.model import Consolidation, JobState, Level
from acdtask.cube.protocol import jobs_pb2, records_pb2, values_pb2
from acdtask.cube.protocol.convert import RESAMPLINGS, dformat_to_wire, moment_from_wire
from acdtask.errors import AcdError, ErrorCode

__all__ = ["Jobs"]

ENDED = {"DONE", "FAILED", "DONEBUTUNTIDY"}
LOG_LINES_AT_ONCE = 1000
JOBS_AT_ONCE = 100

LEVELS = {
    Level.ASYNCHRONOUS: values_pb2.ExecutionAsynchronous,
    Level.CRITICAL: values_pb2.StepByStepCritical,
    Level.MAJOR: values_pb2.StepByStepMajor,
    Level.ALL: values_pb2.StepByStepAll,
}
LEVEL_NAMES = {number: level for level, number in LEVELS.items()}


class Jobs:
    """The jobs of a server. Every method raises what Link raises."""

    def __init__(self, link: Link, catalogue: Catalogue) -> None:
        self._link = link
        self._catalogue = catalogue

    def consolidate(self, consolidation: Consolidation) -> str:
        """Start a consolidation and return its id.

        A variable without consolidation parameters gets some that change no pixel: its own format and kernel, lossless.

        Raises:
            AcdError: JOB_CONFLICT, DATASET_LOCKED (naming the jobs that may hold the lock), LAYOUT_UNKNOWN,
                INSTANCE_UNKNOWN, VARIABLE_UNKNOWN, INPUT_MISSING if no record has a dataset.
        """
        instance_id = self._catalogue.instance_id(consolidation.variable, consolidation.instance)
        self._catalogue.layout(consolidation.layout)  # a server would take any name, fail later, and keep the lock
        self._configure(consolidation.variable)
        ids = self._catalogue.server_ids(consolidation.records)
        request = jobs_pb2.ConsolidateRequest(
            job_name=consolidation.name,
            instance_id=instance_id,
            layout_name=consolidation.layout,
            execution_level=LEVELS[consolidation.level],
            records=records_pb2.RecordIdList(ids=[ids[one] for one in consolidation.records if one in ids]),
        )
        what = f"{consolidation.variable}:{consolidation.instance}"
        if not ids:
            raise AcdError(
                ErrorCode.INPUT_MISSING, f"{self._link.target} has none of the records to consolidate {what}"
            )
        try:
            return str(self._link.call("Consolidate", request, again=False).job_id)
        except ServerError as error:
            raise self._refused(error, consolidation, what) from error

    def job(self, id_or_name: str) -> JobState:
        """The job with its whole log. JOB_UNKNOWN."""
        job_id = id_or_name
        if not _is_uuid(id_or_name):
            found = [one for one in self._all(id_or_name) if one.name == id_or_name]
            if not found:
                raise AcdError(ErrorCode.JOB_UNKNOWN, f"there is no job {id_or_name!r}")
            job_id = found[0].id
        pages: list[list[str]] = []
        while True:
            request = jobs_pb2.GetJobRequest(id=job_id, log_page=len(pages), log_limit=LOG_LINES_AT_ONCE)
            try:
                message = self._link.call("GetJob", request).job
            except ServerError as error:
                raise _unknown(error, id_or_name) from error
            pages.append(list(message.logs))
            if len(message.logs) < LOG_LINES_AT_ONCE:
                return _state(message, [line for page in reversed(pages) for line in page])

    def jobs(self, pattern: str = "") -> list[JobState]:
        """Jobs whose names match a pattern, oldest first, without their logs."""
        found = [_state(one, []) for one in self._all(pattern)]
        return sorted(found, key=lambda one: (one.created, one.name))

    def continue_job(self, job_id: str) -> None:
        """Let a job go on that waits; the server only notes it, and does it some seconds later. JOB_STATE."""
        self._tell("ContinueJob", jobs_pb2.ContinueJobRequest(id=job_id), job_id)

    def retry_job(self, job_id: str, *, force: bool = False) -> None:
        """Let a job that failed try again. JOB_STATE."""
        self._tell("RetryJob", jobs_pb2.RetryJobRequest(id=job_id, force_any_state=force), job_id)

    def cancel_job(self, job_id: str, *, force: bool = False) -> None:
        """End a job. JOB_STATE."""
        self._tell("CancelJob", jobs_pb2.CancelJobRequest(id=job_id, force_any_state=force), job_id)

    def _tell(
        self,
        name: str,
        request: jobs_pb2.ContinueJobRequest | jobs_pb2.RetryJobRequest | jobs_pb2.CancelJobRequest,
        job_id: str,
    ) -> None:
        try:
            self._link.call(name, request, again=False)
        except ServerError as error:
            if error.status is grpc.StatusCode.FAILED_PRECONDITION:
                raise AcdError(ErrorCode.JOB_STATE, error.detail) from error
            raise _unknown(error, job_id) from error

    def _configure(self, variable: str) -> None:
        variable_id = self._catalogue.variable_id(variable)
        try:
            self._link.call("GetConsolidationParams", jobs_pb2.GetConsolidationParamsRequest(variable_id=variable_id))
        except ServerError as error:
            if error.status is not grpc.StatusCode.NOT_FOUND:
                raise
            known = self._catalogue.variable(variable)
            params = jobs_pb2.ConsolidationParams(
                dformat=dformat_to_wire(known.dformat),
                exponent=1,
                resampling_alg=RESAMPLINGS[known.resampling],
                compression=jobs_pb2.ConsolidationParams.LOSSLESS,
            )
            request = jobs_pb2.ConfigConsolidationRequest(variable_id=variable_id, consolidation_params=params)
            self._link.call("ConfigConsolidation", request)

    def _refused(self, error: ServerError, consolidation: Consolidation, what: str) -> AcdError:
        if error.status is grpc.StatusCode.NOT_FOUND:
            return AcdError(ErrorCode.INPUT_MISSING, f"no record has a dataset of {what}: {error.detail}")
        if error.status is not grpc.StatusCode.ALREADY_EXISTS:
            return error
        others = list(self._all(""))
        if any(one.name == consolidation.name for one in others):
            return AcdError(ErrorCode.JOB_CONFLICT, f"there is a job {consolidation.name!r} already")
        holding = sorted(f"{one.name} ({one.state})" for one in others if one.state not in ENDED)
        named = ", ".join(holding) or "a job that this server does not list"
        return AcdError(ErrorCode.DATASET_LOCKED, f"datasets of {what} are locked by one of: {named}")

    def _all(self, pattern: str) -> Iterator[jobs_pb2.Job]:
        page = 0
        while True:
            request = jobs_pb2.ListJobsRequest(name_like=pattern, page=page, limit=JOBS_AT_ONCE)
            found = self._link.call("ListJobs", request).jobs
            yield from found
            if len(found) < JOBS_AT_ONCE:
                return
            page += 1


def _state(message: jobs_pb2.Job, log: list[str]) -> JobState:
    created, updated = moment_from_wire(message.creation_time), moment_from_wire(message.last_update_time)
    if created is None:
        raise AcdError(ErrorCode.GEOCUBE_FAILED, f"the job {message.name} came without its time")
    return JobState(
        id=message.id,
        name=message.name,
        kind=message.type.lower(),
        state=message.state,
        waiting=message.waiting,
        level=LEVEL_NAMES.get(message.execution_level, Level.ASYNCHRONOUS),
        created=created,
        updated=updated or created,
        active_tasks=message.active_tasks,
        failed_tasks=message.failed_tasks,
        log=tuple(log),
    )


def _unknown(error: ServerError, job: str) -> AcdError:
    if error.status is grpc.StatusCode.NOT_FOUND:
        return AcdError(ErrorCode.JOB_UNKNOWN, f"there is no job {job!r}")
    return error


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
