"""The stages of a job, as every caller runs them: plan, run a shard, gather a round. Markers make them repeatable.

Below `runs/<job>/<plan id>/` lie `plan.json` and `shards/0000.json`; for each round `<round>/0000.table`, its marker
`<round>/0000.json`, `<round>/handouts/0000` and, once gathered, `<round>/gathered.json`. A marker is written last, so
whatever it names is whole; a stage that finds its marker does nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

from acdtask import __version__
from acdtask.cube.local.store import Store
from acdtask.engine.account import Meter, Work, current_run
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.contract import Job, Plan, Settings, Shard, Site, content_id_of

__all__ = [
    "gather_round",
    "gathered_rounds",
    "is_gathered",
    "load_plan",
    "load_shard",
    "make_plan",
    "missing_shards",
    "open_site",
    "run_shard",
]

AnyJob = Job[Any]
NAMED_AT_MOST = 10


def open_site(address: str, *, create: bool = False) -> Site:
    """The site at a folder or s3:// address; with create, a cube is made there if there is none. ADDRESS_INVALID."""
    site = Site(address)
    if create:
        site.create_cube()
    return site


def make_plan(job: AnyJob, settings: Settings, site: Site, accept: Callable[[Plan], None] = lambda _plan: None) -> Plan:
    """Plan a job and store the plan, unless there is nothing to do or the same plan is stored already.

    `accept` may raise: then nothing is stored.
    """
    draft = job.plan(settings, site)
    content_id = content_id_of(job.name, draft.content)
    shards = [shard.model_dump(mode="json") for shard in draft.shards]
    digest = hashlib.sha256(json.dumps([content_id, shards], sort_keys=True).encode())
    plan = Plan(
        job=job.name,
        plan_id=digest.hexdigest()[:16],
        content_id=content_id,
        version=__version__,
        settings=settings.model_dump(mode="json"),
        content=draft.content,
        rounds=job.rounds,
        shards=len(shards),
        units=sum(shard.units for shard in draft.shards),
        estimate=draft.estimate,
        notes=draft.notes,
        nothing_to_do=draft.nothing_to_do,
    )
    if plan.nothing_to_do:
        return plan
    accept(plan)
    folder = _folder(job.name, plan.plan_id, site)
    if not folder.exists("plan.json"):
        for index, shard in enumerate(shards):
            folder.put(f"shards/{index:04d}.json", json.dumps(shard).encode())
        folder.put("plan.json", plan.model_dump_json(indent=1).encode())
    return plan


def load_plan(job_name: str, plan_id: str, site: Site) -> Plan:
    """The stored plan. PLAN_UNKNOWN; PLAN_STALE if another version of acd made it."""
    stored = _folder(job_name, plan_id, site).find("plan.json")
    if stored is None:
        raise AcdError(ErrorCode.PLAN_UNKNOWN, f"{job_name} has no plan {plan_id} at {site.address}")
    plan = Plan.model_validate_json(stored)
    if plan.version != __version__:
        raise AcdError(ErrorCode.PLAN_STALE, f"plan {plan_id} was made by acd {plan.version}; this is {__version__}")
    return plan


def load_shard(plan: Plan, index: int, site: Site) -> Shard:
    """The work of a shard. SHARD_UNKNOWN."""
    if not 0 <= index < plan.shards:
        raise AcdError(ErrorCode.SHARD_UNKNOWN, f"plan {plan.plan_id} has shards 0 to {plan.shards - 1}, not {index}")
    return Shard.model_validate_json(_folder(plan.job, plan.plan_id, site).get(f"shards/{index:04d}.json"))


