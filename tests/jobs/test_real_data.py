"""Real Sentinel-1 coherence, against the statistics that PyRate computed from it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio

from acdtask.engine.local import run_locally
from acdtask.engine.processes import WorkerPool
from acdtask.engine.stages import open_site
from acdtask.jobs.baseline.job import BaselineJob
from acdtask.jobs.baseline.settings import BaselineSettings
from acdtask.jobs.ingest.job import IngestJob
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.monitor.job import MonitorJob
from acdtask.jobs.monitor.months import read_images
from acdtask.jobs.monitor.settings import MonitorSettings
from acdtask.jobs.products import BaselineManifest, MonitorManifest
from acdtask.raster.grid import Layout, RegularGrid
from acdtask.storage.store import Store

LAST_PAIR = "cropA_20180506-20180717_*"
STEP = 0.001
"""Coherence is stored in thousandths."""

AOI = """{"type": "Polygon", "name": "mexico-city",
"start_time": "2018-01-01T00:00:00Z", "end_time": "2018-12-31T00:00:00Z",
"coordinates": [[[-99.2, 19.36], [-99.05, 19.36], [-99.05, 19.46], [-99.2, 19.46], [-99.2, 19.36]]]}"""

pytestmark = pytest.mark.realdata


def images_of(real_data: Path) -> np.ndarray[tuple[int, int, int], np.dtype[np.float32]]:
    images = []
    for path in sorted((real_data / "pyrate_cropA/geotiffs").glob("*_cc.tif")):
        with rasterio.open(path) as raster:
            images.append(raster.read(1))
    return np.stack(images)


@pytest.fixture(scope="module")
def cube(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    (folder / "aoi.json").write_text(AOI)
    address = folder / "cube"
    source = str(real_data / "pyrate_cropA/geotiffs")
    pattern = "cropA_{start:%Y%m%d}-{end:%Y%m%d}_{polarisation}_*_cc.tif"
    common = {"aoi": str(folder / "aoi.json"), "layout": "crop"}
    with rasterio.open(next((real_data / "pyrate_cropA/geotiffs").glob("*_cc.tif"))) as raster:
        place = raster.transform
    grid = RegularGrid(crs="EPSG:4326", resolution=place.a, cell_size=40, ox=place.c, oy=place.f)
    with WorkerPool(0) as pool:
        ingest = IngestSettings(source=source, pattern=pattern, source_nodata=0)
        run_locally(IngestJob(), ingest, str(address), pool=pool, progress=False)
        open_site(str(address)).cube.add_layout(Layout(name="crop", grid=grid))
        for settings in (
            BaselineSettings(**common, name="all", profile="standard"),
            BaselineSettings(**common, leave_out=(LAST_PAIR,), profile="standard"),
        ):
            run_locally(BaselineJob(), settings, str(address), pool=pool, progress=False)
        monitor = MonitorSettings(**common, records=LAST_PAIR, start="2018-07-17", centred=False)
        run_locally(MonitorJob(), monitor, str(address), pool=pool, progress=False)
    return address


def manifest(cube: Path, name: str) -> BaselineManifest:
    pointer = cube / f"products/mexico-city/baseline/CoherenceVV/crop/{name}.latest/000001"
    content = json.loads(pointer.read_bytes())["latest"]
    return BaselineManifest.model_validate_json(
        (cube / f"products/mexico-city/baseline/{content}/manifests/000001.json").read_bytes()
    )


def mosaic(cube: Path, found: BaselineManifest, which: str) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    whole = np.full((80, 120), np.nan, np.float32)
    for tile in found.tiles:
        dataset = getattr(tile, which)
        with rasterio.open(cube / dataset.uri) as raster:
            row, column = tile.tile.origin
            whole[row : row + 40, column : column + 40] = raster.read(1)
    return whole[:60, :100]


def test_count_is_exact_and_mean_and_std_are_those_of_pyrate(cube: Path, real_data: Path) -> None:
    found = manifest(cube, "all")
    assert found.records == 30
    count, mean = mosaic(cube, found, "count"), mosaic(cube, found, "mean")
    std = mosaic(cube, found, "standard_deviation")
    np.testing.assert_array_equal(count, np.count_nonzero(images_of(real_data), axis=0))
    stats = real_data / "pyrate_cropA/coherence_stats"
    with rasterio.open(stats / "coh_mean.tif") as raster:
        their_mean = raster.read(1)
    with rasterio.open(stats / "coh_std.tif") as raster:
        their_std = raster.read(1)
    known = count > 0
    assert (np.isnan(their_mean) == ~known).all()
    assert np.abs(mean * STEP - their_mean)[known].max() <= STEP / 2
    assert np.abs(std * STEP - their_std)[known].max() <= STEP


def test_the_last_pair_is_compared_with_the_other_twenty_nine(cube: Path, real_data: Path) -> None:
    assert manifest(cube, "annual").records == 29
    (path,) = cube.glob("products/mexico-city/monitor/*/manifests/*.json")
    found = MonitorManifest.model_validate_json(path.read_bytes())
    (monitored,) = read_images(found, Store.at(str(cube)))
    assert monitored.label == "2018-05-06_2018-07-17"
    images = images_of(real_data)
    paths = sorted((real_data / "pyrate_cropA/geotiffs").glob("*_cc.tif"))
    last = next(place for place, path in enumerate(paths) if "20180506-20180717" in path.name)
    stored = np.rint(images.astype(np.float64) * 1000)
    stored[images == 0] = np.nan
    others = np.delete(stored, last, axis=0)
    known = ~np.isnan(stored[last]) & (np.count_nonzero(~np.isnan(others), axis=0) >= 20)
    expected = (np.nanmean(others[:, known], axis=0) - stored[last][known]) / np.nanstd(others[:, known], axis=0)
    whole = np.full((80, 120), np.nan)
    for tile in monitored.tiles:
        with rasterio.open(cube / tile.z.uri) as raster:
            assert raster.profile["driver"] == "GTiff"
            pixels = raster.read(1, masked=True).astype(np.float64) * raster.scales[0]
            row, column = tile.tile.origin
            whole[row : row + 40, column : column + 40] = pixels.filled(np.nan)
    ours = whole[:60, :100][known]
    steady = np.nanstd(others[:, known], axis=0) < 5
    np.testing.assert_allclose(ours[~steady], expected[~steady], atol=0.006)


SMALL = (slice(12, 34), slice(30, 52))
"""22 x 22 px of the crop."""


def test_an_area_of_22_by_22_pixels_is_judged_as_a_part_of_the_whole(
    cube: Path, real_data: Path, tmp_path: Path
) -> None:
    """Without centring, which needs more pixels: z and quality are those that numpy computes."""
    with rasterio.open(next((real_data / "pyrate_cropA/geotiffs").glob("*_cc.tif"))) as raster:
        west, north = raster.transform @ (SMALL[1].start, SMALL[0].start)
        east, south = raster.transform @ (SMALL[1].stop, SMALL[0].stop)
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    area = {"type": "Polygon", "coordinates": [ring], "name": "small"}
    times = {"start_time": "2018-01-01T00:00:00Z", "end_time": "2018-12-31T00:00:00Z"}
    aoi = tmp_path / "small.json"
    aoi.write_text(json.dumps({**area, **times}))
    common = {"aoi": str(aoi), "layout": "crop"}
    with WorkerPool(0) as pool:
        run_locally(
            BaselineJob(), BaselineSettings(**common, leave_out=(LAST_PAIR,), profile="standard"), str(cube), pool=pool
        )
        monitor = MonitorSettings(**common, records=LAST_PAIR, start="2018-07-17", centred=False)
        outcome = run_locally(MonitorJob(), monitor, str(cube), pool=pool)
    (path,) = cube.glob("products/small/monitor/*/manifests/*.json")
    (image,) = read_images(MonitorManifest.model_validate_json(path.read_bytes()), Store.at(str(cube)))
    judged = {name: count for name, count in image.quality_px.items() if name != "OUTSIDE"}
    assert sum(judged.values()) == 22 * 22
    z = np.full((80, 120), np.nan)
    for tile in image.tiles:
        with rasterio.open(cube / tile.z.uri) as raster:
            row, column = tile.tile.origin
            pixels = raster.read(1, masked=True).astype(np.float64) * raster.scales[0]
            z[row : row + 40, column : column + 40] = pixels.filled(np.nan)
    stored = np.rint(images_of(real_data).astype(np.float64) * 1000)[:, *SMALL]
    stored[stored == 0] = np.nan
    paths = sorted((real_data / "pyrate_cropA/geotiffs").glob("*_cc.tif"))
    last = next(place for place, path in enumerate(paths) if "20180506-20180717" in path.name)
    others = np.delete(stored, last, axis=0)
    enough = np.count_nonzero(~np.isnan(others), axis=0) >= 20
    known = ~np.isnan(stored[last]) & enough & (np.nanstd(others, axis=0) >= 5)
    assert known.sum() == judged["VALID"] == np.count_nonzero(~np.isnan(z))
    expected = (np.nanmean(others, axis=0) - stored[last]) / np.nanstd(others, axis=0)
    np.testing.assert_allclose(z[SMALL][known], expected[known], atol=0.006)
    assert any(f"({judged['VALID']} of 484 px)" in line for line in outcome.lines)
