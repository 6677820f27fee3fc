"""Generate the page of the Python interface from the names, signatures and docstrings of `acdtask`."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from functools import cached_property
from types import FunctionType
from typing import Any

import acdtask
from acdtask.errors import ErrorCode

__all__ = ["python_page"]

FUNCTIONS = ("open", "baseline", "monitor", "patches")
CLASSES = ("OpenedCube", "Baseline", "Change", "PatchTable", "TablePatch", "AcdError")
LABELS = {code.name: code.label for code in ErrorCode}
SECTION = re.compile(r"^(Args|Attributes|Returns|Raises):$")
ENTRY = re.compile(r"^(\S[^:]*): (.*)$")

INTRODUCTION = """\
Install with `pip install 'acdtask[xarray]'`; without the extra, the functions work on numpy arrays only. Mistakes raise
`acdtask.AcdError`, with a sentence and a fix ([errors](errors.md)). [A notebook](../local.ipynb) has worked examples.
"""


def python_page(note: str) -> str:
    """Generate the page; `note` is its first line."""
    missing = {*acdtask.__all__} - {*FUNCTIONS, *CLASSES, "ErrorCode"}
    if missing:
        raise ValueError(f"names missing from the page of the Python interface: {missing}")
    parts = [note, "# Python\n", INTRODUCTION, _example()]
    for name in FUNCTIONS:
        parts += _callable(f"acdtask.{name}", getattr(acdtask, name), "##")
    for name in CLASSES:
        parts += _class(name)
    return "\n".join(parts)


def _example() -> str:
    _, _, code = inspect.cleandoc(acdtask.__doc__ or "").partition("arrays:\n")
    return f"```python\n{textwrap.dedent(code).strip()}\n```\n"


def _class(name: str) -> Iterator[str]:
    kind = getattr(acdtask, name)
    yield f"## acdtask.{name}\n"
    yield from _text(inspect.getdoc(kind) or "")
    for member, value in vars(kind).items():
        if member.startswith("_"):
            continue
        if isinstance(value, (FunctionType, classmethod)):
            yield from _callable(f".{member}", getattr(kind, member), "###")
        elif isinstance(value, (property, cached_property)):
            yield f"### .{member}\n"
            yield from _text(inspect.getdoc(value) or "")


def _callable(name: str, function: Any, level: str) -> Iterator[str]:
    yield f"{level} {name}\n"
    yield f"```python\n{_signature(name.lstrip('.'), function)}\n```\n"
    yield from _text(inspect.getdoc(function) or "")


def _signature(name: str, function: Any) -> str:
    signature = inspect.signature(function)
    parameters = [parameter for parameter in signature.parameters.values() if parameter.name != "self"]
    short = f"{name}{_without_quotes(signature.replace(parameters=parameters))}"
    if len(short) <= 100:
        return short
    lines, starred = [], False
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            lines.append("    *,")
            starred = True
        lines.append(f"    {_without_quotes(parameter)},")
    return "\n".join([f"{name}(", *lines, f") -> {signature.return_annotation}"])


def _without_quotes(part: object) -> str:
    """Remove the quotes that inspect puts around annotations, which are strings."""
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(part))


def _text(docstring: str) -> Iterator[str]:
    """Convert a docstring to Markdown, with sections as tables and examples as code."""
    prose, _, example = docstring.partition("\n>>> ")
    section = ""
    paragraph: list[str] = []
    entries: list[str] = []
    for line in [*prose.splitlines(), ""]:
        if match := SECTION.match(line):
            section = match[1]
            continue
        if section and line.startswith("    "):
            entries.append(line[4:])
            continue
        if section:
            yield from _entries(section, entries)
            section, entries = "", []
        if line:
            paragraph.append(line)
        elif paragraph:
            yield _linked(" ".join(paragraph)) + "\n"
            paragraph = []
    if example:
        yield f"```python\n>>> {example.strip()}\n```\n"


def _entries(section: str, lines: list[str]) -> Iterator[str]:
    joined = re.sub(r"\n +", " ", "\n".join(lines)).splitlines()
    rows = [ENTRY.match(line) for line in joined]
    if section in ("Args", "Attributes") and all(rows):
        cells = [f"| `{row[1]}` | {_linked(row[2])} |\n" for row in rows if row]
        yield "".join([f"| {'argument' if section == 'Args' else 'attribute'} | |\n| --- | --- |\n", *cells])
    else:
        yield f"{section}: {_linked(' '.join(joined))}\n"


def _linked(text: str) -> str:
    """Replace the names of errors by their numbers."""
    return re.sub(r"\b[A-Z][A-Z_]{5,}\b", lambda match: LABELS.get(match[0], match[0]), text)
