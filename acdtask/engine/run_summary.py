"""What a run did, kept for whoever asks at its end: below `runs/workflows/<run id>/` of the cube's store.

A run is what ACD_RUN_ID names; a workflow sets it to its uid. Without it nothing is kept. `<job>.json` is written when
the job is planned and again when its last round is gathered; `errors/` holds why stages failed. None of it is read by a
job, and none of it enters a product.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from acdtask import log
from acdtask.cube.aoi import load_aoi
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.contract import Findings, Job, Plan, PlanHead, Series, Settings, Site
from acdtask.jobs.quarantine import LeftOut
from acdtask.storage.seal import is_sealed, parse_sealed, seal
from acdtask.storage.store import Store
from acdtask.storage.traffic import traffic_so_far

__all__ = [
    "Failure",
    "JobRecord",
    "Meter",
    "Work",
    "current_run",
    "failures_of",
    "known_in_this_run",
    "noting_failure",
    "record_gathered",
    "record_plan",
    "records_of",
]

ModelT = TypeVar("ModelT", bound=BaseModel)

RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
ERRORS = "errors/"

_events = log.events("engine")


class Work(BaseModel):
    """What shards have cost, as it was measured in the processes that did them; work that was lost is not in it.

    `units` are tiles or files, of one round. `seconds` are wall time, one shard after the other. The bytes are those of
    `acdtask.storage.traffic.Traffic`.
    """

    model_config = ConfigDict(frozen=True)

    shards: int = 0
    units: int = 0
    seconds: float = 0.0
    pixel_bytes_read: int = 0
    object_bytes_read: int = 0
    bytes_written: int = 0

    @classmethod
    def of_markers(cls, markers: Iterable[Mapping[str, Any]]) -> Work:
        """The sum of what the markers of a round's shards say."""
        every = list(markers)
        return cls(shards=len(every), **{name: sum(one.get(name, 0) for one in every) for name in _SUMMED})

    def then(self, later: Work) -> Work:
        """With the work of the next round on the same units."""
        return Work(
            shards=self.shards + later.shards,
            units=later.units,
            **{name: getattr(self, name) + getattr(later, name) for name in _SUMMED if name != "units"},
        )


_SUMMED = tuple(name for name in Work.model_fields if name != "shards")


class GatheredRound(Protocol):
    """What an account needs of a gathering: the run that made it, what it cost, and what it left out."""

    @property
    def run(self) -> str: ...
    @property
    def work(self) -> Work: ...
    @property
    def left_out(self) -> tuple[LeftOut, ...]: ...


class JobRecord(BaseModel):
    """A job in a run.

    Attributes:
        aoi: the AOI's name, empty if the job was given none.
        gathered: whether the last round is gathered.
        gathered_before: whether another run had done that already; what was found is then no news.
        left_out: the shards that it was gathered without, each with its error.
        work, findings: of the whole plan; empty until it is gathered.
        series: what the images belong to, for a job that has series.
    """

    model_config = ConfigDict(frozen=True)

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
    work: Work = Work()
    findings: Findings = Findings()
    series: Series | None = None

    @property
    def news(self) -> dict[str, float]:
        """Numbers by name, of the work and of what was found, to be added up over runs.

        They are zeros if another run has gathered the plan, and has told them.
        """
        numbers = {**self.work.model_dump(exclude={"shards"}), **self.findings.figures}
        return dict.fromkeys(numbers, 0.0) if self.gathered_before else numbers


class Failure(BaseModel):
    """Why a stage failed when it failed last; it may have gone well since. A plan has no round, a gather no shard."""

    model_config = ConfigDict(frozen=True)

    job: str
    stage: str
    round: str = ""
    shard: int | None = None
    error: int
    name: str
    detail: str


class Meter:
    """Measures what a shard costs this process, from now on."""

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


def current_run() -> str:
    """The run that this process is part of, or an empty text. SETTING_INVALID."""
    run = os.environ.get("ACD_RUN_ID", "")
    return run if not run else _valid(run)


def record_plan(plan: PlanHead, settings: Settings, site: Site) -> None:
    """Keep what was planned in this run. Nothing happens if the run has gathered the job: this pod is a late double."""
    run = current_run()
    if not run:
        return
    known = _record_of(run, plan.job, site)
    if known is None or not known.gathered:
        path = str(getattr(settings, "aoi", ""))
        _keep(_planned(run, plan, load_aoi(path).name if path else ""), site)


