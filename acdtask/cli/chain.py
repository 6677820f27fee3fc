"""The command `chain`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from acdtask.cli.cube_options import Cube
from acdtask.cli.job import Quarantine
from acdtask.cli.lazy import as_command
from acdtask.cli.output import say
from acdtask.cli.small_work import MEMORY_DEFAULT, SECONDS_DEFAULT, HereMemory, HereSeconds
from acdtask.errors import AcdError, ErrorCode

if TYPE_CHECKING:
    from acdtask.engine.small_work import JobOutcome
    from acdtask.jobs.contract import Job, Settings

__all__ = ["command"]

FirstJob = Literal["ingest", "consolidate", "baseline", "monitor", "report"]
Given = Annotated[
    list[str] | None,
    typer.Option(
        "--parameter",
        metavar="JOB.NAME=VALUE",
        help="Setting of a job, as workflows give it; an empty value means the default.  [repeatable]",
    ),
]


@as_command(
    "Runs ingest, consolidate, baseline, monitor and report one after the other in this process, as long as each "
    "plan is small. The first job that needs more than --here-seconds or --here-memory is only planned: a workflow "
    "runs it in separate pods, then calls this command again from the next job (--from).",
    "acdtask chain --cube cube --outputs out --parameter ingest.source=images --parameter monitor.layout=utm",
    from_project=("cube",),
)
def command(
    cube: Cube,
    outputs: Annotated[
        Path, typer.Option("--outputs", metavar="FOLDER", help="Write the outputs for the workflow here.")
    ],
    start: Annotated[FirstJob, typer.Option("--from", help="First job to run.")] = "ingest",
    here_seconds: HereSeconds = SECONDS_DEFAULT,  # type: ignore[assignment]  # the option's parser takes a text
    here_memory: HereMemory = MEMORY_DEFAULT,  # type: ignore[assignment]  # the same
    parameters: Given = None,
    quarantine: Quarantine = "0",  # type: ignore[assignment]  # the same
) -> None:
    from acdtask.cli.options import values_of_parameters
    from acdtask.cli.settings import settings_of_job
    from acdtask.engine.chain import advance
    from acdtask.engine.pod import require_writable
    from acdtask.engine.small_work import Budget
    from acdtask.engine.stages import open_site
    from acdtask.jobs.registry import load_job
    from acdtask.project.config import JOBS_IN_ORDER

    require_writable(outputs)
    jobs = [load_job(name) for name in JOBS_IN_ORDER]
    parameters_of = _by_job(parameters or [], [job.name for job in jobs])

    def settings_of(job: Job[Any, Any]) -> Settings:
        return settings_of_job(job, values_of_parameters(job.settings, parameters_of[job.name]), {}, cube)

    for job in jobs:  # report invalid values of later jobs before any work
        values_of_parameters(job.settings, parameters_of[job.name])
    remaining = jobs[[job.name for job in jobs].index(start) :]
    budget = Budget(here_seconds, here_memory)
    advance(remaining, settings_of, open_site(cube), budget, outputs, quarantine=quarantine, report=_tell)


def _tell(job: Job[Any, Any], step: JobOutcome) -> None:
    say(f"{job.name}: {step.summary}")
    for line in step.lines:
        say(f"{job.name}: {line}")


def _by_job(parameters: list[str], jobs: list[str]) -> dict[str, list[str]]:
    """Group parameters by job, and remove the job's name from each. SETTING_INVALID."""
    by_job: dict[str, list[str]] = {job: [] for job in jobs}
    for text in parameters:
        name, separator, value = text.partition(".")
        if not separator or name not in by_job:
            raise AcdError(
                ErrorCode.SETTING_INVALID,
                f"--parameter is {text!r}, but must be JOB.NAME=VALUE, with a job of {', '.join(jobs)}",
            )
        by_job[name].append(value)
    return by_job
