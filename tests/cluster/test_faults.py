"""What goes wrong on a cluster, and what comes out all the same."""

from __future__ import annotations

import time
from pathlib import Path

from tests.cluster.conftest import NewPlace
from tests.cluster.faults import Fault
from tests.cluster.gate import Gate
from tests.cluster.ingest import NODE, SHARD, ingest, prepared
from tests.cluster.tools import until
from tests.jobs.chain import digests

YOUNG = 15
"""Seconds. Argo makes a pod anew, and counts no retry, that is gone within ten seconds of its node's start (its
RECENTLY_STARTED_POD_DURATION)."""


def test_a_deleted_pod_is_done_again(
    new_place: NewPlace, scene: Path, ingested: dict[str, str], tmp_path: Path
) -> None:
    place = new_place("deleted")
    prepared(place, scene, tmp_path, [Fault(SHARD, wait=120)])
    name = ingest(place)
    pod = place.pod_of(name, "run-check(1:1)(0)")
    time.sleep(YOUNG)
    place.kubectl("delete", "pod", pod, "--wait=false")
    workflow = place.ended(name)
    assert workflow.phase == "Succeeded", workflow.why()
    assert workflow.outcome()[NODE] == ("Succeeded", 2)
    assert digests(place.download(tmp_path / "cube")) == ingested


def test_a_pod_that_is_killed_for_want_of_memory_gets_more(
    new_place: NewPlace, scene: Path, ingested: dict[str, str], tmp_path: Path
) -> None:
    place = new_place("memory")
    prepared(place, scene, tmp_path, [Fault(SHARD, attempts=(0, 1, 2, 3), memory=320)])
    workflow = place.ended(ingest(place, memory_mib="300"))
    assert workflow.phase == "Succeeded", workflow.why()
    assert [attempt.exit_code for attempt in workflow.attempts(NODE)] == ["137", "0"]
    assert "OOMKilled" in workflow.attempts(NODE)[0].message
    assert digests(place.download(tmp_path / "cube")) == ingested


def test_half_a_minute_without_s3_is_waited_out(
    new_place: NewPlace, scene: Path, ingested: dict[str, str], tmp_path: Path
) -> None:
    place = new_place("gate")
    gate = Gate(place)
    gate.open()
    prepared(place, scene, tmp_path, [Fault(SHARD, wait=10)], endpoint=gate.address)
    name = ingest(place)
    place.pod_of(name, "run-check(1:1)(0)")
    gate.shut()
    time.sleep(30)
    during = place.workflow(name)
    gate.open()
    assert during.phase == "Running"
    workflow = place.ended(name)
    assert workflow.phase == "Succeeded", workflow.why()
    assert digests(place.download(tmp_path / "cube")) == ingested


def test_a_shard_that_fails_for_good_is_left_out_within_a_budget_and_done_by_the_next_run(
    new_place: NewPlace, scene: Path, ingested: dict[str, str], tmp_path: Path
) -> None:
    place = new_place("budget")
    prepared(place, scene, tmp_path, [Fault(SHARD, exit=70)])
    workflow = place.ended(ingest(place, quarantine="1"))
    assert workflow.phase == "Succeeded", workflow.why()
    assert workflow.outcome()[NODE] == ("Failed", 1)
    assert len([key for key in place.store.list() if key.startswith("data/")]) < len(ingested)

    place.put_faults("acd-ingest", [])
    again = place.ended(ingest(place))
    assert again.phase == "Succeeded", again.why()
    assert {name for name in again.outcome() if ".run-check(" in name} == {"ingest.run-check(0:0)"}
    cube = digests(place.download(tmp_path / "cube"))
    assert {name: cube[name] for name in cube if name.startswith("data/")} == {
        name: ingested[name] for name in ingested if name.startswith("data/")
    }


def test_an_aoi_that_is_not_there_ends_the_workflow_at_its_plan(
    new_place: NewPlace, scene: Path, tmp_path: Path
) -> None:
    place = new_place("aoi")
    prepared(place, scene, tmp_path, [])
    workflow = place.ended(ingest(place, aoi="bonn"))
    assert workflow.phase == "Failed"
    assert [attempt.exit_code for attempt in workflow.attempts("ingest.plan")] == ["78"]
    assert until(
        lambda: (
            "ACD-110"
            in place.kubectl(
                "logs",
                "--tail=-1",
                f"--selector=workflows.argoproj.io/workflow={workflow.name}",
                "--container=main",
            )
        ),
        "log",
        60,
    )
