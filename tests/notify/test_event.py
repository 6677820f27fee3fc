"""The event of a run, from the records of real stages."""

from __future__ import annotations

import contextlib
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from cloudevents.core.v1.event import CloudEvent

from acdtask.engine.run_summary import record_gathered, record_plan, recording_failure
from acdtask.engine.stages import gather_round, gathered_rounds, make_plan, open_site, run_shard
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.contract import Nothing, Plan, Site
from acdtask.notify.event import FinishedRun, Status, attributes_of, end_of, read_run, unreadable
from tests.conftest import CHECKOUT
from tests.engine.letters import LettersContext, LettersJob, LettersSettings, OneLetter, WriteLetter, Written

RUN = "6c5d3f6e-0000-4000-8000-000000000001"
JOB = LettersJob()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("ACD_RUN_ID", RUN)
    return open_site(str(tmp_path))


def planned(site: Site, **settings: Any) -> Plan[Any, Any]:
    given = LettersSettings(**settings)
    plan = make_plan(JOB, given, site)
    record_plan(plan, given, site)
    return plan


def finished(plan: Plan[Any, Any], site: Site) -> Plan[Any, Any]:
    for name in plan.rounds:
        for index in range(plan.shards):
            run_shard(JOB, plan, name, index, site)
        gather_round(JOB, plan, name, site)
    record_gathered(JOB, plan, gathered_rounds(plan, site), site)
    return plan


def failed(site: Site, stage: str, round_name: str = "", shard: int | None = None, detail: str = "b.tif") -> None:
    with pytest.raises(AcdError), recording_failure(site.address, JOB.name, stage, round_name, shard):
        raise AcdError(ErrorCode.INPUT_UNREADABLE, detail)


def told(site: Site, status: Status = "Succeeded") -> tuple[str, dict[str, Any]]:
    finished = FinishedRun(RUN, status, "koln", "acd-letters-x", "acd")
    event = end_of(finished, read_run(finished, site))
    attributes, data = event.attributes, event.data
    assert attributes["id"] == f"{RUN}-{status.lower()}"
    assert (attributes["source"], attributes["subject"]) == ("/namespaces/acd/workflows/acd-letters-x", "koln")
    return attributes["type"].rpartition(".")[2], data


def test_new_patches_are_an_alert(site: Site) -> None:
    finished(planned(site, images=2), site)
    kind, data = told(site)
    assert (kind, data["patches"], data["changed_area_m2"]) == ("alert", 4, 201.0)
    assert [image["label"] for image in data["images"]] == ["image-0", "image-1"]
    assert data["images"][0]["datetime"] == "2021-01-01T00:00:00Z"
    assert data["files"] == {"all": f"{site.address}/out/second.all"}
    (job,) = data["jobs"]
    assert (job["job"], job["outcome"], job["shards"], job["missing"]) == ("letters", "done", 3, [])
    assert (job["figures"], job["work"]["shards"]) == ({"letters": 3}, 6)
    assert data["causes"] == []


def test_work_without_patches_is_a_heartbeat(site: Site) -> None:
    finished(planned(site), site)
    kind, data = told(site)
    assert (kind, data["patches"], data["jobs"][0]["outcome"]) == ("heartbeat", 0, "done")


def test_nothing_to_do_is_a_heartbeat(site: Site) -> None:
    planned(site, letters="")
    kind, data = told(site)
    assert (kind, data["jobs"][0]["outcome"]) == ("heartbeat", "nothing to do")
    assert data["jobs"][0]["why"] == "there is no letter"


def test_a_run_that_judged_no_pixel_is_never_a_heartbeat() -> None:
    finished = FinishedRun(RUN, "Succeeded", "koln")
    kinds = [
        attributes_of(finished, {"patches": 0, "area_px": area, "judged_px": judged})["type"].rpartition(".")[2]
        for area, judged in ((100, 0), (100, 1), (0, 0))
    ]
    assert kinds == ["failed", "heartbeat", "heartbeat"]


