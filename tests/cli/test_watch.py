"""`acdtask watch`: one command from a folder of images to a report; the second run does nothing."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from tests.cli.scene import STEP, Run, product, runner, write_area, write_images

SCRIPT = Path(sys.executable).parent / "acdtask"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    return runner(capsys)


def files() -> set[str]:
    return {str(path) for path in Path().rglob("*")}


def edit(*pairs: tuple[str, str]) -> None:
    """Set settings in acd.toml as users do: remove the # and write a value."""
    text = Path("acd.toml").read_text()
    for name, value in pairs:
        section, _, setting = name.partition(".")
        before, mark, after = text.partition(f"[{section}]\n")
        line = re.compile(rf"^(?:# )?{setting} =[^#\n]*", re.MULTILINE)
        assert mark
        assert line.search(after)
        text = before + mark + line.sub(f"{setting} = {value}  ", after, count=1)
    Path("acd.toml").write_text(text)


def hectares(out: str) -> float:
    """The changed area in a summary, in hectares."""
    found = re.search(r"\(([\d.]+) ha\)", out)
    assert found
    return float(found[1])


def hectares_of(side: int) -> float:
    """The area of a square of so many pixels a side, in hectares."""
    return (side * STEP) ** 2 / 10_000


@pytest.fixture
def scene(run: Run) -> Run:
    """A folder with 36 images over more than a year; the last four lost coherence in a square."""
    write_images(Path("images"), 36, dropped_from=32)
    status, _, told = run("init", "--source", "images", "--cell-size", "32")
    assert status == 0, told
    return run


def test_the_first_year_is_the_baseline_and_what_comes_after_is_monitored(scene: Run) -> None:
    before = files()
    status, planned, _ = scene("watch", "--plan")
    assert status == 0
    assert files() == before, "a plan writes nothing"
    assert re.search(r"^ingest +36 files, 36 dates", planned, re.MULTILINE)
    assert "2020-01-16 to 2021-01-15, the first year of the images; later ones are monitored" in planned
    assert re.search(r"^report +follows ingest", planned, re.MULTILINE)

    status, out, told = scene("watch")
    assert status == 0, told
    assert [line.split()[0] for line in out.splitlines()][:4] == ["ingest", "baseline", "monitor", "report"]
    assert "new images: 36; monitored: 5; patches found: 4 (" in out
    assert 4 * hectares_of(20) <= hectares(out) < 4 * hectares_of(23), (
        "squares of 20 x 20 pixels, and a rim of evidence"
    )
    report = Path(out.strip().splitlines()[-1].removeprefix("report: "))
    assert report == Path("report/index.html").absolute()
    assert "site" in report.read_text() or report.stat().st_size > 1000

    counts = np.concatenate([tile.ravel() for tile in product(Path("cube"), "count")])
    assert counts.max() == 31, "pairs that end from 2020-01-16 to 2021-01-15"

    status, shown, _ = scene("show", "patches")
    assert (status, shown.splitlines()[-1]) == (0, "4 patches")


def test_the_second_run_has_nothing_to_do_and_writes_nothing(scene: Run) -> None:
    assert scene("watch")[0] == 0
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.is_file()}
    begun = time.monotonic()
    status, out, _ = scene("watch")
    assert status == 0
    assert time.monotonic() - begun < 5
    assert out.count("nothing to do") == 5
    assert "nothing to do: everything is up to date" in out
    assert "report: " in out
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.is_file()} == before
    assert scene("watch", "--plan")[1].count("nothing to do") == 4


def test_new_images_are_monitored_with_the_same_baseline(scene: Run) -> None:
    assert scene("watch")[0] == 0
    before = product(Path("cube"), "mean")
    write_images(Path("images"), 2, start=36, dropped_from=37)
    status, planned, _ = scene("watch", "--plan")
    assert "2 files" in planned
    assert "follows ingest" in planned
    status, out, told = scene("watch")
    assert status == 0, told
    assert "new images: 2; monitored: 2; patches found: 1 (" in out
    assert hectares_of(20) <= hectares(out) < hectares_of(23)
    after = product(Path("cube"), "mean")
    assert len(after) == len(before)
    assert all(np.array_equal(first, other, equal_nan=True) for first, other in zip(before, after, strict=True))


def test_a_damaged_image_does_not_stop_the_others_and_is_named_until_it_is_whole(scene: Run) -> None:
    damaged = sorted(Path("images").glob("*.tif"))[-2]
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:200])
    assert damaged.name in scene("watch", "--plan")[1]
    status, out, told = scene("watch")
    assert status == 0, told
    assert "new images: 35; monitored: 4; patches found: 3 (" in out
    assert "files that cannot be used: 1 (named above); the next run tries again" in out
    assert damaged.name in Path("report/index.html").read_text()
    status, out, _ = scene("watch")
    assert (status, out.count("nothing to do")) == (0, 5)
    assert "files that cannot be used: 1" in out

    damaged.write_bytes(whole)
    status, out, told = scene("watch")
    assert status == 0, told
    assert "new images: 1; monitored: 1; patches found: 1 (" in out
    assert "cannot be used" not in out
    assert 'id="left-out"' not in Path("report/index.html").read_text()


