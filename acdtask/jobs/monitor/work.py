"""What a shard of the monitor knows, and what its rounds hand to each other."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel

from acdtask.cube.grid import Tile
from acdtask.cube.model import Dataset, Record, Slice, Variable
from acdtask.jobs.contract import Plan
from acdtask.jobs.products import MonitorTile, change_variable, z_variable

__all__ = ["DateWork", "TileWork", "days_of", "monitor_tile"]


class DateWork(BaseModel):
    """A date to monitor. `start` is the first date of the pair; `folder` holds its products."""

    date: str
    datetime: datetime
    start: datetime | None
    folder: str
    records: list[str]
    aoi: str
    area: dict[str, Any]
    method: str

    @property
    def record(self) -> Record:
        """The record that the date's products belong to."""
        tags = {
            "acd:job": "monitor",
            "acd:aoi": self.aoi,
            "acd:monitor": self.method,
            "acd:content": self.folder.rpartition("/")[2],
        }
        if self.start is not None:
            tags["start_datetime"] = self.start.isoformat()
        name = f"{self.aoi}/monitor/{self.method}/{self.date}"
        return Record(name=name, datetime=self.datetime, tags=tags, footprint=self.area)


class TileWork(BaseModel):
    """A tile, its baseline, and its image of each date."""

    tile: Tile
    mean: Dataset
    standard_deviation: Dataset
    count: Dataset
    images: list[Slice]

    def part(self, date: str) -> str:
        """The name of what a round says of this tile and date."""
        return f"{date}/{self.tile.j}_{self.tile.i}"


def days_of(plan: Plan) -> dict[str, DateWork]:
    """The dates of a plan."""
    return {raw["date"]: DateWork.model_validate(raw) for raw in plan.content["dates"]}


def monitor_tile(work: TileWork, image: Slice, day: DateWork, variable: Variable, instance: str) -> MonitorTile:
    """Where the products of a tile and date lie."""
    tile = work.tile

    def dataset(one: Variable, file: str) -> Dataset:
        return Dataset(
            record_id=day.record.id,
            variable=one.name,
            instance=instance,
            uri=f"{day.folder}/{tile.i}_{tile.j}_{file}.tif",
            bands=tuple(range(1, len(one.bands) + 1)),
            dformat=one.dformat,
            grid=tile.grid,
            layout=tile.layout,
            cell=tile.cell,
        )

    z, change = dataset(z_variable(variable), "z"), dataset(change_variable(variable), "change")
    return MonitorTile(tile=tile, image=image, z=z, change=change)
