"""The commands `ingester post|status|scenes|retry|wait|graph`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from acdtask.cli.cube_options import Aoi, AsJson, Limit
from acdtask.cli.lazy import CONTEXT, Lazy, LazyGroup, command_of, example
from acdtask.cli.output import say, say_json, table, write_text
from acdtask.cli.project import require_aoi, taking_aoi
from acdtask.errors import AcdError, ErrorCode

if TYPE_CHECKING:
    from acdtask.ingester.client import IngesterClient
    from acdtask.ingester.wait import Outcome

__all__ = [
    "graph_command",
    "group",
    "post_command",
    "retry_command",
    "scenes_command",
    "status_command",
    "wait_command",
]

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
        "--insecure", envvar="ACD_INGESTER_INSECURE", help="Let the token go over plain HTTP to another machine."
    ),
]
AoiName = Annotated[str, typer.Argument(metavar="AOI", help="Name of the AOI.")]
AcceptFailed = Annotated[bool, typer.Option("--accept-failed", help="Permanent failures are not an error.")]
StatusName = Literal["new", "pending", "done", "failed", "retry"]

TOKEN = "The environment variable ACD_INGESTER_TOKEN holds the bearer token."  # noqa: S105  # it says where one is
FOREVER = 365 * 24 * 3600.0


def group() -> LazyGroup:
    """The commands."""
    return LazyGroup(
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
        context_settings=CONTEXT,
    )


def post_command() -> TyperCommand:
    """The command `ingester post`."""
    text = (
        "Posts an AOI, so that the ingester takes the inventory of its scenes and starts them. An existing AOI is "
        "compared and not posted again. If the reply is lost, the command checks whether the AOI arrived before "
        "posting it again."
    )
    return command_of(_post, text + example("acdtask ingester post --aoi aoi.json"))


def status_command() -> TyperCommand:
    """The command `ingester status`."""
    text = "Lists the AOIs, or for one AOI counts its scenes and tiles by status and shows what went wrong."
    return command_of(_status, text + example("acdtask ingester status", "acdtask ingester status koln"))


def scenes_command() -> TyperCommand:
    """The command `ingester scenes`."""
    text = "Lists the scenes of an AOI, or its tiles, with statuses and messages."
    return command_of(
        _scenes,
        text + example("acdtask ingester scenes koln --status failed", "acdtask ingester scenes koln --tiles --json"),
    )


def retry_command() -> TyperCommand:
    """The command `ingester retry`."""
    text = (
        "Restarts what waits for a retry, in the whole AOI or in the given scenes and tiles. With --failed it also "
        "restarts what failed permanently. With --force it restarts every scene, whatever its status; if some are "
        "done, it says how many and asks for --restart-done."
    )
    return command_of(_retry, text + example("acdtask ingester retry koln", "acdtask ingester retry koln --scene 12"))


def wait_command() -> TyperCommand:
    """The command `ingester wait`."""
    text = (
        "Waits until every scene and tile of an AOI is done. It ends earlier if nothing more can happen by itself: "
        "something failed permanently, or waits for a retry."
    )
    return command_of(_wait, text + example("acdtask ingester wait koln --minutes 90"))


def graph_command() -> TyperCommand:
    """The command `ingester graph`."""
    text = (
        "Writes an SVG file: the scenes in rows by date, their tiles beside them, and arrows from each tile to the one "
        "that is processed with it. Many scenes are folded by date, month or year."
    )
    return command_of(_graph, text + example("acdtask ingester graph koln --out koln.svg"))


@taking_aoi
def _post(
    aoi: Aoi = "",
    address: Address = "",
    insecure: Insecure = False,
    again: Annotated[
        bool, typer.Option("--again", help="Post it even if it exists, so that new scenes are added.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    from acdtask.cube.aoi import load_aoi
    from acdtask.ingester.post import post_aoi

    payload = load_aoi(require_aoi(aoi))
    posted = post_aoi(_client(address, insecure), payload, again=again)
    if as_json:
        facts = {"aoi": posted.aoi, "posted": posted.posted, "said": posted.said}
        say_json(facts | {"scenes": posted.scenes.as_dict(), "tiles": posted.tiles.as_dict()})
        return
    done = "was posted" if posted.posted else "exists already"
    say(f"AOI {posted.aoi} {done}: scenes {posted.scenes.text()}; tiles {posted.tiles.text()}")


def _status(
    aoi: Annotated[str, typer.Argument(metavar="[AOI]", help="Name of the AOI; all of them by default.")] = "",
    address: Address = "",
    insecure: Insecure = False,
    as_json: AsJson = False,
) -> None:
    from acdtask.ingester.wait import look

    client = _client(address, insecure)
    if aoi:
        _tell(look(client, aoi), as_json=as_json)
        return
    every = client.aois()
    if as_json:
        say_json([{"aoi": one.id, "status": one.status.value} for one in every])
        return
    if every:
        table(("aoi", "status"), [(one.id, one.status.value.lower()) for one in every])
    say(f"{len(every)} AOI{'' if len(every) == 1 else 's'}")


def _scenes(
    aoi: AoiName,
    address: Address = "",
    insecure: Insecure = False,
    status: Annotated[StatusName | None, typer.Option(help="Only those with this status.")] = None,
    tiles: Annotated[bool, typer.Option("--tiles", help="List tiles.")] = False,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    from acdtask.ingester.model import Status, in_one_line

    client = _client(address, insecure)
    wanted = Status(status.upper()) if status else None
    client.aoi(aoi)
    found: list[Any] = [*(client.tiles(aoi, wanted) if tiles else client.scenes(aoi, wanted))]
    shown = found[:limit] if limit else found
    if as_json:
        say_json([one.model_dump(mode="json") for one in shown])
        return
    what = "tile" if tiles else "scene"
    if shown and tiles:
        rows = [(one.id, one.source_id, one.scene.id, one.status.value.lower(), one.message) for one in shown]
        table(("id", "tile", "scene", "status", "message"), [(*row[:4], in_one_line(row[4], 100)) for row in rows])
    elif shown:
        rows = [
            (one.id, one.source_id, f"{one.data.date:%Y-%m-%d}", one.status.value.lower(), one.message) for one in shown
        ]
        table(("id", "scene", "date", "status", "message"), [(*row[:4], in_one_line(row[4], 100)) for row in rows])
    more = f", the first {len(shown)} shown" if len(shown) < len(found) else ""
    say(f"{len(found)} {what}{'' if len(found) == 1 else 's'}{more}")


def _retry(
    aoi: AoiName,
    address: Address = "",
    insecure: Insecure = False,
    scene: Annotated[list[int] | None, typer.Option(metavar="ID", help="Only this scene.  [repeatable]")] = None,
    tile: Annotated[list[int] | None, typer.Option(metavar="ID", help="Only this tile.  [repeatable]")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Also what failed permanently.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Every scene, whatever its status.")] = False,
    restart_done: Annotated[
        bool, typer.Option("--restart-done", help="With --force: also scenes that are done.")
    ] = False,
) -> None:
    from acdtask.ingester.client import Restarted
    from acdtask.ingester.model import Kind
    from acdtask.ingester.retry import retry_failed

    if restart_done and not force:
        raise AcdError(ErrorCode.USAGE, "--restart-done only works with --force", "Give --force too, or leave it out.")
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
        waiting, lost = client.retry_aoi(aoi), retry_failed(client, aoi) if failed else Restarted(0, 0)
        restarted = Restarted(waiting.scenes + lost.scenes, waiting.tiles + lost.tiles)
    say(f"AOI {aoi}: started again: {restarted.scenes} scenes, {restarted.tiles} tiles")


def _require_in(client: IngesterClient, aoi: str, scenes: list[int], tiles: list[int]) -> None:
    """INGESTER_REFUSED if a scene or tile is not of the AOI: the server would take any."""
    known = {one.id for one in client.scenes(aoi)}
    parents = {number: client.tile(number).scene.id for number in tiles}
    strange = [f"scene {one}" for one in scenes if one not in known]
    strange += [f"tile {one}" for one, parent in parents.items() if parent not in known]
    if strange:
        detail = f"AOI {aoi} has no {strange[0]}"
        raise AcdError(ErrorCode.INGESTER_REFUSED, detail, f"List them with 'acdtask ingester scenes {aoi}'.")


def _wait(
    aoi: AoiName,
    address: Address = "",
    insecure: Insecure = False,
    minutes: Annotated[
        float | None, typer.Option(metavar="N", min=0, help="Maximum wait; 0 looks once.  [default: no limit]")
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
        outcome = wait(
            client,
            aoi,
            FOREVER if minutes is None else minutes * 60,
            lambda scenes, tiles: bar.update(aoi, scenes.ended + tiles.ended),
        )
    require_done(outcome, accept_failed=accept_failed)
    _tell(outcome, as_json=as_json)


def _graph(
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
    folded = f", folded by {chart.period}" if chart.period and chart.period != "all" else ""
    say(f"{out}: {scenes.total()} scenes, {tiles.total()} tiles{folded}")


def _tell(outcome: Outcome, *, as_json: bool) -> None:
    if as_json:
        troubles = [
            {"kind": one.kind.value, "id": one.id, "name": one.name, "scene": one.scene, "status": one.status.value}
            | {"message": one.message}
            for one in outcome.troubles
        ]
        counts = {"scenes": outcome.scenes.as_dict(), "tiles": outcome.tiles.as_dict()}
        say_json({"aoi": outcome.aoi, "ending": outcome.ending.value, **counts, "troubles": troubles})
        return
    say(outcome.text())
    for trouble in outcome.troubles:
        say(f"  {trouble.text()}")


def _client(address: str, insecure: bool) -> IngesterClient:
    from acdtask.ingester.client import IngesterClient
    from acdtask.ingester.transport import Place

    return IngesterClient.at(Place.of_environment(address, insecure=insecure))
