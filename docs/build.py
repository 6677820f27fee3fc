"""Write docs/reference from the code: `python -m docs.build`, or with --check say whether it is up to date."""

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
    ExitStatus.INPUT: "An input is missing or cannot be used.",
    ExitStatus.BUG: "A bug of acd.",
    ExitStatus.TRANSIENT: "It may work later: the same command does only what is missing.",
    ExitStatus.CONFIG: "A setting, an address or a right is wrong.",
}
GROUPS = {1: "Settings", 2: "Input", 3: "Cube", 4: "Storage", 5: "Runs", 6: "Notifications", 7: "Geocube", 9: "Bugs"}


def pages() -> dict[str, str]:
    """The text of each page of the reference, by filename."""
    return {
        "errors.md": errors_page(),
        "cli.md": cli_page(),
        "settings.md": settings_page(),
        "python.md": python_page(NOTE),
    }


def errors_page() -> str:
    """Every error, and every exit status."""
    parts = [NOTE, "# Errors and exit statuses\n"]
    parts.append(
        "A command that fails prints `error ACD-nnn:`, one sentence that says what happened, and on the next line what "
        "to do. With `--log json` the same is one line of JSON, `command.failed`.\n"
    )
    parts.append("## Exit statuses\n")
    rows = [(int(status), STATUS_MEANING[status], _yes(status is ExitStatus.TRANSIENT)) for status in ExitStatus]
    parts.append(_table(("status", "meaning", "worth a retry"), rows))
    if homeless := {code.value.number // 100 for code in ErrorCode} - set(GROUPS):
        raise ValueError(f"errors of the hundreds {homeless} have no group")
    for first_digit, title in GROUPS.items():
        codes = [code for code in ErrorCode if code.value.number // 100 == first_digit]
        parts.append(f"## {title}\n")
        parts.append(
            _table(
                ("error", "name", "meaning", "exit status", "worth a retry", "fix"),
                [
                    (
                        code.label,
                        f"`{code.name}`",
                        code.value.meaning,
                        int(code.value.exit_status),
                        _yes(code.value.retryable),
                        code.value.fix,
                    )
                    for code in codes
                ],
            )
        )
    return "\n".join(parts)


def cli_page() -> str:
    """Every command with its options."""
    root = typer.main.get_command(app)
    return "\n".join([NOTE, "# Commands\n", *_command_parts(root, "acdtask", None)])


def settings_page() -> str:
    """Every setting of every job."""
    parts = [NOTE, "# Settings of the jobs\n"]
    parts.append(
        "Each setting is an option of `acdtask <job> plan` and `acdtask <job> local`, and a name in a `--settings` "
        "file (.json or .toml).\n"
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


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"


def main(arguments: Sequence[str]) -> int:
    """Write the pages, or compare them."""
    stale = []
    for name, text in pages().items():
        file = REFERENCE / name
        if "--check" not in arguments:
            REFERENCE.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8")
        elif not file.exists() or file.read_text(encoding="utf-8") != text:
            stale.append(f"docs/reference/{name}")
    if stale:
        typer.echo(f"not what the code says: {', '.join(stale)}. Run 'make docs'.", err=True)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
