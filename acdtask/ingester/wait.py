"""The progress of an AOI at the ingester, and waiting until it is done."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from acdtask import log
from acdtask.errors import AcdError, ErrorCode
from acdtask.ingester.client import IngesterClient
from acdtask.ingester.model import Counts, Kind, Scene, Status, Tile, in_one_line

__all__ = ["AoiPhase", "AoiProgress", "Problem", "phase_of", "progress_of", "require_done", "wait"]

MAX_NAMED = 5
FIRST_INTERVAL, MAX_INTERVAL = 2.0, 30.0
MAX_UNREACHABLE = 300.0
"""Seconds for which `wait` tolerates an unreachable ingester."""

_events = log.events("ingester")

OnProgress = Callable[[Counts, Counts], None]


class AoiPhase(Enum):
    """The phase of an AOI."""

    EMPTY = "empty"  # no scenes
    WORKING = "working"
    RETRIABLE = "retriable"  # no work in progress; something waits for a manual retry
    FAILED = "failed"  # finished, with permanent failures
    DONE = "done"


@dataclass(frozen=True)
class Problem:
    """A scene or tile in RETRY or FAILED. `scene` is the product's name, `message` comes from the worker."""

    kind: Kind
    id: int
    name: str
    scene: str
    status: Status
    message: str

    def text(self) -> str:
        """Describe the problem in one line."""
        what = self.scene if self.kind is Kind.SCENE else f"tile {self.name} of {self.scene}"
        return f"{what} (id {self.id}, {self.status.value}): {self.message or 'no message'}"


@dataclass(frozen=True)
class AoiProgress:
    """The state of an AOI. Tiles that failed with their scene are not listed as problems."""

    aoi: str
    phase: AoiPhase
    scenes: Counts
    tiles: Counts
    problems: tuple[Problem, ...] = ()

    def text(self) -> str:
        """Describe the state in one line."""
        return f"AOI {self.aoi} is {self.phase.value}: scenes {self.scenes.text()}; tiles {self.tiles.text()}"


def phase_of(scenes: Counts, tiles: Counts) -> AoiPhase:
    """The phase of an AOI with these counts.

    Tiles that depend on a tile in RETRY stay NEW, so while anything is in RETRY only PENDING means work in progress.

    >>> phase_of(Counts(done=2), Counts(done=1, retry=1, new=1)).name, phase_of(Counts(done=1), Counts(new=1)).name
    ('RETRIABLE', 'WORKING')
    """
    if not scenes.total:
        return AoiPhase.EMPTY
    if scenes.pending or tiles.pending:
        return AoiPhase.WORKING
    if scenes.retry or tiles.retry:
        return AoiPhase.RETRIABLE
    if scenes.new or tiles.new:
        return AoiPhase.WORKING
    return AoiPhase.FAILED if scenes.failed or tiles.failed else AoiPhase.DONE


def progress_of(client: IngesterClient, name: str) -> AoiProgress:
    """Query the progress of an AOI. INGESTER_REFUSED if it does not exist, NAME_INVALID."""
    client.aoi(name)
    scenes, tiles = client.counts(name)
    return AoiProgress(name, phase_of(scenes, tiles), scenes, tiles, _problems(client, name, scenes, tiles))


def wait(
    client: IngesterClient,
    name: str,
    seconds: float,
    on_progress: OnProgress = lambda _scenes, _tiles: None,
    *,
    every: float = MAX_INTERVAL,
) -> AoiProgress:
    """Wait until an AOI is finished, or until nothing more happens without a retry; WORKING if the time ran out.

    With 0 seconds, it checks once. `on_progress` is called after each query with the numbers of scenes and tiles by
    status. `every` is the longest interval between queries in seconds; the first ones are shorter. INGESTER_REFUSED if
    the AOI does not exist (any more); INGESTER_UNREACHABLE if the ingester does not respond for five minutes, or at the
    end.
    """
    client.aoi(name)
    started = last_reply = time.monotonic()
    pause = min(FIRST_INTERVAL, every)
    while True:
        remaining = started + seconds - time.monotonic()
        try:
            scenes, tiles = client.counts(name)
            on_progress(scenes, tiles)
            if phase_of(scenes, tiles) is not AoiPhase.WORKING or remaining <= 0:
                return progress_of(client, name)
            last_reply = time.monotonic()
        except AcdError as error:
            silent = time.monotonic() - last_reply
            if error.code is not ErrorCode.INGESTER_UNREACHABLE or remaining <= 0 or silent > MAX_UNREACHABLE:
                raise
            _events.warning("ingester.away", aoi=name, detail=error.detail, seconds=round(silent))
        client.transport.sleep(max(0.0, min(pause, remaining)))
        pause = min(pause * 1.5, every)


def require_done(progress: AoiProgress, *, accept_failed: bool = False, option: str = "--minutes") -> None:
    """Raise an error unless the AOI is done, or finished with permanent failures if these are accepted.

    INGESTER_WAITING if it is not finished (the fix names the option that allows more time), INGESTER_FAILED with the
    scenes and tiles, INPUT_MISSING if it has no scenes.
    """
    if progress.phase is AoiPhase.DONE or (progress.phase is AoiPhase.FAILED and accept_failed):
        return
    if progress.phase is AoiPhase.WORKING:
        fix = f"Run the same command again later, or give it more time with {option}."
        raise AcdError(ErrorCode.INGESTER_WAITING, progress.text(), fix)
    if progress.phase is AoiPhase.EMPTY:
        fix = "Check the area, dates and scene_type of its payload, and post it again."
        raise AcdError(ErrorCode.INPUT_MISSING, f"AOI {progress.aoi} has no scenes at the ingester", fix)
    named = "; ".join(problem.text() for problem in progress.problems[:MAX_NAMED])
    more = f"; and {len(progress.problems) - MAX_NAMED} more" if progress.problems[MAX_NAMED:] else ""
    option = "" if progress.phase is AoiPhase.RETRIABLE else " --failed"
    fix = f"Fix the causes in the messages, then run 'acdtask ingester retry {progress.aoi}{option}'."
    raise AcdError(ErrorCode.INGESTER_FAILED, f"{progress.text()}. {named}{more}", fix)


def _problems(client: IngesterClient, name: str, scenes: Counts, tiles: Counts) -> tuple[Problem, ...]:
    """List the scenes with problems, then the tiles whose scene has none."""
    bad_scenes = [
        scene
        for status, count in ((Status.FAILED, scenes.failed), (Status.RETRY, scenes.retry))
        for scene in (client.scenes(name, status) if count else ())
    ]
    listed = {scene.id for scene in bad_scenes}
    bad_tiles = [
        tile
        for status, count in ((Status.FAILED, tiles.failed), (Status.RETRY, tiles.retry))
        for tile in (client.tiles(name, status) if count else ())
        if tile.scene.id not in listed
    ]
    names = {scene.id: scene.source_id for scene in client.scenes(name)} if bad_tiles else {}
    return (
        *(_problem(Kind.SCENE, scene, scene.source_id) for scene in bad_scenes),
        *(_problem(Kind.TILE, tile, names.get(tile.scene.id, f"scene {tile.scene.id}")) for tile in bad_tiles),
    )


def _problem(kind: Kind, item: Scene | Tile, scene: str) -> Problem:
    return Problem(kind, item.id, item.source_id, scene, item.status, in_one_line(item.message))
