"""`python -m benchmarks.daily [DAYS]`: what a day costs, early and late in a series of daily runs on a small area.

Every day one new image arrives and the five commands of a monitor run, as a schedule would start them; `tidy` follows.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from acdtask.cube.grid import Layout, RegularGrid
from acdtask.engine.local import run_locally
from acdtask.engine.processes import WorkerPool
from acdtask.engine.stages import open_site
from acdtask.jobs.baseline.job import BaselineJob
from acdtask.jobs.baseline.settings import BaselineSettings
from acdtask.jobs.consolidate.job import ConsolidateJob, ConsolidateSettings
from acdtask.jobs.ingest.job import IngestJob
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.monitor.job import MonitorJob
from acdtask.jobs.monitor.settings import MonitorSettings
from acdtask.jobs.report.job import ReportJob, ReportSettings
from acdtask.simulate.job import SimulateJob, SimulateSettings, image_key
from acdtask.simulate.settings import SceneSettings
from acdtask.tidy.clean import tidy
from acdtask.tidy.retention import Retention

SIZE, CELL, REFERENCE, EVENTS = 192, 64, 24, 20
EARLY, WINDOW, TOLERANCE = 20, 7, 0.25
LAYOUT = "utm"
DAYS_OF_A_LONG_RUN = 120


@dataclass(frozen=True)
class Day:
    """What one day's run took and added to the store, and what the store held after `tidy`."""

    seconds: float
    added: Counter[str]
    added_bytes: int
    kept: Counter[str]
    kept_bytes: Counter[str]


def kind_of(key: str) -> str:
    """The part of the store that an object belongs to.

    >>> kind_of("products/site/monitor/0f/manifests/000001.json"), kind_of("index/heads/00000001.json")
    ('monitor', 'index')
    """
    parts = key.split("/")
    if parts[0] == "products" and len(parts) > 2:
        return parts[2]
    return parts[0] if len(parts) > 1 else "cube"


def run_days(folder: Path, days: int, *, tidied: bool = True) -> list[Day]:
    """Simulate, make the baseline, then run one day after another.

    Args:
        folder: an empty folder to work in.
        days: how many daily images are monitored.
        tidied: whether `acdtask tidy` runs after each day, keeping nothing for its age.
    """
    scene = SceneSettings(
        size=SIZE, reference_pairs=REFERENCE, monitored_pairs=days, events=EVENTS, pair_days=1, seed=11
    )
    source, cube = folder / "incoming", folder / "cube"
    source.mkdir()
    with WorkerPool(0) as pool:
        _simulate(folder / "scene", scene, pool)
        _deliver(folder / "scene", source, scene, range(REFERENCE))
        daily = _Daily(folder, cube, scene, pool)
        daily.begin()
        measured = []
        for number in range(days):
            _deliver(folder / "scene", source, scene, [REFERENCE + number])
            measured.append(_measured(daily, cube, tidied=tidied))
    return measured


class _Daily:
    """The commands of a day."""

    def __init__(self, folder: Path, cube: Path, scene: SceneSettings, pool: WorkerPool) -> None:
        self._address, self._pool = str(cube), pool
        aoi = str(folder / "scene" / "aoi.json")
        area = {"aoi": aoi, "layout": LAYOUT}
        last = _noon(scene.pair_dates(REFERENCE - 1)[1])
        self._ingest = IngestSettings(source=str(folder / "incoming"))
        self._consolidate = ConsolidateSettings(**area)
        self._baseline = BaselineSettings(**area, end=last)
        self._monitor = MonitorSettings(**area)
        self._report = ReportSettings(**area)

    def begin(self) -> None:
        """Ingest the reference period and make its baseline."""
        run_locally(IngestJob(), self._ingest, self._address, pool=self._pool, progress=False)
        grid = RegularGrid(crs="EPSG:32632", resolution=20, cell_size=CELL)
        open_site(self._address).cube.add_layout(Layout(name=LAYOUT, grid=grid))
        run_locally(ConsolidateJob(), self._consolidate, self._address, pool=self._pool, progress=False)
        run_locally(BaselineJob(), self._baseline, self._address, pool=self._pool, progress=False)

    def run(self) -> None:
        """Do all that is pending, from ingest to report."""
        address, pool = self._address, self._pool
        run_locally(IngestJob(), self._ingest, address, pool=pool, progress=False)
        run_locally(ConsolidateJob(), self._consolidate, address, pool=pool, progress=False)
        run_locally(MonitorJob(), self._monitor, address, pool=pool, progress=False)
        run_locally(ReportJob(), self._report, address, pool=pool, progress=False)


