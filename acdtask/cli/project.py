"""How commands take values from `acd.toml` and from the environment."""

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
    "lifted",
    "require_aoi",
    "taking_aoi",
]

_OPTION = "--project"

Bbox = Annotated[str, typer.Option("--bbox", metavar="W,S,E,N", help="In place of --aoi: a rectangle in degrees.")]
AoiName = Annotated[str, typer.Option("--aoi-name", metavar="NAME", help="Name of the area, if its file has none.")]
AoiStart = Annotated[str, typer.Option("--aoi-start", metavar="DATE", help="First date of the area.")]
AoiEnd = Annotated[str, typer.Option("--aoi-end", metavar="DATE", help="Last date of the area.")]

AREA_OPTIONS: Mapping[str, Any] = {"bbox": Bbox, "aoi_name": AoiName, "aoi_start": AoiStart, "aoi_end": AoiEnd}
"""The options beside `--aoi`, which together with it say an area."""

_chosen: dict[str, str | None] = {"file": None}


def lifted(arguments: Sequence[str]) -> list[str]:
    """The arguments with `--project FILE` in front, where the root command looks for it.

    >>> lifted(["show", "patches", "--project", "koln/acd.toml", "--json"])
    ['--project', 'koln/acd.toml', 'show', 'patches', '--json']
    """
    front: list[str] = []
    rest: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        if argument == "--":
            return [*front, *rest, argument, *waiting]
        if argument == _OPTION:
            front += [argument, *[value for value in [next(waiting, None)] if value is not None]]
        elif argument.startswith(f"{_OPTION}="):
            front.append(argument)
        else:
            rest.append(argument)
    return [*front, *rest]


def choose_project(file: str | None) -> None:
    """Let a file be the project of this process; None for that of the environment or of the working folder."""
    _chosen["file"] = file


def current_project() -> Project | None:
    """The project that commands take values from, if there is one. PROJECT_INVALID."""
    from acdtask.project.config import find_project

    return find_project(_chosen["file"])


def defaults_of(names: Sequence[str], command_path: str) -> dict[str, Any]:
    """The values that the project has for the parameters of a command. PROJECT_INVALID."""
    project = current_project()
    if project is None:
        return {}
    values = {"variable": "CoherenceVV", **project.shared, "layout": project.layout}
    if command_path.endswith("show patches"):
        values["name"] = project.sections.get("monitor", {}).get("name")
    return {name: values[name] for name in (*names, "name") if values.get(name) is not None}


def area_given(options: Mapping[str, Any], file: Mapping[str, Any] | None = None) -> str | None:
    """The AOI that options, the environment, a settings file or the project say. What `chosen_aoi` raises."""
    from acdtask.project.config import AREA, chosen_aoi, environment_values

    project = current_project()
    return chosen_aoi(options, environment_values(AREA), file or {}, project.shared if project else {})


def require_aoi(aoi: str | None) -> str:
    """The AOI. USAGE if there is none."""
    if not aoi:
        raise AcdError(
            ErrorCode.USAGE,
            "no area is given",
            "Give --aoi FILE, or --bbox W,S,E,N and --aoi-name; or name one in acd.toml ('acdtask init').",
        )
    return aoi


def taking_aoi(function: Callable[..., None]) -> Callable[..., None]:
    """The function, a command with a parameter `aoi`, with the other options that say an area; it gets one AOI.

    Without any area `aoi` is empty.
    """
    signature = inspect.signature(function, eval_str=True)
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default="", annotation=option)
        for name, option in AREA_OPTIONS.items()
    ]

    @functools.wraps(function)
    def command(**values: Any) -> None:
        area = {name: values.pop(name) for name in AREA_OPTIONS}
        function(**values | {"aoi": area_given({**area, "aoi": values["aoi"]}) or ""})

    parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in signature.parameters.values()]
    wanted = [*parameters, *more]
    command.__signature__ = signature.replace(parameters=wanted)  # type: ignore[attr-defined]  # inspect reads it
    command.__annotations__ = {one.name: one.annotation for one in wanted}
    return command