def record_gathered(
    job: Job[Any, Any], plan: Plan[Any, Any], rounds: Mapping[str, GatheredRound], site: Site
) -> JobRecord:
    """What came out of a plan; kept if this process is part of a run.

    Args:
        job: the job.
        plan: its plan, whose last round is gathered.
        rounds: for each round what its gather left.
        site: where it is.
    """
    run = current_run()
    known = _record_of(run, plan.job, site) if run else None
    work = Work()
    for name in plan.rounds:
        work = work.then(rounds[name].work)
    last = rounds[plan.rounds[-1]]
    record = _planned(run, plan, known.aoi if known else "").model_copy(
        update={
            "gathered": True,
            "gathered_before": last.run != run,
            "left_out": [*map(str, last.left_out), *map(str, plan.left_out.values())],
            "work": work,
            "findings": job.findings(plan, site),
        }
    )
    if run:
        _keep(record, site)
    return record


def known_in_this_run(job: str, site: Site) -> JobRecord | None:
    """What this run has kept of a job so far, by an earlier attempt of the same pod; None without a run."""
    run = current_run()
    return _record_of(run, job, site) if run else None


def records_of(run: str, site: Site) -> list[JobRecord]:
    """The jobs of a run, by name."""
    folder = _folder(_valid(run), site)
    names = [name for name in folder.list() if "/" not in name]
    return [_read(JobRecord, folder, name) for name in names]


def failures_of(run: str, site: Site) -> list[Failure]:
    """Why stages of a run failed, in the order of their names."""
    folder = _folder(_valid(run), site)
    return [_read(Failure, folder, name) for name in folder.list(ERRORS.rstrip("/"))]


@contextmanager
def noting_failure(
    address: str, job: str, stage: str, round_name: str = "", shard: int | None = None
) -> Iterator[None]:
    """Keep the error that leaves the block, if this process is part of a run; then it goes on its way.

    Args:
        address: of the cube.
        job: name of the job.
        stage: plan, run or gather.
        round_name: of the stage, if it has one.
        shard: of the stage, if it has one.
    """
    try:
        yield
    except Exception as error:
        known = error if isinstance(error, AcdError) else AcdError(ErrorCode.BUG, f"{type(error).__name__}: {error}")
        try:
            _note(known, address, job, stage, round_name, shard)
        except AcdError as second:  # the store itself may be what fails: the first error is the one to tell
            _events.warning("failure.not_kept", detail=second.detail)
        raise


def _note(error: AcdError, address: str, job: str, stage: str, round_name: str, shard: int | None) -> None:
    run = current_run()
    if not run or not address:
        return
    failure = Failure(
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
    _folder(run, Site(address)).put(key, seal(failure.model_dump_json().encode()))


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
        left_out=[str(failure) for failure in plan.left_out.values()],
        series=plan.series,
    )


def _record_of(run: str, job: str, site: Site) -> JobRecord | None:
    """What was kept of a job. It only informs people, so a damaged record counts as none and is written again."""
    folder, key = _folder(run, site), f"{job}.json"
    data = folder.find(key)
    if data is not None and not is_sealed(data):
        _events.warning("document.damaged", file=folder.address_of(key))
        return None
    return None if data is None else _read(JobRecord, folder, key)


def _read(kind: type[ModelT], folder: Store, key: str) -> ModelT:
    """A document of a run. RUN_DAMAGED."""
    fix = "Delete the file: it only says what the run did, and no job reads it."
    return parse_sealed(kind, folder.get(key), folder.address_of(key), ErrorCode.RUN_DAMAGED, fix)


def _keep(record: JobRecord, site: Site) -> None:
    _folder(record.run, site).put(f"{record.job}.json", seal(record.model_dump_json(indent=1).encode()))


def _folder(run: str, site: Site) -> Store:
    return site.runs.within(f"workflows/{run}")


def _valid(run: str) -> str:
    if not RUN_ID.fullmatch(run):
        raise AcdError(
            ErrorCode.SETTING_INVALID,
            f"the run id {run!r} cannot be part of a key",
            "Give letters, digits, '.', '_' and '-', 128 at most (ACD_RUN_ID, or --run).",
        )
    return run
