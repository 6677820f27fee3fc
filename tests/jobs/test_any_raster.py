"""Any raster series: backscatter in dB and as intensity, drops and rises, through the jobs, down to the pixels."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.monitor.months import patches_of_image, read_images
from acdtask.jobs.patch_files import LocatedPatch
from acdtask.jobs.products import BaselineManifest, MonitorManifest
from acdtask.jobs.report.job import ReportJob, ReportSettings
from acdtask.storage.store import Store
from tests.jobs.small_site import LAYOUT, SIZE, baseline, ends, make_cube, monitor, run, steady

IMAGES = 22
VARIABLE = "SigmaVV"
DECIBELS: dict[str, Any] = {
    "variable": VARIABLE,
    "nodata": -32768,
    "minimum": -3500,
    "maximum": 1000,
    "scale": 0.01,
    "unit": "dB",
    "source_minimum": -35,
    "source_maximum": 10,
    "polarisation": "any",
}
"""Options of ingest for backscatter in dB, stored in hundredths."""
INTENSITY: dict[str, Any] = {
    "variable": VARIABLE,
    "dtype": "uint16",
    "nodata": 0,
    "minimum": 1,
    "maximum": 60000,
    "scale": 0.0001,
    "source_minimum": 0.0001,
    "source_maximum": 6,
    "polarisation": "any",
}
"""The same for linear backscatter."""
DROP, RISE = (slice(8, 24), slice(8, 24)), (slice(8, 24), slice(24, 40))
"""Two squares that share an edge."""
STEP = 5.0
"""Height of the changes in dB, several times the noise."""


def decibels(index: int) -> NDArray[np.float32]:
    """Backscatter with noise; from image IMAGES on it is quiet, but a square is darker, and one beside it brighter."""
    base = np.random.default_rng(5).uniform(-16, -8, (SIZE, SIZE))
    image = base + np.random.default_rng(index).normal(0, 0.7 if index < IMAGES else 0.1, base.shape)
    if index >= IMAGES:
        image[DROP] -= STEP
        image[RISE] += STEP
    return image.astype(np.float32)


def intensity(index: int) -> NDArray[np.float32]:
    """The same, linear."""
    return np.asarray(10 ** (decibels(index) / 10), np.float32)


def watched(folder: Path, pixels: Callable[[int], NDArray[Any]], ingest: Any, cell: int = 24, **settings: Any) -> Path:
    """A cube with a baseline of the quiet images."""
    cube = make_cube(folder, IMAGES + 1, pixels, cell=cell, **ingest)
    baseline(cube, end=ends(IMAGES - 1), variable=VARIABLE, **settings)
    return cube


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return watched(tmp_path_factory.mktemp("decibels"), decibels, DECIBELS)


def manifest_of(cube: Path, name: str) -> MonitorManifest:
    pointers = cube / f"products/site/monitor/{VARIABLE}/{LAYOUT}/{name}.latest"
    content = json.loads(max(pointers.iterdir()).read_bytes())["latest"]
    body = max((cube / f"products/site/monitor/{content}/manifests").iterdir()).read_bytes()
    return MonitorManifest.model_validate_json(body)


def judged(cube: Path, name: str) -> tuple[list[LocatedPatch], NDArray[np.float64], NDArray[np.bool_]]:
    """Patches, z and change mask of the image."""
    (image,) = read_images(manifest_of(cube, name), Store.at(str(cube)))
    z, change = np.full((SIZE, SIZE), np.nan), np.zeros((SIZE, SIZE), bool)
    for tile in image.tiles:
        row, column = tile.tile.origin
        rows, columns = slice(row, min(row + tile.tile.grid.height, SIZE)), slice(column, column + tile.tile.grid.width)
        for dataset, target in ((tile.z, z), (tile.change, change)):
            with rasterio.open(cube / dataset.uri) as raster:
                pixels = raster.read(1).astype(float)
                values = np.where(pixels == raster.nodata, np.nan, pixels * raster.scales[0])
            height, width = target[rows, columns].shape
            target[rows, columns] = values[:height, :width] == 1 if target is change else values[:height, :width]
    return patches_of_image(image, Store.at(str(cube))), z, change


def shares(change: NDArray[np.bool_]) -> tuple[float, float, int]:
    """The changed shares of both squares, and the number of changed pixels elsewhere."""
    outside = change.copy()
    outside[DROP] = outside[RISE] = False
    return float(change[DROP].mean()), float(change[RISE].mean()), int(outside.sum())


def found(cube: Path, direction: str, **settings: Any) -> tuple[list[LocatedPatch], NDArray[np.float64], Any]:
    monitor(cube, variable=VARIABLE, direction=direction, name=direction, centred=False, **settings)
    patches, z, change = judged(cube, direction)
    return patches, z, shares(change)


def test_a_drop_in_backscatter_is_found_by_default_and_the_rise_is_not(cube: Path) -> None:
    ((patch,), z, (dropped, risen, elsewhere)) = found(cube, "drop")
    assert (dropped, risen, elsewhere) == (1, 0, 0)
    assert patch.patch.area_px == 256
    assert patch.patch.drop_mean == pytest.approx(STEP, abs=0.3)
    assert z[DROP].min() > 1.7
    assert z[RISE].max() < -1.7


def test_a_rise_in_backscatter_is_found_where_it_is(cube: Path) -> None:
    ((patch,), z, (dropped, risen, elsewhere)) = found(cube, "rise")
    assert (dropped, risen, elsewhere) == (0, 1, 0)
    assert patch.patch.area_px == 256
    assert patch.patch.drop_mean == pytest.approx(-STEP, abs=0.3)
    assert patch.patch.z_max > patch.patch.z_mean > 3
    assert z[RISE].min() > 1.7
    np.testing.assert_array_equal(z, -found(cube, "drop")[1])


def test_both_finds_the_drop_and_the_rise_beside_it_as_two_patches(cube: Path) -> None:
    ((drop, rise), z, (dropped, risen, elsewhere)) = found(cube, "both")
    assert (dropped, risen, elsewhere) == (1, 1, 0)
    assert drop.patch.area_px == rise.patch.area_px == 256
    assert drop.patch.z_max > 3 > -3 > rise.patch.z_max
    assert drop.patch.drop_mean == pytest.approx(STEP, abs=0.3)
    assert rise.patch.drop_mean == pytest.approx(-STEP, abs=0.3)
    assert z[DROP].min() > 1.7
    assert z[RISE].max() < -1.7
    assert rise.patch.z_max == pytest.approx(z[RISE].min(), abs=0.006)
    assert rise.geometry.intersection(drop.geometry).area == pytest.approx(0, abs=1e-12)


def test_both_gives_the_same_whatever_the_tiles(cube: Path, tmp_path: Path) -> None:
    expected = [patch.properties for patch in found(cube, "both")[0]]
    for cell in (13, 64):
        other = watched(tmp_path / str(cell), decibels, DECIBELS, cell=cell)
        assert [patch.properties for patch in found(other, "both")[0]] == expected


def test_intensities_are_compared_in_decibels_with_the_transform_log(cube: Path, tmp_path: Path) -> None:
    linear = watched(tmp_path, intensity, INTENSITY, transform="log")
    ((drop, rise), _, (dropped, risen, elsewhere)) = found(linear, "both", transform="log")
    assert (dropped, risen, elsewhere) == (1, 1, 0)
    expected = found(cube, "both")[0]
    for patch, other in zip((drop, rise), expected, strict=True):
        assert patch.variable == f"{VARIABLE}_log"
        assert patch.patch.area_px == other.patch.area_px
        assert patch.patch.drop_mean == pytest.approx(other.patch.drop_mean, abs=0.02)
        assert patch.patch.z_max == pytest.approx(other.patch.z_max, rel=0.02)
    (mean,) = (linear / "products").glob("site/baseline/*/mean_*_0_0.tif")
    with rasterio.open(mean) as raster:
        stored = raster.read(1) * raster.scales[0]
        assert raster.units == ("dB",)
    quiet = np.mean([decibels(index) for index in range(IMAGES)], axis=0)
    rows, columns = stored.shape
    np.testing.assert_allclose(stored, quiet[:rows, :columns], atol=0.1)


def test_a_transform_that_is_not_the_baselines_is_an_error_whose_fix_works(tmp_path: Path) -> None:
    linear = watched(tmp_path, intensity, INTENSITY, transform="log")
    with pytest.raises(AcdError) as refused:
        monitor(linear, variable=VARIABLE)
    assert refused.value.code is ErrorCode.BASELINE_UNFIT
    assert "transform log" in refused.value.detail
    assert "--transform log" in refused.value.fix
    assert found(linear, "rise", transform="log")[2] == (0, 1, 0)
    baseline(linear, end=ends(IMAGES - 1), variable=VARIABLE)
    with pytest.raises(AcdError) as refused:
        monitor(linear, variable=VARIABLE, transform="log")
    assert refused.value.code is ErrorCode.BASELINE_UNFIT
    assert "--transform none" in refused.value.fix
    assert found(linear, "rise", transform="none", min_std=0.0)[2] == (0, 1, 0)


def test_a_function_outside_its_domain_is_refused_by_the_plan_of_the_baseline(tmp_path: Path) -> None:
    cube = make_cube(tmp_path, 3, decibels, **DECIBELS)
    with pytest.raises(AcdError, match="decibels already") as refused:
        baseline(cube, end=ends(2), variable=VARIABLE, transform="log")
    assert refused.value.code is ErrorCode.SETTING_INVALID
    assert not (cube / "products").exists()


def test_coherence_is_compared_by_its_inverse_hyperbolic_tangent(tmp_path: Path) -> None:
    cube = make_cube(tmp_path, IMAGES + 1, steady(IMAGES))
    baseline(cube, end=ends(IMAGES - 1), transform="arctanh")
    monitor(cube, transform="arctanh", centred=False)
    (mean,) = (cube / "products").glob("site/baseline/*/mean_*_0_0.tif")
    with rasterio.open(mean) as raster:
        stored = raster.read(1) * raster.scales[0]
    rows, columns = stored.shape
    quiet = np.stack([np.round(steady(99)(index)[:rows, :columns], 3) for index in range(IMAGES)])
    np.testing.assert_allclose(stored, np.arctanh(quiet).mean(axis=0), atol=2e-3)
    body = max((cube / "products").glob("site/baseline/*/manifests/*")).read_bytes()
    assert BaselineManifest.model_validate_json(body).settings["transform"] == "arctanh"
    patches = [path for path in (cube / "products").rglob("patches.geojson") if "features" in path.read_text()]
    (feature,) = json.loads(patches[0].read_text())["features"]
    assert feature["properties"]["variable"] == "CoherenceVV_arctanh"
    assert feature["properties"]["area_px"] >= 850
    assert 0.3 < feature["properties"]["drop_mean"] < 1


def test_zeros_that_mean_nodata_stay_nodata_under_a_transform(tmp_path: Path) -> None:
    """Decibels of 1 are a transformed 0, which is a value."""

    def pixels(index: int) -> NDArray[np.float32]:
        image = np.full((SIZE, SIZE), 1.0) * 10 ** (np.random.default_rng(index).normal(0, 0.05, (SIZE, SIZE)))
        image[:10] = 0
        image[10:20] = 1 if index >= IMAGES else image[10:20]
        return image.astype(np.float32)

    ingest = {**INTENSITY, "dtype": "int16", "nodata": -1, "minimum": 0, "maximum": 30000}
    cube = watched(
        tmp_path, pixels, {**ingest, "source_minimum": 0, "source_maximum": 3}, transform="log", profile="tutorial"
    )
    monitor(cube, variable=VARIABLE, transform="log", profile="tutorial", name="zeros")
    (image,) = read_images(manifest_of(cube, "zeros"), Store.at(str(cube)))
    assert image.quality_px["VALID"] == (SIZE - 10) * SIZE
    assert image.quality_px["NO_DATA"] == 10 * SIZE


@pytest.mark.parametrize(
    ("direction", "words"),
    [
        ("rise", ("Mean rise, dB", "rose above its mean", "standard deviations above the mean")),
        ("both", ("Mean drop, dB", "Drops and rises are different patches", "|z| above 1.7")),
        ("drop", ("Mean drop, dB", "fell below its mean", "standard deviations below the mean")),
    ],
)
def test_the_report_says_what_was_looked_for(cube: Path, direction: str, words: tuple[str, ...]) -> None:
    found(cube, direction)
    aoi = str(cube.parent / "aoi.json")
    run(ReportJob(), ReportSettings(aoi=aoi, layout=LAYOUT, variable=VARIABLE, name=direction), cube)
    page = max((cube / "products").glob("site/report/*/index.html"), key=lambda path: path.stat().st_mtime_ns)
    text = page.read_text()
    for word in words:
        assert word in text, word
    assert "coherence" not in text.lower().replace("--low-coherence", "")
    assert "\u2212" not in text.split('<table class="patches">')[1].split("</table>")[0] or direction == "both"
