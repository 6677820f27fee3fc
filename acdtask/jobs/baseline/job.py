"""Baseline: the moments of every pixel over a reference period, and their views."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
from shapely.geometry import shape

from acdtask import __version__
from acdtask.change.moments import Moments
from acdtask.change.profile import PROFILES, Detection, detection_for
from acdtask.cube.aoi import Aoi, load_aoi
from acdtask.cube.grid import Layout, Tile
from acdtask.cube.local.blocks import checksum_of
from acdtask.cube.local.cog import encode_cog
from acdtask.cube.masks import inside_mask
from acdtask.cube.model import Dataset, Instance, Record, RecordQuery, Slice, Variable
from acdtask.cube.tiling import tiles_as_geojson
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.baseline.documents import BaselinePlace, files_of_baseline, link_baseline
from acdtask.jobs.baseline.period import period_of, period_text
from acdtask.jobs.baseline.pixels import figures_of, pixels_of, require_means, sentences_of
from acdtask.jobs.baseline.settings import BaselineSettings
from acdtask.jobs.catalogue import put_all
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
    WARNING,
    Draft,
    Estimate,
    Findings,
    Handouts,
    Job,
    LeftOutShard,
    Plan,
    RoundResult,
    Shard,
    Site,
    content_id_of,
)
from acdtask.jobs.filenames import cell_part
from acdtask.jobs.products import (
    BaselineManifest,
    BaselineTile,
    baseline_variables,
    digest_of_file,
    find_manifest,
    is_latest,
    manifest_chain,
    point_latest,
)
from acdtask.jobs.quarantine import QuarantinedTile
from acdtask.jobs.shards import NO_WORK, cells_of, shards_of
from acdtask.jobs.stacks import Stacks, area_of, tiles_of_aoi

__all__ = ["BaselineJob"]

BYTES_PER_CORE_SECOND = 60e6
"""Stored pixels read and added up (measured on the demo)."""
BLOCK = 512
IMAGES_AT_ONCE = 64
"""As many as a chunk of a consolidated container holds."""
TAG_CONTENT = "acd:content"


class _TileWork(BaseModel):
    tile: Tile
    slices: list[Slice]


class BaselineJob(Job[BaselineSettings]):
    """Count, mean and standard deviation of each pixel over a year, from exact integer moments."""

    name = "baseline"
    rounds = ("moments",)
    settings = BaselineSettings

    def plan(self, settings: BaselineSettings, site: Site) -> Draft:
        """The dates and tiles. TOO_FEW_DATES, AOI_OUTSIDE."""
        aoi = load_aoi(settings.aoi)
        layout = site.cube.layout(settings.layout)
        variable = site.cube.variable(settings.variable)
        given = settings.start or aoi.start, settings.end or aoi.end
        stacks = Stacks(site.cube, settings.variable, settings.instance, aoi, *given, settings.choice())
        stacks.require_records(aoi)
        start, end = period_of(*given, [record.datetime for record in stacks.records], aoi.name)
        stacks = stacks.until(end)
        composition = _require_comparable(stacks, settings, layout, aoi, site)
        tiles = tiles_of_aoi(aoi, layout)
        stacked = zip(tiles, stacks.by_image(tiles), strict=True)
        work = [_TileWork(tile=tile, slices=slices) for tile, slices in stacked if slices]
        images = list(dict.fromkeys(stacks.label_of(record) for record in stacks.records))
        if len(images) < settings.min_dates:
            raise AcdError(
                ErrorCode.TOO_FEW_DATES,
                f"{settings.variable}:{settings.instance} has {len(images)} images in {aoi.name}"
                f" from {start.date()} to {end.date()}, fewer than {settings.min_dates}",
            )
        content = {
            "settings": {**settings.science(), "aoi": aoi.name, "start": start.isoformat(), "end": end.isoformat()},
            "images": images,
            "last": stacks.records[-1].datetime.isoformat(),
            "records": [record.id for record in stacks.records],
            "tiles": [one.tile.cell for one in work],
            **({"replaced": replaced} if (replaced := stacks.replaced()) else {}),
        }
        content_id = content_id_of(self.name, content)
        stands = _stands(aoi.name, content_id, site)
        most = max((len(one.slices) for one in work), default=0)
        current = stands and is_latest(site.store, aoi.name, self.name, _name(settings), content_id)
        if stands:
            work = []
        volume = sum(len(one.slices) for one in work) * layout.cell_pixels**2
        volume *= np.dtype(variable.dformat.dtype).itemsize
        return Draft(
            content=content,
            shards=[NO_WORK]
            if stands
            else shards_of([one.model_dump(mode="json") for one in work], settings.shard_tiles, "tiles"),
            estimate=Estimate(
                tiles=len(work),
                dates=len(images),
                bytes_read=volume,
                bytes_written=len(work) * layout.cell_pixels**2 * 36,
                core_seconds=volume / BYTES_PER_CORE_SECOND,
            ),
            notes={
                "map": tiles_as_geojson([one.tile for one in work]),
                "area": area_of(aoi),
                "baseline period": period_text(start, end, by_default=given[1] is None),
                **composition.notes(),
                **grids_note(site, settings.variable, settings.instance, stacks.records),
                "stack": {
                    "lines": composition.lines(),
                    "track": composition.track,
                    "polarisation": composition.polarisation,
                },
                **({WARNING: warning} if (warning := _too_few(most, settings)) else {}),
                **({AGAIN: "this baseline is published already, and becomes the latest again"} if stands else {}),
            },
            nothing_to_do="this baseline is published already, and is the latest" if current else "",
        )

    def run(
        self, plan: Plan, round_name: str, shard: Shard, handout: bytes, site: Site, progress: Callable[[int], None]
    ) -> bytes:
        """Each tile's moments, block by block, and four COGs."""
        settings = BaselineSettings.model_validate(plan.settings)
        variable = site.cube.variable(settings.variable)
        record = _record(plan)
        rows = []
        for done, raw in enumerate(shard.work["tiles"], start=1):
            work = _TileWork.model_validate(raw)
            moments = _moments(work, variable, settings, site)
            tile = _write(work.tile, moments, variable, settings.name, record, plan, site)
            inside = inside_mask(shape(plan.notes["area"]), work.tile.grid)
            rows.append(tile.model_copy(update={"pixels": pixels_of(moments, inside, _defaults(settings, variable))}))
            progress(done)
        return json.dumps([row.model_dump(mode="json") for row in rows]).encode()

    def gather(self, plan: Plan, round_name: str, result: RoundResult, site: Site) -> Handouts:
        """Publish: the manifest; once no tile is missing, record and datasets in one commit."""
        settings = BaselineSettings.model_validate(plan.settings)
        variable = site.cube.variable(settings.variable)
        tiles = [BaselineTile.model_validate(row) for _, table in result.tables for row in json.loads(table)]
        require_means(tiles, plan.content["settings"]["aoi"])
        mine = _manifest(plan, settings, tiles, self._quarantined(result.left_out))

        def make(earlier: bytes | None) -> bytes:
            if earlier is None and not tiles:
                raise AcdError(
                    ErrorCode.SHARDS_MISSING,
                    "the baseline was removed while 'latest' was being set to it",
                    "Plan it again.",
                )
            whole = mine.joined_with(BaselineManifest.model_validate_json(earlier)) if earlier else mine
            files = files_of_baseline(whole, variable)
            put_all(site.store, files)
            digests = {key: digest_of_file(body) for key, body in files.items()}
            return whole.model_copy(update={"files": digests}).model_dump_json(indent=1).encode()

        fence, chain = site.fence(plan), manifest_chain(site.store, mine.aoi, self.name, plan.content_id)
        chain.publish(make, fence, {})
        link_baseline(chain, variable, plan.notes["area"], site.store)
        point_latest(site.store, mine.aoi, self.name, _name(settings), plan.content_id, fence)
        made = baseline_variables(variable)
        whole = not mine.quarantined
        site.cube.commit(
            [_record(plan)] if whole else [],
            [one for tile in tiles if whole for one in (tile.mean, tile.standard_deviation, tile.count, tile.moments)],
            variables=made,
            instances=[Instance(variable=one.name, name=settings.name) for one in made],
        )
        return Handouts()

    def fenced_area(self, settings: BaselineSettings) -> str:
        """Its AOI."""
        return load_aoi(settings.aoi).name

    def names(self, shard: Shard) -> tuple[str, ...]:
        """Its cells."""
        return cells_of(shard)

    def findings(self, plan: Plan, site: Site) -> Findings:
        """How many images and tiles the baseline has."""
        aoi, missing = plan.content["settings"]["aoi"], ErrorCode.BASELINE_UNKNOWN
        _, body = find_manifest(site.store, aoi, self.name, "", plan.content_id, missing)
        manifest = BaselineManifest.model_validate_json(body)
        figures: dict[str, float] = {"images": len(plan.content["images"]), "tiles": len(manifest.tiles)}
        figures["tiles_left_out"] = len(manifest.quarantined)
        return Findings(figures={**figures, **figures_of(manifest.tiles)})

    def notes(self, plan: Plan, site: Site) -> list[str]:
        """What its images are; the share of the area that has a mean, and the share that can be judged."""
        settings = BaselineSettings.model_validate(plan.settings)
        aoi, missing = plan.content["settings"]["aoi"], ErrorCode.BASELINE_UNKNOWN
        _, body = find_manifest(site.store, aoi, self.name, "", plan.content_id, missing)
        manifest = BaselineManifest.model_validate_json(body)
        min_count = _defaults(settings, site.cube.variable(settings.variable)).min_count
        return [*plan.notes["stack"]["lines"], *sentences_of(manifest.tiles, min_count)]

    def files_of(self, plan: Plan, table: bytes) -> tuple[str, ...]:
        """The files of its tiles."""
        return tuple(key for row in json.loads(table) for key in BaselineTile.model_validate(row).files)

    def _quarantined(self, left_out: tuple[LeftOutShard, ...]) -> tuple[QuarantinedTile, ...]:
        return tuple(
            QuarantinedTile(cell=cell, job=self.name, failure=one.why.failure)
            for one in left_out
            for cell in cells_of(one.shard)
        )


