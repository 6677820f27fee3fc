"""Records of what a run did, stored below `runs/workflows/<run id>/` of the cube and read when the run ends.

ACD_RUN_ID names the run; a workflow sets it to its uid. Without it nothing is stored. `<job>.json` is written when the
job is planned and again when its last round is gathered; `errors/` has one file per failed stage. Jobs never read these
records, and nothing of them enters a product.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel

from acdtask import log
from acdtask.cube.aoi import load_aoi
from acdtask.engine.run_ids import current_run, run_folder
from acdtask.engine.run_notes import note_begin
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.contract import Findings, Job, Plan, PlanHead, Series, Settings, Site
from acdtask.jobs.quarantine import LeftOut, unusable_of
from acdtask.storage.seal import is_sealed, parse_sealed, seal
from acdtask.storage.store import Store
from acdtask.storage.traffic import traffic_so_far

__all__ = [
    "JobRecord",
    "Meter",
    "StageFailure",
    "WorkDone",
    "failures_of",
    "record_gathered",
    "record_of_this_run",
    "record_plan",
    "recording_failure",
    "records_of",
]

ModelT = TypeVar("ModelT", bound=BaseModel)

ERRORS = "errors/"

_events = log.events("engine")


class WorkDone(BaseModel, frozen=True):
    """Cost of the shards done, measured in the processes that did them. Lost attempts are not included.

    `units` are the tiles or files of one round. `seconds` is the wall time of all shards, added up. The bytes are those
    of `acdtask.storage.traffic.Traffic`.
    """

    shards: int = 0
    units: int = 0
    seconds: float = 0.0
    pixel_bytes_read: int = 0
    object_bytes_read: int = 0
    bytes_written: int = 0

    @classmethod
    def of_markers(cls, markers: Iterable[Mapping[str, Any]]) -> WorkDone:
        """The total of a round, from the markers of its shards."""
        shards = list(markers)
        return cls(shards=len(shards), **{name: sum(marker.get(name, 0) for marker in shards) for name in _SUMMED})

    def then(self, later: WorkDone) -> WorkDone:
        """The total with the next round, which works on the same units."""
        return WorkDone(
            shards=self.shards + later.shards,
            units=later.units,
            **{name: getattr(self, name) + getattr(later, name) for name in _SUMMED if name != "units"},
        )


_SUMMED = tuple(name for name in WorkDone.model_fields if name != "shards")


class GatheredRound(Protocol):
    """The facts about a gathering that are recorded: the run that made it, its cost, and the shards left out."""

    @property
    def run(self) -> str: ...
    @property
    def work(self) -> WorkDone: ...
    @property
    def left_out(self) -> tuple[LeftOut, ...]: ...


class JobRecord(BaseModel, frozen=True):
    """The record of a job in a run.

    Attributes:
        aoi: name of the AOI; empty if the job has none.
        gathered: whether the last round has been gathered.
        gathered_before: whether another run had gathered it already; its findings are then no news.
        left_out: shards left out, each with its error.
        unusable: inputs that could not be used, each with its error.
        work, findings: of the whole plan; empty until it is gathered.
        series: series of the images, for jobs that have series.
    """

    run: str
    job: str
    aoi: str
    plan_id: str
    content_id: str
    rounds: tuple[str, ...]
    shards: int
    units: int
    nothing_to_do: str
    gathered: bool = False
    gathered_before: bool = False
    left_out: list[str] = []
    unusable: list[str] = []
    work: WorkDone = WorkDone()
    findings: Findings = Findings()
    series: Series | None = None

    @property
    def news(self) -> dict[str, float]:
        """Figures of work and findings by name, which can be added up over runs.

        They are 0 if another run gathered the plan, since that run reported them.
        """
        numbers = {**self.work.model_dump(exclude={"shards"}), **self.findings.figures}
        return dict.fromkeys(numbers, 0.0) if self.gathered_before else numbers


class StageFailure(BaseModel, frozen=True):
    """The latest error of a stage, which may have succeeded since. A plan has no round, a gather no shard."""

    job: str
    stage: str
    round: str = ""
    shard: int | None = None
    error: int
    name: str
    detail: str


class Meter:
    """Measures time and traffic of this process from its creation."""

    def __init__(self) -> None:
        self._begun, self._before = time.monotonic(), traffic_so_far()

    def figures(self) -> dict[str, float]:
        """Seconds and bytes so far, for a marker."""
        moved = traffic_so_far() - self._before
        return {
            "seconds": round(time.monotonic() - self._begun, 3),
            "pixel_bytes_read": moved.pixel_bytes_read,
            "object_bytes_read": moved.object_bytes_read,
            "bytes_written": moved.bytes_written,
        }


def record_plan(plan: PlanHead, settings: Settings, site: Site) -> None:
    """Record what was planned, unless this run has gathered the job: this pod is then a duplicate that started late."""
    run = current_run()
    if not run:
        return
    known = _record_of(run, plan.job, site)
    if known is None or not known.gathered:
        path = str(getattr(settings, "aoi", ""))
        _store_record(_planned(run, plan, load_aoi(path).name if path else ""), site)


def record_gathered(
    job: Job[Any, Any], plan: Plan[Any, Any], rounds: Mapping[str, GatheredRound], site: Site
) -> JobRecord:
    """Make the record of a gathered plan, and store it if this process is part of a run.

    `rounds` has the gathering of each round, by name.
    """
    run = current_run()
    known = _record_of(run, plan.job, site) if run else None
    work = WorkDone()
    for name in plan.rounds:
        work = work.then(rounds[name].work)
    last = rounds[plan.rounds[-1]]
    record = _planned(run, plan, known.aoi if known else "").model_copy(
        update={
            "gathered": True,
            "gathered_before": last.run != run,
            "left_out": [str(shard) for shard in last.left_out if not shard.unusable],
            "unusable": [str(failure) for failure in (plan.unusable | unusable_of(last.left_out)).values()],
            "work": work,
            "findings": job.findings(plan, site),
        }
    )
    if run:
        _store_record(record, site)
    return record


def record_of_this_run(job: str, site: Site) -> JobRecord | None:
    """The record that an earlier attempt of this pod stored in this run, or None; None also without a run."""
    run = current_run()
    return _record_of(run, job, site) if run else None


def records_of(run: str, site: Site) -> list[JobRecord]:
    """The records of a run's jobs, sorted by job."""
    folder = run_folder(run, site)
    names = [name for name in folder.list() if "/" not in name]
    return [_read(JobRecord, folder, name) for name in names]