def test_what_another_run_found_is_not_told_twice(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACD_RUN_ID", "earlier")
    finished(planned(site, images=2), site)
    monkeypatch.setenv("ACD_RUN_ID", RUN)
    finished(planned(site, images=2), site)
    kind, data = told(site)
    assert (kind, data["patches"], data["jobs"][0]["outcome"]) == ("heartbeat", 0, "done before")


def test_a_shard_that_was_left_out_is_told_although_the_run_went_well(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(site)
    run = WriteLetter.run

    def damaged(round_: WriteLetter, work: OneLetter, handout: Nothing, context: LettersContext) -> Written:
        if work.letter == "b":
            raise AcdError(ErrorCode.INPUT_UNREADABLE, "b.tif is damaged")
        return run(round_, work, handout, context)

    monkeypatch.setattr(WriteLetter, "run", damaged)
    for name in plan.rounds:
        for index in range(plan.shards):
            with contextlib.suppress(AcdError):
                run_shard(JOB, plan, name, index, site)
        gather_round(JOB, plan, name, site, quarantine=1)
    record_gathered(JOB, plan, gathered_rounds(plan, site), site)
    kind, data = told(site)
    (job,) = data["jobs"]
    assert (kind, job["outcome"], job["left_out_count"]) == ("heartbeat", "done", 1)
    assert "b.tif is damaged" in job["left_out"][0]


def test_a_failure_says_what_is_missing_and_why(site: Site) -> None:
    plan = planned(site)
    failed(site, "run", "first", 0)
    run_shard(JOB, plan, "first", 0, site)  # the second attempt went well
    failed(site, "run", "first", 1)
    failed(site, "run", "first", 2)
    failed(site, "gather", "first")
    kind, data = told(site, "Failed")
    assert kind == "failed"
    (job,) = data["jobs"]
    assert (job["outcome"], job["shards"], job["units"], job["work"]) == ("not done", 3, 6, {})
    assert job["missing"] == [{"round": "first", "shards": 2, "of": 3}, {"round": "second", "shards": 3, "of": 3}]
    assert [(cause["stage"], cause["error"], cause["pods"]) for cause in data["causes"]] == [
        ("gather", "ACD-201", 1),
        ("run", "ACD-201", 2),
    ]
    assert data["causes"][1]["detail"] == "b.tif"


@pytest.mark.parametrize("stage", ["run", "gather"])
def test_a_failure_of_small_work_is_a_cause_until_the_work_is_done(site: Site, stage: str) -> None:
    plan = planned(site)
    failed(site, stage, detail="the pod was stopped")
    kind, data = told(site, "Failed")
    assert (kind, [cause["detail"] for cause in data["causes"]]) == ("failed", ["the pod was stopped"])
    finished(plan, site)
    assert told(site)[1]["causes"] == []


def test_a_plan_that_failed_is_a_cause_without_a_job(site: Site) -> None:
    failed(site, "plan")
    kind, data = told(site, "Failed")
    assert (kind, data["jobs"]) == ("failed", [])
    assert [(cause["job"], cause["stage"], cause["name"]) for cause in data["causes"]] == [
        ("letters", "plan", "INPUT_UNREADABLE")
    ]


def test_a_failure_keeps_what_was_found_before_it(site: Site) -> None:
    finished(planned(site, images=1), site)
    failed(site, "run", "first", 1)  # and went well later
    kind, data = told(site, "Error")
    assert (kind, data["patches"], data["causes"]) == ("failed", 2, [])


def test_a_run_that_left_nothing_cannot_have_succeeded(site: Site) -> None:
    with pytest.raises(AcdError) as caught:
        told(site)
    assert (caught.value.code, caught.value.code.value.exit_status) == (ErrorCode.RUN_UNKNOWN, 66)
    kind, data = told(site, "Failed")
    assert (kind, data["jobs"], data["causes"]) == ("failed", [], [])


def test_a_store_that_cannot_be_read_is_a_cause_of_the_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("acdtask.storage.backend.RETRIES", 0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
        nowhere = open_site("s3://bucket/cube")
        with pytest.raises(AcdError, match="ACD-400"):
            told(nowhere)
        with pytest.raises(AcdError, match="ACD-400") as caught:
            told(nowhere, "Failed")
        data = end_of(FinishedRun(RUN, "Failed", "koln"), unreadable(caught.value)).data
        kind = attributes_of(FinishedRun(RUN, "Failed", "koln"), data)["type"].rpartition(".")[2]
    assert (kind, data["jobs"], data["patches"]) == ("failed", [], 0)
    assert [(cause["stage"], cause["error"]) for cause in data["causes"]] == [("notify", "ACD-400")]


def test_an_event_stays_below_what_has_to_be_forwarded(site: Site) -> None:
    finished(planned(site, images=3000), site)
    for shard in range(100):
        failed(site, "run", f"round-{shard}", detail="x" * 5000)
    _, data = told(site, "Failed")
    assert (len(data["images"]), data["images_left_out"], data["patches"]) == (200, 2800, 6000)
    assert data["images"][-1]["label"] == "image-2999"
    assert len(json.dumps(data)) < 64 * 1024


def test_the_example_of_the_page_has_the_fields_of_an_event(site: Site) -> None:
    page = (CHECKOUT / "docs/how-to/kubernetes.md").read_text()
    example = json.loads(page.partition("```json\n")[2].partition("```")[0])
    finished(planned(site, images=1), site)
    run = FinishedRun(RUN, "Succeeded", "koln", "acd-letters-x", "acd")
    data = end_of(run, read_run(run, site)).data
    assert set(example) == {*attributes_of(run, data), "time", "sequence", "data"}
    assert set(example["data"]) == set(data)
    assert set(example["data"]["images"][0]) == set(data["images"][0])
    assert set(example["data"]["jobs"][0]) == set(data["jobs"][0])
    assert set(example["data"]["jobs"][0]["work"]) == set(data["jobs"][0]["work"])


def test_the_source_is_a_reference_whatever_the_names() -> None:
    data = {"patches": 0}
    assert attributes_of(FinishedRun("r", "Failed", "koln"), data)["source"] == "/runs/r"
    assert attributes_of(FinishedRun("r", "Failed", "koln", "a b"), data)["source"] == "/workflows/a%20b"


def test_a_run_without_an_aoi_has_no_subject() -> None:
    attributes = attributes_of(FinishedRun("r", "Failed", ""), {"patches": 0})
    assert "subject" not in attributes
    CloudEvent(dict(attributes))
