"""The commands `geocube status` and `geocube jobs list|show|continue|retry|cancel`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from acdtask.cli.cube_options import AsJson
from acdtask.cli.lazy import Lazy, LazyGroup, as_command, example
from acdtask.cli.output import say, say_json, table
from acdtask.errors import AcdError, ErrorCode

if TYPE_CHECKING:
    from acdtask.cube.jobs import JobState
    from acdtask.cube.shared import ServedCube

__all__ = ["group"]

Job = Annotated[str, typer.Argument(metavar="JOB", help="Name or id of the job.")]
Force = Annotated[bool, typer.Option("--force", help="Also if the job is running.")]
SERVER = "The server is that of ACD_GEOCUBE_ADDRESS; ACD_GEOCUBE_KEY holds the API key, if one is needed. "


group = LazyGroup(
    name="geocube",
    lazy={
        "status": Lazy("Connect, and list the contents of the server.", f"{__name__}:status_command"),
        "jobs": Lazy("List, show, continue, retry and cancel jobs.", f"{__name__}:jobs_group"),
    },
    help="Inspects a Geocube server and its jobs. " + SERVER + example("acdtask geocube status"),
)

jobs_group = LazyGroup(
    name="jobs",
    lazy={
        "list": Lazy("List the jobs.", f"{__name__}:list_command"),
        "show": Lazy("Show a job with its log.", f"{__name__}:show_command"),
        "continue": Lazy("Continue a job that waits for approval.", f"{__name__}:continue_command"),
        "retry": Lazy("Retry the failed part of a job.", f"{__name__}:retry_command"),
        "cancel": Lazy("Cancel a job and undo its work.", f"{__name__}:cancel_command"),
    },
    help="The jobs of a Geocube consolidate records and delete datasets. A failed job keeps its datasets locked "
    "until it is retried or cancelled. "
    + SERVER
    + example("acdtask geocube jobs list", "acdtask geocube jobs show acd-0123456789abcdef"),
)


@as_command(
    "Connects to the Geocube and shows its version, its variables with their instances, and its layouts. " + SERVER,
    "acdtask geocube status",
    "acdtask geocube status --json",
)
def status_command(as_json: AsJson = False) -> None:
    from acdtask.cube.shared import named_in_environment

    cube = _geocube()
    names = [variable.name for variable in cube.variables()]
    variables = {name: [instance.name for instance in cube.instances(name)] for name in names}
    facts: dict[str, Any] = {
        "address": named_in_environment(),
        "version": cube.version(),
        "variables": variables,
        "layouts": [layout.name for layout in cube.layouts()],
    }
    if as_json:
        say_json(facts)
        return
    table(("geocube", ""), [("address", facts["address"]), ("version", facts["version"])])
    if variables:
        table(("variable", "instances"), [(name, ", ".join(instances) or "-") for name, instances in variables.items()])
    say(f"layouts: {', '.join(facts['layouts']) or 'none'}")


@as_command("Lists the jobs of the Geocube, oldest first. " + SERVER, "acdtask geocube jobs list --name 'acd-*'")
def list_command(
    name: Annotated[str, typer.Option(metavar="PATTERN", help="Pattern of names, with * and ?.")] = "",
    as_json: AsJson = False,
) -> None:
    jobs = _geocube().jobs(name)
    if as_json:
        say_json([job.model_dump(mode="json", exclude={"log", "tasks"}) for job in jobs])
        return
    if jobs:
        table(("name", "kind", "state", "updated", "tasks", "failed"), [_row(job) for job in jobs])
    say(f"{len(jobs)} job{'' if len(jobs) == 1 else 's'}")


@as_command(
    "Shows the state of a job, how to continue it if it is stuck, and its log. " + SERVER,
    "acdtask geocube jobs show acd-0123456789abcdef",
)
def show_command(job: Job, as_json: AsJson = False) -> None:
    from acdtask.cube.follow import ending_of

    state = _geocube().job(job)
    if as_json:
        say_json(state.model_dump(mode="json"))
        return
    rows: list[tuple[str, object]] = [("id", state.id), ("kind", state.kind), ("state", _state(state))]
    rows += [("created", state.created.isoformat()), ("updated", state.updated.isoformat())]
    rows += [("tasks", state.active_tasks), ("failed tasks", state.failed_tasks)]
    ending = ending_of(state)
    if ending is not None:
        rows += [(name, text) for name, text in (("error", ending.error), ("advice", ending.advice)) if text]
    table((state.name, ""), rows)
    for line in state.log:
        say(line)


@as_command(
    "Continues a job that waits for approval. The server may take a few seconds to react. " + SERVER,
    "acdtask geocube jobs continue acd-0123456789abcdef",
)
def continue_command(job: Job) -> None:
    cube = _geocube()
    state = cube.job(job)
    cube.continue_job(state.id)
    say(f"{state.name} continues from {state.state}")


@as_command("Retries the failed part of a job. " + SERVER, "acdtask geocube jobs retry acd-0123456789abcdef")
def retry_command(job: Job, force: Force = False) -> None:
    cube = _geocube()
    state = cube.job(job)
    cube.retry_job(state.id, force=force)
    say(f"{state.name} is retried from {state.state}")


@as_command(
    "Cancels a job, undoes its work, and releases its datasets. " + SERVER,
    "acdtask geocube jobs cancel acd-0123456789abcdef",
)
def cancel_command(job: Job, force: Force = False) -> None:
    cube = _geocube()
    state = cube.job(job)
    cube.cancel_job(state.id, force=force)
    say(f"{state.name} is being cancelled from {state.state}")


def _geocube() -> ServedCube:
    """Connect to the Geocube of the environment. USAGE if there is none."""
    from acdtask.cube.shared import ADDRESS, geocube_of_environment

    cube = geocube_of_environment()
    if cube is None:
        raise AcdError(ErrorCode.USAGE, f"{ADDRESS} is not set", f"Set {ADDRESS}, such as geocube://localhost:8080.")
    return cube


def _row(job: JobState) -> tuple[object, ...]:
    return job.name, job.kind, _state(job), job.updated.isoformat(), job.active_tasks, job.failed_tasks


def _state(job: JobState) -> str:
    return f"{job.state}, waiting" if job.waiting else job.state
