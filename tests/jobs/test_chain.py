"""The chain of jobs as a whole: what comes out depends on the data and the settings, and on nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from acdtask.engine.local import run_locally
from acdtask.engine.processes import WorkerPool
from acdtask.engine.stages import gather_round, load_plan, make_plan, open_site, run_shard
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.baseline.job import BaselineJob
from acdtask.jobs.baseline.settings import BaselineSettings
from acdtask.jobs.consolidate.job import ConsolidateJob
from acdtask.jobs.consolidate.settings import ConsolidateSettings
from acdtask.jobs.contract import Job, Settings
from acdtask.jobs.ingest.job import IngestJob
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.monitor.job import MonitorJob
from acdtask.jobs.monitor.months import read_images, read_month_patches
from acdtask.jobs.monitor.settings import MonitorSettings
from acdtask.jobs.patch_files import read_patches
from acdtask.jobs.products import ImageProduct, MonitorManifest
from acdtask.jobs.report.job import ReportJob, ReportSettings
from acdtask.storage.store import Store
from tests.change import reference as plain
from tests.jobs.chain import LAYOUT, SCENE, Chain, digests, reference_end, run_chain, simulate


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(tmp_path_factory.mktemp("scene"))


@pytest.fixture(scope="module")
def four_workers() -> Iterator[WorkerPool]:
    with WorkerPool(4) as pool:
        yield pool


@pytest.fixture(scope="module")
def inline_cube(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    cube = tmp_path_factory.mktemp("inline") / "cube"
    with WorkerPool(0) as pool:
        run_chain(scene, str(cube), pool)
    return cube


def manifest_of(cube: Path) -> MonitorManifest:
    (path,) = cube.glob("products/*/monitor/*/manifests/*.json")
    return MonitorManifest.model_validate_json(path.read_bytes())


def images_of(cube: Path) -> list[ImageProduct]:
    return read_images(manifest_of(cube), Store.at(str(cube)))


def patches_of(cube: Path) -> list[tuple[object, ...]]:
    """Everything about the patches that must not depend on how the area was cut."""
    months = read_month_patches(manifest_of(cube), Store.at(str(cube)))
    patches = [patch for month in months for patch in month]
    return [(json.dumps(patch.properties), patch.geometry.wkt) for patch in patches]


def mask_of(cube: Path, day: int) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    """Change and quality of a date on the whole scene, from its tiles."""
    place = SCENE.transform
    whole = np.full((2, *SCENE.shape), 255, np.uint8)
    for tile in images_of(cube)[day].tiles:
        a, _, c, _, e, f = tile.tile.grid.transform
        row, column = round((f - place[5]) / e), round((c - place[2]) / a)
        with rasterio.open(cube / tile.change.uri) as raster:
            pixels = raster.read()
        size = pixels.shape[1]
        rows, columns = range(max(row, 0), min(row + size, 160)), range(max(column, 0), min(column + size, 160))
        if len(rows) and len(columns):
            whole[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = pixels[
                :, rows[0] - row : rows[-1] + 1 - row, columns[0] - column : columns[-1] + 1 - column
            ]
    return whole


def read_band(path: Path) -> np.ndarray[tuple[int, int], np.dtype[np.int16]]:
    with rasterio.open(path) as raster:
        return np.asarray(raster.read(1))


def test_the_chain_finds_something_and_reports_it(inline_cube: Path) -> None:
    images = images_of(inline_cube)
    assert len(images) == SCENE.monitored_pairs
    assert sum(day.patch_count for day in images) > 0
    (page,) = inline_cube.glob("products/*/report/*/index.html")
    assert "koln-demo" in page.read_text()


def test_four_workers_and_other_shards_give_the_same_bytes(
    scene: Path, inline_cube: Path, four_workers: WorkerPool, tmp_path: Path
) -> None:
    run_chain(scene, str(tmp_path / "cube"), four_workers, Chain(shard_tiles=3, shard_files=7))
    assert digests(tmp_path / "cube") == digests(inline_cube)


def test_one_worker_gives_the_same_bytes(scene: Path, inline_cube: Path, tmp_path: Path) -> None:
    with WorkerPool(1) as pool:
        run_chain(scene, str(tmp_path / "cube"), pool, Chain(shard_tiles=2, shard_files=1))
    assert digests(tmp_path / "cube") == digests(inline_cube)


def test_shards_of_the_size_that_the_work_asks_for_give_the_same_bytes(
    scene: Path, inline_cube: Path, four_workers: WorkerPool, tmp_path: Path
) -> None:
    outcomes = run_chain(scene, str(tmp_path / "cube"), four_workers, Chain(pod_start=0.02))
    shards = {outcome.plan.job: (outcome.plan.shards, outcome.plan.units) for outcome in outcomes}
    assert any(1 < number < units for number, units in shards.values()), shards
    assert digests(tmp_path / "cube") == digests(inline_cube)


@pytest.mark.parametrize("cell", [37, 96, 256])
def test_patches_and_masks_do_not_depend_on_the_tiles(
    cell: int, scene: Path, inline_cube: Path, four_workers: WorkerPool, tmp_path: Path
) -> None:
    run_chain(scene, str(tmp_path / "cube"), four_workers, Chain(cell=cell, consolidate=cell != 96))
    assert patches_of(tmp_path / "cube") == patches_of(inline_cube)
    for day in range(SCENE.monitored_pairs):
        np.testing.assert_array_equal(mask_of(tmp_path / "cube", day), mask_of(inline_cube, day))


def test_running_the_chain_again_does_nothing(scene: Path, inline_cube: Path, four_workers: WorkerPool) -> None:
    before = files_of(inline_cube)
    outcomes = run_chain(scene, str(inline_cube), four_workers)
    assert [bool(outcome.plan.nothing_to_do) for outcome in outcomes] == [True] * 5
    assert files_of(inline_cube) == before, "runs and index included"


def files_of(folder: Path) -> dict[Path, int]:
    """Every file and folder, and when it was changed last."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_the_same_chain_on_s3_gives_the_same_products(
    scene: Path, inline_cube: Path, four_workers: WorkerPool, s3_address: str
) -> None:
    run_chain(scene, s3_address, four_workers)
    store = open_site(s3_address).store
    ours = {key for key in store.list() if not key.startswith(("runs/", "index/hint"))}
    there = digests(inline_cube)
    assert ours == set(there)
    different = [key for key in sorted(ours) if store.get(key) != (inline_cube / key).read_bytes()]
    assert different == []


