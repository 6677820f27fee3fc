"""Post an AOI exactly once, although the call is slow and its reply may be lost."""

from __future__ import annotations

import time
from dataclasses import dataclass

from acdtask import log
from acdtask.cube.aoi import Aoi
from acdtask.errors import AcdError, ErrorCode
from acdtask.ingester.client import IngesterClient
from acdtask.ingester.model import Counts, Scene
from acdtask.ingester.transport import LostAnswerError, UnfinishedError

__all__ = ["Posted", "differences", "post_aoi"]

CHECK_INTERVAL = 2.0
MAX_DIFFERENCES = 3

_events = log.events("ingester")


@dataclass(frozen=True)
class Posted:
    """An AOI that exists at the ingester.

    Attributes:
        posted: whether this call posted it.
        scenes, tiles: numbers by status.
        reply: the ingester's reply, if the AOI was posted and the reply arrived.
    """

    aoi: str
    posted: bool
    scenes: Counts
    tiles: Counts
    reply: str = ""


def post_aoi(client: IngesterClient, aoi: Aoi, *, again: bool = False) -> Posted:
    """Post an AOI unless it exists. An AOI without scenes counts as missing.

    If the reply is lost, the call checks for `settle` seconds whether the AOI appears. It posts again only if the AOI
    did not appear and the server cannot still be working on the first request. With `again`, it posts an existing AOI
    too, so that the ingester adds new scenes; it skips those that it has. INGESTER_REFUSED if the AOI exists with other
    settings, NAME_INVALID, INGESTER_UNREACHABLE, ...
    """
    exists = client.find_aoi(aoi.name) is not None
    before = client.counts(aoi.name)[0].total if exists else 0
    if before:
        _require_same(client, aoi)
        if not again:
            return _posted(client, aoi, posted=False)
    for attempt in range(client.transport.patience.attempts):
        _events.info("aoi.posting", aoi=aoi.name, attempt=attempt, scenes_before=before)
        try:
            reply = client.post_area(aoi)
        except LostAnswerError as error:
            _events.warning("answer.lost", aoi=aoi.name, detail=error.detail)
            if _has_appeared(client, aoi.name, before):
                return _posted(client, aoi, posted=True)
            if before or isinstance(error, UnfinishedError):
                raise _unknown(aoi, error) from error
        else:
            return _posted(client, aoi, posted=True, reply=reply)
    detail = f"AOI {aoi.name} was posted {client.transport.patience.attempts} times, but did not appear"
    raise AcdError(ErrorCode.INGESTER_UNREACHABLE, detail)


def differences(aoi: Aoi, scenes: list[Scene]) -> list[str]:
    """Describe how the scenes of an AOI differ from those that the payload would create.

    Area and dates are not compared, since the ingester does not store them.
    """
    wanted: dict[str, str] = {"scene_graph_name": aoi.scene_graph_name, "storage_uri": aoi.storage_uri}
    sentences: dict[str, None] = {}
    for scene in scenes:
        data = scene.data
        stored = {"scene_graph_name": data.graph_name, "storage_uri": data.storage_uri}
        pairs = [(name, stored[name], value) for name, value in wanted.items() if value]
        keys = sorted(data.graph_config.keys() | aoi.graph_config.keys())
        pairs += [
            (f"graph_config.{key}", data.graph_config.get(key, ""), aoi.graph_config.get(key, "")) for key in keys
        ]
        if data.instances_id:
            pairs.append(("layers", ", ".join(sorted(data.instances_id)), ", ".join(sorted(aoi.layers))))
        sentences |= {
            f"{name} {have or 'empty'}, not {want or 'empty'}": None for name, have, want in pairs if have != want
        }
    return list(sentences)


def _require_same(client: IngesterClient, aoi: Aoi) -> None:
    differing = differences(aoi, client.scenes(aoi.name))
    if differing:
        shown = "; ".join(differing[:MAX_DIFFERENCES]) + (
            f"; and {len(differing) - MAX_DIFFERENCES} more" if differing[MAX_DIFFERENCES:] else ""
        )
        raise AcdError(
            ErrorCode.INGESTER_REFUSED,
            f"AOI {aoi.name} already exists at the ingester, with {shown}",
            "Use the payload that it was posted with, or give this AOI another name.",
        )


def _has_appeared(client: IngesterClient, name: str, before: int) -> bool:
    """Whether the AOI gets more scenes than before within the settling time. An unreachable server is asked again."""
    deadline = time.monotonic() + client.transport.patience.settle
    while True:
        try:
            if client.find_aoi(name) is not None and client.counts(name)[0].total > before:
                return True
        except AcdError as error:
            if error.code is not ErrorCode.INGESTER_UNREACHABLE:
                raise
        if time.monotonic() >= deadline:
            return False
        client.transport.sleep(min(CHECK_INTERVAL, client.transport.patience.settle / 4))


def _posted(client: IngesterClient, aoi: Aoi, *, posted: bool, reply: str = "") -> Posted:
    scenes, tiles = client.counts(aoi.name)
    return Posted(aoi.name, posted, scenes, tiles, reply)


def _unknown(aoi: Aoi, error: LostAnswerError) -> AcdError:
    return AcdError(
        ErrorCode.INGESTER_UNREACHABLE,
        f"{error.detail}; AOI {aoi.name} was sent, and the ingester may still be searching its scenes",
        "Run the same command again later: it checks for the AOI first.",
    )
