"""Consolidation where the records are a Geocube's: its own job, started once and followed to its end."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from acdtask.cube.follow import JobEvent, follow, require_done
from acdtask.cube.jobs import Consolidates, Consolidation, JobState, TaskState
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.consolidate.content import CellOfWork, CellsWork, ConsolidateContent, ConsolidatedCells
from acdtask.jobs.consolidate.settings import ConsolidateSettings
from acdtask.jobs.contract import Draft, Estimate, Shard, content_id_of
from acdtask.raster.grid import Tile
from acdtask.raster.tiling import tiles_as_geojson

__all__ = ["FOLLOW_SECONDS", "plan_on_geocube", "run_on_geocube"]

FOLLOW_SECONDS = 3 * 3600.0
"""How long a pod watches a job before it says that it still runs; the next one goes on."""

ALGORITHM = 1
"""Part of the names of jobs: raise it to consolidate everything again."""
POLL_SECONDS = 2.0
ATTEMPTS = 5


def plan_on_geocube(
    settings: ConsolidateSettings, records: tuple[str, ...], tiles: list[Tile], cube: Consolidates
) -> Draft[ConsolidateContent, CellsWork]:
    """One shard, which names the job: the same records, layout and settings, the same name."""
    content = ConsolidateContent(records=records)
    on_the_server = {**content.identity(settings), "settings": _on_the_server(settings)}
    wanted = Consolidation(
        name=f"acd-{content_id_of('consolidate', ALGORITHM, on_the_server)}",
        variable=settings.variable,
        instance=settings.instance,
        layout=settings.layout,
        records=records,
    )
    newest = _Attempts.of(cube, wanted.name).newest
    done = newest is not None and newest.state in ("DONE", "DONEBUTUNTIDY")
    work = CellsWork(tiles=[CellOfWork(tile=tile) for tile in tiles], consolidation=wanted)
    return Draft(
        content=content,
        shards=[Shard(units=len(tiles), work=work)],
        estimate=Estimate(tiles=len(tiles)),
        notes={"map": tiles_as_geojson(tiles), "job": wanted.name},
        nothing_to_do=f"job {wanted.name} has consolidated these {len(records)} records" if done else "",
    )


def run_on_geocube(work: CellsWork, cube: Consolidates, progress: Callable[[int], None]) -> ConsolidatedCells:
    """Start the job, or find it, and follow it. JOB_STUCK, JOB_FAILED; JOB_RUNNING if it takes longer than a pod."""
    if work.consolidation is None:
        raise AcdError(ErrorCode.BUG, "a shard does not say what the Geocube is asked for")
    job_id = _started(cube, work.consolidation)

    def look(event: JobEvent) -> None:
        if event.job.tasks:
            progress(len(work.tiles) * event.job.count(TaskState.DONE) // len(event.job.tasks))

    job = require_done(follow(cube, job_id, on_event=look, timeout=FOLLOW_SECONDS, poll=POLL_SECONDS))
    progress(len(work.tiles))
    return ConsolidatedCells(job=job.name, job_id=job.id)


def _on_the_server(settings: ConsolidateSettings) -> dict[str, str]:
    """The settings that a Geocube hears of."""
    return {"variable": settings.variable, "instance": settings.instance, "layout": settings.layout}


@dataclass(frozen=True)
class _Attempts:
    """Jobs of a name, and of that name with a number: a name whose job failed cannot be used again."""

    newest: JobState | None
    number: int

    @classmethod
    def of(cls, cube: Consolidates, name: str) -> _Attempts:
        found = [(re.fullmatch(rf"{re.escape(name)}(?:-(\d+))?", one.name), one) for one in cube.jobs(f"{name}*")]
        numbered = [(int(match[1] or 1), one) for match, one in found if match]
        number, newest = max(numbered, key=lambda pair: pair[0], default=(0, None))
        return cls(newest, number)


def _started(cube: Consolidates, wanted: Consolidation) -> str:
    """The id of the job that does it, or has done it; started now if there is none but such as failed."""
    for _ in range(ATTEMPTS):
        attempts = _Attempts.of(cube, wanted.name)
        if attempts.newest and attempts.newest.state != "FAILED":
            return attempts.newest.id
        name = f"{wanted.name}-{attempts.number + 1}" if attempts.number else wanted.name
        try:
            return cube.consolidate(wanted.model_copy(update={"name": name}))
        except AcdError as error:
            if error.code is not ErrorCode.JOB_CONFLICT:  # else another pod was faster
                raise
    raise AcdError(
        ErrorCode.STORE_CONTENDED, f"job {wanted.name} was started by others {ATTEMPTS} times, but never appeared"
    )
