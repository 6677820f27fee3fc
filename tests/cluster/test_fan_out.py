"""Four hundred shards on a cluster: they finish, and the workflow's status fits into its object."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from acdtask.jobs.simulate.settings import SceneSettings
from tests.cluster.conftest import NewPlace
from tests.cluster.scenes import ALL_PODS, acdtask, monitor_of
from tests.cluster.tools import Json, Place, Workflow, call
from tests.jobs.chain import reference_end, simulate

SHARDS = 400
SCENE = SceneSettings(size=304, reference_pairs=4, monitored_pairs=1, events=1, seed=13)
CELL = 16
"""Pixels; the scene lies on 20 x 20 cells."""


CPU = "200m"
"""So that a machine of two cores does not do fifty pods at once."""


def test_four_hundred_shards(
    new_place: NewPlace, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    scene = simulate(tmp_path / "scene", SCENE)
    place = new_place("fan-out")
    run: Json = {"memoryMiB": 256, "requests": {"cpu": CPU}}
    resources = {**place.values()["resources"], "run": run}
    place.install({"monitors": [monitor_of(scene)], "resources": resources}, tmp_path)
    cube, aoi = place.store.url, str(scene / "aoi.json")
    acdtask(
        *("ingest", "local", "--cube", cube, "--aoi", aoi, "--source", str(scene / "images")),
        *("--make-layout", "tiny", "--cell-size", str(CELL)),
    )
    given = {"aoi": "koln", "layout": "tiny", "end": reference_end(SCENE).isoformat(), "min-dates": "3"}
    memory = Memory(place)
    with memory:
        name = place.submit("workflowtemplate/acd-baseline", given | ALL_PODS | {"shard-tiles": "1"})
        workflow = place.ended(name, 2400)
    assert workflow.phase == "Succeeded", workflow.why()
    shards = {name: one for name, one in workflow.outcome().items() if ".run-moments(" in name}
    assert len(shards) == SHARDS
    assert {phase for phase, _ in shards.values()} == {"Succeeded"}
    assert not workflow.status.get("offloadNodeStatusVersion")
    assert memory.most > 0

    minutes = (moment(workflow, "finishedAt", max) - moment(workflow, "startedAt", min)) / 60
    record_property("400 shards: pods per minute", round(SHARDS / minutes, 1))
    record_property("400 shards: controller's memory at most, MiB", memory.most >> 20)
    record_property("400 shards: workflow object, bytes of JSON", len(call_get(place, name)))
    record_property("400 shards: nodes compressed", "compressedNodes" in workflow.status)
    record_property("400 shards: seconds of a pod less seconds of its work, mean", round(overhead(place, workflow), 2))


def call_get(place: Place, name: str) -> str:
    return json.dumps(place.get("workflow", name), separators=(",", ":"))


def seconds_of(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def pods(workflow: Workflow) -> list[dict[str, str]]:
    return [one for name, one in workflow.nodes.items() if ".run-moments(" in name and one["type"] == "Pod"]


def moment(workflow: Workflow, which: str, choose: Callable[[list[float]], float]) -> float:
    return choose([seconds_of(pod[which]) for pod in pods(workflow)])


def overhead(place: Place, workflow: Workflow) -> float:
    """Of a pod that Argo has started: what it takes beyond the work that the shard's marker tells."""
    runs = place.store.within("runs/baseline")
    worked = [float(json.loads(runs.get(key))["seconds"]) for key in runs.list() if is_marker(key)]
    assert len(worked) == SHARDS
    spent = [seconds_of(pod["finishedAt"]) - seconds_of(pod["startedAt"]) for pod in pods(workflow)]
    return (sum(spent) - sum(worked)) / SHARDS


def is_marker(key: str) -> bool:
    _, _, name = key.partition("/moments/")
    return name[:4].isdigit() and name.endswith(".json")


class Memory:
    """Looks every few seconds how much memory the controller has, while it is entered."""

    def __init__(self, place: Place) -> None:
        self.most = 0
        self._argo = place.surroundings.argo
        self._nodes = call("kubectl", "get", "nodes", "--output", "name").split()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(5):
            try:
                self.most = max(self.most, self._now())
            except (AssertionError, subprocess.TimeoutExpired):  # the kubelet is slow: the next look may see it
                continue

    def _now(self) -> int:
        asked = [("kubectl", "get", "--raw", f"/api/v1/nodes/{node[5:]}/proxy/stats/summary") for node in self._nodes]
        pods = [pod for command in asked for pod in json.loads(call(*command))["pods"]]
        held = [pod.get("memory", {}).get("workingSetBytes", 0) for pod in pods if self._is_controller(pod)]
        return max(held, default=0)

    def _is_controller(self, pod: Json) -> bool:
        of: Json = pod["podRef"]
        return of["namespace"] == self._argo and bool(of["name"].startswith("workflow-controller"))
