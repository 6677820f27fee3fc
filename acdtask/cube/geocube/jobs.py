"""Consolidation jobs of a Geocube."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import grpc
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from acdtask.cube.follow import ELIDED, ENDED
from acdtask.cube.geocube.channel import Channel
from acdtask.cube.geocube.errors import cause_of, is_taken
from acdtask.cube.geocube.joblog import read_log
from acdtask.cube.geocube.variables import ServedInstance, Variables
from acdtask.cube.jobs import Consolidates, Consolidation, ConsolidationParams, JobState, Level, stored_as
from acdtask.cube.patterns import matcher
from acdtask.cube.protocol import jobs_pb2 as pb
from acdtask.cube.protocol.convert import (
    RESAMPLING_NAMES,
    RESAMPLINGS,
    dformat_from_message,
    dformat_to_message,
    moment_from_message,
)
from acdtask.cube.protocol.records_pb2 import RecordIdList
from acdtask.cube.protocol.values_pb2 import ExecutionLevel, StorageClass
from acdtask.errors import AcdError, ErrorCode

__all__ = ["ConsolidatingGeocube"]

LINES_OF_A_PAGE = 1000
NAMED = 5
"""Maximum number of jobs named in a message if it is not known which of them holds a lock."""

QUEUE_SECONDS, LOOK_SECONDS = 25.0, 0.2
"""An idle Geocube reads its queue every ten seconds."""

FIRST_MOMENT = datetime.min.replace(tzinfo=UTC)


class ConsolidatingGeocube(Consolidates):
    """The part of a `GeocubeCube` that consolidates. Every method raises AcdError; JOB_UNKNOWN for an unknown job."""

    def __init__(self, channel: Channel, variables: Variables) -> None:
        self._channel, self._variables = channel, variables
        self._continued: dict[str, tuple[str, datetime]] = {}

    def config_consolidation(self, variable: str, params: ConsolidationParams) -> None:
        """Set the parameters of a variable's consolidations. VARIABLE_UNKNOWN, SETTING_INVALID."""
        definition = self._variables.variable(variable)
        message = pb.ConsolidationParams(
            dformat=dformat_to_message(stored_as(definition, params)),
            exponent=params.exponent,
            resampling_alg=RESAMPLINGS[params.resampling or definition.resampling],
            compression=pb.ConsolidationParams.Compression.Value(params.compression),
            creation_params=params.creation_params,
            storage_class=StorageClass.Value(params.storage_class),
        )
        request = pb.ConfigConsolidationRequest(
            variable_id=self._variables.variable_id(variable), consolidation_params=message
        )
        self._channel.call(self._channel.geocube.ConfigConsolidation, request)

    def consolidation_params(self, variable: str) -> ConsolidationParams | None:
        """The parameters of a variable's consolidations, or None if none were set. VARIABLE_UNKNOWN."""
        request = pb.GetConsolidationParamsRequest(variable_id=self._variables.variable_id(variable))
        try:
            message = self._channel.call(self._channel.geocube.GetConsolidationParams, request).consolidation_params
        except AcdError as error:
            refusal = cause_of(error)
            if refusal is not None and refusal.code is grpc.StatusCode.NOT_FOUND:
                return None
            raise
        definition = self._variables.variable(variable)
        return ConsolidationParams.model_validate(
            {
                "dformat": dformat_from_message(message.dformat, definition.dformat.dtype),
                "exponent": message.exponent,
                "resampling": RESAMPLING_NAMES.get(message.resampling_alg),
                "compression": pb.ConsolidationParams.Compression.Name(message.compression),
                "creation_params": dict(message.creation_params),
                "storage_class": StorageClass.Name(message.storage_class),
            }
        )

    def _start(self, wanted: Consolidation, served: ServedInstance, server_ids: list[str]) -> str:
        """Start a consolidation of records (by the server's ids) and return its id.

        INPUT_MISSING, JOB_CONFLICT, DATASET_LOCKED.
        """
        if not server_ids:
            what = f"none of the records of {wanted.name} has a dataset of {wanted.variable}:{wanted.instance}"
            raise AcdError(ErrorCode.INPUT_MISSING, what)
        if self.consolidation_params(wanted.variable) is None:
            self.config_consolidation(wanted.variable, ConsolidationParams(compression="LOSSLESS"))
        if self._named(wanted.name) is not None:
            raise self._name_taken(wanted.name)
        request = pb.ConsolidateRequest(
            job_name=wanted.name,
            instance_id=served.id,
            layout_name=wanted.layout,
            execution_level=ExecutionLevel.ValueType(wanted.level.value),
            records=RecordIdList(ids=server_ids),
        )
        for attempt in range(1, self._channel.connection.attempts + 1):
            try:
                call = self._channel.geocube.Consolidate
                return self._channel.call(call, request, "listing", repeat=False).job_id
            except AcdError as error:
                if error.code is not ErrorCode.GEOCUBE_UNREACHABLE or attempt == self._channel.connection.attempts:
                    raise self._start_failure(error, wanted) from error
            # The server may have started the job although its reply was lost.
            if (started := self._named(wanted.name)) is not None:
                return started.id
        raise AcdError(ErrorCode.BUG, f"job {wanted.name} was neither started nor refused")

    def job(self, id_or_name: str) -> JobState:
        """The job with its complete log. JOB_UNKNOWN."""
        job_id = self._id_of(id_or_name)
        message = self._page(job_id, 0)
        # Pages are counted from the newest line; a full page means that there may be older ones.
        lines = last = _lines(message)
        page = 0
        while len(last) >= LINES_OF_A_PAGE:
            page += 1
            last = _lines(self._page(job_id, page))
            lines = _joined(last, lines)
        return read_log(_state(message, tuple(lines)))

    def jobs(self, pattern: str = "") -> list[JobState]:
        """Jobs whose names match a pattern, oldest first, with the last lines of their logs."""
        matches = matcher(pattern or "*")
        request = pb.ListJobsRequest(name_like=pattern)
        reply = self._channel.call(self._channel.geocube.ListJobs, request, "listing")
        jobs = [_state(message, tuple(_lines(message))) for message in reply.jobs if matches(message.name)]
        return sorted(jobs, key=lambda job: (job.created, job.id))

    def continue_job(self, job_id: str) -> None:
        """Continue a job that pauses. JOB_STATE if it does not wait.

        A Geocube processes the order later; a second one for the same pause would be an error, so it is not sent.
        """
        job_id = self._id_of(job_id)
        job = _state(self._page(job_id, 0), ())
        if not job.waiting:
            raise AcdError(ErrorCode.JOB_STATE, f"job {job.name} does not wait: it is {job.state}")
        if self._continued.get(job_id) == (job.state, job.updated):
            return
        self._channel.call(self._channel.geocube.ContinueJob, pb.ContinueJobRequest(id=job_id), repeat=False)
        self._continued[job_id] = job.state, job.updated

    def retry_job(self, job_id: str, *, force: bool = False) -> None:
        """Retry what failed in a job. JOB_STATE if the job has not failed."""
        before = self._newest(self._id_of(job_id))
        request = pb.RetryJobRequest(id=before.id, force_any_state=force)
        self._channel.call(self._channel.geocube.RetryJob, request, repeat=False)
        self._await_change(before)

    def cancel_job(self, job_id: str, *, force: bool = False) -> None:
        """End a job and undo what it did. JOB_STATE if it has ended or can no longer be stopped."""
        before = self._newest(self._id_of(job_id))
        request = pb.CancelJobRequest(id=before.id, force_any_state=force)
        self._channel.call(self._channel.geocube.CancelJob, request, repeat=False)
        self._await_change(before)

    def _start_failure(self, error: AcdError, wanted: Consolidation) -> AcdError:
        refusal = cause_of(error)
        if refusal is None or not is_taken(error):
            return error
        if refusal.kind == "Job" or error.code is ErrorCode.JOB_CONFLICT:
            return self._name_taken(wanted.name)
        return AcdError(ErrorCode.DATASET_LOCKED, f"{refusal.message}; {self._holders()}")

    def _name_taken(self, name: str) -> AcdError:
        return AcdError(ErrorCode.JOB_CONFLICT, f"{self._channel.endpoint.address} already has a job {name}")

    def _holders(self) -> str:
        """The jobs that may hold a lock, as text; a Geocube does not report the owner."""
        unfinished = [job for job in self.jobs() if job.state not in ENDED]
        if not unfinished:
            return "the job that held it has just ended"
        named = ", ".join(f"{job.name} ({job.state})" for job in unfinished[:NAMED])
        if len(unfinished) == 1:
            return f"the only unfinished job is {named}"
        rest = ", ..." if len(unfinished) > NAMED else ""
        return f"it is held by one of {len(unfinished)} unfinished jobs: {named}{rest}"

    def _newest(self, job_id: str) -> pb.Job:
        request = pb.GetJobRequest(id=job_id, log_limit=1)
        return self._channel.call(self._channel.geocube.GetJob, request).job

    def _await_change(self, before: pb.Job) -> None:
        """Wait until the server has processed a queued order; until then, the job would still look failed.

        The wait is limited to the time that the queue takes, since the order may have changed nothing.
        """

        def is_same(now: pb.Job) -> bool:
            return (now.state, now.last_update_time, now.logs) == (before.state, before.last_update_time, before.logs)

        waiting = Retrying(
            retry=retry_if_result(is_same),
            stop=stop_after_delay(QUEUE_SECONDS),
            wait=wait_fixed(LOOK_SECONDS),
            retry_error_callback=lambda _: before,
        )
        waiting(self._newest, before.id)

    def _page(self, job_id: str, page: int) -> pb.Job:
        request = pb.GetJobRequest(id=job_id, log_page=page, log_limit=LINES_OF_A_PAGE)
        return self._channel.call(self._channel.geocube.GetJob, request).job

    def _id_of(self, id_or_name: str) -> str:
        try:
            return str(uuid.UUID(id_or_name))
        except ValueError:
            job = self._named(id_or_name)
        if job is None:
            raise AcdError(ErrorCode.JOB_UNKNOWN, f"{self._channel.endpoint.address} has no job {id_or_name!r}")
        return job.id

    def _named(self, name: str) -> JobState | None:
        return next((job for job in self.jobs(name) if job.name == name), None)


def _lines(message: pb.Job) -> list[str]:
    """The lines of a page, without the server's remark that it left out others."""
    return [line for line in message.logs if not ELIDED.match(line)]


def _joined(older: list[str], newer: list[str]) -> list[str]:
    """Two pages as one list. They overlap if lines were written between the two calls."""
    for overlap in range(min(len(older), len(newer)), 0, -1):
        if older[-overlap:] == newer[:overlap]:
            return older + newer[overlap:]
    return older + newer


def _state(message: pb.Job, log: tuple[str, ...]) -> JobState:
    known = message.execution_level in {level.value for level in Level}
    return JobState(
        id=message.id,
        name=message.name,
        kind=message.type.lower(),
        state=message.state,
        waiting=message.waiting,
        level=Level(message.execution_level) if known else Level.ASYNCHRONOUS,
        created=moment_from_message(message.creation_time) or FIRST_MOMENT,
        updated=moment_from_message(message.last_update_time) or FIRST_MOMENT,
        active_tasks=message.active_tasks,
        failed_tasks=message.failed_tasks,
        log=log,
    )
