"""Runs small work in the pod that plans it, since starting a pod takes longer than a day's work on a small area."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from acdtask.engine.local import run_planned
from acdtask.engine.pod import PodBar, write_artifacts, write_figures, write_plan, write_texts
from acdtask.engine.processes import WorkerPool
from acdtask.engine.run_summary import JobRecord, record_gathered, record_of_this_run, record_plan, recording_failure
from acdtask.engine.stages import gathered_rounds, load_plan, make_plan, unusable_lines
from acdtask.engine.workflow_limits import require_fits_workflow
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.contract import Estimate, Job, Plan, Settings, Site

__all__ = ["Budget", "JobOutcome", "Way", "do_or_hand_over"]

PLAN_AGAIN = frozenset({ErrorCode.PLAN_UNKNOWN, ErrorCode.PLAN_STALE, ErrorCode.RUN_DAMAGED})
"""Errors after which the plan of an earlier attempt is abandoned and the job is planned again."""

MIB = 1 << 20


class Way(Enum):
    """What the planning pod does with a job; workflows compare the values."""

    NOTHING = "nothing"
    """There is nothing to do."""
    HERE = "here"
    """This pod runs the job."""
    PODS = "pods"
    """The job exceeds this pod's budget and gets pods of its own."""
    LATER = "later"
    """The job follows one that got pods of its own, and is planned once that is done."""


@dataclass(frozen=True)
class Budget:
    """Time and memory that a planning pod may use for the work itself. If either is 0, it does no work.

    >>> small = Estimate(core_seconds=40, memory_bytes=300 << 20)
    >>> Budget(seconds=60, memory_mib=512).covers(small), Budget(seconds=30, memory_mib=512).covers(small)
    (True, False)
    >>> Budget(seconds=60, memory_mib=256).covers(small), Budget(seconds=0, memory_mib=512).covers(Estimate())
    (False, False)
    """

    seconds: float
    memory_mib: int

    def covers(self, estimate: Estimate) -> bool:
        """Whether work of this cost may be done in this pod."""
        if not self.seconds or not self.memory_mib:
            return False
        return estimate.core_seconds <= self.seconds and estimate.memory_bytes <= self.memory_mib * MIB

    def without(self, estimate: Estimate) -> Budget:
        """The budget that remains after some work. It stays above 0, which would mean no work at all."""
        return Budget(max(self.seconds - estimate.core_seconds, 0.001) if self.seconds else 0.0, self.memory_mib)


@dataclass(frozen=True)
class JobOutcome:
    """What the planning pod did with a job.

    `record` is that of a job done in this pod; `lines` are sentences for the log.
    """

    plan: Plan[Any, Any]
    way: Way
    record: JobRecord | None = None
    lines: list[str] = field(default_factory=list)

    @property
    def summary(self) -> str:
        """Where the job is done and why, in a sentence."""
        estimate = self.plan.estimate
        cost = f"{estimate.core_seconds:.0f} s and {estimate.memory_bytes / MIB:.0f} MiB expected"
        return {
            Way.NOTHING: f"nothing to do, {self.plan.nothing_to_do}",
            Way.HERE: f"done in this pod ({cost})",
            Way.PODS: f"handed over to {self.plan.shards} shards ({cost})",
        }[self.way]


def do_or_hand_over(
    job: Job[Any, Any],
    settings: Settings,
    site: Site,
    budget: Budget,
    outputs: Path,
    *,
    quarantine: int = 0,
    units_before: int = 0,
) -> JobOutcome:
    """Plan a job, run it in this pod if the budget covers it, and write the outputs that the workflow reads.

    An earlier attempt of the same pod (same ACD_RUN_ID) is continued: its plan is reused, shards with markers are
    skipped, and outputs of results that it published are written again.

    `outputs` is the folder for the files that the workflow reads. `quarantine` is the number of shards that may
    fail permanently and be left out. The pod's progress includes `units_before`, the units done for other jobs.
    """
    begun = time.monotonic()
    with recording_failure(site.address, job.name, "plan"):
        plan = _plan_of_this_run(job, settings, site) or _plan(job, settings, site, budget)
        way = _way(plan, budget)
        write_plan(plan, outputs, handed_over=way is Way.PODS)
        write_texts({"way": way.value}, outputs)
    if way is not Way.HERE:
        return JobOutcome(plan, way, lines=unusable_lines(plan))
    total = plan.units * len(plan.rounds)
    with (
        recording_failure(site.address, job.name, "run"),
        WorkerPool(0) as pool,
        PodBar(job.name, total, unit=job.unit, before=units_before) as bar,
    ):
        outcome = run_planned(
            job, plan, site.address, pool=pool, progress=False, quarantine=quarantine, bar=bar, begun=begun
        )
    with recording_failure(site.address, job.name, "gather"):
        record = record_gathered(job, plan, gathered_rounds(plan, site), site)
        write_figures(record.news, outputs)
        write_artifacts(job.artifacts(plan, site), site, outputs)
    return JobOutcome(plan, way, record, outcome.lines)


def _way(plan: Plan[Any, Any], budget: Budget) -> Way:
    """Where a job is done. A plan without units only publishes, which takes less than starting a pod."""
    if plan.nothing_to_do:
        return Way.NOTHING
    return Way.HERE if not plan.units or budget.covers(plan.estimate) else Way.PODS


def _plan(job: Job[Any, Any], settings: Settings, site: Site, budget: Budget) -> Plan[Any, Any]:
    plan = make_plan(job, settings, site, _acceptance(budget))
    record_plan(plan, settings, site)
    return plan


def _acceptance(budget: Budget) -> Callable[[Plan[Any, Any]], None]:
    """A check that refuses plans which need pods of their own and are too large for a workflow."""

    def accept(plan: Plan[Any, Any]) -> None:
        if not budget.covers(plan.estimate):
            require_fits_workflow(plan)

    return accept


def _plan_of_this_run(job: Job[Any, Any], settings: Settings, site: Site) -> Plan[Any, Any] | None:
    """The plan that an earlier attempt of this pod stored for these settings, or None.

    Once that is published, a new plan would have nothing to do, and its findings would never be reported.
    """
    record = record_of_this_run(job.name, site)
    if record is None or record.nothing_to_do:
        return None
    try:
        plan = load_plan(job, record.plan_id, site)
    except AcdError as error:
        if error.code not in PLAN_AGAIN:
            raise
        return None
    same = plan.settings.model_dump(mode="json") == settings.model_dump(mode="json")  # as JSON, since NaN != NaN
    return plan if same else None
