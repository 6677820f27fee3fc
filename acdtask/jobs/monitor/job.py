"""Monitor: new images against the baseline, a date at a time, as if every date were one huge image."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import numpy as np

from acdtask.change.method import halo_of
from acdtask.cube.aoi import Aoi, load_aoi
from acdtask.cube.model import Record
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.comparable import (
    Composition,
    Overlaps,
    composition_of,
    grids_note,
    pairs_of,
    pairs_of_labels,
    require_comparable,
    require_one_series,
)
from acdtask.jobs.contract import (
    AGAIN,
    Draft,
    Estimate,
    Findings,
    Job,
    Site,
)
from acdtask.jobs.costs import MONITOR
from acdtask.jobs.monitor.content import MonitorContent, MonitorPlan, MonitorWork, TileWithoutBaseline, TileWork
from acdtask.jobs.monitor.cut import Cut
from acdtask.jobs.monitor.findings import findings_of, sentences_of
from acdtask.jobs.monitor.halo import views_around
from acdtask.jobs.monitor.images import ImageWork
from acdtask.jobs.monitor.label import Label
from acdtask.jobs.monitor.measure import Measure, is_measured
from acdtask.jobs.monitor.publish import patch_files
from acdtask.jobs.monitor.series import (
    ALGORITHM,
    Judgements,
    images_of_stack,
    judgements_of,
    method_of,
    newest_manifest,
    series_of,
    start_of_series,
)
from acdtask.jobs.monitor.settings import MonitorSettings
from acdtask.jobs.monitor.tally import require_images
from acdtask.jobs.monitor.versions import notes_on_period, notes_on_versions
from acdtask.jobs.products import BaselineManifest, MonitorManifest, find_manifest, is_latest
from acdtask.jobs.shards import HELD_BYTES, no_work
from acdtask.jobs.shards import Cut as ShardCut
from acdtask.jobs.stacks import Stacks, tiles_of_aoi
from acdtask.raster.grid import Layout
from acdtask.raster.tiling import tiles_as_geojson

__all__ = ["MonitorJob"]

TABLE_BYTES_PER_PIXEL = 2
"""About what the fragments of an image take in the table of its shard."""
NAMED_AT_MOST = 5
BECOMES_LATEST = "these images are monitored already, and their result becomes the latest again"


class MonitorJob(Job[MonitorSettings, MonitorContent]):
    """Find where new images lie abnormally far below their baseline."""

    name = "monitor"
    algorithm = ALGORITHM
    rounds = (Measure(), Label(), Cut())
    settings = MonitorSettings
    content = MonitorContent

    def plan(self, settings: MonitorSettings, site: Site) -> Draft[MonitorContent, MonitorWork]:
        """The images after the baseline that were not monitored with these settings. BASELINE_UNKNOWN."""
        aoi = load_aoi(settings.aoi)
        layout = site.cube.layout(settings.layout)
        variable = site.cube.variable(settings.variable)
        baseline = _baseline(settings, aoi, site)
        method = method_of(settings, aoi, variable)
        manifest = newest_manifest(method, site)
        since = start_of_series(baseline, manifest)
        start = settings.start or since
        stacks = Stacks(site.cube, settings.selection(aoi, since, None))
        stacks.require_choice()
        found = images_of_stack(stacks, aoi, method, baseline)
        judgements = judgements_of(method, manifest, site)
        pending = _pending(found, judgements, baseline.content_id, again=settings.again)
        judged_before = sum(image.content in judgements.indexed for image in pending.values())
        versions = notes_on_versions(manifest, baseline, judged_before)
        wanted = [record for record in stacks.records if stacks.label_of(record) in pending]
        composition = _require_comparable(stacks, wanted, settings, baseline, layout, site)
        work: list[TileWork] = []
        without: list[TileWithoutBaseline] = []
        there = {one.tile.cell: one for one in baseline.tiles}
        absent = {one.cell: one for one in baseline.quarantined}
        tiles = tiles_of_aoi(aoi, layout)
        halo = halo_of(method.rules.steps)
        within = {tile.cell: there[tile.cell] for tile in tiles if tile.cell in there}
        for tile, images in zip(tiles, stacks.by_image(tiles, wanted, halo), strict=True):
            if tile.cell in there and images:
                work.append(TileWork(tile=tile, baseline=views_around(tile, within, halo), images=images))
            elif tile.cell in absent and images:
                without.append(TileWithoutBaseline(tile=absent[tile.cell], images=[image.label for image in images]))
        if work:
            require_images(len(baseline.images), _most_images(baseline), method.rules)
        elif pending:
            _refuse_without_tiles([*pending.values()], baseline, without)
        current = is_latest(site.store, aoi.name, self.name, _name(settings), method.id)
        again = not work and bool(judgements.complete) and not current
        pixels = layout.cell_pixels**2
        count = sum(len(one.images) for one in work)
        images_read = count * (layout.cell_pixels + 2 * halo) ** 2
        image_bytes = pixels * np.dtype(variable.dformat.dtype).itemsize
        seconds = [MONITOR.seconds(len(one.images), image_bytes) for one in work]
        held = [len(one.images) * pixels * TABLE_BYTES_PER_PIXEL for one in work]
        cut = ShardCut(settings.shard_tiles, settings.pod_start)
        return Draft(
            content=MonitorContent(
                method=method,
                baseline=baseline.content_id,
                since=since,
                images=() if again else tuple(pending.values()),
                without_baseline=tuple(without),
                lines=(
                    *composition.lines(),
                    *_other_lengths(composition, baseline),
                    *notes_on_period(baseline, since, [*pending.values()], settings.start),
                    *versions,
                ),
            ),
            shards=no_work(MonitorWork(tiles=[]))
            if again
            else cut.shards(work, lambda tiles: MonitorWork(tiles=tiles), seconds, held),
            rounds=self.round_names if is_measured(method.rules) else tuple(self.round_names[1:]),
            estimate=Estimate(
                tiles=len(work),
                dates=len(pending),
                bytes_read=images_read * np.dtype(variable.dformat.dtype).itemsize
                + len(work) * 12 * layout.cell_pixels**2,
                bytes_written=count * pixels * 4,
                core_seconds=sum(seconds),
                memory_bytes=MONITOR.memory(pixels, 3 * count, pixels, min(sum(held), HELD_BYTES)),
            ),
            notes={
                "map": tiles_as_geojson([one.tile for one in work]),
                "monitored already": len(found) - len(pending),
                **({AGAIN: BECOMES_LATEST} if again else {}),
                **composition.notes(),
                **grids_note(site, settings.variable, settings.instance, wanted),
                **({"baseline versions": versions} if versions else {}),
            },
            nothing_to_do="" if work or again else _why_nothing(found, start, baseline, versions, again=settings.again),
            series=series_of(method, start, manifest, stacks, site.cube),
        )

    def fenced_area(self, settings: MonitorSettings) -> str:
        """Its AOI."""
        return load_aoi(settings.aoi).name

    def artifacts(self, plan: MonitorPlan, site: Site) -> dict[str, str]:
        """The patches of the plan's images."""
        return patch_files(plan)

    def findings(self, plan: MonitorPlan, site: Site) -> Findings:
        """Images, patches and changed area of this plan; the files hold these patches."""
        return findings_of(plan, _published(plan, site), self.artifacts(plan, site), site)

    def notes(self, plan: MonitorPlan, site: Site) -> list[str]:
        """What the images are; patches, the share of the area that was judged, what came closest if there is none."""
        return [*plan.content.lines, *sentences_of(plan, _published(plan, site), site)]


