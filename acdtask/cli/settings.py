"""The settings of a job from all that may say them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from acdtask import log
from acdtask.cli.options import settings_from
from acdtask.cli.project import area_given, current_project
from acdtask.errors import AcdError, ErrorCode
from acdtask.project.config import AREA, environment_values

if TYPE_CHECKING:
    from acdtask.jobs.contract import Job, Settings

__all__ = ["settings_of_job"]

SHARED_SETTINGS = ("layout", "variable", "instance")
MADE_LAYOUT = "images"
CELL_SIZE = 1024
MAKING = ("consolidate", "baseline")
"""The jobs that get a layout made where the cube has none; the others need what these have done."""

_events = log.events("cli")


def settings_of_job(job: Job[Any, Any], options: Mapping[str, Any], file: Mapping[str, Any], address: str) -> Settings:
    """The settings: options, then the environment, then the settings file, then acd.toml, then the defaults.

    Args:
        job: whose settings they are.
        options: what was given on the command line, and with it the area's options.
        file: the values of the settings file.
        address: of the cube, where a layout that nothing names is looked for.

    Raises:
        AcdError: those of `settings_from` and `area_given`; LAYOUT_UNKNOWN if it is not clear which layout is meant.
    """
    fields = job.settings.model_fields
    project = current_project()
    given = {name: value for name, value in options.items() if name not in AREA}
    given = {name: value for name, value in environment_values(SHARED_SETTINGS).items() if name in fields} | given
    inside = {name: value for name, value in file.items() if name not in AREA}
    if "aoi" in fields and (aoi := area_given(options, file)):
        given["aoi"] = aoi
    defaults = project.of_job(job.name, fields) if project else {}
    named = {**defaults, **inside, **given}
    if address and "layout" in fields and fields["layout"].is_required() and not named.get("layout"):
        given["layout"] = _layout_of_cube(address, job.name, {**_defaults_of(job), **named})
    origin = f"{project.file}, [{job.name}]" if project else ""
    settings: Settings = settings_from(job.settings, given, inside, defaults, origin)
    return settings


def _defaults_of(job: Job[Any, Any]) -> dict[str, Any]:
    return {name: field.get_default() for name, field in job.settings.model_fields.items() if not field.is_required()}


def _layout_of_cube(address: str, job: str, values: Mapping[str, Any]) -> str:
    """The only layout of a cube; one made from its images if it has none. LAYOUT_UNKNOWN, LAYOUT_INVALID."""
    from acdtask.cube.layout_rules import regular_grid_like
    from acdtask.jobs.contract import Site
    from acdtask.raster.grid import Layout

    cube = Site(address).cube
    names = [layout.name for layout in cube.layouts()]
    if len(names) > 1:
        raise AcdError(
            ErrorCode.LAYOUT_UNKNOWN, f"no layout is named, and the cube has {', '.join(names)}", "Give --layout NAME."
        )
    if names:
        _events.info("layout.chosen", layout=names[0], why="the only one of the cube")
        return names[0]
    if job not in MAKING:
        raise AcdError(ErrorCode.LAYOUT_UNKNOWN, "no layout is named, and the cube has none")
    variable, instance = str(values["variable"]), str(values["instance"])
    images = [dataset.grid for dataset in cube.datasets(variable, instance) if not dataset.layout]
    layout = Layout(name=MADE_LAYOUT, grid=regular_grid_like(images, CELL_SIZE, f"{variable}:{instance}"))
    cube.add_layout(layout)
    _events.info("layout.made", layout=layout.name, why="the cube had none", grid=layout.grid.model_dump_json())
    return layout.name
