"""The stages of a job for all callers: plan, run a shard, gather a round. Markers make them repeatable.

`runs/<job>/<plan id>/` holds `plan.json`, `shards/0000.json`, and the state of each round (`acdtask.engine.rounds`). A
marker is written last, so what it names is complete. A stage that finds its marker does nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from acdtask.engine.planning import (
    NAMED_AT_MOST,
    AnyJob,
    AnyPlan,
    blocks_of,
    load_plan,
    load_plan_head,
    load_shard,
    make_plan,
    open_site,
    stale_error,
    unusable_lines,
)
from acdtask.engine.rounds import EncodedHandouts, Gathering, RoundState, ShardError, digest_of, find_gathering
from acdtask.engine.run_ids import current_run
from acdtask.engine.run_summary import Meter, WorkDone
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.codec import decode, encode
from acdtask.jobs.contract import Context, Handouts, LeftOutShard, Nothing, PlanHead, Results, Round, Site
from acdtask.jobs.quarantine import Failure, LeftOut, UnusableInputsError, unusable_of

__all__ = [
    "blocks_of",
    "gather_round",
    "gathered_rounds",
    "is_complete",
    "load_plan",
    "load_plan_head",
    "load_shard",
    "make_plan",
    "missing_shards",
    "open_site",
    "run_shard",
    "unusable_lines",
]


def run_shard(
    job: AnyJob,
    plan: AnyPlan,
    round_name: str,
    index: int,
    site: Site,
    progress: Callable[[int], None] = lambda _done: None,
) -> LeftOut | None:
    """Run a shard of a round, unless its marker exists. SHARD_UNKNOWN, SHARDS_MISSING.

    A permanent error is stored for `gather_round`, then raised. Returns None if the shard is done, the inputs that it
    could not use, or the reason why there was nothing to do: it was left out in an earlier round.
    """
    _check_round(job, plan, round_name)
    shard = load_shard(job, plan, index, site)
    round_, state = job.round(round_name), _prepared(job, plan, round_name, site)
    if index not in state.stems:
        return next(left_out for left_out in state.before.left_out if left_out.shard == index)
    if state.is_done(index):
        return None
    meter = Meter()

    def encoded(result: BaseModel) -> bytes:
        return encode(result, round_.result_type)

    try:
        handout = _handout(round_, state, index)
        table = encoded(round_.run(shard.work, handout, Context(plan, site, progress)))
    except UnusableInputsError as error:
        state.store_error(index, error, encoded)
        return LeftOut(shard=index, failure=Failure.of(error), names=shard.work.names, unusable=error.unusable)
    except Exception as error:
        if not isinstance(error, AcdError) or not error.code.value.retryable:
            with contextlib.suppress(AcdError):  # the error itself is what matters
                state.store_error(index, error, encoded)
        raise
    state.store_table(index, shard.units, table, meter)
    return None


def _handout(round_: Round[Any, Any, Any], state: RoundState, index: int) -> Any:
    """The handout of the previous gather for a shard; an empty one if it left none."""
    handout = state.handout(index)
    return decode(handout, round_.handout_type) if handout else round_.handout_type()


def gather_round(
    job: AnyJob, plan: AnyPlan, round_name: str, site: Site, *, quarantine: int = 0
) -> tuple[LeftOut, ...]:
    """Verify that all shards of the round are done (at most `quarantine` failed permanently), and join their tables.

    `quarantine` is the number of shards that may be left out, in all rounds together. SHARDS_FAILED if more are missing
    and all have a recorded error, otherwise SHARDS_MISSING. How many inputs may be unusable is the job's decision.
    Returns the shards left out, and those with unusable inputs.
    """
    _check_round(job, plan, round_name)
    round_, state = job.round(round_name), _prepared(job, plan, round_name, site)
    earlier = state.gathering()
    if earlier is not None and not earlier.left_out and _is_still_published(job, plan, round_name, site):
        return ()
    missing = state.missing()
    errors = state.errors(missing)
    left_out = _left_out(job, plan, state, missing, errors, site)
    markers = state.markers(missing)
    digests = state.digests(markers, errors)
    failed = tuple(shard for shard in left_out if not shard.unusable)
    if len(failed) > quarantine or not digests:
        raise _refusal(plan, state, errors, failed, quarantine)
    if unusable := unusable_of(left_out):
        job.require_usable(plan, plan.unusable | unusable, site)
    if earlier is not None and earlier.joined == digests and _is_still_published(job, plan, round_name, site):
        return earlier.left_out
    tables = state.tables(digests, missing)
    results = Results(
        numbered=((index, decode(table, round_.result_type)) for index, table in tables),
        left_out=tuple(LeftOutShard(shard, load_shard(job, plan, shard.shard, site).work) for shard in left_out),
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
        work=WorkDone.of_markers(markers.values()),
    )
    state.store_gathering(gathering, handouts)
    return left_out


def _encoded(handouts: Handouts[Any], job: AnyJob, plan: PlanHead, round_name: str) -> EncodedHandouts:
    """Encode the handouts of a gather as the handout type of the plan's next round."""
    following = plan.rounds.index(round_name) + 1
    kind = job.round(plan.rounds[following]).handout_type if following < len(plan.rounds) else Nothing
    return EncodedHandouts(
        {index: encode(handout, kind) for index, handout in handouts.shards.items()},
        encode(handouts.memo, type(handouts.memo)) if handouts.memo is not None else b"",
    )


