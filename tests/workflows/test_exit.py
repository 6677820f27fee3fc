"""The end of a workflow: the event at a real receiver, and no extra pod without a webhook."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from acdtask.engine.local import run_locally
from acdtask.engine.processes import WorkerPool
from acdtask.jobs.baseline.job import BaselineJob
from acdtask.jobs.baseline.settings import BaselineSettings
from acdtask.jobs.ingest.job import IngestJob
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.simulate.settings import SceneSettings
from tests.jobs.chain import reference_end, simulate
from tests.notify.receiver import receiving
from tests.workflows.equipment.engine import Result, run_workflow
from tests.workflows.equipment.model import load_document
from tests.workflows.equipment.pods import Host
from workflows.rendering import CHART_FILES

SCENE = SceneSettings(size=128, reference_pairs=20, monitored_pairs=2, events=4, seed=11)
MONITOR = {"layout": "utm32", "min-count": "10"}
BROKEN_SHARD = """
import os, sys
args = sys.argv[1:]
if "run" in args and args[args.index("--shard") + 1] == "1":
    sys.exit(70)
command = [sys.executable, "-m", "acdtask", *args]
os.execv(command[0], command)
"""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(tmp_path_factory.mktemp("scene"), SCENE)


@pytest.fixture(scope="module")
def learned(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cube with a baseline and one of two images to compare."""
    cube, aoi = tmp_path_factory.mktemp("learned"), str(scene / "aoi.json")
    early = shutil.copytree(scene / "images", tmp_path_factory.mktemp("early") / "images")
    max(early.glob("*.tif")).unlink()
    ingest = IngestSettings(source=str(early), aoi=aoi, make_layout="utm32", cell_size=128)
    baseline = BaselineSettings(aoi=aoi, layout="utm32", end=reference_end(SCENE), min_dates=3)
    with WorkerPool(0) as pool:
        run_locally(IngestJob(), ingest, str(cube), pool=pool, progress=False)
        run_locally(BaselineJob(), baseline, str(cube), pool=pool, progress=False)
    return cube


@pytest.fixture
def cube(learned: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(learned, tmp_path / "cube"))


ANNOUNCED = ("acd_patches_total", "acd_changed_square_metres_total")


def submit(
    template: str,
    parameters: Mapping[str, str],
    scene: Path,
    folder: Path,
    cube: Path,
    command: list[str] | None = None,
) -> Result:
    host = Host(
        folder,
        commands={"acdtask": command or [sys.executable, "-m", "acdtask"]},
        config_maps={"acd-aoi-koln": scene},
        environment={"ACD_CUBE": str(cube), "ACD_WEBHOOK_AUTHORIZATION": "Bearer a-secret"},
    )
    document = load_document(CHART_FILES / f"{template}.yaml")
    return run_workflow(document, {"aoi": "koln", **parameters}, host, workers=2, pace=0)


def short(event: dict[str, Any]) -> tuple[str, str, str, int]:
    kind = event["type"].removeprefix("io.github.acd.run.")
    return kind, event["subject"], event["data"]["status"], event["data"]["patches"]


def bring_the_last_image(scene: Path, cube: Path) -> None:
    settings = IngestSettings(source=str(scene / "images"), aoi=str(scene / "aoi.json"))
    with WorkerPool(0) as pool:
        run_locally(IngestJob(), settings, str(cube), pool=pool, progress=False)


def test_the_images_that_a_new_series_finds_are_a_backfill_and_no_alert(
    scene: Path, cube: Path, tmp_path: Path
) -> None:
    with receiving() as receiver:
        done = submit("acd-monitor", {**MONITOR, "webhook": receiver.url}, scene, tmp_path / "run", cube)
    assert [done.metric(name, job="monitor", aoi="koln") for name in ANNOUNCED] == [0, 0]
    (event,) = receiver.events
    assert short(event) == ("heartbeat", "koln", "Succeeded", 0)
    assert (event["data"]["images"], event["data"]["images_not_announced"]) == ([], 1)
    assert event["data"]["jobs"][0]["figures"]["images"] == 1


