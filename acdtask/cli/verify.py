"""The command `verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from acdtask.cli.cube_options import AsJson, Cube
from acdtask.cli.lazy import as_command
from acdtask.cli.output import bytes_text, say, say_json, table

if TYPE_CHECKING:
    from acdtask.maintenance.verify.run import Verification

__all__ = ["command"]


@as_command(
    "Reads every file of a cube, compares it with its checksum, and lists missing and damaged files with the "
    "commands that recreate them. Files that acd did not write have no checksum and count as not checked. Fails "
    "if a file is missing or damaged.",
    "acdtask verify --cube cube",
    "acdtask verify --cube cube --forget",
)
def command(
    cube: Cube,
    forget: Annotated[
        bool,
        typer.Option(
            "--forget",
            help="Remove damaged products from the index, and damaged months from fusions, so that the next run of "
            "their job recreates them. No pixels are deleted.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    from acdtask.cube.local.cube import LocalCube
    from acdtask.engine.progressbar import ProgressBar
    from acdtask.maintenance.verify.files import named_files
    from acdtask.maintenance.verify.run import verify_files

    opened = LocalCube.open(cube)
    files = named_files(opened)
    with ProgressBar("verify", len(files), unit="files") as bar:
        verification = verify_files(opened, files, forget=forget, progress=lambda done: bar.update("files", done))
    if as_json:
        say_json(verification.as_json())
    else:
        _show(verification)
    verification.require_intact()


def _show(verification: Verification) -> None:
    faults = verification.checked.faults
    if faults:
        rows = [(fault.file.key, fault.file.kind, fault.verdict, fault.detail or "-") for fault in faults]
        table(("file", "kind", "fault", "detail"), rows)
        for advice in dict.fromkeys(repair.advice for repair in verification.repairs if not repair.command):
            say(advice)
    checked = verification.checked
    say(
        f"intact: {checked.intact} ({bytes_text(checked.bytes_read)} read), damaged or missing: {len(faults)}, "
        f"not checked: {checked.not_checked}"
    )
    if verification.forgotten:
        say(f"removed from the index, so that their jobs recreate them: {len(verification.forgotten)}")
    if verification.commands:
        say("To recreate the files, run these commands in order, with your SOURCE and AOI:")
        for line in verification.commands:
            say(f"  {line}")
