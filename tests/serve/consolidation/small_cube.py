"""A small cube for consolidations: three images over four cells of a layout."""

from __future__ import annotations

import hashlib
import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acdtask.cube.jobs import Consolidation, JobState
from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import Addition, Dataset, Record, Slice
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.data_format import Pixels
from acdtask.raster.grid import Grid, Layout, RegularGrid
from acdtask.serve.consolidation.jobs import ConsolidationJobs
from tests.cube.builders import COHERENCE, MASTER, dataset, grid, image, put_image, record

LAYOUT = Layout(name="utm", grid=RegularGrid(crs="EPSG:32632", resolution=20, cell_size=64, ox=400000, oy=5600000))
RECORDS = tuple(record(number) for number in range(3))
IDS = tuple(record.id for record in RECORDS)
GRID = grid(100, 90)
CELLS = ("0/0", "1/0", "0/1", "1/1")


def pixels_of(number: int) -> Pixels:
    pixels = image(GRID, seed=number)
    pixels[:20] = -1
    return pixels


def make_cube(url: str, records: tuple[Record, ...] = RECORDS, of: Grid = GRID) -> LocalCube:
    """A cube with one file per record."""
    cube = LocalCube.create(url)
    cube.commit(Addition(records, variables=[COHERENCE], instances=[MASTER], layouts=[LAYOUT]))
    for number, item in enumerate(records):
        stored = put_image(cube.store, f"pixels/{number}.tif", pixels_of(number), of)
        cube.index([], [dataset(item, stored.uri, grid=of)])
    return cube


def consolidation(**changes: Any) -> Consolidation:
    fields: dict[str, Any] = {
        "name": "first",
        "variable": "CoherenceVV",
        "instance": "master",
        "layout": "utm",
        "records": IDS,
    }
    return Consolidation(**(fields | changes))


def jobs_of(cube: LocalCube) -> ConsolidationJobs:
    """The consolidation jobs of a cube."""
    return ConsolidationJobs(cube)


def work(cube: LocalCube, job: str) -> JobState:
    """Do the steps of a job until it ends or waits."""
    jobs = jobs_of(cube)
    job_id = jobs.job(job).id
    while jobs.advance(job_id):
        pass
    return jobs.job(job_id)


def work_to(cube: LocalCube, job: str, state: str) -> JobState:
    """Do steps, continuing at every pause, until the job enters the state."""
    jobs = jobs_of(cube)
    for _ in range(100):
        seen = jobs.job(job)
        if seen.state == state:
            return seen
        if seen.waiting:
            jobs.continue_job(seen.id)
        else:
            jobs.advance(seen.id)
    raise AssertionError(f"{job} never was {state}: {seen}")


def refused(code: ErrorCode, match: str = "") -> AbstractContextManager[object]:
    return pytest.raises(AcdError, match=re.escape(code.label) + ".*" + match)


def consolidated(cube: LocalCube) -> list[Dataset]:
    return [dataset for dataset in cube.datasets("CoherenceVV", "master") if dataset.layout]


def stack(cube: LocalCube, cell: str, layout: Layout = LAYOUT) -> Pixels:
    """The pixels of all records that the cube reads for a cell, from the datasets of `where`."""
    i, j = map(int, cell.split("/"))
    tile = layout.tile(i, j)
    (datasets,) = cube.where("CoherenceVV", "master", IDS, [tile.grid], tile.layout)
    slices = [
        Slice(label=record_id, datasets=tuple(d for d in datasets if d.record_id == record_id)) for record_id in IDS
    ]
    return cube.read(tile.grid, slices, COHERENCE)


def digests(folder: Path) -> dict[str, str]:
    """The digests of all files in a folder."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def expected_stack(cell: str) -> Pixels:
    """The expected pixels of a cell, cut from the images."""
    i, j = map(int, cell.split("/"))
    padded = np.full((3, 128, 128), -1, np.int16)
    padded[:, :90, :100] = np.stack([pixels_of(number) for number in range(3)])
    return padded[:, 64 * j : 64 * j + 64, 64 * i : 64 * i + 64]
