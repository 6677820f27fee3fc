"""The stages of a job, as every caller runs them: plan, run a shard, gather a round. Markers make them repeatable.

Below `runs/<job>/<plan id>/` lie `plan.json` and `shards/0000.json`, and what `acdtask.engine.rounds` keeps of each
round. A marker is written last, so whatever it names is whole; a stage that finds its marker does nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

from acdtask import __version__
from acdtask.cube.local.seal import is_sealed, parse_sealed, seal
from acdtask.cube.local.store import Store
from acdtask.engine import log
from acdtask.engine.account import Meter, Work, current_run
from acdtask.engine.reopening import reopen
from acdtask.engine.rounds import (
    EncodedHandouts,
    Gathering,
    RoundState,
    ShardError,
    digest_of,
    find_gathering,
    way_out,
)
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.codec import decode, encode
from acdtask.jobs.contract import (
    Context,
    Handouts,
    Job,
    LeftOutShard,
    Nothing,
    Plan,
    PlanHead,
    Results,
    Round,
    Settings,
    Shard,
    Site,
    content_id_of,
)
from acdtask.jobs.fence import newest_token, take_token
from acdtask.jobs.quarantine import Failure, LeftOut, PartlyFailedError

__all__ = [
    "gather_round",
    "gathered_rounds",
    "is_complete",
    "left_out_by",
    "load_plan",
    "load_plan_head",
    "load_shard",
    "make_plan",
    "missing_shards",
    "open_site",
    "run_shard",
    "shard_errors",
]

AnyJob = Job[Any, Any]
AnyPlan = Plan[Any, Any]
PlanT = TypeVar("PlanT", bound=PlanHead)
NAMED_AT_MOST = 10
PLAN_FORMAT = 1
"""Raise it when plans, shards, tables or handouts are stored differently: interrupted plans then start anew. Results do
not depend on it."""
PLAN_ATTEMPTS = 20

_events = log.events("engine")


def open_site(address: str, *, create: bool = False) -> Site:
    """The site at a folder or s3:// address; with create, a cube is made there if there is none. ADDRESS_INVALID."""
    site = Site(address)
    if create:
        site.create_cube()
    return site


def make_plan(
    job: AnyJob,
    settings: Settings,
    site: Site,
    accept: Callable[[AnyPlan], None] = lambda _plan: None,
    *,
    quarantine: int = 0,
) -> AnyPlan:
    """Plan a job and store the plan, unless there is nothing to do or the same plan is stored already.

    A plan of a job that publishes under an AOI takes the next token of the AOI and the job. If another plan took it
    meanwhile, what this one has read may be old, and it is made again.

    `accept` may raise: then nothing is stored. At most `quarantine` inputs may fail for good while planning; beyond
    that all of them are named, with the error of the first. STORE_CONTENDED.
    """
    area = job.fenced_area(settings)
    place = f"{area}/{job.name}"
    for _ in range(PLAN_ATTEMPTS):
        token = newest_token(site.runs, place) + 1 if area else 0
        plan, shards = _drafted(job, settings, site, quarantine)
        if plan.nothing_to_do:
            return plan
        if job.plans_only_what_is_missing and find_gathering(plan, plan.rounds[-1], site) is not None:
            # Done before, and to be done: by another run just now, or what it published is gone since.
            plan, shards = _drafted(job, settings, site, quarantine)
            if plan.nothing_to_do:
                return plan
            reopen(job, plan, site)
        accept(plan)
        _store_plan(plan, shards, site)
        if not area:
            return plan
        if take_token(site.runs, place, token, plan.plan_id):
            site.note_token(plan, token)
            return plan
    raise AcdError(ErrorCode.STORE_CONTENDED, f"{place} was planned by others {PLAN_ATTEMPTS} times")


def _drafted(job: AnyJob, settings: Settings, site: Site, quarantine: int) -> tuple[AnyPlan, list[dict[str, Any]]]:
    """The plan, and its shards as JSON values."""
    draft = job.plan(settings, site)
    if len(draft.left_out) > quarantine:
        raise _too_many_left_out(draft.left_out, quarantine)
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
        left_out=dict(draft.left_out),
        algorithm=job.algorithm,
        format=PLAN_FORMAT,
        series=draft.series,
    )
    return plan, shards