def run_shard(
    job: AnyJob,
    plan: Plan,
    round_name: str,
    index: int,
    site: Site,
    progress: Callable[[int], None] = lambda _done: None,
) -> None:
    """Do one shard of a round, unless its marker says that it is done. SHARD_UNKNOWN; SHARDS_MISSING."""
    _check_round(plan, round_name)
    shard = load_shard(plan, index, site)
    folder = _folder(job.name, plan.plan_id, site)
    if folder.exists(_marker(round_name, index)):
        return
    before = _round_before(plan, round_name)
    if before and not is_gathered(plan, before, site):
        raise AcdError(
            ErrorCode.SHARDS_MISSING,
            f"round {round_name} needs round {before}, which is not gathered",
            f"Run 'acdtask {job.name} gather --plan {plan.plan_id} --round {before}' first.",
        )
    meter = Meter()
    handout = folder.find(f"{round_name}/handouts/{index:04d}") or b""
    table = job.run(plan, round_name, shard, handout, site, progress)
    folder.put(f"{round_name}/{index:04d}.table", table)
    marker = {"plan": plan.plan_id, "round": round_name, "shard": index, "units": shard.units}
    marker["sha256"] = hashlib.sha256(table).hexdigest()
    folder.create(_marker(round_name, index), json.dumps(marker | meter.figures()).encode())


def gather_round(job: AnyJob, plan: Plan, round_name: str, site: Site) -> None:
    """Prove that every shard of the round is done, and join their tables. SHARDS_MISSING names those that are not."""
    _check_round(plan, round_name)
    if is_gathered(plan, round_name, site) and (_round_after(plan, round_name) or job.is_published(plan, site)):
        return
    missing = missing_shards(plan, round_name, site)
    if missing:
        named = ", ".join(map(str, missing[:NAMED_AT_MOST])) + (", ..." if len(missing) > NAMED_AT_MOST else "")
        raise AcdError(
            ErrorCode.SHARDS_MISSING,
            f"{len(missing)} of {plan.shards} shards of round {round_name} are not done: {named}",
        )
    folder, run = _folder(job.name, plan.plan_id, site), current_run()
    markers = [json.loads(folder.get(_marker(round_name, index))) for index in range(plan.shards)]
    handouts = job.gather(plan, round_name, _tables(round_name, markers, folder), site)
    after = _round_after(plan, round_name)
    if after:
        for index, handout in handouts.items():
            folder.put(f"{after}/handouts/{index:04d}", handout)
    work = Work.of_markers(markers).model_dump()
    gathered = {"plan": plan.plan_id, "round": round_name, "run": run, "work": work}
    folder.create(f"{round_name}/gathered.json", json.dumps(gathered).encode())


def gathered_rounds(plan: Plan, site: Site) -> dict[str, dict[str, Any]]:
    """What the first gather of each round left: `run`, which it was part of, and `work`, the sum over its shards."""
    folder = _folder(plan.job, plan.plan_id, site)
    return {name: json.loads(folder.get(f"{name}/gathered.json")) for name in plan.rounds}


def is_gathered(plan: Plan, round_name: str, site: Site) -> bool:
    """Whether the round is joined; for the last round: whether the job's results are published."""
    return _folder(plan.job, plan.plan_id, site).exists(f"{round_name}/gathered.json")


def missing_shards(plan: Plan, round_name: str, site: Site) -> list[int]:
    """The shards of a round that have no marker yet."""
    there = set(_folder(plan.job, plan.plan_id, site).list(round_name))
    return [index for index in range(plan.shards) if _marker(round_name, index) not in there]


def _tables(round_name: str, markers: list[dict[str, Any]], folder: Store) -> Iterator[bytes]:
    for index, marker in enumerate(markers):
        table = folder.get(f"{round_name}/{index:04d}.table")
        if hashlib.sha256(table).hexdigest() != marker["sha256"]:
            raise AcdError(
                ErrorCode.CUBE_DAMAGED, f"the table of shard {index} of round {round_name} is not what it was"
            )
        yield table


def _folder(job_name: str, plan_id: str, site: Site) -> Store:
    return site.runs.within(f"{job_name}/{plan_id}")


def _marker(round_name: str, index: int) -> str:
    return f"{round_name}/{index:04d}.json"


def _check_round(plan: Plan, round_name: str) -> None:
    if round_name not in plan.rounds:
        raise AcdError(ErrorCode.SHARD_UNKNOWN, f"{plan.job} has rounds {', '.join(plan.rounds)}, not {round_name}")


def _round_before(plan: Plan, round_name: str) -> str:
    position = plan.rounds.index(round_name)
    return plan.rounds[position - 1] if position else ""


def _round_after(plan: Plan, round_name: str) -> str:
    position = plan.rounds.index(round_name) + 1
    return plan.rounds[position] if position < len(plan.rounds) else ""