def test_new_patches_are_an_alert_and_the_day_after_is_a_heartbeat(scene: Path, cube: Path, tmp_path: Path) -> None:
    with receiving() as receiver:
        parameters = {**MONITOR, "webhook": receiver.url}
        submit("acd-monitor", parameters, scene, tmp_path / "zeroth", cube)
        bring_the_last_image(scene, cube)
        first = submit("acd-monitor", parameters, scene, tmp_path / "first", cube)
        second = submit("acd-monitor", parameters, scene, tmp_path / "second", cube)
    assert (first.phase, second.phase) == ("Succeeded", "Succeeded")
    _, alert, heartbeat = receiver.events
    patches = alert["data"]["patches"]
    assert patches > 0
    assert short(alert) == ("alert", "koln", "Succeeded", patches)
    assert alert["specversion"] == "1.0"
    assert alert["id"] == f"{first.uid}-succeeded"
    assert alert["source"].startswith("/namespaces/here/workflows/acd-monitor-")
    assert len(alert["data"]["images"]) == 1
    assert sum(image["patches"] for image in alert["data"]["images"]) == patches
    area = alert["data"]["changed_area_m2"]
    assert area > 0
    counted = [first.metric(name, job="monitor", aoi="koln") for name in ANNOUNCED]
    assert counted == [patches, pytest.approx(area)]
    assert Path(alert["data"]["files"]["patches.geojson"]).is_file()
    assert [(job["job"], job["outcome"]) for job in alert["data"]["jobs"]] == [("monitor", "done")]

    assert short(heartbeat) == ("heartbeat", "koln", "Succeeded", 0)
    assert heartbeat["data"]["jobs"][0]["outcome"] == "nothing to do"
    assert [request["headers"]["authorization"] for request in receiver.requests] == ["Bearer a-secret"] * 3
    logs = [path.read_text() for path in tmp_path.rglob("log")]
    assert len(logs) > 2
    assert not any("a-secret" in log for log in logs)


def test_a_failed_workflow_tells_what_is_missing_and_stays_failed(scene: Path, tmp_path: Path) -> None:
    with receiving() as receiver:
        result = submit(
            "acd-ingest",
            {"source": str(scene / "images"), "shard-files": "12", "here-seconds": "0", "webhook": receiver.url},
            scene,
            tmp_path / "run",
            tmp_path / "cube",
            [sys.executable, "-c", BROKEN_SHARD],
        )
    assert (result.phase, result.exit_code) == ("Failed", 70)
    (event,) = receiver.events
    assert short(event) == ("failed", "koln", "Failed", 0)
    assert event["id"] == f"{result.uid}-failed"
    (job,) = event["data"]["jobs"]
    assert (job["job"], job["outcome"], job["shards"]) == ("ingest", "not done", 2)
    assert job["missing"] == [{"round": "check", "shards": 1, "of": 2}, {"round": "write", "shards": 2, "of": 2}]


def test_an_error_of_a_stage_is_in_the_event(scene: Path, tmp_path: Path) -> None:
    with receiving() as receiver:
        parameters = {"aoi": "bonn", "source": str(scene / "images"), "webhook": receiver.url}
        result = submit("acd-ingest", parameters, scene, tmp_path / "run", tmp_path / "cube")
    assert result.phase == "Failed"
    (event,) = receiver.events
    (cause,) = event["data"]["causes"]
    assert (cause["job"], cause["stage"], cause["error"]) == ("ingest", "plan", "ACD-110")


@pytest.mark.parametrize(
    ("given", "stage", "named"),
    [
        ({"min-count": "25"}, "plan", "the baseline has 20 images"),
        ({"min-count": "10", "min-std": "0.9"}, "gather", "px std too small"),
    ],
)
def test_a_monitor_that_judges_nothing_fails_at_once_with_its_counts(
    given: dict[str, str], stage: str, named: str, scene: Path, cube: Path, tmp_path: Path
) -> None:
    with receiving() as receiver:
        parameters = {"layout": "utm32", "here-seconds": "0", "webhook": receiver.url, **given}
        result = submit("acd-monitor", parameters, scene, tmp_path / "run", cube)
    assert (result.phase, result.exit_code) == ("Failed", 78)
    assert all(len(node.attempts) <= 1 for node in result.nodes)
    (event,) = receiver.events
    assert short(event) == ("failed", "koln", "Failed", 0)
    (cause,) = event["data"]["causes"]
    assert (cause["job"], cause["stage"], cause["error"]) == ("monitor", stage, "ACD-330")
    assert named in cause["detail"]
    assert not list(cube.glob("products/*/monitor/*/manifests/*"))


