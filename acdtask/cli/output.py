"""What commands print: tables for people, JSON for machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from acdtask.storage.files import write_file, writing

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
    """Print a table: with lines on a terminal, as aligned text elsewhere."""
    cells = [[str(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _rich_table(columns, cells)
    else:
        for line in plain_table(columns, cells):
            typer.echo(line)


def plain_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligned columns, two spaces apart.

    >>> plain_table(["name", "tiles"], [["utm", "4"], ["mercator", "12"]])
    ['name      tiles', 'utm       4', 'mercator  12']
    """
    everything = [list(columns), *[list(row) for row in rows]]
    widths = [max(len(row[column]) for row in everything) for column in range(len(columns))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in everything
    ]


def _rich_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(*columns)
    for row in rows:
        drawn.add_row(*[Text(cell) for cell in row])
    Console().print(drawn)


def bytes_text(count: int) -> str:
    """A number of bytes for people.

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
    """A duration for people.

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
