"""Argo's controller starts again in the middle of a workflow. Other tests have to wait: it is everybody's."""

from __future__ import annotations

from pathlib import Path

from tests.cluster.conftest import NewPlace
from tests.cluster.faults import Fault
from tests.cluster.ingest import SHARD, ingest, prepared
from tests.cluster.tools import call
from tests.jobs.chain import digests


def test_a_restart_of_the_controller_changes_nothing(
    new_place: NewPlace, scene: Path, ingested: dict[str, str], tmp_path: Path
) -> None:
    place = new_place("restart")
    prepared(place, scene, tmp_path, [Fault(SHARD, wait=20)])
    name = ingest(place)
    place.pod_of(name, "run-check(1:1)(0)")
    argo = place.surroundings.argo
    call("kubectl", "-n", argo, "delete", "pod", "--selector", "app=workflow-controller", "--wait=false")
    call("kubectl", "-n", argo, "rollout", "status", "deployment/workflow-controller", "--timeout=180s", seconds=200)
    workflow = place.ended(name)
    assert workflow.phase == "Succeeded", workflow.why()
    assert {attempts for phase, attempts in workflow.outcome().values() if phase == "Succeeded"} == {1}
    assert digests(place.download(tmp_path / "cube")) == ingested