def test_a_receiver_that_comes_late_is_told_after_a_retry(scene: Path, cube: Path, tmp_path: Path) -> None:
    with receiving(when=(tmp_path / "run/pods/onExit.notify-1").exists) as receiver:
        result = submit("acd-monitor", {**MONITOR, "webhook": receiver.url}, scene, tmp_path / "run", cube)
    node = result.node("onExit.notify")
    codes = [attempt.exit_code for attempt in node.attempts]
    assert (result.phase, codes[0], codes[-1], len(receiver.events)) == ("Succeeded", 75, 0, 1)


def test_an_alert_that_could_not_be_posted_comes_first_with_the_next_run(
    scene: Path, cube: Path, tmp_path: Path
) -> None:
    with receiving([204, 404, 204]) as receiver:
        parameters = {**MONITOR, "webhook": receiver.url, "event-monitor": "every-night"}
        submit("acd-monitor", parameters, scene, tmp_path / "zeroth", cube)
        bring_the_last_image(scene, cube)
        phases = [submit("acd-monitor", parameters, scene, tmp_path / str(n), cube).phase for n in range(2)]
    assert phases == ["Failed", "Succeeded"]
    _, refused, alert, heartbeat = receiver.events
    assert [short(event)[0] for event in (refused, alert, heartbeat)] == ["alert", "alert", "heartbeat"]
    assert refused == alert
    assert heartbeat["data"]["jobs"][0]["outcome"] == "nothing to do"
    assert {event["data"]["monitor"] for event in receiver.events} == {"every-night"}


def test_a_receiver_that_is_away_for_two_runs_fails_none_and_gets_each_event_once(
    scene: Path, cube: Path, tmp_path: Path
) -> None:
    with receiving([503] * 8 + [204]) as receiver:
        parameters = {**MONITOR, "webhook": receiver.url}
        first = submit("acd-monitor", parameters, scene, tmp_path / "first", cube)
        bring_the_last_image(scene, cube)
        second = submit("acd-monitor", parameters, scene, tmp_path / "second", cube)
        third = submit("acd-monitor", parameters, scene, tmp_path / "third", cube)
    for result in (first, second):
        assert [attempt.exit_code for attempt in result.node("onExit.notify").attempts] == [75, 75, 75, 0]
    assert [result.phase for result in (first, second, third)] == ["Succeeded"] * 3
    log = (tmp_path / "second/pods/onExit.notify-3/log").read_text()
    assert "2 events wait" in log
    delivered = receiver.events[8:]
    assert [event["id"] for event in delivered] == [f"{result.uid}-succeeded" for result in (first, second, third)]
    assert [short(event)[0] for event in delivered] == ["heartbeat", "alert", "heartbeat"]
    assert not list(cube.glob("events/koln/runs/*"))


def test_a_repeated_post_is_the_same_event(scene: Path, cube: Path, tmp_path: Path) -> None:
    with receiving([503, 429, 204]) as receiver:
        result = submit("acd-monitor", {**MONITOR, "webhook": receiver.url}, scene, tmp_path / "run", cube)
    assert [attempt.exit_code for attempt in result.node("onExit.notify").attempts] == [75, 75, 0]
    assert len({(event["source"], event["id"]) for event in receiver.events}) == 1
    assert len({str(event["data"]) for event in receiver.events}) == 1


def test_an_exit_handler_that_fails_makes_the_workflow_fail_but_its_results_stay(
    scene: Path, cube: Path, tmp_path: Path
) -> None:
    with receiving([404]) as receiver:
        result = submit("acd-monitor", {**MONITOR, "webhook": receiver.url}, scene, tmp_path / "run", cube)
    assert (result.phase, result.exit_code, len(receiver.events)) == ("Failed", 78, 1)
    assert "ACD-602" in result.node("onExit.notify").message
    assert list(cube.glob("products/*/monitor/*/manifests/000001.json"))


def test_without_a_webhook_there_is_no_pod_for_it(scene: Path, cube: Path, tmp_path: Path) -> None:
    result = submit("acd-monitor", MONITOR, scene, tmp_path / "run", cube)
    node = result.node("onExit.notify")
    assert (result.phase, node.phase, node.attempts) == ("Succeeded", "Skipped", ())
    assert not list((tmp_path / "run/pods").glob("onExit*"))
