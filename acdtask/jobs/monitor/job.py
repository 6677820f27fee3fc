"""The monitor job, which compares new images with the baseline, treating each date as one large image."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import numpy as np

from acdtask.change.steps.step import halo_of
from acdtask.change.thresholds import Detection
from acdtask.cube.aoi import Aoi, load_aoi
from acdtask.cube.model import Record, Variable
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.cautions import Caution, image_season, plan_notes, without_tiles
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
    Shard,
    Site,
)
from acdtask.jobs.costs import JUDGE, MONITOR
from acdtask.jobs.manifests import find_manifest, is_latest
from acdtask.jobs.monitor.content import MonitorContent, MonitorPlan, MonitorWork, TileWithoutBaseline, TileWork
from acdtask.jobs.monitor.cut import CutMasks
from acdtask.jobs.monitor.findings import findings_of, sentences_of
from acdtask.jobs.monitor.halo import views_around
from acdtask.jobs.monitor.images import ImageWork
from acdtask.jobs.monitor.judge import JudgeCandidates
from acdtask.jobs.monitor.label import LabelTiles
from acdtask.jobs.monitor.measure import MeasureImages, is_measured
from acdtask.jobs.monitor.publish import patch_files
from acdtask.jobs.monitor.reference import reference_of
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
from acdtask.jobs.monitor.versions import (
    notes_on_clip,
    notes_on_period,
    notes_on_versions,
    profile_of,
    require_fitting,
)
from acdtask.jobs.products import BaselineManifest, MonitorManifest
from acdtask.jobs.shards import HELD_BYTES, Sharding, by_squares, no_work
from acdtask.jobs.stacks import Stacks, tiles_of_aoi
from acdtask.raster.grid import Layout, Tile
from acdtask.raster.tiling import tiles_as_geojson

__all__ = ["MonitorJob"]

TABLE_BYTES_PER_PIXEL = 2
"""Approximate size of an image's fragments in the table of its shard."""
NAMED_AT_MOST = 5
BECOMES_LATEST = "these images are already monitored, and their result becomes the latest again"


class MonitorJob(Job[MonitorSettings, MonitorContent]):
    """Finds where new images are abnormally far below their baseline, or above it."""

    name = "monitor"
    algorithm = ALGORITHM
    read_again = True
    rounds = (MeasureImages(), LabelTiles(), JudgeCandidates(), CutMasks())
    settings = MonitorSettings
    content = MonitorContent

    def plan(self, settings: MonitorSettings, site: Site) -> Draft[MonitorContent, MonitorWork]:
        """Select the images after the baseline that are not in the series yet. BASELINE_UNKNOWN."""
        aoi = load_aoi(settings.aoi)
        layout = site.cube.layout(settings.layout)
        variable = site.cube.variable(settings.variable)
        baseline = _baseline(settings, aoi, site)
        method = method_of(settings, aoi, variable, profile_of(settings, baseline))
        manifest = newest_manifest(method, site)
        since = start_of_series(baseline, manifest)
        start = settings.start or since
        stacks = Stacks(site.cube, settings.selection(aoi, since, None))
        stacks.require_choice()
        images_by_label = images_of_stack(stacks, aoi, method, baseline)
        judgements = judgements_of(method, manifest, site)
        pending = _pending(images_by_label, judgements, baseline.content_id, again=settings.again)
        judged_before = sum(image.content in judgements.indexed for image in pending.values())
        versions = notes_on_versions(manifest, baseline, judged_before)
        wanted = [record for record in stacks.records if stacks.label_of(record) in pending]
        composition = _require_comparable(stacks, wanted, settings, baseline, layout, site)
        halo = halo_of(method.rules.steps)
        work, without = _work_of(tiles_of_aoi(aoi, layout), stacks, wanted, baseline, halo)
        if work:
            require_images(len(baseline.images), _most_images(baseline), method.rules)
        elif pending:
            _refuse_without_tiles([*pending.values()], baseline, without)
        warnings = _warnings(pending, work, without, baseline)
        reference = reference_of(baseline, aoi, site.cube) if method.rules.judging and work else None
        current = is_latest(site.store, aoi.name, self.name, _name(settings), method.id)
        again = not work and bool(judgements.complete) and not current
        shards, estimate = _shards_and_estimate(
            work, settings, layout, variable, halo, dates=len(pending), past=len(reference.images) if reference else 0
        )
        return Draft(
            content=MonitorContent(
                method=method,
                baseline=baseline.content_id,
                since=since,
                images=() if again else tuple(pending.values()),
                without_baseline=tuple(without),
                reference=reference,
                lines=(
                    *composition.lines(),
                    *_other_lengths(composition, baseline),
                    *notes_on_clip(baseline, method.profile),
                    *notes_on_period(baseline, since, [*pending.values()], settings.start),
                    *versions,
                ),
                warnings=() if again else tuple(warnings),
            ),
            shards=no_work(MonitorWork(tiles=[])) if again else shards,
            rounds=_rounds_of(method.rules),
            estimate=estimate,
            notes={
                "map": tiles_as_geojson([tile.tile for tile in work]),
                "monitored already": len(images_by_label) - len(pending),
                **({AGAIN: BECOMES_LATEST} if again else {}),
                **composition.notes(),
                **grids_note(site, settings.variable, settings.instance, wanted),
                **({"baseline versions": versions} if versions else {}),
                **(plan_notes(warnings) if work else {}),
            },
            nothing_to_do=""
            if work or again
            else _why_nothing(images_by_label, start, baseline, versions, again=settings.again),
            series=series_of(method, start, manifest, stacks, site.cube),
        )

    def fenced_area(self, settings: MonitorSettings) -> str:
        """The AOI of the result."""
        return load_aoi(settings.aoi).name

    def artifacts(self, plan: MonitorPlan, site: Site) -> dict[str, str]:
        """The files with the patches of the plan's images."""
        return patch_files(plan)

    def findings(self, plan: MonitorPlan, site: Site) -> Findings:
        """Images, patches and changed area of this plan, and the files with its patches."""
        return findings_of(plan, _published(plan, site), self.artifacts(plan, site), site)

    def notes(self, plan: MonitorPlan, site: Site) -> list[str]:
        """The composition of the images, patches, the judged share, and the closest near miss if there is no patch."""
        return [*plan.content.lines, *sentences_of(plan, _published(plan, site), site)]


