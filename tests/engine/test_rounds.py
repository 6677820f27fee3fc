"""Rounds have types, and a plan names those that it needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from acdtask.engine.local import run_planned
from acdtask.engine.pod import NEEDED, write_plan
from acdtask.engine.processes import WorkerPool
from acdtask.engine.stages import gather_round, load_plan, load_plan_head, make_plan, open_site, run_shard
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.contract import Content, Context, Handouts, Nothing, Results, Round, Site
from acdtask.jobs.registry import JOBS, load_job
from acdtask.storage.seal import seal
from tests.engine.letters import FirstRound, LettersJob, LettersSettings, OneLetter, Written

JOB = LettersJob()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return open_site(str(tmp_path))


def do(plan: Any, site: Site) -> None:
    for name in plan.rounds:
        for index in range(plan.shards):
            run_shard(JOB, plan, name, index, site)
        gather_round(JOB, plan, name, site)


def test_a_plan_has_all_rounds_unless_it_names_those_that_it_needs(site: Site) -> None:
    assert make_plan(JOB, LettersSettings(), site).rounds == ("first", "second")
    assert make_plan(JOB, LettersSettings(skip_first=True), site).rounds == ("second",)


def test_a_round_that_a_plan_does_without_is_not_done(site: Site) -> None:
    plan = make_plan(JOB, LettersSettings(skip_first=True), site)
    do(plan, site)
    assert site.store.get("out/second.all") == b"abc"
    assert site.store.list("out/first") == []
    for stage in (lambda: run_shard(JOB, plan, "first", 0, site), lambda: gather_round(JOB, plan, "first", site)):
        with pytest.raises(AcdError, match=rf"plan {plan.plan_id} of letters has rounds second, not first") as raised:
            stage()
        assert raised.value.code is ErrorCode.SHARD_UNKNOWN


def test_the_local_engine_skips_it_too(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("acdtask.engine.local.load_job", lambda _name: JOB)
    plan = make_plan(JOB, LettersSettings(skip_first=True), site)
    with WorkerPool(0) as pool:
        run_planned(JOB, plan, site.address, pool=pool, progress=False)
    assert site.store.get("out/second.all") == b"abc"
    assert site.store.list("out/first") == []


def test_a_workflow_is_told_which_rounds_are_needed(site: Site, tmp_path: Path) -> None:
    write_plan(make_plan(JOB, LettersSettings(skip_first=True), site), tmp_path / "out")
    rounds = {path.name: path.read_text() for path in (tmp_path / "out").glob("round-*")}
    assert rounds == {"round-second": NEEDED}


def test_a_plan_comes_back_with_the_types_of_its_job(site: Site) -> None:
    plan = make_plan(JOB, LettersSettings(letters="xy"), site)
    loaded = load_plan(JOB, plan.plan_id, site)
    assert loaded == plan
    assert isinstance(loaded.settings, LettersSettings)
    assert isinstance(loaded.content, Content)
    head = load_plan_head("letters", plan.plan_id, site)
    assert (head.rounds, head.shards) == (plan.rounds, plan.shards)


def test_settings_are_in_one_place_of_a_plan(site: Site) -> None:
    plan = make_plan(JOB, LettersSettings(letters="xy"), site)
    stored = json.loads(plan.model_dump_json())
    assert stored["settings"] == {"letters": "xy", "images": 0, "skip_first": False}
    assert stored["content"] == {}


def test_a_round_knows_its_types_from_its_declaration() -> None:
    round_ = FirstRound()
    assert (round_.work_type, round_.handout_type, round_.result_type) == (OneLetter, Nothing, Written)


@pytest.mark.parametrize("name", JOBS)
def test_rounds_of_all_jobs_have_types_that_fit_each_other(name: str) -> None:
    job = load_job(name)
    assert {round_.work_type for round_ in job.rounds} == {job.rounds[0].work_type}
    assert len(set(job.round_names)) == len(job.rounds)
    for round_ in job.rounds:
        assert isinstance(round_.handout_type(), BaseModel), "a shard without a handout gets an empty one"
        assert issubclass(round_.result_type, BaseModel)
    assert not job.rounds[-1].optional, "the last round publishes"


class Wrong(BaseModel):
    number: int = 0


def test_a_result_of_another_type_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FirstRound, "run", lambda *_: Wrong())
    plan = make_plan(JOB, LettersSettings(), site)
    with pytest.raises(TypeError, match="expected Written, got Wrong"):
        run_shard(JOB, plan, "first", 0, site)


def test_a_handout_of_another_type_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FirstRound, "gather", lambda *_: Handouts({0: Wrong()}))
    plan = make_plan(JOB, LettersSettings(letters="a"), site)
    run_shard(JOB, plan, "first", 0, site)
    with pytest.raises(TypeError, match="expected Nothing, got Wrong"):
        gather_round(JOB, plan, "first", site)


class Told(BaseModel):
    text: str = ""


class Tell(Round[OneLetter, Told, Written]):
    """Gets the letters of all shards, and a memo."""

    name = "second"

    def run(self, work: OneLetter, handout: Told, context: Context[Any, Any]) -> Written:
        return Written(text=f"{work.letter}{handout.text}")

    def gather(self, results: Results[OneLetter, Written], context: Context[Any, Any]) -> Handouts[Nothing]:
        texts = [written.text for _, written in results]
        context.site.store.put("out/told", json.dumps([*texts, results.memo(Told).text]).encode())
        return Handouts()


def test_a_gather_leaves_handouts_and_a_memo(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard that it leaves nothing for gets an empty handout."""

    def gather(_: FirstRound, results: Results[OneLetter, Written], context: Context[Any, Any]) -> Handouts[Told]:
        text = "".join(written.text for _, written in results)
        return Handouts({0: Told(text=text)}, Told(text="memo"))

    rounds: tuple[Round[Any, Any, Any], ...] = (FirstRound(), Tell())
    monkeypatch.setattr(FirstRound, "gather", gather)
    monkeypatch.setattr(LettersJob, "rounds", rounds)
    do(make_plan(JOB, LettersSettings(letters="ab"), site), site)
    assert json.loads(site.store.get("out/told")) == ["aab", "b", "memo"]


def test_a_plan_that_was_stored_in_another_format_is_stale_and_not_damaged(site: Site) -> None:
    """As one of acd 0.1.0, whose content was another, and which named no format."""
    plan = make_plan(JOB, LettersSettings(), site)
    key = f"letters/{plan.plan_id}/plan.json"
    old = {**json.loads(plan.model_dump_json(exclude={"format"})), "content": {"letters": "abc", "images": 0}}
    site.runs.put(key, seal(json.dumps(old).encode()))
    with pytest.raises(AcdError) as raised:
        load_plan(JOB, plan.plan_id, site)
    assert raised.value.code is ErrorCode.PLAN_STALE
    with pytest.raises(AcdError) as raised:
        load_plan_head("letters", plan.plan_id, site)
    assert raised.value.code is ErrorCode.PLAN_STALE
