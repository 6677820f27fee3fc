"""`acdtask watch` with several series in one acd.toml: each is monitored, then all are fused and reported."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.scene import Run, runner
from tests.jobs.chain import reference_end, simulate
from tests.jobs.tracks_site import SCENES

FILE = f"""
cube = "cube"
aoi = "track0/aoi.json"

[ingest]
cell_size = 64

[baseline]
end = "{reference_end(SCENES[1]):%Y-%m-%dT%H:%M:%SZ}"
profile = "robust"

[monitor]
profile = "robust"

[report]
out = "report"

[fuse]
window_days = 3

[series.ascending]
track = "A015"

[series.ascending.ingest]
source = "track0/images"

[series.descending]
track = "D066"
layout = "east"

[series.descending.ingest]
source = "track1/images"
"""
ONE_SERIES = FILE.partition("[series.descending]")[0]
JOBS = ("ingest", "baseline", "monitor")
LABELS = [
    *(f"{job} {series}" for series in ("ascending", "descending") for job in JOBS),
    "fuse",
    "report ascending",
    "report descending",
]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    for scene in SCENES:
        simulate(folder / f"track{scene.track}", scene)
    return folder


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    shutil.copytree(scenes, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    Path("acd.toml").write_text(FILE)
    return runner(capsys)


def labels(out: str) -> list[str]:
    return [line[:19].strip() for line in out.splitlines()][: len(LABELS)]


def fused(run: Run, *options: str) -> list[dict[str, Any]]:
    status, out, told = run("show", "fused", "--json", "--limit", "0", *options)
    assert status == 0, told
    features: list[dict[str, Any]] = json.loads(out)["features"]
    return features


def files() -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.is_file()}


def test_both_series_are_monitored_fused_and_reported_and_a_second_run_writes_nothing(run: Run) -> None:
    before = files()
    status, planned, told = run("watch", "--plan")
    assert status == 0, told
    assert files() == before, "a plan writes nothing"
    assert labels(planned) == LABELS
    assert "follows ingest ascending" in planned
    assert "follows ingest descending" in planned

    status, out, told = run("watch")
    assert status == 0, told
    assert labels(out) == LABELS
    windows, patches = SCENES[0].monitored_pairs, fused(run)
    assert f"monitored: {2 * windows}; " in out
    assert f"windows fused: {windows}; fused patches: {len(patches)} (" in out
    assert any("," in patch["properties"]["members"] for patch in patches)
    for series in ("ascending", "descending"):
        assert f"report: {Path(f'report/{series}/index.html').absolute()}" in out
        assert Path(f"report/{series}/index.html").exists()

    before = files()
    status, out, told = run("watch")
    assert status == 0, told
    assert out.count("nothing to do") == len(LABELS) + 1
    assert files() == before
    assert run("watch", "--plan")[1].count("nothing to do") == len(LABELS)


def test_a_new_image_of_one_track_is_monitored_and_its_window_fused_again(run: Run) -> None:
    newest = sorted(Path("track1/images").glob("*.tif"))[-1]
    newest.rename("later.tif")
    assert run("watch")[0] == 0
    alone = fused(run)
    Path("later.tif").rename(newest)
    planned = {line[:19].strip(): line[19:] for line in run("watch", "--plan")[1].splitlines()}
    assert "1 files" in planned["ingest descending"]
    assert "nothing to do" in planned["monitor ascending"]
    assert "follows ingest descending" in planned["fuse"]
    status, out, told = run("watch")
    assert status == 0, told
    assert "new images: 1; monitored: 1; " in out
    assert "windows fused: 1; " in out
    assert fused(run) != alone


def test_the_steps_by_hand_give_the_same(run: Run) -> None:
    for series in ("ascending", "descending"):
        for job in JOBS:
            status, _, told = run(job, "local", "--series", series)
            assert status == 0, told
    status, _, told = run("fuse", "local")
    assert status == 0, told
    status, out, told = run("watch")
    assert status == 0, told
    assert next(line.split()[0] for line in out.splitlines() if "nothing to do" not in line) == "report"
    assert fused(run)


@pytest.mark.parametrize("consolidate", [False, True])
def test_one_source_of_both_tracks_is_ingested_once(consolidate: bool, run: Run) -> None:
    Path("both").mkdir()
    for folder, track in (("track0", "A015"), ("track1", "D066")):
        for path in Path(folder, "images").glob("*.tif"):
            shutil.copy(path, f"both/S1_{track}_{path.name}")
    text = FILE.replace("[ingest]\n", '[ingest]\nsource = "both"\npattern = "*{start:%Y%m%d}_{end:%Y%m%d}*.tif"\n')
    text = text.replace('layout = "east"\n', "")
    for series, source in (("ascending", "track0/images"), ("descending", "track1/images")):
        text = text.replace(f'[series.{series}.ingest]\nsource = "{source}"\n', "")
    Path("acd.toml").write_text(text + f"\n[watch]\nconsolidate = {str(consolidate).lower()}\n")
    status, out, told = run("watch")
    assert status == 0, told
    assert [line.split()[0] for line in out.splitlines()].count("ingest") == 1
    assert ("consolidate ascending" in out) is consolidate
    images = SCENES[0].reference_pairs + SCENES[0].monitored_pairs
    assert f"new images: {2 * images}; monitored: {2 * SCENES[0].monitored_pairs}; " in out
    assert any("," in patch["properties"]["members"] for patch in fused(run))


def test_commands_of_one_series_ask_which(run: Run) -> None:
    for command in (["monitor", "plan"], ["show", "patches"], ["report", "local"]):
        status, _, told = run(*command)
        assert status == 78, command
        assert "describes the series ascending, descending" in told
        assert "--series NAME" in told
    assert run("watch", "--series", "ascending")[0] == 0
    assert Path("report/ascending/index.html").exists()
    assert not Path("report/descending").exists()
    status, _, told = run("show", "patches", "--series", "ascending")
    assert status == 0, told
    status, _, told = run("fuse", "local")
    assert status != 0
    assert "CoherenceVV/east/descending" in told
    status, _, told = run("watch", "--series", "ascendng")
    assert status == 78
    assert "did you mean ascending?" in told


def test_a_file_with_one_series_needs_no_choice(run: Run) -> None:
    Path("acd.toml").write_text(ONE_SERIES.replace("[fuse]\nwindow_days = 3\n", ""))
    status, out, told = run("watch")
    assert status == 0, told
    assert "fuse" not in labels(out)
    assert run("show", "patches")[0] == 0


def text_with(old: str, new: str) -> Callable[[str], str]:
    def changed(text: str) -> str:
        assert old in text
        return text.replace(old, new)

    return changed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            text_with("[series.ascending]\n", "[series.ascending]\ntrak = 1\n"),
            "[series.ascending] has no setting 'trak'",
        ),
        (text_with('track = "A015"', "track = 15"), "track is 15, but must be a string"),
        (text_with("[series.ascending.ingest]", "[series.ascending.fuse]"), "unknown section [series.ascending.fuse]"),
        (text_with("[series.ascending.ingest]", "[series.ascending.injest]"), "did you mean ingest?"),
        (text_with('source = "track0/images"', "sorce = 1"), "[series.ascending.ingest] has no setting 'sorce'"),
        (text_with("window_days", "windowdays"), "[fuse] has no setting 'windowdays'"),
        (lambda _: 'cube = "cube"\nseries = "ascending"\n', "series must be tables, such as [series.ascending]"),
        (
            text_with("[monitor]\n", '[monitor]\nname = "all"\nlayout = "images"\n'),
            "[monitor] of the series ascending and of descending would both write CoherenceVV/images/all",
        ),
        (lambda _: ONE_SERIES, "members has 1 result"),
    ],
)
def test_mistakes_in_the_file_are_named(change: Callable[[str], str], words: str, run: Run) -> None:
    Path("acd.toml").write_text(change(FILE))
    status, _, told = run("watch")
    assert status == 78, told
    assert words in told
