"""A cube that is tidied every day gives the same results as one that is never tidied, bit for bit."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from acdtask.cli import main
from acdtask.engine.local import LocalOutcome, run_locally
from acdtask.engine.processes import WorkerPool
from acdtask.engine.stages import open_site
from acdtask.errors import ErrorCode
from acdtask.jobs.baseline.job import BaselineJob
from acdtask.jobs.baseline.settings import BaselineSettings
from acdtask.jobs.consolidate.job import ConsolidateJob
from acdtask.jobs.consolidate.settings import ConsolidateSettings
from acdtask.jobs.ingest.job import IngestJob
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.manifests import find_manifest
from acdtask.jobs.monitor.content import CutTiles, MonitorContext, MonitorWork
from acdtask.jobs.monitor.cut import CutMasks
from acdtask.jobs.monitor.job import MonitorJob
from acdtask.jobs.monitor.label import Blobs
from acdtask.jobs.monitor.settings import MonitorSettings
from acdtask.jobs.report.job import ReportJob, ReportSettings
from acdtask.jobs.simulate.settings import SceneSettings
from acdtask.maintenance.tidy.clean import tidy
from acdtask.maintenance.tidy.retention import Retention
from acdtask.raster.grid import Layout, RegularGrid
from tests.jobs.chain import LAYOUT, reference_end, simulate
from tests.maintenance.tidy.completeness import missing_names

SCENE = SceneSettings(size=128, reference_pairs=6, monitored_pairs=4, events=6, seed=11)
LEAST = Retention(keep_days=0, keep_runs=1, keep_versions=1, keep_heads=1)
DAYS = [[0, 1, 2, 3, 4, 5], [6], [8], [7], [9]]
"""The images that arrive each day, by number: those of the baseline, then one per day, one of them late."""
QUARANTINE_DAY = 2


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(tmp_path_factory.mktemp("scene"), SCENE)


class Area:
    """A cube that gets one image per day."""

    def __init__(self, scene: Path, source: Path, address: str) -> None:
        self.scene, self.source, self.address = scene, source, address
        source.mkdir()
        self._images = sorted((scene / "images").glob("*.tif"))

    def run(self, day: int) -> list[LocalOutcome]:
        """Run everything that a day needs."""
        for number in DAYS[day]:
            shutil.copy(self._images[number], self.source)
        return self.again(quarantine=int(day == QUARANTINE_DAY))

    def again(self, quarantine: int = 0) -> list[LocalOutcome]:
        """Run all jobs on the images ingested so far."""
        common: dict[str, Any] = {"aoi": str(self.scene / "aoi.json"), "layout": LAYOUT}
        with WorkerPool(0) as pool:

            def run(job: Any, settings: Any) -> LocalOutcome:
                return run_locally(job, settings, self.address, pool=pool, progress=False, quarantine=quarantine)

            outcomes = [run(IngestJob(), IngestSettings(source=str(self.source), shard_files=2))]
            grid = RegularGrid(crs="EPSG:32632", resolution=20, cell_size=64)
            open_site(self.address).cube.add_layout(Layout(name=LAYOUT, grid=grid))
            outcomes.append(run(ConsolidateJob(), ConsolidateSettings(**common)))
            outcomes.append(run(BaselineJob(), BaselineSettings(**common, end=reference_end(SCENE))))
            if len(list(self.source.iterdir())) > SCENE.reference_pairs:
                outcomes.append(run(MonitorJob(), MonitorSettings(**common, min_count=4, min_area=20)))
                outcomes.append(run(ReportJob(), ReportSettings(**common)))
        return outcomes

    @property
    def store(self) -> Any:
        return open_site(self.address).store

    def manifest(self) -> bytes:
        """The newest manifest of the monitor."""
        name, missing = f"CoherenceVV/{LAYOUT}/monitor", ErrorCode.MONITOR_UNKNOWN
        aoi = next(key.split("/")[1] for key in self.store.list("products"))
        return find_manifest(self.store, aoi, "monitor", name, "latest", missing)[1]

    def patches(self, capfd: pytest.CaptureFixture[str]) -> str:
        """What `acdtask show patches` prints."""
        capfd.readouterr()
        place = ["--cube", self.address, "--aoi", str(self.scene / "aoi.json"), "--layout", LAYOUT]
        assert main(["-q", "show", "patches", *place, "--limit", "0", "--json"]) == 0
        return capfd.readouterr().out


def failing_shard(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """A switch that makes one shard of the monitor fail permanently."""
    original, active = CutMasks.run, [False]

    def run(me: CutMasks, work: MonitorWork, handout: Blobs, context: MonitorContext) -> CutTiles:
        if active[0] and work.tiles[0].tile.i == 0:
            raise RuntimeError("the disk of this node is full of bees")
        return original(me, work, handout, context)

    monkeypatch.setattr(CutMasks, "run", run)

    def switch(to: bool) -> None:
        active[0] = to

    return switch


def test_a_tidied_cube_gives_what_one_that_was_never_tidied_gives(
    scene: Path, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    twin = Area(scene, tmp_path / "twin-source", str(tmp_path / "twin"))
    tidied = Area(scene, tmp_path / "source", place)
    fail = failing_shard(monkeypatch)
    for day in range(len(DAYS)):
        fail(day == QUARANTINE_DAY)
        twin.run(day)
        tidied.run(day)
        removed = tidy(open_site(place), LEAST, apply=True).as_json()
        assert removed["objects"] > 0
        assert removed["unknown"] == []
        assert missing_names(tidied.store) == []
    fail(False)
    assert tidied.manifest() == twin.manifest()
    assert tidied.patches(capfd) == twin.patches(capfd)
    kept = [key for key in tidied.store.list() if not key.startswith(("runs/", "index/"))]
    assert {key: tidied.store.get(key) for key in kept} == {key: twin.store.find(key) for key in kept}
    assert len(kept) < len([key for key in twin.store.list() if not key.startswith(("runs/", "index/"))])
    assert all(outcome.plan.nothing_to_do for outcome in tidied.again())
    assert tidy(open_site(place), LEAST, apply=True).as_json()["unknown"] == []
    assert missing_names(tidied.store) == []


def test_a_dry_run_deletes_nothing_and_says_what_apply_would_delete(scene: Path, place: str, tmp_path: Path) -> None:
    area = Area(scene, tmp_path / "source", place)
    for day in range(3):
        area.run(day)
    before = {key: area.store.get(key) for key in area.store.list()}
    dry = tidy(open_site(place), LEAST).as_json()
    assert {key: area.store.get(key) for key in area.store.list()} == before
    applied = tidy(open_site(place), LEAST, apply=True).as_json()
    assert applied["removed"] == dry["removed"]
    assert len(before) - len(area.store.list()) == applied["objects"] == dry["objects"]
    assert applied["bytes"] == sum(len(body) for key, body in before.items() if not area.store.exists(key))
    assert tidy(open_site(place), LEAST, apply=True).as_json()["objects"] == 0


def test_by_default_everything_of_the_last_two_weeks_stays(scene: Path, tmp_path: Path) -> None:
    area = Area(scene, tmp_path / "source", str(tmp_path / "cube"))
    for day in range(2):
        area.run(day)
    assert tidy(open_site(area.address), Retention(), apply=True).as_json()["objects"] == 0
