"""Footprints: the pixels of candidates, and of the rings around them.

The ring of a blob has the pixels whose distance to the blob is above NEAR and at most FAR pixels, between pixel
centres, and that are farther than NEAR from every blob. A pixel may belong to the rings of several blobs: each ring is
what its blob has around it, whatever else is near. `skimage.segmentation.expand_labels` gives each pixel to one label,
with arbitrary ties, so a ring would depend on its neighbours and on the order of pixels.

A tile needs the blobs within FAR pixels of it, and no other pixels of its neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from skimage.morphology import dilation, disk

from acdtask.raster.grid import Window

__all__ = ["FAR", "NEAR", "Footprints", "footprints_of"]

NEAR, FAR = 2, 4
"""Distances in pixels between which a ring lies; the first is excluded, the second included."""


@dataclass(frozen=True, eq=False)
class Footprints:
    """The pixels of blobs and rings in a tile or window.

    Attributes:
        ids: shape (blobs,), int32, ascending: the blobs that have a pixel or a pixel of their ring here.
        index: shape (members,), intp, flat index of each member pixel; a pixel may be a member several times.
        blob: shape (members,), position in `ids` of the blob that it belongs to.
        in_ring: shape (members,), whether it belongs to the blob's ring and not to the blob.
        core_px: shape (blobs,), int64, number of pixels of the blob here whose four neighbours belong to it.
    """

    ids: NDArray[np.int32]
    index: NDArray[np.intp]
    blob: NDArray[np.intp]
    in_ring: NDArray[np.bool_]
    core_px: NDArray[np.int64]

    def within(self, window: Window, width: int) -> Footprints:
        """The members inside a window of the tile, which is `width` pixels wide. All else is that of the tile."""
        row, column = np.divmod(self.index, width)
        row, column = row - window.row, column - window.column
        kept = (row >= 0) & (row < window.height) & (column >= 0) & (column < window.width)
        index = row[kept] * window.width + column[kept]
        return replace(self, index=index, blob=self.blob[kept], in_ring=self.in_ring[kept])


def footprints_of(blob_ids: NDArray[np.int32], judged: NDArray[np.bool_]) -> Footprints:
    """Find the blobs and rings of a tile.

    Args:
        blob_ids: shape (height + 2 FAR, width + 2 FAR): the blob of each pixel of the tile grown by FAR; 0 for none.
        judged: shape (height, width), True where the tile has a z. Other pixels belong to no ring.

    >>> blobs = np.zeros((9, 19), np.int32)
    >>> blobs[4, 4] = 1
    >>> found = footprints_of(blobs, np.ones((1, 11), np.bool_))
    >>> found.index.tolist(), found.in_ring.tolist()
    ([0, 3, 4], [False, True, True])
    """
    width = judged.shape[1]
    is_blob = blob_ids > 0
    free = judged & ~dilation(is_blob, disk(NEAR))[FAR:-FAR, FAR:-FAR]
    inside_ids = blob_ids[FAR:-FAR, FAR:-FAR].reshape(-1)
    inside = np.flatnonzero(inside_ids)
    # Only pixels at the edge of a blob can be its nearest to a pixel outside.
    core = _core(blob_ids)
    row, column = np.nonzero(is_blob & ~core)
    of_edge = blob_ids[row, column].astype(np.int64)
    keys = [np.zeros(0, np.int64)]
    for down, across in np.argwhere(disk(FAR)).tolist():
        to_row, to_column = row + (down - 2 * FAR), column + (across - 2 * FAR)
        here = (to_row >= 0) & (to_row < judged.shape[0]) & (to_column >= 0) & (to_column < width)
        to_row, to_column, of_blob = to_row[here], to_column[here], of_edge[here]
        in_ring = free[to_row, to_column]
        # A blob and a pixel as one number, so that removing duplicates is one call.
        keys.append(of_blob[in_ring] * judged.size + to_row[in_ring] * width + to_column[in_ring])
    ring_blob, ring_index = np.divmod(np.unique(np.concatenate(keys)), max(judged.size, 1))
    blob = np.concatenate([inside_ids[inside].astype(np.int64), ring_blob])
    ids, position = np.unique(blob, return_inverse=True)
    in_core = core[FAR:-FAR, FAR:-FAR].reshape(-1)[inside]
    return Footprints(
        ids=ids.astype(np.int32),
        index=np.concatenate([inside, ring_index.astype(np.intp)]),
        blob=position.reshape(-1),
        in_ring=np.arange(len(blob)) >= len(inside),
        core_px=np.bincount(position[: len(inside)][in_core], minlength=len(ids)).astype(np.int64),
    )


def _core(blob_ids: NDArray[np.int32]) -> NDArray[np.bool_]:
    """The pixels whose four neighbours belong to the same blob; none in the outermost rows and columns."""
    core = np.zeros(blob_ids.shape, np.bool_)
    middle = blob_ids[1:-1, 1:-1]
    same = (middle == blob_ids[:-2, 1:-1]) & (middle == blob_ids[2:, 1:-1])
    core[1:-1, 1:-1] = same & (middle == blob_ids[1:-1, :-2]) & (middle == blob_ids[1:-1, 2:]) & (middle > 0)
    return core