def _name(settings: BaselineSettings) -> str:
    return f"{settings.variable}/{settings.layout}/{settings.name}"


def _defaults(settings: BaselineSettings, variable: Variable) -> Detection:
    """What a monitor of the same profile asks of a baseline unless it is told otherwise."""
    dformat = variable.dformat
    return detection_for(settings.profile, (dformat.min, dformat.max), variable.scale, {})


def _too_few(most: int, settings: BaselineSettings) -> str:
    """A warning if no pixel can have enough images; `most` is the number of images of the fullest tile."""
    min_count = PROFILES[settings.profile].min_count
    if not 0 < most < min_count:
        return ""
    return (
        f"no pixel can have more than {most} images, and the monitor asks for {min_count}: widen the period, or give "
        f"the monitor --min-count {most}"
    )


def _stands(aoi: str, content_id: str, site: Site) -> bool:
    """Whether a whole baseline is in the index, has its manifest, and all files that this names. PRODUCT_DAMAGED."""
    body = manifest_chain(site.store, aoi, "baseline", content_id).newest()[1]
    if body is None or not site.published(RecordQuery(tags={TAG_CONTENT: content_id})):
        return False
    there = set(site.store.list(f"products/{aoi}/baseline/{content_id}"))
    return there.issuperset(key for tile in BaselineManifest.model_validate_json(body).tiles for key in tile.files)