def _name(settings: MonitorSettings) -> str:
    return f"{settings.variable}/{settings.layout}/{settings.name}"


def _pending(
    images: Mapping[str, ImageWork], judgements: Judgements, baseline: str, *, again: bool
) -> dict[str, ImageWork]:
    """The images to judge, by label: those without a product; with `again` those not judged against this version."""
    if again:
        done = judgements.against(baseline, [*images.values()])
    else:
        done = {label for label, image in images.items() if image.content in judgements.complete}
    return {label: image for label, image in images.items() if label not in done}


def _published(plan: MonitorPlan, site: Site) -> MonitorManifest:
    method, missing = plan.content.method, ErrorCode.MONITOR_UNKNOWN
    _, body = find_manifest(site.store, method.aoi, "monitor", "", method.id, missing)
    return MonitorManifest.model_validate_json(body)


def _baseline(settings: MonitorSettings, aoi: Aoi, site: Site) -> BaselineManifest:
    name = f"{settings.variable}/{settings.layout}/{settings.baseline_name}"
    _, body = find_manifest(site.store, aoi.name, "baseline", name, settings.baseline, ErrorCode.BASELINE_UNKNOWN)
    return BaselineManifest.model_validate_json(body)


def _require_comparable(
    stacks: Stacks,
    pending: list[Record],
    settings: MonitorSettings,
    baseline: BaselineManifest,
    layout: Layout,
    site: Site,
) -> Composition:
    """What the new images are. They compare with each other and with the baseline, unless it is asked otherwise.

    TRACKS_MIXED, POLARISATIONS_MIXED, BASELINE_OF_ANOTHER_TRACK, RECORDS_OVERLAP, PAIRS_INTERLEAVED.
    """
    composition = composition_of(pending, mixed=settings.mixed)
    if settings.mixed:
        return composition
    what = f"the monitoring of {settings.variable}:{settings.instance} in {baseline.aoi}"
    whole = composition_of(stacks.records)
    require_comparable(whole, what)
    for of_baseline, of_images in ((baseline.track, whole.track), (baseline.polarisation, whole.polarisation)):
        if of_baseline and of_images and of_baseline != of_images:
            raise AcdError(
                ErrorCode.BASELINE_OF_ANOTHER_TRACK,
                f"{what} has images of {of_images} ({whole.images}), and the baseline {baseline.name} is of"
                f" {of_baseline}",
            )
    Overlaps(site.cube, settings.variable, settings.instance, layout).require_none(pending)
    if not whole.track:
        known = pairs_of_labels(baseline.images)
        require_one_series(pairs_of(stacks.of_any_length), f"{what} with its baseline {baseline.name}", known)
    return composition


