"""Makes, stores and loads plans.

A plan is stored below `runs/<job>/<plan id>/` as `plan.json`, with its shards as `shards/0000.json`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

from acdtask import __version__, log
from acdtask.engine.reopening import reopen
from acdtask.engine.rounds import find_gathering, folder_of, repair_hint
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.contract import WARNING, Job, Plan, PlanHead, Settings, Shard, Site, content_id_of
from acdtask.jobs.fence import newest_token, take_token
from acdtask.jobs.quarantine import LeftOut, unusable_of
from acdtask.storage.block_cache import BlockCache
from acdtask.storage.seal import is_sealed, parse_sealed, seal

__all__ = [
    "NAMED_AT_MOST",
    "AnyJob",
    "AnyPlan",
    "blocks_of",
    "load_plan",
    "load_plan_head",
    "load_shard",
    "make_plan",
    "open_site",
    "stale_error",
    "unusable_lines",
]

AnyJob = Job[Any, Any]
AnyPlan = Plan[Any, Any]
PlanT = TypeVar("PlanT", bound=PlanHead)
NAMED_AT_MOST = 10
PLAN_FORMAT = 4
"""Version of the stored form of plans, shards, tables and handouts. Raising it restarts interrupted plans; results do
not depend on it."""
PLAN_ATTEMPTS = 20

_events = log.events("engine")


def open_site(address: str, blocks: BlockCache | None = None) -> Site:
    """The site at a folder or s3:// address, with a cache for blocks of images. ADDRESS_INVALID."""
    return Site(address, blocks)


def blocks_of(job: AnyJob, *, one_unit: bool = False) -> AbstractContextManager[BlockCache | None]:
    """A cache for the blocks that a job reads, if it reads some of them again; not in one round of one unit."""
    return BlockCache.temporary() if job.read_again and not one_unit else nullcontext()


def make_plan(
    job: AnyJob,
    settings: Settings,
    site: Site,
    accept: Callable[[AnyPlan], None] = lambda _plan: None,
) -> AnyPlan:
    """Plan a job and store the plan, unless there is nothing to do or the same plan is already stored.

    A plan of a job that publishes under an AOI takes the next token of that AOI and job. If another plan takes it
    first, this plan may have read outdated state, and is made again.

    If `accept` raises, nothing is stored. STORE_CONTENDED.
    """
    area = job.fenced_area(settings)
    scope = f"{area}/{job.name}"
    for _ in range(PLAN_ATTEMPTS):
        token = newest_token(site.runs, scope) + 1 if area else 0
        plan, shards = _draft_plan(job, settings, site)
        if plan.nothing_to_do:
            return plan
        if job.plans_only_what_is_missing and find_gathering(plan, plan.rounds[-1], site) is not None:
            # Gathered but pending: another run has just published it, or its results were deleted.
            plan, shards = _draft_plan(job, settings, site)
            if plan.nothing_to_do:
                return plan
            reopen(job, plan, site)
        accept(plan)
        if WARNING in plan.notes:
            _events.warning("plan.warned", job=job.name, plan=plan.plan_id, text=plan.notes[WARNING])
        _store_plan(plan, shards, site)
        if not area:
            return plan
        if take_token(site.runs, scope, token, plan.plan_id):
            site.note_token(plan, token)
            return plan
    raise AcdError(ErrorCode.STORE_CONTENDED, f"{scope}: other plans overtook this one {PLAN_ATTEMPTS} times")


def _draft_plan(job: AnyJob, settings: Settings, site: Site) -> tuple[AnyPlan, list[dict[str, Any]]]:
    """Make the plan, and its shards as JSON values."""
    draft = job.plan(settings, site)
    content_id = content_id_of(job.name, job.algorithm, draft.content.identity(settings))
    shards = [shard.model_dump(mode="json") for shard in draft.shards]
    digest = hashlib.sha256(json.dumps([PLAN_FORMAT, content_id, shards], sort_keys=True).encode())
    plan = _plan_type(job)(
        job=job.name,
        plan_id=digest.hexdigest()[:16],
        content_id=content_id,
        version=__version__,
        settings=settings,
        content=draft.content,
        rounds=job.round_names if draft.rounds is None else draft.rounds,
        shards=len(shards),
        units=sum(shard.units for shard in draft.shards),
        estimate=draft.estimate,
        notes=draft.notes,
        nothing_to_do=draft.nothing_to_do,
        unusable=dict(draft.unusable),
        algorithm=job.algorithm,
        format=PLAN_FORMAT,
        series=draft.series,
    )
    return plan, shards


