"""A series: what makes images pending, what judges them anew, and what does not.

A patch release, another baseline version, other shards or workers make nothing pending and nothing news.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from acdtask.engine.local import run_locally
from acdtask.engine.processes import WorkerPool
from acdtask.engine.stages import open_site, run_shard
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.baseline.job import BaselineJob
from acdtask.jobs.baseline.settings import BaselineSettings
from acdtask.jobs.consolidate.job import ConsolidateJob
from acdtask.jobs.consolidate.settings import ConsolidateSettings
from acdtask.jobs.ingest.job import IngestJob
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.monitor.job import MonitorJob
from acdtask.jobs.monitor.months import images_of_month
from acdtask.jobs.monitor.settings import MonitorSettings
from acdtask.jobs.report.job import ReportJob, ReportSettings
from acdtask.maintenance.tidy.clean import tidy
from acdtask.maintenance.tidy.retention import Retention
from acdtask.raster.grid import Layout, RegularGrid
from acdtask.storage.store import Store
from tests.jobs.rasters import CRS, ORIGIN
from tests.jobs.series import (
    COUNT,
    EARLIER,
    LAST,
    MONITORED,
    PIXELS,
    REFERENCE,
    KilledError,
    Nightly,
    bring,
    current_version,
    images,
    killed,
    make_judged,
    planned,
    records,
    result,
    version_of,
    z_of,
)
from tests.jobs.small_site import LAYOUT, RESOLUTION, baseline, ends, make_cube, monitor, run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_judged(tmp_path_factory.mktemp("series"))


@pytest.fixture
def cube(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "made")) / "cube"


@pytest.fixture
def nightly(cube: Path, monkeypatch: pytest.MonkeyPatch) -> Nightly:
    return Nightly(cube, monkeypatch)


def a_patch_release(cube: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    modules = [
        name for name, module in sys.modules.items() if name.startswith("acdtask") and "__version__" in vars(module)
    ]
    assert {"acdtask", "acdtask.engine.planning", "acdtask.jobs.monitor.publish"} <= {*modules}
    for name in modules:
        monkeypatch.setattr(sys.modules[name], "__version__", "0.1.99")
    return {}


def another_baseline(cube: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    baseline(cube, end=EARLIER)
    return {}


def a_baseline_that_ends_later(cube: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    baseline(cube, end=ends(REFERENCE))
    return {}


def other_shards(cube: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    return {"shard_tiles": 3}


def consolidated_images(cube: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    settings = ConsolidateSettings(aoi=str(cube.parent / "aoi.json"), layout=LAYOUT, shard_tiles=2)
    assert run(ConsolidateJob(), settings, cube).plan.units
    return {}


def images_ingested_in_other_shards(cube: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    run(IngestJob(), IngestSettings(source=str(cube.parent / "images"), shard_files=1), cube)
    return {}


CHANGES = [
    a_patch_release,
    another_baseline,
    a_baseline_that_ends_later,
    other_shards,
    consolidated_images,
    images_ingested_in_other_shards,
]


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_is_pending_and_nothing_is_announced_after(
    change: Any, cube: Path, nightly: Nightly, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = change(cube, monkeypatch)
    before = written(cube)
    assert planned(cube, **settings).nothing_to_do
    with WorkerPool(2) as pool:
        given = MonitorSettings(aoi=str(cube.parent / "aoi.json"), layout=LAYOUT, **settings)
        assert run_locally(MonitorJob(), given, str(cube), pool=pool, progress=False).plan.nothing_to_do
    assert nightly.run(**settings) == ("heartbeat", [])
    assert written(cube) == before


def written(cube: Path) -> dict[Path, int]:
    """The files of the monitor's products, and when they were written."""
    files = (path for path in (cube / "products/site/monitor").rglob("*") if path.is_file())
    return {path: path.stat().st_mtime_ns for path in files}


def test_a_layout_of_other_cells_is_another_series_and_a_backfill(cube: Path, nightly: Nightly) -> None:
    grid = RegularGrid(crs=CRS, resolution=RESOLUTION, ox=ORIGIN[0], oy=ORIGIN[1], cell_size=16)
    open_site(str(cube)).cube.add_layout(Layout(name="small", grid=grid))
    aoi = str(cube.parent / "aoi.json")
    run(BaselineJob(), BaselineSettings(aoi=aoi, layout="small", end=LAST), cube)
    assert nightly.run(layout="small") == ("heartbeat", [])
    series = planned(cube, layout="small").series
    assert series is not None
    assert series.id != result(cube).content_id


