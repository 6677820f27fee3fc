"""Compare the estimates of plans with the demo: `core_seconds` within 30 %, and at most `memory_bytes` of memory.

Each job runs in its own process on one core. Processor time is compared, so that other work on the machine does not
count; the speed of the machine affects all jobs alike.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.table import Table

from acdtask.demo import LAYOUT
from acdtask.engine.local import run_locally, run_planned
from acdtask.engine.processes import WorkerPool
from acdtask.engine.stages import make_plan, open_site
from acdtask.jobs.baseline.settings import BaselineSettings
from acdtask.jobs.consolidate.settings import ConsolidateSettings
from acdtask.jobs.contract import Estimate, Settings
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.monitor.settings import MonitorSettings
from acdtask.jobs.registry import load_job
from acdtask.jobs.report.job import ReportSettings
from acdtask.jobs.simulate.job import SimulateSettings
from acdtask.raster.grid import Layout

__all__ = ["TOLERANCE", "Row", "run_estimates"]

TOLERANCE = 0.3
DEMO_SIZE = 1024


@dataclass(frozen=True)
class Row:
    """A job with the estimate of its plan, and the processor seconds and memory that it used."""

    job: str
    estimate: Estimate
    seconds: float
    memory_bytes: int

    @property
    def ratio(self) -> float:
        """Expected seconds / used seconds."""
        return self.estimate.core_seconds / self.seconds

    @property
    def is_accurate(self) -> bool:
        """Whether the estimate is within the tolerance."""
        return abs(self.ratio - 1) <= TOLERANCE and self.memory_bytes <= self.estimate.memory_bytes


def run_estimates(folder: Path, size: int = DEMO_SIZE, cell: int = 0, **scene_settings: int) -> list[Row]:
    """Run the jobs of the demo, one after the other.

    Args:
        folder: an empty folder.
        size: width and height of the scene in pixels.
        cell: width and height of a cell in pixels; 0 for that of the demo.
        scene_settings: other settings of the scene; default: those of the demo.
    """
    layout = LAYOUT.model_copy(update={"grid": LAYOUT.grid.model_copy(update={"cell_size": cell})}) if cell else LAYOUT
    scene = SimulateSettings(out=str(folder / "scene"), **{"size": size, "seed": 7, **scene_settings})
    with WorkerPool(0) as pool:
        run_locally(load_job("simulate"), scene, scene.out, pool=pool, progress=False)
    cube = str(folder / "cube")
    rows = []
    for name, settings in _settings(scene, layout).items():
        rows.append(_measure_alone(name, settings, cube))
        if name == "ingest":
            open_site(cube).cube.add_layout(layout)
    return rows


def _settings(scene: SimulateSettings, layout: Layout) -> dict[str, Settings]:
    """The settings of the demo."""
    folder = Path(scene.out)
    last = scene.pair_dates(scene.reference_pairs - 1)[1]
    end = datetime(last.year, last.month, last.day, tzinfo=UTC) + timedelta(hours=23, minutes=59)
    area = {"aoi": str(folder / "aoi.json"), "layout": layout.name}
    return {
        "ingest": IngestSettings(source=str(folder / "images")),
        "consolidate": ConsolidateSettings(**area),
        "baseline": BaselineSettings(**area, end=end),
        "monitor": MonitorSettings(**area),
        "report": ReportSettings(**area, truth=str(folder / "truth.geojson")),
    }


def _measure_alone(name: str, settings: Settings, cube: str) -> Row:
    """Measure a job in its own process."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(_measure, name, settings, cube).result()


def _measure(name: str, settings: Settings, cube: str) -> Row:
    job = load_job(name)
    plan = make_plan(job, settings, open_site(cube))
    started = time.process_time()
    with WorkerPool(0) as pool:
        run_planned(job, plan, cube, pool=pool, progress=False)
    return Row(name, plan.estimate, time.process_time() - started, _peak_bytes())


def _peak_bytes() -> int:
    """Peak memory of this process; not `ru_maxrss`, which starts at that of the parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


def _table(rows: list[Row]) -> Table:
    table = Table()
    for name in ("job", "seconds expected", "used", "ratio", "MiB expected", "used"):
        table.add_column(name, justify="left" if name == "job" else "right", no_wrap=True)
    for row in rows:
        expected, used = row.estimate.memory_bytes >> 20, row.memory_bytes >> 20
        seconds = f"{row.estimate.core_seconds:.2f}", f"{row.seconds:.2f}", f"{row.ratio:.2f}"
        table.add_row(row.job, *seconds, str(expected), str(used))
    return table


def main() -> int:
    """Print the figures; return 1 if an estimate is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="use a tiny scene, for tests; the figures mean nothing")
    parser.add_argument("--size", type=int, default=DEMO_SIZE, help="width and height of the scene in pixels")
    parser.add_argument(
        "--cell", type=int, default=0, help="width and height of a cell in pixels; 0 for that of the demo"
    )
    arguments = parser.parse_args()
    console = Console(highlight=False, width=120)
    with tempfile.TemporaryDirectory() as folder:
        small = {"size": 96, "cell": 48, "reference_pairs": 24, "monitored_pairs": 1, "events": 2}
        rows = run_estimates(
            Path(folder), **(small if arguments.small else {"size": arguments.size, "cell": arguments.cell})
        )
    console.print(_table(rows))
    wrong = [row.job for row in rows if not row.is_accurate]
    console.print(
        f"off by more than {TOLERANCE:.0%}, or more memory: {', '.join(wrong)}"
        if wrong
        else "all estimates are accurate"
    )
    return 1 if wrong and not arguments.small else 0


if __name__ == "__main__":
    sys.exit(main())
