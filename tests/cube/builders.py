"""Records, datasets and images for tests of the cube."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from acdtask.cube.model import Dataset, Instance, Record, Slice, Variable
from acdtask.raster.data_format import DataFormat, Pixels
from acdtask.raster.grid import Grid
from acdtask.storage.store import Store
from tests.raster.cogs import write_cog

COHERENCE = Variable(name="CoherenceVV", dformat=DataFormat(dtype="int16", nodata=-1, min=0, max=1000), scale=0.001)
MASTER = Instance(variable="CoherenceVV", name="master")
START = datetime(2021, 1, 1, tzinfo=UTC)


def box(west: float, south: float, east: float, north: float) -> dict[str, Any]:
    return geojson(shapely.box(west, south, east, north))


def geojson(shape: BaseGeometry) -> dict[str, Any]:
    return dict(json.loads(shapely.to_geojson(shape)))


def record(number: int, **changes: Any) -> Record:
    fields = {
        "name": f"S1/{number:03d}",
        "datetime": START + timedelta(days=6 * number),
        "tags": {"orbit": "37"},
        "footprint": box(7, 50, 8, 51),
    }
    return Record(**(fields | changes))


def dataset(of: Record, uri: str, **changes: Any) -> Dataset:
    fields = {
        "record_id": of.id,
        "variable": "CoherenceVV",
        "instance": "master",
        "uri": uri,
        "dformat": COHERENCE.dformat,
        "grid": grid(),
    }
    return Dataset(**(fields | changes))


def grid(width: int = 300, height: int = 200, **changes: Any) -> Grid:
    fields = {"crs": "EPSG:32632", "transform": (20, 0, 400000, 0, -20, 5600000), "width": width, "height": height}
    return Grid(**(fields | changes))


def image(of: Grid, seed: int = 0, low: int = 0) -> Pixels:
    """Smooth ground and noise, int16 in 0..1000, shape (height, width)."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[: of.height, : of.width]
    ground = 500 + 300 * np.sin(rows / 37) * np.cos(columns / 23)
    return np.asarray(np.clip(ground + random.normal(0, 40, of.shape), low, 1000), dtype="int16")


def one_slice(*datasets: Dataset) -> Slice:
    return Slice(label="2021-01-07", datasets=datasets)


def put_image(store: Store, key: str, pixels: Pixels, of: Grid, **changes: Any) -> Dataset:
    """Write pixels (height, width) or (bands, height, width) as a COG, and return its dataset."""
    bands = pixels if pixels.ndim == 3 else pixels[np.newaxis]
    fields: dict[str, Any] = {"dformat": COHERENCE.dformat, "bands": tuple(range(1, len(bands) + 1))} | changes
    write_cog(store, key, bands, of, nodata=fields["dformat"].nodata)
    return dataset(record(0), key, grid=of, **fields)