def test_steps_by_hand_and_watch_are_the_same(scene: Run) -> None:
    for job in ("ingest", "baseline"):
        status, _, told = scene(job, "local")
        assert status == 0, told
    status, planned, _ = scene("watch", "--plan")
    assert planned.count("nothing to do") == 2
    assert re.search(r"^monitor +\d+ tiles, 5 dates", planned, re.MULTILINE)
    assert "report       follows monitor" in planned
    status, out, _ = scene("watch")
    assert "new images: 0; monitored: 5; patches found: 4" in out
    assert scene("monitor", "local")[1].startswith("nothing to do")
    assert scene("report", "local")[1].startswith("nothing to do")


def test_images_are_consolidated_if_the_file_wants_it(scene: Run) -> None:
    edit(("watch.consolidate", "true"))
    status, out, told = scene("watch")
    assert status == 0, told
    assert re.search(r"^consolidate +done", out, re.MULTILINE)
    assert list(Path("cube/consolidated").rglob("zarr.json"))
    assert "patches found: 4 (" in out


def test_less_than_a_year_says_what_is_missing_and_the_advised_setting_helps(run: Run) -> None:
    write_images(Path("images"), 24, dropped_from=22)
    assert run("init", "--source", "images", "--cell-size", "32")[0] == 0
    for arguments in (("watch", "--plan"), ("watch",)):
        status, _, told = run(*arguments)
        assert (status, "ACD-341" in told) == (66, True), told
        assert "2020-01-16 to 2020-10-18" in told
        assert "2021-01-16 or later" in told
        assert "end in [baseline] of acd.toml" in told
    edit(("baseline.end", '"2020-09-25"'))
    status, out, told = run("watch")
    assert status == 0, told
    assert "patches found: 2 (" in out


def test_without_an_image_to_monitor_there_is_no_report_yet(run: Run) -> None:
    write_images(Path("images"), 4)
    assert run("init", "--source", "images")[0] == 0
    edit(("baseline.end", '"2020-12-31"'))
    status, out, told = run("watch")
    assert status == 0, told
    assert "monitor      nothing to do: there is no image after 2020-12-31" in out
    assert "report       nothing to do: no image has been monitored yet" in out
    assert "report:" not in out
    assert run("watch", "--plan")[1].count("nothing to do") == 4


def test_an_area_and_dates_of_an_export_of_qgis_are_used(run: Run) -> None:
    write_images(Path("images"), 36, dropped_from=32)
    write_area(Path("area.json"))
    assert run("init", "--source", "images", "--cell-size", "32", "--aoi", "area.json", "--aoi-name", "quarry")[0] == 0
    text = Path("acd.toml").read_text().replace("# aoi_end = ", "aoi_end = ").replace("2030-12-31", "2021-02-10")
    Path("acd.toml").write_text(text)
    edit(("baseline.end", '"2020-12-31"'))
    status, out, told = run("watch")
    assert status == 0, told
    assert "monitored: 6" in out
    assert Path("cube/products/quarry/monitor").is_dir()


def test_errors_are_those_of_the_job(scene: Run) -> None:
    edit(("ingest.pattern", '"X_{date}.tif"'))
    status, _, told = scene("watch")
    assert (status, "ACD-210" in told) == (66, True)
    edit(("ingest.pattern", '"*{start:%Y%m%d}_{end:%Y%m%d}*.tif"'), ("baseline.min_dates", "100"))
    status, out, told = scene("watch")
    assert (status, "ACD-213" in told) == (66, True)
    assert out.startswith("ingest       done")


def test_each_job_has_one_bar(scene: Run) -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "ACD_LOG": "auto"}
    running = subprocess.Popen(
        [SCRIPT, "watch", "--workers", "1"], stderr=theirs, stdout=subprocess.PIPE, text=True, env=environment
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        shown += part
    told, _ = running.communicate(timeout=120)
    os.close(ours)
    assert running.returncode == 0, told
    assert b"72/72" in shown, "the bar of an ingest counts both its rounds"
    assert b"ingest:" not in shown
    for job in (b"ingest", b"baseline", b"monitor", b"report"):
        assert job in shown


@pytest.mark.realdata
def test_real_images_need_three_lines(real_data: Path, run: Run) -> None:
    Path("geotiffs").symlink_to(real_data / "pyrate_cropA" / "geotiffs")
    status, out, told = run("init", "--source", "geotiffs")
    assert status == 0, told
    assert "30 images in geotiffs match, 1 other files do not" in out
    edit(("ingest.source_nodata", "0"), ("ingest.cell_size", "64"), ("baseline.end", '"2018-07-05"'))
    status, out, told = run("watch")
    assert status == 0, told
    assert "new images: 30; monitored: 2; patches found: 0" in out
    assert Path("report/index.html").stat().st_size > 1000
    assert out.splitlines()[-1] == f"report: {Path('report/index.html').absolute()}"
    assert date(2018, 7, 17).isoformat() in Path("report/index.html").read_text()
