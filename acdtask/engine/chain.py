"""Runs jobs one after the other in one pod while they are small. The first larger one gets pods of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from acdtask.engine.pod import write_texts
from acdtask.engine.small_work import Budget, JobOutcome, Way, do_or_hand_over
from acdtask.jobs.contract import Job, Settings, Site

__all__ = ["END", "advance"]

END = "end"
"""Stands for the next job after the last one."""


def advance(
    jobs: Sequence[Job[Any, Any]],
    settings_of: Callable[[Job[Any, Any]], Settings],
    site: Site,
    budget: Budget,
    outputs: Path,
    *,
    quarantine: int = 0,
    report: Callable[[Job[Any, Any], JobOutcome], None] = lambda _job, _outcome: None,
) -> list[JobOutcome]:
    """Run jobs one after the other, up to the first that exceeds the remaining budget.

    `outputs` gets a folder per job with the files that `do_or_hand_over` writes; later jobs only get `way`. The file
    `next` names the job to continue with once the pods are done, or END.

    `settings_of` returns the settings of a job once the jobs before it are done. `budget` is for all jobs together;
    `quarantine` is, per job, the number of shards that may fail permanently and be left out. `report` is
    called when a job is done or handed over. Returns the outcome of each job that was planned.
    """
    write_texts({"next": END}, outputs)
    for job in jobs:
        write_texts({"way": Way.LATER.value}, outputs / job.name)
    outcomes: list[JobOutcome] = []
    units = 0
    for number, job in enumerate(jobs, start=1):
        folder = outputs / job.name
        outcome = do_or_hand_over(
            job, settings_of(job), site, budget, folder, quarantine=quarantine, units_before=units
        )
        outcomes.append(outcome)
        report(job, outcome)
        if outcome.way is Way.PODS:
            write_texts({"next": jobs[number].name if number < len(jobs) else END}, outputs)
            break
        if outcome.way is Way.HERE:
            budget = budget.without(outcome.plan.estimate)
            units += outcome.plan.units * len(outcome.plan.rounds)
    return outcomes
