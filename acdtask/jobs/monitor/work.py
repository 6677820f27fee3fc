"""What a shard of the monitor knows, and what its rounds hand to each other."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections import defaultdict
from typing import Any

from pydantic import BaseModel

from acdtask.cube.grid import Tile
from acdtask.cube.model import Dataset, Record, Slice, Variable
from acdtask.jobs.contract import LeftOutShard, Plan
from acdtask.jobs.filenames import cell_part, date_part, product_stem
from acdtask.jobs.products import PARTIAL, MonitorTile, change_variable, z_variable
from acdtask.jobs.quarantine import QuarantinedTile

__all__ = [
    "WITHOUT_BASELINE",
    "ImageWork",
    "Places",
    "TileWithoutBaseline",
    "TileWork",
    "images_of",
    "monitor_tile",
    "partial_place",
    "quarantined_tiles",
]

WITHOUT_BASELINE = "without baseline"
"""In the content of a plan: tiles that the baseline should have and has not; only there if there are some."""


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

    def stem(self, variable: Variable, product: str = "", tile: Tile | None = None) -> str:
        """What a file of the image's products is called, without its ending."""
        cell = cell_part(tile) if tile else ""
        return product_stem(self.aoi, variable.name, product, date_part(self.label), cell)


class TileWork(BaseModel):
    """A tile with its baseline and images, for reading it with the halo of the method.

    `mean`, `standard_deviation` and `count` are those of the tile, then those of its neighbours with a baseline.
    """

    tile: Tile
    mean: tuple[Dataset, ...]
    standard_deviation: tuple[Dataset, ...]
    count: tuple[Dataset, ...]
    images: list[Slice]

    def part(self, label: str) -> str:
        """The name of what a round says of this tile and image."""
        return f"{label}/{self.tile.j}_{self.tile.i}"


def images_of(plan: Plan) -> dict[str, ImageWork]:
    """The images of a plan, by label."""
    return {raw["label"]: ImageWork.model_validate(raw) for raw in plan.content["images"]}


class Places(BaseModel):
    """Where below the image's folder z and change of a tile lie: empty, or the place of a partial image."""

    z: str = ""
    change: str = ""


class TileWithoutBaseline(BaseModel):
    """A tile that was left out of the baseline, and the labels of the images that have data there."""

    tile: QuarantinedTile
    images: list[str]


def quarantined_tiles(plan: Plan, left_out: tuple[LeftOutShard, ...]) -> dict[str, tuple[QuarantinedTile, ...]]:
    """The tiles that images have to do without, by label of the image; only the labels of partial images."""
    found: dict[str, list[QuarantinedTile]] = defaultdict(list)
    for raw in plan.content.get(WITHOUT_BASELINE, []):
        without = TileWithoutBaseline.model_validate(raw)
        for label in without.images:
            found[label].append(without.tile)
    for one in left_out:
        for work in map(TileWork.model_validate, one.shard.work["tiles"]):
            for image in work.images:
                tile = QuarantinedTile(cell=work.tile.cell, job="monitor", failure=one.why.failure)
                found[image.label].append(tile)
    return {label: tuple(sorted(tiles, key=lambda tile: tile.cell)) for label, tiles in found.items()}


def partial_place(*contents: bytes) -> str:
    """Where below an image's folder that lies which was made from these contents while tiles were missing."""
    digest = hashlib.sha256()
    for content in contents:
        digest.update(hashlib.sha256(content).digest())
    return f"{PARTIAL}/{digest.hexdigest()[:12]}/"


def monitor_tile(work: TileWork, of: ImageWork, variable: Variable, instance: str, places: Places) -> MonitorTile:
    """Where the products of a tile and image lie."""
    tile = work.tile

    def dataset(one: Variable, file: str, place: str) -> Dataset:
        return Dataset(
            record_id=of.record.id,
            variable=one.name,
            instance=instance,
            uri=f"{of.folder}/{place}{of.stem(variable, file, tile)}.tif",
            bands=tuple(range(1, len(one.bands) + 1)),
            dformat=one.dformat,
            grid=tile.grid,
            layout=tile.layout,
            cell=tile.cell,
        )

    z = dataset(z_variable(variable), "z", places.z)
    change = dataset(change_variable(variable), "change", places.change)
    return MonitorTile(tile=tile, z=z, change=change)
