"""Third round, if a method judges candidates: compares each with its own past, then chooses which to keep."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Annotated, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
from shapely.geometry import shape

from acdtask.change.judgement.choice import false_accepted
from acdtask.change.judgement.features import CoherenceScale
from acdtask.change.judgement.footprints import FAR, Footprints, footprints_of
from acdtask.change.judgement.judge import JUDGED, judge
from acdtask.change.judgement.judging import Judging
from acdtask.change.judgement.sums import BlobSums, add_sums
from acdtask.change.patches import geodesic_area
from acdtask.change.zscore import Quality
from acdtask.cube.model import Slice
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.codec import ArrayOf, DataclassOfArrays, Packed, leave_scratch, read_scratch
from acdtask.jobs.contract import Handouts, Results, Round
from acdtask.jobs.monitor.content import MonitorContext, MonitorWork, TileWork
from acdtask.jobs.monitor.gaps import Gaps
from acdtask.jobs.monitor.history import History
from acdtask.jobs.monitor.label import Blobs, ImageBlobs, JoinedImages, TileBlobs, TileLabels
from acdtask.jobs.monitor.models import load_models
from acdtask.jobs.monitor.reference import Reference
from acdtask.jobs.monitor.scorer import scorer_of
from acdtask.raster.grid import Layout
from acdtask.raster.tiling import LON_LAT, project

__all__ = ["ImageJudgement", "JudgeCandidates", "pixel_km2"]

EncodedSums: TypeAlias = Annotated[BlobSums, DataclassOfArrays()]


class ImageJudgement(BaseModel):
    """The judged blobs of an image, left in the scratch."""

    judged: Annotated[NDArray[np.void], ArrayOf(JUDGED)]


class JudgedTile(BaseModel):
    """The result for a tile and image: what the next round needs, and sums of its candidates, if any."""

    blobs: TileBlobs
    sums: Packed[EncodedSums] | None = None


class JudgedTiles(BaseModel):
    """The result of a shard, by `TileWork.part`."""

    parts: dict[str, JudgedTile]


class JudgeCandidates(Round[MonitorWork, Blobs, JudgedTiles]):
    """Sums candidates and their rings over the baseline's images, then judges them."""

    name = "judge"
    optional = True

    def run(self, work: MonitorWork, handout: Blobs, context: MonitorContext) -> JudgedTiles:
        """Sum the images of each tile with candidates. Tiles without candidates read nothing."""
        past = _past([tile for tile in work.tiles if _candidates(tile, handout)], context)
        parts: dict[str, JudgedTile] = {}
        for done, tile in enumerate(work.tiles, start=1):
            candidates = _candidates(tile, handout)
            sums = _sums(tile, candidates, past[tile.tile.cell], handout, context) if candidates else {}
            for image in tile.images:
                part = tile.part(image.label)
                packed = Packed.of(sums[image.label], EncodedSums) if image.label in sums else None
                parts[part] = JudgedTile(blobs=handout.parts[part].model_copy(update={"around": []}), sums=packed)
            context.progress(done)
        return JudgedTiles(parts=parts)

    def gather(self, results: Results[MonitorWork, JudgedTiles], context: MonitorContext) -> Handouts[Blobs]:
        """Judge the candidates of each image, and hand out which are rejected."""
        gaps, memo = Gaps(context.content, results.left_out), results.memo(JoinedImages)
        images: dict[str, list[tuple[int, str, JudgedTile]]] = defaultdict(list)
        handouts: dict[int, dict[str, TileBlobs]] = {}
        for shard, judged in results:
            handouts[shard] = {}
            for part, tile in judged.parts.items():
                images[part.partition("/")[0]].append((shard, part, tile))
        for label, parts in sorted(images.items()):
            packed = [tile.sums for _, _, tile in parts if tile.sums is not None]
            total = add_sums([sums.open() for sums in packed], len(_reference(context).images) + 1)
            blobs = read_scratch(context.scratch, memo.blobs[label], ImageBlobs).blobs
            of_image = _judged(blobs, total, memo.judged_px[label], context)
            judgement = ImageJudgement(judged=of_image)
            memo.judgements[label] = leave_scratch(context.scratch, f"judged/{label}", judgement)
            rejected = of_image["id"][~of_image["kept"]]
            made_from = (tile.blobs.change_subfolder.encode() for _, _, tile in parts)
            subfolder = gaps.subfolder(label, *made_from, *(sums.data for sums in packed))
            for shard, part, tile in parts:
                here = np.intersect1d(rejected, tile.blobs.blob_ids).astype(np.int32)
                update = {"rejected": here, "change_subfolder": subfolder}
                handouts[shard][part] = tile.blobs.model_copy(update=update)
        return Handouts({shard: Blobs(parts=parts) for shard, parts in handouts.items()}, memo)