def _too_many_left_out(left_out: Mapping[str, Failure], quarantine: int) -> AcdError:
    """The error of the first input that a plan cannot use, with all of them, a bounded number by name."""
    first, *others = left_out.values()
    code = next(code for code in ErrorCode if code.value.number == first.number)
    count = len(left_out)
    fix = f"{first.fix} Or leave {'it' if count == 1 else 'all of them'} out with --quarantine {count}."
    if not others:
        return AcdError(code, first.message, fix)
    same = all(failure.number == first.number for failure in others)
    named = [failure.message if same else str(failure) for failure in (first, *others)]
    more = f"; and {count - NAMED_AT_MOST} more" if count > NAMED_AT_MOST else ""
    allowed = f", and {quarantine} may be left out" if quarantine else ""
    return AcdError(code, f"{count} inputs cannot be used{allowed}: {'; '.join(named[:NAMED_AT_MOST])}{more}", fix)


def _store_plan(plan: AnyPlan, shards: list[dict[str, Any]], site: Site) -> None:
    """Store the plan. One that is stored already stays as it is, unless it is damaged."""
    folder = _folder(plan.job, plan.plan_id, site)
    stored = folder.find("plan.json")
    if stored is None or not is_sealed(stored):
        if stored is not None:
            _events.warning("plan.damaged", file=folder.address_of("plan.json"))
        for index, shard in enumerate(shards):
            folder.put(f"shards/{index:04d}.json", seal(json.dumps(shard).encode()))
        stored = seal(plan.model_dump_json(indent=1).encode())
    # A stored plan is written again as it is: `acdtask tidy` sees by its age that it is in use again.
    folder.put("plan.json", stored)


def left_out_by(plan: PlanHead) -> list[str]:
    """Sentences about the inputs that a plan left out: how many, and a bounded number by name."""
    if not plan.left_out:
        return []
    told = [f"left out: {failure}" for failure in plan.left_out.values()]
    more = len(told) - NAMED_AT_MOST
    count = f"{len(told)} input{'' if len(told) == 1 else 's'} left out, to be tried again by the next run"
    return [count, *told[:NAMED_AT_MOST], *([f"left out: and {more} more"] if more > 0 else [])]


def load_plan(job: AnyJob, plan_id: str, site: Site) -> AnyPlan:
    """The stored plan. PLAN_UNKNOWN, RUN_DAMAGED; PLAN_STALE if it was stored in another format."""
    load_plan_head(job.name, plan_id, site)
    return _stored_plan(_plan_type(job), job.name, plan_id, site)


def load_plan_head(job_name: str, plan_id: str, site: Site) -> PlanHead:
    """What the stored plan says to those who do not know the job. The same errors as `load_plan`."""
    plan = _stored_plan(PlanHead, job_name, plan_id, site)
    if plan.format != PLAN_FORMAT:
        raise _stale(plan)
    return plan


def _stale(plan: PlanHead) -> AcdError:
    return AcdError(ErrorCode.PLAN_STALE, f"plan {plan.plan_id} was made by acd {plan.version}; this is {__version__}")


def _stored_plan(kind: type[PlanT], job_name: str, plan_id: str, site: Site) -> PlanT:
    folder = _folder(job_name, plan_id, site)
    stored = folder.find("plan.json")
    if stored is None:
        raise AcdError(ErrorCode.PLAN_UNKNOWN, f"{job_name} has no plan {plan_id} at {site.address}")
    return parse_sealed(kind, stored, folder.address_of("plan.json"), ErrorCode.RUN_DAMAGED, way_out(folder))


def _plan_type(job: AnyJob) -> type[AnyPlan]:
    """The type of a job's plans: with its settings and content."""
    kind: Any = Plan
    plan_type: type[AnyPlan] = kind[job.settings, job.content]
    return plan_type


def load_shard(job: AnyJob, plan: PlanHead, index: int, site: Site) -> Shard[Any]:
    """The work of a shard. SHARD_UNKNOWN, RUN_DAMAGED."""
    if not 0 <= index < plan.shards:
        raise AcdError(ErrorCode.SHARD_UNKNOWN, f"plan {plan.plan_id} has shards 0 to {plan.shards - 1}, not {index}")
    folder = _folder(plan.job, plan.plan_id, site)
    key = f"shards/{index:04d}.json"
    stored = folder.find(key)
    if stored is None:
        raise AcdError(ErrorCode.RUN_DAMAGED, f"{folder.address_of(key)} is missing", way_out(folder))
    return parse_sealed(_shard_type(job), stored, folder.address_of(key), ErrorCode.RUN_DAMAGED, way_out(folder))


