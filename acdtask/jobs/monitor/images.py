"""An image that the monitor judges, and the places of its products."""

from __future__ import annotations

import datetime as dt
from typing import Any

from pydantic import BaseModel

from acdtask.cube.model import Dataset, Record, Variable
from acdtask.jobs.filenames import cell_part, date_part, product_stem
from acdtask.jobs.products import (
    MonitorTile,
    change_variable,
    z_variable,
)
from acdtask.raster.grid import Tile

__all__ = ["TAG_BASELINE", "TAG_CONTENT", "ImageWork", "Subfolders", "monitor_tile"]

TAG_CONTENT, TAG_BASELINE = "acd:content", "acd:baseline"
"""Tags of the record of a judged image: its inputs, and the baseline version that it was judged against."""


class ImageWork(BaseModel):
    """An image to monitor.

    Attributes:
        start: first date of the pair.
        folder: folder of its products, different for each baseline version.
        content: its label and a digest of its inputs, the same for all baseline versions.
        baseline: content id of the baseline version that it is judged against.
        method: id of the series.
    """

    label: str
    datetime: dt.datetime
    start: dt.datetime | None
    folder: str
    content: str
    baseline: str
    records: list[str]
    aoi: str
    area: dict[str, Any]
    method: str

    @property
    def record(self) -> Record:
        """The record of the image's products."""
        tags = {
            "acd:job": "monitor",
            "acd:aoi": self.aoi,
            "acd:monitor": self.method,
            TAG_CONTENT: self.content,
            TAG_BASELINE: self.baseline,
        }
        if self.start is not None:
            tags["start_datetime"] = self.start.isoformat()
        name = f"{self.aoi}/monitor/{self.method}/{self.label}"
        return Record(name=name, datetime=self.datetime, tags=tags, footprint=self.area)

    def stem(self, variable: Variable, product: str = "", tile: Tile | None = None) -> str:
        """The file name of a product of the image without its extension."""
        cell = cell_part(tile) if tile else ""
        return product_stem(self.aoi, variable.name, product, date_part(self.label), cell)


class Subfolders(BaseModel):
    """Subfolders of a tile's z and change rasters in the image's folder; empty for a complete image."""

    z: str = ""
    change: str = ""


def monitor_tile(
    tile: Tile, image: ImageWork, variable: Variable, instance: str, subfolders: Subfolders
) -> MonitorTile:
    """The datasets of a tile and image, before their files are written."""

    def dataset(product: Variable, name: str, subfolder: str) -> Dataset:
        return Dataset(
            record_id=image.record.id,
            variable=product.name,
            instance=instance,
            uri=f"{image.folder}/{subfolder}{image.stem(variable, name, tile)}.tif",
            bands=tuple(range(1, len(product.bands) + 1)),
            dformat=product.dformat,
            grid=tile.grid,
            layout=tile.layout,
            cell=tile.cell,
        )

    z = dataset(z_variable(variable), "z", subfolders.z)
    change = dataset(change_variable(variable), "change", subfolders.change)
    return MonitorTile(tile=tile, z=z, change=change)
