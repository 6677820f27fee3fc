"""The round of the baseline, which computes the moments of each tile and their views."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from shapely.geometry import shape

from acdtask import __version__
from acdtask.change.methods import PROFILES, Profile, detection_for
from acdtask.change.moments import Moments
from acdtask.change.thresholds import Detection
from acdtask.change.transform import NODATA, Transform
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
from acdtask.jobs.baseline.documents import BaselineDocuments, files_of_baseline, link_baseline
from acdtask.jobs.baseline.pixels import pixels_of, require_means
from acdtask.jobs.baseline.settings import BaselineSettings
from acdtask.jobs.catalogue import put_all
from acdtask.jobs.contract import Handouts, Nothing, Results, Round
from acdtask.jobs.filenames import cell_part
from acdtask.jobs.manifests import (
    body_of,
    digest_of_file,
    manifest_chain,
    point_latest,
)
from acdtask.jobs.products import (
    BaselineManifest,
    BaselineTile,
    baseline_variables,
)
from acdtask.jobs.quarantine import QuarantinedTile
from acdtask.jobs.transformed import transform_of, transformed
from acdtask.raster.checksums import checksum_of
from acdtask.raster.cog import encode_cog
from acdtask.raster.grid import Tile
from acdtask.raster.masks import inside_mask

__all__ = ["MeasureMoments", "defaults_of", "name_of"]

BLOCK = 512
IMAGES_AT_ONCE = 64
"""Number of images in a chunk of a consolidated container."""


class MeasureMoments(Round[BaselineWork, Nothing, BaselineTiles]):
    """Computes the moments of each tile, then publishes."""

    name = "moments"

    def run(self, work: BaselineWork, handout: Nothing, context: BaselineContext) -> BaselineTiles:
        """Compute each tile's moments block by block, and write four COGs."""
        settings, site, area = context.settings, context.site, shape(context.content.area)
        variable = site.cube.variable(settings.variable)
        described = transformed(variable, settings.transform)
        record, detection = record_of(context.plan), defaults_of(context.content.profile, described)
        tiles = []
        for done, stack in enumerate(work.tiles, start=1):
            moments, clipped = _moments(stack, variable, context)
            tile = _write(stack.tile, moments, described, settings.name, record, context)
            pixels = pixels_of(moments, clipped, inside_mask(area, stack.tile.grid), detection)
            tiles.append(tile.model_copy(update={"pixels": pixels}))
            context.progress(done)
        return BaselineTiles(tiles=tiles)

    def gather(self, results: Results[BaselineWork, BaselineTiles], context: BaselineContext) -> Handouts[Nothing]:
        """Publish the manifest and, once no tile is missing, record and datasets in one commit."""
        plan, site, settings = context.plan, context.site, context.settings
        variable = transformed(site.cube.variable(settings.variable), settings.transform)
        tiles = [tile for _, written in results for tile in written.tiles]
        require_means(tiles, context.content.aoi)
        quarantined = tuple(
            QuarantinedTile(cell=cell, job="baseline", failure=shard.why.failure)
            for shard in results.left_out
            for cell in shard.work.names
        )
        manifest = _manifest(plan, tiles, quarantined)

        def make(earlier: bytes | None) -> bytes:
            if earlier is None and not tiles:
                raise AcdError(
                    ErrorCode.SHARDS_MISSING,
                    "the baseline was removed while 'latest' was being set to it",
                    "Plan it again.",
                )
            whole = manifest.joined_with(BaselineManifest.model_validate_json(earlier)) if earlier else manifest
            files = files_of_baseline(whole, variable)
            put_all(site.store, files)
            digests = {key: digest_of_file(body) for key, body in files.items()}
            return body_of(whole.model_copy(update={"files": digests}), earlier)

        fence, chain = site.fence(plan), manifest_chain(site.store, manifest.aoi, "baseline", plan.content_id)
        chain.publish(make, fence, {})
        link_baseline(chain, variable, context.content.area, site.store)
        point_latest(site.store, manifest.aoi, "baseline", name_of(settings), plan.content_id, fence)
        views = baseline_variables(variable)
        complete = [] if manifest.quarantined else tiles
        site.cube.commit(
            Addition(
                [] if manifest.quarantined else [record_of(plan)],
                [
                    dataset
                    for tile in complete
                    for dataset in (tile.mean, tile.standard_deviation, tile.count, tile.moments)
                ],
                variables=views,
                instances=[Instance(variable=view.name, name=settings.name) for view in views],
            )
        )
        return Handouts()

    def files_of(self, result: BaselineTiles, plan: BaselinePlan) -> tuple[str, ...]:
        """The keys of the files of its tiles."""
        return tuple(key for tile in result.tiles for key in tile.files)


