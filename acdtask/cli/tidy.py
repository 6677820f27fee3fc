"""The command `tidy`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from acdtask.cli.cube_options import AsJson, Cube, IfAny, say_no_cube
from acdtask.cli.lazy import as_command
from acdtask.cli.output import bytes_text, say, say_json, table
from acdtask.errors import AcdError

if TYPE_CHECKING:
    from acdtask.maintenance.tidy.clean import Tidied
    from acdtask.maintenance.tidy.deletion import Tally

__all__ = ["command"]

Apply = Annotated[bool, typer.Option("--apply", help="Delete the files; without it, only show what would be deleted.")]
KeepDays = Annotated[float, typer.Option(metavar="DAYS", min=0, help="Keep objects modified in the last DAYS days.")]
KeepRuns = Annotated[int, typer.Option(metavar="N", min=1, help="Keep the last N finished runs of each AOI and job.")]
KeepVersions = Annotated[int, typer.Option(metavar="N", min=1, help="Keep the last N versions of each result.")]
KeepHeads = Annotated[int, typer.Option(metavar="N", min=1, help="Keep the last N heads of the index.")]
Unsafe = Annotated[
    bool,
    typer.Option(
        "--unsafe-short-retention",
        help="Allow --keep-days below 2; only safe while no job, server or other tidy uses the cube.",
    ),
]


@as_command(
    "Deletes what a cube no longer needs: old runs, old versions of the index and of results, and files that "
    "nothing refers to. Images, current results and the current report are kept. Without --apply it only shows "
    "what it would delete. It may run while jobs run.",
    "acdtask tidy --cube cube",
    "acdtask tidy --cube cube --keep-days 30 --apply",
)
def command(
    cube: Cube,
    apply: Apply = False,
    keep_days: KeepDays = 14,
    keep_runs: KeepRuns = 10,
    keep_versions: KeepVersions = 3,
    keep_heads: KeepHeads = 10,
    unsafe_short_retention: Unsafe = False,
    if_any: IfAny = False,
    as_json: AsJson = False,
) -> None:
    from acdtask.engine.run_summary import recording_failure
    from acdtask.engine.stages import open_site
    from acdtask.maintenance.tidy.clean import tidy
    from acdtask.maintenance.tidy.retention import Retention

    retention = Retention(keep_days=keep_days, keep_runs=keep_runs, keep_versions=keep_versions, keep_heads=keep_heads)
    if apply and not unsafe_short_retention:
        retention.require_safe()
    try:
        with recording_failure(cube, "tidy", "tidy"):
            tidied = tidy(open_site(cube), retention, apply=apply)
    except AcdError as error:
        say_no_cube(error, cube, if_any=if_any, as_json=as_json)
        return
    if as_json:
        say_json(tidied.as_json())
    else:
        _show(tidied)


def _show(tidied: Tidied) -> None:
    broom = tidied.broom
    removed = [(kind, *_cells(tally)) for kind, tally in broom.removed.items()]
    if removed:
        table(("deleted" if broom.apply else "to delete", "objects", "size", "oldest", "newest"), removed)
    table(
        ("kept", "why", "objects", "size", "oldest", "newest"),
        [(kind, why, *_cells(tally)) for (kind, why), tally in broom.kept.items()],
    )
    if broom.unknown:
        say(f"not deleted, since acd did not create these files: {', '.join(broom.unknown)}, ...")
    total = tidied.as_json()
    verb = "deleted" if broom.apply else "would be deleted; add --apply to delete them"
    say(f"{total['objects']} objects with {bytes_text(total['bytes'])} {verb}")


def _cells(tally: Tally) -> tuple[object, ...]:
    oldest, newest = tally.oldest, tally.newest
    return (
        tally.objects,
        bytes_text(tally.bytes),
        oldest.date() if oldest else "-",
        newest.date() if newest else "-",
    )