def _measured(daily: _Daily, cube: Path, *, tidied: bool) -> Day:
    before = _sizes(cube)
    begun = time.perf_counter()
    daily.run()
    seconds = time.perf_counter() - begun
    after = _sizes(cube)
    added = {key: size for key, size in after.items() if before.get(key) != size}
    if tidied:
        _tidy(str(cube))
        after = _sizes(cube)
    return Day(seconds, Counter(map(kind_of, added)), sum(added.values()), _count(after), _weigh(after))


def _sizes(cube: Path) -> dict[str, int]:
    return {path.relative_to(cube).as_posix(): path.stat().st_size for path in cube.rglob("*") if path.is_file()}


def _count(sizes: dict[str, int]) -> Counter[str]:
    return Counter(map(kind_of, sizes))


def _weigh(sizes: dict[str, int]) -> Counter[str]:
    weights: Counter[str] = Counter()
    for key, size in sizes.items():
        weights[kind_of(key)] += size
    return weights


def _tidy(address: str) -> None:
    """As the chart's schedule does it, but without waiting until objects are old enough."""
    tidy(open_site(address), Retention(keep_days=0), apply=True)


def _simulate(out: Path, scene: SceneSettings, pool: WorkerPool) -> None:
    settings = SimulateSettings(out=str(out), **scene.model_dump())
    run_locally(SimulateJob(), settings, str(out), pool=pool, progress=False)


def _deliver(scene_folder: Path, source: Path, scene: SceneSettings, pairs: Iterable[int]) -> None:
    """Move images of pairs from the scene to where ingest looks."""
    for pair in pairs:
        image = scene_folder / image_key(scene, pair)
        shutil.move(image, source / image.name)


def _noon(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(hours=12)


def table(days: Sequence[Day]) -> list[str]:
    """Lines that compare the days around EARLY with the last ones."""
    early, late = days[EARLY - WINDOW : EARLY], days[-WINDOW:]
    kinds = sorted({kind for day in days for kind in day.kept})
    lines = [f"{'':24}{f'day {EARLY}':>12}{f'day {len(days)}':>12}{'ratio':>8}"]

    def row(name: str, first: float, last: float) -> None:
        lines.append(f"{name:24}{first:12.1f}{last:12.1f}{last / first if first else 1:8.2f}")

    row("seconds a day", *(statistics.median(day.seconds for day in part) for part in (early, late)))
    row("objects a day writes", *(statistics.mean(day.added.total() for day in part) for part in (early, late)))
    row("kB a day writes", *(statistics.mean(day.added_bytes for day in part) / 1e3 for part in (early, late)))
    for kind in kinds:
        row(f"{kind}: objects", early[-1].kept[kind], late[-1].kept[kind])
        row(f"{kind}: kB", early[-1].kept_bytes[kind] / 1e3, late[-1].kept_bytes[kind] / 1e3)
    return lines


def main() -> None:
    """Print the table, then leave."""
    days = int(sys.argv[1]) if len(sys.argv) > 1 else DAYS_OF_A_LONG_RUN
    with tempfile.TemporaryDirectory() as folder:
        print("\n".join(table(run_days(Path(folder), days, tidied="--no-tidy" not in sys.argv))))


if __name__ == "__main__":
    main()
