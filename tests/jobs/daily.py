"""An area of one tile that gets an image a day, and a consolidation after each."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
from shapely.geometry import shape

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import Addition, Dataset, Record, Slice
from acdtask.engine.local import LocalOutcome, run_locally
from acdtask.engine.processes import WorkerPool
from acdtask.jobs.consolidate.job import ConsolidateJob
from acdtask.jobs.consolidate.settings import ConsolidateSettings
from acdtask.raster.data_format import Pixels
from acdtask.raster.grid import Grid, Layout, RegularGrid
from acdtask.raster.tiling import footprint
from tests.cube.builders import COHERENCE, MASTER, START, dataset, geojson, grid, image, put_image

SIZE = 64
GRID = grid(SIZE, SIZE)
LAYOUT = Layout(name="utm", grid=RegularGrid(crs="EPSG:32632", resolution=20, cell_size=SIZE, ox=400000, oy=5600000))
TILE = LAYOUT.tile(0, 0)
OUTLINE = shape(footprint(GRID))


def record_of(day: int) -> Record:
    return Record(name=f"S1/{day:03d}", datetime=START + timedelta(days=day), tags={}, footprint=geojson(OUTLINE))


def pixels_of(day: int, of: Grid = GRID) -> Pixels:
    pixels = image(of, seed=day)
    pixels[: day % 7] = -1
    return pixels


def make_area(folder: Path, name: str = "daily") -> str:
    """The address of a new cube; its area of interest lies beside it."""
    cube = LocalCube.create(str(folder / "cube"))
    cube.commit(Addition(variables=[COHERENCE], instances=[MASTER], layouts=[LAYOUT]))
    write_aoi(folder / "aoi.json", name)
    return str(folder / "cube")


def write_aoi(path: Path, name: str, first: int = 0, last: int = 3650) -> None:
    payload = {
        "name": name,
        "type": "Feature",
        "geometry": geojson(OUTLINE.buffer(-0.001)),
        "properties": {},
        "start_time": (START + timedelta(days=first)).isoformat(),
        "end_time": (START + timedelta(days=last)).isoformat(),
    }
    path.write_text(json.dumps(payload))


def bring(address: str, days: Iterable[int]) -> None:
    """Index images, as ingest does."""
    cube = LocalCube.open(address)
    for day in days:
        stored = put_image(cube.store, f"pixels/{day}.tif", pixels_of(day), GRID)
        cube.index([record_of(day)], [dataset(record_of(day), stored.uri, grid=GRID)])


def consolidation(address: str, **settings: object) -> ConsolidateSettings:
    return ConsolidateSettings(aoi=str(Path(address).parent / "aoi.json"), layout=LAYOUT.name, **settings)


def consolidate(address: str, **settings: object) -> LocalOutcome:
    with WorkerPool(0) as pool:
        return run_locally(ConsolidateJob(), consolidation(address, **settings), address, pool=pool, progress=False)


def copies(address: str) -> list[Dataset]:
    return [dataset for dataset in LocalCube.open(address).datasets("CoherenceVV", "master") if dataset.is_copy]


def sizes(address: str) -> list[int]:
    """How many records the containers of the tile have, as the index says."""
    uris = [dataset.uri for dataset in copies(address)]
    return sorted((uris.count(uri) for uri in set(uris)), reverse=True)


def slices_of(address: str, days: Sequence[int]) -> list[Slice]:
    """What a job plans to read of the tile."""
    ids = [record_of(day).id for day in days]
    (found,) = LocalCube.open(address).where("CoherenceVV", "master", ids, [TILE.grid], TILE.layout)
    return [Slice(label=record_id, datasets=tuple(d for d in found if d.record_id == record_id)) for record_id in ids]


def stack(address: str, days: Sequence[int]) -> Pixels:
    return LocalCube.open(address).read(GRID, slices_of(address, days), COHERENCE)


def expected(days: Sequence[int]) -> Pixels:
    return np.stack([pixels_of(day) for day in days])


if __name__ == "__main__":
    for each in range(int(sys.argv[2])):
        bring(sys.argv[1], [each])
        consolidate(sys.argv[1], end=record_of(each).datetime)
