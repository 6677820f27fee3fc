"""Baseline and monitor on the records of a real Geocube, beside the same on a cube without server."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import numpy as np
import pytest
import rasterio

from acdtask.engine.processes import WorkerPool
from acdtask.engine.stages import open_site
from acdtask.jobs.baseline.job import BaselineJob
from acdtask.jobs.baseline.settings import BaselineSettings
from acdtask.jobs.ingest.job import IngestJob
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.monitor.job import MonitorJob
from acdtask.jobs.monitor.settings import MonitorSettings
from acdtask.jobs.products import Z_SCALE
from acdtask.raster.data_format import Pixels
from acdtask.raster.grid import Layout, RegularGrid, WebMercatorGrid
from tests.jobs.chain import SCENE, reference_end, simulate
from tests.jobs.compare import halves, products, run

NEW = uuid.uuid4().hex[:8]
VARIABLE = f"Coherence{NEW}"
SAME_PIXELS = Layout(name=f"utm-{NEW}", grid=RegularGrid(crs="EPSG:32632", resolution=20, cell_size=64))
SMALLEST_STD = 1.0
"""A pixel whose images are all alike has no z."""

MERCATOR = Layout(name=f"mercator-{NEW}", grid=WebMercatorGrid(zoom=12))
SHIFTED = Layout(name=f"shifted-{NEW}", grid=RegularGrid(crs="EPSG:32632", resolution=20, cell_size=64, ox=7, oy=7))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(tmp_path_factory.mktemp("scene"))


@pytest.fixture
def sites(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Where the jobs run on the server that is named, and where they run without one."""
    if not os.environ.get("GEOCUBE_SERVER"):
        pytest.skip("GEOCUBE_SERVER is unset: no Geocube server to test with")
    monkeypatch.delenv("ACD_GEOCUBE_ADDRESS", raising=False)
    folder = os.environ.get("GEOCUBE_FOLDER")  # the server opens what is made there
    base = Path(folder) / f"sites-{uuid.uuid4().hex[:8]}" if folder else tmp_path_factory.mktemp("sites")
    return {"geocube": base / "geocube", "local": base / "local"}


def made(
    sites: dict[str, Path], images: Path, scene: Path, layout: Layout, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ingest, baseline and monitor, with the server and without."""
    for name, site in sites.items():
        with monkeypatch.context() as environment, WorkerPool(0) as pool:
            if name == "geocube":
                environment.setenv("ACD_GEOCUBE_ADDRESS", f"geocube://{os.environ['GEOCUBE_SERVER']}")
            run(IngestJob(), IngestSettings(source=str(images), variable=variable), site, pool)
            open_site(str(site)).cube.add_layout(layout)
            common = {"aoi": str(scene / "aoi.json"), "layout": layout.name, "variable": variable}
            run(BaselineJob(), BaselineSettings(**common, end=reference_end(), name=f"annual-{NEW}"), site, pool)
            monitor = MonitorSettings(**common, baseline_name=f"annual-{NEW}", name=f"monitor-{NEW}", min_area=20)
            run(MonitorJob(), monitor, site, pool)


@pytest.mark.geocube
def test_products_are_the_same_bits_where_no_image_is_resampled(
    scene: Path, sites: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    made(sites, scene / "images", scene, SAME_PIXELS, VARIABLE, monkeypatch)
    found = products(sites["geocube"])
    assert found == products(sites["local"])
    assert sum("/z_" in name and name.endswith(".tif") for name in found) > SCENE.monitored_pairs


@pytest.mark.geocube
@pytest.mark.parametrize("layout", [SHIFTED, MERCATOR], ids=["shifted", "web mercator"])
def test_products_are_within_a_step_where_images_are_resampled(
    scene: Path, tmp_path: Path, sites: dict[str, Path], layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two records a date, on rough ground. A z is off by a step of the image, one of the mean, and one of its own."""
    halves(scene / "images", tmp_path / "halves")
    variable = f"{VARIABLE}-{layout.name}"
    made(sites, tmp_path / "halves", scene, layout, variable, monkeypatch)
    found = {path.relative_to(sites["local"]) for path in sites["local"].glob("products/**/*.tif")}
    assert found == {path.relative_to(sites["geocube"]) for path in sites["geocube"].glob("products/**/*.tif")}
    for name in found:
        ours, theirs = (pixels(site / name) for site in sites.values())
        assert (np.isnan(ours) != np.isnan(theirs)).mean() < 0.001, name
        apart = np.nan_to_num(np.abs(ours - theirs))
        if name.name.startswith("change_"):
            assert (apart > 0).mean() < 0.001, name
        elif name.name.startswith("z_"):
            tile = "_".join(name.stem.split("_")[-2:])
            (std,) = sites["local"].glob(f"products/*/baseline/*/std_*_{variable}_*_{tile}.tif")
            step = 1 / np.fmax(pixels(std), SMALLEST_STD) / Z_SCALE
            assert (apart <= 2 * step + 1).all(), name
        elif not name.name.startswith("moments_"):
            assert apart.max() <= 1, name
    assert sum(name.name.startswith("z_") for name in found) > SCENE.monitored_pairs


def pixels(path: Path) -> Pixels:
    """In stored units, NaN where there is none."""
    with rasterio.open(path) as file:
        return np.asarray(file.read(1, masked=True).astype("float64").filled(np.nan))
