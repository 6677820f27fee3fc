"""A small area on a cluster: one pod for its first images, for a day, and for nothing new."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from acdtask.engine.run_summary import JobRecord, records_of
from acdtask.jobs.contract import Site
from acdtask.jobs.simulate.settings import SceneSettings
from tests.cluster.conftest import NewPlace
from tests.cluster.faults import Fault
from tests.cluster.scenes import monitor_of, parameters, run_locally
from tests.cluster.tools import Place, Workflow, call
from tests.jobs.chain import simulate
from tests.jobs.other_libraries import digests_but_of_pages

SCENE = SceneSettings(size=192, reference_pairs=24, monitored_pairs=6, events=3, seed=14)
"""Nine tiles and thirty images."""
JOBS = ("ingest", "consolidate", "baseline", "monitor", "report")
FIRST = SCENE.pairs - 2
ONE_POD = "all.plan"
YOUNG = 15
"""Seconds, as in test_faults.py."""


def test_a_small_area_is_one_pod_a_day(
    new_place: NewPlace, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    scene = simulate(tmp_path / "scene", SCENE)
    images = sorted((scene / "images").iterdir())
    place = new_place("small")
    place.put_images(images[:FIRST])
    place.install({"monitors": [monitor_of(scene)]}, tmp_path)
    given = parameters(place.inbox, SCENE) | {"ingest-cell-size": "64"}
    del given["ingest-shard-files"], given["consolidate-shard-tiles"]

    new = done(place, given)
    assert set(ways(new).values()) == {"here"}
    place.put_images(images[FIRST:])
    day = done(place, given)
    assert ways(day) == {**dict.fromkeys(JOBS, "here"), "baseline": "nothing"}
    assert "evaluated false" in day.nodes["all.monitor"]["message"]
    assert "here == pods" in day.nodes["all.monitor"]["message"]
    shown = call("argo", "get", "--namespace", place.namespace, day.name, "--no-color")
    assert "'here == pods' evaluated false" in shown
    assert "'nothing == pods' evaluated false" in shown
    nothing = done(place, given)
    assert set(ways(nothing).values()) == {"nothing"}
    reports = [records_by_job(place, workflow.name)["report"].work for workflow in (new, day)]
    assert reports[1].shards == 1
    assert reports[1].units == SCENE.pairs - FIRST  # only the new dates are drawn
    for name, workflow in (("nine tiles and 28 images", new), ("two new dates", day), ("nothing new", nothing)):
        record_property(f"small area, {name}: seconds", round(seconds_of(workflow), 1))

    local = tmp_path / "local"
    for count in (FIRST, SCENE.pairs):
        inbox = tmp_path / "part" / "images"
        inbox.mkdir(parents=True, exist_ok=True)
        (inbox.parent / "aoi.json").write_bytes((scene / "aoi.json").read_bytes())
        for image in images[:count]:
            if not (inbox / image.name).exists():
                (inbox / image.name).write_bytes(image.read_bytes())
        run_locally(JOBS, inbox.parent, local, SCENE, cell_size="64")
    assert digests_but_of_pages(place.download(tmp_path / "cube")) == digests_but_of_pages(local)


def test_a_pod_that_is_deleted_in_the_middle_goes_on(new_place: NewPlace, scene: Path, tmp_path: Path) -> None:
    place = new_place("small-deleted")
    place.put_images(sorted((scene / "images").iterdir()))
    place.install({"monitors": [monitor_of(scene)]}, tmp_path)
    place.put_faults("acd-all", [Fault(("chain",), wait=120)])
    name = place.submit("workflowtemplate/acd-all", parameters(place.inbox))
    pod = place.pod_of(name, "plan(0)")
    time.sleep(YOUNG)
    place.kubectl("delete", "pod", pod, "--wait=false")
    workflow = place.ended(name)
    assert workflow.phase == "Succeeded", workflow.why()
    assert workflow.outcome()[ONE_POD] == ("Succeeded", 2)
    run_locally(JOBS, scene, tmp_path / "local")
    assert digests_but_of_pages(place.download(tmp_path / "cube")) == digests_but_of_pages(tmp_path / "local")
    assert records_by_job(place, name)["monitor"].findings.figures["images"] == 2


def records_by_job(place: Place, workflow: str) -> dict[str, JobRecord]:
    """What the run of a workflow recorded of each job."""
    uid = place.get("workflow", workflow)["metadata"]["uid"]
    return {record.job: record for record in records_of(uid, Site(place.store.url))}


def done(place: Place, given: dict[str, str]) -> Workflow:
    """A workflow of the whole chain, which has one pod."""
    workflow = place.ended(place.submit("workflowtemplate/acd-all", given))
    assert workflow.phase == "Succeeded", workflow.why()
    assert [name for name, (_, attempts) in workflow.outcome().items() if attempts] == [ONE_POD]
    return workflow


def ways(workflow: Workflow) -> dict[str, str]:
    """What the pod said of each job."""
    outputs = {output["name"]: output["value"] for output in workflow.nodes[ONE_POD]["outputs"]["parameters"]}
    return {job: outputs[f"{job}-way"] for job in JOBS}


def seconds_of(workflow: Workflow) -> float:
    """From its start to its end."""
    begun, ended = (datetime.fromisoformat(str(workflow.status[name])) for name in ("startedAt", "finishedAt"))
    return (ended - begun).total_seconds()
