"""Measure queries of the local index, with 100,000 records over ten years and a continent."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import shapely

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import Record, RecordQuery

START = datetime(2015, 1, 1, tzinfo=UTC)


def make_records(count: int) -> list[Record]:
    """Make records of 2.5 x 1.5 degrees over ten years, from 40 W to 60 E, with the tags of a Sentinel-1 pair."""
    random = np.random.default_rng(20150101)
    lon, lat = random.uniform(-40, 60, count), random.uniform(30, 70, count)
    days, orbits = random.integers(0, 3650, count), random.integers(1, 176, count)
    return [
        Record(
            name=f"S1/{k:06d}",
            datetime=START + timedelta(days=int(days[k])),
            tags={"orbit": str(orbits[k]), "satellite": "S1A" if k % 2 else "S1B", "polarisation": "VV"},
            footprint=shapely.geometry.mapping(shapely.box(lon[k], lat[k], lon[k] + 2.5, lat[k] + 1.5)),
        )
        for k in range(count)
    ]


QUERIES = {
    "area, year, tag": RecordQuery(
        area=shapely.geometry.mapping(shapely.Point(7, 51).buffer(0.5)),
        start=START + timedelta(days=2000),
        end=START + timedelta(days=2365),
        tags={"orbit": "1*"},
    ),
    "area": RecordQuery(area=shapely.geometry.mapping(shapely.Point(7, 51).buffer(0.5))),
    "tags": RecordQuery(tags={"orbit": "37", "satellite": "S1?"}),
    "everything": RecordQuery(),
    "first three": RecordQuery(limit=3),
}
RUNS = 7


def command_seconds(url: str) -> float:
    """Median seconds of the command `acdtask records --limit 3`, including the start of Python."""
    command = [sys.executable, "-m", "acdtask", "records", "--cube", url, "--limit", "3"]
    times = []
    for _ in range(RUNS):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def main() -> None:
    """Print the seconds of indexing, and of each query on a newly opened cube (loading included) and repeated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--cube", help="address of a new cube; default: a temporary folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = arguments.cube or folder
        records = make_records(arguments.records)
        started = time.perf_counter()
        LocalCube.create(url).index(records, [])
        print(f"index {len(records)} records: {time.perf_counter() - started:.2f} s")
        for name, query in QUERIES.items():
            cube, times = LocalCube.open(url), []
            for _ in range(2):
                started = time.perf_counter()
                count = len(cube.records(query))
                times.append(time.perf_counter() - started)
            print(f"{name}: {count} records, first {times[0]:.3f} s, repeated {times[1]:.3f} s")
        print(f"acdtask records --limit 3: {command_seconds(url):.3f} s (median of {RUNS} processes)")


if __name__ == "__main__":
    main()
