"""The command `demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from acdtask.cli.lazy import as_command

__all__ = ["command"]


@as_command(
    "Simulates a year of coherence images with known events, learns the baseline, monitors the last dates, and "
    "writes a report that compares the detections with the simulated events. Open report/index.html in the folder. "
    "Run it again to continue where it stopped.",
    "acdtask demo demo",
)
def command(
    folder: Annotated[Path, typer.Argument(help="Folder for all results.")] = Path("demo"),
    size: Annotated[int, typer.Option(help="Width and height of the scene in pixels.")] = 1024,
    seed: Annotated[int, typer.Option(help="Seed of the scene; equal seeds give equal scenes.")] = 7,
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="Number of processes.  [default: one per core]", show_default=False)
    ] = None,
) -> None:
    from acdtask.demo import run_demo
    from acdtask.engine.processes import cores

    run_demo(folder, workers=cores() if workers is None else workers, size=size, seed=seed)
