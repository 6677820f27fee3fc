"""Options that the commands for looking around share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from acdtask.cli.output import say, say_json
from acdtask.errors import AcdError, ErrorCode

if TYPE_CHECKING:
    from acdtask.cube import model

__all__ = [
    "Aoi",
    "AsJson",
    "Cube",
    "IfAny",
    "InstanceName",
    "LayoutName",
    "Limit",
    "VariableName",
    "open_cube",
    "say_no_cube",
]

Cube = Annotated[
    str,
    typer.Option("--cube", envvar="ACD_CUBE", metavar="ADDRESS", help="Folder or s3://bucket/prefix of the cube."),
]
Aoi = Annotated[
    str, typer.Option("--aoi", metavar="FILE", help="AOI file: GeoJSON, GeoPackage, Shapefile, KML.  [env: ACD_AOI]")
]
LayoutName = Annotated[str, typer.Option("--layout", envvar="ACD_LAYOUT", metavar="NAME", help="Name of the layout.")]
VariableName = Annotated[
    str, typer.Option("--variable", envvar="ACD_VARIABLE", metavar="NAME", help="Name of the variable.")
]
InstanceName = Annotated[
    str, typer.Option("--instance", envvar="ACD_INSTANCE", metavar="NAME", help="Name of the instance.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Limit = Annotated[int, typer.Option("--limit", metavar="N", min=0, help="Maximum number to show; 0 shows all.")]

IfAny = Annotated[
    bool, typer.Option("--if-any", help="A missing cube is not an error, if the storage confirms that it is missing.")
]


def say_no_cube(error: AcdError, address: str, *, if_any: bool, as_json: bool) -> None:
    """Say that there is no cube yet if that is what the error means and it is allowed; otherwise raise it."""
    if not if_any or error.code is not ErrorCode.CUBE_UNKNOWN:
        raise error
    if as_json:
        say_json(None)
    else:
        say(f"there is no cube at {address} yet")


def open_cube(address: str) -> model.Cube:
    """The cube at an address, with the records of the Geocube that the environment names, if it names one."""
    from acdtask.jobs.contract import Site

    return Site(address).cube