def _work_of(
    tiles: list[Tile], stacks: Stacks, records: list[Record], baseline: BaselineManifest, halo: int
) -> tuple[list[TileWork], list[TileWithoutBaseline]]:
    """The tiles to judge, and the tiles with images that are missing in the baseline."""
    work: list[TileWork] = []
    without: list[TileWithoutBaseline] = []
    cells = {tile.cell for tile in tiles}
    with_baseline = {product.tile.cell: product for product in baseline.tiles if product.tile.cell in cells}
    quarantined = {tile.cell: tile for tile in baseline.quarantined}
    for tile, images in zip(tiles, stacks.by_image(tiles, records, halo), strict=True):
        labels = [image.label for image in images]
        if tile.cell in with_baseline and images:
            work.append(TileWork(tile=tile, baseline=views_around(tile, with_baseline, halo), images=images))
        elif tile.cell in quarantined and images:
            without.append(TileWithoutBaseline(tile=quarantined[tile.cell], images=labels))
    return work, without


def _shards_and_estimate(
    work: list[TileWork],
    settings: MonitorSettings,
    layout: Layout,
    variable: Variable,
    halo: int,
    *,
    dates: int,
    past: int,
) -> tuple[list[Shard[MonitorWork]], Estimate]:
    """The tiles divided into shards, and the expected cost of all.

    `past` is the number of baseline images with which candidates are compared; any tile may have candidates.
    """
    pixels, images = layout.cell_pixels**2, sum(len(tile.images) for tile in work)
    pixel_bytes = np.dtype(variable.dformat.dtype).itemsize
    judging = JUDGE.seconds(past, pixels * pixel_bytes) if past else 0.0

    def seconds_of(tiles: list[TileWork]) -> list[float]:
        return [MONITOR.seconds(len(tile.images), pixels * pixel_bytes) + judging for tile in tiles]

    def held_by(tiles: list[TileWork]) -> list[int]:
        return [len(tile.images) * pixels * TABLE_BYTES_PER_PIXEL for tile in tiles]

    sharding = Sharding(settings.shard_tiles, settings.pod_start)
    work = by_squares(work, sharding.sizes(seconds_of(work), held_by(work)))
    seconds, held = seconds_of(work), held_by(work)
    estimate = Estimate(
        tiles=len(work),
        dates=dates,
        bytes_read=images * (layout.cell_pixels + 2 * halo) ** 2 * pixel_bytes
        + len(work) * pixels * (12 + pixel_bytes * past),
        bytes_written=images * pixels * 4,
        core_seconds=sum(seconds),
        memory_bytes=MONITOR.memory(pixels, 3 * images, pixels, min(sum(held), HELD_BYTES)),
    )
    return sharding.shards(work, lambda tiles: MonitorWork(tiles=tiles), seconds, held), estimate


