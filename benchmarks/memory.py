"""Peak memory of a baseline run on 4096 x 4096 px, with 60 and with 200 dates: a real run in worker processes."""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import rasterio
from rasterio import Affine

from acdtask.cube.model import Addition, Dataset, Instance, Record, Variable
from acdtask.engine.local import run_locally
from acdtask.engine.processes import WorkerPool
from acdtask.engine.stages import open_site
from acdtask.jobs.baseline.job import BaselineJob
from acdtask.jobs.baseline.settings import BaselineSettings
from acdtask.raster.data_format import DataFormat
from acdtask.raster.grid import Grid, Layout, RegularGrid
from acdtask.raster.tiling import footprint

SIZE, CELL, WORKERS, DIFFERENT = 4096, 1024, 2, 6
FIRST = datetime(2020, 1, 1, tzinfo=UTC)


def baseline_peak(dates: int, size: int = SIZE) -> tuple[float, float]:
    """(Peak MiB of this process and its workers together, seconds) of a baseline of that many images of size x size px.

    DIFFERENT images of noise are made; each date is a record of its own with a copy of one of them.
    """
    with tempfile.TemporaryDirectory() as folder:
        cube = Path(folder) / "cube"
        _make_cube(Path(folder), cube, dates, size)
        settings = BaselineSettings(aoi=str(Path(folder) / "aoi.json"), layout="l")
        with _PeakMemory() as peak, WorkerPool(WORKERS) as pool:
            outcome = run_locally(BaselineJob(), settings, str(cube), pool=pool, progress=False)
        return peak.mib, outcome.seconds


def _make_cube(folder: Path, cube: Path, dates: int, size: int) -> None:
    variable = Variable(name="CoherenceVV", dformat=DataFormat(dtype="int16", nodata=-1, min=0, max=1000), scale=0.001)
    layout = Layout(name="l", grid=RegularGrid(crs="EPSG:32632", resolution=20, cell_size=min(CELL, size // 2)))
    grid = layout.pixel_grid(-276 * CELL, 16 * CELL, size, size)
    images = [_write_image(folder / f"{number}.tif", grid, number) for number in range(DIFFERENT)]
    outline = footprint(grid)
    records = [Record(name=f"r{k}", datetime=FIRST + timedelta(days=k), footprint=outline) for k in range(dates)]
    datasets = [
        Dataset(
            record_id=record.id,
            variable=variable.name,
            instance="master",
            uri=str(_copy_for_date(images[k % DIFFERENT], k)),
            dformat=variable.dformat,
            grid=grid,
        )
        for k, record in enumerate(records)
    ]
    open_site(str(cube)).create_cube().commit(
        Addition(
            records,
            datasets,
            variables=[variable],
            instances=[Instance(variable=variable.name, name="master")],
            layouts=[layout],
        )
    )
    ring = outline["coordinates"][0]
    inner = [[x * 0.9999 + ring[0][0] * 0.0001, y * 0.9999 + ring[0][1] * 0.0001] for x, y in ring]
    times = {"start_time": FIRST.isoformat(), "end_time": (FIRST + timedelta(days=dates)).isoformat()}
    aoi = {"type": "Polygon", "coordinates": [inner], "name": "memory", **times}
    (folder / "aoi.json").write_text(json.dumps(aoi))


def _copy_for_date(image: Path, date: int) -> Path:
    """The image under a name of its own: a file belongs to one record."""
    copy = image.with_name(f"date-{date}.tif")
    copy.hardlink_to(image)
    return copy


def _write_image(path: Path, grid: Grid, seed: int) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 1000, grid.shape, np.int16)
    profile = {"driver": "GTiff", "dtype": "int16", "count": 1, "nodata": -1}
    profile |= {"height": grid.height, "width": grid.width}
    profile |= {"crs": grid.crs, "transform": Affine(*grid.transform), "tiled": True, "compress": "zstd"}
    with rasterio.open(path, "w", **profile, blockxsize=256, blockysize=256) as raster:
        raster.write(pixels, 1)
    return path


class _PeakMemory:
    """Samples the memory (PSS) of this process and its children; what was there before counts too."""

    def __init__(self) -> None:
        self.mib = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> _PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.is_set():
            self.mib = max(self.mib, sum(_pss(pid) for pid in _family(os.getpid())) / 1024)
            time.sleep(0.05)


def _family(root: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{root}/task").iterdir())
        children = [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
    except OSError:  # it ended meanwhile
        return []
    return [root, *(pid for child in children for pid in _family(child))]


def _pss(pid: int) -> int:
    """Kibibytes of a process; pages that several share count in part."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