def _store_plan(plan: AnyPlan, shards: list[dict[str, Any]], site: Site) -> None:
    """Store the plan. If it is already stored, it is only replaced if damaged."""
    folder = folder_of(plan.job, plan.plan_id, site)
    stored = folder.find("plan.json")
    if stored is None or not is_sealed(stored):
        if stored is not None:
            _events.warning("plan.damaged", file=folder.address_of("plan.json"))
        for index, shard in enumerate(shards):
            folder.put(f"shards/{index:04d}.json", seal(json.dumps(shard).encode()))
        stored = seal(plan.model_dump_json(indent=1).encode())
    # A stored plan is rewritten unchanged, so that its age tells `acdtask tidy` that it is in use.
    folder.put("plan.json", stored)


def unusable_lines(plan: PlanHead, shards: Iterable[LeftOut] = ()) -> list[str]:
    """Sentences about the inputs that a plan and its shards could not use: their number, and the first by name."""
    failures = plan.unusable | unusable_of(shards)
    if not failures:
        return []
    lines = [f"not usable: {failure}" for failure in failures.values()]
    more = len(lines) - NAMED_AT_MOST
    count = f"{len(lines)} input{'' if len(lines) == 1 else 's'} cannot be used; the next run tries again"
    return [count, *lines[:NAMED_AT_MOST], *([f"not usable: and {more} more"] if more > 0 else [])]


def load_plan(job: AnyJob, plan_id: str, site: Site) -> AnyPlan:
    """Load a stored plan. PLAN_UNKNOWN, RUN_DAMAGED; PLAN_STALE if it was stored in another format."""
    load_plan_head(job.name, plan_id, site)
    return _stored_plan(_plan_type(job), job.name, plan_id, site)


def load_plan_head(job_name: str, plan_id: str, site: Site) -> PlanHead:
    """Load the part of a stored plan that does not depend on the job. Same errors as `load_plan`."""
    plan = _stored_plan(PlanHead, job_name, plan_id, site)
    if plan.format != PLAN_FORMAT:
        raise stale_error(plan)
    return plan


def stale_error(plan: PlanHead) -> AcdError:
    """The error for a plan made for another algorithm or stored in another format."""
    return AcdError(ErrorCode.PLAN_STALE, f"plan {plan.plan_id} was made by acd {plan.version}; this is {__version__}")


def _stored_plan(kind: type[PlanT], job_name: str, plan_id: str, site: Site) -> PlanT:
    folder = folder_of(job_name, plan_id, site)
    stored = folder.find("plan.json")
    if stored is None:
        raise AcdError(ErrorCode.PLAN_UNKNOWN, f"{job_name} has no plan {plan_id} at {site.address}")
    return parse_sealed(kind, stored, folder.address_of("plan.json"), ErrorCode.RUN_DAMAGED, repair_hint(folder))


def _plan_type(job: AnyJob) -> type[AnyPlan]:
    """The type of a job's plans, with its settings and content types."""
    kind: Any = Plan
    plan_type: type[AnyPlan] = kind[job.settings, job.content]
    return plan_type


def load_shard(job: AnyJob, plan: PlanHead, index: int, site: Site) -> Shard[Any]:
    """Load the work of a shard. SHARD_UNKNOWN, RUN_DAMAGED."""
    if not 0 <= index < plan.shards:
        raise AcdError(ErrorCode.SHARD_UNKNOWN, f"plan {plan.plan_id} has shards 0 to {plan.shards - 1}, not {index}")
    folder = folder_of(plan.job, plan.plan_id, site)
    key = f"shards/{index:04d}.json"
    stored = folder.find(key)
    if stored is None:
        raise AcdError(ErrorCode.RUN_DAMAGED, f"{folder.address_of(key)} is missing", repair_hint(folder))
    return parse_sealed(_shard_type(job), stored, folder.address_of(key), ErrorCode.RUN_DAMAGED, repair_hint(folder))


def _shard_type(job: AnyJob) -> type[Shard[Any]]:
    kind: Any = Shard
    shard_type: type[Shard[Any]] = kind[job.rounds[0].work_type]
    return shard_type