def _warnings(
    pending: Mapping[str, ImageWork],
    work: list[TileWork],
    without: list[TileWithoutBaseline],
    baseline: BaselineManifest,
) -> list[Caution]:
    """Warnings about the images to judge: of a season that the baseline lacks, or without any tile."""
    labels = {image.label for tile in work for image in tile.images}
    known = labels.union(*(gap.images for gap in without))
    return [
        *image_season(baseline.images, sorted(labels)),
        *without_tiles(sorted(pending.keys() - known)),
    ]


def _rounds_of(rules: Detection) -> tuple[str, ...]:
    """The names of the rounds that a method needs."""
    needed = {MeasureImages.name: is_measured(rules), JudgeCandidates.name: rules.judging is not None}
    return tuple(round_.name for round_ in MonitorJob.rounds if needed.get(round_.name, True))


def _name(settings: MonitorSettings) -> str:
    return f"{settings.variable}/{settings.layout}/{settings.name}"


def _pending(
    images: Mapping[str, ImageWork], judgements: Judgements, baseline: str, *, again: bool
) -> dict[str, ImageWork]:
    """The images to judge: those without a product, or with `again` those not judged against this version."""
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
    baseline = BaselineManifest.model_validate_json(body)
    require_fitting(baseline, settings)
    return baseline


def _require_comparable(
    stacks: Stacks,
    pending: list[Record],
    settings: MonitorSettings,
    baseline: BaselineManifest,
    layout: Layout,
    site: Site,
) -> Composition:
    """Check that images and baseline are comparable, unless mixing is requested, and return the composition.

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
                f"{what} has images of {of_images} ({whole.images}), but the baseline {baseline.name} is of"
                f" {of_baseline}",
            )
    Overlaps(site.cube, settings.variable, settings.instance, layout).require_none(pending)
    if not whole.track:
        known = pairs_of_labels(baseline.images)
        require_one_series(pairs_of(stacks.of_any_length), f"{what} with its baseline {baseline.name}", known)
    return composition


def _other_lengths(composition: Composition, baseline: BaselineManifest) -> list[str]:
    """A sentence about images with pair lengths that the baseline lacks; empty if there are none."""
    known = {(pair.end - pair.start).days for pair in pairs_of_labels(baseline.images)}
    others = {days: count for days, count in composition.pair_days.items() if days not in known}
    if not known or not others:
        return []
    lengths = ", ".join(f"{days} days: {count}" for days, count in sorted(others.items()))
    return [f"the baseline has no pairs of the length of these images ({lengths}), so their coherence may differ"]


def _most_images(baseline: BaselineManifest) -> int:
    """The number of images that half of the pixels of half of the tiles have; 0 for baselines of earlier versions."""
    counts = sorted(tile.pixels.half_count for tile in baseline.tiles if tile.pixels and tile.pixels.half_count)
    return counts[(len(counts) - 1) // 2] if counts else 0


def _refuse_without_tiles(
    images: list[ImageWork], baseline: BaselineManifest, without: list[TileWithoutBaseline]
) -> None:
    """Raise NOTHING_JUDGED, since the images have no data in any tile of the baseline."""
    named = ", ".join(image.label for image in images[:NAMED_AT_MOST])
    named += f" and {len(images) - NAMED_AT_MOST} more" if len(images) > NAMED_AT_MOST else ""
    again = "Run 'acdtask baseline local' again with this AOI and layout"
    if without:
        raise AcdError(
            ErrorCode.NOTHING_JUDGED,
            f"{named}: data only in {len(without)} tiles that were left out of the baseline",
            f"{again}: it computes the missing tiles.",
        )
    raise AcdError(
        ErrorCode.NOTHING_JUDGED,
        f"{named}: no data in the {len(baseline.tiles)} tiles of the baseline",
        f"{again} if the AOI has changed, or exclude the records with --leave-out.",
    )


def _why_nothing(
    images: Mapping[str, ImageWork], start: datetime, baseline: BaselineManifest, versions: list[str], *, again: bool
) -> str:
    if not images:
        return f"there is no image after {start.date()}"
    if again:
        return (
            f"all {len(images)} images after {start.date()} were already judged against version {baseline.content_id}"
            " of the baseline"
        )
    why = f"all {len(images)} images after {start.date()} were already monitored with these settings"
    return "; ".join([why, *versions])