def test_the_tutorial_profile_equals_plain_numpy_and_skimage(
    scene: Path, four_workers: WorkerPool, tmp_path: Path
) -> None:
    cube = tmp_path / "cube"
    run_chain(scene, str(cube), four_workers, Chain(profile="tutorial"))
    paths = sorted((scene / "images").glob("*.tif"))
    images = np.stack([read_band(path) for path in paths])
    images[images == -1] = 0
    for day in range(SCENE.monitored_pairs):
        reference, image = images[: SCENE.reference_pairs], images[SCENE.reference_pairs + day]
        blobs = plain.blobs_of(plain.tutorial_z(reference, image), low=1.7, high=3.0, min_area=100)
        change, _ = mask_of(cube, day)
        np.testing.assert_array_equal(change == 1, blobs > 0)
        found = read_patches((cube / images_of(cube)[day].patches).read_bytes())
        assert [patch.patch.area_px for patch in found] == np.bincount(blobs.ravel())[1:].tolist()


def test_shards_in_any_order_and_twice_give_the_same_bytes(
    scene: Path, inline_cube: Path, four_workers: WorkerPool, tmp_path: Path
) -> None:
    """As pods would run them: backwards, and some of them again while others are not done."""
    cube = str(tmp_path / "cube")
    common = {"aoi": str(scene / "aoi.json"), "layout": LAYOUT}
    ingest = IngestSettings(source=str(scene / "images"))
    backwards(IngestJob(), ingest, cube)
    open_site(cube).cube.add_layout(open_site(str(inline_cube)).cube.layout(LAYOUT))
    backwards(ConsolidateJob(), ConsolidateSettings(**common), cube)
    backwards(BaselineJob(), BaselineSettings(**common, end=reference_end()), cube)
    backwards(MonitorJob(), MonitorSettings(**common), cube)
    backwards(ReportJob(), ReportSettings(**common, truth=str(scene / "truth.geojson")), cube)
    assert digests(tmp_path / "cube") == digests(inline_cube)


def backwards(job: Job[Any, Any], settings: Settings, cube: str) -> None:
    plan = make_plan(job, settings, open_site(cube))
    for round_name in plan.rounds:
        for shard in reversed(range(plan.shards)):
            run_shard(job, plan, round_name, shard, open_site(cube))
            (marker,) = Path(cube, "runs", job.name, plan.plan_id, round_name).glob(f"{shard:04d}*.json")
            if shard % 3 == 0:
                marker.unlink()
        with pytest.raises(AcdError) as raised:
            gather_round(job, plan, round_name, open_site(cube))
        assert raised.value.code is ErrorCode.SHARDS_MISSING
        assert ": 0" in raised.value.detail
        for shard in range(0, plan.shards, 3):
            run_shard(job, load_plan(job, plan.plan_id, open_site(cube)), round_name, shard, open_site(cube))
        gather_round(job, plan, round_name, open_site(cube))


def test_layout_is_in_the_cube(inline_cube: Path) -> None:
    assert [layout.name for layout in open_site(str(inline_cube)).cube.layouts()] == [LAYOUT]


def test_a_report_of_more_dates_than_shards_is_the_same(
    scene: Path, inline_cube: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cube = tmp_path / "cube"
    shutil.copytree(inline_cube, cube, ignore=shutil.ignore_patterns("report"))
    monkeypatch.setattr("acdtask.jobs.shards.MAX_SHARDS", 2)
    settings = ReportSettings(
        aoi=str(scene / "aoi.json"), layout=LAYOUT, truth=str(scene / "truth.geojson"), shard_images=1
    )
    with WorkerPool(0) as pool:
        outcome = run_locally(ReportJob(), settings, str(cube), pool=pool, progress=False)
    assert (outcome.plan.shards, outcome.plan.units) == (2, 1 + SCENE.monitored_pairs)
    assert digests(cube) == digests(inline_cube)
