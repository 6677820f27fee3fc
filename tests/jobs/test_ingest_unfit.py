"""Files that are unusable or change during an ingest: all are named, left out within a budget, and retried."""

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
from acdtask.jobs.ingest.quarantined import left_out_of
from acdtask.jobs.ingest.settings import IngestSettings
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


def ingested(cube: Path) -> set[str]:
    return {f"{record.name}.tif" for record in open_site(str(cube)).cube.records(RecordQuery())}


@pytest.mark.parametrize(("spoil", "code"), SPOIL.items(), ids=[damage.__name__ for damage in SPOIL])
def test_a_file_that_the_plan_cannot_use_is_left_out_and_made_up_for(
    spoil: Callable[[Path], None], code: ErrorCode, source: Path, tmp_path: Path
) -> None:
    cube, bad, good = tmp_path / "cube", source / name_of(3), (source / name_of(3)).read_bytes()
    spoil(bad)
    with pytest.raises(AcdError, match=str(bad)) as raised:
        ingest(cube, source)
    assert raised.value.code is code
    assert raised.value.fix.endswith("Or leave it out with --quarantine 1.")

    outcome = ingest(cube, source, quarantine=1)
    assert ingested(cube) == {path.name for path in source.glob("*.tif")} - {bad.name}
    assert outcome.lines[-2:][0] == "1 input left out; the next run tries again"
    assert outcome.lines[-1].startswith(f"left out: {code.label}: ")
    assert str(bad) in outcome.lines[-1]

    again = ingest(cube, source, quarantine=1)
    assert again.lines[0] == "nothing to do: all 5 other records are already in the cube"
    assert str(bad) in again.lines[-1]
    with pytest.raises(AcdError, match=str(bad)):
        ingest(cube, source)

    bad.write_bytes(good)
    assert ingest(cube, source).plan.units == 1
    assert bad.name in ingested(cube)


def test_all_bad_files_are_named_at_once(source: Path, tmp_path: Path) -> None:
    html(source / name_of(2))
    nowhere(source / name_of(4))
    with pytest.raises(AcdError) as raised:
        ingest(tmp_path / "cube", source, quarantine=1)
    detail = raised.value.detail
    assert detail.startswith("2 inputs cannot be used, and only 1 may be left out: ACD-201: ")
    assert "ACD-202: " in detail
    assert name_of(2) in detail
    assert name_of(4) in detail
    assert "--quarantine 2" in raised.value.fix


def test_of_many_bad_files_ten_are_named_and_the_rest_counted(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for day in range(1, 15):
        html(tmp_path / "in" / name_of(day))
    with pytest.raises(AcdError) as raised:
        ingest(tmp_path / "cube", tmp_path / "in")
    assert raised.value.detail.startswith("14 inputs cannot be used: ")
    assert raised.value.detail.endswith("; and 4 more")
    assert raised.value.detail.count("not recognized") == 10


def test_a_source_of_bad_files_alone_says_that_no_file_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    html(tmp_path / "in" / NAME)
    outcome = ingest(tmp_path / "cube", tmp_path / "in", quarantine=1)
    assert outcome.lines[0] == "nothing to do: no file can be used"
    assert NAME in outcome.lines[-1]


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
    assert ingest(tmp_path / "cube", tmp_path / "in", quarantine=1, **given).plan.nothing_to_do == "no file can be used"


def test_the_budget_is_one_for_headers_and_pixels(source: Path, tmp_path: Path) -> None:
    html(source / name_of(2))
    write_tiff(source / name_of(5), good_pixels(5) * 80)
    with pytest.raises(AcdError):
        ingest(tmp_path / "cube", source, quarantine=1)
    assert not stored(tmp_path / "cube")
    lines = ingest(tmp_path / "cube", source, quarantine=2).lines
    assert ingested(tmp_path / "cube") == {name_of(day) for day in (1, 3, 4, 6)}
    assert any(name_of(2) in line for line in lines)
    assert any(name_of(5) in line for line in lines)


def test_a_report_knows_a_file_without_a_place_until_the_cube_has_it(source: Path, tmp_path: Path) -> None:
    cube, bad, good = tmp_path / "cube", source / name_of(3), (source / name_of(3)).read_bytes()
    html(bad)
    ingest(cube, source, quarantine=1)
    anywhere = shapely.box(6, 50, 7, 52)
    (raster,) = left_out_of(open_site(str(cube)), "CoherenceVV", "master", anywhere)
    assert (raster.address, raster.failure.number) == (str(bad), 201)
    bad.write_bytes(good)
    ingest(cube, source)
    assert left_out_of(open_site(str(cube)), "CoherenceVV", "master", anywhere) == []


def test_pods_leave_it_out_too_and_their_account_has_it(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cube = str(tmp_path / "cube")
    html(source / name_of(3))
    monkeypatch.setenv("ACD_RUN_ID", "a-run")

    def acd(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["ingest", *arguments, "--cube", cube], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    plan = json.loads(acd("plan", "--source", str(source), "--quarantine", "1", "--json"))
    assert list(plan["left_out"]) == [str(source / name_of(3))]
    for round_name in ("check", "write"):
        for shard in range(plan["shards"]):
            acd("run", "--plan", plan["plan_id"], "--round", round_name, "--shard", str(shard))
        told = acd("gather", "--plan", plan["plan_id"], "--round", round_name, "--quarantine", "1")
        assert name_of(3) in told
    (record,) = records_of("a-run", open_site(cube))
    assert len(record.left_out) == 1
    assert record.left_out[0].startswith("ACD-201: ")
    assert len(ingested(tmp_path / "cube")) == 5


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
    with pytest.raises(AcdError, match=str(path)) as raised:
        run_shard(job, plan, before, 0, site)
    assert raised.value.code is ErrorCode.INPUT_CHANGED
    assert raised.value.code.value.exit_status is ExitStatus.INPUT
    assert path.stem not in stored(tmp_path / "cube")
    run_shard(job, plan, before, 1, site)
    with pytest.raises(AcdError) as raised:
        gather_round(job, plan, before, site)
    assert raised.value.code is ErrorCode.SHARDS_FAILED
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


def test_with_a_budget_the_others_are_written(source: Path, tmp_path: Path) -> None:
    job, site, path = IngestJob(), open_site(str(tmp_path / "cube")), source / name_of(2)
    plan = make_plan(job, IngestSettings(source=str(source)), site)
    for shard in range(plan.shards):
        run_shard(job, plan, "check", shard, site)
    gather_round(job, plan, "check", site)
    values_outside(path)
    with pytest.raises(AcdError, match=str(path)):
        run_shard(job, plan, "write", 0, site)
    run_shard(job, plan, "write", 1, site)
    (left_out,) = gather_round(job, plan, "write", site, quarantine=1)
    assert list(left_out.parts) == [str(path)]
    assert ingested(tmp_path / "cube") == {file.name for file in source.iterdir()} - {path.name}


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
    with pytest.raises(AcdError) as raised:
        run_shard(job, plan, "check", 0, site)
    assert raised.value.code is ErrorCode.INPUT_CHANGED
