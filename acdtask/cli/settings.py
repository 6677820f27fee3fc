"""Collect the settings of a job from all sources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from acdtask import log
from acdtask.cli.options import settings_from
from acdtask.cli.project import area_given, current_project
from acdtask.errors import AcdError, ErrorCode
from acdtask.project.config import AREA, JOBS_IN_ORDER, environment_values

if TYPE_CHECKING:
    from acdtask.jobs.contract import Job, Settings

__all__ = ["settings_of_job"]

SHARED_SETTINGS = ("layout", "variable", "instance")
DEFAULT_LAYOUT = "images"
CELL_SIZE = 1024
LAYOUT_MAKERS = ("consolidate", "baseline")
"""Jobs that create a layout if the cube has none; the other jobs need the results of these."""

_events = log.events("cli")


def settings_of_job(
    job: Job[Any, Any], options: Mapping[str, Any], file: Mapping[str, Any], address: str, series: str = ""
) -> Settings:
    """Make settings; precedence is options, environment, settings file, acd.toml, defaults.

    `options` include those of the area. `series` names that of acd.toml; if it has several, it may only be left out for
    jobs that concern all. The only layout of the cube at `address` is the default. Errors of `settings_from` and
    `area_given`; LAYOUT_UNKNOWN if no layout is named and the cube does not have exactly one.
    """
    fields = job.settings.model_fields
    project = current_project()
    if project and job.name in JOBS_IN_ORDER:
        project = project.chosen(series or None)
    given = {name: value for name, value in options.items() if name not in AREA}
    given = {name: value for name, value in environment_values(SHARED_SETTINGS).items() if name in fields} | given
    from_file = {name: value for name, value in file.items() if name not in AREA}
    if "aoi" in fields and (aoi := area_given(options, file)):
        given["aoi"] = aoi
    defaults = project.of_job(job.name, fields) if project else {}
    named = {**defaults, **from_file, **given}
    if address and "layout" in fields and fields["layout"].is_required() and not named.get("layout"):
        given["layout"] = _layout_of_cube(address, job.name, {**_defaults_of(job), **named})
    origin = project.origin_of(job.name) if project else ""
    settings: Settings = settings_from(job.settings, given, from_file, defaults, origin)
    return settings


def _defaults_of(job: Job[Any, Any]) -> dict[str, Any]:
    return {name: field.get_default() for name, field in job.settings.model_fields.items() if not field.is_required()}


def _layout_of_cube(address: str, job: str, values: Mapping[str, Any]) -> str:
    """Name the only layout of a cube; create one from its images if there is none. LAYOUT_UNKNOWN, LAYOUT_INVALID."""
    from acdtask.cube.layout_rules import regular_grid_like
    from acdtask.jobs.contract import Site
    from acdtask.raster.grid import Layout

    cube = Site(address).cube
    names = [layout.name for layout in cube.layouts()]
    if len(names) > 1:
        raise AcdError(
            ErrorCode.LAYOUT_UNKNOWN,
            f"no layout is given, and the cube has several: {', '.join(names)}",
            "Give --layout NAME.",
        )
    if names:
        _events.info("layout.chosen", layout=names[0], why="it is the only layout of the cube")
        return names[0]
    if job not in LAYOUT_MAKERS:
        raise AcdError(ErrorCode.LAYOUT_UNKNOWN, "no layout is given, and the cube has none")
    variable, instance = str(values["variable"]), str(values["instance"])
    images = [dataset.grid for dataset in cube.datasets(variable, instance) if not dataset.layout]
    layout = Layout(name=DEFAULT_LAYOUT, grid=regular_grid_like(images, CELL_SIZE, f"{variable}:{instance}"))
    cube.add_layout(layout)
    _events.info("layout.made", layout=layout.name, why="the cube had no layout", grid=layout.grid.model_dump_json())
    return layout.name