def _manifest(
    plan: Plan, settings: BaselineSettings, tiles: list[BaselineTile], quarantined: tuple[QuarantinedTile, ...]
) -> BaselineManifest:
    science = plan.content["settings"]
    return BaselineManifest(
        content_id=plan.content_id,
        aoi=science["aoi"],
        variable=settings.variable,
        instance=settings.instance,
        layout=settings.layout,
        name=settings.name,
        profile=settings.profile,
        start=datetime.fromisoformat(science["start"]),
        end=datetime.fromisoformat(science["end"]),
        last=datetime.fromisoformat(plan.content["last"]),
        images=plan.content["images"],
        records=len(plan.content["records"]),
        settings=science,
        version=__version__,
        tiles=tiles,
        quarantined=quarantined,
        track=plan.notes["stack"]["track"],
        polarisation=plan.notes["stack"]["polarisation"],
    )


def _require_comparable(
    stacks: Stacks, settings: BaselineSettings, layout: Layout, aoi: Aoi, site: Site
) -> Composition:
    """What the images are, which compare with each other unless it is asked otherwise.

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


def _record(plan: Plan) -> Record:
    """The record that the baseline's datasets belong to."""
    science = plan.content["settings"]
    return Record(
        name=f"{science['aoi']}/baseline/{plan.content_id}",
        datetime=datetime.fromisoformat(science["end"]),
        tags={
            "acd:job": "baseline",
            "acd:aoi": science["aoi"],
            TAG_CONTENT: plan.content_id,
            "start_datetime": science["start"],
        },
        footprint=plan.notes["area"],
    )


