"""The baseline job: moments of each pixel over a reference period, and their views."""

from __future__ import annotations

from datetime import datetime

import numpy as np

from acdtask.change.methods import PROFILES, Profile
from acdtask.cube.aoi import Aoi, load_aoi
from acdtask.cube.model import RecordQuery, Variable
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.baseline.content import TAG_CONTENT, BaselineContent, BaselinePlan, BaselineWork, StackOfTile
from acdtask.jobs.baseline.moments import MeasureMoments, name_of
from acdtask.jobs.baseline.period import period_of, period_text
from acdtask.jobs.baseline.pixels import figures_of, sentences_of
from acdtask.jobs.baseline.settings import ALGORITHM, BaselineSettings
from acdtask.jobs.cautions import baseline_season, caution_lines, plan_notes
from acdtask.jobs.comparable import (
    Composition,
    Overlaps,
    composition_of,
    grids_note,
    pairs_of,
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
    content_id_of,
)
from acdtask.jobs.costs import BASELINE
from acdtask.jobs.manifests import (
    find_manifest,
    is_latest,
    manifest_chain,
)
from acdtask.jobs.products import BaselineManifest
from acdtask.jobs.quantity import usual_profile
from acdtask.jobs.shards import Sharding, no_work
from acdtask.jobs.stacks import Stacks, area_of, tiles_of_aoi
from acdtask.jobs.transformed import transform_of
from acdtask.raster.grid import Layout
from acdtask.raster.tiling import tiles_as_geojson

__all__ = ["BaselineJob"]


class BaselineJob(Job[BaselineSettings, BaselineContent]):
    """Computes count, mean and standard deviation of each pixel over a period, from exact integer moments."""

    name = "baseline"
    algorithm = ALGORITHM
    rounds = (MeasureMoments(),)
    settings = BaselineSettings
    content = BaselineContent

    def plan(self, settings: BaselineSettings, site: Site) -> Draft[BaselineContent, BaselineWork]:
        """Select images and tiles. TOO_FEW_DATES, AOI_OUTSIDE."""
        aoi = load_aoi(settings.aoi)
        layout = site.cube.layout(settings.layout)
        variable = site.cube.variable(settings.variable)
        profile = settings.profile or usual_profile(settings.variable, settings.transform)
        transform_of(variable, settings.transform)  # an error of the setting is reported before any work
        selection = settings.selection(aoi, aoi.start, aoi.end)
        requested = selection.start, selection.end
        stacks = Stacks(site.cube, selection)
        stacks.require_records()
        start, end = period_of(*requested, [record.datetime for record in stacks.records], aoi.name)
        stacks = stacks.until(end)
        composition = _require_comparable(stacks, settings, layout, aoi, site)
        tiles = tiles_of_aoi(aoi, layout)
        stacked = zip(tiles, stacks.by_image(tiles), strict=True)
        work = [StackOfTile(tile=tile, slices=slices) for tile, slices in stacked if slices]
        content = _content(stacks, (start, end), work, composition, aoi, profile)
        if len(content.images) < settings.min_dates:
            raise AcdError(
                ErrorCode.TOO_FEW_DATES,
                f"{settings.variable}:{settings.instance} has {len(content.images)} images in {aoi.name}"
                f" from {start.date()} to {end.date()}, fewer than {settings.min_dates}",
            )
        content_id = content_id_of(self.name, self.algorithm, content.identity(settings))
        is_published = _is_published(aoi.name, content_id, site)
        most = max((len(stack.slices) for stack in work), default=0)
        current = is_published and is_latest(site.store, aoi.name, self.name, name_of(settings), content_id)
        if is_published:
            work = []
        shards, estimate = _shards_and_estimate(work, content, settings, layout, variable)
        return Draft(
            content=content,
            shards=no_work(BaselineWork(tiles=[])) if is_published else shards,
            estimate=estimate,
            notes={
                "map": tiles_as_geojson([stack.tile for stack in work]),
                "baseline period": period_text(start, end, by_default=requested[1] is None),
                **composition.notes(),
                **grids_note(site, settings.variable, settings.instance, stacks.records),
                **plan_notes(content.warnings, text=_too_few(most, profile)),
                **({AGAIN: "this baseline is already published and becomes the latest again"} if is_published else {}),
            },
            nothing_to_do="this baseline is already published and is the latest" if current else "",
        )

    def fenced_area(self, settings: BaselineSettings) -> str:
        """The AOI of the baseline."""
        return load_aoi(settings.aoi).name

    def findings(self, plan: BaselinePlan, site: Site) -> Findings:
        """Numbers of images, tiles and pixels."""
        aoi, missing = plan.content.aoi, ErrorCode.BASELINE_UNKNOWN
        _, body = find_manifest(site.store, aoi, self.name, "", plan.content_id, missing)
        manifest = BaselineManifest.model_validate_json(body)
        figures: dict[str, float] = {"images": len(plan.content.images), "tiles": len(manifest.tiles)}
        figures["tiles_left_out"] = len(manifest.quarantined)
        return Findings(figures={**figures, **figures_of(manifest.tiles)}, warnings=manifest.warnings)

    def notes(self, plan: BaselinePlan, site: Site) -> list[str]:
        """The composition of the images, and the shares of the area that have a mean and that can be judged."""
        aoi, missing = plan.content.aoi, ErrorCode.BASELINE_UNKNOWN
        _, body = find_manifest(site.store, aoi, self.name, "", plan.content_id, missing)
        manifest = BaselineManifest.model_validate_json(body)
        min_count = PROFILES[plan.content.profile].min_count
        warnings = caution_lines(manifest.warnings)
        return [*plan.content.lines, *sentences_of(manifest.tiles, min_count), *warnings]