def _shard_type(job: AnyJob) -> type[Shard[Any]]:
    kind: Any = Shard
    shard_type: type[Shard[Any]] = kind[job.rounds[0].work_type]
    return shard_type


def run_shard(
    job: AnyJob,
    plan: AnyPlan,
    round_name: str,
    index: int,
    site: Site,
    progress: Callable[[int], None] = lambda _done: None,
) -> LeftOut | None:
    """Do one shard of a round, unless its marker says that it is done. SHARD_UNKNOWN; SHARDS_MISSING.

    If the work fails for good, the error is kept for `gather_round` and raised.

    Returns:
        None, or why there was nothing to do: the shard was left out in an earlier round.
    """
    _check_round(job, plan, round_name)
    shard = load_shard(job, plan, index, site)
    round_, state = job.round(round_name), _prepared(job, plan, round_name, site)
    if index not in state.stems:
        return next(one for one in state.before.left_out if one.shard == index)
    if state.is_done(index):
        return None
    meter = Meter()

    def encoded(result: BaseModel) -> bytes:
        return encode(result, round_.result_type)

    try:
        handout = _handout(round_, state, index)
        table = encoded(round_.run(shard.work, handout, Context(plan, site, progress)))
    except Exception as error:
        if not isinstance(error, AcdError) or not error.code.value.retryable:
            with contextlib.suppress(AcdError):  # the error itself is what matters
                state.keep_error(index, error, encoded)
        if isinstance(error, PartlyFailedError):
            raise AcdError(error.code, error.detail, error.fix) from error
        raise
    state.keep_table(index, shard.units, table, meter)
    return None


def _handout(round_: Round[Any, Any, Any], state: RoundState, index: int) -> Any:
    """What the gather before left for a shard; an empty handout if it left none."""
    handout = state.handout(index)
    return decode(handout, round_.handout_type) if handout else round_.handout_type()


def gather_round(
    job: AnyJob, plan: AnyPlan, round_name: str, site: Site, *, quarantine: int = 0
) -> tuple[LeftOut, ...]:
    """Prove that every shard of the round is done, but for so many that failed for good, and join their tables.

    Args:
        job: the job.
        plan: its plan.
        round_name: the round.
        site: where the job works.
        quarantine: shards that may be missing, in all rounds together; inputs that the plan left out count too.

    Returns:
        The shards that are left out.

    Raises:
        AcdError: SHARDS_FAILED if more are missing and all of them said why, SHARDS_MISSING if one did not.
    """
    _check_round(job, plan, round_name)
    round_, state = job.round(round_name), _prepared(job, plan, round_name, site)
    known = state.gathering()
    if known is not None and not known.left_out and _stands(job, plan, round_name, site):
        return ()
    missing = state.missing()
    errors = state.errors(missing)
    left_out = _left_out(job, plan, state, missing, errors, site)
    markers = state.markers(missing)
    digests = state.digests(markers, errors)
    if (left_out and len(left_out) + len(plan.left_out) > quarantine) or not digests:
        raise _refusal(plan, state, missing, errors, left_out, quarantine)
    if known is not None and known.joined == digests and _stands(job, plan, round_name, site):
        return known.left_out
    tables = state.tables(digests, missing)
    results = Results(
        numbered=((index, decode(table, round_.result_type)) for index, table in tables),
        left_out=tuple(LeftOutShard(why, load_shard(job, plan, why.shard, site).work) for why in left_out),
        encoded_memo=state.memo(),
    )
    handouts = _encoded(round_.gather(results, Context(plan, site)), job, plan, round_name)
    gathering = Gathering(
        plan=plan.plan_id,
        round=round_name,
        joined=digests,
        left_out=left_out,
        handouts=handouts.digests,
        memo=digest_of(handouts.memo) if handouts.memo else "",
        run=current_run(),
        work=Work.of_markers(markers.values()),
    )
    state.keep_gathering(gathering, handouts)
    return left_out


def _encoded(handouts: Handouts[Any], job: AnyJob, plan: PlanHead, round_name: str) -> EncodedHandouts:
    """The handouts of a gather, each of the type that the next round of the plan asks for."""
    place = plan.rounds.index(round_name) + 1
    kind = job.round(plan.rounds[place]).handout_type if place < len(plan.rounds) else Nothing
    return EncodedHandouts(
        {index: encode(handout, kind) for index, handout in handouts.shards.items()},
        encode(handouts.memo, type(handouts.memo)) if handouts.memo is not None else b"",
    )