def _moments(work: _TileWork, variable: Variable, settings: BaselineSettings, site: Site) -> Moments:
    """The moments of a tile. A block and IMAGES_AT_ONCE images at a time: memory does not grow with the dates."""
    grid, nodata = work.tile.grid, variable.dformat.nodata
    profile = PROFILES[settings.profile]
    whole = Moments.zeros(grid.shape)
    for window in grid.blocks(BLOCK):
        block = Moments.zeros((window.height, window.width))
        for first in range(0, len(work.slices), IMAGES_AT_ONCE):
            images = work.slices[first : first + IMAGES_AT_ONCE]
            stack = site.cube.read(grid.window(window), images, variable, settings.resampling)
            block += Moments.of_images(*profile.without_zeros(stack, nodata))
        part = whole.window(*window.slices)
        part.count[:], part.total[:], part.total_of_squares[:] = block.count, block.total, block.total_of_squares
    return whole


def _write(
    tile: Tile, moments: Moments, variable: Variable, instance: str, record: Record, plan: Plan, site: Site
) -> BaselineTile:
    """Write a tile's files and its STAC item."""
    science = plan.content["settings"]
    place = BaselinePlace(science["aoi"], plan.content_id, variable, science)
    made = baseline_variables(variable)
    sizes: dict[str, int] = {}

    def write(bands: NDArray[Any], one: Variable, product: str) -> Dataset:
        key = f"{place.folder}/{place.stem(product, cell_part(tile))}.tif"
        data = encode_cog(
            bands,
            tile.grid,
            nodata=one.dformat.nodata,
            scale=one.scale,
            band_names=one.bands if len(one.bands) > 1 else (one.name,),
            unit="images" if product == "count" else one.unit,
            tags=place.tags(product),
        )
        site.store.put(key, data)
        sizes[key] = len(data)
        return Dataset(
            record_id=record.id,
            variable=one.name,
            instance=instance,
            uri=key,
            bands=tuple(range(1, len(bands) + 1)),
            dformat=one.dformat,
            grid=tile.grid,
            layout=tile.layout,
            cell=tile.cell,
            checksum=checksum_of(data),
        )

    written = BaselineTile(
        tile=tile,
        mean=write(moments.mean()[np.newaxis], made[0], "mean"),
        standard_deviation=write(moments.standard_deviation()[np.newaxis], made[1], "std"),
        count=write(moments.count_view()[np.newaxis], made[2], "count"),
        moments=write(
            np.stack([moments.count.astype(np.int64), moments.total, moments.total_of_squares]), made[3], "moments"
        ),
    )
    key, item = place.item(written, record, sizes)
    site.store.put(key, item)
    return written.model_copy(update={"item": key, "item_checksum": digest_of_file(item)})
