"""Second round: computes z and fragments of each tile and image, then joins fragments into blobs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import astuple
from typing import Annotated, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from acdtask.change.detect import TileChange
from acdtask.change.fragments import FragmentTable
from acdtask.change.judgement.footprints import FAR
from acdtask.change.near_misses import Near
from acdtask.change.seams import BLOB, join_fragments, join_near, neighbours_within
from acdtask.change.zscore import Quality
from acdtask.jobs.codec import ArrayOf, DataclassOfArrays, Packed, leave_scratch
from acdtask.jobs.contract import Handouts, Results, Round
from acdtask.jobs.monitor.content import MonitorContext, MonitorWork, TileWork, compared_variable
from acdtask.jobs.monitor.documents import tags_of_image
from acdtask.jobs.monitor.gaps import Gaps
from acdtask.jobs.monitor.images import Subfolders, monitor_tile
from acdtask.jobs.monitor.measure import Conclusions
from acdtask.jobs.monitor.scorer import scorer_of
from acdtask.jobs.monitor.tally import PixelTally, require_judged
from acdtask.jobs.products import (
    Z_FORMAT,
    Z_SCALE,
    Z_UNIT,
)
from acdtask.raster.checksums import checksum_of
from acdtask.raster.cog import encode_cog

__all__ = ["Blobs", "ImageBlobs", "JoinedImages", "LabelTiles", "NeighbourBlobs", "TileBlobs", "TileLabels"]

EncodedFragments: TypeAlias = Annotated[FragmentTable, DataclassOfArrays()]


class TileLabels(BaseModel):
    """Label and quality of each pixel of a tile and image, left in the scratch for the next round."""

    labels: Annotated[NDArray[np.int32], ArrayOf(np.int32, 2)]
    quality: Annotated[NDArray[np.uint8], ArrayOf(np.uint8, 2)]


class ImageBlobs(BaseModel):
    """The blobs of an image, left in the scratch."""

    blobs: Annotated[NDArray[np.void], ArrayOf(BLOB)]


class LabelledFiles(BaseModel):
    """The files written for a tile and image: the key of its `TileLabels`, and facts about its z raster."""

    labels: str
    z_checksum: str
    z_size: int
    z_subfolder: str


class LabelledTile(BaseModel):
    """The result for a tile and image. Fragments stay encoded until their image is joined."""

    files: LabelledFiles
    fragments: Packed[EncodedFragments]
    tally: PixelTally


class Labelled(BaseModel):
    """The result of a shard, by `TileWork.part`."""

    parts: dict[str, LabelledTile]


def _no_ids() -> NDArray[np.int32]:
    return np.zeros(0, np.int32)


class NeighbourBlobs(BaseModel):
    """A neighbour's blobs: the key of its `TileLabels`, its first pixel, and the blob id of each label."""

    labels: str
    origin: tuple[int, int]
    blob_ids: Annotated[NDArray[np.int32], ArrayOf(np.int32)]


class TileBlobs(BaseModel):
    """The handout for a tile and image.

    Attributes:
        files: files of the tile and image.
        blob_ids: the blob id of each label.
        change_subfolder: the subfolder of the mask.
        around: neighbours with blobs near the tile, for methods that judge blobs.
        rejected: ids of blobs in the tile that are not kept.
    """

    files: LabelledFiles
    blob_ids: Annotated[NDArray[np.int32], ArrayOf(np.int32)]
    change_subfolder: str
    around: list[NeighbourBlobs] = []
    rejected: Annotated[NDArray[np.int32], ArrayOf(np.int32)] = Field(default_factory=_no_ids)


class Blobs(BaseModel):
    """The handout of a shard, by `TileWork.part`."""

    parts: dict[str, TileBlobs] = {}


class JoinedImages(BaseModel):
    """The memo: key of the blobs in the scratch, near misses, and number of judged pixels, by image label.

    `judgements` are keys of the judged blobs in the scratch, for methods that judge blobs.
    """

    blobs: dict[str, str]
    near: dict[str, tuple[int, ...]]
    judged_px: dict[str, int]
    judgements: dict[str, str] = {}


