"""Compare what `robust` and `standard` cost for one date, in alternating runs: `python -m benchmarks.method_cost`.

The scene is simulated: 1024 x 1024 px, a baseline of 60 dates for each method, and one date with events. Time is that
of the whole command `acdtask monitor local`. Memory is the largest of any `acdtask monitor run`, which is what a pod
does. Fails if `robust` takes more than four times as long, or a fifth more memory. With `--small` the scene is small
and nothing is required, as a test.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from acdtask.engine.processes import cores
from acdtask.jobs.simulate.settings import SceneSettings

METHODS = ("standard", "robust")
MOST_TIME, MOST_MEMORY = 4.0, 1.2


@dataclass(frozen=True)
class Sizes:
    """Width of the scene and of tiles in px, dates of the baselines, events, and number of runs of each method."""

    scene: int = 1024
    tile: int = 256
    dates: int = 60
    events: int = 5
    runs: int = 5


SMALL = Sizes(scene=128, tile=64, dates=22, events=1, runs=1)


class Area:
    """A cube in a folder, with a simulated scene, and a baseline for each method."""

    def __init__(self, folder: Path, sizes: Sizes) -> None:
        self._folder = folder
        self._where = ("--cube", "cube", "--aoi", "scene/aoi.json", "--layout", "l")
        scene = SceneSettings(size=sizes.scene, reference_pairs=sizes.dates, monitored_pairs=1, events=sizes.events)
        numbers = (
            "--size",
            sizes.scene,
            "--reference-pairs",
            sizes.dates,
            "--monitored-pairs",
            1,
            "--events",
            sizes.events,
        )
        self.run("simulate", "local", "--out", "scene", *map(str, numbers))
        self.run("ingest", "local", "--cube", "cube", "--source", "scene/images")
        grid = ("--crs", "EPSG:32632", "--resolution", "20", "--cell-size", str(sizes.tile))
        self.run("layout", "create", "l", "--cube", "cube", *grid)
        self.run("consolidate", "local", *self._where)
        end = scene.pair_dates(sizes.dates - 1)[1].isoformat()
        for method in METHODS:
            self.run("baseline", "local", *self._where, "--end", end, "--profile", method, "--name", method)

    def run(self, *arguments: str) -> tuple[str, float]:
        """Run a command, and return what it printed and the largest memory of its process in MiB."""
        command = [sys.executable, "-m", "acdtask", "--quiet", *arguments]
        with tempfile.TemporaryFile() as printed:
            process = subprocess.Popen(command, cwd=self._folder, stdout=printed)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            printed.seek(0)
            if process.returncode:
                raise subprocess.CalledProcessError(process.returncode, command)
            return printed.read().decode(), usage.ru_maxrss / 1024

    def seconds(self, method: str, name: str) -> float:
        """The time that monitoring the date takes."""
        started = time.perf_counter()
        self.run("monitor", "local", *self._monitor(method, name))
        return time.perf_counter() - started

    def peak_mib(self, method: str, name: str) -> float:
        """The largest memory of a process that runs one shard of a round."""
        plan = json.loads(self.run("monitor", "plan", *self._monitor(method, name), "--json")[0])
        step = ("--cube", "cube", "--plan", plan["plan_id"])
        peaks: list[float] = []
        for name in plan["rounds"]:
            runs = [("--round", name, "--shard", str(shard)) for shard in range(plan["shards"])]
            peaks += [self.run("monitor", "run", *step, *run)[1] for run in runs]
            self.run("monitor", "gather", *step, "--round", name)
        return max(peaks)

    def _monitor(self, method: str, name: str) -> tuple[str, ...]:
        return (*self._where, "--baseline-name", method, "--profile", method, "--name", name)


def measure(sizes: Sizes) -> tuple[float, float]:
    """Print the comparison, and return how many times the time and the memory of `standard` `robust` needs."""
    with tempfile.TemporaryDirectory() as folder:
        area = Area(Path(folder), sizes)
        pairs = [[area.seconds(method, f"{method}{k}") for method in METHODS] for k in range(sizes.runs)]
        peaks = [area.peak_mib(method, f"{method}-pods") for method in METHODS]
    seconds = [statistics.median(column) for column in zip(*pairs, strict=True)]
    ratio = statistics.median(robust / standard for standard, robust in pairs)
    print(f"{platform.machine()}, {cores()} cores, Python {platform.python_version()}")
    print(
        f"one date of {sizes.scene} x {sizes.scene} px, {sizes.dates} dates in the baseline, {sizes.runs} runs of each"
    )
    for method, took, peak in zip(METHODS, seconds, peaks, strict=True):
        print(f"{method:8}  {took:6.2f} s  {peak:6.0f} MiB")
    print(f"robust / standard: {ratio:.2f} times the time, {peaks[1] / peaks[0]:.2f} times the memory")
    return ratio, peaks[1] / peaks[0]


def main() -> None:
    """Measure; the exit status says whether the limits are kept."""
    is_small = "--small" in sys.argv[1:]
    times, memory = measure(SMALL if is_small else Sizes())
    sys.exit(not is_small and (times > MOST_TIME or memory > MOST_MEMORY))


if __name__ == "__main__":
    main()