def _other_lengths(composition: Composition, baseline: BaselineManifest) -> list[str]:
    """What to say of images whose pairs are longer or shorter than all of the baseline."""
    known = {(pair.end - pair.start).days for pair in pairs_of_labels(baseline.images)}
    others = {days: count for days, count in composition.pair_days.items() if days not in known}
    if not known or not others:
        return []
    lengths = ", ".join(f"{days} days: {count}" for days, count in sorted(others.items()))
    return [f"no pair of the baseline is as long as these images ({lengths}), so their coherence may differ for it"]


def _most_images(baseline: BaselineManifest) -> int:
    """As many images as half of the pixels of half of the tiles have; 0 for a baseline of an earlier version."""
    counts = sorted(tile.pixels.half_count for tile in baseline.tiles if tile.pixels and tile.pixels.half_count)
    return counts[(len(counts) - 1) // 2] if counts else 0


def _refuse_without_tiles(
    images: list[ImageWork], baseline: BaselineManifest, without: list[TileWithoutBaseline]
) -> None:
    """NOTHING_JUDGED: the images have data in no tile of the baseline."""
    named = ", ".join(image.label for image in images[:NAMED_AT_MOST])
    named += f" and {len(images) - NAMED_AT_MOST} more" if len(images) > NAMED_AT_MOST else ""
    again = "Run 'acdtask baseline local' again with this AOI and layout"
    if without:
        raise AcdError(
            ErrorCode.NOTHING_JUDGED,
            f"{named}: data only in {len(without)} tiles that were left out of the baseline",
            f"{again}: it does the tiles that it lacks.",
        )
    raise AcdError(
        ErrorCode.NOTHING_JUDGED,
        f"{named}: no data in the {len(baseline.tiles)} tiles of the baseline",
        f"{again} if the AOI has changed, or leave the records out with --leave-out.",
    )


def _why_nothing(
    images: Mapping[str, ImageWork], start: datetime, baseline: BaselineManifest, versions: list[str], *, again: bool
) -> str:
    if not images:
        return f"there is no image after {start.date()}"
    if again:
        return (
            f"all {len(images)} images after {start.date()} were judged against version {baseline.content_id} of the"
            " baseline already"
        )
    why = f"all {len(images)} images after {start.date()} were monitored with these settings already"
    return "; ".join([why, *versions])
