"""A command skips only when pointer, product and inputs agree: going back to earlier settings, and deleting results.

Where a command cannot mend what is gone, its error says what to do; the test does it, and compares every byte.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from acdtask.cli import main
from acdtask.cube.model import RecordQuery
from acdtask.engine.local import LocalOutcome
from acdtask.engine.stages import gather_round, load_plan, make_plan, open_site, run_shard
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.baseline.job import BaselineJob
from acdtask.jobs.baseline.settings import BaselineSettings
from acdtask.jobs.consolidate.job import ConsolidateJob
from acdtask.jobs.consolidate.settings import ConsolidateSettings
from acdtask.jobs.manifests import find_manifest
from acdtask.jobs.monitor.job import MonitorJob
from acdtask.jobs.monitor.months import read_month_patches
from acdtask.jobs.monitor.settings import MonitorSettings
from acdtask.jobs.products import BaselineManifest, MonitorManifest
from acdtask.jobs.report.job import ReportJob, ReportSettings
from acdtask.storage.store import Store
from tests.jobs.chain import digests
from tests.jobs.small_site import LAYOUT, baseline, ends, make_cube, monitor, run, steady

REFERENCE, MONITORED = 22, 2
COUNT = REFERENCE + MONITORED
LAST = ends(REFERENCE - 1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cube in which every job has run."""
    folder = tmp_path_factory.mktemp("current")
    cube = make_cube(folder, COUNT, steady(REFERENCE))
    consolidate(cube)
    baseline(cube, end=LAST)
    monitor(cube)
    report(cube)
    return folder


@pytest.fixture
def cube(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "made")) / "cube"


def consolidate(cube: Path) -> LocalOutcome:
    return run(ConsolidateJob(), ConsolidateSettings(aoi=str(cube.parent / "aoi.json"), layout=LAYOUT), cube)


def report(cube: Path, **settings: Any) -> LocalOutcome:
    return run(ReportJob(), ReportSettings(aoi=str(cube.parent / "aoi.json"), layout=LAYOUT, **settings), cube)


def chain(cube: Path) -> list[LocalOutcome]:
    """What a nightly workflow does."""
    return [consolidate(cube), baseline(cube, end=LAST), monitor(cube), report(cube)]


def latest(cube: Path, job: str, name: str) -> bytes:
    missing = ErrorCode.MONITOR_UNKNOWN
    return find_manifest(Store.at(str(cube)), "site", job, f"CoherenceVV/{LAYOUT}/{name}", "latest", missing)[1]


def current_baseline(cube: Path) -> BaselineManifest:
    return BaselineManifest.model_validate_json(latest(cube, "baseline", "annual"))


def current_result(cube: Path) -> MonitorManifest:
    return MonitorManifest.model_validate_json(latest(cube, "monitor", "monitor"))


def patches(cube: Path) -> list[Any]:
    months = read_month_patches(current_result(cube), Store.at(str(cube)))
    return [patch.properties for month in months for patch in month]


def products(cube: Path) -> dict[str, str]:
    """Every file of a product but the pointers."""
    found = digests(cube)
    return {key: found[key] for key in found if key.startswith("products/") and ".latest/" not in key}


def markers(cube: Path, job: str) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in cube.glob(f"runs/{job}/*/*/*.table")}


def test_a_baseline_of_earlier_settings_becomes_the_latest_again(cube: Path) -> None:
    first = current_baseline(cube)
    baseline(cube, end=ends(COUNT - 1))
    assert len(current_baseline(cube).images) == COUNT
    before, tables = products(cube), markers(cube, "baseline")
    outcome = baseline(cube, end=LAST)
    assert "becomes the latest again" in outcome.lines[0]
    assert current_baseline(cube) == first
    assert products(cube) == before
    assert tables.items() <= markers(cube, "baseline").items(), "no shard is done again"
    assert "is the latest" in baseline(cube, end=LAST).lines[0]


def test_what_is_judged_next_is_judged_with_the_baseline_that_was_asked_for_last(cube: Path) -> None:
    baseline(cube, end=ends(COUNT - 1))
    baseline(cube, end=LAST)
    monitor(cube, name="again", start=LAST)
    rows = MonitorManifest.model_validate_json(latest(cube, "monitor", "again"))
    assert rows.baseline == current_baseline(cube).content_id
    found = [patch for month in read_month_patches(rows, Store.at(str(cube))) for patch in month]
    assert {patch.patch.baseline_count for patch in found} == {REFERENCE}
    assert min(patch.patch.z_max for patch in found) > 8


