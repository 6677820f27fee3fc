"""The root command `acdtask` and its list of commands."""

from __future__ import annotations

from typing import Annotated, Any

import typer

import acdtask
from acdtask import log
from acdtask.cli.lazy import CONTEXT, Lazy, LazyGroup, OutputClosedError, example
from acdtask.cli.project import choose_project
from acdtask.jobs.registry import JOBS

__all__ = ["COMMANDS", "OutputClosedError", "app"]

_START, _JOBS, _INSPECT = "Getting started", "Jobs: plan, run, gather, or all three with local", "Inspect a cube"
_MAINTAIN = "Maintain a cube"
_GEOCUBE, _WORKFLOWS = "Geocube", "Used in workflows"

COMMANDS: dict[str, Lazy] = {
    "demo": Lazy("Simulate a year of images and detect the changes.", "acdtask.cli.demo:command", section=_START),
    "init": Lazy("Write acd.toml, the settings of this folder.", "acdtask.cli.init:command", section=_START),
    "watch": Lazy("Run all pending jobs, from ingest to report.", "acdtask.cli.watch:command", section=_START),
    **{name: Lazy(entry.summary, "acdtask.cli.job:group", (name,), section=_JOBS) for name, entry in JOBS.items()},
    "records": Lazy("List the records of a cube.", "acdtask.cli.records:command", section=_INSPECT),
    "layout": Lazy("List, create and show layouts.", "acdtask.cli.layouts:group", section=_INSPECT),
    "tiles": Lazy("List the tiles that an area touches.", "acdtask.cli.tiles:command", section=_INSPECT),
    "verify": Lazy("Find missing and damaged files of a cube.", "acdtask.cli.verify:command", section=_INSPECT),
    "show": Lazy("Show a cube's variables, datasets and patches.", "acdtask.cli.show:group", section=_INSPECT),
    "tidy": Lazy("Delete files that a cube no longer needs.", "acdtask.cli.tidy:command", section=_MAINTAIN),
    "geocube": Lazy("Inspect a Geocube server and its jobs.", "acdtask.cli.geocube:group", section=_GEOCUBE),
    "ingester": Lazy(
        "Post areas to a Geocube ingester and follow them.", "acdtask.cli.ingester:group", section=_GEOCUBE
    ),
    "serve": Lazy("Serve a cube over Geocube's API.", "acdtask.cli.serve:command", section=_GEOCUBE),
    "chain": Lazy("Run small jobs one after the other in one pod.", "acdtask.cli.chain:command", section=_WORKFLOWS),
    "check": Lazy("Check the settings and areas of monitors.", "acdtask.cli.check:command", section=_WORKFLOWS),
    "notify": Lazy("Post the result of a run to a webhook.", "acdtask.cli.notify:command", section=_WORKFLOWS),
}


class _Root(LazyGroup):
    def __init__(self, **attributes: Any) -> None:
        super().__init__(lazy=COMMANDS, **attributes)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        rest = super().parse_args(ctx, args)
        if not ctx.resilient_parsing:  # completion logs nothing
            choose_project(ctx.params["project"], ctx.params["series"])
            log.configure(ctx.params["log_mode"], verbose=ctx.params["verbose"], quiet=ctx.params["quiet"])
        return rest


app = typer.Typer(cls=_Root, rich_markup_mode=None, pretty_exceptions_enable=False, context_settings=CONTEXT)


def _say_version(show: bool) -> None:
    if show:
        typer.echo(f"acdtask {acdtask.__version__}")
        raise typer.Exit


@app.callback(
    help="Watch areas for abnormal change in radar coherence.\n\n"
    "A job has three steps: plan lists the work, run does one shard, gather joins the results. 'local' does all "
    "three on this machine. Run an interrupted job again: it does only the missing work. Any value can be read from "
    "a file: --aoi @aoi.json. Cube, area, layout and settings that are not given as options come from environment "
    "variables (ACD_CUBE, ACD_AOI, ...), then from acd.toml in this folder."
    + example(
        "acdtask demo",
        "acdtask init --source images",
        "acdtask watch",
        "acdtask monitor local --cube cube --aoi aoi.json --layout utm",
    )
)
def _root(
    log_mode: Annotated[
        log.LogMode,
        typer.Option("--log", envvar="ACD_LOG", help="Log as text or as JSON lines; auto means text on a terminal."),
    ] = "auto",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log all events, with tracebacks.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Log errors only.")] = False,
    project: Annotated[
        str | None,
        typer.Option(
            "--project",
            metavar="FILE",
            help="File to use instead of acd.toml in this folder; empty for none.  [env: ACD_PROJECT]",
        ),
    ] = None,
    series: Annotated[
        str | None,
        typer.Option("--series", metavar="NAME", help="Series of acd.toml, if it describes several."),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Declare the options of every command; `_Root` reads them when it parses the arguments."""
