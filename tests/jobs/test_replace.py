"""Known records whose file or settings changed: they are reported, kept or replaced, and judged again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from shapely.geometry import box

from acdtask.cube.local.cube import LocalCube
from acdtask.engine.stages import gather_round, make_plan, open_site, run_shard
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.consolidate.job import ConsolidateJob
from acdtask.jobs.consolidate.settings import ConsolidateSettings
from acdtask.jobs.ingest.unusable_notes import unusable_files_of
from tests.jobs.test_tracks import FIRST, SIZE, TOP, Area, Float, days, pixels_of, refusal, write, write_series

NAME = "{a}_{b}.tif"


@pytest.fixture
def area(tmp_path: Path) -> Area:
    return Area(tmp_path)


def image(number: int) -> str:
    a, b = days(40)[number]
    return f"{a:%Y%m%d}_{b:%Y%m%d}"


def stored(area: Area) -> dict[str, Float]:
    """The pixels that the cube reads for each record, in units of coherence."""
    cube = LocalCube.open(str(area.cube))
    names = {record.id: record.name for record in area.records()}
    found = {}
    for dataset in cube.datasets("CoherenceVV", "master"):
        if not dataset.layout:
            with rasterio.open(area.cube / dataset.uri) as raster:
                found[names[dataset.record_id]] = (raster.read(1) / 1000).astype(np.float32)
    return found


def write_bands(path: Path, *means: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(write(path.with_suffix(".half.tif"), pixels_of(0.5, 1))) as raster:
        profile = {**raster.profile, "count": len(means)}
    path.with_suffix(".half.tif").unlink()
    with rasterio.open(path, "w", **profile) as raster:
        for band, mean in enumerate(means, start=1):
            raster.write(pixels_of(mean, band), band)


def other_band(area: Area) -> dict[str, Any]:
    return {"band": 2}


def other_nodata(area: Area) -> dict[str, Any]:
    return {"source_nodata": 0.25}


def other_range(area: Area) -> dict[str, Any]:
    return {"source_maximum": 2.0}


def other_file(area: Area) -> dict[str, Any]:
    for number in range(2):
        write_bands(area.folder / f"images/{image(number)}.tif", 0.6, 0.8)
    return {}


CHANGES: dict[str, tuple[Callable[[Area], dict[str, Any]], Callable[[Float], bool], str]] = {
    "band": (other_band, lambda pixels: bool(abs(pixels.mean() - 0.8) < 0.01), "--band 2, was 1"),
    "nodata": (other_nodata, lambda pixels: bool((pixels[:4] < 0).all()), "--source-nodata 0.25, was not set"),
    "range": (
        other_range,
        lambda pixels: bool(abs(pixels[8:].mean() - 0.2) < 0.01),
        "--source-maximum 2.0, was not set",
    ),
    "file": (other_file, lambda pixels: bool(abs(pixels.mean() - 0.6) < 0.01), "the files changed"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_is_told_then_replaced_or_kept(area: Area, change: str) -> None:
    for number in range(2):
        path = area.folder / f"images/{image(number)}.tif"
        write_bands(path, 0.4, 0.8)
        with rasterio.open(path, "r+") as raster:
            pixels = raster.read(1)
            pixels[:4] = 0.25
            raster.write(pixels, 1)
    area.ingest(band=1)
    before = stored(area)
    make, is_new, told = CHANGES[change]
    options = {"band": 1} | make(area)
    refused = refusal(lambda: area.ingest(**options))
    assert refused.code is ErrorCode.SOURCE_DIFFERS
    assert told in refused.detail
    assert "2 files" in refused.detail
    assert image(0) in refused.detail
    assert all((pixels == before[name]).all() for name, pixels in stored(area).items())
    assert "already in the cube" in area.ingest(**options, on_known="keep").lines[0]
    assert all((pixels == before[name]).all() for name, pixels in stored(area).items())
    replaced = area.ingest(**options, on_known="replace")
    assert any("replaced the pixels of 2 records" in line and image(0) in line for line in replaced.lines)
    assert all(is_new(pixels) for pixels in stored(area).values())
    assert len(area.records()) == 2
    assert "all 2 records are already in the cube" in area.ingest(**options).lines[0]
    assert "all 2 records are already in the cube" in area.ingest(**options, on_known="replace").lines[0]


def test_a_replaced_file_is_noticed_by_every_run_and_stops_no_other(area: Area) -> None:
    write_series(area.folder / "images", NAME, 3, mean=0.4)
    area.ingest()
    path = area.folder / f"images/{image(1)}.tif"
    original = path.read_bytes()
    write(path, pixels_of(0.8, 1))
    write(area.folder / f"images/{image(3)}.tif", pixels_of(0.4, 3))
    for _ in range(3):
        outcome = area.ingest()
        assert (
            outcome.lines[-1]
            == f"not usable: ACD-240: {path} was replaced: its pixels differ from the cube's, which are kept"
        )
        np.testing.assert_allclose([stored(area)[image(k)].mean() for k in range(4)], 0.4, atol=0.01)
        (noted,) = unusable_files_of(open_site(str(area.cube)), "CoherenceVV", "master", box(-180, -90, 180, 90))
        assert (noted.address, noted.failure.number) == (str(path), 240)
    path.write_bytes(original)
    assert not area.ingest().unusable
    assert not unusable_files_of(open_site(str(area.cube)), "CoherenceVV", "master", box(-180, -90, 180, 90))
    write(path, pixels_of(0.8, 1))
    area.ingest()
    assert any("replaced the pixels of 1 records" in line for line in area.ingest(on_known="replace").lines)
    assert abs(stored(area)[image(1)].mean() - 0.8) < 0.01
    assert not unusable_files_of(open_site(str(area.cube)), "CoherenceVV", "master", box(-180, -90, 180, 90))


def test_a_setting_that_changes_a_few_files_is_an_error(area: Area) -> None:
    write_series(area.folder / "images", NAME, 5, mean=0.4)
    with rasterio.open(area.folder / f"images/{image(1)}.tif", "r+") as raster:
        pixels = raster.read(1)
        pixels[:4] = 0.25
        raster.write(pixels, 1)
    area.ingest()
    refused = refusal(lambda: area.ingest(source_nodata=0.25))
    assert refused.code is ErrorCode.SOURCE_DIFFERS
    assert "--source-nodata 0.25, was not set" in refused.detail


def test_new_files_come_with_replaced_ones(area: Area) -> None:
    write_series(area.folder / "images", NAME, 2, mean=0.4)
    area.ingest()
    write(area.folder / f"images/{image(1)}.tif", pixels_of(0.8, 1))
    write(area.folder / f"images/{image(2)}.tif", pixels_of(0.8, 2))
    area.ingest(on_known="replace")
    np.testing.assert_allclose([stored(area)[image(k)].mean() for k in range(3)], [0.4, 0.8, 0.8], atol=0.01)


def test_replaced_images_are_verified_and_repaired(area: Area) -> None:
    write_series(area.folder / "images", NAME, 2, mean=0.4)
    area.ingest()
    write(area.folder / f"images/{image(1)}.tif", pixels_of(0.8, 1))
    area.ingest(on_known="replace")
    before = stored(area)
    for dataset in LocalCube.open(str(area.cube)).datasets("CoherenceVV", "master"):
        path = area.cube / dataset.uri
        path.write_bytes(path.read_bytes()[:-40] + bytes(40))
    verified = area.ingest(on_known="verify")
    assert sum(line.startswith("repaired: ") for line in verified.lines) == 2
    assert all((pixels == before[name]).all() for name, pixels in stored(area).items())
    assert "already in the cube" in area.ingest().lines[0]


def test_a_file_that_was_only_touched_is_read_once_and_left_alone(area: Area) -> None:
    write_series(area.folder / "images", NAME, 3, mean=0.4)
    area.ingest()
    heads = sorted((area.cube / "index/heads").iterdir())
    os.utime(area.folder / f"images/{image(1)}.tif", (1e9, 1e9))
    compared = area.ingest()
    assert compared.plan.units == 1
    assert "compared with the cube's pixels: 1" in compared.lines
    assert "already in the cube" in area.ingest().lines[0]
    assert sorted((area.cube / "index/heads").iterdir()) == heads


def test_setting_a_default_value_by_name_changes_nothing(area: Area) -> None:
    write_series(area.folder / "images", NAME, 2, mean=0.4)
    area.ingest()
    assert area.ingest(source_nodata=0).lines[0].startswith("done")  # the files say 0 too: read once, the same pixels
    assert "already in the cube" in area.ingest(source_nodata=0).lines[0]
    assert area.ingest(band=1, source_nodata=0).lines[0].startswith("done")  # the only band: the same pixels again
    assert "already in the cube" in area.ingest(band=1, source_nodata=0).lines[0]


def test_a_cube_without_notes_says_so_and_verify_makes_them(area: Area) -> None:
    write_series(area.folder / "images", NAME, 3, mean=0.4)
    area.ingest()
    shutil.rmtree(area.cube / "runs/ingest/known")
    (line,) = area.ingest().lines
    assert "3 of them were not compared" in line
    assert "--on-known verify" in line
    area.ingest(on_known="verify")
    assert "not compared" not in area.ingest().lines[0]
    write(area.folder / f"images/{image(1)}.tif", pixels_of(0.8, 1))
    assert [failure.number for failure in area.ingest().unusable.values()] == [240]


def test_without_notes_replace_compares_all_files(area: Area) -> None:
    write_series(area.folder / "images", NAME, 3, mean=0.4)
    area.ingest()
    shutil.rmtree(area.cube / "runs")
    write(area.folder / f"images/{image(1)}.tif", pixels_of(0.8, 1))
    assert any("replaced the pixels of 1 records" in line for line in area.ingest(on_known="replace").lines)
    assert abs(stored(area)[image(1)].mean() - 0.8) < 0.01


def test_verify_names_the_way_to_replace(area: Area) -> None:
    write_series(area.folder / "images", NAME, 2, mean=0.4)
    area.ingest()
    write(area.folder / f"images/{image(1)}.tif", pixels_of(0.8, 1))
    refused = refusal(lambda: area.ingest(on_known="verify"))
    assert refused.code is ErrorCode.DATASET_CONFLICT
    assert "--on-known replace" in refused.fix


CONSOLIDATED = pytest.mark.parametrize("consolidated", [False, True], ids=["as ingested", "consolidated"])


def judge(area: Area) -> tuple[Any, Any]:
    """Make a baseline of the first four images, and judge the later ones with it."""
    baseline = area.baseline(end=days(4)[-1][1].isoformat())
    return baseline, area.monitor(min_count=2, min_std=0.001, centred=False)


def z_of(area: Area, label: str) -> Float:
    """The z of an image in the newest result."""
    newest = max(
        (area.cube / "products/site/monitor").glob(f"*/{label}-*/z_*.tif"), key=lambda path: path.stat().st_mtime_ns
    )
    with rasterio.open(newest) as raster:
        return np.asarray(raster.read(1), np.float32)


@CONSOLIDATED
def test_after_a_replacement_baseline_and_monitor_are_those_of_a_cube_that_never_had_the_old_pixels(
    area: Area, consolidated: bool
) -> None:
    write_series(area.folder / "images", NAME, 6, mean=0.4)
    area.ingest()
    if consolidated:
        area.run(ConsolidateJob(), area.of(ConsolidateSettings))
    first, _ = judge(area)
    new = {1: pixels_of(0.7, 21), 5: pixels_of(0.2, 25)}
    for number, pixels in new.items():
        write(area.folder / f"images/{image(number)}.tif", pixels)
    told = area.ingest(on_known="replace").lines
    a, b = days(6)[5]
    assert any(f"baseline annual of AOI site, layout utm ({first.plan.content_id})" in line for line in told)
    assert any(f"1 images of monitor of AOI site: {a}_{b};" in line for line in told)
    if consolidated:
        again = area.run(ConsolidateJob(), area.of(ConsolidateSettings))
        assert again.plan.units == 1
    baseline, monitored = judge(area)
    assert baseline.plan.content_id != first.plan.content_id
    assert [image.label for image in monitored.plan.content.images] == [f"{a}_{b}"]
    assert any(
        f"judged against other versions of the baseline annual: {first.plan.content_id} (2)" in line
        for line in monitored.lines
    )
    anew = area.monitor(min_count=2, min_std=0.001, centred=False, again=True)
    c, d = days(6)[4]
    assert [image.label for image in anew.plan.content.images] == [f"{c}_{d}"]
    other = Area(area.folder / "other")
    shutil.copytree(area.folder / "images", other.folder / "images")
    other.ingest()
    theirs, _ = judge(other)
    np.testing.assert_array_equal(area.mean(baseline), other.mean(theirs))
    for a, b in days(6)[4:]:
        np.testing.assert_array_equal(z_of(area, f"{a}_{b}"), z_of(other, f"{a}_{b}"))
    assert "already published" in area.baseline(end=days(4)[-1][1].isoformat()).lines[0]


@CONSOLIDATED
def test_only_the_image_that_was_replaced_is_judged_again(area: Area, consolidated: bool) -> None:
    write_series(area.folder / "images", NAME, 6, mean=0.4)
    area.ingest()
    if consolidated:
        area.run(ConsolidateJob(), area.of(ConsolidateSettings))
    area.baseline(end=days(4)[-1][1].isoformat(), profile="standard")
    area.monitor(min_count=2, min_std=0.001, centred=False)
    a, b = days(6)[5]
    before = z_of(area, f"{a}_{b}")
    write(area.folder / f"images/{image(5)}.tif", pixels_of(0.2, 25))
    area.ingest(on_known="replace")
    again = area.monitor(min_count=2, min_std=0.001, centred=False)
    assert [image.label for image in again.plan.content.images] == [f"{a}_{b}"]
    assert np.median(z_of(area, f"{a}_{b}")) > np.median(before) + 1000
    assert "already monitored with these settings" in area.monitor(min_count=2, min_std=0.001, centred=False).lines[0]


def halves(area: Area, number: int, mean: float) -> list[Path]:
    """Write an image of two files, the upper and the lower half, and return them."""
    a, b = days(40)[number]
    pixels, half = pixels_of(mean, number), SIZE // 2
    files = [area.folder / f"images/{a:%Y%m%d}_{b:%Y%m%d}_{name}.tif" for name in ("upper", "lower")]
    write(files[0], pixels[:half])
    write(files[1], pixels[half:], top=TOP - half * 20)
    return files


def test_of_an_image_with_a_bad_file_the_others_are_judged_and_the_image_again_once_it_is_good(area: Area) -> None:
    for number in range(6):
        halves(area, number, 0.4)
    _, bad = halves(area, 5, 0.2)
    good = bad.read_bytes()
    bad.write_bytes(good[:500])
    area.ingest()
    baseline, partly = judge(area)
    a, b = days(6)[5]
    assert f"{a}_{b}" in [image.label for image in partly.plan.content.images]
    z = z_of(area, f"{a}_{b}")
    assert (z[: SIZE // 2] != z[SIZE // 2 :]).any()
    assert len(np.unique(z[SIZE // 2 :])) == 1
    bad.write_bytes(good)
    area.ingest()
    assert area.baseline(end=days(4)[-1][1].isoformat()).plan.content_id == baseline.plan.content_id
    again = area.monitor(min_count=2, min_std=0.001, centred=False)
    assert [image.label for image in again.plan.content.images] == [f"{a}_{b}"]

    other = Area(area.folder / "other")
    shutil.copytree(area.folder / "images", other.folder / "images")
    other.ingest()
    judge(other)
    np.testing.assert_array_equal(z_of(area, f"{a}_{b}"), z_of(other, f"{a}_{b}"))
    assert "already monitored" in area.monitor(min_count=2, min_std=0.001, centred=False).lines[0]


def test_going_back_and_forth_ends_at_the_last_pixels(area: Area) -> None:
    path = area.folder / f"images/{image(0)}.tif"
    write_bands(path, 0.4, 0.8)
    area.ingest(band=1)
    for band, mean in ((2, 0.8), (1, 0.4), (2, 0.8), (1, 0.4)):
        area.ingest(band=band, on_known="replace")
        assert abs(stored(area)[image(0)].mean() - mean) < 0.01
    (dataset,) = LocalCube.open(str(area.cube)).datasets("CoherenceVV", "master")
    assert dataset.version == 5


def test_a_replacement_on_another_grid_moves_the_record(area: Area) -> None:
    write_series(area.folder / "images", NAME, 1, mean=0.4)
    area.ingest()
    before = area.records()[0]
    write(area.folder / f"images/{image(0)}.tif", pixels_of(0.4, 1), top=5600000.0 + SIZE * 20)
    area.ingest(on_known="replace")
    (after,) = area.records()
    assert after.id == before.id
    assert after.footprint != before.footprint
    assert refusal(area.baseline).code in (ErrorCode.AOI_OUTSIDE, ErrorCode.TOO_FEW_DATES)


def test_a_consolidation_that_was_planned_before_indexes_no_copy_of_old_pixels(area: Area) -> None:
    write_series(area.folder / "images", NAME, 3, mean=0.4)
    area.ingest()
    job, site = ConsolidateJob(), open_site(str(area.cube))
    plan = make_plan(job, area.of(ConsolidateSettings), site)
    run_shard(job, plan, "write", 0, site)
    write(area.folder / f"images/{image(1)}.tif", pixels_of(0.8, 1))
    area.ingest(on_known="replace")
    gather_round(job, plan, "write", open_site(str(area.cube)))
    cube = LocalCube.open(str(area.cube))
    names = {record.id: record.name for record in area.records()}
    copies = {names[dataset.record_id] for dataset in cube.datasets("CoherenceVV", "master") if dataset.is_copy}
    assert copies == {image(0), image(2)}
    baseline = area.baseline()
    fresh = [pixels_of(0.4, 0), pixels_of(0.8, 1), pixels_of(0.4, 2)]
    mean = np.mean([np.rint(pixels * 1000) for pixels in fresh], axis=0) / 1000
    np.testing.assert_allclose(area.mean(baseline), mean, atol=1e-6)


def test_a_replacement_that_is_gathered_twice_changes_nothing_the_second_time(area: Area) -> None:
    write_series(area.folder / "images", NAME, 2, mean=0.4)
    area.ingest()
    write(area.folder / f"images/{image(1)}.tif", pixels_of(0.8, 1))
    outcome = area.ingest(on_known="replace")
    heads = sorted((area.cube / "index/heads").iterdir())
    site = open_site(str(area.cube))
    for key in site.runs.list(f"ingest/{outcome.plan.plan_id}/write/gathered"):
        site.runs.delete(key)
    from acdtask.jobs.ingest.job import IngestJob

    gather_round(IngestJob(), outcome.plan, "write", site)
    assert sorted((area.cube / "index/heads").iterdir()) == heads


def test_a_damaged_note_is_an_error_that_says_what_to_delete(area: Area) -> None:
    write_series(area.folder / "images", NAME, 2, mean=0.4)
    area.ingest()
    (note,) = (area.cube / "runs/ingest/known").rglob(f"{FIRST:%Y-%m}.json")
    note.write_bytes(note.read_bytes().replace(b"uri", b"url"))
    with pytest.raises(AcdError) as raised:
        area.ingest()
    assert raised.value.code is ErrorCode.RUN_DAMAGED
    note.unlink()
    area.ingest()


def test_zeros_that_mean_nodata_are_replaced_as_a_note_advises(area: Area) -> None:
    write_series(area.folder / "images", NAME, 1, mean=0.4)
    path = area.folder / f"images/{image(0)}.tif"
    with rasterio.open(path, "r+") as raster:
        pixels = raster.read(1)
        pixels[:4] = 0
        raster.write(pixels, 1)
        raster.nodata = -1
    advice = next(line for line in area.ingest().lines if "exactly 0" in line)
    assert advice.endswith("ingest again with --source-nodata 0 --on-known replace")
    assert (stored(area)[image(0)][:4] == 0).all()
    area.ingest(source_nodata=0, on_known="replace")
    assert (stored(area)[image(0)][:4] < 0).all()
    assert (stored(area)[image(0)][4:] > 0).all()
