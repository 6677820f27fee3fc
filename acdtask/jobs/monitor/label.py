"""First rounds: the scores of each tile and image, their medians over the image, and fragments joined into blobs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from acdtask.change.centring import ScoreHistogram, coherence_bins, common_score
from acdtask.change.detect import TileChange, detect_in_tile, score_tile
from acdtask.change.fragments import FragmentTable
from acdtask.change.packing import pack as pack_arrays
from acdtask.change.packing import unpack as unpack_arrays
from acdtask.change.profile import Detection
from acdtask.change.seams import blobs_to_bytes, join_fragments
from acdtask.cube.local.cog import write_cog
from acdtask.cube.local.cube import LocalCube
from acdtask.cube.local.store import Store
from acdtask.cube.masks import inside_mask
from acdtask.cube.model import Dataset, Resampling, Slice, Variable
from acdtask.jobs.bundle import array_to_bytes, pack, unpack
from acdtask.jobs.monitor.work import TileWork
from acdtask.jobs.products import Z_FORMAT, Z_SCALE

__all__ = [
    "Scorer",
    "blobs_key",
    "histograms_to_bytes",
    "join_histograms",
    "join_labels",
    "labels_key",
    "write_change",
]


def labels_key(part: str) -> str:
    """Where the first round leaves a tile's labels and quality for the second."""
    return f"labels/{part}.npz"


def blobs_key(label: str) -> str:
    """Where the first gather leaves the blobs of an image for the last."""
    return f"blobs/{label}.npz"


class Scorer:
    """Reads and scores one tile against its baseline, image by image."""

    def __init__(
        self,
        work: TileWork,
        cube: LocalCube,
        variable: Variable,
        area: BaseGeometry,
        detection: Detection,
        resampling: Resampling | None,
    ) -> None:
        self._work, self._cube, self._variable = work, cube, variable
        self._detection, self._resampling = detection, resampling
        self._inside = inside_mask(area, work.tile.grid)
        self._mean = self._read_view(work.mean)
        self._std = self._read_view(work.standard_deviation)
        self._count = np.nan_to_num(self._read_view(work.count), nan=0.0)
        self._bins = coherence_bins(self._mean, variable.dformat.min, variable.dformat.max)

    def histogram(self, image: Slice) -> ScoreHistogram:
        """How often each score occurs inside the AOI."""
        score = score_tile(
            self._read(image),
            self._mean,
            self._std,
            self._count,
            self._detection,
            nodata=self._variable.dformat.nodata,
            inside=self._inside,
        )
        return ScoreHistogram.of(score.z, self._bins)

    def change(self, image: Slice, medians: NDArray[np.float32]) -> TileChange:
        """Scores and fragments. Pixels outside the AOI have no z, so that patches never depend on the tiles."""
        return detect_in_tile(
            self._read(image),
            self._mean,
            self._std,
            self._count,
            self._detection,
            nodata=self._variable.dformat.nodata,
            origin=self._work.tile.origin,
            inside=self._inside,
            common=common_score(self._bins, medians) if self._detection.centred else None,
        )

    def _read(self, image: Slice) -> NDArray[Any]:
        return np.asarray(self._cube.read(self._work.tile.grid, [image], self._variable, self._resampling)[0])

    def _read_view(self, dataset: Dataset) -> NDArray[np.float32]:
        variable = self._cube.variable(dataset.variable)
        return np.asarray(self._cube.read(self._work.tile.grid, [Slice(label="", datasets=(dataset,))], variable)[0])


def write_change(change: TileChange, z_uri: str, work: TileWork, label: str, store: Store, scratch: Store) -> bytes:
    """Write the z of a tile and image, leave its labels for the next round, and return its table of fragments."""
    pixels = _stored_z(change.score.z)[np.newaxis]
    write_cog(store, z_uri, pixels, work.tile.grid, nodata=Z_FORMAT.nodata, scale=Z_SCALE)
    left = pack_arrays(labels=change.fragments.labels, quality=change.score.quality)
    scratch.put(labels_key(work.part(label)), left)
    return change.fragments.table.to_bytes()


def histograms_to_bytes(histograms: dict[str, ScoreHistogram]) -> bytes:
    """The histograms of a shard's images, by label."""
    return pack({label: pack_arrays(counts=one.counts) for label, one in histograms.items()})


def join_histograms(tables: Iterator[bytes]) -> bytes:
    """The medians of each image over all tiles, as every shard of the next round needs them."""
    total: defaultdict[str, ScoreHistogram] = defaultdict(ScoreHistogram.empty)
    for bundle in tables:
        for label, table in unpack(bundle).items():
            total[label] += ScoreHistogram(unpack_arrays(table)["counts"])
    return pack({label: array_to_bytes(one.medians()) for label, one in total.items()})


def _stored_z(z: NDArray[np.float32]) -> NDArray[np.int16]:
    missing = np.isnan(z)
    stored = np.rint(
        np.clip(np.where(missing, 0.0, z).astype(np.float64) / Z_SCALE, Z_FORMAT.min, Z_FORMAT.max)
    ).astype(np.int16)
    stored[missing] = Z_FORMAT.nodata
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
