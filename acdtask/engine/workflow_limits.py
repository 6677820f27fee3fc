"""What one workflow can carry: the deadlines that its templates set, and what fits into its status."""

from __future__ import annotations

import json
from typing import Any

from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.contract import Plan, PlanHead
from acdtask.jobs.shards import MAX_SHARDS

__all__ = [
    "MAX_SHARD_ROUNDS",
    "PODS_AT_ONCE",
    "POD_SECONDS",
    "WORKFLOW_SECONDS",
    "require_carried",
    "shards_parameter",
]

HOUR = 3600
POD_SECONDS = {"here": 4 * HOUR, "run": 4 * HOUR, "gather": HOUR}
"""When Argo ends a pod, by what it does; `here` is a pod that plans, and does small work itself."""
WORKFLOW_SECONDS = 24 * HOUR
"""When Argo ends a workflow."""
PODS_AT_ONCE = 50

MARGIN = 2
"""Estimates are measured on one machine, and a plan's mean shard is up to half of its largest."""

STATUS_BYTES = 1 << 20
"""Argo stops a workflow whose object is larger, as JSON with the compressed status of its nodes."""
NODES_OF_A_SHARD = 2
"""One for the pod, and one for its retries; a failed attempt adds one."""
BYTES_OF_A_NODE = 72
"""Compressed, with its share of base64."""
MAX_SHARD_ROUNDS = STATUS_BYTES // (BYTES_OF_A_NODE * NODES_OF_A_SHARD * MARGIN)
"""Shards times rounds. All jobs of one workflow together stay below it, with 400 shards each."""

LESS = "a shorter time range, or a smaller AOI"

PARAMETER_BYTES = 256 * 1024
"""Argo keeps no more of an output parameter."""


def require_carried(plan: Plan[Any, Any]) -> None:
    """Refuse a plan that a workflow would fail at, after hours or at its start. PLAN_TOO_LARGE."""
    if plan.nothing_to_do:
        return
    if plan.shards > MAX_SHARDS:
        raise _refusal(
            f"it has {plan.shards} shards, and no job makes more than {MAX_SHARDS}",
            "This is a bug: report it with the plan. The job's command 'local' can do the plan on one machine.",
        )
    rounds = len(plan.rounds)
    if plan.shards * rounds > MAX_SHARD_ROUNDS:
        raise _refusal(
            f"{plan.shards} shards in each of {rounds} rounds do not fit into the status of a workflow",
            f"Have {MAX_SHARD_ROUNDS // rounds} shards at most: {_fewer_shards(plan)}.",
        )
    if len(shards_parameter(plan)) >= PARAMETER_BYTES:
        raise _refusal(
            f"the list of its {plan.shards} shards is longer than {PARAMETER_BYTES} bytes",
            f"Have fewer shards: {_fewer_shards(plan)}.",
        )
    _require_in_time(plan)


def shards_parameter(plan: PlanHead) -> str:
    """The numbers of the shards as a JSON list; empty if there is nothing to do."""
    return json.dumps([] if plan.nothing_to_do else list(range(plan.shards)))


def _require_in_time(plan: Plan[Any, Any]) -> None:
    """A shard within the deadline of its pod; 400 such shards end before the workflow's."""
    needed, deadline = plan.estimate.core_seconds, POD_SECONDS["run"]
    if needed * MARGIN > deadline * plan.shards:
        raise _refusal(
            f"a shard is expected to take {_hours(needed / plan.shards)}, and its pod is ended after {_hours(deadline)}"
            f" (estimates may be short by a factor of {MARGIN})",
            _shorter_shards(plan, deadline),
        )


def _shorter_shards(plan: Plan[Any, Any], deadline: int) -> str:
    """How to make shards that end in time."""
    size = int(deadline * plan.units / (plan.estimate.core_seconds * MARGIN))
    setting = _size_setting(plan)
    if size < 1:
        return f"One unit of work is too much for a pod: use a layout with smaller cells, {LESS}."
    if not setting or -(-plan.units // size) > MAX_SHARDS:
        return f"Plan less at once: {LESS}; there are {MAX_SHARDS} shards at most."
    return f"Set {setting} to {size} or less."


def _fewer_shards(plan: Plan[Any, Any]) -> str:
    setting = _size_setting(plan)
    return f"raise {setting}, or plan {LESS}" if setting else f"plan {LESS}"


def _size_setting(plan: Plan[Any, Any]) -> str:
    """The setting that says how much a shard does, as a workflow spells it."""
    return next((name.replace("_", "-") for name in type(plan.settings).model_fields if name.startswith("shard_")), "")


def _hours(seconds: float) -> str:
    return f"{seconds / HOUR:.1f} h"


def _refusal(why: str, fix: str) -> AcdError:
    return AcdError(ErrorCode.PLAN_TOO_LARGE, f"a workflow could not carry the plan: {why}", fix)
