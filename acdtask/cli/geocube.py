"""The commands `geocube status` and `geocube jobs list|show|continue|retry|cancel`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from acdtask.cli.cube_options import AsJson
from acdtask.cli.lazy import CONTEXT, Lazy, LazyGroup, command_of, example
from acdtask.cli.output import say, say_json, table
from acdtask.errors import AcdError, ErrorCode

if TYPE_CHECKING:
    from acdtask.cube.jobs import JobState
    from acdtask.cube.shared import ServedCube

__all__ = [
    "cancel_command",
    "continue_command",
    "group",
    "jobs_group",
    "list_command",
    "retry_command",
    "show_command",
    "status_command",
]

Job = Annotated[str, typer.Argument(metavar="JOB", help="Name or id of the job.")]
Force = Annotated[bool, typer.Option("--force", help="Even if it is running.")]
WHERE = "The environment names the server: ACD_GEOCUBE_ADDRESS, and ACD_GEOCUBE_KEY if it asks for a key. "


def group() -> LazyGroup:
    """The commands."""
    return LazyGroup(
        name="geocube",
        lazy={
            "status": Lazy("Connect, and list what the server has.", f"{__name__}:status_command"),
            "jobs": Lazy("List, show, continue, retry and cancel jobs.", f"{__name__}:jobs_group"),
        },
        help="Looks at a Geocube server and its jobs. " + WHERE + example("acdtask geocube status"),
        context_settings=CONTEXT,
    )


def jobs_group() -> LazyGroup:
    """The commands for jobs."""
    return LazyGroup(
        name="jobs",
        lazy={
            "list": Lazy("List the jobs.", f"{__name__}:list_command"),
            "show": Lazy("Show a job with its log.", f"{__name__}:show_command"),
            "continue": Lazy("Continue a job that waits for approval.", f"{__name__}:continue_command"),
            "retry": Lazy("Retry the failed part of a job.", f"{__name__}:retry_command"),
            "cancel": Lazy("Cancel a job and undo its work.", f"{__name__}:cancel_command"),
        },
        help="The jobs of a Geocube consolidate records and delete datasets. One that failed keeps its datasets locked "
        "until it is retried or cancelled. "
        + WHERE
        + example("acdtask geocube jobs list", "acdtask geocube jobs show acd-0123456789abcdef"),
        context_settings=CONTEXT,
    )


def status_command() -> TyperCommand:
    """The command `geocube status`."""
    text = "Connects to the Geocube and shows its version, its variables with their instances, and its layouts. "
    return command_of(_status, text + WHERE + example("acdtask geocube status", "acdtask geocube status --json"))


def list_command() -> TyperCommand:
    """The command `geocube jobs list`."""
    text = "Lists the jobs of the Geocube, oldest first. "
    return command_of(_list, text + WHERE + example("acdtask geocube jobs list --name 'acd-*'"))


def show_command() -> TyperCommand:
    """The command `geocube jobs show`."""
    text = "Shows the state of a job, what it needs if it is stuck, and its log. "
    return command_of(_show, text + WHERE + example("acdtask geocube jobs show acd-0123456789abcdef"))


def continue_command() -> TyperCommand:
    """The command `geocube jobs continue`."""
    text = "Continues a job that waits for approval. It may take some seconds until the server reacts. "
    return command_of(_continue, text + WHERE + example("acdtask geocube jobs continue acd-0123456789abcdef"))


def retry_command() -> TyperCommand:
    """The command `geocube jobs retry`."""
    text = "Retries the failed part of a job. "
    return command_of(_retry, text + WHERE + example("acdtask geocube jobs retry acd-0123456789abcdef"))


def cancel_command() -> TyperCommand:
    """The command `geocube jobs cancel`."""
    text = "Cancels a job, undoes its work, and releases its datasets. "
    return command_of(_cancel, text + WHERE + example("acdtask geocube jobs cancel acd-0123456789abcdef"))


def _status(as_json: AsJson = False) -> None:
    from acdtask.cube.shared import named_in_environment

    cube = _geocube()
    variables = {one.name: [instance.name for instance in cube.instances(one.name)] for one in cube.variables()}
    facts: dict[str, Any] = {
        "address": named_in_environment(),
        "version": cube.version(),
        "variables": variables,
        "layouts": [one.name for one in cube.layouts()],
    }
    if as_json:
        say_json(facts)
        return
    table(("geocube", ""), [("address", facts["address"]), ("version", facts["version"])])
    if variables:
        table(("variable", "instances"), [(name, ", ".join(some) or "-") for name, some in variables.items()])
    say(f"layouts: {', '.join(facts['layouts']) or 'none'}")


def _list(
    name: Annotated[str, typer.Option(metavar="PATTERN", help="Names, with * and ?.")] = "", as_json: AsJson = False
) -> None:
    jobs = _geocube().jobs(name)
    if as_json:
        say_json([one.model_dump(mode="json", exclude={"log", "tasks"}) for one in jobs])
        return
    if jobs:
        table(("name", "kind", "state", "updated", "tasks", "failed"), [_row(one) for one in jobs])
    say(f"{len(jobs)} job{'' if len(jobs) == 1 else 's'}")


def _show(job: Job, as_json: AsJson = False) -> None:
    from acdtask.cube.follow import ending_of

    found = _geocube().job(job)
    if as_json:
        say_json(found.model_dump(mode="json"))
        return
    rows: list[tuple[str, object]] = [("id", found.id), ("kind", found.kind), ("state", _state(found))]
    rows += [("created", found.created.isoformat()), ("updated", found.updated.isoformat())]
    rows += [("tasks", found.active_tasks), ("failed tasks", found.failed_tasks)]
    ending = ending_of(found)
    if ending is not None:
        rows += [(name, text) for name, text in (("error", ending.error), ("advice", ending.advice)) if text]
    table((found.name, ""), rows)
    for line in found.log:
        say(line)


def _continue(job: Job) -> None:
    cube = _geocube()
    found = cube.job(job)
    cube.continue_job(found.id)
    say(f"{found.name} goes on from {found.state}")


def _retry(job: Job, force: Force = False) -> None:
    cube = _geocube()
    found = cube.job(job)
    cube.retry_job(found.id, force=force)
    say(f"{found.name} tries again from {found.state}")


def _cancel(job: Job, force: Force = False) -> None:
    cube = _geocube()
    found = cube.job(job)
    cube.cancel_job(found.id, force=force)
    say(f"{found.name} is being cancelled from {found.state}")


def _geocube() -> ServedCube:
    """The Geocube that the environment names. USAGE if it names none."""
    from acdtask.cube.shared import ADDRESS, geocube_of_environment

    cube = geocube_of_environment()
    if cube is None:
        raise AcdError(ErrorCode.USAGE, f"{ADDRESS} is not set", f"Set {ADDRESS}, such as geocube://localhost:8080.")
    return cube


def _row(job: JobState) -> tuple[object, ...]:
    return job.name, job.kind, _state(job), job.updated.isoformat(), job.active_tasks, job.failed_tasks


def _state(job: JobState) -> str:
    return f"{job.state}, waits" if job.waiting else job.state
