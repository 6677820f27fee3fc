"""Second round: change masks, and the pieces of each patch's outline."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from acdtask.change.packing import unpack as unpack_arrays
from acdtask.change.polygons import trace
from acdtask.change.zscore import Quality
from acdtask.cube.local.blocks import checksum_of
from acdtask.cube.local.cog import encode_cog
from acdtask.cube.local.store import Store
from acdtask.jobs.bundle import array_from_bytes
from acdtask.jobs.monitor.label import Left
from acdtask.jobs.monitor.work import TileWork
from acdtask.jobs.products import MASK_NODATA, MonitorTile
from acdtask.jobs.scratch import read_scratch
from acdtask.jobs.styles import CHANGE_COLOURS

__all__ = ["CutTile", "cut_tile"]


class CutTile(BaseModel):
    """What the second round says of a tile and image.

    `pieces` are (blob id, polygon as hexadecimal WKB in whole pixels of the layout). `sizes` are those of the files of
    z and change in bytes, by their keys.
    """

    label: str
    place: MonitorTile
    pieces: list[tuple[int, str]]
    sizes: dict[str, int]
    changed_px: int
    quality_px: dict[str, int]


def cut_tile(
    work: TileWork,
    label: str,
    place: MonitorTile,
    blob_ids: bytes,
    left: Left,
    tags: Mapping[str, str],
    store: Store,
    scratch: Store,
) -> bytes:
    """Write the change mask of a tile and image; return its CutTile."""
    arrays = unpack_arrays(read_scratch(scratch, left.labels))
    labels, quality = arrays["labels"], arrays["quality"]
    blobs = array_from_bytes(blob_ids)[labels].astype(np.int32)
    data = encode_cog(
        _mask(blobs, quality),
        work.tile.grid,
        nodata=MASK_NODATA,
        band_names=("change", "quality"),
        overview_resampling="nearest",
        colormap=CHANGE_COLOURS,
        tags=tags,
    )
    store.put(place.change.uri, data)
    change = place.change.model_copy(update={"checksum": checksum_of(data)})
    z = place.z.model_copy(update={"checksum": left.z_checksum})
    counts = np.bincount(quality.ravel(), minlength=len(Quality))
    cut = CutTile(
        label=label,
        place=place.model_copy(update={"z": z, "change": change}),
        pieces=[(piece.blob, piece.polygon.wkb_hex) for piece in trace(blobs, work.tile.origin)],
        sizes={z.uri: left.z_size, change.uri: len(data)},
        changed_px=int(np.count_nonzero(blobs)),
        quality_px={reason.name: int(counts[reason]) for reason in Quality},
    )
    return json.dumps(cut.model_dump(mode="json")).encode()


def _mask(blobs: NDArray[np.int32], quality: NDArray[np.uint8]) -> NDArray[np.uint8]:
    change = (blobs > 0).astype(np.uint8)
    change[quality != Quality.VALID] = MASK_NODATA
    return np.stack([change, quality])
