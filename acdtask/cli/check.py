"""The command `check`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import BaseModel, ConfigDict
from typer.core import TyperCommand

from acdtask.cli.lazy import command_of, example
from acdtask.cli.output import say
from acdtask.errors import AcdError, ErrorCode

if TYPE_CHECKING:
    from acdtask.jobs.contract import Settings, Site

__all__ = ["Monitor", "command"]

Monitors = Annotated[
    list[str],
    typer.Option(
        "--monitor",
        metavar="JSON",
        help="A monitor: its name, the workflow template, the address of its AOI, and settings as the template's "
        "parameters.  [repeatable]",
    ),
]
Offline = Annotated[
    bool, typer.Option("--offline", help="Only check settings and areas; contact neither the cube nor the sources.")
]
CubeIfAny = Annotated[
    str,
    typer.Option(
        "--cube", envvar="ACD_CUBE", metavar="ADDRESS", help="Folder or s3://bucket/prefix of the cube; see --offline."
    ),
]


class Monitor(BaseModel):
    """A monitor as the chart passes it.

    Attributes:
        template: acd-all, or acd-<job>.
        aoi: address of the AOI.
        settings: parameters of the template.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    template: str = "acd-all"
    aoi: str
    settings: dict[str, str] = {}


def command() -> TyperCommand:
    """Make the command."""
    text = (
        "Checks whether monitors of the chart can run, without writing anything: settings, areas (rings, longitudes "
        "and latitudes, coordinate systems), and the plan of the first job, which reads the cube and the source. The "
        "chart runs it before an installation with --offline, and completely in 'helm test'. All errors are reported, "
        "each with the name of its monitor."
    )
    monitor = """'{"name": "koln", "aoi": "koln.json", "settings": {"ingest-source": "images", "layout": "utm"}}'"""
    return command_of(_check, text + example(f"acdtask check --offline --monitor {monitor}"), ())


def _check(monitors: Monitors, cube: CubeIfAny = "", offline: Offline = False) -> None:
    from acdtask.engine.monitor_check import error_of_all
    from acdtask.engine.stages import open_site

    if not cube and not offline:
        raise AcdError(ErrorCode.USAGE, "no cube is given", "Give --cube ADDRESS, or --offline.")
    site = None if offline else open_site(cube)
    parsed = [_parsed(text) for text in monitors]
    failures: list[tuple[str, AcdError]] = []
    for monitor in parsed:
        errors, lines = _checked(monitor, site)
        failures += [(monitor.name, error) for error in errors]
        for line in lines or [f"{error.code.label}, see below" for error in errors]:
            say(f"{monitor.name}: {line}")
    if failures:
        raise error_of_all(failures, len(parsed))


def _parsed(text: str) -> Monitor:
    """Parse a monitor. USAGE."""
    try:
        return Monitor.model_validate_json(text)
    except ValueError as error:
        raise AcdError(ErrorCode.USAGE, f"--monitor is not a monitor in JSON: {error}") from error


def _checked(monitor: Monitor, site: Site | None) -> tuple[list[AcdError], list[str]]:
    """Check a monitor; offline without a site.

    Returns:
        All errors, and what there is to say if there are none.
    """
    from acdtask.engine.monitor_check import check_area, check_plan
    from acdtask.jobs.registry import load_job

    errors: list[AcdError] = []
    settings: dict[str, Settings] = {}
    for job in _jobs_of(monitor):
        try:
            settings[job] = _settings_of(monitor, job)
        except AcdError as error:
            errors.append(error)
    # The chart mounts AOIs of existing ConfigMaps at absolute paths; before an installation they may be missing.
    missing = site is None and monitor.aoi.startswith("/") and not Path(monitor.aoi).exists()
    if not missing:
        try:
            check_area(monitor.aoi, monitor.settings.get("layout", ""), _cell_size(settings))
        except AcdError as error:
            errors.append(error)
    if errors:
        return errors, []
    if site is None:
        return [], [
            "its settings are valid; its AOI does not exist yet" if missing else "its settings and AOI are valid"
        ]
    first = _jobs_of(monitor)[0]
    try:
        return [], [check_plan(load_job(first), settings[first], site)]
    except AcdError as error:
        return [error], []


def _cell_size(settings: dict[str, Settings]) -> int:
    from acdtask.jobs.ingest.settings import IngestSettings

    size: int = getattr(settings.get("ingest"), "cell_size", IngestSettings.model_fields["cell_size"].default)
    return size


def _jobs_of(monitor: Monitor) -> list[str]:
    """The jobs of a monitor's template. USAGE if it is unknown."""
    from acdtask.project.config import JOBS_IN_ORDER

    job = monitor.template.removeprefix("acd-")
    if job not in ("all", "fuse", *JOBS_IN_ORDER):
        raise AcdError(ErrorCode.USAGE, f"monitor {monitor.name} has the template {monitor.template}, which is unknown")
    return list(JOBS_IN_ORDER) if job == "all" else [job]


def _settings_of(monitor: Monitor, job: str) -> Settings:
    """The settings of a job as its pod would make them. USAGE, SETTING_INVALID, with the names of the parameters."""
    from acdtask.cli.options import settings_from, values_of_parameters
    from acdtask.cli.parameters import bound_to
    from acdtask.jobs.registry import load_job

    model = load_job(job).settings
    bounds = bound_to(job, model, alone=len(_jobs_of(monitor)) == 1)
    names = {bound.option.field: bound.parameter for bound in bounds}
    given = {**monitor.settings, "aoi": monitor.aoi}
    texts = [f"{bound.option.field}={given[bound.parameter]}" for bound in bounds if bound.parameter in given]
    settings: Settings = settings_from(
        model, values_of_parameters(model, texts), shown=lambda field: names.get(field, field)
    )
    return settings
