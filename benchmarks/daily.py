"""`python -m benchmarks.daily [DAYS]`: what a day costs, early and late in a series of daily runs on a small area.

Every day one new image arrives and the five commands of a monitor run, as a schedule would start them; `tidy` follows.
"""

from __future__ import annotations

import re
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from acdtask.engine.local import run_locally
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
from acdtask.jobs.simulate.job import SimulateJob, SimulateSettings, image_key
from acdtask.jobs.simulate.settings import SceneSettings
from acdtask.maintenance.tidy.clean import tidy
from acdtask.maintenance.tidy.retention import Retention
from acdtask.raster.grid import Layout, RegularGrid

SIZE, CELL, REFERENCE, EVENTS = 192, 64, 24, 20
EARLY, WINDOW, DATES, TOLERANCE = 20, 7, 10, 0.25
LAYOUT = "utm"
DAYS_OF_A_LONG_RUN = 120


@dataclass(frozen=True)
class Day:
    """What one day's run took and added to the store, and what the store held after `tidy`."""

    seconds: float
    added: Counter[str]
    added_bytes: Counter[str]
    kept: Counter[str]
    kept_bytes: Counter[str]


PLACES = (
    ("images", re.compile("data/")),
    ("consolidation", re.compile("consolidated/|runs/consolidate/")),
    ("products of dates", re.compile(r"products/[^/]+/monitor/[0-9a-f]+/[^/]+-[0-9a-f]{12}/")),
    ("news", re.compile(r"products/[^/]+/monitor/[0-9a-f]+/news/")),
    ("pictures of dates", re.compile(r"products/[^/]+/report/[0-9a-f]+/dates/")),
    ("months", re.compile(r"products/[^/]+/monitor/[0-9a-f]+/(months|patches)/")),
    ("months", re.compile(r"products/[^/]+/report/[0-9a-f]+/((pages|drawn)/)?\d{4}-\d\d")),
    ("baseline", re.compile(r"products/[^/]+/baseline/")),
    ("runs", re.compile("runs/")),
    ("index", re.compile("index/")),
)
"""Which part of the store an object belongs to; the rest is manifests, tables and pages."""

OF_THE_DAY = frozenset({"images", "consolidation", "products of dates", "pictures of dates", "months", "news"})
"""What a store keeps of every day on purpose; a month lists its days.

Consolidation writes more on some days than on others, like a binary counter.
"""


def kind_of(key: str) -> str:
    """The part of the store that an object belongs to.

    >>> kind_of("products/site/monitor/0f/manifests/000001.json"), kind_of("index/heads/00000001.json")
    ('documents', 'index')
    """
    return next((kind for kind, place in PLACES if place.match(key)), "documents")


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
        # Fewer dates than EARLY on the first page, so that each day writes the page of its month too.
        self._report = ReportSettings(**area, dates=DATES)

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
    return Day(seconds, _count(added), _weigh(added), _count(after), _weigh(after))


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


@dataclass(frozen=True)
class Row:
    """A figure at an early day and at the last one. `bounded`: it may not grow by more than TOLERANCE."""

    name: str
    early: float
    late: float
    bounded: bool

    @property
    def is_kept(self) -> bool:
        """Whether the bound holds."""
        return not self.bounded or self.late <= self.early * (1 + TOLERANCE)

    def __str__(self) -> str:
        ratio = f"{self.late / self.early:8.2f}" if self.early else f"{'-':>8}"
        verdict = ("  bounded" if self.is_kept else "  GROWS") if self.bounded else ""
        return f"{self.name:42}{self.early:12.1f}{self.late:12.1f}{ratio}{verdict}"


def rows_of(days: Sequence[Day]) -> list[Row]:
    """The days around EARLY compared with the last ones: all that is beside the days' own together, then each kind."""
    early, late = days[EARLY - WINDOW : EARLY], days[-WINDOW:]
    kinds = sorted({kind for day in days for kind in day.kept})
    overhead = [kind for kind in kinds if kind not in OF_THE_DAY]
    # Seconds are for a reader: a machine that does something else may not fail this.
    rows = [Row("seconds of a day", _median_seconds(early), _median_seconds(late), bounded=False)]
    for name, chosen in [("beside the days' own", overhead), *((kind, [kind]) for kind in kinds)]:
        for what, figure in FIGURES.items():
            first, last = (sum(figure(part, kind) for kind in chosen) for part in (early, late))
            rows.append(Row(f"{what}, {name}", first, last, bounded=chosen is overhead))
    return rows


def _median_seconds(days: Sequence[Day]) -> float:
    return statistics.median(day.seconds for day in days)


FIGURES: dict[str, Callable[[Sequence[Day], str], float]] = {
    "objects written": lambda part, kind: statistics.mean(day.added[kind] for day in part),
    "kB written": lambda part, kind: statistics.mean(day.added_bytes[kind] for day in part) / 1e3,
    "objects kept": lambda part, kind: part[-1].kept[kind],
    "kB kept": lambda part, kind: part[-1].kept_bytes[kind] / 1e3,
}
"""A day's mean of what it wrote, and what the store held at the end."""


def main() -> int:
    """Print the comparison; 1 if something grew that should not."""
    days = int(sys.argv[1]) if len(sys.argv) > 1 else DAYS_OF_A_LONG_RUN
    with tempfile.TemporaryDirectory() as folder:
        rows = rows_of(run_days(Path(folder), days, tidied="--no-tidy" not in sys.argv))
    print(f"{'':42}{f'day {EARLY}':>12}{f'day {days}':>12}{'ratio':>8}")
    print("\n".join(map(str, rows)))
    return 0 if all(row.is_kept for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
