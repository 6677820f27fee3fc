"""What the last round of the monitor says of tiles, for whoever publishes them."""

from __future__ import annotations

from pydantic import BaseModel

from acdtask.jobs.products import MonitorTile

__all__ = ["CutTile", "CutTiles"]


class CutTile(BaseModel):
    """What the last round says of a tile and image.

    `pieces` are (blob id, polygon as hexadecimal WKB in whole pixels of the layout). `sizes` are those of the files of
    z and change in bytes, by their keys.
    """

    label: str
    place: MonitorTile
    pieces: list[tuple[int, str]]
    sizes: dict[str, int]
    changed_px: int
    quality_px: dict[str, int]


class CutTiles(BaseModel):
    """What a shard has cut."""

    tiles: list[CutTile]
