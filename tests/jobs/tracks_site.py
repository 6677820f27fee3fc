"""A site with two tracks: one cube, one scene seen from both, a layout for each, both judged by their history."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from acdtask.engine.local import LocalOutcome, run_locally
from acdtask.engine.processes import WorkerPool
from acdtask.engine.stages import open_site
from acdtask.jobs.baseline.job import BaselineJob
from acdtask.jobs.baseline.settings import BaselineSettings
from acdtask.jobs.contract import Job, Settings
from acdtask.jobs.fuse.job import FuseJob
from acdtask.jobs.fuse.settings import FuseSettings
from acdtask.jobs.ingest.job import IngestJob
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.monitor.job import MonitorJob
from acdtask.jobs.monitor.settings import MonitorSettings
from acdtask.jobs.simulate.settings import SceneSettings
from acdtask.raster.grid import Layout, RegularGrid
from tests.jobs.chain import reference_end, simulate

__all__ = ["ASCENDING", "DESCENDING", "GRIDS", "SCENES", "TRACKS", "fuse", "make_tracks", "monitor_track", "run"]

ASCENDING, DESCENDING = "CoherenceVV/west/ascending", "CoherenceVV/east/descending"
SCENES = [
    SceneSettings(size=128, reference_pairs=24, monitored_pairs=3, events=4, seed=11, track=track) for track in (0, 1)
]
GRIDS = {"west": ("EPSG:32632", 64), "east": ("EPSG:32631", 48)}
"""The tracks have grids in two zones of UTM."""
TRACKS = (("A015", "west", "ascending"), ("D066", "east", "descending"))


def run(job: Job[Any, Any], settings: Settings, cube: Path, workers: int = 0) -> LocalOutcome:
    """Run a job on this machine."""
    with WorkerPool(workers) as pool:
        return run_locally(job, settings, str(cube), pool=pool, progress=False)


def make_tracks(folder: Path, cells: dict[str, int] | None = None, scenes: Path | None = None, **monitor: Any) -> Path:
    """A cube below a folder with a monitoring result of each track.

    Args:
        folder: gets the cube, and the scenes unless these are given.
        cells: width of the tiles of layouts, if not that of GRIDS.
        scenes: folder with the scenes of another call.
        monitor: settings of both monitors.
    """
    cube, scenes = folder / "cube", scenes or folder
    for scene, (track, layout, name) in zip(SCENES, TRACKS, strict=True):
        images = scenes / f"track{scene.track}"
        if not images.exists():
            simulate(images, scene)
        run(IngestJob(), IngestSettings(source=str(images / "images"), track=track), cube)
        crs, cell = GRIDS[layout]
        grid = RegularGrid(crs=crs, resolution=20, cell_size=(cells or {}).get(layout, cell))
        open_site(str(cube)).cube.add_layout(Layout(name=layout, grid=grid))
        monitor_track(cube, scenes / "track0" / "aoi.json", track, layout, name, **monitor)
    return cube


def monitor_track(
    cube: Path,
    aoi: Path,
    track: str,
    layout: str,
    name: str,
    baseline_end: datetime | None = None,
    **settings: Any,
) -> LocalOutcome:
    """Baseline and monitor of a track; `settings` are those of the monitor."""
    common = {"aoi": str(aoi), "layout": layout, "track": track}
    end = baseline_end or reference_end(SCENES[1])
    run(BaselineJob(), BaselineSettings(**common, name=name, end=end, profile="robust"), cube)
    settings = {"profile": "robust", **settings}
    return run(MonitorJob(), MonitorSettings(**common, name=name, baseline_name=name, **settings), cube)


def fuse(cube: Path, aoi: Path, **settings: Any) -> LocalOutcome:
    """Fuse both tracks."""
    given = {"aoi": str(aoi), "members": (ASCENDING, DESCENDING), **settings}
    return run(FuseJob(), FuseSettings.model_validate(given), cube)
