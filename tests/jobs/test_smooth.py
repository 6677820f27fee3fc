"""A method that looks around its tiles gives one result, however the area is cut and wherever its pixels are kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.warp import transform_geom

from acdtask.change.detect import ImageChange, detect_against
from acdtask.change.methods import detection_for
from acdtask.change.moments import Moments
from acdtask.change.thresholds import Detection
from acdtask.change.zscore import Quality
from acdtask.cube.aoi import load_aoi
from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import RecordQuery, Slice
from acdtask.engine.local import LocalOutcome, run_locally
from acdtask.engine.processes import WorkerPool
from acdtask.engine.stages import open_site
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.baseline.job import BaselineJob
from acdtask.jobs.baseline.settings import BaselineSettings
from acdtask.jobs.consolidate.job import ConsolidateJob
from acdtask.jobs.consolidate.settings import ConsolidateSettings
from acdtask.jobs.contract import Job, Settings
from acdtask.jobs.ingest.job import IngestJob
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.manifests import manifest_chain
from acdtask.jobs.monitor.job import MonitorJob
from acdtask.jobs.monitor.months import read_images, read_month_patches
from acdtask.jobs.monitor.settings import MonitorSettings
from acdtask.jobs.products import (
    Z_FORMAT,
    Z_SCALE,
    MonitorManifest,
)
from acdtask.raster.grid import Layout, RegularGrid
from acdtask.raster.masks import inside_mask
from acdtask.storage.store import Store
from tests.jobs.rasters import CRS, ORIGIN
from tests.jobs.serving import served
from tests.jobs.small_site import ends, write_images

SIZE, REFERENCE, MONITORED = 60, 10, 2
LAYOUT = "cut"
SMOOTH: dict[str, Any] = {"smooth": 1.2, "low": 0.9, "high": 1.8, "min_area": 15, "min_count": 5}
WIDE: dict[str, Any] = {"smooth": 3.0, "low": 0.5, "high": 1.0, "min_area": 10, "min_count": 5, "profile": "tutorial"}
ROBUST: dict[str, Any] = {
    "centred": False,
    "calibrated": True,
    "smooth": 1.2,
    "looks": 36.0,
    "mean_field": True,
    "wide": 3.0,
    "low": 0.0,
    "high": 1.2,
    "min_area": 10,
    "min_count": 5,
}
"""The steps of the robust method, without its judgement."""
RESAMPLED = 7.0
"""Metres by which the pixels of a layout may lie beside those of the images."""


def pixels_of(index: int) -> NDArray[np.float32]:
    """Noise around a level, changes of several sizes, a swath edge that moves, and holes without data."""
    base = np.random.default_rng(99).uniform(0.4, 0.85, (SIZE, SIZE))
    random = np.random.default_rng(index)
    image = base + random.normal(0, 0.06, base.shape)
    if index >= REFERENCE:
        for row, column, side in ((12, 9, 11), (30, 28, 5), (40, 6, 4), (22, 44, 9), (45, 40, 6)):
            image[row : row + side, column : column + side] -= 0.12
    image = np.clip(image, 0.01, 0.99)
    image[random.random(base.shape) < 0.03] = -1
    rows, columns = np.indices(base.shape)
    image[columns + rows // 4 < random.integers(0, 7)] = -1
    return image.astype(np.float32)


def write_area(path: Path, *, west_half: bool = False) -> Path:
    """A circle that reaches over the scene's edge, with a hole; or the rectangle that is its western half."""
    x, y = ORIGIN[0] + 20 * SIZE / 2, ORIGIN[1] - 20 * SIZE / 2
    circle = shapely.Point(x + 60, y).buffer(20 * 29.3).difference(shapely.Point(x - 90, y + 130).buffer(20 * 4.2))
    area = shapely.box(x - 1000, y - 1000, x - 30, y + 1000) if west_half else circle
    geometry = transform_geom(CRS, "EPSG:4326", shapely.geometry.mapping(area))
    body = {"type": "Feature", "geometry": geometry, "properties": {}, "name": "half" if west_half else "site"}
    path.write_text(json.dumps({**body, "start_time": "2020-01-01T00:00:00Z", "end_time": "2030-01-01T00:00:00Z"}))
    return path


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scene")
    write_images(folder / "images", REFERENCE + MONITORED, pixels_of)
    write_area(folder / "aoi.json")
    write_area(folder / "half.json", west_half=True)
    return folder


