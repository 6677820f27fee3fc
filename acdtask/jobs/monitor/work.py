"""What a shard of the monitor knows, and what its rounds hand to each other."""

from __future__ import annotations

import datetime as dt
from typing import Any

from pydantic import BaseModel

from acdtask.cube.grid import Tile
from acdtask.cube.model import Dataset, Record, Slice, Variable
from acdtask.jobs.contract import Plan
from acdtask.jobs.products import MonitorTile, change_variable, z_variable

__all__ = ["ImageWork", "TileWork", "images_of", "monitor_tile"]


class ImageWork(BaseModel):
    """An image to monitor. `start` is the first date of the pair; `folder` holds its products."""

    label: str
    datetime: dt.datetime
    start: dt.datetime | None
    folder: str
    records: list[str]
    aoi: str
    area: dict[str, Any]
    method: str

    @property
    def record(self) -> Record:
        """The record that the image's products belong to."""
        tags = {
            "acd:job": "monitor",
            "acd:aoi": self.aoi,
            "acd:monitor": self.method,
            "acd:content": self.folder.rpartition("/")[2],
        }
        if self.start is not None:
            tags["start_datetime"] = self.start.isoformat()
        name = f"{self.aoi}/monitor/{self.method}/{self.label}"
        return Record(name=name, datetime=self.datetime, tags=tags, footprint=self.area)


class TileWork(BaseModel):
    """A tile, its baseline, and its part of each image."""

    tile: Tile
    mean: Dataset
    standard_deviation: Dataset
    count: Dataset
    images: list[Slice]

    def part(self, label: str) -> str:
        """The name of what a round says of this tile and image."""
        return f"{label}/{self.tile.j}_{self.tile.i}"


def images_of(plan: Plan) -> dict[str, ImageWork]:
    """The images of a plan, by label."""
    return {raw["label"]: ImageWork.model_validate(raw) for raw in plan.content["images"]}


def monitor_tile(work: TileWork, image: Slice, of: ImageWork, variable: Variable, instance: str) -> MonitorTile:
    """Where the products of a tile and image lie."""
    tile = work.tile

    def dataset(one: Variable, file: str) -> Dataset:
        return Dataset(
            record_id=of.record.id,
            variable=one.name,
            instance=instance,
            uri=f"{of.folder}/{tile.i}_{tile.j}_{file}.tif",
            bands=tuple(range(1, len(one.bands) + 1)),
            dformat=one.dformat,
            grid=tile.grid,
            layout=tile.layout,
            cell=tile.cell,
        )

    z, change = dataset(z_variable(variable), "z"), dataset(change_variable(variable), "change")
    return MonitorTile(tile=tile, image=image, z=z, change=change)