def gathered_rounds(plan: PlanHead, site: Site) -> dict[str, Gathering]:
    """The gatherings in effect by round, for a plan whose rounds have all been gathered."""
    gatherings = {name: find_gathering(plan, name, site) for name in plan.rounds}
    return {name: gathering for name, gathering in gatherings.items() if gathering is not None}


def is_complete(plan: PlanHead, round_name: str, site: Site) -> bool:
    """Whether the round was gathered with nothing left out; for the last round, all results are then published."""
    gathering = find_gathering(plan, round_name, site)
    return gathering is not None and not gathering.left_out


def missing_shards(plan: PlanHead, round_name: str, site: Site) -> list[int]:
    """The shards of a round that are not done for their current handouts."""
    state = RoundState.find(plan, round_name, site)
    return list(range(plan.shards)) if state is None else state.missing()


def _prepared(job: AnyJob, plan: PlanHead, round_name: str, site: Site) -> RoundState:
    """The state of a round. SHARDS_MISSING if the previous round has not been gathered."""
    state = RoundState.find(plan, round_name, site)
    if state is None:
        before = plan.rounds[plan.rounds.index(round_name) - 1]
        raise AcdError(
            ErrorCode.SHARDS_MISSING,
            f"round {round_name} needs round {before}, which has not been gathered",
            f"Run 'acdtask {job.name} gather --plan {plan.plan_id} --round {before}' first.",
        )
    return state


def _is_still_published(job: AnyJob, plan: AnyPlan, round_name: str, site: Site) -> bool:
    """Whether results that the gather of a round published still exist. Only the last round publishes."""
    return round_name != plan.rounds[-1] or job.is_published(plan, site)


def _left_out(
    job: AnyJob, plan: PlanHead, state: RoundState, missing: list[int], errors: dict[int, ShardError], site: Site
) -> tuple[LeftOut, ...]:
    left_out = {shard.shard: shard for shard in state.before.left_out}
    for index in missing:
        error = errors.get(index)
        failure = Failure(**error.model_dump(include=set(Failure.model_fields))) if error else Failure()
        before = left_out[index].unusable if index in left_out else {}
        left_out[index] = LeftOut(
            shard=index,
            failure=failure,
            names=load_shard(job, plan, index, site).work.names,
            unusable=before | error.unusable if error and error.unusable else {},
        )
    return tuple(left_out[index] for index in sorted(left_out))


def _refusal(
    plan: PlanHead,
    state: RoundState,
    errors: dict[int, ShardError],
    left_out: tuple[LeftOut, ...],
    quarantine: int,
) -> AcdError:
    earlier = {shard.shard for shard in state.before.left_out if not shard.unusable}
    missing = [shard.shard for shard in left_out if shard.shard not in earlier]
    named = [f"{index} ({errors[index]})" if index in errors else str(index) for index in missing[:NAMED_AT_MOST]]
    more = ", ..." if len(missing) > NAMED_AT_MOST else ""
    text = f"{len(missing)} of {plan.shards} shards of round {state.name} are not done: {', '.join(named)}{more}"
    text += f"; {len(earlier)} more were left out in earlier rounds" if earlier else ""
    text += f"; only {quarantine} may be left out" if quarantine else ""
    all_recorded = all(shard.failure.number for shard in left_out)
    return AcdError(ErrorCode.SHARDS_FAILED if all_recorded else ErrorCode.SHARDS_MISSING, text)


def _check_round(job: AnyJob, plan: PlanHead, round_name: str) -> None:
    """Check that the plan has the round and fits the job's algorithm. SHARD_UNKNOWN, PLAN_STALE."""
    if plan.algorithm != job.algorithm:
        raise stale_error(plan)
    if round_name not in plan.rounds:
        raise AcdError(
            ErrorCode.SHARD_UNKNOWN,
            f"plan {plan.plan_id} of {plan.job} has rounds {', '.join(plan.rounds)}, not {round_name}",
        )