def _content(
    stacks: Stacks,
    period: tuple[datetime, datetime],
    work: list[StackOfTile],
    composition: Composition,
    aoi: Aoi,
    profile: Profile,
) -> BaselineContent:
    images = tuple(dict.fromkeys(stacks.label_of(record) for record in stacks.records))
    return BaselineContent(
        aoi=aoi.name,
        area=area_of(aoi),
        start=period[0],
        end=period[1],
        last=stacks.records[-1].datetime,
        profile=profile,
        images=images,
        records=tuple(record.id for record in stacks.records),
        tiles=tuple(stack.tile.cell for stack in work),
        replaced=stacks.replaced(),
        track=composition.track,
        polarisation=composition.polarisation,
        lines=tuple(composition.lines()),
        warnings=tuple(baseline_season(images)),
    )


def _shards_and_estimate(
    work: list[StackOfTile], content: BaselineContent, settings: BaselineSettings, layout: Layout, variable: Variable
) -> tuple[list[Shard[BaselineWork]], Estimate]:
    """The tiles divided into shards, and the expected cost of all."""
    pixels = layout.cell_pixels**2
    image_bytes = pixels * np.dtype(variable.dformat.dtype).itemsize
    seconds = [BASELINE.seconds(len(stack.slices), image_bytes) for stack in work]
    estimate = Estimate(
        tiles=len(work),
        dates=len(content.images),
        bytes_read=sum(len(stack.slices) for stack in work) * image_bytes,
        bytes_written=len(work) * pixels * 36,
        core_seconds=sum(seconds),
        memory_bytes=BASELINE.memory(pixels, len(content.records), len(work) * pixels),
    )
    sharding = Sharding(settings.shard_tiles, settings.pod_start)
    return sharding.shards(work, lambda tiles: BaselineWork(tiles=tiles), seconds), estimate


def _too_few(most: int, profile: Profile) -> str:
    """A warning if no pixel can have enough images; `most` is the largest number of images of a tile."""
    min_count = PROFILES[profile].min_count
    if not 0 < most < min_count:
        return ""
    return (
        f"no pixel can have more than {most} images, but the monitor requires {min_count}: widen the period, or run "
        f"the monitor with --min-count {most}"
    )


def _is_published(aoi: str, content_id: str, site: Site) -> bool:
    """Whether a complete baseline is in the index and has its manifest and all files. PRODUCT_DAMAGED."""
    body = manifest_chain(site.store, aoi, "baseline", content_id).newest()[1]
    if body is None or not site.published(RecordQuery(tags={TAG_CONTENT: content_id})):
        return False
    existing = set(site.store.list(f"products/{aoi}/baseline/{content_id}"))
    return existing.issuperset(key for tile in BaselineManifest.model_validate_json(body).tiles for key in tile.files)


def _require_comparable(
    stacks: Stacks, settings: BaselineSettings, layout: Layout, aoi: Aoi, site: Site
) -> Composition:
    """Check that the images are comparable, unless mixing them is requested, and return their composition.

    TRACKS_MIXED, POLARISATIONS_MIXED, RECORDS_OVERLAP, PAIRS_INTERLEAVED.
    """
    composition = composition_of(stacks.records, mixed=settings.mixed)
    if not settings.mixed:
        what = f"the baseline of {settings.variable}:{settings.instance} in {aoi.name}"
        require_comparable(composition, what)
        Overlaps(site.cube, settings.variable, settings.instance, layout).require_none(stacks.records)
        if not composition.track:
            require_one_series(pairs_of(stacks.of_any_length), what)
    return composition