def pixel_km2(area: Mapping[str, object], layout: Layout) -> float:
    """The mean area of a pixel of the layout in an area of interest, in square kilometres, whatever the tiling.

    Args:
        area: a GeoJSON geometry in longitude and latitude.
        layout: layout of the pixels.
    """
    geometry = shape(area)
    side = layout.cell_extent / layout.cell_pixels
    pixels = float(project(geometry, LON_LAT, layout.crs).area) / side**2
    return geodesic_area(geometry) / pixels / 1e6


def _reference(context: MonitorContext) -> Reference:
    reference = context.content.reference
    if reference is None:
        raise AcdError(ErrorCode.BUG, "the plan of a method that judges candidates has no reference")
    return reference


def _past(tiles: list[TileWork], context: MonitorContext) -> dict[str, list[tuple[int, Slice]]]:
    """The images of the baseline in each tile, by cell, with their position in the reference."""
    if not tiles:
        return {}
    slices = _reference(context).slices(context.site.cube, [tile.tile for tile in tiles])
    return {tile.tile.cell: images for tile, images in zip(tiles, slices, strict=True)}


def _judged(blobs: NDArray[np.void], sums: BlobSums, judged_px: int, context: MonitorContext) -> NDArray[np.void]:
    method = context.content.method
    judging, model = method.rules.judging or Judging(), load_models()
    area_km2 = judged_px * pixel_km2(method.area, context.site.cube.layout(method.layout))
    dformat = context.site.cube.variable(context.settings.variable).dformat
    return judge(
        blobs,
        sums,
        model.named(judging.judged_by).model,
        CoherenceScale.of((dformat.min, dformat.max), method.rules.steps),
        accepted=false_accepted(judging.false_per_1000km2, area_km2),
        sure=model.named(judging.judged_by).threshold(judging.false_per_1000km2),
    )


def _candidates(tile: TileWork, handout: Blobs) -> list[Slice]:
    """The images with candidates in the tile or near it."""
    blobs = [(image, handout.parts[tile.part(image.label)]) for image in tile.images]
    return [image for image, of_image in blobs if of_image.blob_ids.any() or of_image.around]


def _sums(
    tile: TileWork,
    images: list[Slice],
    past: list[tuple[int, Slice]],
    handout: Blobs,
    context: MonitorContext,
) -> dict[str, BlobSums]:
    """The sums of the candidates of a tile, by label of the image; without images that only have them farther away."""
    parts = {image.label: handout.parts[tile.part(image.label)] for image in images}
    footprints = {label: _footprints(tile, blobs, context) for label, blobs in parts.items()}
    footprints = {label: members for label, members in footprints.items() if len(members.ids)}
    if not footprints:
        return {}
    cube, settings = context.site.cube, context.settings
    baseline = scorer_of(tile, context, around=False).baseline
    variable = cube.variable(settings.variable)
    history = History(tile, baseline, _reference(context), past, cube, variable, settings.resampling)
    return history.sums(footprints)


def _footprints(tile: TileWork, blobs: TileBlobs, context: MonitorContext) -> Footprints:
    """The footprints of an image's candidates in a tile, from its own labels and those of its neighbours."""
    height, width = tile.tile.grid.shape
    own = read_scratch(context.scratch, blobs.files.labels, TileLabels)
    ids = np.zeros((height + 2 * FAR, width + 2 * FAR), np.int32)
    ids[FAR:-FAR, FAR:-FAR] = blobs.blob_ids[own.labels]
    for neighbour in blobs.around:
        labels = read_scratch(context.scratch, neighbour.labels, TileLabels).labels
        _place(neighbour.blob_ids[labels].astype(np.int32), neighbour.origin, ids, tile.tile.origin)
    return footprints_of(ids, own.quality == Quality.VALID)


def _place(
    pixels: NDArray[np.int32], origin: tuple[int, int], grown: NDArray[np.int32], tile_origin: tuple[int, int]
) -> None:
    """Copy the pixels of a neighbour that lie in the margin of a grown tile."""
    row, column = (here - tile + FAR for here, tile in zip(origin, tile_origin, strict=True))
    rows = slice(max(row, 0), min(row + pixels.shape[0], grown.shape[0]))
    columns = slice(max(column, 0), min(column + pixels.shape[1], grown.shape[1]))
    grown[rows, columns] = pixels[rows.start - row : rows.stop - row, columns.start - column : columns.stop - column]
