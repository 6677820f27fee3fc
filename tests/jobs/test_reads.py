"""What jobs read of consolidated containers, compared with the stored blocks that they need."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shapely.geometry import shape

from acdtask.change.methods import PROFILES
from acdtask.change.steps.step import halo_of
from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import Addition, Record
from acdtask.engine.local import LocalOutcome, run_locally
from acdtask.engine.processes import WorkerPool
from acdtask.jobs.baseline.job import BaselineJob
from acdtask.jobs.baseline.settings import BaselineSettings
from acdtask.jobs.consolidate.job import ConsolidateJob
from acdtask.jobs.consolidate.settings import ConsolidateSettings
from acdtask.jobs.contract import Job
from acdtask.jobs.monitor.job import MonitorJob
from acdtask.jobs.monitor.settings import MonitorSettings
from acdtask.jobs.report.job import ReportJob, ReportSettings
from acdtask.raster.data_format import Pixels
from acdtask.raster.grid import Layout, RegularGrid, Tile
from acdtask.raster.tiling import footprint
from acdtask.storage.store import Store
from tests.cube.builders import COHERENCE, MASTER, dataset, geojson, grid, image, put_image, record

BLOCK, CELL, SIZE = 256, 512, 1024
GRID = grid(SIZE, SIZE)
LAYOUT = Layout(name="utm", grid=RegularGrid(crs="EPSG:32632", resolution=20, cell_size=CELL, ox=400000, oy=5600000))
TILES = [LAYOUT.tile(i, j) for j in range(2) for i in range(2)]
OUTLINE = shape(footprint(GRID))
REFERENCE = 22
MOST = 1.5
"""Maximum of bytes read per byte needed."""


def record_of(day: int) -> Record:
    return record(day, tags={}, footprint=geojson(OUTLINE))


def pixels_of(day: int) -> Pixels:
    pixels = image(GRID, seed=day, low=1)
    if day >= REFERENCE:
        pixels[100:140, 100:140] //= 3
    return pixels


class Area:
    """A cube of four tiles, and what is read of its containers."""

    def __init__(self, address: str, folder: Path) -> None:
        self.address, self.aoi = address, folder / "aoi.json"
        cube = LocalCube.create(address)
        cube.commit(Addition(variables=[COHERENCE], instances=[MASTER], layouts=[LAYOUT]))
        start, end = (record(day).datetime.isoformat() for day in (0, 1000))
        area = {"type": "Feature", "geometry": geojson(OUTLINE.buffer(-0.001)), "properties": {}}
        self.aoi.write_text(json.dumps({"name": "reads", **area, "start_time": start, "end_time": end}))

    def bring(self, days: Iterable[int]) -> None:
        """Index images, and consolidate them."""
        cube = LocalCube.open(self.address)
        for day in days:
            stored = put_image(cube.store, f"pixels/{day}.tif", pixels_of(day), GRID)
            cube.index([record_of(day)], [dataset(record_of(day), stored.uri, grid=GRID)])
        self._run(ConsolidateJob(), ConsolidateSettings)

    def baseline(self, **settings: Any) -> LocalOutcome:
        """Make the baseline of the first images."""
        return self._run(BaselineJob(), BaselineSettings, end=date_of(REFERENCE - 1), **settings)

    def monitor(self, days: int, **settings: Any) -> LocalOutcome:
        """Monitor images up to this day."""
        return self._run(MonitorJob(), MonitorSettings, end=date_of(days - 1), **settings)

    def report(self) -> LocalOutcome:
        """Report all images that were monitored."""
        return self._run(ReportJob(), ReportSettings)

    def _run(self, job: Job[Any, Any], settings: Callable[..., Any], **given: Any) -> LocalOutcome:
        with WorkerPool(0) as pool:
            wanted = settings(aoi=str(self.aoi), layout=LAYOUT.name, **given)
            return run_locally(job, wanted, self.address, pool=pool, progress=False)

    def needed(self, days: Iterable[int], tiles: Iterable[Tile] = TILES, halo: int = 0) -> int:
        """Bytes of the stored blocks of some images that intersect tiles, each grown by a halo, as the index says."""
        cube = LocalCube.open(self.address)
        wanted = {record_of(day).id for day in days}
        blocks = {tile.cell: list(blocks_near(tile, halo)) for tile in tiles}
        size = 0
        sizes: dict[str, list[int]] = {}
        for copy in cube.datasets("CoherenceVV", "master", frozenset(wanted)):
            if copy.is_copy:
                i, j = (int(part) for part in copy.cell.split("/"))
                first = i * CELL // BLOCK, j * CELL // BLOCK
                for near in blocks.values():
                    for column, row in near:
                        inside = column - first[0], row - first[1]
                        if all(0 <= place < CELL // BLOCK for place in inside):
                            key = f"{copy.uri}/CoherenceVV/c/0/{inside[1]}/{inside[0]}"
                            if key not in sizes:
                                sizes[key] = block_sizes(cube.store.get(key))
                            size += sizes[key][int(copy.subdir)]
        return size


def block_sizes(chunk: bytes) -> list[int]:
    """The sizes of a chunk's blocks, as its index lists them: the first block begins where the index ends."""
    (first,) = struct.unpack_from("<Q", chunk)
    return list(struct.unpack(f"<{first // 16 * 2}Q", chunk[: first // 16 * 16])[1::2])


def blocks_near(tile: Tile, halo: int) -> Iterator[tuple[int, int]]:
    """Column and row, in blocks of the layout, of those that intersect a tile grown by a halo."""
    row, column = tile.origin
    for down in range((row - halo) // BLOCK, (row + CELL + halo - 1) // BLOCK + 1):
        for across in range((column - halo) // BLOCK, (column + CELL + halo - 1) // BLOCK + 1):
            yield across, down


def date_of(day: int) -> datetime:
    return record(day).datetime


@contextmanager
def reads_counted() -> Iterator[list[int]]:
    """Count the bytes that Store reads of containers, their metadata included."""
    sizes: list[int] = []
    find_buffer, find_ranges = Store.find_buffer, Store.find_ranges

    def buffer(self: Store, key: str) -> memoryview | None:
        data = find_buffer(self, key)
        if ".zarr" in key and data is not None:
            sizes.append(len(data))
        return data

    def ranges(self: Store, key: str, of: Any) -> list[memoryview] | None:
        parts = find_ranges(self, key, of)
        if parts is not None:
            sizes.extend(map(len, parts))
        return parts

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "find_buffer", buffer)
        patch.setattr(Store, "find_ranges", ranges)
        yield sizes


def test_jobs_read_little_more_than_the_blocks_that_they_need(place: str, tmp_path: Path) -> None:
    """The method measures the image first, so `monitor` goes twice over the tiles, and needs each block twice."""
    area = Area(place, tmp_path)
    dates = REFERENCE + 15
    area.bring(range(dates))
    ratios: dict[str, float] = {}
    with reads_counted() as sizes:
        area.baseline()
    ratios["baseline"] = sum(sizes) / area.needed(range(REFERENCE))
    with reads_counted() as sizes:
        area.monitor(REFERENCE + 7)
    ratios["first run"] = sum(sizes) / (2 * area.needed(range(REFERENCE, REFERENCE + 7)))
    with reads_counted() as sizes:
        area.report()
    ratios["report"] = sum(sizes) / area.needed(range(REFERENCE, REFERENCE + 7))
    with reads_counted() as sizes:
        area.monitor(dates, name="backfill")
    ratios["backfill"] = sum(sizes) / (2 * area.needed(range(REFERENCE, dates)))
    area.monitor(dates)
    area.report()
    area.bring([dates])
    with reads_counted() as sizes:
        area.monitor(dates + 1)
    ratios["day"] = sum(sizes) / (2 * area.needed([dates]))
    with reads_counted() as sizes:
        area.report()
    ratios["report of a day"] = sum(sizes) / area.needed([dates])
    assert all(1 <= ratio <= MOST for ratio in ratios.values()), ratios


def test_a_method_that_looks_around_and_back_reads_what_it_needs(tmp_path: Path) -> None:
    """Measuring needs the tile, scoring its halo too, and judging a year of the blocks that have candidates.

    The four tiles have sixteen blocks, and candidates are in one or two of them.
    """
    area = Area(str(tmp_path / "cube"), tmp_path)
    days = range(REFERENCE, REFERENCE + 3)
    area.bring(range(days.stop))
    area.baseline(profile="robust")
    with reads_counted() as sizes:
        area.monitor(days.stop, profile="robust")
    halo = halo_of(PROFILES["robust"].steps)
    passes = area.needed(days) + area.needed(days, halo=halo)
    assert passes <= sum(sizes) <= 1.05 * passes + area.needed(range(days.stop)) / 8
    assert halo < BLOCK


def test_the_images_of_a_tile_are_not_all_in_memory_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    area = Area(str(tmp_path / "cube"), tmp_path)
    area.bring(range(REFERENCE + 20))
    area.baseline()
    shapes: list[tuple[int, ...]] = []
    read = LocalCube.read

    def noted(self: LocalCube, *arguments: Any) -> Pixels:
        pixels = read(self, *arguments)
        if pixels.dtype == np.int16:
            shapes.append(pixels.shape)
        return pixels

    monkeypatch.setattr(LocalCube, "read", noted)
    area.monitor(REFERENCE + 20)
    assert sorted({images for images, *_ in shapes}) == [4, 8]
