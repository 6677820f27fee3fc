"""The source `geocube-ingester`: posts the AOI to a Geocube ingester and waits until it is processed.

The ingester indexes its results in the Geocube, where later jobs read them, so the plan has no shards.
"""

from __future__ import annotations

from dataclasses import dataclass

from acdtask import log
from acdtask.cube.aoi import Aoi, load_aoi
from acdtask.cube.model import Cube, RecordQuery
from acdtask.errors import AcdError, ErrorCode
from acdtask.ingester.client import IngesterClient
from acdtask.ingester.model import Counts, Scene, Status
from acdtask.ingester.post import post_aoi
from acdtask.ingester.transport import Place
from acdtask.ingester.wait import AoiPhase, AoiProgress, progress_of, require_done, wait
from acdtask.jobs.contract import Draft, Estimate, Site
from acdtask.jobs.ingest.content import FilesWork, IngestContent
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.ingest.unusable import exceeds_half
from acdtask.jobs.quarantine import Failure
from acdtask.raster.grid import Layout

__all__ = ["plan_with_ingester"]

_events = log.events("ingest")


@dataclass(frozen=True)
class _IndexedScenes:
    """Number of processed scenes, of those with a record in the cube, and of those with an image."""

    scenes: int
    records: int
    images: int


def plan_with_ingester(settings: IngestSettings, site: Site, layout: Layout | None) -> Draft[IngestContent, FilesWork]:
    """Post the AOI if the ingester does not have it, wait for it, and find its records in the cube.

    Unlike other plans it has effects: it posts the AOI to the ingester and adds the layout to the cube.

    `settings` must name an AOI. The site's cube is the Geocube that the ingester indexes into; `layout`, if given, is
    added to it.

    Returns:
        A plan with nothing to do.

    Raises:
        AcdError: INGESTER_WAITING if it is not done in time, INGESTER_FAILED naming scenes, CUBE_UNKNOWN,
            INPUT_MISSING if the cube has none of the records, and the client's errors.
    """
    aoi = load_aoi(settings.aoi)
    client = IngesterClient.at(Place.of_environment())
    cube = _cube_of(site)
    outcome = _ensure_processed(client, aoi, settings)
    if layout is not None:
        cube.add_layout(layout)
    if outcome.phase is AoiPhase.EMPTY:
        return _draft(layout, outcome, f"the ingester found no scene for AOI {aoi.name}")
    indexed = _indexed_scenes(client, aoi, settings, cube)
    if indexed.scenes and not indexed.records:
        raise AcdError(
            ErrorCode.INPUT_MISSING,
            f"the ingester processed {indexed.scenes} scenes of AOI {aoi.name}, but the cube has no record of them",
            "Give the Geocube that the ingester indexes into (ACD_GEOCUBE_ADDRESS).",
        )
    text = f"the ingester processed {indexed.scenes} scenes of AOI {aoi.name}; the cube has images of {indexed.images}"
    return _draft(layout, outcome, text)


def _ensure_processed(client: IngesterClient, aoi: Aoi, settings: IngestSettings) -> AoiProgress:
    """Post the AOI if needed and wait for its outcome. Raises if it is not done in time, or done with failures."""
    known = progress_of(client, aoi.name) if client.find_aoi(aoi.name) is not None else None
    phase = known.phase if known is not None else AoiPhase.EMPTY
    is_over = phase is AoiPhase.DONE or (phase is AoiPhase.FAILED and _tolerates(known, settings))
    posted = post_aoi(client, aoi, again=settings.post_again and is_over)
    _events.info("aoi.posted" if posted.posted else "aoi.exists", aoi=aoi.name, scenes=posted.scenes.total)

    def progress(scenes: Counts, tiles: Counts) -> None:
        done, total = scenes.ended + tiles.ended, scenes.total + tiles.total
        _events.info("ingester.progress", aoi=aoi.name, done=done, total=total)

    outcome = wait(client, aoi.name, settings.wait_minutes * 60, progress)
    if outcome.phase is not AoiPhase.EMPTY:
        require_done(outcome, accept_failed=_tolerates(outcome, settings), option="--wait-minutes")
    return outcome


def _tolerates(progress: AoiProgress | None, settings: IngestSettings) -> bool:
    """Whether an ingest goes on without the scenes that failed permanently, or tiles of which did."""
    if progress is None or settings.accept_failed:
        return settings.accept_failed
    scenes = {problem.scene for problem in progress.problems}
    return len(scenes) <= settings.unusable_files and not exceeds_half(len(scenes), progress.scenes.total)


def _cube_of(site: Site) -> Cube:
    cube: Cube | None = site.find_cube()
    if cube is None:
        raise AcdError(
            ErrorCode.CUBE_UNKNOWN,
            f"there is no cube at {site.address}, and the ingester does not create one",
            "Give the Geocube that the ingester indexes into (ACD_GEOCUBE_ADDRESS).",
        )
    return cube


def _indexed_scenes(client: IngesterClient, aoi: Aoi, settings: IngestSettings, cube: Cube) -> _IndexedScenes:
    """Count the processed scenes in the AOI's time range, and their records and images in the cube, by name."""
    done = {scene.source_id for scene in client.scenes(aoi.name, Status.DONE) if _within(scene, aoi)}
    start, end = aoi.period()
    query = RecordQuery(start=start, end=end, area=aoi.geojson)
    records = {record.id: record.name for record in cube.records(query) if record.name in done}
    images = cube.having(settings.variable, settings.instance, records) if records else ()
    return _IndexedScenes(len(done), len(set(records.values())), len({records[record_id] for record_id in images}))


def _within(scene: Scene, aoi: Aoi) -> bool:
    start, end = aoi.period()
    return start <= scene.data.date <= end


def _draft(layout: Layout | None, outcome: AoiProgress, nothing_to_do: str) -> Draft[IngestContent, FilesWork]:
    return Draft(
        content=IngestContent(layout=layout),
        shards=[],
        estimate=Estimate(),
        notes={
            "scenes of the ingester": outcome.scenes.text(),
            "tiles of the ingester": outcome.tiles.text(),
            "excluded, failed permanently": [problem.text() for problem in outcome.problems],
        },
        nothing_to_do=nothing_to_do,
        unusable={
            problem.text(): Failure.of(AcdError(ErrorCode.INGESTER_FAILED, problem.text()))
            for problem in outcome.problems
        },
    )
