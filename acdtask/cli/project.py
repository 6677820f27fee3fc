"""Values that commands take from `acd.toml` and from the environment."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from acdtask.errors import AcdError, ErrorCode

if TYPE_CHECKING:
    from acdtask.project.config import Project

__all__ = [
    "AREA_OPTIONS",
    "area_given",
    "choose_project",
    "current_project",
    "defaults_of",
    "project_first",
    "require_aoi",
    "taking_aoi",
]

_OPTIONS = ("--project", "--series")

Bbox = Annotated[str, typer.Option("--bbox", metavar="W,S,E,N", help="Instead of --aoi: a rectangle in degrees.")]
AoiName = Annotated[
    str, typer.Option("--aoi-name", metavar="NAME", help="Name of the area; overrides that of its file.")
]
AoiStart = Annotated[str, typer.Option("--aoi-start", metavar="DATE", help="First date of the area.")]
AoiEnd = Annotated[str, typer.Option("--aoi-end", metavar="DATE", help="Last date of the area.")]

AREA_OPTIONS: Mapping[str, Any] = {"bbox": Bbox, "aoi_name": AoiName, "aoi_start": AoiStart, "aoi_end": AoiEnd}
"""The options that define an area together with `--aoi`."""

_chosen: dict[str, str | None] = {"file": None, "series": None}


def project_first(arguments: Sequence[str]) -> list[str]:
    """Move `--project FILE` and `--series NAME` to the front, where the root command expects them.

    >>> project_first(["show", "patches", "--project", "koln/acd.toml", "--json"])
    ['--project', 'koln/acd.toml', 'show', 'patches', '--json']
    """
    front: list[str] = []
    rest: list[str] = []
    remaining = iter(arguments)
    for argument in remaining:
        if argument == "--":
            return [*front, *rest, argument, *remaining]
        if argument in _OPTIONS:
            front += [argument, *[value for value in [next(remaining, None)] if value is not None]]
        elif argument.startswith(tuple(f"{option}=" for option in _OPTIONS)):
            front.append(argument)
        else:
            rest.append(argument)
    return [*front, *rest]


def choose_project(file: str | None, series: str | None = None) -> None:
    """Set the project file of this process; None for the one of the environment or of the working folder.

    `series` is the one to choose, if any.
    """
    _chosen.update(file=file, series=series)


def current_project() -> Project | None:
    """Read the project, if there is one; that of a series, if one was chosen. PROJECT_INVALID."""
    from acdtask.project.config import FILE, find_project

    project, series = find_project(_chosen["file"]), _chosen["series"]
    if series is None:
        return project
    if project is None:
        raise AcdError(
            ErrorCode.PROJECT_INVALID,
            f"--series {series} needs the file {FILE}, and there is none in this folder",
            "Leave out --series, or name the file with --project FILE.",
        )
    return project.chosen(series)


def defaults_of(names: Sequence[str], command_path: str) -> dict[str, Any]:
    """The project's values for the parameters of a command. PROJECT_INVALID."""
    project = current_project()
    if project is None:
        return {}
    shows_patches, fusion = command_path.endswith("show patches"), project.sections.get("fuse", {})
    if shows_patches or len(project.series) == 1:
        project = project.chosen(None)
    values = {"variable": "CoherenceVV", **project.shared, "layout": project.layout}
    if shows_patches:
        values["name"] = project.result.rpartition("/")[2]
    if command_path.endswith("show fused"):
        values["name"] = fusion.get("name")
    return {name: values[name] for name in (*names, "name") if values.get(name) is not None}


def area_given(options: Mapping[str, Any], file: Mapping[str, Any] | None = None) -> str | None:
    """Choose the AOI from options, environment, settings file and project. Errors of `chosen_aoi`."""
    from acdtask.project.config import AREA, chosen_aoi, environment_values

    project = current_project()
    return chosen_aoi(options, environment_values(AREA), file or {}, project.shared if project else {})


def require_aoi(aoi: str | None) -> str:
    """Return the AOI. USAGE if there is none."""
    if not aoi:
        raise AcdError(
            ErrorCode.USAGE,
            "no area is given",
            "Give --aoi FILE, or --bbox W,S,E,N and --aoi-name; or set one in acd.toml ('acdtask init').",
        )
    return aoi


def taking_aoi(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that define an area to a command with a parameter `aoi`, which gets the chosen AOI, or ""."""
    signature = inspect.signature(function, eval_str=True)
    area_options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default="", annotation=option)
        for name, option in AREA_OPTIONS.items()
    ]

    @functools.wraps(function)
    def command(**values: Any) -> None:
        area = {name: values.pop(name) for name in AREA_OPTIONS}
        function(**values | {"aoi": area_given({**area, "aoi": values["aoi"]}) or ""})

    own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in signature.parameters.values()]
    parameters = [*own, *area_options]
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # inspect reads it
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command