def name_of(settings: BaselineSettings) -> str:
    """The name under which `latest` of the baseline is stored."""
    return f"{settings.variable}/{settings.layout}/{settings.name}"


def defaults_of(profile: Profile, variable: Variable) -> Detection:
    """The method of a profile for a described (transformed) variable."""
    dformat = variable.dformat
    return detection_for(profile, (dformat.min, dformat.max), variable.scale, {})


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
        profile=content.profile,
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
        warnings=content.warnings,
    )


def _moments(work: StackOfTile, variable: Variable, context: BaselineContext) -> tuple[Moments, NDArray[np.int32]]:
    """The moments of a tile, and the number of values that were clipped, block by block.

    Memory stays bounded. Clipping needs all images of a block at once, so blocks are smaller if there are many.
    """
    settings, profile = context.settings, context.content.profile
    grid, nodata, clip = work.tile.grid, variable.dformat.nodata, settings.clip_for(profile)
    method, transform = PROFILES[profile], transform_of(variable, settings.transform)
    whole, clipped = Moments.zeros(grid.shape), np.zeros(grid.shape, np.int32)
    size, at_once = BLOCK, IMAGES_AT_ONCE
    if clip:
        at_once = len(work.slices)
        while size > 1 and at_once * size**2 > IMAGES_AT_ONCE * BLOCK**2:
            size //= 2
    for window in grid.blocks(size):
        block = Moments.zeros((window.height, window.width))
        for first in range(0, len(work.slices), at_once):
            images = work.slices[first : first + at_once]
            stack = context.site.cube.read(grid.window(window), images, variable, settings.resampling)
            of_images, low = Moments.clipped(*_prepared(stack, nodata, method, transform), clip)
            block += of_images
            clipped[window.slices] += low
        part = whole.window(*window.slices)
        part.count[:], part.total[:], part.total_of_squares[:] = block.count, block.total, block.total_of_squares
    return whole, clipped


def _prepared(
    stack: NDArray[Any], nodata: float, method: Detection, transform: Transform | None
) -> tuple[NDArray[Any], float | None]:
    """Images as their moments are computed, and the nodata to use."""
    if transform is None:
        return method.without_zeros(stack, nodata)
    images, _ = method.without_zeros(stack, nodata)
    return transform.apply(images), NODATA


def _write(
    tile: Tile, moments: Moments, variable: Variable, instance: str, record: Record, context: BaselineContext
) -> BaselineTile:
    """Write a tile's files and its STAC item."""
    plan, site = context.plan, context.site
    documents = BaselineDocuments(plan.content.aoi, plan.content_id, variable, plan.content.science(plan.settings))
    views = baseline_variables(variable)
    sizes: dict[str, int] = {}

    def write(bands: NDArray[Any], view: Variable, product: str) -> Dataset:
        key = f"{documents.folder}/{documents.stem(product, cell_part(tile))}.tif"
        data = encode_cog(
            bands,
            tile.grid,
            nodata=view.dformat.nodata,
            scale=view.scale,
            band_names=view.bands if len(view.bands) > 1 else (view.name,),
            unit="images" if product == "count" else view.unit,
            tags=documents.tags(product),
        )
        site.store.put(key, data)
        sizes[key] = len(data)
        return Dataset(
            record_id=record.id,
            variable=view.name,
            instance=instance,
            uri=key,
            bands=tuple(range(1, len(bands) + 1)),
            dformat=view.dformat,
            grid=tile.grid,
            layout=tile.layout,
            cell=tile.cell,
            checksum=checksum_of(data),
        )

    written = BaselineTile(
        tile=tile,
        mean=write(moments.mean()[np.newaxis], views[0], "mean"),
        standard_deviation=write(moments.standard_deviation()[np.newaxis], views[1], "std"),
        count=write(moments.count_view()[np.newaxis], views[2], "count"),
        moments=write(
            np.stack([moments.count.astype(np.int64), moments.total, moments.total_of_squares]), views[3], "moments"
        ),
    )
    key, item = documents.item(written, record, sizes)
    site.store.put(key, item)
    return written.model_copy(update={"item": key, "item_checksum": digest_of_file(item)})
