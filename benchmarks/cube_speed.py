"""Measure the throughput of reading a local cube, compared with plain rasterio: `python -m benchmarks.cube_speed`.

The cube has 24 tiles of 256 x 256 px and 30 dates of int16 coherence.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import rasterio
from numcodecs import blosc
from rasterio.windows import Window as RasterWindow
from scipy.ndimage import gaussian_filter
from shapely.geometry import box, mapping

from acdtask.cube.local.blocks import stored_blocks
from acdtask.cube.local.cube import LocalCube
from acdtask.cube.local.stack import StackWriter, array_name
from acdtask.cube.model import Addition, CubeRequest, Dataset, Instance, Outcome, Record, Variable
from acdtask.raster.cog import encode_cog
from acdtask.raster.data_format import DataFormat, Pixels
from acdtask.raster.grid import Layout, RegularGrid, Tile, Window
from benchmarks.quick import Section, machine, print_section

TILE = 256
ROWS, COLUMNS, DATES = 4, 6, 30
LAYOUT = Layout(name="tiles", grid=RegularGrid(crs="EPSG:32632", resolution=20, cell_size=TILE))
VARIABLE = Variable(name="CoherenceVV", dformat=DataFormat(dtype="int16", nodata=0, min=0, max=1000), scale=0.001)
FIRST_ROW, FIRST_COLUMN = -1100, 80
GEOCUBE = 72
"""MB/s of a Geocube server 1.0.3 over loopback with the same COGs, measured on a machine with two cores."""


@dataclass(frozen=True)
class Scene:
    """A cube with the same images as COGs (instance `cog`) and consolidated (instance `zarr`), and the images."""

    cube: LocalCube
    records: list[Record]
    tiles: list[Tile]
    images: Pixels

    def images_of(self, tile: Tile) -> Pixels:
        """The images of a tile, shape (time, y, x)."""
        row, column = self.offset(tile)
        return self.images[:, row : row + TILE, column : column + TILE]

    def offset(self, tile: Tile) -> tuple[int, int]:
        """First row and column of a tile in the images."""
        return (tile.j - FIRST_ROW) * TILE, (tile.i - FIRST_COLUMN) * TILE


def coherence(seed: int) -> Pixels:
    """Simulate coherence of fields, with noise correlated as in multilooked images, and some nodata pixels."""
    rng = np.random.default_rng(seed)
    shape = (ROWS * TILE, COLUMNS * TILE)
    ground = gaussian_filter(rng.uniform(0, 1, shape), 8)
    ground = 200 + 600 * (ground - ground.min()) / np.ptp(ground)
    images = np.empty((DATES, *shape), dtype=np.int16)
    for image in images:
        noise = gaussian_filter(rng.normal(size=shape), 0.7)
        image[...] = np.clip(ground + 60 * noise / noise.std(), 1, 1000)
        image[:, : rng.integers(0, TILE // 8)] = 0
    return images


def make_scene(folder: str) -> Scene:
    """Write the images as COGs and consolidated, as ingest and consolidate do."""
    cube, images = LocalCube.create(folder), coherence(7)
    records = [
        Record(
            name=f"S1/{date:03d}",
            datetime=datetime(2021, 1, 1, tzinfo=UTC) + timedelta(days=6 * date),
            footprint=mapping(box(6, 50, 8, 51)),
        )
        for date in range(DATES)
    ]
    whole = LAYOUT.pixel_grid(FIRST_ROW * TILE, FIRST_COLUMN * TILE, ROWS * TILE, COLUMNS * TILE)
    common = {"variable": VARIABLE.name, "dformat": VARIABLE.dformat}
    datasets = []
    for record, image in zip(records, images, strict=True):
        key = f"data/{record.name}.tif"
        cube.store.put(key, encode_cog(image[np.newaxis], whole, nodata=0, scale=VARIABLE.scale))
        datasets.append(Dataset(record_id=record.id, instance="cog", uri=key, grid=whole, **common))
    tiles = [LAYOUT.tile(FIRST_COLUMN + i, FIRST_ROW + j) for j in range(ROWS) for i in range(COLUMNS)]
    scene = Scene(cube, records, tiles, images)
    for tile in tiles:
        key = f"consolidated/{tile.i}_{tile.j}.zarr"
        writer = StackWriter(cube.store, key, tile.grid, records, VARIABLE)
        writer.write(Window(row=0, column=0, height=TILE, width=TILE), scene.images_of(tile))
        writer.finish()
        location = {"layout": tile.layout, "cell": tile.cell, "grid": tile.grid, "exchanged": True}
        datasets += [
            Dataset(record_id=record.id, instance="zarr", uri=key, subdir=str(number), **common, **location)
            for number, record in enumerate(records)
        ]
    instances = [Instance(variable=VARIABLE.name, name=name) for name in ("cog", "zarr")]
    cube.commit(Addition(records, datasets, [VARIABLE], instances, [LAYOUT]))
    return scene


def read_images(scene: Scene, instance: str, tiles: Sequence[Tile]) -> None:
    """Read tiles with LocalCube.images, one request per tile."""
    groups = tuple((record.id,) for record in scene.records)
    for tile in tiles:
        request = CubeRequest(variable=VARIABLE.name, instance=instance, grid=tile.grid, groups=groups)
        count = sum(image.outcome is Outcome.DATA for image in scene.cube.images(request))
        if count != DATES:
            raise RuntimeError(f"only {count} of {DATES} images have data")


def read_in_threads(scene: Scene, instance: str) -> None:
    """Read half of the tiles in each of two threads, as a server does."""
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda half: read_images(scene, instance, half), (scene.tiles[::2], scene.tiles[1::2])))


def read_with_rasterio(scene: Scene) -> None:
    """Read tiles with rasterio, each into one array."""
    for tile in scene.tiles:
        row, column = scene.offset(tile)
        stack = np.empty((DATES, TILE, TILE), dtype=np.int16)
        for number, record in enumerate(scene.records):
            with rasterio.open(scene.cube.store.gdal_path(f"data/{record.name}.tif")) as file:
                file.read(1, window=RasterWindow(column, row, TILE, TILE), out=stack[number])


def decompress_only(scene: Scene) -> Callable[[], None]:
    """Only decompress the same blocks in memory: the upper limit for any reader of these containers on one core."""
    store = scene.cube.store
    name, size = array_name(VARIABLE.name), TILE * TILE * np.dtype(np.int16).itemsize
    chunks = [memoryview(store.get(f"consolidated/{tile.i}_{tile.j}.zarr/{name}/c/0/0/0")) for tile in scene.tiles]
    blocks = [block[:-4] for chunk in chunks for block in stored_blocks(chunk, DATES, size) if block is not None]
    image = np.empty((TILE, TILE), dtype=np.int16)

    def run() -> None:
        for block in blocks:
            blosc.decompress(block, image)

    return run


def check(scene: Scene) -> None:
    """Check that both instances return exactly the pixels that were written."""
    groups = tuple((record.id,) for record in scene.records)
    for instance in ("cog", "zarr"):
        for tile in scene.tiles:
            request = CubeRequest(variable=VARIABLE.name, instance=instance, grid=tile.grid, groups=groups)
            pixels = np.stack([image.pixels for image in scene.cube.images(request) if image.pixels is not None])
            np.testing.assert_array_equal(pixels, scene.images_of(tile))


def measure(methods: dict[str, Callable[[], None]], rounds: int, size: float) -> Section:
    """Measure MB/s of each method in alternating rounds: best, median, and per second of processor time."""
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    busy: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(rounds):
        for name, run in methods.items():
            start, start_busy = time.perf_counter(), time.process_time()
            run()
            seconds[name].append(time.perf_counter() - start)
            busy[name].append(time.process_time() - start_busy)
    rows = []
    for name in methods:
        rates = size / min(seconds[name]), size / statistics.median(seconds[name]), size / min(busy[name])
        rows.append((name, *(f"{rate:.0f}" for rate in rates), f"{rates[0] / GEOCUBE:.1f}x"))
    title = f"Reading {size:.0f} MB of int16 pixels: {ROWS * COLUMNS} tiles of {TILE} px, {DATES} dates, MB/s"
    return Section(title, ("method", "best", "median", "per core", f"best / {GEOCUBE} MB/s of Geocube"), rows)


def main() -> None:
    """Make the cube, check it, and print the throughput."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        scene = make_scene(folder)
        check(scene)
        methods: dict[str, Callable[[], None]] = {
            "LocalCube.images, consolidated Zarr": lambda: read_images(scene, "zarr", scene.tiles),
            "the same, two concurrent requests": lambda: read_in_threads(scene, "zarr"),
            "LocalCube.images, COGs": lambda: read_images(scene, "cog", scene.tiles),
            "the same COGs, two concurrent requests": lambda: read_in_threads(scene, "cog"),
            "rasterio, the same COGs": lambda: read_with_rasterio(scene),
            "Blosc decompression only, the same blocks": decompress_only(scene),
        }
        print_section(measure(methods, arguments.rounds, scene.images.nbytes / 1e6))


if __name__ == "__main__":
    main()
