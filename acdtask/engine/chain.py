"""Job after job in one pod, as long as each is small; the first that is not is handed over to pods of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from acdtask.engine.pod import write_texts
from acdtask.engine.small_work import Budget, Step, Way, do_or_hand_over
from acdtask.jobs.contract import Job, Settings, Site

__all__ = ["END", "advance"]

END = "end"
"""In place of a job's name, after the last one."""


def advance(
    jobs: Sequence[Job[Any, Any]],
    settings_of: Callable[[Job[Any, Any]], Settings],
    site: Site,
    budget: Budget,
    outputs: Path,
    *,
    quarantine: int = 0,
    told: Callable[[Job[Any, Any], Step], None] = lambda _job, _step: None,
) -> list[Step]:
    """Do jobs one after the other, up to the first that the rest of the budget does not hold.

    Below `outputs` there is a folder for each job, with what `do_or_hand_over` writes; jobs that come later have `way`
    alone. `next` is the job to go on with once the pods are done, or END.

    Args:
        jobs: in their order.
        settings_of: gives the settings of a job, once the jobs before it are done.
        site: where they work.
        budget: of all of them together.
        outputs: the folder that gets the files which the workflow reads.
        quarantine: inputs and shards of each job that may fail for good and are left out.
        told: called when a job is done, or handed over.

    Returns:
        What became of each job that was planned.
    """
    write_texts({"next": END}, outputs)
    for job in jobs:
        write_texts({"way": Way.LATER.value}, outputs / job.name)
    steps: list[Step] = []
    units = 0
    for number, job in enumerate(jobs, start=1):
        folder = outputs / job.name
        step = do_or_hand_over(job, settings_of(job), site, budget, folder, quarantine=quarantine, units_before=units)
        steps.append(step)
        told(job, step)
        if step.way is Way.PODS:
            write_texts({"next": jobs[number].name if number < len(jobs) else END}, outputs)
            break
        if step.way is Way.HERE:
            budget = budget.without(step.plan.estimate)
            units += step.plan.units * len(step.plan.rounds)
    return steps
