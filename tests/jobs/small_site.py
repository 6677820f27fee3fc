"""A small site: a quiet scene, and a square in it that loses coherence. Its images take no second to judge."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.warp import transform_bounds

from acdtask.engine.local import LocalOutcome, run_locally
from acdtask.engine.processes import WorkerPool
from acdtask.engine.stages import open_site
from acdtask.jobs.baseline.job import BaselineJob
from acdtask.jobs.baseline.settings import BaselineSettings
from acdtask.jobs.contract import Job, Settings
from acdtask.jobs.ingest.job import IngestJob
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.monitor.job import MonitorJob
from acdtask.jobs.monitor.settings import MonitorSettings
from acdtask.raster.grid import Layout, RegularGrid
from tests.jobs.rasters import CRS, ORIGIN, write_tiff

SIZE, RESOLUTION, LAYOUT = 48, 20.0, "utm"
FIRST, STEP = date(2020, 1, 4), 12


def ends(index: int) -> datetime:
    """The last moment of the day on which a pair ends."""
    day = FIRST + timedelta(days=STEP * (index + 1))
    return datetime(day.year, day.month, day.day, 23, tzinfo=UTC)


def steady(change_from: int, drop: float = 0.4, side: int = 30, noise: float = 0.03) -> Callable[[int], NDArray[Any]]:
    """Pixels of a quiet scene, with a square of this side that loses coherence from that image on."""
    base = np.random.default_rng(99).uniform(0.5, 0.8, (SIZE, SIZE))

    def pixels(index: int) -> NDArray[Any]:
        image = base + np.random.default_rng(index).normal(0, noise, base.shape)
        if index >= change_from:
            image[8 : 8 + side, 8 : 8 + side] -= drop
        return np.clip(image, 0.01, 0.99).astype(np.float32)

    return pixels


def write_images(folder: Path, count: int, pixels: Callable[[int], NDArray[Any]], first: int = 0) -> Path:
    """Pairs of twelve days, one after the other."""
    for index in range(first, count):
        start = FIRST + timedelta(days=STEP * index)
        name = f"S1_{start:%Y%m%d}_{start + timedelta(days=STEP):%Y%m%d}_VV.tif"
        write_tiff(folder / name, pixels(index))
    return folder


def write_aoi(path: Path, west: float = 0, south: float = SIZE, east: float = SIZE, north: float = 0) -> Path:
    """An AOI in pixels of the scene, from its upper left corner: all of it, if nothing is given."""
    x, y = ORIGIN
    bounds = (x + west * RESOLUTION, y - south * RESOLUTION, x + east * RESOLUTION, y - north * RESOLUTION)
    w, s, e, n = transform_bounds(CRS, "EPSG:4326", *bounds)
    ring = [[w, s], [e, s], [e, n], [w, n], [w, s]]
    body = {"type": "Polygon", "coordinates": [ring], "name": "site", "start_time": "2020-01-01T00:00:00Z"}
    path.write_text(json.dumps({**body, "end_time": "2030-01-01T00:00:00Z"}))
    return path


def make_cube(folder: Path, count: int, pixels: Callable[[int], NDArray[Any]], cell: int = 24, **ingest: Any) -> Path:
    """A cube with images and a layout; `folder` also gets the images and aoi.json."""
    cube = folder / "cube"
    run(IngestJob(), IngestSettings(source=str(write_images(folder / "images", count, pixels)), **ingest), cube)
    grid = RegularGrid(crs=CRS, resolution=RESOLUTION, ox=ORIGIN[0], oy=ORIGIN[1], cell_size=cell)
    open_site(str(cube)).cube.add_layout(Layout(name=LAYOUT, grid=grid))
    write_aoi(folder / "aoi.json")
    return cube


def run(job: Job[Any, Any], settings: Settings, cube: Path) -> LocalOutcome:
    """A job in this process."""
    with WorkerPool(0) as pool:
        return run_locally(job, settings, str(cube), pool=pool, progress=False)


def baseline(cube: Path, **settings: Any) -> LocalOutcome:
    """The baseline of the cube's AOI, for the method standard if no other is given. The monitor follows it."""
    given = {"aoi": str(cube.parent / "aoi.json"), "layout": LAYOUT, "profile": "standard", **settings}
    return run(BaselineJob(), BaselineSettings.model_validate(given), cube)


def monitor(cube: Path, **settings: Any) -> LocalOutcome:
    """Monitor the cube's AOI."""
    return run(MonitorJob(), MonitorSettings(aoi=str(cube.parent / "aoi.json"), layout=LAYOUT, **settings), cube)
