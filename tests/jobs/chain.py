"""The whole chain of jobs on a small simulated scene, as a user would run it."""

from __future__ import annotations

import hashlib
import re
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from acdtask.engine.local import LocalOutcome, run_locally
from acdtask.engine.processes import WorkerPool
from acdtask.engine.stages import open_site
from acdtask.jobs.baseline.job import BaselineJob
from acdtask.jobs.baseline.settings import BaselineSettings
from acdtask.jobs.consolidate.job import ConsolidateJob
from acdtask.jobs.consolidate.settings import ConsolidateSettings
from acdtask.jobs.ingest.job import IngestJob
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.monitor.job import MonitorJob
from acdtask.jobs.monitor.settings import MonitorSettings
from acdtask.jobs.report.job import ReportJob, ReportSettings
from acdtask.jobs.simulate.job import SimulateJob, SimulateSettings
from acdtask.jobs.simulate.settings import SceneSettings
from acdtask.raster.grid import Layout, RegularGrid

SCENE = SceneSettings(size=160, reference_pairs=24, monitored_pairs=3, events=6, seed=11)
LAYOUT = "utm32"


@dataclass(frozen=True)
class Chain:
    """How to run the chain; what comes out must not depend on any of it."""

    cell: int = 64
    shard_tiles: int = 1
    shard_files: int = 4
    consolidate: bool = True
    profile: str = "robust"
    pod_start: float = 0.0
    """Not 0: shards of the size that work and this start of a pod ask for."""

    def sizes(self, unit: str) -> dict[str, Any]:
        """The settings that say how large shards are."""
        if self.pod_start:
            return {"pod_start": self.pod_start}
        return {"shard_files": self.shard_files} if unit == "files" else {"shard_tiles": self.shard_tiles}


def simulate(folder: Path, scene: SceneSettings = SCENE) -> Path:
    """A scene with its images, aoi.json and truth.geojson."""
    settings = SimulateSettings(out=str(folder), **scene.model_dump())
    with WorkerPool(0) as pool:
        run_locally(SimulateJob(), settings, str(folder), pool=pool, progress=False)
    return folder


def reference_end(scene: SceneSettings = SCENE) -> datetime:
    """The last moment of the reference period."""
    last = scene.pair_dates(scene.reference_pairs - 1)[1]
    return datetime(last.year, last.month, last.day, tzinfo=UTC) + timedelta(hours=23)


def run_chain(scene: Path, cube: str, pool: WorkerPool, how: Chain | None = None) -> list[LocalOutcome]:
    """Ingest, layout, consolidate, baseline, monitor, report."""
    how = how or Chain()
    aoi = str(scene / "aoi.json")
    ingest = IngestSettings(source=str(scene / "images"), **how.sizes("files"))
    outcomes = [run_locally(IngestJob(), ingest, cube, pool=pool, progress=False)]
    grid = RegularGrid(crs="EPSG:32632", resolution=20, cell_size=how.cell)
    open_site(cube).cube.add_layout(Layout(name=LAYOUT, grid=grid))
    common = {"aoi": aoi, "layout": LAYOUT}
    if how.consolidate:
        settings = ConsolidateSettings(**common, **how.sizes("tiles"))
        outcomes.append(run_locally(ConsolidateJob(), settings, cube, pool=pool, progress=False))
    baseline = BaselineSettings(**common, end=reference_end(), profile=how.profile, **how.sizes("tiles"))
    outcomes.append(run_locally(BaselineJob(), baseline, cube, pool=pool, progress=False))
    monitor = MonitorSettings(**common, profile=how.profile, **how.sizes("tiles"))
    outcomes.append(run_locally(MonitorJob(), monitor, cube, pool=pool, progress=False))
    report = ReportSettings(**common, truth=str(scene / "truth.geojson"))
    outcomes.append(run_locally(ReportJob(), report, cube, pool=pool, progress=False))
    return outcomes


SCRATCH = ("runs/", "index/hint")
STAGED = re.compile(r"#\d+$")
"""How the store names what it has not finished writing."""


def digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file below a folder that is not scratch."""
    names = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in names.items()
        if not name.startswith(SCRATCH) and not STAGED.search(name)
    }


if __name__ == "__main__":
    with WorkerPool(2) as two_workers:
        run_chain(Path(sys.argv[1]), sys.argv[2], two_workers, Chain(profile=sys.argv[3]))
