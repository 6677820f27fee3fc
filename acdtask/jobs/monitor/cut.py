"""Second round: change masks, and the pieces of each patch's outline."""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from acdtask.change.packing import unpack as unpack_arrays
from acdtask.change.polygons import trace
from acdtask.change.zscore import Quality
from acdtask.cube.local.cog import write_cog
from acdtask.cube.local.store import Store
from acdtask.jobs.bundle import array_from_bytes
from acdtask.jobs.monitor.work import TileWork
from acdtask.jobs.products import MASK_NODATA, MonitorTile
from acdtask.jobs.scratch import read_scratch

__all__ = ["CutTile", "cut_tile"]


class CutTile(BaseModel):
    """What the second round says of a tile and image.

    `pieces` are (blob id, polygon as hexadecimal WKB in whole pixels of the layout).
    """

    label: str
    place: MonitorTile
    pieces: list[tuple[int, str]]
    changed_px: int
    quality_px: dict[str, int]


def cut_tile(
    work: TileWork, label: str, place: MonitorTile, blob_ids: bytes, labels_key: str, store: Store, scratch: Store
) -> bytes:
    """Write the change mask of a tile and image; return its CutTile."""
    left = unpack_arrays(read_scratch(scratch, labels_key))
    labels, quality = left["labels"], left["quality"]
    blobs = array_from_bytes(blob_ids)[labels].astype(np.int32)
    checksum = write_cog(
        store,
        place.change.uri,
        _mask(blobs, quality),
        work.tile.grid,
        nodata=MASK_NODATA,
        band_names=("change", "quality"),
        overview_resampling="nearest",
    )
    counts = np.bincount(quality.ravel(), minlength=len(Quality))
    cut = CutTile(
        label=label,
        place=place.model_copy(update={"change": place.change.model_copy(update={"checksum": checksum})}),
        pieces=[(piece.blob, piece.polygon.wkb_hex) for piece in trace(blobs, work.tile.origin)],
        changed_px=int(np.count_nonzero(blobs)),
        quality_px={reason.name: int(counts[reason]) for reason in Quality},
    )
    return json.dumps(cut.model_dump(mode="json")).encode()


def _mask(blobs: NDArray[np.int32], quality: NDArray[np.uint8]) -> NDArray[np.uint8]:
    change = (blobs > 0).astype(np.uint8)
    change[quality != Quality.VALID] = MASK_NODATA
    return np.stack([change, quality])