@dataclass(frozen=True)
class How:
    """How a site is made; of this nothing may show in the result."""

    cell: int = 256
    consolidate: str = ""
    shift: float = 0.0
    shard_tiles: int = 4


def layout_of(how: How) -> Layout:
    """Cells that begin beside the scene, so that tiles lie askew in it."""
    ox, oy = ORIGIN[0] - 5 * 20 + how.shift, ORIGIN[1] + 3 * 20 - how.shift
    return Layout(name=LAYOUT, grid=RegularGrid(crs=CRS, resolution=20, cell_size=how.cell, ox=ox, oy=oy))


def run(job: Job[Any, Any], settings: Settings, site: str, quarantine: int = 0) -> LocalOutcome:
    with WorkerPool(0) as pool:
        return run_locally(job, settings, site, pool=pool, progress=False, quarantine=quarantine)


def make(scene: Path, site: str, how: How) -> str:
    """A site with images and a baseline."""
    run(IngestJob(), IngestSettings(source=str(scene / "images")), site)
    open_site(site).cube.add_layout(layout_of(how))
    for area in how.consolidate.split():
        settings = ConsolidateSettings(aoi=str(scene / f"{area}.json"), layout=LAYOUT, shard_tiles=how.shard_tiles)
        run(ConsolidateJob(), settings, site)
    baseline(scene, site, how)
    return site


def baseline(scene: Path, site: str, how: How, quarantine: int = 0) -> LocalOutcome:
    settings = BaselineSettings(
        aoi=str(scene / "aoi.json"),
        layout=LAYOUT,
        end=ends(REFERENCE - 1),
        min_dates=5,
        shard_tiles=how.shard_tiles,
        profile="standard",
    )
    return run(BaselineJob(), settings, site, quarantine)


def monitor(scene: Path, site: str, how: How, quarantine: int = 0, **method: Any) -> LocalOutcome:
    settings = MonitorSettings(aoi=str(scene / "aoi.json"), layout=LAYOUT, shard_tiles=how.shard_tiles, **method)
    return run(MonitorJob(), settings, site, quarantine)


@dataclass(frozen=True)
class Result:
    """What a monitor found, on the pixels of the scene and 20 around it."""

    z: NDArray[np.int16]
    change: NDArray[np.uint8]
    quality: NDArray[np.uint8]
    patches: list[tuple[str, str]]

    def assert_is(self, other: Result) -> None:
        np.testing.assert_array_equal(self.quality, other.quality)
        np.testing.assert_array_equal(self.change, other.change)
        np.testing.assert_array_equal(self.z, other.z)
        assert self.patches == other.patches


def result_of(site: str, outcome: LocalOutcome, how: How) -> Result:
    store = Store.at(site)
    body = manifest_chain(store, "site", "monitor", outcome.plan.content.method.id).newest()[1]
    assert body is not None
    manifest = MonitorManifest.model_validate_json(body)
    images = read_images(manifest, store)
    size = SIZE + 40
    z = np.full((len(images), size, size), Z_FORMAT.nodata, np.int16)
    change, quality = (np.full((len(images), size, size), fill, np.uint8) for fill in (255, Quality.OUTSIDE))
    for number, image in enumerate(images):
        for tile in image.tiles:
            row, column = tile.tile.origin
            row, column = row - 3 + 20, column - 5 + 20
            rows, columns = (slice(max(start, 0), max(start + how.cell, 0)) for start in (row, column))
            of_tile = slice(max(-row, 0), None), slice(max(-column, 0), None)

            bands = np.concatenate([read(store, tile.z.uri), read(store, tile.change.uri)])[:, *of_tile]
            for target, pixels in zip((z[number], change[number], quality[number]), bands, strict=True):
                place = target[rows, columns]
                place[...] = pixels[: place.shape[0], : place.shape[1]]
    patches = [patch for month in read_month_patches(manifest, store) for patch in month]
    return Result(z, change, quality, [(json.dumps(patch.properties), patch.geometry.wkt) for patch in patches])


