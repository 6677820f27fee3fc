"""Last round: writes change masks and traces the outlines of patches and of rejected candidates."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from acdtask.change.polygons import trace
from acdtask.change.zscore import Quality
from acdtask.jobs.codec import read_scratch
from acdtask.jobs.contract import Handouts, Nothing, Results, Round
from acdtask.jobs.monitor.content import (
    CutTile,
    CutTiles,
    MonitorContext,
    MonitorPlan,
    MonitorWork,
    TileWork,
    compared_variable,
)
from acdtask.jobs.monitor.documents import tags_of_image
from acdtask.jobs.monitor.images import Subfolders, monitor_tile
from acdtask.jobs.monitor.label import Blobs, TileBlobs, TileLabels
from acdtask.jobs.monitor.publish import publish
from acdtask.jobs.products import MASK_NODATA, MonitorTile
from acdtask.jobs.styles import CHANGE_COLOURS
from acdtask.raster.checksums import checksum_of
from acdtask.raster.cog import encode_cog

__all__ = ["CutMasks"]


class CutMasks(Round[MonitorWork, Blobs, CutTiles]):
    """Writes the mask of each tile, then joins outlines into patches and publishes."""

    name = "cut"

    def run(self, work: MonitorWork, handout: Blobs, context: MonitorContext) -> CutTiles:
        """Write the change mask of each tile and image, and trace its outlines."""
        content = context.content
        variable = compared_variable(context)
        tags = {label: tags_of_image(image, variable, context.plan)["change"] for label, image in content.image.items()}
        tiles: list[CutTile] = []
        for done, tile in enumerate(work.tiles, start=1):
            for image in tile.images:
                label, blobs = image.label, handout.parts[tile.part(image.label)]
                subfolders = Subfolders(z=blobs.files.z_subfolder, change=blobs.change_subfolder)
                place = monitor_tile(tile.tile, content.image[label], variable, context.settings.name, subfolders)
                tiles.append(_cut(tile, label, place, blobs, tags[label], context))
            context.progress(done)
        return CutTiles(tiles=tiles)

    def gather(self, results: Results[MonitorWork, CutTiles], context: MonitorContext) -> Handouts[Nothing]:
        """Publish."""
        publish(results, context)
        return Handouts()

    def files_of(self, result: CutTiles, plan: MonitorPlan) -> tuple[str, ...]:
        """The keys of the rasters of its tiles and images."""
        return tuple(key for tile in result.tiles for key in (tile.place.z.uri, tile.place.change.uri))


def _cut(
    tile: TileWork, label: str, place: MonitorTile, blobs: TileBlobs, tags: Mapping[str, str], context: MonitorContext
) -> CutTile:
    """Write the change mask of a tile and image, and describe its content."""
    files, tile_labels = blobs.files, read_scratch(context.scratch, blobs.files.labels, TileLabels)
    ids = blobs.blob_ids[tile_labels.labels].astype(np.int32)
    kept = (ids > 0) & ~np.isin(ids, blobs.rejected) if len(blobs.rejected) else ids > 0
    data = encode_cog(
        _mask(kept, tile_labels.quality),
        tile.tile.grid,
        nodata=MASK_NODATA,
        band_names=("change", "quality"),
        overview_resampling="nearest",
        colormap=CHANGE_COLOURS,
        tags=tags,
    )
    context.site.store.put(place.change.uri, data)
    change = place.change.model_copy(update={"checksum": checksum_of(data)})
    z = place.z.model_copy(update={"checksum": files.z_checksum})
    counts = np.bincount(tile_labels.quality.ravel(), minlength=len(Quality))
    return CutTile(
        label=label,
        place=place.model_copy(update={"z": z, "change": change}),
        pieces=[(piece.blob, piece.polygon.wkb_hex) for piece in trace(ids, tile.tile.origin)],
        sizes={z.uri: files.z_size, change.uri: len(data)},
        changed_px=int(np.count_nonzero(kept)),
        quality_px={reason.name: int(counts[reason]) for reason in Quality},
    )


def _mask(kept: NDArray[np.bool_], quality: NDArray[np.uint8]) -> NDArray[np.uint8]:
    change = kept.astype(np.uint8)
    change[quality != Quality.VALID] = MASK_NODATA
    return np.stack([change, quality])
