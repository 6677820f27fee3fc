"""Baseline: the moments of every pixel over a reference period, and their views."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from acdtask import __version__
from acdtask.change.moments import Moments
from acdtask.change.profile import PROFILES
from acdtask.cube.aoi import Aoi, load_aoi
from acdtask.cube.grid import Layout, Tile
from acdtask.cube.local.cog import write_cog
from acdtask.cube.model import Dataset, Instance, Record, RecordQuery, Slice, Variable
from acdtask.cube.tiling import tiles_as_geojson
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.baseline.settings import BaselineSettings
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
from acdtask.jobs.products import (
    BaselineManifest,
    BaselineTile,
    baseline_variables,
    find_manifest,
    has_latest,
    manifest_chain,
    point_latest,
)
from acdtask.jobs.quarantine import QuarantinedTile
from acdtask.jobs.shards import cells_of, shards_of
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
        start, end = _period(settings, aoi)
        stacks = Stacks(site.cube, settings.variable, settings.instance, aoi, start, end, settings.choice())
        stacks.require_records(aoi)
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
        done = RecordQuery(tags={TAG_CONTENT: content_id_of(self.name, content)})
        volume = sum(len(one.slices) for one in work) * layout.cell_pixels**2
        volume *= np.dtype(variable.dformat.dtype).itemsize
        return Draft(
            content=content,
            shards=shards_of([one.model_dump(mode="json") for one in work], settings.shard_tiles, "tiles"),
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
                **composition.notes(),
                **grids_note(site, settings.variable, settings.instance, stacks.records),
                "stack": {
                    "lines": composition.lines(),
                    "track": composition.track,
                    "polarisation": composition.polarisation,
                },
            },
            nothing_to_do="this baseline is published already"
            if site.published(done) and _stands(aoi.name, content_id_of(self.name, content), settings, site)
            else "",
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
            rows.append(_write(work.tile, moments, variable, settings.name, record.id, plan, site))
            progress(done)
        return json.dumps([row.model_dump(mode="json") for row in rows]).encode()

    def gather(self, plan: Plan, round_name: str, result: RoundResult, site: Site) -> Handouts:
        """Publish: the manifest; once no tile is missing, record and datasets in one commit."""
        settings = BaselineSettings.model_validate(plan.settings)
        variable = site.cube.variable(settings.variable)
        tiles = [BaselineTile.model_validate(row) for _, table in result.tables for row in json.loads(table)]
        mine = _manifest(plan, settings, tiles, self._quarantined(result.left_out))

        def make(earlier: bytes | None) -> bytes:
            whole = mine.joined_with(BaselineManifest.model_validate_json(earlier)) if earlier else mine
            return whole.model_dump_json(indent=1).encode()

        fence = site.fence(plan)
        manifest_chain(site.store, mine.aoi, self.name, plan.content_id).publish(make, fence, {})
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

    def notes(self, plan: Plan, site: Site) -> list[str]:
        """What its images are."""
        del site
        return list(plan.notes["stack"]["lines"])

    def findings(self, plan: Plan, site: Site) -> Findings:
        """How many images and tiles the baseline has."""
        aoi, missing = plan.content["settings"]["aoi"], ErrorCode.BASELINE_UNKNOWN
        _, body = find_manifest(site.store, aoi, self.name, "", plan.content_id, missing)
        tiles = BaselineManifest.model_validate_json(body).tiles
        return Findings(figures={"images": len(plan.content["images"]), "tiles": len(tiles)})

    def _quarantined(self, left_out: tuple[LeftOutShard, ...]) -> tuple[QuarantinedTile, ...]:
        return tuple(
            QuarantinedTile(cell=cell, job=self.name, failure=one.why.failure)
            for one in left_out
            for cell in cells_of(one.shard)
        )


def _name(settings: BaselineSettings) -> str:
    return f"{settings.variable}/{settings.layout}/{settings.name}"


def _stands(aoi: str, content_id: str, settings: BaselineSettings, site: Site) -> bool:
    """Whether a baseline has its manifest, and `latest` is some baseline. PRODUCT_DAMAGED."""
    has_manifest = manifest_chain(site.store, aoi, "baseline", content_id).newest()[1] is not None
    return has_manifest and has_latest(site.store, aoi, "baseline", _name(settings))


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


def _period(settings: BaselineSettings, aoi: Aoi) -> tuple[datetime, datetime]:
    return settings.start or aoi.start, settings.end or aoi.end


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
    tile: Tile, moments: Moments, variable: Variable, instance: str, record_id: str, plan: Plan, site: Site
) -> BaselineTile:
    folder = f"products/{plan.content['settings']['aoi']}/baseline/{plan.content_id}/{tile.i}_{tile.j}"
    made = baseline_variables(variable)

    def write(bands: NDArray[Any], one: Variable, file: str) -> Dataset:
        key = f"{folder}/{file}.tif"
        names = one.bands if len(one.bands) > 1 else (one.name,)
        nodata, scale = one.dformat.nodata, one.scale
        checksum = write_cog(site.store, key, bands, tile.grid, nodata=nodata, scale=scale, band_names=names)
        return Dataset(
            record_id=record_id,
            variable=one.name,
            instance=instance,
            uri=key,
            bands=tuple(range(1, len(bands) + 1)),
            dformat=one.dformat,
            grid=tile.grid,
            layout=tile.layout,
            cell=tile.cell,
            checksum=checksum,
        )

    return BaselineTile(
        tile=tile,
        mean=write(moments.mean()[np.newaxis], made[0], "mean"),
        standard_deviation=write(moments.standard_deviation()[np.newaxis], made[1], "standard_deviation"),
        count=write(moments.count_view()[np.newaxis], made[2], "count"),
        moments=write(
            np.stack([moments.count.astype(np.int64), moments.total, moments.total_of_squares]), made[3], "moments"
        ),
    )
