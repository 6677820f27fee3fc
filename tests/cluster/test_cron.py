"""A schedule fires, is suspended for three ticks while dates come in, and then does all of them in order."""

from __future__ import annotations

import json
import time
from pathlib import Path

from acdtask.jobs.monitor.months import read_images
from acdtask.jobs.products import MonitorManifest
from acdtask.jobs.simulate.settings import SceneSettings
from acdtask.storage.store import Store
from tests.cluster.conftest import NewPlace
from tests.cluster.scenes import monitor_of, parameters
from tests.cluster.tools import Place, Workflow, until
from tests.jobs.chain import simulate

SCENE = SceneSettings(size=64, reference_pairs=20, monitored_pairs=4, events=2, seed=12)
THREE_TICKS = 200
EVERY_MINUTE = {"schedules": ["* * * * *"], "template": "acd-all"}


def test_what_a_suspended_schedule_missed_is_done_by_its_next_run(new_place: NewPlace, tmp_path: Path) -> None:
    scene = simulate(tmp_path / "scene", SCENE)
    images = sorted((scene / "images").iterdir())
    place = new_place("cron")
    settings = parameters(place.inbox, SCENE)
    del settings["aoi"]

    def scheduled(*, suspend: bool) -> dict[str, object]:
        return {"monitors": [monitor_of(scene, **EVERY_MINUTE, settings=settings, suspend=suspend)]}

    place.put_images(images[: SCENE.reference_pairs + 1])
    # Helm makes a schedule before its template, and Argo looks at it again 20 minutes later only, or when it changes.
    place.install({}, tmp_path)
    place.install(scheduled(suspend=False), tmp_path)
    first = ended(place, set())
    assert first.phase == "Succeeded", first.why()
    assert len(monitored(place)) == 1

    place.install(scheduled(suspend=True), tmp_path)
    time.sleep(5)
    before = names(place)
    for name in sorted(before):
        assert place.ended(name).phase == "Succeeded"
    place.put_images(images[SCENE.reference_pairs + 1 :])
    time.sleep(THREE_TICKS)
    assert names(place) == before
    assert len(monitored(place)) == 1

    place.install(scheduled(suspend=False), tmp_path)
    next_one = ended(place, before)
    assert next_one.phase == "Succeeded", next_one.why()
    place.install(scheduled(suspend=True), tmp_path)
    labels = monitored(place)
    assert len(labels) == SCENE.monitored_pairs
    assert labels == sorted(labels)
    assert plan_of(place, next_one)["dates"] == SCENE.monitored_pairs - 1


def names(place: Place) -> set[str]:
    return {item["metadata"]["name"] for item in place.get("workflows")["items"]}


def ended(place: Place, known: set[str]) -> Workflow:
    """The first workflow that the schedule starts now, when it has ended."""
    new = until(lambda: names(place) - known, "a workflow of the schedule", 150)
    first = min(new, key=lambda name: place.get("workflow", name)["metadata"]["creationTimestamp"])
    return place.ended(first)


def plan_of(place: Place, workflow: Workflow) -> dict[str, int]:
    """What the plan of the monitor said it would cost."""
    artifacts = workflow.nodes["all.plan"]["outputs"]["artifacts"]
    (key,) = (artifact["s3"]["key"] for artifact in artifacts if artifact["name"] == "monitor-plan-json")
    estimate: dict[str, int] = json.loads(place.bucket.get(key))["estimate"]
    return estimate


def monitored(place: Place) -> list[str]:
    """The images that were monitored, in the manifest's order."""
    products: Store = place.store.within("products")
    keys = [key for key in products.list() if "/monitor/" in key and "/manifests/" in key]
    if not keys:
        return []
    manifest = MonitorManifest.model_validate_json(products.get(keys[-1]))
    return [image.label for image in read_images(manifest, place.store)]
