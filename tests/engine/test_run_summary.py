"""What a run did, as the stages leave it in the store."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acdtask import log
from acdtask.cli import main
from acdtask.cube.local.containers import read_window
from acdtask.cube.local.stack import StackWriter
from acdtask.cube.model import Dataset, Record, Variable
from acdtask.engine import run_summary as account
from acdtask.engine.run_summary import (
    JobRecord,
    WorkDone,
    failures_of,
    record_gathered,
    record_plan,
    recording_failure,
    records_of,
)
from acdtask.engine.stages import gather_round, gathered_rounds, make_plan, open_site, run_shard
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.codec import encode
from acdtask.jobs.contract import Plan, Site
from acdtask.raster.data_format import DataFormat
from acdtask.raster.grid import Grid
from acdtask.raster.source_files import Masks, read_masked_strips
from acdtask.storage.store import Store
from acdtask.storage.traffic import Traffic, traffic_so_far
from tests.engine.letters import LettersJob, LettersSettings, Written
from tests.raster.cogs import write_cog

RUN = "6c5d3f6e-0000-4000-8000-000000000001"


JOB = LettersJob()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return open_site(str(tmp_path))


@pytest.fixture
def in_run(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    return lambda run: monkeypatch.setenv("ACD_RUN_ID", run)


def do(plan: Plan[Any, Any], site: Site) -> None:
    for name in plan.rounds:
        for index in range(plan.shards):
            run_shard(JOB, plan, name, index, site)
        gather_round(JOB, plan, name, site)


def gathered(plan: Plan[Any, Any], site: Site) -> JobRecord:
    do(plan, site)
    record_gathered(JOB, plan, gathered_rounds(plan, site), site)
    return records_of(RUN, site)[0]


def test_a_plan_and_its_end_are_kept_below_the_run(site: Site, in_run: Callable[[str], None]) -> None:
    in_run(RUN)
    plan = make_plan(JOB, LettersSettings(), site)
    record_plan(plan, LettersSettings(), site)
    (planned,) = records_of(RUN, site)
    assert (planned.job, planned.shards, planned.units, planned.gathered) == ("letters", 3, 6, False)
    assert planned.rounds == ("first", "second")

    ended = gathered(plan, site)
    assert (ended.gathered, ended.gathered_before) == (True, False)
    assert ended.findings.figures == {"letters": 3}
    assert ended.findings.files == {"all": f"{site.address}/out/second.all"}
    assert (ended.work.shards, ended.work.units) == (6, 6)
    # In each of two rounds a shard writes its letters and its table; it reads nothing but its own work.
    assert ended.work.bytes_written == 2 * 3 * (100 + len(encode(Written(text="a"), Written)))
    assert ended.work.pixel_bytes_read == 0
    assert ended.work.seconds >= 0
    assert ended.news == {**ended.work.model_dump(exclude={"shards"}), "letters": 3}


def test_nothing_is_kept_without_a_run(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACD_RUN_ID", raising=False)
    plan = make_plan(JOB, LettersSettings(), site)
    record_plan(plan, LettersSettings(), site)
    do(plan, site)
    record_gathered(JOB, plan, gathered_rounds(plan, site), site)
    assert site.runs.list("workflows") == []


def test_a_shard_that_is_done_keeps_the_figures_of_who_did_it(
    site: Site, in_run: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    in_run("earlier")
    plan = make_plan(JOB, LettersSettings(), site)
    monkeypatch.setattr(account.Meter, "figures", lambda _self: {"seconds": 5.0, "bytes_written": 7})
    run_shard(JOB, plan, "first", 0, site)
    in_run(RUN)
    monkeypatch.setattr(account.Meter, "figures", lambda _self: {"seconds": 1.0, "bytes_written": 1})
    record = gathered(plan, site)
    assert (record.work.seconds, record.work.bytes_written) == (5.0 + 5 * 1.0, 7 + 5 * 1)
    assert not record.gathered_before


def test_what_another_run_has_gathered_is_no_news(site: Site, in_run: Callable[[str], None]) -> None:
    in_run("earlier")
    plan = make_plan(JOB, LettersSettings(), site)
    do(plan, site)
    in_run(RUN)
    record = gathered(plan, site)
    assert record.gathered_before
    assert record.work.bytes_written > 0
    assert set(record.news.values()) == {0.0}
    assert records_of("earlier", site) == []


def test_a_late_double_of_the_plan_changes_no_end(site: Site, in_run: Callable[[str], None]) -> None:
    in_run(RUN)
    plan = make_plan(JOB, LettersSettings(), site)
    ended = gathered(plan, site)
    late = make_plan(JOB, LettersSettings(letters=""), site)
    assert late.nothing_to_do
    record_plan(late, LettersSettings(), site)
    assert records_of(RUN, site) == [ended]


def test_a_marker_without_figures_adds_none() -> None:
    work = WorkDone.of_markers([{"units": 2}, {"units": 3, "seconds": 1.5, "bytes_written": 10}])
    assert (work.shards, work.units, work.seconds, work.bytes_written) == (2, 5, 1.5, 10)


def test_why_a_stage_failed_is_kept(site: Site, in_run: Callable[[str], None]) -> None:
    in_run(RUN)
    with pytest.raises(AcdError), recording_failure(site.address, "letters", "run", "first", 2):
        raise AcdError(ErrorCode.INPUT_UNREADABLE, "b.tif is damaged")
    with pytest.raises(KeyError), recording_failure(site.address, "letters", "gather", "first"):
        raise KeyError("x")
    gather, run = failures_of(RUN, site)
    assert (run.stage, run.round, run.shard, run.error, run.name) == ("run", "first", 2, 201, "INPUT_UNREADABLE")
    assert run.detail == "b.tif is damaged"
    assert (gather.error, gather.shard, gather.detail) == (900, None, "KeyError: 'x'")
    assert records_of(RUN, site) == []


def test_a_store_that_fails_does_not_hide_the_first_error(tmp_path: Path, in_run: Callable[[str], None]) -> None:
    in_run(RUN)
    (tmp_path / "cube").write_text("a file where a folder should be")
    with pytest.raises(AcdError, match="ACD-201"), recording_failure(str(tmp_path / "cube"), "letters", "plan"):
        raise AcdError(ErrorCode.INPUT_UNREADABLE, "b.tif is damaged")


@pytest.mark.parametrize("run", ["../other", "a/b", "a b", "-x", "x" * 200])
def test_a_run_id_that_is_no_key_is_refused(site: Site, in_run: Callable[[str], None], run: str) -> None:
    in_run(run)
    plan = make_plan(JOB, LettersSettings(), site)
    with pytest.raises(AcdError, match="ACD-101"):
        record_plan(plan, LettersSettings(), site)


def test_the_commands_keep_why_a_plan_failed(
    tmp_path: Path, in_run: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    in_run(RUN)
    arguments = ["monitor", "plan", "--cube", str(tmp_path), "--parameter", "aoi=missing.json"]
    assert main([*arguments, "--parameter", "layout=utm"]) == 78
    log.install(log.LogSettings(), logging.NullHandler())
    (failure,) = failures_of(RUN, Site(str(tmp_path)))
    assert (failure.job, failure.stage, failure.error) == ("monitor", "plan", 110)
    assert "ACD-110" in capsys.readouterr().err


class TestTraffic:
    """What is counted is what was moved, to the byte."""

    grid = Grid(crs="EPSG:32632", transform=(20, 0, 400000, 0, -20, 5600000), width=64, height=64)

    def moved(self, action: Callable[[], object]) -> Traffic:
        before = traffic_so_far()
        action()
        return traffic_so_far() - before

    def test_objects(self, tmp_path: Path) -> None:
        store = Store.at(str(tmp_path))
        assert self.moved(lambda: store.put("a", b"12345")) == Traffic(bytes_written=5)
        assert self.moved(lambda: store.create("a", b"123")) == Traffic()
        assert self.moved(lambda: store.create("b", b"123")) == Traffic(bytes_written=3)
        assert self.moved(lambda: store.get("a")) == Traffic(object_bytes_read=5)
        assert self.moved(lambda: store.find("c")) == Traffic()

    def test_a_geotiff_counts_its_pixels_and_its_file(self, tmp_path: Path) -> None:
        store = Store.at(str(tmp_path))
        pixels = np.arange(64 * 64, dtype=np.int16).reshape(1, 64, 64)
        written = self.moved(lambda: write_cog(store, "a.tif", pixels, self.grid, nodata=-1))
        assert written == Traffic(bytes_written=(tmp_path / "a.tif").stat().st_size)
        read = self.moved(lambda: list(read_masked_strips(store, str(tmp_path / "a.tif"), 1, Masks())))
        assert read == Traffic(pixel_bytes_read=64 * 64 * 2)

    def test_a_zarr_array_counts_its_chunks_too(self, tmp_path: Path) -> None:
        store = Store.at(str(tmp_path))
        pixels = np.random.default_rng(1).integers(0, 1000, (1, 64, 64)).astype(np.int16)
        dformat = DataFormat(dtype="int16", nodata=-1, min=0, max=1000)
        record = Record.model_validate({"name": "r", "datetime": "2020-01-01T00:00:00Z", "footprint": {}})
        window = next(iter(self.grid.blocks(64)))

        def write() -> None:
            writer = StackWriter(store, "a.zarr", self.grid, [record], Variable(name="V", dformat=dformat))
            writer.write(window, pixels)
            writer.finish()

        def size() -> int:
            return sum(path.stat().st_size for path in (tmp_path / "a.zarr").rglob("*") if path.is_file())

        assert self.moved(write) == Traffic(bytes_written=size())
        dataset = Dataset(
            record_id="r", variable="V", instance="m", uri="a.zarr", subdir="0", dformat=dformat, grid=self.grid
        )
        read = self.moved(lambda: read_window(store, "a.zarr", [(dataset, window)]))
        needed = sum((tmp_path / "a.zarr" / name).stat().st_size for name in ("zarr.json", "V/c/0/0/0"))
        assert read == Traffic(pixel_bytes_read=pixels.nbytes, object_bytes_read=needed)


def test_records_are_json_that_is_easy_to_read(site: Site, in_run: Callable[[str], None]) -> None:
    in_run(RUN)
    gathered(make_plan(JOB, LettersSettings(), site), site)
    kept: dict[str, Any] = json.loads(site.runs.get(f"workflows/{RUN}/letters.json"))
    assert {"run", "job", "aoi", "plan_id", "content_id", "shards", "units", "nothing_to_do", "work"} <= kept.keys()
