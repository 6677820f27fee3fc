"""The command `chain`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from acdtask.cli.cube_options import Cube
from acdtask.cli.job import Quarantine
from acdtask.cli.lazy import command_of, example
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
        help="A setting of a job as a workflow gives it; an empty value means the default.  [repeatable]",
    ),
]


def command() -> TyperCommand:
    """The command."""
    text = (
        "Does ingest, consolidate, baseline, monitor and report one after the other in this process, as long as each "
        "plan is small. The first job that needs more than --here-seconds or --here-memory is only planned: a workflow "
        "does it in pods of its own, then calls this command again from the job after it (--from)."
    )
    shown = example(
        "acdtask chain --cube cube --outputs out --parameter ingest.source=images --parameter monitor.layout=utm"
    )
    return command_of(_chain, text + shown, ("cube",))


def _chain(
    cube: Cube,
    outputs: Annotated[Path, typer.Option("--outputs", metavar="FOLDER", help="Write what the workflow reads here.")],
    start: Annotated[FirstJob, typer.Option("--from", help="The first job.")] = "ingest",
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
    given = _by_job(parameters or [], [job.name for job in jobs])

    def settings_of(job: Job[Any, Any]) -> Settings:
        return settings_of_job(job, values_of_parameters(job.settings, given[job.name]), {}, cube)

    for job in jobs:  # a wrong value of a later job is an error before any work
        values_of_parameters(job.settings, given[job.name])
    wanted = jobs[[job.name for job in jobs].index(start) :]
    budget = Budget(here_seconds, here_memory)
    advance(wanted, settings_of, open_site(cube), budget, outputs, quarantine=quarantine, report=_tell)


def _tell(job: Job[Any, Any], step: JobOutcome) -> None:
    say(f"{job.name}: {step.summary}")
    for line in step.lines:
        say(f"{job.name}: {line}")


def _by_job(parameters: list[str], jobs: list[str]) -> dict[str, list[str]]:
    """The parameters of each job, without its name. SETTING_INVALID."""
    found: dict[str, list[str]] = {job: [] for job in jobs}
    for text in parameters:
        name, separator, value = text.partition(".")
        if not separator or name not in found:
            raise AcdError(
                ErrorCode.SETTING_INVALID,
                f"--parameter is {text!r}, and should be JOB.NAME=VALUE with one of {', '.join(jobs)}",
            )
        found[name].append(value)
    return found
