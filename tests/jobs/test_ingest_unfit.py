"""Files that are unusable or change during an ingest: all are named, a few are tolerated, and all are retried."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from typer.testing import CliRunner

from acdtask.cli.app import app
from acdtask.cube.model import RecordQuery
from acdtask.engine.run_summary import records_of
from acdtask.engine.stages import gather_round, make_plan, open_site, run_shard
from acdtask.errors import AcdError, ErrorCode, ExitStatus
from acdtask.jobs.ingest.job import IngestJob
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.ingest.unusable_notes import unusable_files_of
from acdtask.notify.event import FinishedRun, end_of, read_run
from tests.jobs.rasters import good_pixels, write_tiff
from tests.jobs.unusual_rasters import NAME, ingest, stored, write_item, write_mask_beside, write_odd

AOI = json.dumps(
    {
        "type": "Polygon",
        "coordinates": [[[6, 51], [7, 51], [7, 52], [6, 52], [6, 51]]],
        "name": "somewhere",
        "start_time": "2021-01-01T00:00:00Z",
        "end_time": "2021-12-31T00:00:00Z",
    }
)


def name_of(day: int) -> str:
    return f"S1_20210101_202102{day:02}_VV.tif"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Six good files."""
    for day in range(1, 7):
        write_tiff(tmp_path / "in" / name_of(day), good_pixels(day))
    return tmp_path / "in"


def html(path: Path) -> None:
    path.write_text("<html>502 Bad Gateway</html>")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def nowhere(path: Path) -> None:
    write_tiff(path, good_pixels(1), crs=None)


def imaginary(path: Path) -> None:
    write_odd(path, np.ones((32, 32), "complex64"), nodata=-1)


def several_bands(path: Path) -> None:
    write_odd(path, np.ones((2, 32, 32), "float32"), nodata=-1)


def bytes_alone(path: Path) -> None:
    write_odd(path, np.ones((32, 32), "uint8"), nodata=0)


SPOIL: dict[Callable[[Path], None], ErrorCode] = {
    html: ErrorCode.INPUT_UNREADABLE,
    empty: ErrorCode.INPUT_UNREADABLE,
    cut: ErrorCode.INPUT_UNREADABLE,
    nowhere: ErrorCode.INPUT_CRS_MISSING,
    imaginary: ErrorCode.INPUT_BANDS,
    several_bands: ErrorCode.INPUT_BANDS,
    bytes_alone: ErrorCode.INPUT_RANGE_UNKNOWN,
}


