"""Small work is done in the pod that plans it: a pod takes longer to start than a day of a small area takes to do."""

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
from acdtask.engine.run_summary import JobRecord, known_in_this_run, noting_failure, record_gathered, record_plan
from acdtask.engine.stages import gathered_rounds, left_out_by, load_plan, make_plan
from acdtask.engine.workflow_limits import require_carried
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.contract import Estimate, Job, Plan, Settings, Site

__all__ = ["ALWAYS_PODS", "Budget", "Step", "Way", "do_or_hand_over"]

PLAN_AGAIN = frozenset({ErrorCode.PLAN_UNKNOWN, ErrorCode.PLAN_STALE, ErrorCode.RUN_DAMAGED})
"""Why the plan of an earlier attempt cannot be continued; the job is then planned anew."""

MIB = 1 << 20


class Way(Enum):
    """What becomes of a job in the pod that plans it; a workflow compares the values."""

    NOTHING = "nothing"
    """There is nothing to do."""
    HERE = "here"
    """This pod does it."""
    PODS = "pods"
    """It needs more than this pod may use, and is handed over to pods of its own."""
    LATER = "later"
    """It follows a job that was handed over, and is planned when that is done."""


@dataclass(frozen=True)
class Budget:
    """What a pod that plans may use for the work itself; 0 of either is nothing at all.

    >>> small = Estimate(core_seconds=40, memory_bytes=300 << 20)
    >>> Budget(seconds=60, memory_mib=512).holds(small), Budget(seconds=30, memory_mib=512).holds(small)
    (True, False)
    >>> Budget(seconds=60, memory_mib=256).holds(small), Budget(seconds=0, memory_mib=512).holds(Estimate())
    (False, False)
    """

    seconds: float
    memory_mib: int

    def holds(self, estimate: Estimate) -> bool:
        """Whether work of this cost may be done here."""
        if not self.seconds or not self.memory_mib:
            return False
        return estimate.core_seconds <= self.seconds and estimate.memory_bytes <= self.memory_mib * MIB

    def without(self, estimate: Estimate) -> Budget:
        """What is left for the jobs after this one. A budget of 0 would be none at all, so a little remains."""
        return Budget(max(self.seconds - estimate.core_seconds, 0.001) if self.seconds else 0.0, self.memory_mib)


ALWAYS_PODS = Budget(0, 0)


@dataclass(frozen=True)
class Step:
    """What became of a job.

    Attributes:
        plan: its plan.
        way: who does it, or has done it.
        record: what came out, if it was done here.
        lines: sentences for the person who reads the log.
    """

    plan: Plan[Any, Any]
    way: Way
    record: JobRecord | None = None
    lines: list[str] = field(default_factory=list)

    @property
    def summary(self) -> str:
        """The way and its reason, in a sentence."""
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
) -> Step:
    """Plan a job, do it here if the budget holds it, and write for the workflow what came of it.

    An earlier attempt of the same pod, which has the same ACD_RUN_ID, is continued: its plan is not made again, shards
    that have markers are not done again, and what it has published already is written for the workflow once more.

    Args:
        job: the job.
        settings: its settings.
        site: where it works.
        budget: what this pod may use.
        outputs: the folder that gets the files which the workflow reads.
        quarantine: inputs and shards that may fail for good and are left out.
        units_before: units that this pod has done for other jobs, of which its progress tells too.
    """
    begun = time.monotonic()
    with noting_failure(site.address, job.name, "plan"):
        plan = _plan_of_this_run(job, settings, site) or _plan(job, settings, site, budget, quarantine)
        way = _way(plan, budget)
        write_plan(plan, outputs, handed_over=way is Way.PODS)
        write_texts({"way": way.value}, outputs)
    if way is not Way.HERE:
        return Step(plan, way, lines=left_out_by(plan))
    total = plan.units * len(plan.rounds)
    with (
        noting_failure(site.address, job.name, "run"),
        WorkerPool(0) as pool,
        PodBar(job.name, total, unit=job.unit, before=units_before) as bar,
    ):
        outcome = run_planned(
            job, plan, site.address, pool=pool, progress=False, quarantine=quarantine, bar=bar, begun=begun
        )
    with noting_failure(site.address, job.name, "gather"):
        record = record_gathered(job, plan, gathered_rounds(plan, site), site)
        write_figures(record.news, outputs)
        write_artifacts(job.artifacts(plan, site), site, outputs)
    return Step(plan, way, record, outcome.lines)


def _way(plan: Plan[Any, Any], budget: Budget) -> Way:
    if plan.nothing_to_do:
        return Way.NOTHING
    return Way.HERE if budget.holds(plan.estimate) else Way.PODS


def _plan(job: Job[Any, Any], settings: Settings, site: Site, budget: Budget, quarantine: int) -> Plan[Any, Any]:
    plan = make_plan(job, settings, site, _acceptance(budget), quarantine=quarantine)
    record_plan(plan, settings, site)
    return plan


def _acceptance(budget: Budget) -> Callable[[Plan[Any, Any]], None]:
    """What refuses a plan that goes to pods and that a workflow could not carry."""

    def accept(plan: Plan[Any, Any]) -> None:
        if not budget.holds(plan.estimate):
            require_carried(plan)

    return accept


def _plan_of_this_run(job: Job[Any, Any], settings: Settings, site: Site) -> Plan[Any, Any] | None:
    """The plan that an earlier attempt of this pod has stored for these settings, or None.

    Once it is published, another plan would say that there is nothing to do, and what it found would be told nobody.
    """
    record = known_in_this_run(job.name, site)
    if record is None or record.nothing_to_do:
        return None
    try:
        plan = load_plan(job, record.plan_id, site)
    except AcdError as error:
        if error.code not in PLAN_AGAIN:
            raise
        return None
    same = plan.settings.model_dump(mode="json") == settings.model_dump(mode="json")  # a NaN equals none
    return plan if same else None
