"""Options that the commands for looking around share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from acdtask.cube import model

__all__ = ["AsJson", "Cube", "Limit", "open_cube"]

Cube = Annotated[
    str,
    typer.Option("--cube", envvar="ACD_CUBE", metavar="ADDRESS", help="Folder or s3://bucket/prefix of the cube."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Limit = Annotated[int, typer.Option("--limit", metavar="N", min=0, help="Show at most so many; 0 shows all.")]


def open_cube(address: str) -> model.Cube:
    """The cube at an address, with the records of the Geocube that the environment names, if it names one."""
    from acdtask.jobs.contract import Site

    return Site(address).cube
