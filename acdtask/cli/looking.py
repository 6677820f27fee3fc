"""Options that the commands for looking around share."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["AsJson", "Cube", "Limit"]

Cube = Annotated[
    str,
    typer.Option("--cube", envvar="ACD_CUBE", metavar="ADDRESS", help="Folder or s3://bucket/prefix of the cube."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Limit = Annotated[int, typer.Option("--limit", metavar="N", min=0, help="Show at most so many; 0 shows all.")]
