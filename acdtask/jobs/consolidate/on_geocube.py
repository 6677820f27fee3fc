"""Consolidation by a Geocube: its own job, started once and followed to its end."""

from __future__ import annotations

import re
from collections.abc import Callable

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
"""Seconds for which a pod follows a job; after that the pod fails, and the next one goes on."""

ALGORITHM = 1
"""Part of the jobs' names; increment to consolidate everything again."""
POLL_SECONDS = 2.0
ATTEMPTS = 5


def plan_on_geocube(
    settings: ConsolidateSettings, records: tuple[str, ...], tiles: list[Tile], cube: Consolidates
) -> Draft[ConsolidateContent, CellsWork]:
    """Plan one shard with the job to start. Its name is a digest of records, layout and settings."""
    content = ConsolidateContent(records=records)
    identity = {
        **content.identity(settings),
        "settings": settings.model_dump(include={"variable", "instance", "layout"}),
    }
    consolidation = Consolidation(
        name=f"acd-{content_id_of('consolidate', ALGORITHM, identity)}",
        variable=settings.variable,
        instance=settings.instance,
        layout=settings.layout,
        records=records,
    )
    _, newest = _newest_attempt(cube, consolidation.name)
    done = newest is not None and newest.state in ("DONE", "DONEBUTUNTIDY")
    work = CellsWork(tiles=[CellOfWork(tile=tile) for tile in tiles], consolidation=consolidation)
    return Draft(
        content=content,
        shards=[Shard(units=len(tiles), work=work)],
        estimate=Estimate(tiles=len(tiles)),
        notes={"map": tiles_as_geojson(tiles), "job": consolidation.name},
        nothing_to_do=f"job {consolidation.name} has consolidated these {len(records)} records" if done else "",
    )


def run_on_geocube(work: CellsWork, cube: Consolidates, progress: Callable[[int], None]) -> ConsolidatedCells:
    """Start or find the job, and follow it. JOB_STUCK, JOB_FAILED, or JOB_RUNNING after FOLLOW_SECONDS."""
    if work.consolidation is None:
        raise AcdError(ErrorCode.BUG, "a shard does not name the job of the Geocube")
    job_id = _find_or_start(cube, work.consolidation)

    def report(event: JobEvent) -> None:
        if event.job.tasks:
            progress(len(work.tiles) * event.job.count(TaskState.DONE) // len(event.job.tasks))

    job = require_done(follow(cube, job_id, on_event=report, timeout=FOLLOW_SECONDS, poll=POLL_SECONDS))
    progress(len(work.tiles))
    return ConsolidatedCells(job=job.name, job_id=job.id)


def _newest_attempt(cube: Consolidates, name: str) -> tuple[int, JobState | None]:
    """The newest job of a name, with its number; 0 if there is none. A failed job's name cannot be used again."""
    matches = [(re.fullmatch(rf"{re.escape(name)}(?:-(\d+))?", job.name), job) for job in cube.jobs(f"{name}*")]
    numbered = [(int(match[1] or 1), job) for match, job in matches if match]
    return max(numbered, key=lambda pair: pair[0], default=(0, None))


def _find_or_start(cube: Consolidates, consolidation: Consolidation) -> str:
    """The id of the running or finished job; starts one if there is none or all failed."""
    for _ in range(ATTEMPTS):
        number, newest = _newest_attempt(cube, consolidation.name)
        if newest and newest.state != "FAILED":
            return newest.id
        name = f"{consolidation.name}-{number + 1}" if number else consolidation.name
        try:
            return cube.consolidate(consolidation.model_copy(update={"name": name}))
        except AcdError as error:
            if error.code is not ErrorCode.JOB_CONFLICT:  # on a conflict another pod has started it
                raise
    detail = f"job {consolidation.name} was started by others {ATTEMPTS} times, but never appeared"
    raise AcdError(ErrorCode.STORE_CONTENDED, detail)