def half_as_long(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def percent(path: Path) -> None:
    write_tiff(path, good_pixels(1) * 80)


def empty_image(path: Path) -> None:
    write_tiff(path, np.full((32, 32), -1, np.float32))


def infinite(path: Path) -> None:
    pixels = good_pixels(5)
    pixels[3, 4] = np.inf
    write_tiff(path, pixels)


def other_crs(path: Path) -> None:
    write_tiff(path, good_pixels(1), crs="EPSG:32633")


def other_resolution(path: Path) -> None:
    write_tiff(path, good_pixels(1), resolution=40.0)


SPOIL |= {
    half_as_long: ErrorCode.INPUT_UNREADABLE,
    percent: ErrorCode.INPUT_OUT_OF_RANGE,
    empty_image: ErrorCode.INPUT_ALL_NODATA,
    infinite: ErrorCode.INPUT_NOT_FINITE,
    other_crs: ErrorCode.INPUT_CRS_MISMATCH,
    other_resolution: ErrorCode.INPUT_RESOLUTION_MISMATCH,
}


def ingested(cube: Path) -> set[str]:
    return {f"{record.name}.tif" for record in open_site(str(cube)).cube.records(RecordQuery())}


@pytest.mark.parametrize(("spoil", "code"), SPOIL.items(), ids=[damage.__name__ for damage in SPOIL])
def test_a_bad_file_does_not_stop_the_others_and_is_ingested_once_it_is_good(
    spoil: Callable[[Path], None], code: ErrorCode, source: Path, tmp_path: Path
) -> None:
    cube, bad, good = tmp_path / "cube", source / name_of(3), (source / name_of(3)).read_bytes()
    spoil(bad)
    with pytest.raises(AcdError, match=str(bad)) as raised:
        ingest(cube, source, unusable_files=0)
    assert raised.value.code is ErrorCode.UNUSABLE_FILES
    assert f"{code.label}: " in raised.value.detail
    assert raised.value.fix.endswith("go on without them with --unusable-files 1.")
    assert not stored(cube)

    for first in ("done: 5 files", None, None):
        outcome = ingest(cube, source)
        assert ingested(cube) == {path.name for path in source.glob("*.tif")} - {bad.name}
        again = "done: 0 files" if outcome.plan.units else "nothing to do: all 5 other records are already in the cube"
        assert outcome.lines[0].startswith(first or again)
        assert outcome.lines[-2] == "1 input cannot be used; the next run tries again"
        assert outcome.lines[-1].startswith(f"not usable: {code.label}: ")
        assert str(bad) in outcome.lines[-1]
        assert list(outcome.unusable) == [str(bad)]

    bad.write_bytes(good)
    outcome = ingest(cube, source)
    assert outcome.plan.units == 1
    assert not outcome.unusable
    assert bad.name in ingested(cube)
    assert ingest(cube, source).lines == ["nothing to do: all 6 records are already in the cube"]


def test_all_bad_files_are_named_at_once(source: Path, tmp_path: Path) -> None:
    html(source / name_of(2))
    nowhere(source / name_of(4))
    with pytest.raises(AcdError) as raised:
        ingest(tmp_path / "cube", source, unusable_files=1)
    detail = raised.value.detail
    assert detail.startswith("2 of 6 files cannot be used, and --unusable-files allows 1: ACD-201: ")
    assert "ACD-202: " in detail
    assert name_of(2) in detail
    assert name_of(4) in detail
    assert "--unusable-files 2" in raised.value.fix


def test_of_many_bad_files_ten_are_named_and_the_rest_counted(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for day in range(1, 15):
        html(tmp_path / "in" / name_of(day))
    with pytest.raises(AcdError) as raised:
        ingest(tmp_path / "cube", tmp_path / "in")
    assert raised.value.code is ErrorCode.INPUT_UNREADABLE
    assert raised.value.detail.startswith("14 files cannot be used: ")
    assert raised.value.detail.endswith("; and 4 more")
    assert raised.value.detail.count("not recognized") == 10


@pytest.mark.parametrize("bad", [3, 4])
def test_up_to_half_of_the_files_may_be_bad_since_a_wrong_setting_concerns_most(
    bad: int, source: Path, tmp_path: Path
) -> None:
    for day in range(1, bad + 1):
        write_tiff(source / name_of(day), good_pixels(day) * 80)
    if bad == 3:
        ingest(tmp_path / "cube", source)
        assert ingested(tmp_path / "cube") == {name_of(4), name_of(5), name_of(6)}
        return
    with pytest.raises(AcdError) as raised:
        ingest(tmp_path / "cube", source)
    assert raised.value.code is ErrorCode.INPUT_OUT_OF_RANGE
    assert raised.value.detail.startswith("4 files cannot be used: ")
    assert not stored(tmp_path / "cube")


def test_known_files_count_so_a_single_new_one_that_is_bad_is_an_exception(source: Path, tmp_path: Path) -> None:
    ingest(tmp_path / "cube", source)
    html(source / name_of(7))
    first, again = ingest(tmp_path / "cube", source), ingest(tmp_path / "cube", source)
    assert first.lines[0].startswith("done: files that cannot be used are noted for the report in ")
    assert again.lines[0] == "nothing to do: all 6 other records are already in the cube"
    assert list(again.unusable) == list(first.unusable) == [str(source / name_of(7))]


def test_settings_that_fit_no_file_are_an_error_whatever_the_cube_has(source: Path, tmp_path: Path) -> None:
    ingest(tmp_path / "cube", source)
    write_tiff(source / name_of(7), good_pixels(7))
    with pytest.raises(AcdError) as raised:
        ingest(tmp_path / "cube", source, band=2)
    assert raised.value.code is ErrorCode.INPUT_BANDS
    assert len(ingested(tmp_path / "cube")) == 6


def test_a_file_whose_name_has_no_valid_date_does_not_stop_the_others(source: Path, tmp_path: Path) -> None:
    (source / name_of(3)).rename(source / "S1_20210101_20211345_VV.tif")
    (source / name_of(4)).rename(source / "S1_20210301_20210204_VV.tif")
    outcome = ingest(tmp_path / "cube", source)
    assert [failure.number for failure in outcome.unusable.values()] == [215, 212]
    assert len(ingested(tmp_path / "cube")) == 4
    noted = unusable_files_of(open_site(str(tmp_path / "cube")), "CoherenceVV", "master", shapely.box(6, 50, 7, 52))
    assert [file.record for file in noted] == [None, None]


@pytest.mark.parametrize("known", [False, True], ids=["new", "one is known"])
def test_of_duplicates_none_is_taken_and_the_others_are(known: bool, source: Path, tmp_path: Path) -> None:
    if known:
        ingest(tmp_path / "cube", source)
    shutil.copy(source / name_of(2), source / "S1_20210101_20210202_VV_copy.tif")
    outcome = ingest(tmp_path / "cube", source)
    assert [failure.number for failure in outcome.unusable.values()] == [211, 211]
    assert ingested(tmp_path / "cube") == {name_of(day) for day in range(1, 7) if known or day != 2}


def test_a_store_that_does_not_respond_is_no_bad_file(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*given: Any, **more: Any) -> None:
        raise AcdError(ErrorCode.STORE_UNREACHABLE, "no answer")

    monkeypatch.setattr("acdtask.jobs.ingest.rounds.check_pixels", away)
    with pytest.raises(AcdError) as raised:
        ingest(tmp_path / "cube", source)
    assert raised.value.code is ErrorCode.STORE_UNREACHABLE
    monkeypatch.undo()
    monkeypatch.setattr("acdtask.jobs.ingest.sources.read_header", away)
    with pytest.raises(AcdError) as raised:
        ingest(tmp_path / "cube", source)
    assert raised.value.code is ErrorCode.STORE_UNREACHABLE


def test_of_a_catalogue_the_items_that_are_whole_are_ingested(source: Path, tmp_path: Path) -> None:
    items = tmp_path / "items"
    links = []
    for day in range(1, 7):
        made = write_item(tmp_path, source / name_of(day), {})
        item = json.loads(made.read_text())
        item |= {"id": name_of(day)[:-4], "properties": {"datetime": f"2021-02-{day:02}T00:00:00Z"}}
        items.mkdir(exist_ok=True)
        (items / f"{day}.json").write_text(json.dumps(item))
        links.append({"rel": "item", "href": f"items/{day}.json"})
    catalogue = {"type": "Catalog", "stac_version": "1.0.0", "id": "all", "description": "all", "links": links}
    (tmp_path / "catalogue.json").write_text(json.dumps(catalogue))
    whole = (items / "2.json").read_text()
    (items / "2.json").write_text(whole[:50])
    (source / name_of(3)).unlink()
    html(source / name_of(4))
    outcome = ingest(tmp_path / "cube", tmp_path / "catalogue.json")
    assert sorted(failure.number for failure in outcome.unusable.values()) == [200, 201, 214]
    assert len(ingested(tmp_path / "cube")) == 3
    (items / "2.json").write_text(whole)
    assert sorted(
        failure.number for failure in ingest(tmp_path / "cube", tmp_path / "catalogue.json").unusable.values()
    ) == [200, 201]
    assert len(ingested(tmp_path / "cube")) == 4


@pytest.mark.parametrize("option", ["make_layout", "aoi"])
def test_the_error_of_a_source_of_bad_files_alone_is_that_of_the_files(option: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    html(tmp_path / "in" / NAME)
    (tmp_path / "aoi.json").write_text(AOI)
    given: dict[str, Any] = (
        {"make_layout": "images"} if option == "make_layout" else {"aoi": str(tmp_path / "aoi.json")}
    )
    with pytest.raises(AcdError, match=NAME) as raised:
        ingest(tmp_path / "cube", tmp_path / "in", **given)
    assert raised.value.code is ErrorCode.INPUT_UNREADABLE


def test_the_bound_is_one_for_headers_and_pixels(source: Path, tmp_path: Path) -> None:
    html(source / name_of(2))
    write_tiff(source / name_of(5), good_pixels(5) * 80)
    with pytest.raises(AcdError) as raised:
        ingest(tmp_path / "cube", source, unusable_files=1)
    assert raised.value.code is ErrorCode.UNUSABLE_FILES
    assert not stored(tmp_path / "cube")
    lines = ingest(tmp_path / "cube", source, unusable_files=2).lines
    assert ingested(tmp_path / "cube") == {name_of(day) for day in (1, 3, 4, 6)}
    assert any(name_of(2) in line for line in lines)
    assert any(name_of(5) in line for line in lines)


def test_a_report_knows_a_file_without_a_place_until_the_cube_has_it(source: Path, tmp_path: Path) -> None:
    cube, bad, good = tmp_path / "cube", source / name_of(3), (source / name_of(3)).read_bytes()
    html(bad)
    ingest(cube, source)
    anywhere = shapely.box(6, 50, 7, 52)
    (file,) = unusable_files_of(open_site(str(cube)), "CoherenceVV", "master", anywhere)
    assert (file.address, file.failure.number) == (str(bad), 201)
    bad.write_bytes(good)
    ingest(cube, source)
    assert unusable_files_of(open_site(str(cube)), "CoherenceVV", "master", anywhere) == []


def test_a_report_forgets_a_file_that_the_source_no_longer_has(source: Path, tmp_path: Path) -> None:
    ingest(tmp_path / "cube", source)
    html(source / name_of(7))
    ingest(tmp_path / "cube", source)
    anywhere = shapely.box(6, 50, 7, 52)
    assert len(unusable_files_of(open_site(str(tmp_path / "cube")), "CoherenceVV", "master", anywhere)) == 1
    (source / name_of(7)).unlink()
    ingest(tmp_path / "cube", source)
    assert unusable_files_of(open_site(str(tmp_path / "cube")), "CoherenceVV", "master", anywhere) == []


def test_pods_go_on_without_it_too_and_their_account_has_it(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cube = str(tmp_path / "cube")
    html(source / name_of(3))
    half_as_long(source / name_of(4))
    monkeypatch.setenv("ACD_RUN_ID", "a-run")

    def acd(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["ingest", *arguments, "--cube", cube], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    plan = json.loads(acd("plan", "--source", str(source), "--json"))
    assert list(plan["unusable"]) == [str(source / name_of(3))]
    for round_name in ("check", "write"):
        told = ""
        for shard in range(plan["shards"]):
            told += acd("run", "--plan", plan["plan_id"], "--round", round_name, "--shard", str(shard))
        assert (name_of(4) in told) == (round_name == "check")
        told = acd("gather", "--plan", plan["plan_id"], "--round", round_name)
        assert name_of(3) in told
        assert name_of(4) in told
        assert "left out" not in told
    (record,) = records_of("a-run", open_site(cube))
    assert record.left_out == []
    assert [text[:9] for text in record.unusable] == ["ACD-201: ", "ACD-201: "]
    finished, site = FinishedRun("a-run", "Succeeded", "koln"), open_site(cube)
    (job,) = end_of(finished, read_run(finished, site)).data["jobs"]
    assert (job["left_out_count"], job["unusable_count"], job["unusable"]) == (0, 2, record.unusable)
    assert len(ingested(tmp_path / "cube")) == 4


# --- A file that changes while it is ingested ---


def other_values(path: Path) -> None:
    write_tiff(path, good_pixels(77))


def other_values_of_the_same_time(path: Path) -> None:
    before = path.stat()
    other_values(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def values_outside(path: Path) -> None:
    write_tiff(path, good_pixels(77) * 2)


def smaller(path: Path) -> None:
    write_tiff(path, good_pixels(7, size=16))


def larger(path: Path) -> None:
    write_tiff(path, good_pixels(7, size=64))


def elsewhere(path: Path) -> None:
    write_tiff(path, good_pixels(7), crs="EPSG:32633")


def doubles(path: Path) -> None:
    write_tiff(path, good_pixels(7).astype("float64"))


def gone(path: Path) -> None:
    path.unlink()


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def a_mask_beside(path: Path) -> None:
    mask = np.ones((32, 32), bool)
    mask[:5] = False
    write_mask_beside(path, mask)


def metadata_beside(path: Path) -> None:
    body = '<PAMDataset><PAMRasterBand band="1"><NoDataValue>0.5</NoDataValue></PAMRasterBand></PAMDataset>'
    path.with_name(f"{path.name}.aux.xml").write_text(body)


CHANGES = [
    other_values,
    other_values_of_the_same_time,
    values_outside,
    smaller,
    larger,
    elsewhere,
    doubles,
    gone,
    a_folder,
    html,
    empty,
    half,
    a_mask_beside,
    metadata_beside,
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("before", ["check", "write"])
def test_a_file_that_changes_under_way_is_named_and_not_written(
    change: Callable[[Path], None], before: str, source: Path, tmp_path: Path
) -> None:
    if (change, before) == (other_values_of_the_same_time, "check"):
        pytest.skip("nobody can tell, and nothing was read of it before")
    job, site, path = IngestJob(), open_site(str(tmp_path / "cube")), source / name_of(2)
    plan = make_plan(job, IngestSettings(source=str(source)), site)
    kept = shutil.copy(path, tmp_path / "kept.tif")
    if before == "check":
        change(path)
    else:
        for shard in range(plan.shards):
            run_shard(job, plan, "check", shard, site)
        gather_round(job, plan, "check", site)
        change(path)
    affected = run_shard(job, plan, before, 0, site)
    assert affected is not None
    assert list(affected.unusable) == [str(path)]
    assert affected.unusable[str(path)].number == ErrorCode.INPUT_CHANGED.value.number
    assert path.stem not in stored(tmp_path / "cube")
    assert run_shard(job, plan, before, 1, site) is None
    with pytest.raises(AcdError, match=str(path)) as raised:
        gather_round(job, plan, before, site)
    assert raised.value.code is ErrorCode.INPUT_CHANGED
    assert raised.value.code.value.exit_status is ExitStatus.INPUT
    assert not (tmp_path / "cube/index/heads").exists()

    # What the error advises: once the file is whole again, the same command brings it in.
    if path.is_dir():
        path.rmdir()
    for beside in source.glob("*.tif.*"):
        beside.unlink()
    shutil.copy(kept, path)
    ingest(tmp_path / "cube", source)
    assert len(ingested(tmp_path / "cube")) == 6
    right = np.rint(good_pixels(2).astype(float) * 1000)
    np.testing.assert_array_equal(stored(tmp_path / "cube")[path.stem], right)


def test_a_file_that_changes_before_it_is_written_stops_the_run_and_the_next_one_names_all(
    source: Path, tmp_path: Path
) -> None:
    job, site, path = IngestJob(), open_site(str(tmp_path / "cube")), source / name_of(2)
    half_as_long(source / name_of(1))
    plan = make_plan(job, IngestSettings(source=str(source)), site)
    for number in range(plan.shards):
        run_shard(job, plan, "check", number, site)
    gather_round(job, plan, "check", site)
    values_outside(path)
    run_shard(job, plan, "write", 0, site)
    run_shard(job, plan, "write", 1, site)
    with pytest.raises(AcdError, match=str(path)) as raised:
        gather_round(job, plan, "write", site)
    assert raised.value.code is ErrorCode.INPUT_CHANGED
    assert not (tmp_path / "cube/index/heads").exists()
    told = ingest(tmp_path / "cube", source)
    assert all(name_of(day) in str(told) for day in (1, 2))
    assert ingested(tmp_path / "cube") == {name_of(day) for day in range(3, 7)}


def test_a_file_that_was_only_copied_to_another_inode_is_the_same(source: Path, tmp_path: Path) -> None:
    job, site, path = IngestJob(), open_site(str(tmp_path / "cube")), source / name_of(2)
    plan = make_plan(job, IngestSettings(source=str(source)), site)
    shutil.copy2(path, tmp_path / "copy.tif")
    (tmp_path / "copy.tif").replace(path)
    for shard in range(plan.shards):
        run_shard(job, plan, "check", shard, site)
    assert gather_round(job, plan, "check", site) == ()


def test_a_stac_items_file_is_watched_too(tmp_path: Path) -> None:
    raster = write_odd(tmp_path / "in" / NAME, good_pixels(1), nodata=-1)
    item = write_item(tmp_path, raster, {})
    job, site = IngestJob(), open_site(str(tmp_path / "cube"))
    plan = make_plan(job, IngestSettings(source=str(item)), site)
    write_odd(raster, good_pixels(2), nodata=-1)
    affected = run_shard(job, plan, "check", 0, site)
    assert affected is not None
    assert affected.failure.number == ErrorCode.INPUT_CHANGED.value.number
