"""Fifty monitors on a small cluster: on a day without new images, each is one pod."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from acdtask.engine.local import run_locally
from acdtask.engine.processes import WorkerPool
from acdtask.jobs.registry import load_job
from acdtask.jobs.simulate.settings import SceneSettings
from tests.cluster.conftest import NewPlace
from tests.cluster.scenes import LAYOUT, settings_of
from tests.cluster.tools import Place, argo_object, until
from tests.jobs.chain import simulate

MONITORS = 50
SCENE = SceneSettings(size=64, reference_pairs=6, monitored_pairs=1, events=1, seed=15)
"""One tile and seven images."""
SHARED = ("ingest", "consolidate")
OF_AN_AREA = ("baseline", "monitor", "report")
MIN_COUNT = "4"


def test_fifty_monitors_are_fifty_pods_on_an_idle_day(
    new_place: NewPlace, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    scene = simulate(tmp_path / "scene", SCENE)
    place = new_place("fifty")
    place.put_images(sorted((scene / "images").iterdir()))
    areas = {name: area_of(scene, name) for name in (f"area-{number:02}" for number in range(MONITORS))}
    begun = time.monotonic()
    judge_all(areas, place, tmp_path)
    judged = time.monotonic()
    place.install({"monitors": [monitor_of(name, area, place) for name, area in areas.items()]}, tmp_path)

    schedules = place.get("cronworkflows")["items"]
    started = {
        schedule["metadata"]["name"]: schedule["spec"]["workflowSpec"]
        for schedule in schedules
        if schedule["metadata"]["name"].startswith("acd-area-")
    }
    assert len(started) == MONITORS
    installed = time.monotonic()
    place.apply(*(argo_object("Workflow", name, spec) for name, spec in started.items()))
    workflows = until(lambda: ended(place, set(started)), "end of all workflows", 600, pace=3)
    record_property("fifty monitors, judged beforehand: seconds", round(judged - begun, 1))
    record_property("fifty monitors, idle day: seconds", round(time.monotonic() - installed, 1))

    assert {workflow["status"]["phase"] for workflow in workflows} == {"Succeeded"}
    nodes = [node for workflow in workflows for node in workflow["status"]["nodes"].values()]
    pods = [node for node in nodes if node["type"] == "Pod"]
    assert len(pods) == MONITORS
    ways = [
        {output["value"] for output in pod["outputs"]["parameters"] if output["name"].endswith("-way")} for pod in pods
    ]
    assert ways == [{"nothing"}] * MONITORS


def area_of(scene: Path, name: str) -> dict[str, Any]:
    """The scene's area under another name."""
    area: dict[str, Any] = json.loads((scene / "aoi.json").read_text())
    return area | {"name": name}


def settings_of_job(job: str, place: Place) -> dict[str, str]:
    """The settings of a job, as the monitors have them."""
    settings = settings_of(job, place.inbox, SCENE)
    changes = {"ingest": {"cell-size": "64"}, "monitor": {"min-count": MIN_COUNT}}
    return settings | changes.get(job, {})


def monitor_of(name: str, area: dict[str, Any], place: Place) -> dict[str, Any]:
    """A monitor whose schedule is suspended: the test starts it."""
    settings = {"layout": LAYOUT}
    for job in (*SHARED, *OF_AN_AREA):
        own = {key: value for key, value in settings_of_job(job, place).items() if key not in ("layout", "make-layout")}
        settings |= {f"{job}-{key}": value for key, value in own.items()}
    return {"name": name, "schedules": ["0 0 1 1 *"], "suspend": True, "aoi": area, "settings": settings}


def judge_all(areas: dict[str, dict[str, Any]], place: Place, folder: Path) -> None:
    """Do what the monitors did on the days before."""
    with WorkerPool(0) as pool:
        for number, (name, area) in enumerate(areas.items()):
            path = folder / f"{name}.json"
            path.write_text(json.dumps(area))
            for job in (*SHARED, *OF_AN_AREA) if not number else OF_AN_AREA:
                loaded = load_job(job)
                given = {key.replace("-", "_"): value for key, value in settings_of_job(job, place).items()}
                settings = loaded.settings(aoi=str(path), **given)
                run_locally(loaded, settings, place.store.url, pool=pool, progress=False)


def ended(place: Place, names: set[str]) -> list[dict[str, Any]]:
    """The workflows of these names, once all have ended."""
    workflows = [item for item in place.get("workflows")["items"] if item["metadata"]["name"] in names]
    done = [item for item in workflows if item.get("status", {}).get("phase") in ("Succeeded", "Failed", "Error")]
    return done if len(done) == len(names) else []
