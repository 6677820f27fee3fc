"""Cubes in Python: their lists and images, and that the interface finds the same as the jobs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
import xarray as xr
from numpy.typing import NDArray

import acdtask
from acdtask import AcdError, ErrorCode
from acdtask.cube.local.cube import LocalCube
from acdtask.engine.processes import WorkerPool
from acdtask.jobs.monitor.months import patches_of_image, read_images
from acdtask.jobs.products import (
    BaselineManifest,
    ImageProduct,
    MonitorManifest,
)
from acdtask.storage.store import Store
from tests.jobs.chain import LAYOUT, SCENE, Chain, reference_end, run_chain, simulate


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(tmp_path_factory.mktemp("scene"))


@pytest.fixture(scope="module")
def cube(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    cube = tmp_path_factory.mktemp("cube") / "cube"
    with WorkerPool(0) as pool:
        run_chain(scene, str(cube), pool, Chain(profile="standard"))
    return cube


def images_of(cube: Path) -> list[ImageProduct]:
    (path,) = cube.glob("products/*/monitor/*/manifests/*.json")
    return read_images(MonitorManifest.model_validate_json(path.read_bytes()), Store.at(str(cube)))


def tiles_of(product: ImageProduct, kind: str, cube: Path, like: xr.DataArray) -> Iterator[tuple[Any, NDArray[Any]]]:
    """The pixels of a product's tiles, combined into one array."""
    for tile in product.tiles:
        dataset = getattr(tile, kind)
        with rasterio.open(cube / dataset.uri) as raster:
            pixels, transform = raster.read(), raster.transform
        column = round((transform.c - (float(like.x[0]) - 10)) / 20)
        row = round(((float(like.y[0]) + 10) - transform.f) / 20)
        rows, columns = range(row, row + pixels.shape[1]), range(column, column + pixels.shape[2])
        inside = np.ix_([r for r in rows if 0 <= r < like.sizes["y"]], [c for c in columns if 0 <= c < like.sizes["x"]])
        yield inside, pixels[:, inside[0] - row, inside[1] - column]


def measures(patch: Any) -> tuple[float, ...]:
    """The measures of a patch, rounded as in tables."""
    return (
        patch.area_px,
        patch.baseline_count,
        round(patch.area_m2, 1),
        round(patch.z_max, 3),
        round(patch.z_mean, 3),
        round(patch.drop_mean, 6),
    )


def test_the_interface_gives_bit_for_bit_what_the_jobs_gave(scene: Path, cube: Path) -> None:
    """z, masks, quality and patches equal those of the jobs, both from files as floats and from the cube."""
    opened = acdtask.open(cube)
    everything = opened.images(area=scene / "aoi.json")
    past = everything.sel(time=slice(None, np.datetime64(reference_end().replace(tzinfo=None))))
    new = everything.isel(time=slice(past.sizes["time"], None))
    products = images_of(cube)
    assert new.sizes["time"] == len(products) == SCENE.monitored_pairs
    usual = acdtask.baseline(past)
    (path,) = cube.glob("products/*/baseline/*/manifests/*.json")
    manifest = BaselineManifest.model_validate_json(path.read_bytes())
    for tile in manifest.tiles:
        with rasterio.open(cube / tile.mean.uri) as raster:
            assert raster.scales == (0.001,)
    aoi = json.loads((scene / "aoi.json").read_text())["geometry"]
    found = 0
    for image, product in zip(new, products, strict=True):
        change = acdtask.monitor(image, usual, area=aoi)
        z = np.where(np.isnan(change.z), -32768, np.rint(change.z.astype(np.float64) * 100)).astype(np.int16)
        for place, pixels in tiles_of(product, "z", cube, image):
            np.testing.assert_array_equal(z[place], pixels[0])
        for place, pixels in tiles_of(product, "change", cube, image):
            judged = np.where(change.quality[place] == 0, change.mask[place], 255)
            np.testing.assert_array_equal(judged, pixels[0])
            np.testing.assert_array_equal(change.quality[place], pixels[1])
        theirs = patches_of_image(product, Store.at(str(cube)))
        ours = acdtask.patches(change)
        assert sorted(map(measures, ours)) == sorted(measures(row.patch) for row in theirs)
        shapes = [shapely.geometry.shape(feature["geometry"]) for feature in ours.to_geojson()["features"]]
        for row in theirs:
            assert any(shapely.equals_exact(row.geometry, mine, 2e-7) for mine in shapes)
        found += len(theirs)
    assert found > 0


def test_floats_from_the_files_are_the_cubes_integers(scene: Path, cube: Path) -> None:
    files = sorted((scene / "images").glob("*.tif"))
    stack = []
    for file in files:
        with rasterio.open(file) as raster:
            values, nodata = raster.read(1), raster.nodata
            transform = raster.transform
        stack.append(values if values.dtype.kind == "f" else np.where(values == nodata, np.nan, values / 1000))
    from_files = acdtask.baseline(np.array(stack), nodata=nodata, crs="EPSG:32632", transform=transform)
    from_cube = acdtask.baseline(acdtask.open(cube).images())
    assert from_cube.shape == from_files.shape == SCENE.shape
    assert from_cube.grid == from_files.grid
    assert from_cube.moments == from_files.moments


