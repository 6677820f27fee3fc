"""The demonstration: simulate a year, monitor ten dates, and compare the detections with the simulated events."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.table import Table

from acdtask.change.methods import Profile
from acdtask.engine.local import run_locally
from acdtask.engine.processes import WorkerPool
from acdtask.engine.stages import open_site
from acdtask.jobs.baseline.settings import BaselineSettings
from acdtask.jobs.consolidate.settings import ConsolidateSettings
from acdtask.jobs.contract import Settings
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.monitor.settings import MonitorSettings
from acdtask.jobs.registry import load_job
from acdtask.jobs.report.job import ReportSettings
from acdtask.jobs.report.score import Score
from acdtask.jobs.simulate.job import SimulateSettings
from acdtask.raster.grid import Layout, RegularGrid

__all__ = ["run_demo"]

PROFILE: Profile = "robust"
"""Method of the demo."""
FALSE_PER_1000KM2 = 7.0
"""False patches that the demo accepts. The ten images cover 4194 square kilometres, so about thirty."""
COMPARED: tuple[Profile, ...] = ("standard", "tutorial")
"""Methods whose results the report compares with that of the demo's."""
PLAIN = "plain"
"""Name of the baseline of these methods, in which unusually low values are not left out."""
LAYOUT = Layout(name="utm32-20m", grid=RegularGrid(crs="EPSG:32632", resolution=20, cell_size=256))


def run_demo(folder: Path, *, workers: int, size: int = 1024, seed: int = 7) -> Score:
    """Run all jobs on a simulated scene, print a table of the detected events, and return the score."""
    console = Console(highlight=False)
    started = time.monotonic()
    folder = folder.absolute()
    scene, cube, report = folder / "scene", str(folder / "cube"), folder / "report"
    simulate = SimulateSettings(out=str(scene), size=size, seed=seed)
    last = simulate.pair_dates(simulate.reference_pairs - 1)[1]
    reference_end = datetime(last.year, last.month, last.day, tzinfo=UTC) + timedelta(hours=23, minutes=59)
    area = {"aoi": str(scene / "aoi.json"), "layout": LAYOUT.name}
    truth, others = str(scene / "truth.geojson"), ",".join(COMPARED)
    report_settings = ReportSettings(**area, truth=truth, compare=others, out=str(report), shard_images=2)
    with WorkerPool(workers) as pool:

        def run(name: str, settings: Settings, address: str) -> None:
            outcome = run_locally(load_job(name), settings, address, pool=pool)
            console.print(f"[bold]{name:12}[/] {'; '.join(outcome.lines)}")

        run("simulate", simulate, str(scene))
        run("ingest", IngestSettings(source=str(scene / "images")), cube)
        open_site(cube).cube.add_layout(LAYOUT)
        run("consolidate", ConsolidateSettings(**area), cube)
        run("baseline", BaselineSettings(**area, end=reference_end, profile=PROFILE), cube)
        run("monitor", MonitorSettings(**area, profile=PROFILE, false_per_1000km2=FALSE_PER_1000KM2), cube)
        run("baseline", BaselineSettings(**area, end=reference_end, name=PLAIN, profile="standard"), cube)
        for profile in COMPARED:
            run("monitor", MonitorSettings(**area, profile=profile, baseline_name=PLAIN, name=profile), cube)
        run("report", report_settings, cube)
    score = Score.model_validate_json((report / "score.json").read_bytes())
    console.print(_table(score))
    console.print(f"{time.monotonic() - started:.0f} s. Open {report / 'index.html'}")
    return score


def _table(score: Score) -> Table:
    table = Table(
        title="Detections compared with the simulated events (false = matches no event)", title_justify="left"
    )
    for name in ("size, px", "events", "found", "recall", "patches", "false"):
        table.add_column(name, justify="left" if name == "size, px" else "right")
    for size in score.sizes:
        recall = f"{size.found / size.events:.2f}" if size.events else ""
        table.add_row(size.label, *map(str, (size.events, size.found, recall, size.patches, size.false_patches)))
    table.add_section()
    recall = f"{score.recall:.2f}" if score.recall is not None else ""
    total = (len(score.counted), len(score.found), recall, score.patches, len(score.false_ids))
    table.add_row("all", *map(str, total), style="bold")
    return table
