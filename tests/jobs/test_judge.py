"""Candidates are judged by their own history, the same however the area is cut and wherever its pixels are kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from acdtask.change.judgement.choice import false_accepted
from acdtask.change.judgement.features import CoherenceScale
from acdtask.change.judgement.judge import judge
from acdtask.change.judgement.model import CERTAIN
from acdtask.change.judgement.whole import sums_of_image
from acdtask.change.moments import Moments
from acdtask.change.steps.likelihood import USUAL_LOOKS
from acdtask.change.zscore import Quality
from acdtask.cube.aoi import load_aoi
from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import Record, RecordQuery, Slice
from acdtask.engine.local import LocalOutcome
from acdtask.engine.stages import open_site
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.baseline.job import BaselineJob
from acdtask.jobs.baseline.settings import BaselineSettings
from acdtask.jobs.manifests import manifest_chain
from acdtask.jobs.monitor.job import MonitorJob
from acdtask.jobs.monitor.judge import pixel_km2
from acdtask.jobs.monitor.models import load_models
from acdtask.jobs.monitor.months import (
    images_of_month,
    patches_of_image,
    patches_of_month,
    read_images,
    rejected_of_image,
)
from acdtask.jobs.patch_files import LocatedPatch
from acdtask.jobs.products import ImageProduct, MonitorManifest
from acdtask.jobs.stacks import area_of
from acdtask.storage.geoparquet import read_table
from acdtask.storage.store import Store
from tests.jobs.small_site import ends, write_images
from tests.jobs.test_smooth import (
    LAYOUT,
    REFERENCE,
    RESAMPLED,
    SIZE,
    How,
    Result,
    damage,
    expected,
    geocube,
    layout_of,
    make,
    monitor,
    result_of,
    run,
    write_area,
)
from tests.jobs.test_smooth import pixels_of as pixels_of_changes

ACCEPTED = 800.0
"""False patches per 1000 square kilometres: about one in this small area, so that some candidates are rejected."""
ROBUST: dict[str, Any] = {"profile": "robust", "min_count": 5, "false_per_1000km2": ACCEPTED}
SCALE = CoherenceScale(0, 1000, USUAL_LOOKS)
WORKED = 4
"""An image of the baseline in which a field was worked that is worked again in the new images."""


CHANGES = ((12, 9, 11), (30, 28, 5), (40, 6, 4), (22, 44, 9), (45, 40, 6))
"""First row, first column and side of the changes in the images of test_smooth."""


def pixels_of(index: int) -> NDArray[np.float32]:
    """The images of test_smooth with stronger changes, one of which has happened before."""
    image = pixels_of_changes(index)
    places = CHANGES if index >= REFERENCE else CHANGES[3:4] if index == WORKED else ()
    for row, column, side in places:
        place = image[row : row + side, column : column + side]
        place[place > 0] = np.maximum(place[place > 0] - (0.36 if index == WORKED else 0.24), 0.01)
    return image


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scene")
    write_images(folder / "images", REFERENCE + 2, pixels_of)
    write_area(folder / "aoi.json")
    write_area(folder / "half.json", west_half=True)
    return folder


def manifest_of(site: str, outcome: LocalOutcome) -> MonitorManifest:
    body = manifest_chain(Store.at(site), "site", "monitor", outcome.plan.content.method.id).newest()[1]
    assert body is not None
    return MonitorManifest.model_validate_json(body)


def products_of(site: str, outcome: LocalOutcome) -> list[ImageProduct]:
    return read_images(manifest_of(site, outcome), Store.at(site))


def rejected_of(site: str, product: ImageProduct) -> list[LocatedPatch]:
    return rejected_of_image(product, Store.at(site))


def texts(patches: list[LocatedPatch]) -> list[tuple[str, str]]:
    return [(json.dumps(patch.properties), patch.geometry.wkt) for patch in patches]


@dataclass(frozen=True)
class Judged:
    """Everything that a monitor says: its rasters and patches, and the rejected candidates."""

    result: Result
    rejected: list[tuple[str, str]]

    def assert_is(self, other: Judged) -> None:
        self.result.assert_is(other.result)
        assert self.rejected == other.rejected


def judged_of(site: str, outcome: LocalOutcome, how: How) -> Judged:
    rejected = [row for product in products_of(site, outcome) for row in texts(rejected_of(site, product))]
    return Judged(result_of(site, outcome, how), rejected)


def assert_as_plain_arrays(judged: Judged, scene: Path, site: str, how: How, masked: list[str] | None = None) -> None:
    """What is kept, and with which probability, is what the arrays of the whole scene give."""
    method = {name: value for name, value in ROBUST.items() if name != "false_per_1000km2"}
    changes = expected(scene, site, how, method, masked)
    images = whole_images(site, how)
    moments = Moments.of_images(images[:REFERENCE], -1)
    of_pixel = pixel_km2(area_of(load_aoi(str(scene / "aoi.json"))), layout_of(how))
    kept: list[tuple[int, float]] = []
    rejected: list[tuple[int, float]] = []
    model = load_models().named("model")
    for number, change in enumerate(changes):
        image = images[REFERENCE + number]
        sums = sums_of_image(change, images[:REFERENCE], image, moments, nodata=-1)
        judged_px = int(np.count_nonzero(change.score.quality == Quality.VALID))
        accepted = false_accepted(ACCEPTED, judged_px * of_pixel)
        sure = model.threshold(ACCEPTED)
        rows = judge(change.blobs, sums, model.model, SCALE, accepted=accepted, sure=sure)
        for row, area in zip(rows, change.blobs["area"].tolist(), strict=True):
            (kept if row["kept"] else rejected).append((area, int(row["probability"]) / CERTAIN))
        is_kept = np.isin(change.blob_ids, rows["id"][rows["kept"]])
        np.testing.assert_array_equal(judged.result.change[number] == 1, is_kept)
    for found, rows_of_arrays in ((judged.result.patches, kept), (judged.rejected, rejected)):
        properties = [json.loads(text) for text, _ in found]
        assert [(each["area_px"], each["probability"]) for each in properties] == rows_of_arrays


def whole_images(site: str, how: How) -> NDArray[np.int16]:
    """All images on the pixels of the scene and 20 around it."""
    cube = LocalCube.open(site)
    grid = layout_of(how).pixel_grid(3 - 20, 5 - 20, SIZE + 40, SIZE + 40)
    records = cube.records(RecordQuery(name="S1_*"))
    (found,) = cube.where("CoherenceVV", "master", [record.id for record in records], [grid], LAYOUT)
    slices = [Slice(label="", datasets=tuple(d for d in found if d.record_id == record.id)) for record in records]
    return np.asarray(cube.read(grid, slices, cube.variable("CoherenceVV")))


@pytest.fixture(scope="module")
def whole(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[float], Judged]:
    """What a site of one tile has, which is also what plain arrays give."""
    made: dict[float, Judged] = {}

    def result(shift: float = 0.0) -> Judged:
        how = How(shift=shift)
        if shift not in made:
            site = make(scene, str(tmp_path_factory.mktemp("whole") / "cube"), how)
            made[shift] = judged_of(site, monitor(scene, site, how, **ROBUST), how)
            assert_as_plain_arrays(made[shift], scene, site, how)
        return made[shift]

    return result


def test_what_has_happened_before_is_less_probable_and_the_sentence_says_so(whole: Callable[..., Judged]) -> None:
    found = whole()
    candidates = [json.loads(text) for text, _ in (*found.result.patches, *found.rejected)]
    assert found.result.patches
    assert found.rejected
    day = max(candidates, key=lambda each: each["past_contrast"] if each["past_datetime"] else 0)
    assert day["past_datetime"].startswith("2020-03-04"), "the end of the fifth pair of twelve days"
    assert f"largest drop in the baseline ({day['past_contrast']:.2f} on 2020-03-04)" in day["reason"]
    for text, _ in found.rejected:
        rejected = json.loads(text)
        assert 0 <= rejected["probability"] < 0.02, "more than that is accepted"
        assert rejected["reason"].startswith(f"held back (probability {rejected['probability']:.1g}, less than 0.02): ")
    for text, _ in found.result.patches:
        patch = json.loads(text)
        assert patch["reason"].startswith(f"fell by {patch['contrast']:.2f}")


@pytest.mark.parametrize(
    "how",
    [
        How(cell=7),
        How(cell=16, consolidate="aoi"),
        How(cell=23, consolidate="half"),
        How(cell=37, consolidate="aoi", shard_tiles=1),
        How(cell=64),
        How(cell=23, consolidate="half", shift=RESAMPLED),
    ],
    ids=str,
)
def test_no_cut_shows(how: How, scene: Path, whole: Callable[..., Judged], tmp_path: Path) -> None:
    site = make(scene, str(tmp_path / "cube"), how)
    judged_of(site, monitor(scene, site, how, **ROBUST), how).assert_is(whole(how.shift))


def test_no_cut_shows_on_s3(scene: Path, whole: Callable[..., Judged], s3_address: str) -> None:
    how = How(cell=23, consolidate="half")
    site = make(scene, s3_address, how)
    judged_of(site, monitor(scene, site, how, **ROBUST), how).assert_is(whole())


def test_no_cut_shows_on_a_geocube(
    scene: Path, whole: Callable[..., Judged], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = How(cell=23, consolidate="half")
    with geocube(tmp_path / "served", monkeypatch):
        site = make(scene, str(tmp_path / "site"), how)
        found = judged_of(site, monitor(scene, site, how, **ROBUST), how)
    found.assert_is(whole())


def test_a_neighbour_that_is_left_out_is_in_no_ring_and_costs_no_other_tile(
    scene: Path, whole: Callable[..., Judged], tmp_path: Path
) -> None:
    how = How(cell=23, consolidate="aoi", shard_tiles=1)
    site = make(scene, str(tmp_path / "cube"), how)
    mend = damage(site, "1/1")
    partial = judged_of(site, monitor(scene, site, how, quarantine=1, **ROBUST), how)
    mend()
    assert_as_plain_arrays(partial, scene, site, how, masked=["1/1"])
    judged_of(site, monitor(scene, site, how, **ROBUST), how).assert_is(whole())


def test_a_tile_that_fails_while_it_is_judged_is_judged_by_the_next_run(
    scene: Path, whole: Callable[..., Judged], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The images before were readable, and a year of the tile is not."""
    how = How(cell=23, shard_tiles=1)
    site = make(scene, str(tmp_path / "cube"), how)
    read = LocalCube.read_once

    def fails(self: LocalCube, grid: Any, slices: list[Slice], *rest: Any) -> Any:
        if len(slices) >= REFERENCE - 1 and grid.bounds[0] < layout_of(how).tile(1, 0).grid.bounds[0]:
            raise AcdError(ErrorCode.CUBE_DAMAGED, "a test")
        return read(self, grid, slices, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(LocalCube, "read_once", fails)
        outcome = monitor(scene, site, how, quarantine=4, **ROBUST)
    products = products_of(site, outcome)
    assert all(product.quarantined for product in products)
    # Candidates whose pixels are all in tiles that failed are unknown; the others are judged by what is left.
    judged = sum(product.patch_count + product.rejected_count for product in products)
    assert 0 < judged < len(whole().result.patches) + len(whole().rejected)
    judged_of(site, monitor(scene, site, how, **ROBUST), how).assert_is(whole())


def test_only_blocks_with_candidates_read_the_year(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = How(cell=7)
    site = make(scene, str(tmp_path / "cube"), how)
    grids = []
    read = LocalCube.read_once

    def noted(self: LocalCube, grid: Any, slices: list[Slice], *rest: Any) -> Any:
        if len(slices) > 2:
            grids.append(grid)
        return read(self, grid, slices, *rest)

    monkeypatch.setattr(LocalCube, "read_once", noted)
    outcome = monitor(scene, site, how, **ROBUST)
    monkeypatch.undo()
    tiles = {tile.tile.cell for product in products_of(site, outcome) for tile in product.tiles}
    assert 0 < len(grids) == len(set(grids)) < len(tiles)
    places = [patch.geometry for product in products_of(site, outcome) for patch in rejected_of(site, product)]
    assert places
    quiet = How(cell=7)
    monkeypatch.setattr(LocalCube, "read_once", noted)
    grids.clear()
    monitor(scene, site, quiet, profile="standard", min_count=5)
    assert not grids, "a method that does not judge reads no year"


def test_images_that_are_not_those_of_the_baseline_are_an_error(scene: Path, tmp_path: Path) -> None:
    how = How(cell=23)
    site = make(scene, str(tmp_path / "cube"), how)
    cube = LocalCube.open(site)
    record: Record = cube.records(RecordQuery(name="S1_*"))[2]
    cube.remove(records=frozenset({record.id}), datasets=cube.datasets("CoherenceVV", "master", frozenset({record.id})))
    with pytest.raises(AcdError) as caught:
        monitor(scene, site, how, **ROBUST)
    assert caught.value.code is ErrorCode.BASELINE_IMAGES_CHANGED
    assert monitor(scene, site, how, profile="standard", min_count=5).plan.rounds[-1] == "cut"


def test_the_advised_number_shows_the_most_probable_candidate(scene: Path, tmp_path: Path) -> None:
    how = How()
    site = make(scene, str(tmp_path / "cube"), how)
    none = monitor(scene, site, how, **{**ROBUST, "false_per_1000km2": 0.0})
    assert sum(product.patch_count for product in products_of(site, none)) == 0
    assert not (result_of(site, none, how).change == 1).any()
    (sentence,) = [line for line in MonitorJob().notes(none.plan, open_site(site)) if line.startswith("closest")]
    option, number = sentence.split("; ")[1].split()[:2]
    assert option == "--false-per-1000km2"
    best = max(
        (patch for product in products_of(site, none) for patch in rejected_of(site, product)),
        key=lambda patch: patch.judgement.probability if patch.judgement else 0,
    )
    shown = monitor(scene, site, how, **{**ROBUST, "false_per_1000km2": float(number)})
    patches = [patch for product in products_of(site, shown) for patch in patches_of_image(product, Store.at(site))]
    assert best.patch.id in {patch.patch.id for patch in patches}
    assert int((result_of(site, shown, how).change == 1).sum()) == sum(patch.patch.area_px for patch in patches)


def test_tables_of_a_judged_series_have_its_columns_even_without_a_patch(scene: Path, tmp_path: Path) -> None:
    how = How()
    site = make(scene, str(tmp_path / "cube"), how)
    outcome = monitor(scene, site, how, **{**ROBUST, "false_per_1000km2": 0.0})
    store = Store.at(site)
    columns = {"probability", "contrast", "past_contrast", "past_datetime", "reason"}
    for product in products_of(site, outcome):
        for key in (product.patches, product.rejected):
            assert columns < set(read_table(store.get(key)).column_names)
    manifest = manifest_of(site, outcome)
    assert [patches_of_month(month, store) for month in manifest.months] == [[] for _ in manifest.months]
    for month in manifest.months:
        assert columns < set(read_table(store.get(month.table)).column_names)
        assert all(image.rejected_count for image in images_of_month(month, store))
    plain = monitor(scene, site, how, min_count=5)
    assert not columns & set(read_table(store.get(products_of(site, plain)[0].patches)).column_names)
    assert "judge" not in plain.plan.rounds
    assert plain.plan.content.reference is None


def test_a_clipped_baseline_is_still_that_of_its_images(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts fewer values than its images have; the values left out are part of a candidate's past."""
    monkeypatch.setattr("acdtask.change.moments.LEAST_CLIPPED", REFERENCE)
    how = How()
    site = make(scene, str(tmp_path / "cube"), how)
    settings = BaselineSettings(
        aoi=str(scene / "aoi.json"), layout=LAYOUT, end=ends(REFERENCE - 1), min_dates=5, profile="robust", clip=1.5
    )
    clipped = run(BaselineJob(), settings, site)
    assert any(line.startswith("left out") for line in BaselineJob().notes(clipped.plan, open_site(site)))
    products = products_of(site, monitor(scene, site, how, **ROBUST))
    assert sum(product.patch_count + product.rejected_count for product in products) > 0