def failures_of(run: str, site: Site) -> list[StageFailure]:
    """The failures of a run's stages, sorted by file name."""
    folder = run_folder(run, site)
    return [_read(StageFailure, folder, name) for name in folder.list(ERRORS.rstrip("/"))]


@contextmanager
def recording_failure(
    address: str, job: str, stage: str, round_name: str = "", shard: int | None = None
) -> Iterator[None]:
    """Record an error raised in the block, if this process is part of a run, and re-raise it.

    Also notes that the run began. `stage` is plan, run or gather.
    """
    if address:
        note_begin(Site(address))
    try:
        yield
    except Exception as error:
        known = error if isinstance(error, AcdError) else AcdError(ErrorCode.BUG, f"{type(error).__name__}: {error}")
        try:
            _store_failure(known, address, job, stage, round_name, shard)
        except AcdError as second:  # the store itself may be failing; the first error is the one to raise
            _events.warning("failure.not_kept", detail=second.detail)
        raise


def _store_failure(error: AcdError, address: str, job: str, stage: str, round_name: str, shard: int | None) -> None:
    run = current_run()
    if not run or not address:
        return
    failure = StageFailure(
        job=job,
        stage=stage,
        round=round_name,
        shard=shard,
        error=error.code.value.number,
        name=error.code.name,
        detail=error.detail,
    )
    parts = [job, stage, round_name, "" if shard is None else f"{shard:04d}"]
    key = f"{ERRORS}{'.'.join(part for part in parts if part)}.json"
    run_folder(run, Site(address)).put(key, seal(failure.model_dump_json().encode()))


def _planned(run: str, plan: PlanHead, aoi: str) -> JobRecord:
    return JobRecord(
        run=run,
        job=plan.job,
        aoi=aoi,
        plan_id=plan.plan_id,
        content_id=plan.content_id,
        rounds=plan.rounds,
        shards=0 if plan.nothing_to_do else plan.shards,
        units=0 if plan.nothing_to_do else plan.units,
        nothing_to_do=plan.nothing_to_do,
        unusable=[str(failure) for failure in plan.unusable.values()],
        series=plan.series,
    )


def _record_of(run: str, job: str, site: Site) -> JobRecord | None:
    """The record of a job, or None. It is only informative, so a damaged one is treated as missing and rewritten."""
    folder, key = run_folder(run, site), f"{job}.json"
    data = folder.find(key)
    if data is not None and not is_sealed(data):
        _events.warning("document.damaged", file=folder.address_of(key))
        return None
    return None if data is None else _read(JobRecord, folder, key)


def _read(kind: type[ModelT], folder: Store, key: str) -> ModelT:
    """Read a document of a run. RUN_DAMAGED."""
    fix = "Delete the file: it only documents the run, and no job reads it."
    return parse_sealed(kind, folder.get(key), folder.address_of(key), ErrorCode.RUN_DAMAGED, fix)


def _store_record(record: JobRecord, site: Site) -> None:
    run_folder(record.run, site).put(f"{record.job}.json", seal(record.model_dump_json(indent=1).encode()))
