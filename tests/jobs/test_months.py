"""A monitoring result is kept month by month, so that a day's run costs the day."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from acdtask import log
from acdtask.cli import main
from acdtask.engine.local import run_locally
from acdtask.engine.processes import WorkerPool
from acdtask.engine.stages import open_site
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.baseline.job import BaselineJob
from acdtask.jobs.baseline.settings import BaselineSettings
from acdtask.jobs.ingest.job import IngestJob
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.manifests import find_manifest
from acdtask.jobs.monitor.documents import keys_of_catalogue
from acdtask.jobs.monitor.job import MonitorJob
from acdtask.jobs.monitor.months import keys_of, patches_of_month, read_images, read_month_patches
from acdtask.jobs.monitor.settings import MonitorSettings
from acdtask.jobs.patch_files import read_patches
from acdtask.jobs.products import MonitorManifest
from acdtask.jobs.simulate.settings import SceneSettings
from acdtask.raster.grid import Layout, RegularGrid
from acdtask.storage.store import Store
from tests.jobs.chain import LAYOUT, reference_end, simulate

SCENE = SceneSettings(size=96, reference_pairs=24, monitored_pairs=7, events=8, seed=11)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(tmp_path_factory.mktemp("scene"), SCENE)


@pytest.fixture(scope="module")
def monitored(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    cube = with_baseline(scene, tmp_path_factory.mktemp("months") / "cube")
    monitor(scene, cube)
    return cube


def with_baseline(scene: Path, cube: Path) -> Path:
    open_site(str(cube)).create_cube()
    with WorkerPool(0) as pool:
        run_locally(IngestJob(), IngestSettings(source=str(scene / "images")), str(cube), pool=pool, progress=False)
        grid = RegularGrid(crs="EPSG:32632", resolution=20, cell_size=96)
        open_site(str(cube)).cube.add_layout(Layout(name=LAYOUT, grid=grid))
        settings = BaselineSettings(
            aoi=str(scene / "aoi.json"), layout=LAYOUT, end=reference_end(SCENE), profile="standard"
        )
        run_locally(BaselineJob(), settings, str(cube), pool=pool, progress=False)
    return cube


def monitor(scene: Path, cube: Path, *passes: int) -> dict[str, str]:
    """Monitor some passes, or all; the files that the run names."""
    dates = [SCENE.pair_dates(SCENE.reference_pairs + place)[1] for place in passes]
    files: dict[str, str] = {}
    for pattern in [f"S1_*_{date:%Y%m%d}_*" for date in dates] or [""]:
        settings = MonitorSettings(aoi=str(scene / "aoi.json"), layout=LAYOUT, records=pattern)
        with WorkerPool(0) as pool:
            plan = run_locally(MonitorJob(), settings, str(cube), pool=pool, progress=False).plan
        files = MonitorJob().findings(plan, open_site(str(cube))).files
    return files


def manifest_of(cube: Path) -> MonitorManifest:
    name = f"CoherenceVV/{LAYOUT}/monitor"
    store, missing = Store.at(str(cube)), ErrorCode.MONITOR_UNKNOWN
    return MonitorManifest.model_validate_json(find_manifest(store, "koln-demo", "monitor", name, "latest", missing)[1])


def products(cube: Path) -> dict[str, bytes]:
    below = cube / "products/koln-demo/monitor"
    return {path.relative_to(cube).as_posix(): path.read_bytes() for path in below.rglob("*") if path.is_file()}


def test_a_manifest_names_each_month_once_with_its_figures(monitored: Path) -> None:
    manifest, store = manifest_of(monitored), Store.at(str(monitored))
    images = read_images(manifest, store)
    assert len(images) == SCENE.monitored_pairs
    assert len(manifest.months) >= 3
    assert [month.month for month in manifest.months] == sorted({f"{image.datetime:%Y-%m}" for image in images})
    assert sum(month.images for month in manifest.months) == len(images)
    patches = [read_patches(store.get(image.patches)) for image in images]
    counts: Counter[str] = Counter()
    for image, found in zip(images, patches, strict=True):
        counts[f"{image.datetime:%Y-%m}"] += len(found)
    assert {month.month: month.patches for month in manifest.months} == counts
    together = [patch for month in read_month_patches(manifest, store) for patch in month]
    assert [replace(patch, number=None) for patch in together] == [patch for found in patches for patch in found]
    assert sorted(patch.number or 0 for patch in together) == list(range(1, len(together) + 1))
    assert together


def test_a_run_writes_the_months_of_its_images_and_no_other(scene: Path, monitored: Path, tmp_path: Path) -> None:
    """The last pass first, and then one that comes late, in an earlier month."""
    cube = with_baseline(scene, tmp_path / "cube")
    monitor(scene, cube, 6, 1, 2, 3, 4, 5)
    before, months = products(cube), {month.month: month for month in manifest_of(cube).months}
    monitor(scene, cube, 0)
    after, now = products(cube), {month.month: month for month in manifest_of(cube).months}
    late = min(now)
    assert {name: month for name, month in now.items() if name != late} == {
        name: month for name, month in months.items() if name != late
    }
    written = {key for key in after if after[key] != before.get(key)}
    shared = sorted(key.rpartition("/")[2] for key in written if "/months/" in key or "/patches/" in key)
    assert [name[:8] for name in shared] == [f"{late}-", f"{late}-"]
    assert manifest_of(cube) == manifest_of(monitored)


def test_a_manifest_is_not_longer_for_more_dates_of_a_month(scene: Path, tmp_path: Path) -> None:
    cube = with_baseline(scene, tmp_path / "cube")
    sizes: dict[int, list[int]] = {}
    for place in range(SCENE.monitored_pairs):
        monitor(scene, cube, place)
        newest = max(cube.glob("products/*/monitor/*/manifests/*.json"))
        sizes.setdefault(len(manifest_of(cube).months), []).append(newest.stat().st_size)
    assert max(len(of_months) for of_months in sizes.values()) > 1
    assert all(max(of_months) - min(of_months) < 20 for of_months in sizes.values())


def test_the_files_of_a_run_hold_the_patches_of_its_images(scene: Path, tmp_path: Path) -> None:
    cube = with_baseline(scene, tmp_path / "cube")
    store = Store.at(str(cube))
    monitor(scene, cube, 0, 1)
    files = monitor(scene, cube, 2)
    last = read_images(manifest_of(cube), store)[-1]
    ours = read_patches(Path(files["patches.parquet"]).read_bytes())
    theirs = read_patches(store.get(last.patches))
    assert [replace(patch, number=None) for patch in ours] == theirs
    shown = {patch.patch.id: patch.number for month in read_month_patches(manifest_of(cube), store) for patch in month}
    assert sorted(number or 0 for number in shown.values()) == list(range(1, len(shown) + 1))
    assert {patch.patch.id: patch.number for patch in ours}.items() <= shown.items()
    assert len(shown) > len(ours) > 0
    features = json.loads(Path(files["patches.geojson"]).read_text())["features"]
    assert [feature["id"] for feature in features] == [patch.patch.id for patch in ours]


def test_the_keys_of_a_manifest_are_all_that_a_first_run_published(monitored: Path) -> None:
    manifest = manifest_of(monitored)
    named = keys_of(manifest, Store.at(str(monitored))) | keys_of_catalogue(manifest)
    chains = ("/manifests/", ".latest/", "/news/")
    assert named == {key for key in products(monitored) if not any(part in key for part in chains)}


@pytest.mark.parametrize("kind", ["document", "table"])
@pytest.mark.parametrize("damage", [lambda body: body[:-1], lambda body: body[:9] + bytes([body[9] ^ 1]) + body[10:]])
def test_a_damaged_month_is_noticed(kind: str, damage: Callable[[bytes], bytes], scene: Path, tmp_path: Path) -> None:
    cube = with_baseline(scene, tmp_path / "cube")
    monitor(scene, cube, 0)
    (month,), store = manifest_of(cube).months, Store.at(str(cube))
    key = getattr(month, kind)
    store.put(key, damage(store.get(key)))
    with pytest.raises(AcdError) as raised:
        read_images(manifest_of(cube), store) if kind == "document" else patches_of_month(month, store)
    damaged = {"document": ErrorCode.PRODUCT_DAMAGED, "table": ErrorCode.CUBE_DAMAGED}
    assert raised.value.code is damaged[kind]
    assert key in raised.value.detail


Show = Callable[..., tuple[int, str, str]]


@pytest.fixture
def show(scene: Path, monitored: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Show]:
    """Run `acdtask show patches`: status, output, errors."""

    def run(*more: str) -> tuple[int, str, str]:
        command = [
            "--log",
            "text",
            "--quiet",
            "show",
            "patches",
            "--cube",
            str(monitored),
            "--aoi",
            str(scene / "aoi.json"),
            "--layout",
            LAYOUT,
        ]
        status = main([*command, *more])
        return status, *capsys.readouterr()

    yield run
    log.install(log.LogSettings(), logging.NullHandler())
    logging.captureWarnings(capture=False)


def test_show_lists_the_patches_of_all_months_or_of_some(show: Show, monitored: Path) -> None:
    manifest = manifest_of(monitored)
    total = sum(month.patches for month in manifest.months)
    status, out, _ = show("--json", "--limit", "0")
    collection = json.loads(out)
    assert (status, collection["type"], len(collection["features"])) == (0, "FeatureCollection", total)
    month = next(month for month in manifest.months if month.patches)
    of_month = [
        feature for feature in collection["features"] if feature["properties"]["datetime"].startswith(month.month)
    ]
    assert json.loads(show("--json", "--limit", "0", "--date", month.month)[1])["features"] == of_month
    date = of_month[0]["properties"]["datetime"][:10]
    of_date = [feature for feature in of_month if feature["properties"]["datetime"].startswith(date)]
    assert json.loads(show("--json", "--date", date)[1])["features"] == of_date
    assert show("--limit", "1")[1].splitlines()[-1] == f"{total} patches, the first 1 shown"


def test_all_patches_go_into_one_file_on_demand(show: Show, monitored: Path, tmp_path: Path) -> None:
    store = Store.at(str(monitored))
    patches = [patch for month in read_month_patches(manifest_of(monitored), store) for patch in month]
    table, features = tmp_path / "all.parquet", tmp_path / "all.geojson"
    assert show("--out", str(table))[:2] == (0, f"{len(patches)} patches, written to {table}\n")
    assert [patch.properties for patch in read_patches(table.read_bytes())] == [patch.properties for patch in patches]
    assert show("--out", str(features), "--limit", "1")[0] == 0
    assert [feature["id"] for feature in json.loads(features.read_text())["features"]] == [
        patch.patch.id for patch in patches
    ]


def test_a_file_of_an_unknown_format_is_refused(show: Show, tmp_path: Path) -> None:
    status, out, told = show("--out", str(tmp_path / "all.shp"))
    assert (status, out) == (78, "")
    assert told.startswith("error ACD-309: ")
    assert not (tmp_path / "all.shp").exists()
