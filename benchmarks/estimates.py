"""What plans expect, against what the demo takes: `core_seconds` within 30 %, and no more memory than `memory_bytes`.

Each job runs alone in a process of its own, on one core. Processor time is compared, so that others who use the machine
do not count; a machine of another speed shifts all jobs alike.
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
    """A job: what its plan expected, and the processor seconds and memory that it took."""

    job: str
    estimate: Estimate
    seconds: float
    memory_bytes: int

    @property
    def ratio(self) -> float:
        """Expected by taken."""
        return self.estimate.core_seconds / self.seconds

    @property
    def is_kept(self) -> bool:
        """Whether the plan was right."""
        return abs(self.ratio - 1) <= TOLERANCE and self.memory_bytes <= self.estimate.memory_bytes


def run_estimates(folder: Path, size: int = DEMO_SIZE, cell: int = 0, **scene_settings: int) -> list[Row]:
    """Run the jobs of the demo, one after the other.

    Args:
        folder: an empty folder.
        size: pixels of the scene's side.
        cell: pixels of a cell's side; 0 is the demo's.
        scene_settings: other settings of the scene; without them they are the demo's.
    """
    layout = LAYOUT.model_copy(update={"grid": LAYOUT.grid.model_copy(update={"cell_size": cell})}) if cell else LAYOUT
    scene = SimulateSettings(out=str(folder / "scene"), **{"size": size, "seed": 7, **scene_settings})
    with WorkerPool(0) as pool:
        run_locally(load_job("simulate"), scene, scene.out, pool=pool, progress=False)
    cube = str(folder / "cube")
    rows = []
    for name, settings in _settings(scene, layout).items():
        rows.append(_measured(name, settings, cube))
        if name == "ingest":
            open_site(cube).cube.add_layout(layout)
    return rows


def _settings(scene: SimulateSettings, layout: Layout) -> dict[str, Settings]:
    """Those of the demo."""
    folder = Path(scene.out)
    last = scene.pair_dates(scene.reference_pairs - 1)[1]
    end = datetime(last.year, last.month, last.day, tzinfo=UTC) + timedelta(hours=23, minutes=59)
    where = {"aoi": str(folder / "aoi.json"), "layout": layout.name}
    return {
        "ingest": IngestSettings(source=str(folder / "images")),
        "consolidate": ConsolidateSettings(**where),
        "baseline": BaselineSettings(**where, end=end),
        "monitor": MonitorSettings(**where),
        "report": ReportSettings(**where, truth=str(folder / "truth.geojson")),
    }


def _measured(name: str, settings: Settings, cube: str) -> Row:
    """The job in a process that does nothing else."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(_measure, name, settings, cube).result()


def _measure(name: str, settings: Settings, cube: str) -> Row:
    job = load_job(name)
    plan = make_plan(job, settings, open_site(cube))
    begun = time.process_time()
    with WorkerPool(0) as pool:
        run_planned(job, plan, cube, pool=pool, progress=False)
    return Row(name, plan.estimate, time.process_time() - begun, _peak_bytes())


def _peak_bytes() -> int:
    """The most memory that this process had. Not `ru_maxrss`, which begins with that of the parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


def _table(rows: list[Row]) -> Table:
    table = Table()
    for name in ("job", "seconds expected", "taken", "ratio", "MiB expected", "taken"):
        table.add_column(name, justify="left" if name == "job" else "right", no_wrap=True)
    for row in rows:
        expected, taken = row.estimate.memory_bytes >> 20, row.memory_bytes >> 20
        seconds = f"{row.estimate.core_seconds:.2f}", f"{row.seconds:.2f}", f"{row.ratio:.2f}"
        table.add_row(row.job, *seconds, str(expected), str(taken))
    return table


def main() -> int:
    """Print the figures; 1 if a plan was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a scene that means nothing, for tests")
    parser.add_argument("--size", type=int, default=DEMO_SIZE, help="pixels of the scene's side")
    parser.add_argument("--cell", type=int, default=0, help="pixels of a cell's side")
    given = parser.parse_args()
    console = Console(highlight=False, width=120)
    with tempfile.TemporaryDirectory() as folder:
        small = {"size": 96, "cell": 48, "reference_pairs": 24, "monitored_pairs": 1, "events": 2}
        rows = run_estimates(Path(folder), **(small if given.small else {"size": given.size, "cell": given.cell}))
    console.print(_table(rows))
    wrong = [row.job for row in rows if not row.is_kept]
    console.print(
        f"not within {TOLERANCE:.0%}, or more memory: {', '.join(wrong)}" if wrong else "all plans were right"
    )
    return 1 if wrong and not given.small else 0


if __name__ == "__main__":
    sys.exit(main())
