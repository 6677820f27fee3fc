"""Rooms: cubes of one kind with helpers for tests, and the abilities that a kind lacks."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from shapely.geometry.base import BaseGeometry

from acdtask.cube.model import Cube, CubeRequest, Dataset, Image, Instance, Record, Variable
from acdtask.raster.data_format import DataFormat, Pixels
from acdtask.raster.grid import Grid, Layout, RegularGrid, Tile
from acdtask.storage.store import Store
from tests.cube import builders as make
from tests.raster.cogs import write_cog

__all__ = ["CANNOT", "KINDS", "WIDE", "Ability", "Kind", "Room"]

Kind = Literal["local", "serve", "geocube"]
Ability = Literal["int64", "lattice", "nodata", "opening", "outlines", "slashes", "ties", "two_records", "wire"]
KINDS: tuple[Kind, ...] = ("local", "serve", "geocube")

CANNOT: dict[Kind, dict[Ability, str]] = {
    "local": {
        "opening": "it trusts the metadata of a dataset, and does not open its container",
        "wire": "its pixels come from files, and not over a network",
    },
    "serve": {
        "int64": "Geocube's protocol has no 64-bit integers",
        "slashes": "Geocube's instances have no '/' in their names",
    },
    "geocube": {
        "int64": "Geocube's protocol has no 64-bit integers",
        "lattice": "Geocube's gdalwarp places pixels that it resamples by the request (docs/decisions/0006)",
        "nodata": "Geocube clamps nodata of a container to the variable's type, where pixels may have that value",
        "outlines": "Geocube finds files by outlines on the globe, including those that only touch a tile",
        "slashes": "Geocube's instances have no '/' in their names",
        "ties": "Geocube orders records by datetime only, so a page may split those of one datetime anywhere",
        "two_records": "Geocube 1.0.3 cannot put two records into one container (GEOCUBE_CONSOLIDATES=1 if yours can)",
    },
}
WIDE: dict[Kind, int] = {"local": 1, "serve": 1, "geocube": 3}
"""Accepted deviation of pixels from exact ones for wide kernels (lanczos, cubic spline), in steps of quantisation: when
reprojecting, a Geocube's gdalwarp stretches such kernels by a ratio that it estimates from the extents."""

if os.environ.get("GEOCUBE_CONSOLIDATES") == "1":
    del CANNOT["geocube"]["two_records"]
"""Abilities that a room lacks, with the reason. Tests that need one (`pytest.mark.needs`) are not run in that room."""

Tiles: TypeAlias = Callable[[BaseGeometry, Layout], list[Tile]]


@dataclass(frozen=True)
class Room:
    """A cube for tests, with helpers.

    Attributes:
        folder: folder for containers, which the room can read.
        tiles: returns the cells of a layout that intersect an area, computed by the room.
        reopen: opens the same cube with another connection, given its settings; None without a server.
        downloader: address of a downloader that reads the same files; empty if there is none.
        prefix: prefix of all names, so that others can use the same server at the same time.
    """

    kind: Kind
    cube: Cube
    folder: Path
    tiles: Tiles
    reopen: Callable[..., Cube] | None = None
    downloader: str = ""
    prefix: str = field(default_factory=lambda: f"cf{uuid.uuid4().hex[:10]}")

    def name(self, name: str) -> str:
        """A unique name."""
        return f"{self.prefix}-{name}"

    def mine(self, names: list[str]) -> list[str]:
        """The names of this test, without the prefix."""
        return [name.removeprefix(f"{self.prefix}-") for name in names if name.startswith(f"{self.prefix}-")]

    def variable(self, name: str = "CoherenceVV", **changes: Any) -> Variable:
        """Add a variable."""
        variable = make.COHERENCE.model_copy(update={"name": self.name(name)} | changes)
        self.cube.add_variable(variable)
        return variable

    def instance(self, of: Variable | None = None, name: str = "master") -> Instance:
        """Add an instance."""
        instance = Instance(variable=(of or self.variable()).name, name=name)
        self.cube.add_instance(instance)
        return instance

    def layout(self, name: str = "utm32", **changes: Any) -> Layout:
        """Add a layout: cells of 64 px on the grid of `make.grid`."""
        fields = {"crs": "EPSG:32632", "resolution": 20, "cell_size": 64, "ox": 400000, "oy": 5600000} | changes
        layout = Layout(name=self.name(name), grid=RegularGrid(**fields))
        self.cube.add_layout(layout)
        return layout

    def record(self, number: int = 0, **changes: Any) -> Record:
        """Make a record without adding it; `number` counts passes, six days apart."""
        record = make.record(number, **changes)
        return record.model_copy(update={"name": self.name(record.name)})

    def records(self, count: int, **changes: Any) -> list[Record]:
        """Add records."""
        records = [self.record(number, **changes) for number in range(count)]
        self.cube.index(records, [])
        return records

    def container(self, record: Record, instance: Instance, pixels: Pixels, of: Grid, **changes: Any) -> Dataset:
        """Write pixels (height, width) or (bands, height, width) to a file, and return its dataset."""
        bands = pixels if pixels.ndim == 3 else pixels[np.newaxis]
        dformat = changes.pop("dformat", make.COHERENCE.dformat)
        path = self.folder / self.prefix / f"{uuid.uuid4().hex}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_cog(Store.at(str(path.parent)), path.name, bands, of, nodata=dformat.nodata)
        fields: dict[str, Any] = {
            "record_id": record.id,
            "variable": instance.variable,
            "instance": instance.name,
            "uri": str(path),
            "bands": tuple(range(1, len(bands) + 1)),
            "dformat": dformat,
            "grid": of,
        }
        return Dataset(**(fields | changes))

    def put(self, record: Record, instance: Instance, pixels: Pixels, of: Grid, **changes: Any) -> Dataset:
        """Write pixels like `container`, and index them with their record."""
        dataset = self.container(record, instance, pixels, of, **changes)
        self.cube.index([record], [dataset])
        return dataset

    def stack(self, instance: Instance, images: list[Pixels], of: Grid, **changes: Any) -> list[Record]:
        """Index images of an instance, one for each record, and return the records."""
        records = [self.record(number) for number in range(len(images))]
        datasets = [
            self.container(record, instance, pixels, of, **changes)
            for record, pixels in zip(records, images, strict=True)
        ]
        self.cube.index(records, datasets)
        return records

    def images(self, instance: Instance, on: Grid, *groups: tuple[str, ...], **changes: Any) -> list[Image]:
        """Read images of an instance."""
        request = CubeRequest(variable=instance.variable, instance=instance.name, grid=on, groups=groups, **changes)
        return list(self.cube.images(request))

    def image(self, instance: Instance, on: Grid, *records: Record, **changes: Any) -> Image:
        """Read the image of one group."""
        (image,) = self.images(instance, on, tuple(record.id for record in records), **changes)
        return image


def dformat(dtype: Any, **changes: Any) -> DataFormat:
    """A data format with the range 0..100; nodata is 255 for unsigned types, otherwise -1."""
    nodata = 255 if dtype.startswith("u") else -1
    return DataFormat(**({"dtype": dtype, "nodata": nodata, "min": 0, "max": 100} | changes))
