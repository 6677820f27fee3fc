"""Results of the monitor's last round for tiles and images."""

from __future__ import annotations

from pydantic import BaseModel

from acdtask.jobs.products import MonitorTile

__all__ = ["CutTile", "CutTiles"]


class CutTile(BaseModel):
    """Result of the last round for a tile and image.

    `pieces` are (blob id, polygon as hexadecimal WKB in whole pixels of the layout). `sizes` are the file sizes of the
    z and change rasters in bytes, by key.
    """

    label: str
    place: MonitorTile
    pieces: list[tuple[int, str]]
    sizes: dict[str, int]
    changed_px: int
    quality_px: dict[str, int]


class CutTiles(BaseModel):
    """Result of a shard in the last round."""

    tiles: list[CutTile]
