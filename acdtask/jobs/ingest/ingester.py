"""The source `geocube-ingester`: a Geocube ingester downloads, processes and indexes; we post the AOI and wait for it.

Its results lie in the Geocube, where later jobs read them, so nothing is left to write: the plan says what there is.
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
from acdtask.ingester.wait import Ending, Outcome, look, require_done, wait
from acdtask.jobs.contract import Draft, Estimate, Site
from acdtask.jobs.ingest.content import FilesWork, IngestContent
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.raster.grid import Layout

__all__ = ["plan_with_ingester"]

_events = log.events("ingest")


@dataclass(frozen=True)
class _Held:
    """Of the scenes that are done: how many have a record in the cube, and how many of these an image."""

    scenes: int
    records: int
    images: int


def plan_with_ingester(settings: IngestSettings, site: Site, layout: Layout | None) -> Draft[IngestContent, FilesWork]:
    """Post the AOI if it is not there, wait as long as the settings say, and find its records in the cube.

    Unlike other plans it changes something: the ingester gets the AOI, and the cube the layout.

    Args:
        settings: with an AOI.
        site: whose cube is the Geocube that the ingester indexes into.
        layout: to make, if it is not there.

    Returns:
        A plan with nothing to do.

    Raises:
        AcdError: INGESTER_WAITING if it is not done in time, INGESTER_FAILED naming scenes, CUBE_UNKNOWN,
            INPUT_MISSING if the cube has none of the records, and what the client raises.
    """
    aoi = load_aoi(settings.aoi)
    client = IngesterClient.at(Place.of_environment())
    cube = _cube_of(site)
    outcome = _brought_about(client, aoi, settings)
    if layout is not None:
        cube.add_layout(layout)
    if outcome.ending is Ending.EMPTY:
        return _draft(layout, outcome, f"the ingester found no scene for AOI {aoi.name}")
    held = _held(client, aoi, settings, cube)
    if held.scenes and not held.records:
        raise AcdError(
            ErrorCode.INPUT_MISSING,
            f"the ingester has done {held.scenes} scenes of AOI {aoi.name}, and the cube has a record of none",
            "Give the Geocube that the ingester indexes into (ACD_GEOCUBE_ADDRESS).",
        )
    text = f"the ingester has done {held.scenes} scenes of AOI {aoi.name}, and the cube has images of {held.images}"
    return _draft(layout, outcome, text)


def _brought_about(client: IngesterClient, aoi: Aoi, settings: IngestSettings) -> Outcome:
    """What became of the AOI, which is at the ingester now. Not over, or over with failures: raises."""
    there = look(client, aoi.name).ending if client.find_aoi(aoi.name) is not None else Ending.EMPTY
    over = there is Ending.DONE or (there is Ending.FAILED and settings.accept_failed)
    posted = post_aoi(client, aoi, again=settings.post_again and over)
    _events.info("aoi.posted" if posted.posted else "aoi.there", aoi=aoi.name, scenes=posted.scenes.total)

    def progress(scenes: Counts, tiles: Counts) -> None:
        done, total = scenes.ended + tiles.ended, scenes.total + tiles.total
        _events.info("ingester.progress", aoi=aoi.name, done=done, total=total)

    outcome = wait(client, aoi.name, settings.wait_minutes * 60, progress)
    if outcome.ending is not Ending.EMPTY:
        require_done(outcome, accept_failed=settings.accept_failed, option="--wait-minutes")
    return outcome


def _cube_of(site: Site) -> Cube:
    cube: Cube | None = site.find_cube()
    if cube is None:
        raise AcdError(
            ErrorCode.CUBE_UNKNOWN,
            f"there is no cube at {site.address}, and the ingester does not create one",
            "Give the Geocube that the ingester indexes into (ACD_GEOCUBE_ADDRESS).",
        )
    return cube


def _held(client: IngesterClient, aoi: Aoi, settings: IngestSettings, cube: Cube) -> _Held:
    """Scenes of the AOI's time range, and what the cube has of them. A scene's record has its name."""
    done = {scene.source_id for scene in client.scenes(aoi.name, Status.DONE) if _within(scene, aoi)}
    start, end = aoi.period()
    query = RecordQuery(start=start, end=end, area=aoi.geojson)
    records = {record.id: record.name for record in cube.records(query) if record.name in done}
    images = cube.having(settings.variable, settings.instance, records) if records else ()
    return _Held(len(done), len(set(records.values())), len({records[one] for one in images}))


def _within(scene: Scene, aoi: Aoi) -> bool:
    start, end = aoi.period()
    return start <= scene.data.date <= end


def _draft(layout: Layout | None, outcome: Outcome, nothing_to_do: str) -> Draft[IngestContent, FilesWork]:
    return Draft(
        content=IngestContent(layout=layout),
        shards=[],
        estimate=Estimate(),
        notes={
            "scenes of the ingester": outcome.scenes.text(),
            "tiles of the ingester": outcome.tiles.text(),
            "left out, failed for good": [trouble.text() for trouble in outcome.troubles],
        },
        nothing_to_do=nothing_to_do,
    )
