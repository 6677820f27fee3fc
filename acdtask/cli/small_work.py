"""Options of the commands that do small work where it is planned."""

from __future__ import annotations

import math
from typing import Annotated

import typer

__all__ = ["MEMORY_DEFAULT", "SECONDS_DEFAULT", "HereMemory", "HereSeconds"]

SECONDS_DEFAULT, MEMORY_DEFAULT = "600", "2048"


def _seconds(text: str) -> float:
    """Seconds; a workflow gives an empty text for none.

    >>> _seconds(""), _seconds("2.5")
    (0.0, 2.5)
    """
    try:
        seconds = float(text.strip() or "0")
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise typer.BadParameter(f"{text!r} is not a number of seconds.")
    return seconds


def _mebibytes(text: str) -> int:
    """MiB; a workflow gives an empty text for none.

    >>> _mebibytes(""), _mebibytes("512")
    (0, 512)
    """
    number = text.strip() or "0"
    if not (number.isascii() and number.isdigit()):
        raise typer.BadParameter(f"{text!r} is not a whole number of MiB.")
    return int(number)


HereSeconds = Annotated[
    float,
    typer.Option(
        "--here-seconds",
        metavar="SECONDS",
        parser=_seconds,
        help="Do the work in this process if the plan expects no more seconds of a core; 0 never does.",
    ),
]
HereMemory = Annotated[
    int,
    typer.Option(
        "--here-memory",
        metavar="MIB",
        parser=_mebibytes,
        help="Do the work in this process if the plan expects no more memory, in MiB; 0 never does.",
    ),
]