def gathered_rounds(plan: PlanHead, site: Site) -> dict[str, Gathering]:
    """The gathering of each round that counts, of a plan whose rounds are all gathered."""
    found = {name: find_gathering(plan, name, site) for name in plan.rounds}
    return {name: gathering for name, gathering in found.items() if gathering is not None}


def is_complete(plan: PlanHead, round_name: str, site: Site) -> bool:
    """Whether the round is joined, with nothing left out; for the last round: whether all results are published."""
    gathering = find_gathering(plan, round_name, site)
    return gathering is not None and not gathering.left_out


def missing_shards(plan: PlanHead, round_name: str, site: Site) -> list[int]:
    """The shards of a round that are not done for what the round before hands out now."""
    state = RoundState.find(plan, round_name, site)
    return list(range(plan.shards)) if state is None else state.missing()


def shard_errors(plan: PlanHead, round_name: str, site: Site) -> dict[int, ShardError]:
    """Why missing shards of a round failed for good, as far as they said it."""
    state = RoundState.find(plan, round_name, site)
    return {} if state is None else state.errors(state.missing())


def _prepared(job: AnyJob, plan: PlanHead, round_name: str, site: Site) -> RoundState:
    """What is kept of a round. SHARDS_MISSING if the one before it is not gathered."""
    state = RoundState.find(plan, round_name, site)
    if state is None:
        before = plan.rounds[plan.rounds.index(round_name) - 1]
        raise AcdError(
            ErrorCode.SHARDS_MISSING,
            f"round {round_name} needs round {before}, which is not gathered",
            f"Run 'acdtask {job.name} gather --plan {plan.plan_id} --round {before}' first.",
        )
    return state


def _stands(job: AnyJob, plan: AnyPlan, round_name: str, site: Site) -> bool:
    """Whether what the gather of a round published is still there; rounds before the last publish nothing."""
    return round_name != plan.rounds[-1] or job.is_published(plan, site)


def _left_out(
    job: AnyJob, plan: PlanHead, state: RoundState, missing: list[int], errors: dict[int, ShardError], site: Site
) -> tuple[LeftOut, ...]:
    found = {one.shard: one for one in state.before.left_out}
    for index in missing:
        error = errors.get(index)
        failure = Failure(**error.model_dump(include=set(Failure.model_fields))) if error else Failure()
        found[index] = LeftOut(
            shard=index,
            failure=failure,
            names=load_shard(job, plan, index, site).work.names,
            parts=error.parts if error else {},
        )
    return tuple(found[index] for index in sorted(found))


def _refusal(
    plan: PlanHead,
    state: RoundState,
    missing: list[int],
    errors: dict[int, ShardError],
    left_out: tuple[LeftOut, ...],
    quarantine: int,
) -> AcdError:
    named = [f"{index} ({errors[index]})" if index in errors else str(index) for index in missing[:NAMED_AT_MOST]]
    more = ", ..." if len(missing) > NAMED_AT_MOST else ""
    text = f"{len(missing)} of {plan.shards} shards of round {state.name} are not done: {', '.join(named)}{more}"
    before = len({one.shard for one in left_out} - set(missing))
    text += f"; {before} more were left out before" if before else ""
    text += f"; {len(plan.left_out)} inputs were left out by the plan" if plan.left_out else ""
    text += f"; {quarantine} may be left out" if quarantine else ""
    said_why = all(one.failure.number for one in left_out)
    return AcdError(ErrorCode.SHARDS_FAILED if said_why else ErrorCode.SHARDS_MISSING, text)


def _folder(job_name: str, plan_id: str, site: Site) -> Store:
    return site.runs.within(f"{job_name}/{plan_id}")


def _check_round(job: AnyJob, plan: PlanHead, round_name: str) -> None:
    """SHARD_UNKNOWN; PLAN_STALE if the plan was made for another algorithm than this acd has."""
    if plan.algorithm != job.algorithm:
        raise _stale(plan)
    if round_name not in plan.rounds:
        raise AcdError(
            ErrorCode.SHARD_UNKNOWN,
            f"plan {plan.plan_id} of {plan.job} has rounds {', '.join(plan.rounds)}, not {round_name}",
        )
