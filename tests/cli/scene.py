"""Small scenes of coherence images, and a runner for commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.warp import transform_bounds

from acdtask.cli import main

CRS, SIZE, STEP = "EPSG:32632", 32, 20.0
WEST, NORTH = 346640.0, 5655340.0
NORTH_UP = Affine(STEP, 0, WEST, 0, -STEP, NORTH)
SOUTH_UP = Affine(STEP, 0, WEST, 0, STEP, NORTH - SIZE * STEP)

Pixels = NDArray[np.float32]
Run = Callable[..., tuple[int, str, str]]


def coherence(image: int, dropped: bool = False) -> Pixels:
    """An image of fixed ground and its own noise, with a square of lost coherence."""
    ground = np.random.default_rng(99).uniform(0.5, 0.8, (SIZE, SIZE))
    pixels = ground + np.random.default_rng(image).normal(0, 0.03, (SIZE, SIZE))
    if dropped:
        pixels[4:24, 4:24] -= 0.4
    return np.clip(pixels, 0.01, 0.99).astype("float32")


def write_images(
    folder: Path,
    count: int,
    *,
    first: date = date(2020, 1, 4),
    step: int = 12,
    dropped_from: int = 10_000,
    transform: Affine = NORTH_UP,
    crs: str = CRS,
    start: int = 0,
) -> list[Path]:
    """Write the images of consecutive pairs, S1_<first date>_<second date>.tif, with nodata 0."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number in range(start, start + count):
        begin = first + timedelta(days=step * number)
        path = folder / f"S1_{begin:%Y%m%d}_{begin + timedelta(days=step):%Y%m%d}.tif"
        profile: dict[str, Any] = {"driver": "GTiff", "dtype": "float32", "count": 1, "nodata": 0}
        with rasterio.open(path, "w", width=SIZE, height=SIZE, crs=crs, transform=transform, **profile) as file:
            file.write(coherence(number, number >= dropped_from), 1)
        files.append(path)
    return files


def write_area(path: Path, **fields: Any) -> str:
    """Write the area of the images as GeoJSON, with a name."""
    bounds = (WEST, NORTH - SIZE * STEP, WEST + SIZE * STEP, NORTH)
    west, south, east, north = transform_bounds(CRS, "EPSG:4326", *bounds)
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    path.write_text(json.dumps({"type": "Polygon", "coordinates": [ring], "name": "site", **fields}))
    return str(path)


def runner(capsys: pytest.CaptureFixture[str]) -> Run:
    """Make a function that runs a command in this process and returns exit status, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        texts = [str(argument) for argument in arguments]
        workers = ["--workers", "0"] if "local" in texts or (texts[:1] == ["watch"] and "--plan" not in texts) else []
        status = main(["--log", "text", "--quiet", *texts, *workers])
        return status, *capsys.readouterr()

    return run


def product(cube: Path, name: str) -> list[Pixels]:
    """The pixels of the products with this filename, in the order of their paths."""
    found = []
    for path in sorted((cube / "products").rglob(f"{name}*.tif")):
        with rasterio.open(path) as file:
            found.append(file.read(1))
    return found
