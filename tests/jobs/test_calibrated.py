"""z of the robust method is in standard deviations, on real Sentinel-1 coherence without events: leave one out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from acdtask.change.detect import detect_against
from acdtask.change.methods import (
    BASELINE_CLIPS,
    ROBUST,
    STANDARD,
)
from acdtask.change.moments import Moments
from acdtask.engine.local import run_locally
from acdtask.engine.processes import WorkerPool
from acdtask.engine.stages import open_site
from acdtask.jobs.baseline.job import BaselineJob
from acdtask.jobs.baseline.settings import BaselineSettings
from acdtask.jobs.contract import Job, Settings
from acdtask.jobs.ingest.job import IngestJob
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.monitor.job import MonitorJob
from acdtask.jobs.monitor.months import read_images
from acdtask.jobs.monitor.settings import MonitorSettings
from acdtask.jobs.products import Z_SCALE, MonitorManifest
from acdtask.raster.grid import Layout, RegularGrid
from acdtask.storage.store import Store

pytestmark = pytest.mark.realdata

SIDE = 22
THEORY = {threshold: 1 - NormalDist().cdf(threshold) for threshold in (1.7, 3.0)}
Window = tuple[slice, slice]
Run = Callable[[Job[Any, Any], Settings], str]
WHOLE: Window = (slice(None), slice(None))
SMALL: list[Window] = [
    (slice(row, row + SIDE), slice(column, column + SIDE)) for row in (0, 22, 38) for column in (0, 22, 44, 66, 78)
]


def files(real_data: Path) -> list[Path]:
    return sorted((real_data / "pyrate_cropA/geotiffs").glob("*_cc.tif"))


@dataclass(frozen=True)
class LeftOut:
    """An image, and the moments of all others."""

    image: NDArray[np.int16]
    others: Moments


@pytest.fixture(scope="module")
def left_out(real_data: Path) -> list[LeftOut]:
    images = []
    for path in files(real_data):
        with rasterio.open(path) as raster:
            values = raster.read(1)
        images.append(np.where(values == 0, -1, np.rint(values.astype(np.float64) * 1000)).astype(np.int16))
    stack = np.stack(images)
    return [
        LeftOut(image, Moments.clipped(np.delete(stack, index, 0), -1, BASELINE_CLIPS["robust"])[0])
        for index, image in enumerate(images)
    ]


def scores(left_out: list[LeftOut], window: Window) -> list[NDArray[np.float32]]:
    """z of each image in a window, judged by itself."""
    judged = []
    for pair in left_out:
        z = detect_against(pair.others.window(*window), pair.image[window], ROBUST, nodata=-1).score.z
        judged.append(z[~np.isnan(z)])
    return judged


def shares(judged: list[NDArray[np.float32]], threshold: float) -> list[float]:
    return [float((z > threshold).mean()) for z in judged]


def test_the_shares_above_thresholds_are_those_of_the_normal_distribution(left_out: list[LeftOut]) -> None:
    judged = scores(left_out, WHOLE)
    for threshold, theory in THEORY.items():
        assert float((np.concatenate(judged) > threshold).mean()) == pytest.approx(theory, rel=0.2), threshold
    assert max(shares(judged, 1.7)) < 0.10


def test_so_they_are_in_small_areas(left_out: list[LeftOut]) -> None:
    """Of which many together have pixels enough for a share of 0.00135."""
    judged = [scores(left_out, window) for window in SMALL]
    every = np.concatenate([z for of_window in judged for z in of_window])
    for threshold, theory in THEORY.items():
        assert float((every > threshold).mean()) == pytest.approx(theory, rel=0.2), threshold
    assert max(share for of_window in judged for share in shares(of_window, 1.7)) < 0.10


def test_without_calibration_they_are_not(left_out: list[LeftOut]) -> None:
    """So that the tests above cannot pass by a z that is calibrated already."""
    above = [
        float((detect_against(pair.others, pair.image, STANDARD, nodata=-1).score.z > 1.7).mean()) for pair in left_out
    ]
    assert float(np.mean(above)) < 0.7 * THEORY[1.7]


def test_weak_wide_drops_planted_in_real_pairs_become_candidates(left_out: list[LeftOut]) -> None:
    """Discs of 8 px radius that lose a fifth of their coherence; found if a candidate covers 30 % of the disc."""
    rows, columns = np.indices(left_out[0].image.shape)
    found = 0
    for number, pair in enumerate(left_out):
        rng = np.random.default_rng(100 + number)
        disc = np.zeros(pair.image.shape, np.bool_)
        while not disc.any() or (pair.image[disc] <= 0).any():
            row, column = rng.integers(8, 52), rng.integers(8, 92)
            disc[:] = (rows - row) ** 2 + (columns - column) ** 2 <= 64
        image = np.where(disc, np.rint(pair.image * 0.8), pair.image).astype(np.int16)
        blob_ids = detect_against(pair.others, image, ROBUST, nodata=-1).blob_ids
        found += bool((blob_ids[disc] > 0).mean() >= 0.3)
    assert found >= 28


@pytest.fixture(scope="module")
def run(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Jobs on a cube with the images and a layout of their pixels; returns the cube's address."""
    address = str(tmp_path_factory.mktemp("calibrated") / "cube")

    def run_job(job: Job[Any, Any], settings: Settings) -> str:
        with WorkerPool(0) as pool:
            run_locally(job, settings, address, pool=pool, progress=False)
        return address

    pattern = "cropA_{start:%Y%m%d}-{end:%Y%m%d}_{polarisation}_*_cc.tif"
    source = str(real_data / "pyrate_cropA/geotiffs")
    run_job(IngestJob(), IngestSettings(source=source, pattern=pattern, source_nodata=0))
    with rasterio.open(files(real_data)[0]) as raster:
        place = raster.transform
    grid = RegularGrid(crs="EPSG:4326", resolution=place.a, cell_size=16, ox=place.c, oy=place.f)
    open_site(address).cube.add_layout(Layout(name="crop", grid=grid))
    return run_job


