"""Results that are less reliable than they look say so: in the log, the notes, the products, the report, the event."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from acdtask.cli import main
from acdtask.engine.local import LocalOutcome
from acdtask.engine.run_summary import record_gathered, record_plan
from acdtask.engine.stages import gathered_rounds, open_site
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.baseline.job import BaselineJob
from acdtask.jobs.cautions import Caution, baseline_season, image_season, little_judged, merged, months_of, months_text
from acdtask.jobs.ingest.job import IngestJob
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.monitor.job import MonitorJob
from acdtask.jobs.monitor.months import read_images
from acdtask.jobs.products import ImageProduct
from acdtask.jobs.report.job import ReportJob, ReportSettings
from acdtask.notify.event import FinishedRun, end_of, read_run
from acdtask.raster.grid import Layout, RegularGrid
from acdtask.storage.store import Store
from tests.change.reference import blobs_of, statistics
from tests.jobs.rasters import CRS, ORIGIN
from tests.jobs.small_site import (
    FIRST,
    LAYOUT,
    RESOLUTION,
    SIZE,
    STEP,
    baseline,
    ends,
    make_cube,
    monitor,
    run,
    steady,
    write_aoi,
    write_images,
)
from tests.jobs.test_nothing_judged import judged_pixels, newest_manifest, refused, settings_in

RUN = "run-1"
ENOUGH = 22
HALF_YEAR, YEAR = 15, 31
OCTOBER = 53
"""A pair of the second year that ends in October."""
FIELD = (slice(8, 38), slice(8, 38))


def day(index: int) -> date:
    return FIRST + timedelta(days=STEP * (index + 1))


def seasonal(index: int) -> NDArray[np.float32]:
    """A quiet scene with a field that loses coherence from August to November of each year."""
    base = np.random.default_rng(99).uniform(0.6, 0.8, (SIZE, SIZE))
    image = base + np.random.default_rng(index).normal(0, 0.03, base.shape)
    if 8 <= day(index).month <= 11:
        image[FIELD] -= 0.3
    return image.astype(np.float32)


@pytest.fixture(scope="module")
def made_season(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("season")
    cube = make_cube(folder, YEAR, seasonal)
    write_images(folder / "later", OCTOBER + 1, seasonal, first=OCTOBER)
    run(IngestJob(), IngestSettings(source=str(folder / "later")), cube)
    return folder


@pytest.fixture
def season(made_season: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made_season, tmp_path / "season")) / "cube"


def products(cube: Path) -> list[ImageProduct]:
    return read_images(newest_manifest(cube), Store.at(str(cube)))


def page_of(cube: Path) -> str:
    run(ReportJob(), ReportSettings(aoi=str(cube.parent / "aoi.json"), layout=LAYOUT), cube)
    pages = (cube / "products").glob("site/report/*/index.html")
    return max(pages, key=lambda path: path.stat().st_mtime_ns).read_text()


def event_of(cube: Path, outcome: LocalOutcome) -> list[dict[str, Any]]:
    """The warnings of the event of RUN, in which this outcome was made."""
    site = open_site(str(cube))
    record_plan(outcome.plan, outcome.plan.settings, site)
    record_gathered(MonitorJob(), outcome.plan, gathered_rounds(outcome.plan, site), site)
    finished = FinishedRun(RUN, "Succeeded", "site")
    data = end_of(finished, read_run(finished, site)).data
    assert not any("warnings" in image for image in data["images"])
    return list(data["warnings"])


def test_half_a_year_warns_and_the_whole_year_removes_the_false_patch(season: Path) -> None:
    assert day(OCTOBER).month == 10
    done = baseline(season, end=ends(HALF_YEAR - 1))
    (line,) = [line for line in done.lines if line.startswith("warning: the baseline")]
    assert "no image in August to December" in line
    assert "--start and --end" in line
    (noted,) = done.plan.notes["warnings"]
    assert noted["months"] == [8, 9, 10, 11, 12]
    (told,) = BaselineJob().findings(done.plan, open_site(str(season))).warnings
    assert told.months == (8, 9, 10, 11, 12)

    outcome = monitor(season, min_count=HALF_YEAR, centred=False, start=ends(OCTOBER - 1))
    (image,) = products(season)
    assert image.patch_count == 1, "the season alone is a patch, which is what the warning is about"
    (caution,) = image.warnings
    assert (caution.kind, caution.images, caution.months) == ("season", (image.label,), (10,))
    (line,) = [line for line in outcome.lines if line.startswith("warning")]
    assert f"{image.label}: the baseline has no image in October" in line
    assert "--start and --end of 'acdtask baseline local'" in line
    assert outcome.plan.notes["warnings"][0]["months"] == [10]
    findings = MonitorJob().findings(outcome.plan, open_site(str(season)))
    assert findings.warnings == findings.images[0].warnings == (caution,)
    page = page_of(season)
    assert f"{caution.text}." in page.replace("&#39;", "'")
    assert "no image in August to December" in page

    baseline(season, end=ends(YEAR - 2))
    again = monitor(season, min_count=HALF_YEAR, centred=False, start=ends(OCTOBER - 1), again=True)
    (image,) = products(season)
    assert (image.patch_count, image.warnings) == (0, ())
    assert not [line for line in again.lines if line.startswith("warning")]
    assert "Warning:" not in page_of(season)


def test_the_log_and_the_event_have_the_warnings(
    season: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--cube", str(season), "--aoi", str(season.parent / "aoi.json"), "--layout", LAYOUT, "--workers", "0"]
    assert main(["--log", "json", "baseline", "local", *given, "--end", ends(HALF_YEAR - 1).isoformat()]) == 0
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    (warned,) = [event for event in events if event["event"] == "plan.warned"]
    assert "August to December" in warned["text"]
    monkeypatch.setenv("ACD_RUN_ID", RUN)
    (warning,) = event_of(season, monitor(season, min_count=HALF_YEAR, start=ends(OCTOBER - 1)))
    assert (warning["kind"], warning["months"], warning["images"]) == ("season", [10], 1)


def half_blind(blind: int) -> Callable[[int], NDArray[np.float32]]:
    """Quiet images; one of them has no data but in its last row."""
    quiet = steady(99)

    def pixels(index: int) -> NDArray[np.float32]:
        image = quiet(index)
        if index == blind:
            image[:-1] = -1
        return image

    return pixels


def test_one_blind_image_of_several_is_named_although_the_run_judged_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cube = make_cube(tmp_path, ENOUGH + 3, half_blind(ENOUGH + 1))
    baseline(cube, end=ends(ENOUGH - 1))
    monkeypatch.setenv("ACD_RUN_ID", RUN)
    outcome = monitor(cube)
    first, blind, last = products(cube)
    (caution,) = [caution for caution in blind.warnings if caution.kind == "little judged"]
    assert (caution.area_px, caution.judged_px) == (SIZE * SIZE, SIZE)
    assert not [caution for image in (first, last) for caution in image.warnings if caution.kind == "little judged"]
    (logged,) = [record for record in caplog.records if record.getMessage() == "image.warned"]
    assert vars(logged)["fields"]["image"] == blind.label
    assert vars(logged)["fields"]["kind"] == "little judged"
    (line,) = [line for line in outcome.lines if line.startswith("warning") and "judged only" in line]
    assert blind.label in line
    assert f"({SIZE} of {SIZE * SIZE} px)" in line
    findings = MonitorJob().findings(outcome.plan, open_site(str(cube)))
    assert {caution.kind for caution in findings.warnings} == {"season", "little judged"}
    assert findings.images[1].judged_px == SIZE
    told = event_of(cube, outcome)
    assert [(warning["kind"], warning["image"], warning["judged_px"]) for warning in told if warning["area_px"]] == [
        ("little judged", blind.label, SIZE)
    ]
    page = page_of(cube)
    assert page.count(f"{caution.text}.") >= 1


def only_the_right_half(path: Path) -> None:
    """Cut a raster to its right half, another tile than those of the left."""
    with rasterio.open(path) as raster:
        profile, pixels = raster.profile, raster.read()[:, :, SIZE // 2 :]
        profile.update(width=SIZE // 2, transform=raster.transform @ rasterio.Affine.translation(SIZE // 2, 0))
    with rasterio.open(path, "w", **profile) as raster:
        raster.write(pixels)


def test_an_image_beside_all_tiles_of_the_baseline_is_named_until_the_advice_is_followed(tmp_path: Path) -> None:
    """The AOI was drawn anew. One of two new images covers a part of it of which the baseline knows nothing."""
    cube = make_cube(tmp_path, ENOUGH + 1, steady(99))
    beside = write_images(tmp_path / "beside", ENOUGH + 2, steady(99), first=ENOUGH + 1)
    only_the_right_half(next(beside.iterdir()))
    run(IngestJob(), IngestSettings(source=str(beside)), cube)
    write_aoi(tmp_path / "aoi.json", east=20, south=20)
    baseline(cube, end=ends(ENOUGH - 1))
    write_aoi(tmp_path / "aoi.json")
    outcome = monitor(cube)
    (image,) = products(cube)
    (line,) = [line for line in outcome.lines if "no data in the tiles" in line]
    assert image.label not in line
    (caution,) = [
        caution
        for caution in MonitorJob().findings(outcome.plan, open_site(str(cube))).warnings
        if caution.kind == "no tiles"
    ]
    assert caution.images[0] in line
    assert "--leave-out" in line
    baseline(cube, end=ends(ENOUGH - 1))
    again = monitor(cube)
    assert not [line for line in again.lines if "no data in the tiles" in line]
    labels = [image.label for image in products(cube)]
    assert caution.images[0] in labels
    assert products(cube)[-1].quality_px["VALID"] == SIZE * SIZE // 2


def test_a_thin_baseline_that_has_enough_images_is_an_error_whose_advice_judges_every_pixel(tmp_path: Path) -> None:
    """Each pixel has half of the images: left and right in turn. The baseline as a whole has enough."""
    quiet = steady(99)

    def pixels(index: int) -> NDArray[np.float32]:
        image = quiet(index)
        if index < ENOUGH:
            image[:, : SIZE // 2] = -1 if index % 2 else image[:, : SIZE // 2]
            image[:, SIZE // 2 :] = image[:, SIZE // 2 :] if index % 2 else -1
        return image

    cube = make_cube(tmp_path, ENOUGH + 1, pixels)
    baseline(cube, end=ends(ENOUGH - 1))
    error = refused(cube)
    assert f"none of {SIZE * SIZE} px of 1 image was judged: {SIZE * SIZE} px too few images" in error.detail
    advised = settings_in(error.fix)
    assert advised == {"min_count": ENOUGH // 2}
    monitor(cube, **advised)
    assert judged_pixels(cube) == SIZE * SIZE


def test_sixteen_dates_are_an_error_whose_advice_finds_the_change_exactly(tmp_path: Path) -> None:
    """As many as a series of 16 dates has. What is found is what numpy and scikit-image find."""
    dates = 16
    cube = make_cube(tmp_path, dates + 1, steady(dates))
    baseline(cube, end=ends(dates - 1))
    error = refused(cube)
    assert f"the baseline has {dates} images" in error.detail
    assert settings_in(error.fix) == {"min_count": dates}
    monitor(cube, min_count=dates, centred=False)
    (image,) = products(cube)
    assert (image.patch_count, image.quality_px["VALID"]) == (1, SIZE * SIZE)
    change = np.zeros((SIZE, SIZE), bool)
    for tile in image.tiles:
        with rasterio.open(cube / tile.change.uri) as raster:
            row, column = tile.tile.origin
            change[row : row + raster.height, column : column + raster.width] = raster.read(1) == 1
    stack = np.rint(1000 * np.stack([steady(dates)(index) for index in range(dates + 1)]).astype(np.float64))
    mean, std, _ = statistics(stack[:dates], -1)
    expected = blobs_of((mean - stack[dates].astype(np.float32)) / std, 1.7, 3.0, 100) > 0
    np.testing.assert_array_equal(change, expected)
    assert change[8:38, 8:38].all()
    assert image.changed_px == change.sum()


def test_a_baseline_of_another_layout_is_an_error_and_the_named_layout_judges(tmp_path: Path) -> None:
    cube = make_cube(tmp_path, ENOUGH + 1, steady(99))
    grid = RegularGrid(crs=CRS, resolution=RESOLUTION, ox=ORIGIN[0], oy=ORIGIN[1], cell_size=32)
    open_site(str(cube)).cube.add_layout(Layout(name="other", grid=grid))
    content = baseline(cube, end=ends(ENOUGH - 1)).plan.content_id
    with pytest.raises(AcdError) as caught:
        run(MonitorJob(), MonitorJob.settings(aoi=str(tmp_path / "aoi.json"), layout="other", baseline=content), cube)
    assert caught.value.code is ErrorCode.BASELINE_UNFIT
    assert f"--layout {LAYOUT}" in caught.value.fix
    monitor(cube, baseline=content)
    assert judged_pixels(cube) == SIZE * SIZE


def test_months_are_those_of_all_dates_of_a_pair_and_wrap_around_the_year() -> None:
    labels = ["2020-11-20_2021-01-03", "2021-04-10"]
    assert sorted(months_of(labels)) == [1, 4, 11, 12]
    assert months_text({1, 4, 11, 12}) == "April and November to January"
    assert months_text(range(1, 13)) == "any month"
    assert months_of(["2019-01-01_2021-06-01"]) == frozenset(range(1, 13))
    (caution,) = baseline_season(labels)
    assert caution.months == (2, 3, 5, 6, 7, 8, 9, 10)
    assert not baseline_season([f"2020-{month:02d}-01" for month in range(1, 13)])


def test_the_month_of_an_image_is_that_of_its_last_date() -> None:
    known = [f"2020-{month:02d}-05" for month in (1, 2, 3)]
    assert not image_season(known, ["2019-12-28_2021-01-09", "2021-03-31"])
    (caution,) = image_season(known, ["2021-03-28_2021-04-03", "2021-02-01"])
    assert (caution.images, caution.months) == (("2021-03-28_2021-04-03",), (4,))


def test_warnings_of_a_kind_are_told_once_with_their_number() -> None:
    few = [caution for label in "abc" for caution in little_judged(label, {"VALID": 1, "NO_DATA": 9})]
    (joined,) = merged([*few, *few])
    assert joined.text.startswith("a: judged only 10%")
    assert joined.text.endswith("(and 2 more images)")
    assert (joined.images, joined.area_px, joined.judged_px) == (("a", "b", "c"), 30, 3)
    assert not little_judged("a", {"VALID": 5, "NO_DATA": 5})
    (nothing,) = little_judged("a", {})
    assert "all of its tiles were left out" in nothing.text
    assert merged([Caution(kind="season", text="x", months=(7,))])[0].text == "x"
