"""The round of the baseline: the moments of each tile, and their views."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from shapely.geometry import shape

from acdtask import __version__
from acdtask.change.moments import Moments
from acdtask.change.profile import PROFILES, Detection, detection_for
from acdtask.cube.model import Addition, Dataset, Instance, Record, Variable
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.baseline.content import (
    BaselineContext,
    BaselinePlan,
    BaselineTiles,
    BaselineWork,
    StackOfTile,
    record_of,
)
from acdtask.jobs.baseline.documents import BaselinePlace, files_of_baseline, link_baseline
from acdtask.jobs.baseline.pixels import pixels_of, require_means
from acdtask.jobs.baseline.settings import BaselineSettings
from acdtask.jobs.catalogue import put_all
from acdtask.jobs.contract import Handouts, Nothing, Results, Round, Site
from acdtask.jobs.filenames import cell_part
from acdtask.jobs.products import (
    BaselineManifest,
    BaselineTile,
    baseline_variables,
    body_of,
    digest_of_file,
    manifest_chain,
    point_latest,
)
from acdtask.jobs.quarantine import QuarantinedTile
from acdtask.raster.checksums import checksum_of
from acdtask.raster.cog import encode_cog
from acdtask.raster.grid import Tile
from acdtask.raster.masks import inside_mask

__all__ = ["MeasureMoments", "defaults_of", "name_of"]

BLOCK = 512
IMAGES_AT_ONCE = 64
"""As many as a chunk of a consolidated container holds."""


class MeasureMoments(Round[BaselineWork, Nothing, BaselineTiles]):
    """Measure the moments of each tile, then publish."""

    name = "moments"

    def run(self, work: BaselineWork, handout: Nothing, context: BaselineContext) -> BaselineTiles:
        """Each tile's moments, block by block, and four COGs."""
        settings, site, area = context.settings, context.site, shape(context.content.area)
        variable = site.cube.variable(settings.variable)
        record, detection = record_of(context.plan), defaults_of(settings, variable)
        tiles = []
        for done, stack in enumerate(work.tiles, start=1):
            moments = _moments(stack, variable, settings, site)
            tile = _write(stack.tile, moments, variable, settings.name, record, context)
            pixels = pixels_of(moments, inside_mask(area, stack.tile.grid), detection)
            tiles.append(tile.model_copy(update={"pixels": pixels}))
            context.progress(done)
        return BaselineTiles(tiles=tiles)

    def gather(self, results: Results[BaselineWork, BaselineTiles], context: BaselineContext) -> Handouts[Nothing]:
        """Publish: the manifest; once no tile is missing, record and datasets in one commit."""
        plan, site, settings = context.plan, context.site, context.settings
        variable = site.cube.variable(settings.variable)
        tiles = [tile for _, written in results for tile in written.tiles]
        require_means(tiles, context.content.aoi)
        quarantined = tuple(
            QuarantinedTile(cell=cell, job="baseline", failure=shard.why.failure)
            for shard in results.left_out
            for cell in shard.work.names
        )
        mine = _manifest(plan, tiles, quarantined)

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
            return body_of(whole.model_copy(update={"files": digests}), earlier)

        fence, chain = site.fence(plan), manifest_chain(site.store, mine.aoi, "baseline", plan.content_id)
        chain.publish(make, fence, {})
        link_baseline(chain, variable, context.content.area, site.store)
        point_latest(site.store, mine.aoi, "baseline", name_of(settings), plan.content_id, fence)
        made = baseline_variables(variable)
        whole = not mine.quarantined
        site.cube.commit(
            Addition(
                [record_of(plan)] if whole else [],
                [
                    one
                    for tile in tiles
                    if whole
                    for one in (tile.mean, tile.standard_deviation, tile.count, tile.moments)
                ],
                variables=made,
                instances=[Instance(variable=one.name, name=settings.name) for one in made],
            )
        )
        return Handouts()

    def files_of(self, result: BaselineTiles, plan: BaselinePlan) -> tuple[str, ...]:
        """The files of its tiles."""
        return tuple(key for tile in result.tiles for key in tile.files)


def name_of(settings: BaselineSettings) -> str:
    """What `latest` of the baseline is kept under."""
    return f"{settings.variable}/{settings.layout}/{settings.name}"


def defaults_of(settings: BaselineSettings, variable: Variable) -> Detection:
    """What a monitor of the same profile asks of a baseline unless it is told otherwise."""
    dformat = variable.dformat
    return detection_for(settings.profile, (dformat.min, dformat.max), variable.scale, {})


def _manifest(
    plan: BaselinePlan, tiles: list[BaselineTile], quarantined: tuple[QuarantinedTile, ...]
) -> BaselineManifest:
    settings, content = plan.settings, plan.content
    return BaselineManifest(
        content_id=plan.content_id,
        aoi=content.aoi,
        variable=settings.variable,
        instance=settings.instance,
        layout=settings.layout,
        name=settings.name,
        profile=settings.profile,
        start=content.start,
        end=content.end,
        last=content.last,
        images=[*content.images],
        records=len(content.records),
        settings=content.science(settings),
        version=__version__,
        tiles=tiles,
        quarantined=quarantined,
        track=content.track,
        polarisation=content.polarisation,
    )


def _moments(work: StackOfTile, variable: Variable, settings: BaselineSettings, site: Site) -> Moments:
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
    tile: Tile, moments: Moments, variable: Variable, instance: str, record: Record, context: BaselineContext
) -> BaselineTile:
    """Write a tile's files and its STAC item."""
    plan, site = context.plan, context.site
    place = BaselinePlace(plan.content.aoi, plan.content_id, variable, plan.content.science(plan.settings))
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
