"""The command `watch`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from acdtask.cli.lazy import as_command
from acdtask.cli.output import bytes_text, say, seconds_text
from acdtask.cli.project import current_project
from acdtask.errors import AcdError, ErrorCode

if TYPE_CHECKING:
    from acdtask.jobs.contract import Job, Settings
    from acdtask.project.config import Project
    from acdtask.project.watch import Pending

__all__ = ["command"]


@as_command(
    "Runs all pending jobs for the area of acd.toml: ingests new images, creates the layout and the baseline once, "
    "compares new images with the baseline, and writes the report. If the file describes several series, all are run, "
    "and fused if it has [fuse]. Jobs that are up to date are skipped. Run it "
    "again whenever there may be new images; after an interruption it continues where it stopped.",
    "acdtask watch --plan",
    "acdtask watch",
)
def command(
    plan: Annotated[bool, typer.Option("--plan", help="Only show what there is to do.")] = False,
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="Number of processes.  [default: one per core]", show_default=False)
    ] = None,
) -> None:
    from acdtask.cli.settings import settings_of_job
    from acdtask.engine.processes import cores
    from acdtask.project.watch import pending_jobs, steps_of, watch

    project = _project()
    address = _cube(project)

    width = max(12, *(len(step.label) for step in steps_of(project)))

    def settings_of(job: Job[Any, Any], series: str) -> Settings:
        return settings_of_job(job, {}, {}, address, series)

    def say_lines(step: str, lines: list[str]) -> None:
        say(f"{step:{width}} {'; '.join(lines)}")

    if plan:
        for pending in pending_jobs(project, settings_of, address):
            say_lines(pending.step, [_text(pending)])
        return
    count = cores() if workers is None else workers
    result = watch(project, settings_of, address, workers=count, on_finished=say_lines)
    for line in result.summary():
        say(line)


def _project() -> Project:
    project = current_project()
    if project is None:
        raise AcdError(
            ErrorCode.PROJECT_INVALID,
            "there is no acd.toml in this folder",
            "Write one with 'acdtask init --source FOLDER', or give one with --project FILE.",
        )
    return project


def _cube(project: Project) -> str:
    """The address of the cube. PROJECT_INVALID if there is none."""
    from acdtask.project.config import environment_values

    address = environment_values(("cube",)).get("cube") or project.shared.get("cube")
    if not address:
        raise project.error('no cube is set: write, for example, cube = "cube"')
    return str(address)


def _text(pending: Pending) -> str:
    draft = pending.draft
    if draft is None:
        return f"follows {pending.after}" + (f": {pending.note}" if pending.note else "")
    unusable = "".join(f"; not usable: {failure}" for failure in draft.unusable.values())
    if draft.nothing_to_do:
        return f"nothing to do: {draft.nothing_to_do}{unusable}"
    estimate = draft.estimate
    parts = [f"{count} {name}" for name, count in ((pending.unit, estimate.tiles), ("dates", estimate.dates)) if count]
    parts += [f"{bytes_text(estimate.bytes_read)} to read"] if estimate.bytes_read else []
    parts += [f"about {seconds_text(estimate.core_seconds)} of one core"] if estimate.core_seconds else []
    notes = [
        f"{name}: {note}" for name, note in draft.notes.items() if isinstance(note, str | int | float) and note != 0
    ]
    return ", ".join(parts) + "".join(f"; {note}" for note in notes) + unusable