class LabelTiles(Round[MonitorWork, Conclusions, Labelled]):
    """Scores and labels each tile, then joins its fragments with those of other tiles."""

    name = "label"

    def run(self, work: MonitorWork, handout: Conclusions, context: MonitorContext) -> Labelled:
        """Write z of each tile and image, and leave its labels for the next round."""
        content, concluded = context.content, handout.of(context.content)
        variable = compared_variable(context)
        tags = {label: tags_of_image(image, variable, context.plan)["z"] for label, image in content.image.items()}
        wholes = {label: of_image.wholes for label, of_image in concluded.items()}
        parts: dict[str, LabelledTile] = {}
        for done, tile in enumerate(work.tiles, start=1):
            scorer = scorer_of(tile, context, left_out=handout.left_out)
            for image, change in scorer.changes(wholes):
                label = image.label
                of_image = concluded[label]
                subfolders = Subfolders(z=of_image.subfolder)
                place = monitor_tile(tile.tile, content.image[label], variable, context.settings.name, subfolders)
                parts[tile.part(label)] = LabelledTile(
                    files=_written(change, place.z.uri, tile, label, of_image.subfolder, tags[label], context),
                    fragments=Packed.of(change.fragments.table, EncodedFragments),
                    tally=scorer.tally(change),
                )
            context.progress(done)
        return Labelled(parts=parts)

    def gather(self, results: Results[MonitorWork, Labelled], context: MonitorContext) -> Handouts[Blobs]:
        """Join the fragments of all tiles, one image at a time. NOTHING_JUDGED if no pixel of any image was judged."""
        gaps = Gaps(context.content, results.left_out)
        images: dict[str, list[tuple[int, str, LabelledTile]]] = defaultdict(list)
        handouts: dict[int, dict[str, TileBlobs]] = {}
        for shard, labelled in results:
            handouts[shard] = {}
            for part, tile in labelled.parts.items():
                images[part.partition("/")[0]].append((shard, part, tile))
        _require_judged(images, context)
        memo = JoinedImages(blobs={}, near={}, judged_px={})
        reach = FAR if context.content.method.rules.judging else 0
        for label, parts in sorted(images.items()):
            fragments = [tile.fragments.open() for _, _, tile in parts]
            joined = join_fragments(fragments)
            memo.blobs[label] = leave_scratch(context.scratch, f"blobs/{label}", ImageBlobs(blobs=joined.blobs))
            memo.near[label] = astuple(join_near(fragments, [Near(*tile.tally.near) for _, _, tile in parts]))
            memo.judged_px[label] = sum(tile.tally.quality_px[Quality.VALID.name] for _, _, tile in parts)
            made_from = (tile.files.labels.encode() + tile.fragments.data for _, _, tile in parts)
            subfolder = gaps.subfolder(label, *made_from)
            near = neighbours_within(fragments, joined.blob_ids, reach) if reach else [[] for _ in parts]
            for number, (shard, part, tile) in enumerate(parts):
                around = [
                    NeighbourBlobs(
                        labels=parts[other][2].files.labels,
                        origin=fragments[other].origin,
                        blob_ids=joined.blob_ids[other],
                    )
                    for other in near[number]
                ]
                handouts[shard][part] = TileBlobs(
                    files=tile.files, blob_ids=joined.blob_ids[number], change_subfolder=subfolder, around=around
                )
        return Handouts({shard: Blobs(parts=parts) for shard, parts in handouts.items()}, memo)


def _require_judged(images: Mapping[str, list[tuple[int, str, LabelledTile]]], context: MonitorContext) -> None:
    """Require, before anything is published, that some pixel was judged if there are images. NOTHING_JUDGED."""
    tallies = [tile.tally for parts in images.values() for _, _, tile in parts]
    if tallies:
        scale = compared_variable(context).scale
        require_judged(sum(tallies, PixelTally()), len(images), context.content.method.rules, scale)


def _written(
    change: TileChange,
    z_uri: str,
    tile: TileWork,
    label: str,
    subfolder: str,
    tags: Mapping[str, str],
    context: MonitorContext,
) -> LabelledFiles:
    """Write z of a tile and image, and leave its labels for the next round."""
    pixels = _stored_z(change.score.z)[np.newaxis]
    data = encode_cog(
        pixels, tile.tile.grid, nodata=Z_FORMAT.nodata, scale=Z_SCALE, band_names=("z",), unit=Z_UNIT, tags=tags
    )
    context.site.store.put(z_uri, data)
    tile_labels = TileLabels(labels=change.fragments.labels, quality=change.score.quality)
    return LabelledFiles(
        labels=leave_scratch(context.scratch, f"labels/{tile.part(label)}", tile_labels),
        z_checksum=checksum_of(data),
        z_size=len(data),
        z_subfolder=subfolder,
    )


def _stored_z(z: NDArray[np.float32]) -> NDArray[np.int16]:
    missing = np.isnan(z)
    stored = np.rint(
        np.clip(np.where(missing, 0.0, z).astype(np.float64) / Z_SCALE, Z_FORMAT.min, Z_FORMAT.max)
    ).astype(np.int16)
    stored[missing] = Z_FORMAT.nodata
    return stored
