"""A pod that plans does the work when its budget holds it, says so to the workflow, and goes on where it was killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from acdtask.engine.chain import END, advance
from acdtask.engine.run_summary import record_of_this_run
from acdtask.engine.small_work import Budget, JobOutcome, Way, do_or_hand_over
from acdtask.engine.stages import open_site
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.contract import Estimate, Job, Site
from acdtask.jobs.ingest.job import IngestJob
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.monitor.job import MonitorJob
from acdtask.jobs.monitor.settings import MonitorSettings
from tests.engine.test_pod import acdtask
from tests.jobs.chain import digests
from tests.jobs.rasters import good_pixels, write_tiff
from tests.jobs.small_site import LAYOUT, baseline, ends, make_cube, monitor, steady

PLENTY, ALWAYS_PODS = Budget(600, 2048), Budget(0, 0)
FILES, REFERENCE = 3, 5


@pytest.fixture
def settings(tmp_path: Path) -> IngestSettings:
    for number in range(FILES):
        write_tiff(tmp_path / f"source/S1_2021010{number + 1}_2021020{number + 1}.tif", good_pixels(number))
    return IngestSettings(source=str(tmp_path / "source"))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return open_site(str(tmp_path / "cube"))


def read(folder: Path) -> dict[str, str]:
    return {name: (folder / name).read_text() for name in ("way", "plan-id", "shards", "shard-count")}


def test_small_work_is_done_and_published(settings: IngestSettings, site: Site, tmp_path: Path) -> None:
    step = do_or_hand_over(IngestJob(), settings, site, PLENTY, tmp_path / "out")
    assert step.way is Way.HERE
    assert read(tmp_path / "out") == {
        "way": "here",
        "plan-id": step.plan.plan_id,
        "shards": "[]",
        "shard-count": "0",
    }
    assert (tmp_path / "out/figures/units").read_text() == str(FILES)
    assert len(list((tmp_path / "cube/data").rglob("*.tif"))) == FILES
    assert step.summary.startswith("done in this pod (0 s and ")


@pytest.mark.parametrize(
    "budget", [ALWAYS_PODS, Budget(0, 2048), Budget(600, 0), Budget(600, 100), Budget(0.001, 2048)]
)
def test_what_does_not_fit_is_planned_for_pods(
    settings: IngestSettings, site: Site, tmp_path: Path, budget: Budget
) -> None:
    step = do_or_hand_over(IngestJob(), settings, site, budget, tmp_path / "out")
    assert step.way is Way.PODS
    assert read(tmp_path / "out") == {
        "way": "pods",
        "plan-id": step.plan.plan_id,
        "shards": "[0]",
        "shard-count": "1",
    }
    assert (tmp_path / "out/shard-units").read_text() == str(FILES)
    assert not (tmp_path / "cube/data").exists()
    assert not (tmp_path / "out/figures").exists()
    assert "handed over to 1 shards" in step.summary


def test_nothing_to_do_is_neither(settings: IngestSettings, site: Site, tmp_path: Path) -> None:
    do_or_hand_over(IngestJob(), settings, site, PLENTY, tmp_path / "out")
    step = do_or_hand_over(IngestJob(), settings, site, PLENTY, tmp_path / "again")
    assert step.way is Way.NOTHING
    assert read(tmp_path / "again")["way"] == "nothing"
    assert step.summary == "nothing to do, all 3 records are already in the cube"


def test_a_second_attempt_of_the_same_run_tells_what_the_first_has_published(
    settings: IngestSettings, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACD_RUN_ID", "run-1")

    def killed(*_given: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("acdtask.engine.small_work.record_gathered", killed)
        with pytest.raises(KeyboardInterrupt):
            do_or_hand_over(IngestJob(), settings, site, PLENTY, tmp_path / "out")
    made = digests(tmp_path / "cube")
    again = do_or_hand_over(IngestJob(), settings, site, PLENTY, tmp_path / "again")
    assert again.way is Way.HERE
    assert (tmp_path / "again/figures/units").read_text() == str(FILES)
    assert digests(tmp_path / "cube") == made
    record = record_of_this_run("ingest", site)
    assert record is not None
    assert (record.gathered, record.gathered_before) == (True, False)
    once_more = do_or_hand_over(IngestJob(), settings, site, PLENTY, tmp_path / "more")
    assert (once_more.way, once_more.plan) == (Way.HERE, again.plan)

    monkeypatch.setenv("ACD_RUN_ID", "run-2")
    assert do_or_hand_over(IngestJob(), settings, site, PLENTY, tmp_path / "other").way is Way.NOTHING


def test_other_settings_in_the_same_run_are_another_plan(
    settings: IngestSettings, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACD_RUN_ID", "run-1")
    first = do_or_hand_over(IngestJob(), settings, site, ALWAYS_PODS, tmp_path / "out")
    other = settings.model_copy(update={"instance": "other"})
    assert do_or_hand_over(IngestJob(), other, site, ALWAYS_PODS, tmp_path / "again").plan.plan_id != first.plan.plan_id


def test_a_damaged_plan_of_the_first_attempt_is_made_again(
    settings: IngestSettings, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACD_RUN_ID", "run-1")
    first = do_or_hand_over(IngestJob(), settings, site, ALWAYS_PODS, tmp_path / "out")
    site.runs.put(f"ingest/{first.plan.plan_id}/plan.json", b"{")
    again = do_or_hand_over(IngestJob(), settings, site, PLENTY, tmp_path / "again")
    assert (again.way, again.plan.plan_id) == (Way.HERE, first.plan.plan_id)


def test_the_budget_is_for_all_jobs_of_a_pod_together() -> None:
    budget = Budget(100, 512).without(Estimate(core_seconds=60))
    assert budget.covers(Estimate(core_seconds=40))
    assert not budget.covers(Estimate(core_seconds=41))
    assert Budget(10, 512).without(Estimate(core_seconds=60)).covers(Estimate(core_seconds=0))
    assert not ALWAYS_PODS.without(Estimate(core_seconds=60)).covers(Estimate())


def test_a_chain_ends_at_the_first_job_that_is_too_large(settings: IngestSettings, site: Site, tmp_path: Path) -> None:
    class Second(IngestJob):
        name = "consolidate"

    class Third(IngestJob):
        name = "baseline"

    told: list[str] = []

    def tell(job: Job[Any, Any], step: JobOutcome) -> None:
        told.append(f"{job.name} {step.way.value}")

    steps = advance(
        [IngestJob(), Second(), Third()], lambda _job: settings, site, ALWAYS_PODS, tmp_path / "out", report=tell
    )
    assert [step.way for step in steps] == [Way.PODS]
    assert told == ["ingest pods"]
    assert (tmp_path / "out/next").read_text() == "consolidate"
    assert (tmp_path / "out/baseline/way").read_text() == "later"
    whole = advance([IngestJob(), Second()], lambda _job: settings, site, PLENTY, tmp_path / "whole")
    assert [step.way for step in whole] == [Way.HERE, Way.NOTHING]
    assert (tmp_path / "whole/next").read_text() == END
    assert advance([IngestJob()], lambda _job: settings, site, PLENTY, tmp_path / "last")[0].way is Way.NOTHING


def test_the_command_says_what_it_did_and_refuses_what_it_does_not_know(
    settings: IngestSettings, tmp_path: Path
) -> None:
    cube, outputs = tmp_path / "cube", str(tmp_path / "out")
    plan = ["ingest", "plan", "--parameter", f"source={settings.source}", "--outputs", outputs]
    done = acdtask(*plan, "--here-seconds", "60", cube=cube)
    assert done.returncode == 0, done.stderr
    assert "ingest: done in this pod" in done.stdout
    assert "ingest: done: 3 files in " in done.stdout

    refused = acdtask("ingest", "plan", "--source", settings.source, "--here-seconds", "60", cube=cube)
    assert refused.returncode == 2
    assert "needs --outputs" in refused.stderr
    for wrong, said in (("soon", "is not a number of seconds"), ("-1", "is not a number of seconds")):
        refused = acdtask(*plan, "--here-seconds", wrong, cube=cube)
        assert (refused.returncode, said in refused.stderr) == (2, True), refused.stderr
    refused = acdtask("chain", "--outputs", outputs, "--parameter", "source=here", cube=cube)
    assert refused.returncode == 78
    assert "but must be JOB.NAME=VALUE, with a job of ingest, consolidate" in refused.stderr
    refused = acdtask("chain", "--outputs", outputs, "--parameter", "report.height=3", cube=cube)
    assert refused.returncode == 78
    assert "but must be NAME=VALUE with the name of a setting" in refused.stderr


def test_a_chain_that_cannot_do_its_first_job_says_why(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere")
    given = ["--outputs", str(tmp_path / "out"), "--parameter", f"ingest.source={nowhere}"]
    refused = acdtask("chain", *given, cube=tmp_path / "cube", ACD_RUN_ID="run-1", ACD_LOG="json")
    assert refused.returncode == 66
    event = json.loads(refused.stderr.splitlines()[-1])
    assert nowhere in event["detail"]
    note = json.loads((tmp_path / "cube/runs/workflows/run-1/errors/ingest.plan.json").read_text())
    assert nowhere in json.dumps(note)


def test_a_plan_that_no_workflow_can_carry_is_done_here_if_it_is_small(
    settings: IngestSettings, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acdtask.engine.workflow_limits.MAX_SHARD_ROUNDS", 1)
    with pytest.raises(AcdError) as caught:
        do_or_hand_over(IngestJob(), settings, site, ALWAYS_PODS, tmp_path / "out")
    assert caught.value.code is ErrorCode.PLAN_TOO_LARGE
    assert do_or_hand_over(IngestJob(), settings, site, PLENTY, tmp_path / "out").way is Way.HERE


def test_a_plan_that_only_publishes_needs_no_pod(tmp_path: Path) -> None:
    cube = make_cube(tmp_path, REFERENCE + 1, steady(REFERENCE))
    baseline(cube, end=ends(REFERENCE - 1))
    for high in (3.0, 4.0):
        monitor(cube, high=high, min_count=REFERENCE)
    settings = MonitorSettings(aoi=str(tmp_path / "aoi.json"), layout=LAYOUT, high=3.0, min_count=REFERENCE)
    step = do_or_hand_over(MonitorJob(), settings, open_site(str(cube)), ALWAYS_PODS, tmp_path / "out")
    assert (step.way, step.plan.units, step.plan.shards) == (Way.HERE, 0, 1)
    assert read(tmp_path / "out")["shards"] == "[]"
    again = do_or_hand_over(MonitorJob(), settings, open_site(str(cube)), ALWAYS_PODS, tmp_path / "again")
    assert again.way is Way.NOTHING
