"""The commands `ingester post|status|scenes|retry|wait|graph`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from acdtask.cli.cube_options import Aoi, AsJson, Limit
from acdtask.cli.lazy import Lazy, LazyGroup, as_command, example
from acdtask.cli.output import say, say_json, table, write_text
from acdtask.cli.project import require_aoi, taking_aoi
from acdtask.errors import AcdError, ErrorCode

if TYPE_CHECKING:
    from acdtask.ingester.client import IngesterClient
    from acdtask.ingester.wait import AoiProgress

__all__ = ["group"]

Address = Annotated[
    str,
    typer.Option(
        "--address",
        envvar="ACD_INGESTER_ADDRESS",
        metavar="URL",
        help="http:// or https:// address of the ingester's workflow server.",
    ),
]
Insecure = Annotated[
    bool,
    typer.Option(
        "--insecure", envvar="ACD_INGESTER_INSECURE", help="Allow sending the token to another machine over plain HTTP."
    ),
]
AoiName = Annotated[str, typer.Argument(metavar="AOI", help="Name of the AOI.")]
AcceptFailed = Annotated[bool, typer.Option("--accept-failed", help="Do not treat permanent failures as an error.")]
StatusName = Literal["new", "pending", "done", "failed", "retry"]

TOKEN = "The environment variable ACD_INGESTER_TOKEN holds the bearer token."  # noqa: S105  # a sentence, not a token
FOREVER = 365 * 24 * 3600.0


group = LazyGroup(
    name="ingester",
    lazy={
        "post": Lazy("Post an AOI, unless it exists.", f"{__name__}:post_command"),
        "status": Lazy("Show the progress of AOIs.", f"{__name__}:status_command"),
        "scenes": Lazy("List the scenes or tiles of an AOI.", f"{__name__}:scenes_command"),
        "retry": Lazy("Restart scenes and tiles.", f"{__name__}:retry_command"),
        "wait": Lazy("Wait until an AOI is done.", f"{__name__}:wait_command"),
        "graph": Lazy("Draw the scenes and tiles of an AOI.", f"{__name__}:graph_command"),
    },
    help="A Geocube ingester downloads scenes, processes their tiles, and indexes the results in a Geocube. "
    + TOKEN
    + example("acdtask ingester status --address http://localhost:8080"),
)


@as_command(
    "Posts an AOI, so that the ingester finds its scenes and starts processing them. An existing AOI is compared, "
    "not posted again. If the reply is lost, the command checks whether the AOI arrived before it posts it again.",
    "acdtask ingester post --aoi aoi.json",
)
@taking_aoi
def post_command(
    aoi: Aoi = "",
    address: Address = "",
    insecure: Insecure = False,
    again: Annotated[bool, typer.Option("--again", help="Post the AOI even if it exists, to add new scenes.")] = False,
    as_json: AsJson = False,
) -> None:
    from acdtask.cube.aoi import load_aoi
    from acdtask.ingester.post import post_aoi

    payload = load_aoi(require_aoi(aoi))
    posted = post_aoi(_client(address, insecure), payload, again=again)
    if as_json:
        facts = {"aoi": posted.aoi, "posted": posted.posted, "said": posted.reply}
        say_json(facts | {"scenes": posted.scenes.as_dict(), "tiles": posted.tiles.as_dict()})
        return
    verb = "was posted" if posted.posted else "already exists"
    say(f"AOI {posted.aoi} {verb}: scenes {posted.scenes.text()}; tiles {posted.tiles.text()}")


@as_command(
    "Lists the AOIs; for one AOI, counts its scenes and tiles by status and shows the failures.",
    "acdtask ingester status",
    "acdtask ingester status koln",
)
def status_command(
    aoi: Annotated[str, typer.Argument(metavar="[AOI]", help="Name of the AOI; default: all AOIs.")] = "",
    address: Address = "",
    insecure: Insecure = False,
    as_json: AsJson = False,
) -> None:
    from acdtask.ingester.wait import progress_of

    client = _client(address, insecure)
    if aoi:
        _show(progress_of(client, aoi), as_json=as_json)
        return
    states = client.aois()
    if as_json:
        say_json([{"aoi": state.id, "status": state.status.value} for state in states])
        return
    if states:
        table(("aoi", "status"), [(state.id, state.status.value.lower()) for state in states])
    say(f"{len(states)} AOI{'' if len(states) == 1 else 's'}")


@as_command(
    "Lists the scenes or tiles of an AOI, with status and message.",
    "acdtask ingester scenes koln --status failed",
    "acdtask ingester scenes koln --tiles --json",
)
def scenes_command(
    aoi: AoiName,
    address: Address = "",
    insecure: Insecure = False,
    status: Annotated[StatusName | None, typer.Option(help="Only scenes or tiles with this status.")] = None,
    tiles: Annotated[bool, typer.Option("--tiles", help="List tiles instead of scenes.")] = False,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    from acdtask.ingester.model import Status, in_one_line

    client = _client(address, insecure)
    chosen = Status(status.upper()) if status else None
    client.aoi(aoi)
    items: list[Any] = [*(client.tiles(aoi, chosen) if tiles else client.scenes(aoi, chosen))]
    shown = items[:limit] if limit else items
    if as_json:
        say_json([item.model_dump(mode="json") for item in shown])
        return
    kind = "tile" if tiles else "scene"
    if shown and tiles:
        rows = [(tile.id, tile.source_id, tile.scene.id, tile.status.value.lower(), tile.message) for tile in shown]
        table(("id", "tile", "scene", "status", "message"), [(*row[:4], in_one_line(row[4], 100)) for row in rows])
    elif shown:
        rows = [
            (scene.id, scene.source_id, f"{scene.data.date:%Y-%m-%d}", scene.status.value.lower(), scene.message)
            for scene in shown
        ]
        table(("id", "scene", "date", "status", "message"), [(*row[:4], in_one_line(row[4], 100)) for row in rows])
    more = f", the first {len(shown)} shown" if len(shown) < len(items) else ""
    say(f"{len(items)} {kind}{'' if len(items) == 1 else 's'}{more}")


@as_command(
    "Restarts the scenes and tiles of an AOI that wait for a retry, or the given scenes and tiles. --failed also "
    "restarts those that failed permanently. --force restarts every scene regardless of its status; if some are "
    "done, --restart-done is needed too.",
    "acdtask ingester retry koln",
    "acdtask ingester retry koln --scene 12",
)
def retry_command(
    aoi: AoiName,
    address: Address = "",
    insecure: Insecure = False,
    scene: Annotated[list[int] | None, typer.Option(metavar="ID", help="Only this scene.  [repeatable]")] = None,
    tile: Annotated[list[int] | None, typer.Option(metavar="ID", help="Only this tile.  [repeatable]")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Also restart what failed permanently.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Restart every scene, regardless of its status.")] = False,
    restart_done: Annotated[
        bool, typer.Option("--restart-done", help="With --force: also restart scenes that are done.")
    ] = False,
) -> None:
    from acdtask.ingester.client import Restarted
    from acdtask.ingester.model import Kind
    from acdtask.ingester.retry import retry_failed

    if restart_done and not force:
        raise AcdError(
            ErrorCode.USAGE, "--restart-done only works with --force", "Add --force, or omit --restart-done."
        )
    if bool(scene or tile) + failed + force > 1:
        raise AcdError(ErrorCode.USAGE, "--scene and --tile, --failed and --force exclude each other")
    client = _client(address, insecure)
    if scene or tile:
        client.aoi(aoi)
        _require_in(client, aoi, scene or [], tile or [])
        for kind, numbers in ((Kind.SCENE, scene or []), (Kind.TILE, tile or [])):
            for number in numbers:
                client.retry(kind, number)
        restarted = Restarted(len(scene or []), len(tile or []))
    elif force:
        restarted = client.force_aoi(aoi, restart_done=restart_done)
    else:
        waiting, permanent = client.retry_aoi(aoi), retry_failed(client, aoi) if failed else Restarted(0, 0)
        restarted = Restarted(waiting.scenes + permanent.scenes, waiting.tiles + permanent.tiles)
    say(f"AOI {aoi}: restarted: {restarted.scenes} scenes, {restarted.tiles} tiles")


def _require_in(client: IngesterClient, aoi: str, scenes: list[int], tiles: list[int]) -> None:
    """Raise INGESTER_REFUSED for a scene or tile of another AOI, which the server would accept."""
    known = {scene.id for scene in client.scenes(aoi)}
    parents = {number: client.tile(number).scene.id for number in tiles}
    foreign = [f"scene {number}" for number in scenes if number not in known]
    foreign += [f"tile {number}" for number, parent in parents.items() if parent not in known]
    if foreign:
        detail = f"AOI {aoi} has no {foreign[0]}"
        raise AcdError(ErrorCode.INGESTER_REFUSED, detail, f"List them with 'acdtask ingester scenes {aoi}'.")


@as_command(
    "Waits until every scene and tile of an AOI is done. It ends earlier with an error if work stopped: something "
    "failed permanently, or waits for a retry.",
    "acdtask ingester wait koln --minutes 90",
)
def wait_command(
    aoi: AoiName,
    address: Address = "",
    insecure: Insecure = False,
    minutes: Annotated[
        float | None,
        typer.Option(metavar="N", min=0, help="Maximum wait in minutes; 0 checks once.  [default: no limit]"),
    ] = None,
    accept_failed: AcceptFailed = False,
    as_json: AsJson = False,
) -> None:
    from acdtask.engine.progressbar import ProgressBar
    from acdtask.ingester.wait import require_done, wait

    client = _client(address, insecure)
    client.aoi(aoi)
    scenes, tiles = client.counts(aoi)
    with ProgressBar(f"ingester: {aoi}", total=scenes.total + tiles.total, unit="scenes and tiles") as bar:
        progress = wait(
            client,
            aoi,
            FOREVER if minutes is None else minutes * 60,
            lambda scenes, tiles: bar.update(aoi, scenes.ended + tiles.ended),
        )
    require_done(progress, accept_failed=accept_failed)
    _show(progress, as_json=as_json)


@as_command(
    "Draws an SVG file: one row per scene, sorted by date, with its tiles, and an arrow from each tile to the one "
    "that is processed with it. If there are many scenes, they are counted by date, month or year.",
    "acdtask ingester graph koln --out koln.svg",
)
def graph_command(
    aoi: AoiName,
    out: Annotated[Path, typer.Option(metavar="FILE", help="SVG file to write.")],
    address: Address = "",
    insecure: Insecure = False,
) -> None:
    from acdtask.ingester.graph import chart_of
    from acdtask.ingester.svg import draw

    client = _client(address, insecure)
    client.aoi(aoi)
    chart = chart_of(aoi, client.scenes(aoi), client.tiles(aoi))
    write_text(out, draw(chart))
    scenes, tiles = chart.totals
    grouped = f", counted by {chart.period}" if chart.period and chart.period != "all" else ""
    say(f"{out}: {scenes.total()} scenes, {tiles.total()} tiles{grouped}")


def _show(progress: AoiProgress, *, as_json: bool) -> None:
    if as_json:
        problems = [
            asdict(problem) | {"kind": problem.kind.value, "status": problem.status.value}
            for problem in progress.problems
        ]
        counts = {"scenes": progress.scenes.as_dict(), "tiles": progress.tiles.as_dict()}
        say_json({"aoi": progress.aoi, "ending": progress.phase.value, **counts, "troubles": problems})
        return
    say(progress.text())
    for problem in progress.problems:
        say(f"  {problem.text()}")


def _client(address: str, insecure: bool) -> IngesterClient:
    from acdtask.ingester.client import IngesterClient
    from acdtask.ingester.transport import Place

    return IngesterClient.at(Place.of_environment(address, insecure=insecure))
