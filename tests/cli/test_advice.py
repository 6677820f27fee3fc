"""Every option and command in the messages of acd exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

import acdtask
from acdtask.cli.app import app
from acdtask.cli.lazy import LazyGroup
from acdtask.cli.options import options_of
from acdtask.errors import ErrorCode
from acdtask.jobs.registry import JOBS, load_job

PACKAGE = Path(acdtask.__file__).parent
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
COMMAND = re.compile(r"'?\bacdtask ([a-z]+)(?: ([a-z]+))?(?=['\s.,:])")
SNAKE = re.compile(r"\b[a-z]+(?:_[a-z]+)+\b")
NAMES_OF_OTHERS = {
    "reproject_match",
    "gdal_edit",
    "gdal_translate",
    "a_srs",
    "start_time",
    "end_time",
    "min_value",
    "max_value",
    "no_data",
}
"""Quoted names of programs, and of fields of an AOI file."""
PROSE = {"lacks", "demo", "cube"}


def commands() -> dict[str, set[str]]:
    """Every command, such as `monitor local`, with its options."""
    found: dict[str, set[str]] = {}

    def walk(name: str, command: object) -> None:
        options = {
            flag
            for parameter in getattr(command, "params", [])
            for flag in (*parameter.opts, *parameter.secondary_opts)
        }
        found[name] = options
        if isinstance(command, LazyGroup):
            for part in command.lazy:
                walk(f"{name} {part}".strip(), command.load(part))

    walk("", typer.main.get_command(app))
    return found


COMMANDS = commands()
OPTIONS = set().union(*COMMANDS.values()) | {"--help", "-h"}


def texts() -> Iterator[tuple[str, str]]:
    """Every string of the code except docstrings, with its file. The parts of an f-string are one string."""
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text())
        inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                yield (
                    path.name,
                    "".join(str(part.value) if isinstance(part, ast.Constant) else "\0" for part in node.values),
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside | docstrings:
                yield path.name, node.value


TEXTS = list(texts())


def test_the_texts_of_errors_are_among_those_that_are_looked_at() -> None:
    every = " ".join(text for _, text in TEXTS)
    assert all(code.value.fix in every for code in ErrorCode)
    assert "--on-known verify" in every


def test_every_option_that_a_text_names_exists() -> None:
    named = {(file, option) for file, text in TEXTS for option in OPTION.findall(text)}
    assert len(named) > 100
    assert {(file, option) for file, option in named if option not in OPTIONS} <= {("options.py", "--no-")}


def test_every_command_that_a_text_names_exists() -> None:
    unknown = []
    for file, text in TEXTS:
        for first, second in COMMAND.findall(text):
            known = f"{first} {second}".strip() in COMMANDS or (first in COMMANDS and first not in JOBS)
            if not known and first not in PROSE and not (first in JOBS and not second):
                unknown.append((file, first, second))
    assert unknown == []


def test_an_option_that_is_said_to_be_of_a_command_is_one_of_it() -> None:
    """`--minutes of 'acdtask ingester wait'`, and `'acdtask verify --forget'`."""
    claims = re.compile(r"((?:--[a-z-]+(?: and |, | or )?)+) of 'acdtask ([a-z ]+?)'")
    quoted = re.compile(r"'acdtask ([a-z]+(?: [a-z]+)?)((?: --[a-z-]+)+)")
    pairs = [(command, OPTION.findall(options)) for _, text in TEXTS for options, command in claims.findall(text)]
    pairs += [(command, OPTION.findall(options)) for _, text in TEXTS for command, options in quoted.findall(text)]
    assert len(pairs) >= 3
    for command, options in pairs:
        whole = f"{command} local" if command in JOBS else command
        assert set(options) <= COMMANDS[whole], (command, options)


@pytest.mark.parametrize("code", ErrorCode, ids=lambda code: code.name)
def test_a_fix_names_settings_as_the_command_line_spells_them(code: ErrorCode) -> None:
    """Fixes name `--min-dates`, not `min_dates`, and only settings that exist."""
    fields = {option.field for name in JOBS for option in options_of(load_job(name).settings)}
    named = set(SNAKE.findall(code.value.fix)) - NAMES_OF_OTHERS
    assert named - fields == set()
    assert "min_count" not in code.value.fix, "the command line has --min-count"