def test_the_pointer_can_go_back_and_forth_any_number_of_times(cube: Path) -> None:
    """Also when the runs are tidied away in between."""
    for turn in range(3):
        baseline(cube, end=ends(COUNT - 1))
        assert len(current_baseline(cube).images) == COUNT
        if turn == 1:
            shutil.rmtree(cube / "runs")
        baseline(cube, end=LAST)
        assert len(current_baseline(cube).images) == REFERENCE


def test_a_monitoring_of_earlier_settings_becomes_the_latest_again(cube: Path) -> None:
    first, found = current_result(cube), patches(cube)
    assert len(found) == MONITORED
    monitor(cube, high=50.0)
    assert patches(cube) == []
    before, tables = products(cube), markers(cube, "monitor")
    index = open_site(str(cube)).cube.records(RecordQuery())
    outcome = monitor(cube)
    assert "becomes the latest again" in outcome.lines[0]
    assert (current_result(cube), patches(cube)) == (first, found)
    assert products(cube) == before
    assert tables.items() <= markers(cube, "monitor").items()
    assert open_site(str(cube)).cube.records(RecordQuery()) == index
    assert "already" in monitor(cube).lines[0]


def test_a_result_becomes_the_latest_though_no_image_is_new_in_the_period_asked_for(cube: Path) -> None:
    first = current_result(cube)
    monitor(cube, high=50.0)
    monitor(cube, end=LAST)
    assert current_result(cube) == first


def test_a_report_and_its_copy_show_the_result_that_is_the_latest(cube: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    report(cube, out=str(out))
    pages = copied(out)
    monitor(cube, high=50.0)
    report(cube, out=str(out))
    assert copied(out) != pages
    monitor(cube)
    report(cube, out=str(out))
    assert copied(out) == pages
    assert "is up to date" in report(cube, out=str(out)).lines[0]


def copied(out: Path) -> dict[str, str]:
    found = digests(out)
    return {name: found[name] for name in ("index.html", "edition.json", "patches.geojson", "patches.parquet")}


def test_an_older_plan_that_ends_late_does_not_take_the_pointer_back(cube: Path) -> None:
    """Going back is a newer plan with a newer token."""
    aoi = str(cube.parent / "aoi.json")
    older = make_plan(BaselineJob(), BaselineSettings(aoi=aoi, layout=LAYOUT, end=ends(COUNT - 1)), site(cube))
    baseline(cube, end=ends(COUNT - 2))
    baseline(cube, end=LAST)
    for shard in range(older.shards):
        run_shard(BaselineJob(), older, "moments", shard, site(cube))
    gather_round(BaselineJob(), older, "moments", site(cube))
    assert len(current_baseline(cube).images) == REFERENCE


def site(cube: Path) -> Any:
    return open_site(str(cube))


def test_planning_again_says_so_and_does_not_change_the_pointer(cube: Path) -> None:
    monitor(cube, high=50.0)
    other = current_result(cube)
    plan = make_plan(MonitorJob(), MonitorSettings(aoi=str(cube.parent / "aoi.json"), layout=LAYOUT), site(cube))
    assert not plan.nothing_to_do
    assert (plan.units, plan.shards) == (0, 1)
    assert "becomes the latest again" in plan.notes["again"]
    assert current_result(cube) == other


GONE: dict[str, str] = {
    "all products": "products",
    "all products of the baseline": "products/*/baseline",
    "the baseline, but for its pointer": "products/*/baseline/[0-9a-f]*",
    "the manifest of the baseline": "products/*/baseline/*/manifests/*",
    "the pointer to the baseline": "products/*/baseline/**/*.latest/*",
    "a tile of the baseline": "products/*/baseline/*/*_0_0.*",
    "the mean of a tile": "products/*/baseline/*/mean_*_0_0.tif",
    "all products of the monitor": "products/*/monitor",
    "the manifest of the monitor": "products/*/monitor/*/manifests/*",
    "the pointer to the monitor's result": "products/*/monitor/**/*.latest/*",
    "all products of the report": "products/*/report",
    "the editions of the report": "products/*/report/*/editions",
    "the first page": "products/*/report/*/index.html",
    "a picture of the first page": "products/*/report/*/dates/*/*/z.png",
    "a picture of the baseline": "products/*/report/*/baseline-*/std.png",
}
"""Products that are deleted, and that the chain makes again by itself."""


@pytest.mark.parametrize("keeps_runs", [True, False])
@pytest.mark.parametrize("gone", GONE)
def test_the_chain_makes_again_what_was_deleted(cube: Path, gone: str, keeps_runs: bool) -> None:
    before = products(cube)
    delete(cube, GONE[gone])
    if not keeps_runs:
        shutil.rmtree(cube / "runs")
    chain(cube)
    after = products(cube)
    assert {key: after.get(key) for key in before if not is_counted(key)} == {
        key: before[key] for key in before if not is_counted(key)
    }
    assert all(outcome.plan.nothing_to_do for outcome in chain(cube))


def is_counted(key: str) -> bool:
    """Whether the file's name is a number that goes on."""
    return "/editions/" in key


def delete(cube: Path, pattern: str) -> None:
    """Delete the newest that matches, a folder with all that is in it."""
    path = sorted(cube.glob(pattern))[-1]
    shutil.rmtree(path) if path.is_dir() else path.unlink()


LOST: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "a z that the monitor made": ("products/*/monitor/*/*/z_*.tif", report),
    "a change mask": ("products/*/monitor/*/*/change_*.tif", report),
    "the patches of an image": ("products/*/monitor/*/*/patches.parquet", lambda cube: publish_again(cube)),
    "the document of an image": ("products/*/monitor/*/*/product-*.json", report),
    "an image's products": ("products/*/monitor/*/20*", report),
    "a month of the result": ("products/*/monitor/*/months/*", report),
    "the patches of a month": ("products/*/monitor/*/patches/*", report),
    "the consolidated folder": ("consolidated", lambda cube: baseline(cube, end=ends(COUNT - 1))),
    "the images": ("data", lambda cube: judge_with_images(cube)),
}
"""What only a reader notices, and the reader."""


