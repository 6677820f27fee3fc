"""Events on a cluster: none is lost by a receiver that is away, or by a terminated run, and no run waits for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from acdtask.errors import ErrorCode
from tests.cluster.conftest import NewPlace
from tests.cluster.receiver import Receiver
from tests.cluster.scenes import SCENE, monitor_of, parameters
from tests.cluster.tools import Json, Place, Workflow, call, until

HANDLER = "onExit.notify"


@pytest.fixture
def place(new_place: NewPlace, scene: Path, tmp_path: Path) -> Place:
    place = new_place("alerts")
    place.put_images(sorted((scene / "images").iterdir())[: SCENE.pairs - 1])
    url = f"http://receiver.{place.namespace}.svc.cluster.local:8080/events"
    place.install({"monitors": [monitor_of(scene)], "webhook": {"url": url}}, tmp_path)
    return place


def submit(place: Place) -> str:
    """A run as the schedule starts it."""
    return place.submit("workflowtemplate/acd-all", {**parameters(place.inbox), "event-monitor": "koln"})


def spans(workflow: Workflow, node: str) -> tuple[str, str]:
    """When a node began and ended."""
    return str(workflow.nodes[node]["startedAt"]), str(workflow.nodes[node]["finishedAt"])


def test_a_receiver_that_is_away_for_two_runs_gets_every_event_once_in_order(
    place: Place, scene: Path, record_property: Callable[[str, object], None]
) -> None:
    away = submit(place)
    until(lambda: HANDLER in place.workflow(away).nodes, "the exit handler", 300)
    place.put_images(sorted((scene / "images").iterdir()))
    alerting = submit(place)  # while the first is still asking its receiver
    first, second = place.ended(away), place.ended(alerting)
    assert (first.phase, second.phase) == ("Succeeded", "Succeeded"), f"{first.why()}\n{second.why()}"
    assert len(first.attempts(HANDLER)) == len(second.attempts(HANDLER)) == 4
    assert spans(second, "all.plan")[0] < spans(first, HANDLER)[1], "the second run waited for the first one's handler"

    terminated = submit(place)
    note = f"events/koln/runs/{place.get('workflow', terminated)['metadata']['uid']}.json"
    until(lambda: place.store.exists(note), "the note of the run", 120, pace=0.1)
    call("argo", "terminate", "--namespace", place.namespace, terminated)
    assert place.ended(terminated).phase == "Failed"
    assert HANDLER not in place.workflow(terminated).nodes

    receiver = Receiver(place)
    last = place.ended(submit(place))
    assert last.phase == "Succeeded", last.why()
    events: list[Json] = [letter["event"] for letter in receiver.letters()]
    names = [first.name, second.name, terminated, last.name]
    assert [event["source"].rpartition("/")[2] for event in events] == names
    kinds = [event["type"].rpartition(".")[2] for event in events]
    assert kinds == ["heartbeat", "alert", "failed", "heartbeat"]
    assert len({(event["source"], event["id"]) for event in events}) == 4
    assert [event["sequence"] for event in events] == sorted(event["sequence"] for event in events)
    assert {(event["data"]["monitor"], event["data"]["aoi"]) for event in events} == {("koln", "koln")}
    assert len(events[1]["data"]["images"]) == 1
    assert events[1]["data"]["patches"] > 0
    assert events[2]["data"]["status"] == "Stopped"
    assert events[2]["data"]["causes"][0]["error"] == ErrorCode.RUN_STOPPED.label
    record_property("attempts of the exit handler while the receiver was away", len(first.attempts(HANDLER)))


def test_a_run_that_is_stopped_is_told_once(place: Place) -> None:
    receiver = Receiver(place)
    stopped = submit(place)
    note = f"events/koln/runs/{place.get('workflow', stopped)['metadata']['uid']}.json"
    until(lambda: place.store.exists(note), "the note of the run", 120, pace=0.1)
    call("argo", "stop", "--namespace", place.namespace, stopped)
    ended = place.ended(stopped)
    assert ended.phase == "Failed", ended.why()
    assert HANDLER in ended.nodes
    after = place.ended(submit(place))
    assert after.phase == "Succeeded", after.why()
    events: list[Json] = [letter["event"] for letter in receiver.letters()]
    names = [(event["source"].rpartition("/")[2], event["type"].rpartition(".")[2]) for event in events]
    assert names == [(stopped, "failed"), (after.name, "heartbeat")]