def read(store: Store, key: str) -> NDArray[Any]:
    with rasterio.MemoryFile(store.get(key)) as file, file.open() as raster:
        return np.asarray(raster.read())


def expected(
    scene: Path, site: str, how: How, method: dict[str, Any], masked: list[str] | None = None
) -> list[ImageChange]:
    """Every new image judged as a whole, from pixels that are read in one piece; some cells are no part of the area."""
    cube, layout = LocalCube.open(site), layout_of(how)
    variable = cube.variable("CoherenceVV")
    grid = layout.pixel_grid(3 - 20, 5 - 20, SIZE + 40, SIZE + 40)
    records = cube.records(RecordQuery(name="S1_*"))
    (found,) = cube.where("CoherenceVV", "master", [record.id for record in records], [grid], LAYOUT)
    slices = [Slice(label="", datasets=tuple(d for d in found if d.record_id == record.id)) for record in records]
    images = cube.read(grid, slices, variable)
    inside = inside_mask(load_aoi(str(scene / "aoi.json")).geometry, grid)
    for cell in masked or []:
        i, j = map(int, cell.split("/"))
        row, column = layout.tile(i, j).origin
        rows, columns = (max(start + 20, 0) for start in (row - 3, column - 5))
        inside[rows : row - 3 + 20 + how.cell, columns : column - 5 + 20 + how.cell] = False
    given = {name: value for name, value in method.items() if name != "profile"}
    detection: Detection = detection_for(method.get("profile", "standard"), (0, 1000), 0.001, given)
    # The baseline of these tests is of the standard profile, which neither takes zeros for nodata nor clips.
    moments = Moments.of_images(images[:REFERENCE], -1)
    return [
        detect_against(moments, image, detection, nodata=-1, inside=inside, origin=(3 - 20, 5 - 20))
        for image in images[REFERENCE:]
    ]


def assert_as_expected(result: Result, changes: list[ImageChange]) -> None:
    for number, change in enumerate(changes):
        np.testing.assert_array_equal(result.quality[number], change.score.quality)
        judged = change.score.quality == Quality.VALID
        np.testing.assert_array_equal(result.change[number] == 1, (change.blob_ids > 0) & judged)
        np.testing.assert_allclose(result.z[number][judged] * Z_SCALE, change.score.z[judged], atol=0.00501)
    areas = [json.loads(properties)["area_px"] for properties, _ in result.patches]
    assert areas == [int(area) for change in changes for area in change.blobs["area"]]


@pytest.fixture(scope="module")
def whole(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, float], Result]:
    """What a site of one tile has, which is also what plain arrays give."""
    made: dict[tuple[str, float], Result] = {}
    sites: dict[float, str] = {}

    def result(name: str, shift: float = 0.0) -> Result:
        how, method = How(shift=shift), METHODS[name]
        if shift not in sites:
            sites[shift] = make(scene, str(tmp_path_factory.mktemp("whole") / "cube"), how)
        if (name, shift) not in made:
            made[name, shift] = result_of(sites[shift], monitor(scene, sites[shift], how, **method), how)
            assert_as_expected(made[name, shift], expected(scene, sites[shift], how, method))
        return made[name, shift]

    return result


METHODS: dict[str, dict[str, Any]] = {"smooth": SMOOTH, "wide": WIDE, "robust": ROBUST}


@pytest.mark.parametrize("name", ["smooth", "wide"])
def test_there_are_patches_which_smoothing_has_made(
    name: str, scene: Path, whole: Callable[..., Result], tmp_path: Path
) -> None:
    smooth = whole(name)
    assert len(smooth.patches) >= 4
    site, how = make(scene, str(tmp_path / "cube"), How()), How()
    plain = result_of(site, monitor(scene, site, how, **{**METHODS[name], "smooth": 0.0}), how)
    np.testing.assert_array_equal(plain.z, smooth.z)
    assert (plain.change != smooth.change).any()


