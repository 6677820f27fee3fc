"""What the tests of a room are made of: names of its own, containers that it can read, and what it cannot do."""

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
from acdtask.raster.cog import write_cog
from acdtask.raster.data_format import DataFormat, Pixels
from acdtask.raster.grid import Grid, Layout, RegularGrid, Tile
from acdtask.storage.store import Store
from tests.cube import builders as make

__all__ = ["CANNOT", "KINDS", "WIDE", "Ability", "Kind", "Room"]

Kind = Literal["local", "serve", "geocube"]
Ability = Literal["int64", "lattice", "nodata", "opening", "outlines", "slashes", "ties", "two_records", "wire"]
KINDS: tuple[Kind, ...] = ("local", "serve", "geocube")

CANNOT: dict[Kind, dict[Ability, str]] = {
    "local": {
        "opening": "it is told what a container holds by whoever wrote or opened it, and does not open it again",
        "wire": "its pixels come out of files, and go over no wire",
    },
    "serve": {
        "int64": "Geocube's protocol has no 64-bit integers",
        "slashes": "Geocube's instances have no '/' in their names",
    },
    "geocube": {
        "int64": "Geocube's protocol has no 64-bit integers",
        "lattice": "Geocube's gdalwarp places pixels that it resamples by the request (docs/decisions/0006)",
        "nodata": "Geocube clamps nodata of a container to the variable's type, where pixels may have that value",
        "outlines": "Geocube finds files by outlines on the globe, and those that only touch a tile too",
        "slashes": "Geocube's instances have no '/' in their names",
        "ties": "Geocube orders records by datetime alone, so a page may cut those of one datetime anywhere",
        "two_records": "Geocube 1.0.3 cannot put two records into one container (GEOCUBE_CONSOLIDATES=1 if yours can)",
    },
}
WIDE: dict[Kind, int] = {"local": 1, "serve": 1, "geocube": 3}
"""How many steps of quantisation pixels of a wide kernel (lanczos, cubic spline) may lie beside the exact ones: where
it reprojects, a Geocube's gdalwarp stretches such kernels by a ratio that it estimates from the extents."""

if os.environ.get("GEOCUBE_CONSOLIDATES") == "1":
    del CANNOT["geocube"]["two_records"]
"""What a room cannot do, and why; a test that needs it (`pytest.mark.needs`) is not made for that room."""

Tiles: TypeAlias = Callable[[BaseGeometry, Layout], list[Tile]]


@dataclass(frozen=True)
class Room:
    """A cube and what a test puts into it.

    Attributes:
        folder: containers put here can be read by the room.
        tiles: the cells of a layout that an area needs, as the room finds them.
        reopen: the same cube by another connection; its settings are given by name. None without a server.
        downloader: address of a downloader that reads the same files; empty without one.
        prefix: what every name begins with, so that others may use the same server at the same time.
    """

    kind: Kind
    cube: Cube
    folder: Path
    tiles: Tiles
    reopen: Callable[..., Cube] | None = None
    downloader: str = ""
    prefix: str = field(default_factory=lambda: f"cf{uuid.uuid4().hex[:10]}")

    def name(self, name: str) -> str:
        """A name that no other test has."""
        return f"{self.prefix}-{name}"

    def mine(self, names: list[str]) -> list[str]:
        """Those of the names that this test gave, without the prefix."""
        return [name.removeprefix(f"{self.prefix}-") for name in names if name.startswith(f"{self.prefix}-")]

    def variable(self, name: str = "CoherenceVV", **changes: Any) -> Variable:
        """A variable that is in the cube."""
        variable = make.COHERENCE.model_copy(update={"name": self.name(name)} | changes)
        self.cube.add_variable(variable)
        return variable

    def instance(self, of: Variable | None = None, name: str = "master") -> Instance:
        """An instance that is in the cube."""
        instance = Instance(variable=(of or self.variable()).name, name=name)
        self.cube.add_instance(instance)
        return instance

    def layout(self, name: str = "utm32", **changes: Any) -> Layout:
        """A layout that is in the cube: cells of 64 px of the grid of `make.grid`."""
        fields = {"crs": "EPSG:32632", "resolution": 20, "cell_size": 64, "ox": 400000, "oy": 5600000} | changes
        layout = Layout(name=self.name(name), grid=RegularGrid(**fields))
        self.cube.add_layout(layout)
        return layout

    def record(self, number: int = 0, **changes: Any) -> Record:
        """A record that is not in the cube yet; `number` counts passes of six days."""
        record = make.record(number, **changes)
        return record.model_copy(update={"name": self.name(record.name)})

    def records(self, count: int, **changes: Any) -> list[Record]:
        """Records that are in the cube."""
        records = [self.record(number, **changes) for number in range(count)]
        self.cube.index(records, [])
        return records

    def container(self, record: Record, instance: Instance, pixels: Pixels, of: Grid, **changes: Any) -> Dataset:
        """Write pixels (height, width) or (bands, height, width) to a file, and return a dataset of it."""
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
        """Write pixels as `container` does, and index them with their record."""
        dataset = self.container(record, instance, pixels, of, **changes)
        self.cube.index([record], [dataset])
        return dataset

    def stack(self, instance: Instance, images: list[Pixels], of: Grid, **changes: Any) -> list[Record]:
        """Index images of an instance, one a record; the records."""
        records = [self.record(number) for number in range(len(images))]
        datasets = [
            self.container(record, instance, pixels, of, **changes)
            for record, pixels in zip(records, images, strict=True)
        ]
        self.cube.index(records, datasets)
        return records

    def images(self, instance: Instance, on: Grid, *groups: tuple[str, ...], **changes: Any) -> list[Image]:
        """Images of an instance, whole."""
        request = CubeRequest(variable=instance.variable, instance=instance.name, grid=on, groups=groups, **changes)
        return list(self.cube.images(request))

    def image(self, instance: Instance, on: Grid, *records: Record, **changes: Any) -> Image:
        """The image of one group."""
        (image,) = self.images(instance, on, tuple(record.id for record in records), **changes)
        return image


def dformat(dtype: Any, **changes: Any) -> DataFormat:
    """A format of a data type: 0..100, nodata the greatest number for unsigned types, else -1."""
    nodata = 255 if dtype.startswith("u") else -1
    return DataFormat(**({"dtype": dtype, "nodata": nodata, "min": 0, "max": 100} | changes))
