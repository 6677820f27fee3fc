"""First round: z, and the fragments of each tile and image; their join makes the blobs of an image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from acdtask.change.fragments import FragmentTable, find_fragments
from acdtask.change.packing import pack as pack_arrays
from acdtask.change.profile import Detection
from acdtask.change.seams import blobs_to_bytes, join_fragments
from acdtask.change.zscore import Quality, z_score
from acdtask.cube.local.cog import write_cog
from acdtask.cube.local.cube import LocalCube
from acdtask.cube.local.store import Store
from acdtask.cube.masks import inside_mask
from acdtask.cube.model import Resampling, Slice, Variable
from acdtask.jobs.bundle import array_to_bytes, pack, unpack
from acdtask.jobs.monitor.work import TileWork
from acdtask.jobs.products import Z_SCALE, MonitorTile, z_variable

__all__ = ["BaselineViews", "blobs_key", "join_labels", "label_tile", "labels_key"]


def labels_key(part: str) -> str:
    """Where the first round leaves a tile's labels and quality for the second."""
    return f"labels/{part}.npz"


def blobs_key(label: str) -> str:
    """Where the first gather leaves the blobs of an image for the last."""
    return f"blobs/{label}.npz"


class BaselineViews:
    """Mean, standard deviation and count of a tile."""

    def __init__(self, work: TileWork, cube: LocalCube) -> None:
        def read(suffix: str) -> NDArray[np.float32]:
            dataset = getattr(work, suffix)
            variable = cube.variable(dataset.variable)
            return np.asarray(cube.read(work.tile.grid, [Slice(label="", datasets=(dataset,))], variable)[0])

        self.mean = read("mean")
        self.standard_deviation = read("standard_deviation")
        self.count = np.nan_to_num(read("count"), nan=0.0)


def label_tile(
    work: TileWork,
    image: Slice,
    place: MonitorTile,
    views: BaselineViews,
    *,
    area: BaseGeometry,
    variable: Variable,
    detection: Detection,
    resampling: Resampling | None,
    cube: LocalCube,
    store: Store,
    scratch: Store,
) -> bytes:
    """Write the z of a tile and image, leave its labels for the next round, and return its table of fragments.

    Pixels whose centre lies outside the AOI have no z, so that a patch never depends on which tiles the AOI touches.
    """
    grid = work.tile.grid
    pixels = cube.read(grid, [image], variable, resampling)[0]
    pixels, nodata = detection.without_zeros(pixels, variable.dformat.nodata)
    scored = z_score(
        pixels,
        views.mean,
        views.standard_deviation,
        views.count,
        nodata=nodata,
        min_count=detection.min_count,
        min_std=detection.min_std,
    )
    outside = ~inside_mask(area, grid)
    z, quality = scored.z.copy(), scored.quality.copy()
    z[outside], quality[outside] = np.nan, Quality.OUTSIDE
    found = find_fragments(
        z,
        views.mean,
        pixels,
        views.count,
        low=detection.low,
        high=detection.high,
        min_area=detection.min_area,
        origin=work.tile.origin,
    )
    stored = z_variable(variable)
    write_cog(store, place.z.uri, _stored_z(z)[np.newaxis], grid, nodata=stored.dformat.nodata, scale=stored.scale)
    scratch.put(labels_key(work.part(image.label)), pack_arrays(labels=found.labels, quality=quality))
    return found.table.to_bytes()


def _stored_z(z: NDArray[np.float32]) -> NDArray[np.int16]:
    missing = np.isnan(z)
    stored = np.rint(np.clip(np.where(missing, 0.0, z).astype(np.float64) / Z_SCALE, -32767, 32767)).astype(np.int16)
    stored[missing] = -32768
    return stored


def join_labels(tables: Iterator[bytes], scratch: Store) -> dict[int, bytes]:
    """Join the fragments of every tile, an image at a time.

    Args:
        tables: a bundle of tables of fragments for each shard, named `<image>/<tile>`.
        scratch: gets the blobs of each image.

    Returns:
        For each shard, a bundle that maps the labels of each of its tiles and images to blobs.
    """
    images: dict[str, list[tuple[int, str, FragmentTable]]] = defaultdict(list)
    shards = 0
    for shard, bundle in enumerate(tables):
        shards += 1
        for name, table in unpack(bundle).items():
            images[name.partition("/")[0]].append((shard, name, FragmentTable.from_bytes(table)))
    handouts: dict[int, dict[str, bytes]] = {shard: {} for shard in range(shards)}
    for label, parts in sorted(images.items()):
        joined = join_fragments([table for _, _, table in parts])
        scratch.put(blobs_key(label), blobs_to_bytes(joined.blobs))
        for (shard, name, _), blob_ids in zip(parts, joined.blob_ids, strict=True):
            handouts[shard][name] = array_to_bytes(blob_ids)
    return {shard: pack(parts) for shard, parts in handouts.items()}
