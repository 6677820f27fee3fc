"""Generate docs/reference from the code: `python -m docs.build`; with --check, only compare."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import typer

from acdtask import dates
from acdtask.cli.app import app
from acdtask.cli.lazy import CONTEXT, LazyGroup
from acdtask.cli.options import options_of
from acdtask.errors import ErrorCode, ExitStatus
from acdtask.jobs.registry import JOBS, load_job
from docs.python_reference import python_page

REFERENCE = Path(__file__).parent / "reference"
NOTE = "<!-- Written by `make docs` from the code: change it there. -->\n"

STATUS_MEANING = {
    ExitStatus.OK: "Done, or nothing to do.",
    ExitStatus.USAGE: "The command line is wrong.",
    ExitStatus.INPUT: "An input is missing or invalid.",
    ExitStatus.BUG: "A bug in acd.",
    ExitStatus.TRANSIENT: "A retry may succeed; it does only the missing work.",
    ExitStatus.CONFIG: "A setting, an address or a permission is wrong.",
}
GROUPS = {1: "Settings", 2: "Input", 3: "Cube", 4: "Storage", 5: "Runs", 6: "Notifications", 7: "Geocube", 9: "Bugs"}


def pages() -> dict[str, str]:
    """Generate the pages of the reference, by filename."""
    return {
        "errors.md": errors_page(),
        "cli.md": cli_page(),
        "settings.md": settings_page(),
        "python.md": python_page(NOTE),
    }


def errors_page() -> str:
    """Generate the page of error codes and exit statuses."""
    parts = [NOTE, "# Errors and exit statuses\n"]
    parts.append(
        "A command that fails prints `error ACD-nnn:` with a sentence that says what is wrong, and a fix on the next "
        "line. With `--log json` it prints the same as one line of JSON, the event `command.failed`.\n"
    )
    parts.append("## Exit statuses\n")
    rows = [(int(status), STATUS_MEANING[status], _yes_or_no(status is ExitStatus.TRANSIENT)) for status in ExitStatus]
    parts.append(_table(("status", "meaning", "retryable"), rows))
    if ungrouped := {code.value.number // 100 for code in ErrorCode} - set(GROUPS):
        raise ValueError(f"error codes without a group: {ungrouped}")
    for first_digit, title in GROUPS.items():
        codes = [code for code in ErrorCode if code.value.number // 100 == first_digit]
        parts.append(f"## {title}\n")
        parts.append(
            _table(
                ("error", "name", "meaning", "exit status", "retryable", "fix"),
                [
                    (
                        code.label,
                        f"`{code.name}`",
                        code.value.meaning,
                        int(code.value.exit_status),
                        _yes_or_no(code.value.retryable),
                        code.value.fix,
                    )
                    for code in codes
                ],
            )
        )
    return "\n".join(parts)


def cli_page() -> str:
    """Generate the page of commands and their options."""
    root = typer.main.get_command(app)
    return "\n".join([NOTE, "# Commands\n", *_command_parts(root, "acdtask", None)])


def settings_page() -> str:
    """Generate the page of the jobs' settings."""
    parts = [NOTE, "# Settings of the jobs\n"]
    parts.append(
        "Each setting is an option of `acdtask <job> plan` and `acdtask <job> local`, and a key of a `--settings` file "
        "(.json or .toml) and of the job's section in acd.toml.\n"
    )
    parts.append("## Dates\n")
    parts.append((dates.__doc__ or "").partition("\n\n")[2])
    for name in JOBS:
        parts.append(f"## {name}\n")
        rows = [
            (
                f"`{option.field}`",
                f"`{option.flag}`",
                f"`{option.metavar or 'yes|no'}`" + (" (repeatable)" if option.repeatable else ""),
                "required" if option.required else f"`{option.default}`" if option.default else "",
                option.meaning,
            )
            for option in options_of(load_job(name).settings)
        ]
        parts.append(_table(("setting", "option", "value", "default", "meaning"), rows))
    return "\n".join(parts)


def _command_parts(command: Any, path: str, parent: Any) -> Iterable[str]:
    context = typer.Context(command, info_name=path.rpartition(" ")[2], parent=parent, **CONTEXT)
    text, _, examples = (command.help or "").partition("\b\nExample:\n")
    yield f"## {path}\n"
    yield text.strip() + "\n"
    if examples:
        yield "```\n" + "\n".join(line.strip() for line in examples.splitlines()) + "\n```\n"
    records = [param.get_help_record(context) for param in command.get_params(context)]
    rows = [(f"`{names}`", " ".join(text.split())) for names, text in filter(None, records)]
    if rows := [row for row in rows if "--help" not in row[0]]:
        yield _table(("option", "meaning"), rows)
    if isinstance(command, LazyGroup):
        for name in command.list_commands(context):
            yield from _command_parts(command.load(name), f"{path} {name}", context)


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    cells = [[str(cell).replace("|", "\\|") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def _yes_or_no(value: bool) -> str:
    return "yes" if value else "no"


def main(arguments: Sequence[str]) -> int:
    """Write the pages, or compare them with --check."""
    stale = []
    for name, text in pages().items():
        file = REFERENCE / name
        if "--check" not in arguments:
            REFERENCE.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8")
        elif not file.exists() or file.read_text(encoding="utf-8") != text:
            stale.append(f"docs/reference/{name}")
    if stale:
        typer.echo(f"out of date: {', '.join(stale)}. Run 'make docs'.", err=True)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