@pytest.mark.parametrize(
    "how",
    [
        How(cell=7),
        How(cell=16, consolidate="aoi"),
        How(cell=23, consolidate="half"),
        How(cell=37, consolidate="aoi", shard_tiles=1),
        How(cell=64),
        How(cell=23, consolidate="half", shift=RESAMPLED),
        How(cell=37, shift=RESAMPLED),
    ],
    ids=str,
)
def test_no_cut_shows(how: How, scene: Path, whole: Callable[..., Result], tmp_path: Path) -> None:
    site = make(scene, str(tmp_path / "cube"), how)
    for name, method in METHODS.items():
        if how.cell == 7 and name == "wide":
            continue  # its halo of 12 px needs many small tiles for each
        result_of(site, monitor(scene, site, how, **method), how).assert_is(whole(name, how.shift))


def test_no_cut_shows_on_s3(scene: Path, whole: Callable[..., Result], s3_address: str) -> None:
    how = How(cell=23, consolidate="half")
    site = make(scene, s3_address, how)
    result_of(site, monitor(scene, site, how, **SMOOTH), how).assert_is(whole("smooth"))


@contextmanager
def geocube(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with served(folder) as address, monkeypatch.context() as environment:
        environment.setenv("ACD_GEOCUBE_ADDRESS", address)
        yield


@pytest.mark.parametrize(
    "how", [How(cell=23, consolidate="half"), How(cell=37), How(cell=37, shift=RESAMPLED)], ids=str
)
def test_no_cut_shows_on_a_geocube(
    how: How, scene: Path, whole: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with geocube(tmp_path / "served", monkeypatch):
        site = make(scene, str(tmp_path / "site"), how)
        found = result_of(site, monitor(scene, site, how, **SMOOTH), how)
    found.assert_is(whole("smooth", how.shift))


def damage(site: str, cell: str) -> Callable[[], None]:
    """Let what was consolidated for a cell be unreadable; what makes it good again."""
    (key,) = {
        dataset.uri
        for dataset in LocalCube.open(site).datasets("CoherenceVV", "master")
        if dataset.is_copy and dataset.cell == cell
    }
    chunks = [path for path in Path(site, key).rglob("c/*/*/*") if path.is_file()]
    assert chunks
    before = {path: path.read_bytes() for path in chunks}
    for path, data in before.items():
        path.write_bytes(data[: len(data) // 2])

    def mend() -> None:
        for path, data in before.items():
            path.write_bytes(data)

    return mend


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_neighbour_that_is_left_out_counts_as_masked_and_costs_no_other_tile(
    name: str, scene: Path, whole: Callable[..., Result], tmp_path: Path
) -> None:
    """Its pixels cannot be read, and its neighbours would look at them."""
    how, method = How(cell=23, consolidate="aoi", shard_tiles=1), METHODS[name]
    site = make(scene, str(tmp_path / "cube"), how)
    mend = damage(site, "1/1")
    with pytest.raises(AcdError) as caught:
        monitor(scene, site, how, **method)
    assert caught.value.code is ErrorCode.CUBE_DAMAGED
    outcome = monitor(scene, site, how, quarantine=1, **method)
    partial = result_of(site, outcome, how)
    mend()
    assert_as_expected(partial, expected(scene, site, how, method, masked=["1/1"]))
    result_of(site, monitor(scene, site, how, **method), how).assert_is(whole(name))


def test_a_neighbour_without_a_baseline_counts_as_masked(
    scene: Path, whole: Callable[..., Result], tmp_path: Path
) -> None:
    how = How(cell=23, consolidate="aoi", shard_tiles=1)
    site = str(tmp_path / "cube")
    run(IngestJob(), IngestSettings(source=str(scene / "images")), site)
    open_site(site).cube.add_layout(layout_of(how))
    run(ConsolidateJob(), ConsolidateSettings(aoi=str(scene / "aoi.json"), layout=LAYOUT), site)
    mend = damage(site, "1/1")
    baseline(scene, site, how, quarantine=1)
    partial = result_of(site, monitor(scene, site, how, **SMOOTH), how)
    mend()
    assert_as_expected(partial, expected(scene, site, how, SMOOTH, masked=["1/1"]))
    baseline(scene, site, how)
    result_of(site, monitor(scene, site, how, **SMOOTH), how).assert_is(whole("smooth"))
