"""The local engine: plans, runs shards in processes, gathers. If run again, it does only what is missing."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import Any

from acdtask import log
from acdtask.engine.processes import Progress, ProgressBar, WorkerPool
from acdtask.engine.stages import (
    blocks_of,
    gather_round,
    is_complete,
    load_plan,
    make_plan,
    missing_shards,
    open_site,
    run_shard,
    unusable_lines,
)
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.contract import AGAIN, Job, Plan, PlanHead, Settings
from acdtask.jobs.quarantine import Failure, LeftOut, unusable_of
from acdtask.jobs.registry import load_job
from acdtask.storage.block_cache import BlockCache

__all__ = ["LocalOutcome", "run_locally", "run_planned"]

_events = log.events("engine")


@dataclass(frozen=True)
class LocalOutcome:
    """Outcome of a local run: its plan, its seconds, sentences for its user, and unusable inputs by name."""

    plan: Plan[Any, Any]
    seconds: float
    lines: list[str] = field(default_factory=list)
    unusable: dict[str, Failure] = field(default_factory=dict)


@dataclass(frozen=True)
class _Item:
    """A shard to run, as sent to a worker."""

    job: str
    address: str
    plan_id: str
    round_name: str
    shard: int
    blocks: BlockCache | None

    def __str__(self) -> str:
        return f"shard {self.shard} of {self.job} {self.round_name}"


def run_locally(
    job: Job[Any, Any],
    settings: Settings,
    address: str,
    *,
    pool: WorkerPool,
    progress: bool | None = None,
    quarantine: int = 0,
    one_bar: bool = False,
) -> LocalOutcome:
    """Plan and run a job on this machine.

    Several jobs can share a `pool`. `quarantine` is the number of shards that may fail permanently and be left out, in
    all rounds together. `progress` says whether to draw a bar; None draws on a terminal only. `one_bar` draws one bar
    for all rounds instead of one for each.
    """
    begun = time.monotonic()
    site = open_site(address)
    plan = make_plan(job, settings, site)
    with contextlib.ExitStack() as bars:
        bar = None
        if one_bar and not plan.nothing_to_do:
            total = plan.units * len(plan.rounds)
            bar = bars.enter_context(ProgressBar(job.name, total, unit=job.unit, visible=progress))
        return run_planned(
            job, plan, address, pool=pool, progress=progress, quarantine=quarantine, bar=bar, begun=begun
        )


def run_planned(
    job: Job[Any, Any],
    plan: Plan[Any, Any],
    address: str,
    *,
    pool: WorkerPool,
    progress: bool | None = None,
    quarantine: int = 0,
    bar: ProgressBar | None = None,
    begun: float | None = None,
) -> LocalOutcome:
    """Run a stored plan on this machine, like `run_locally`. Completed shards and rounds are skipped.

    `progress` and `quarantine` are as in `run_locally`. `bar` is a single bar for all rounds, instead of one per round.
    `begun` is the monotonic time at which the work began; None means now.
    """
    begun = time.monotonic() if begun is None else begun
    site = open_site(address)
    _events.info("job.planned", job=job.name, plan=plan.plan_id, shards=plan.shards, units=plan.units)
    if plan.nothing_to_do:
        lines = [f"nothing to do: {plan.nothing_to_do}", *unusable_lines(plan)]
        return LocalOutcome(plan, time.monotonic() - begun, lines, plan.unusable)
    left_out: tuple[LeftOut, ...] = ()
    with blocks_of(job) as blocks:
        for round_name in plan.rounds:
            if not is_complete(plan, round_name, site):
                _run_round(job, plan, round_name, address, pool, progress, quarantine, bar, blocks)
            left_out = gather_round(job, plan, round_name, site, quarantine=quarantine)
            if bar is not None:
                bar.complete(plan.units * (plan.rounds.index(round_name) + 1))
            _events.info("round.gathered", job=job.name, round=round_name, left_out=len(left_out))
    seconds = time.monotonic() - begun
    _events.info("job.done", job=job.name, plan=plan.plan_id, seconds=round(seconds, 1))
    again = plan.notes.get(AGAIN, "") if not plan.units else ""
    unusable = unusable_of(left_out)
    lines = [f"done: {again or f'{plan.units - len(unusable)} {job.unit}'} in {seconds:.1f} s", *job.notes(plan, site)]
    lines += [f"left out: shard {shard}" for shard in left_out if not shard.unusable] + unusable_lines(plan, left_out)
    return LocalOutcome(plan, seconds, lines, plan.unusable | unusable)


def _run_round(
    job: Job[Any, Any],
    plan: PlanHead,
    round_name: str,
    address: str,
    pool: WorkerPool,
    progress: bool | None,
    quarantine: int,
    whole: ProgressBar | None,
    blocks: BlockCache | None,
) -> None:
    """Run the missing shards. Too many failures end the round, at its end if `checks` is set, otherwise at once."""
    site = open_site(address)
    missing = missing_shards(plan, round_name, site)
    items = [_Item(job.name, address, plan.plan_id, round_name, shard, blocks) for shard in missing]
    done = plan.units * (plan.shards - len(missing)) // plan.shards
    failures: dict[int, Exception] = {}

    def tolerate(item: _Item, error: Exception) -> bool:
        if not _is_permanent(error):
            return False
        failures[item.shard] = error
        _events.warning("shard.failed", job=job.name, round=round_name, shard=item.shard, error=str(error))
        return len(failures) <= quarantine or job.round(round_name).checks

    title = f"{job.name}: {round_name}"
    own = ProgressBar(title, plan.units, unit=job.unit, done=done, visible=progress)
    with own if whole is None else contextlib.nullcontext(whole) as bar:
        for _ in pool.map_unordered(_run_item, items, on_progress=bar.update, tolerate=tolerate):
            pass
    if len(failures) > quarantine:
        first = failures[min(failures)]
        if len(failures) > 1 and isinstance(first, AcdError):
            raise AcdError(first.code, f"{first.detail} (and {len(failures) - 1} more shards failed)", first.fix)
        raise first


def _is_permanent(error: Exception) -> bool:
    """Whether a shard may be left out for it: the same would happen again, or its process was killed."""
    if not isinstance(error, AcdError):
        return True
    return error.code is ErrorCode.WORKER_LOST or not error.code.value.retryable


def _run_item(item: _Item, progress: Progress) -> None:
    """In a worker: everything but the item is read from the store."""
    site = open_site(item.address, item.blocks)
    job = load_job(item.job)
    run_shard(job, load_plan(job, item.plan_id, site), item.round_name, item.shard, site, progress)