@pytest.mark.parametrize("lost", LOST)
def test_the_error_of_the_reader_says_what_to_do_and_doing_it_works(
    cube: Path, lost: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pattern, read = LOST[lost]
    before = products(cube)
    delete(cube, pattern)
    (cube / "index/hint").touch()
    shutil.rmtree(cube / "products/site/report")  # so that the report has to read everything
    with pytest.raises(AcdError) as caught:
        read(cube)
    assert caught.value.code in (ErrorCode.CUBE_DAMAGED, ErrorCode.PRODUCT_DAMAGED)
    take_advice(caught.value, cube, capsys)
    chain(cube)
    after = products(cube)
    assert {key for key in before if after.get(key) != before[key] and not is_counted(key)} == set()
    assert main(["verify", "--cube", str(cube)]) == 0


def publish_again(cube: Path) -> None:
    """What a workflow tells of its run at the end."""
    (plan,) = (cube / "runs/monitor").glob("*/plan.json")
    MonitorJob().findings(load_plan(MonitorJob(), plan.parent.name, site(cube)), site(cube))


def judge_with_images(cube: Path) -> None:
    shutil.rmtree(cube / "consolidated")
    baseline(cube, end=ends(COUNT - 1))


def take_advice(error: AcdError, cube: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Do what the error says: delete a folder, or what `acdtask verify` prints."""
    folder = re.search(r"delete the folder (\S+)", error.fix)
    if folder:
        shutil.rmtree(folder[1])
        return
    assert "'acdtask verify'" in error.fix
    capsys.readouterr()
    assert main(["verify", "--cube", str(cube), "--json"]) == ErrorCode.FILES_DAMAGED.value.exit_status
    commands = json.loads(capsys.readouterr().out)["commands"]
    assert commands
    for command in commands:
        text = command.replace("SOURCE", str(cube.parent / "images")).replace("AOI", str(cube.parent / "aoi.json"))
        program, *arguments = shlex.split(text)
        assert program == "acdtask"
        workers = ["--workers", "0"] if "local" in arguments else []
        assert main([*arguments, *workers]) == 0, (command, capsys.readouterr().err)
