"""What became of an AOI, and waiting for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from acdtask import log
from acdtask.errors import AcdError, ErrorCode
from acdtask.ingester.client import IngesterClient
from acdtask.ingester.model import Counts, Kind, Scene, Status, Tile, in_one_line

__all__ = ["Ending", "Outcome", "Trouble", "look", "require_done", "wait"]

NAMED_AT_MOST = 5
FIRST_LOOK, LONGEST_LOOK = 2.0, 30.0
AWAY_AT_MOST = 300.0
"""Seconds for which the ingester may be away while somebody waits."""

_events = log.events("ingester")

Progress = Callable[[Counts, Counts], None]


class Ending(Enum):
    """How far an AOI is."""

    EMPTY = "empty"  # no scene at all
    WORKING = "working"
    RETRIABLE = "retriable"  # nothing is being worked on, and something waits for a person's retry
    FAILED = "failed"  # over, and something failed for good
    DONE = "done"


@dataclass(frozen=True)
class Trouble:
    """A scene or tile that is in RETRY or FAILED. `scene` is the product's name, `message` the worker's line."""

    kind: Kind
    id: int
    name: str
    scene: str
    status: Status
    message: str

    def text(self) -> str:
        """For people."""
        what = self.scene if self.kind is Kind.SCENE else f"tile {self.name} of {self.scene}"
        return f"{what} (id {self.id}, {self.status.value}): {self.message or 'no message'}"


@dataclass(frozen=True)
class Outcome:
    """What became of an AOI. Tiles that failed with their scene are not troubles of their own."""

    aoi: str
    ending: Ending
    scenes: Counts
    tiles: Counts
    troubles: tuple[Trouble, ...] = ()

    def text(self) -> str:
        """For people."""
        return f"AOI {self.aoi} is {self.ending.value}: scenes {self.scenes.text()}; tiles {self.tiles.text()}"


def ending_of(scenes: Counts, tiles: Counts) -> Ending:
    """How far an AOI with these counts is.

    Tiles that wait for one in RETRY are NEW, so as long as something is in RETRY only PENDING means work.

    >>> ending_of(Counts(done=2), Counts(done=1, retry=1, new=1)).name, ending_of(Counts(done=1), Counts(new=1)).name
    ('RETRIABLE', 'WORKING')
    """
    if not scenes.total:
        return Ending.EMPTY
    if scenes.pending or tiles.pending:
        return Ending.WORKING
    if scenes.retry or tiles.retry:
        return Ending.RETRIABLE
    if scenes.new or tiles.new:
        return Ending.WORKING
    return Ending.FAILED if scenes.failed or tiles.failed else Ending.DONE


def look(client: IngesterClient, name: str) -> Outcome:
    """What became of an AOI so far. INGESTER_REFUSED if there is none, NAME_INVALID."""
    client.aoi(name)
    scenes, tiles = client.counts(name)
    return Outcome(name, ending_of(scenes, tiles), scenes, tiles, _troubles(client, name, scenes, tiles))


def wait(
    client: IngesterClient,
    name: str,
    seconds: float,
    progress: Progress = lambda _scenes, _tiles: None,
    *,
    every: float = LONGEST_LOOK,
) -> Outcome:
    """Wait until an AOI is over, or until nothing more happens by itself.

    Args:
        client: of the ingester.
        name: of the AOI.
        seconds: at most; with 0 it looks once.
        progress: called after each look with the scenes and tiles by status.
        every: seconds between looks, in the end; the first ones come sooner.

    Returns:
        The outcome; WORKING if the time was not enough.

    Raises:
        AcdError: INGESTER_REFUSED if there is no such AOI, or no more; INGESTER_UNREACHABLE if the ingester is away
            for five minutes, or at the end.
    """
    client.aoi(name)
    started = heard = time.monotonic()
    pause = min(FIRST_LOOK, every)
    while True:
        left = started + seconds - time.monotonic()
        try:
            scenes, tiles = client.counts(name)
            progress(scenes, tiles)
            ending = ending_of(scenes, tiles)
            if ending is not Ending.WORKING or left <= 0:
                return look(client, name)
            heard = time.monotonic()
        except AcdError as error:
            away = time.monotonic() - heard
            if error.code is not ErrorCode.INGESTER_UNREACHABLE or left <= 0 or away > AWAY_AT_MOST:
                raise
            _events.warning("ingester.away", aoi=name, detail=error.detail, seconds=round(away))
        client.transport.sleep(max(0.0, min(pause, left)))
        pause = min(pause * 1.5, every)


def require_done(outcome: Outcome, *, accept_failed: bool = False, option: str = "--minutes") -> None:
    """Raise unless the AOI is done.

    Args:
        outcome: what became of it.
        accept_failed: whether what failed for good may be left out.
        option: what gives it more time.

    Raises:
        AcdError: INGESTER_WAITING if it is not over, INGESTER_FAILED naming scenes and tiles, INPUT_MISSING if it has
            no scene.
    """
    if outcome.ending is Ending.DONE or (outcome.ending is Ending.FAILED and accept_failed):
        return
    if outcome.ending is Ending.WORKING:
        fix = f"Run the same command again later, or give it more time with {option}."
        raise AcdError(ErrorCode.INGESTER_WAITING, outcome.text(), fix)
    if outcome.ending is Ending.EMPTY:
        fix = "Check area, dates and scene_type of its payload, and post it again."
        raise AcdError(ErrorCode.INPUT_MISSING, f"AOI {outcome.aoi} has no scene at the ingester", fix)
    named = "; ".join(trouble.text() for trouble in outcome.troubles[:NAMED_AT_MOST])
    more = f"; and {len(outcome.troubles) - NAMED_AT_MOST} more" if outcome.troubles[NAMED_AT_MOST:] else ""
    how = "" if outcome.ending is Ending.RETRIABLE else " --failed"
    fix = f"Mend what the messages say, then 'acdtask ingester retry {outcome.aoi}{how}'."
    raise AcdError(ErrorCode.INGESTER_FAILED, f"{outcome.text()}. {named}{more}", fix)


def _troubles(client: IngesterClient, name: str, scenes: Counts, tiles: Counts) -> tuple[Trouble, ...]:
    """Scenes first; then the tiles whose scene is not among them."""
    bad_scenes = [
        scene
        for status, count in ((Status.FAILED, scenes.failed), (Status.RETRY, scenes.retry))
        for scene in (client.scenes(name, status) if count else ())
    ]
    told = {scene.id for scene in bad_scenes}
    bad_tiles = [
        tile
        for status, count in ((Status.FAILED, tiles.failed), (Status.RETRY, tiles.retry))
        for tile in (client.tiles(name, status) if count else ())
        if tile.scene.id not in told
    ]
    names = {scene.id: scene.source_id for scene in client.scenes(name)} if bad_tiles else {}
    return (
        *(_trouble(Kind.SCENE, scene, scene.source_id) for scene in bad_scenes),
        *(_trouble(Kind.TILE, tile, names.get(tile.scene.id, f"scene {tile.scene.id}")) for tile in bad_tiles),
    )


def _trouble(kind: Kind, one: Scene | Tile, scene: str) -> Trouble:
    return Trouble(kind, one.id, one.source_id, scene, one.status, in_one_line(one.message))
