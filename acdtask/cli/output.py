"""Print tables and JSON, and write output files."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from acdtask.storage.files import write_file, writing
from acdtask.wording import aligned

__all__ = ["bytes_text", "say", "say_json", "seconds_text", "table", "write_json", "write_text"]

_KILO = 1000
_MINUTE, _HOUR = 60, 3600
_ROUND_UP_BELOW = 120


def say(text: str) -> None:
    """Print a line of results."""
    typer.echo(text)


def say_json(value: Any) -> None:
    """Print a JSON document."""
    typer.echo(json.dumps(value, indent=2, default=str))


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table: with borders on a terminal, as aligned text otherwise."""
    cells = [[str(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _rich_table(columns, cells)
    else:
        typer.echo("\n".join(aligned([columns, *cells])))


def _rich_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rich_table = Table(*columns)
    for row in rows:
        rich_table.add_row(*[Text(cell) for cell in row])
    Console().print(rich_table)


def bytes_text(count: int) -> str:
    """Format a number of bytes.

    >>> bytes_text(999), bytes_text(1_234_567)
    ('999 B', '1.2 MB')
    """
    size = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < _KILO:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= _KILO
    return f"{size:.1f} PB"


def seconds_text(seconds: float) -> str:
    """Format a duration.

    >>> seconds_text(0.2), seconds_text(90), seconds_text(600), seconds_text(8000)
    ('less than a second', '90 s', '10 min', '2.2 h')
    """
    if seconds < 1:
        return "less than a second"
    if seconds < _ROUND_UP_BELOW:
        return f"{seconds:.0f} s"
    return f"{seconds / _MINUTE:.0f} min" if seconds < 2 * _HOUR else f"{seconds / _HOUR:.1f} h"


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file. DISK_FULL, STORE_DENIED, OUTPUT_UNWRITABLE."""
    write_text(path, json.dumps(value) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file. DISK_FULL, STORE_DENIED, OUTPUT_UNWRITABLE."""
    with writing(path):
        write_file(path, text.encode())
