"""Posting an AOI so that it is there once, although the call takes long and its answer may be lost."""

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

LOOK_EVERY = 2.0
SHOWN = 3

_events = log.events("ingester")


@dataclass(frozen=True)
class Posted:
    """An AOI that is at the ingester now.

    Attributes:
        posted: whether it was posted by this call, and not there before.
        scenes, tiles: all that it has.
        said: the ingester's words, if it was posted and the answer came.
    """

    aoi: str
    posted: bool
    scenes: Counts
    tiles: Counts
    said: str = ""


def post_aoi(client: IngesterClient, aoi: Aoi, *, again: bool = False) -> Posted:
    """Post an AOI if the ingester does not have it. An AOI without a scene counts as not there.

    After a lost answer it looks for `settle` seconds whether the AOI has come, and posts once more only if it has not
    and the server cannot be at it any more.

    Args:
        client: of the ingester.
        aoi: the payload.
        again: post it although it is there, so that the ingester adds scenes that are new; it leaves out those it has.

    Raises:
        AcdError: INGESTER_REFUSED if it is there with other settings, NAME_INVALID, INGESTER_UNREACHABLE, ...
    """
    there = client.find_aoi(aoi.name) is not None
    before = client.counts(aoi.name)[0].total if there else 0
    if before:
        _require_same(client, aoi)
        if not again:
            return _posted(client, aoi, posted=False)
    for attempt in range(client.transport.patience.attempts):
        _events.info("aoi.posting", aoi=aoi.name, attempt=attempt, scenes_before=before)
        try:
            said = client.post_area(aoi)
        except LostAnswerError as error:
            _events.warning("answer.lost", aoi=aoi.name, detail=error.detail)
            if _has_come(client, aoi.name, before):
                return _posted(client, aoi, posted=True)
            if before or isinstance(error, UnfinishedError):
                raise _unknown(aoi, error) from error
        else:
            return _posted(client, aoi, posted=True, said=said)
    detail = f"AOI {aoi.name} was posted {client.transport.patience.attempts} times, and has not come"
    raise AcdError(ErrorCode.INGESTER_UNREACHABLE, detail)


def differences(aoi: Aoi, scenes: list[Scene]) -> list[str]:
    """In what the scenes of an AOI differ from what the payload would make, for people.

    The ingester keeps the area and the dates of no payload, so they are not compared.
    """
    wanted: dict[str, str] = {"scene_graph_name": aoi.scene_graph_name, "storage_uri": aoi.storage_uri}
    told: dict[str, None] = {}
    for scene in scenes:
        data = scene.data
        there = {"scene_graph_name": data.graph_name, "storage_uri": data.storage_uri}
        pairs = [(name, there[name], value) for name, value in wanted.items() if value]
        keys = sorted(data.graph_config.keys() | aoi.graph_config.keys())
        pairs += [
            (f"graph_config.{key}", data.graph_config.get(key, ""), aoi.graph_config.get(key, "")) for key in keys
        ]
        if data.instances_id:
            pairs.append(("layers", ", ".join(sorted(data.instances_id)), ", ".join(sorted(aoi.layers))))
        told |= {f"{name} {have or 'empty'}, not {want or 'empty'}": None for name, have, want in pairs if have != want}
    return list(told)


def _require_same(client: IngesterClient, aoi: Aoi) -> None:
    differing = differences(aoi, client.scenes(aoi.name))
    if differing:
        shown = "; ".join(differing[:SHOWN]) + (f"; and {len(differing) - SHOWN} more" if differing[SHOWN:] else "")
        raise AcdError(
            ErrorCode.INGESTER_REFUSED,
            f"AOI {aoi.name} is at the ingester already, with {shown}",
            "Give the payload that it was posted with, or give this one another name.",
        )


def _has_come(client: IngesterClient, name: str, before: int) -> bool:
    """Whether the AOI has more scenes than before, now or soon. A server that is away just now is asked again."""
    until = time.monotonic() + client.transport.patience.settle
    while True:
        try:
            if client.find_aoi(name) is not None and client.counts(name)[0].total > before:
                return True
        except AcdError as error:
            if error.code is not ErrorCode.INGESTER_UNREACHABLE:
                raise
        if time.monotonic() >= until:
            return False
        client.transport.sleep(min(LOOK_EVERY, client.transport.patience.settle / 4))


def _posted(client: IngesterClient, aoi: Aoi, *, posted: bool, said: str = "") -> Posted:
    scenes, tiles = client.counts(aoi.name)
    return Posted(aoi.name, posted, scenes, tiles, said)


def _unknown(aoi: Aoi, error: LostAnswerError) -> AcdError:
    return AcdError(
        ErrorCode.INGESTER_UNREACHABLE,
        f"{error.detail}; AOI {aoi.name} was sent, and the ingester may still be at its inventory",
        "Run the same command again later: it looks for the AOI first.",
    )