def test_a_small_area_is_judged_on_a_bad_date(
    run: Run, real_data: Path, left_out: list[LeftOut], tmp_path: Path
) -> None:
    """As a person would: an area of 22 x 22 px over several tiles, its baseline without that date, and its monitor."""
    window = SMALL[6]
    plain = [
        float(((pair.others.mean() - pair.image) / pair.others.standard_deviation() > 1.7)[window].mean())
        for pair in left_out
    ]
    worst = int(np.argmax(plain))
    assert plain[worst] > 0.2
    with rasterio.open(files(real_data)[0]) as raster:
        place = raster.transform
    edges = [(22, 22), (22, 44), (44, 44), (44, 22), (22, 22)]
    corners = [(place.c + column * place.a, place.f + row * place.e) for row, column in edges]
    area = {"type": "Polygon", "coordinates": [corners], "name": "small", "start_time": "2018-01-01T00:00:00Z"}
    aoi = tmp_path / "aoi.json"
    aoi.write_text(json.dumps({**area, "end_time": "2018-12-31T00:00:00Z"}))
    record = files(real_data)[worst].name[: len("cropA_20180106-20180130")] + "_*"
    run(BaselineJob(), BaselineSettings(aoi=str(aoi), layout="crop", profile="robust", leave_out=(record,)))
    settings = MonitorSettings(
        aoi=str(aoi), layout="crop", profile="robust", records=record, start="2018-01-01T00:00:00Z"
    )
    store = Store.at(run(MonitorJob(), settings))
    (key,) = [key for key in store.list("products/small/monitor") if "/manifests/" in key]
    (product,) = read_images(MonitorManifest.model_validate_json(store.get(key)), store)
    z = []
    for tile in product.tiles:
        with rasterio.MemoryFile(store.get(tile.z.uri)) as file, file.open() as raster:
            pixels = raster.read(1, masked=True)
            z.append(pixels.compressed() * Z_SCALE)
    judged = np.concatenate(z)
    expected = detect_against(
        left_out[worst].others.window(*window), left_out[worst].image[window], ROBUST, nodata=-1, origin=(22, 22)
    ).score.z
    assert judged.size == np.count_nonzero(~np.isnan(expected))
    np.testing.assert_allclose(np.sort(judged), np.sort(expected[~np.isnan(expected)]), atol=0.006)
    assert (judged > 1.7).mean() < 0.10
