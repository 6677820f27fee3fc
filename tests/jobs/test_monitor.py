"""The monitor: pass after pass, and on other grids."""

from __future__ import annotations

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from pathlib import Path

import pystac
import pytest
from rio_cogeo.cogeo import cog_validate

from acdtask.engine.local import run_locally
from acdtask.engine.processes import WorkerPool
from acdtask.engine.stages import open_site
from acdtask.jobs.baseline.job import BaselineJob
from acdtask.jobs.baseline.settings import BaselineSettings
from acdtask.jobs.ingest.job import IngestJob
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.monitor.job import MonitorJob
from acdtask.jobs.monitor.months import read_images, read_month_patches
from acdtask.jobs.monitor.settings import MonitorSettings
from acdtask.jobs.patch_files import LocatedPatch
from acdtask.jobs.products import MonitorManifest
from acdtask.raster.grid import Layout, WebMercatorGrid
from acdtask.storage.store import Store
from tests.jobs.chain import LAYOUT, SCENE, digests, reference_end, run_chain, simulate


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(tmp_path_factory.mktemp("scene"))


@pytest.fixture(scope="module")
def cube(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    cube = tmp_path_factory.mktemp("monitor") / "cube"
    with WorkerPool(0) as pool:
        run_chain(scene, str(cube), pool)
    return cube


def monitor(scene: Path, cube: Path, layout: str = LAYOUT, **settings: object) -> str:
    wanted = MonitorSettings(aoi=str(scene / "aoi.json"), layout=layout, **settings)
    with WorkerPool(0) as pool:
        return run_locally(MonitorJob(), wanted, str(cube), pool=pool, progress=False).lines[0]


def manifest(cube: Path, layout: str = LAYOUT, name: str = "monitor") -> MonitorManifest:
    folder = cube / "products/koln-demo/monitor"
    content = json.loads(max((folder / f"CoherenceVV/{layout}/{name}.latest").iterdir()).read_bytes())["latest"]
    return MonitorManifest.model_validate_json(max((folder / content / "manifests").iterdir()).read_bytes())


def count(cube: Path, name: str) -> int:
    return len(read_images(manifest(cube, name=name), Store.at(str(cube))))


def patches(cube: Path, layout: str = LAYOUT, name: str = "monitor") -> list[LocatedPatch]:
    months = read_month_patches(manifest(cube, layout, name), Store.at(str(cube)))
    return [patch for month in months for patch in month]


def test_products_are_valid_cogs_and_stac_items(cube: Path) -> None:
    paths = sorted((cube / "products").rglob("*.tif"))
    assert len(paths) > 50
    for path in paths:
        assert cog_validate(path, strict=True, quiet=True)[0], path
    root = pystac.Catalog.from_file(str(cube / "catalog.json"))
    items = list(root.get_items(recursive=True))
    ingested = SCENE.reference_pairs + SCENE.monitored_pairs
    assert len(items) == ingested + 16 * (1 + SCENE.monitored_pairs)
    for item in items:
        for asset in item.assets.values():
            assert Path(str(asset.get_absolute_href())).exists()


def test_pass_after_pass_gives_what_one_run_gives(scene: Path, cube: Path) -> None:
    for passed in range(SCENE.monitored_pairs):
        end = reference_end() + timedelta(days=SCENE.pair_days * (passed + 1))
        before = count(cube, "passes") if passed else 0
        assert "16 tiles" in monitor(scene, cube, name="passes", end=end)
        assert count(cube, "passes") == before + 1
    assert "already" in monitor(scene, cube, name="passes")
    ours = [(patch.properties, patch.geometry) for patch in patches(cube, name="passes")]
    assert ours == [(patch.properties, patch.geometry) for patch in patches(cube)]


def test_two_runs_at_once_lose_nothing(scene: Path, cube: Path) -> None:
    """Two workflows for one AOI, each with images of its own, publish into the same result."""
    ends = [f"S1_*_{SCENE.pair_dates(SCENE.reference_pairs + k)[1]:%Y%m%d}_*" for k in range(SCENE.monitored_pairs)]
    with ProcessPoolExecutor(3, multiprocessing.get_context("spawn")) as pool:
        done = [pool.submit(monitor, scene, cube, name="at-once", records=pattern) for pattern in ends]
        assert all("16 tiles" in future.result() for future in done)
    ours = [(patch.properties, patch.geometry) for patch in patches(cube, name="at-once")]
    assert ours == [(patch.properties, patch.geometry) for patch in patches(cube)]


def test_another_setting_is_another_result(scene: Path, cube: Path) -> None:
    before = digests(cube)
    monitor(scene, cube, name="strict", false_per_1000km2=0.0)
    assert len(patches(cube, name="strict")) < len(patches(cube))
    after = digests(cube)
    catalogues = {"catalog.json", "products/koln-demo/catalog.json"}  # they name the new result too
    assert {key: after[key] for key in before if key not in catalogues} == {
        key: digest for key, digest in before.items() if key not in catalogues
    }


def test_web_mercator_tiles_of_any_size_give_the_same_patches(
    scene: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cube = tmp_path_factory.mktemp("mercator") / "cube"
    aoi = str(scene / "aoi.json")
    found = {}
    with WorkerPool(0) as pool:
        ingest = IngestSettings(source=str(scene / "images"))
        run_locally(IngestJob(), ingest, str(cube), pool=pool, progress=False)
        for grid in (WebMercatorGrid(zoom=12, scale=1), WebMercatorGrid(zoom=11, scale=2)):
            layout = Layout(name=f"z{grid.zoom}", grid=grid)
            open_site(str(cube)).cube.add_layout(layout)
            baseline = BaselineSettings(aoi=aoi, layout=layout.name, end=reference_end())
            run_locally(BaselineJob(), baseline, str(cube), pool=pool, progress=False)
            monitor(scene, cube, layout=layout.name, min_area=20)
            found[layout.name] = [(patch.properties, patch.geometry) for patch in patches(cube, layout.name)]
    assert found["z12"] == found["z11"]
    assert len(found["z12"]) > 0