def test_a_patch_release_makes_no_baseline_again(cube: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_patch_release(cube, monkeypatch)
    assert "is the latest" in baseline(cube, end=LAST).lines[0]
    assert "is the latest" in baseline(cube, end=LAST, shard_tiles=2).lines[0]


def test_a_patch_release_goes_on_with_an_interrupted_plan(cube: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site, job = open_site(str(cube)), MonitorJob()
    plan = planned(cube, high=4.0)
    run_shard(job, plan, "statistics", 0, site)
    tables = {path: path.stat().st_mtime_ns for path in cube.glob(f"runs/monitor/{plan.plan_id}/statistics/*.table")}
    a_patch_release(cube, monkeypatch)
    again = planned(cube, high=4.0)
    assert again.plan_id == plan.plan_id
    run_shard(job, again, "statistics", 0, site)
    assert {path: path.stat().st_mtime_ns for path in tables} == tables


def test_a_plan_of_another_algorithm_is_refused(cube: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(cube, high=4.0)
    monkeypatch.setattr(MonitorJob, "algorithm", 99)
    with pytest.raises(AcdError) as caught:
        run_shard(MonitorJob(), plan, "statistics", 0, open_site(str(cube)))
    assert caught.value.code is ErrorCode.PLAN_STALE


@pytest.mark.parametrize(
    "settings",
    [
        {"high": 50.0},
        {"min_area": 3},
        {"profile": "tutorial"},
        {"name": "other"},
        {"mixed": True},
    ],
    ids=str,
)
def test_another_method_or_name_is_another_series(settings: dict[str, Any], cube: Path) -> None:
    series = planned(cube, **settings).series
    assert series is not None
    assert series.id != result(cube).content_id


@pytest.mark.parametrize(
    "settings", [{"end": ends(COUNT - 2)}, {"records": "S1_2020*"}, {"leave_out": ("*",)}], ids=str
)
def test_what_chooses_among_images_leaves_the_series_as_it_is(settings: dict[str, Any], cube: Path) -> None:
    series = planned(cube, **settings).series
    assert series is not None
    assert series.id == result(cube).content_id


def test_each_image_says_which_baseline_version_it_was_judged_against(cube: Path) -> None:
    old = current_version(cube)
    new = version_of(baseline(cube, end=EARLIER))
    bring(cube, COUNT + 1)
    lines = monitor(cube).lines
    assert [product.baseline for product in images(cube)] == [old] * MONITORED + [new]
    assert result(cube).baseline == new
    for product in images(cube):
        (item, *_) = (cube / product.folder).glob("*_0_0.json")
        assert json.loads(item.read_text())["properties"]["acd:baseline"] == product.baseline
        with rasterio.open(cube / product.tiles[0].z.uri) as raster:
            assert raster.tags()["ACD_BASELINE"] == product.baseline
    tags = {record.tags["acd:baseline"] for record in records(cube)}
    assert tags == {old, new}
    (told,) = [line for line in lines if "other versions of the baseline" in line]
    assert f"{MONITORED} images of this series were judged against" in told
    assert old in told
    assert new in told
    assert "--again" in told


def test_nothing_to_do_says_which_version_the_images_were_judged_against(cube: Path) -> None:
    old, new = current_version(cube), version_of(baseline(cube, end=EARLIER))
    why = monitor(cube).lines[0]
    assert f"{MONITORED} images of this series" in why
    assert f"{old} ({MONITORED})" in why
    assert new in why
    assert "--again" in why


def test_again_judges_exactly_the_images_that_were_asked_for(cube: Path, tmp_path: Path) -> None:
    old, before = current_version(cube), images(cube)
    new = version_of(baseline(cube, end=EARLIER))
    asked = before[1].datetime
    outcome = monitor(cube, again=True, start=asked, end=asked + timedelta(hours=23))
    assert [image.label for image in outcome.plan.content.images] == [before[1].label]
    after = images(cube)
    assert [product.baseline for product in after] == [old, new, old]
    assert [after[0], after[2]] == [before[0], before[2]]
    for product in before:  # the old ones can still be read
        z_of(cube, product)
    assert sorted(record.tags["acd:baseline"] for record in records(cube)) == sorted([old, new, old])
    datasets = open_site(str(cube)).cube.datasets("CoherenceVV_Z", "monitor")
    assert {dataset.uri for dataset in datasets} == {tile.z.uri for product in after for tile in product.tiles}
    assert planned(cube).nothing_to_do
    again = planned(cube, again=True, start=asked, end=asked + timedelta(hours=23))
    assert f"against version {new}" in again.nothing_to_do

    monitor(cube, again=True)
    fresh = make_cube(tmp_path / "fresh", COUNT, PIXELS)
    baseline(fresh, end=EARLIER)
    monitor(fresh, start=before[0].datetime)
    for mine, other, earlier in zip(images(cube), images(fresh), before, strict=True):
        np.testing.assert_array_equal(z_of(cube, mine), z_of(fresh, other))
        assert (z_of(cube, mine) != z_of(cube, earlier)).any()
        assert mine.patch_count == other.patch_count


def test_again_can_go_back_to_a_named_version(cube: Path) -> None:
    old, before = current_version(cube), images(cube)
    new = version_of(baseline(cube, end=EARLIER))
    monitor(cube, again=True)
    assert {product.baseline for product in images(cube)} == {new}
    monitor(cube, again=True, baseline=old)
    assert images(cube) == before
    assert planned(cube, baseline=old).nothing_to_do
    monitor(cube, again=True, baseline=new)
    assert (
        {record.tags["acd:baseline"] for record in records(cube)}
        == {product.baseline for product in images(cube)}
        == {new}
    )


def test_an_again_that_is_killed_before_the_index_knows_goes_on(cube: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new = version_of(baseline(cube, end=EARLIER))
    monkeypatch.setattr("acdtask.jobs.monitor.publish.write_catalogue", killed)
    with pytest.raises(KilledError):
        monitor(cube, again=True)
    monkeypatch.undo()
    assert {product.baseline for product in images(cube)} == {new}
    assert {record.tags["acd:baseline"] for record in records(cube)} != {new}
    monitor(cube)
    assert {record.tags["acd:baseline"] for record in records(cube)} == {new}
    assert planned(cube).nothing_to_do


def test_images_between_an_earlier_end_and_the_series_can_be_asked_for(cube: Path) -> None:
    """The advice of the line is followed."""
    baseline(cube, end=EARLIER)
    bring(cube, COUNT + 1)
    (told,) = [line for line in monitor(cube).lines if "the baseline ends on" in line]
    assert f"--start {EARLIER.date()}" in told
    monitor(cube, start=EARLIER + timedelta(hours=1))
    assert len(images(cube)) == COUNT + 1 - (REFERENCE - 1)


def test_a_report_says_the_versions_and_draws_no_past_date_again(cube: Path) -> None:
    settings = ReportSettings(aoi=str(cube.parent / "aoi.json"), layout=LAYOUT)
    run(ReportJob(), settings, cube)
    drawn = {path: path.stat().st_mtime_ns for path in cube.glob("products/site/report/*/dates/**/*.png")}
    assert len(drawn) == 3 * MONITORED
    old, new = current_version(cube), version_of(baseline(cube, end=EARLIER))
    bring(cube, COUNT + 1)
    monitor(cube)
    run(ReportJob(), settings, cube)
    now = {path: path.stat().st_mtime_ns for path in cube.glob("products/site/report/*/dates/**/*.png")}
    assert drawn.items() <= now.items()
    assert len(now) == 3 * (MONITORED + 1)
    (page,) = cube.glob("products/site/report/*/index.html")
    assert {f"{old}: {MONITORED}", f"{new}: 1"} == set(re.findall(r"[0-9a-f]{16}: \d+", page.read_text()))


def test_tidy_removes_what_was_judged_before_and_keeps_what_was_announced(cube: Path, nightly: Nightly) -> None:
    bring(cube, COUNT + 1)
    nightly.run()
    before = images(cube)
    baseline(cube, end=EARLIER)
    monitor(cube, again=True)
    tidied = tidy(open_site(str(cube)), Retention(keep_days=0, keep_runs=1, keep_versions=1, keep_heads=1), apply=True)
    assert tidied.broom.unknown == []
    assert not any((cube / tile.z.uri).exists() for product in before for tile in product.tiles)
    for product in images(cube):
        z_of(cube, product)
    assert planned(cube).nothing_to_do
    assert nightly.run() == ("heartbeat", [])
    assert len(list(cube.glob("events/site/news/*/announced/*/*"))) == 1


def test_the_months_count_the_images_of_each_version(cube: Path) -> None:
    baseline(cube, end=EARLIER)
    monitor(cube, again=True, end=images(cube)[0].datetime + timedelta(hours=1))
    store = Store.at(str(cube))
    for month in result(cube).months:
        versions = [product.baseline for product in images_of_month(month, store)]
        assert month.baselines == {version: versions.count(version) for version in versions}
        assert month.baseline == versions[-1]