def test_a_cube_lists_what_is_in_it(cube: Path, scene: Path) -> None:
    opened = acdtask.open(str(cube))
    assert "CoherenceVV" in repr(opened)
    assert {variable.name for variable in opened.variables()} >= {"CoherenceVV", "CoherenceVV_Mean", "CoherenceVV_Z"}
    assert [instance.name for instance in opened.instances("CoherenceVV")] == ["master"]
    assert [layout.name for layout in opened.layouts()] == [LAYOUT]
    days = SCENE.pair_dates(0)[1], SCENE.pair_dates(1)[1]
    chosen = opened.records("*", start=str(days[0]), end=str(days[1]), area=scene / "aoi.json")
    assert [record.datetime.date() for record in chosen if "acd:job" not in record.tags] == list(days)
    with pytest.raises(AcdError, match="'tomorrow' is not a date"):
        opened.records(start="tomorrow")
    with pytest.raises(AcdError) as raised:
        acdtask.open(scene)
    assert raised.value.code is ErrorCode.CUBE_UNKNOWN


def test_images_read_only_what_is_used(cube: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[int, tuple[int, int]]] = []
    original = LocalCube.images

    def images(self: LocalCube, request: Any) -> Any:
        read.append((len(request.groups), request.grid.shape))
        return original(self, request)

    monkeypatch.setattr(LocalCube, "images", images)
    series = acdtask.open(cube).images()
    assert series.dims == ("time", "y", "x")
    assert "start" in series.coords
    assert read == []
    part = series.isel(time=slice(2, 5), y=slice(10, 20), x=7).load()
    assert read == [(3, (10, 1))]
    whole = series.load()
    assert read[1:] == [(SCENE.reference_pairs + SCENE.monitored_pairs, SCENE.shape)]
    np.testing.assert_array_equal(part, whole[2:5, 10:20, 7])


@pytest.mark.parametrize(
    "index",
    [
        {"time": -1},
        {"time": slice(None, None, -2), "y": slice(50, 10, -3), "x": slice(1, 60, 7)},
        {"time": [3, 1, 3], "x": [5, 2]},
        {"time": 0, "y": 3, "x": 4},
        {"y": slice(7, 7)},
    ],
)
def test_any_index_gives_what_numpy_gives(cube: Path, index: dict[str, Any]) -> None:
    whole = acdtask.open(cube).images().load()
    xr.testing.assert_identical(acdtask.open(cube).images().isel(index).load(), whole.isel(index))


def test_stored_integers_say_what_they_mean(cube: Path) -> None:
    opened = acdtask.open(cube)
    integers, floats = opened.images(stored=True), opened.images()
    assert integers.dtype == np.int16
    assert (integers.attrs["scale_factor"], integers.attrs["_FillValue"]) == (0.001, -1)
    expected = np.where(integers == -1, np.nan, integers * 0.001)
    np.testing.assert_allclose(floats, expected, rtol=1e-6)
    assert acdtask.baseline(integers).moments == acdtask.baseline(floats).moments


def test_results_are_images_too(cube: Path) -> None:
    opened = acdtask.open(cube)
    mean = opened.images("CoherenceVV_Mean", "annual")
    assert mean.sizes["time"] == 1
    assert 0 < float(mean.mean()) < 1
    (instance,) = opened.instances("CoherenceVV_Change")
    change = opened.images("CoherenceVV_Change", instance.name)
    assert change.dims == ("time", "band", "y", "x")
    assert change.band.values.tolist() == ["change", "quality"]
    assert int((change.isel(band=0) == 1).sum()) == sum(product.changed_px for product in images_of(cube))


def test_pixels_come_from_the_only_layout_or_a_named_one_or_the_first_image(cube: Path, tmp_path: Path) -> None:
    from acdtask.raster.grid import Layout, RegularGrid

    copy = tmp_path / "cube"
    shutil.copytree(cube, copy)
    coarse = Layout(name="coarse", grid=RegularGrid(crs="EPSG:3857", resolution=100, cell_size=64))
    LocalCube.open(str(copy)).add_layout(coarse)
    with pytest.raises(AcdError, match=f"several layouts: coarse, {LAYOUT}"):
        acdtask.open(copy).images()
    warped = acdtask.open(copy).images(layout="coarse")
    assert float(warped.x[1] - warped.x[0]) == 100
    assert "3857" in warped.spatial_ref.attrs["crs_wkt"]
    assert acdtask.baseline(warped).count.max() == SCENE.reference_pairs + SCENE.monitored_pairs


def test_no_record_and_no_such_variable_are_said(cube: Path) -> None:
    opened = acdtask.open(cube)
    with pytest.raises(AcdError, match="no record of CoherenceVV:master with this name"):
        opened.images(start="2035-01-01")
    with pytest.raises(AcdError) as raised:
        opened.images("CoherenceVH")
    assert raised.value.code is ErrorCode.VARIABLE_UNKNOWN


def test_a_cube_on_an_object_store_opens_the_same(scene: Path, s3_address: str) -> None:
    from acdtask.engine.local import run_locally
    from acdtask.jobs.ingest.job import IngestJob
    from acdtask.jobs.ingest.settings import IngestSettings

    settings = IngestSettings(source=str(scene / "images"))
    with WorkerPool(0) as pool:
        run_locally(IngestJob(), settings, s3_address, pool=pool, progress=False)
    series = acdtask.open(s3_address).images()
    usual = acdtask.baseline(series)
    assert usual.shape == SCENE.shape
    usual.save(f"{s3_address}-results/usual.npz")
    assert acdtask.Baseline.load(f"{s3_address}-results/usual.npz").moments == usual.moments
