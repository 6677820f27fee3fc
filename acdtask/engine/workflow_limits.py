"""Limits of a workflow: the deadlines that its templates set, and the size of its status."""

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
    "require_fits_workflow",
    "shards_parameter",
]

HOUR = 3600
POD_SECONDS = {"here": 4 * HOUR, "run": 4 * HOUR, "gather": HOUR}
"""Deadlines of pods, by what they do; a `here` pod plans, and does small work itself."""
WORKFLOW_SECONDS = 24 * HOUR
"""Deadline of a workflow."""
PODS_AT_ONCE = 50

MARGIN = 2
"""Safety factor: estimates are measured on one machine, and a plan's largest shard may be twice its mean."""

STATUS_BYTES = 1 << 20
"""Maximum size of a workflow object as JSON, with the compressed status of its nodes; Argo stops larger ones."""
NODES_OF_A_SHARD = 2
"""One for the pod and one for its retries; each failed attempt adds one."""
BYTES_OF_A_NODE = 72
"""Size of a compressed node in base64."""
MAX_SHARD_ROUNDS = STATUS_BYTES // (BYTES_OF_A_NODE * NODES_OF_A_SHARD * MARGIN)
"""Maximum of shards times rounds. All jobs of a workflow together stay below it at 400 shards each."""

SMALLER_PLAN = "a shorter time range, or a smaller AOI"

PARAMETER_BYTES = 256 * 1024
"""Maximum size of an Argo output parameter."""


def require_fits_workflow(plan: Plan[Any, Any]) -> None:
    """Refuse a plan that would fail in a workflow, at its start or after hours. PLAN_TOO_LARGE."""
    if plan.nothing_to_do:
        return
    if plan.shards > MAX_SHARDS:
        raise _refusal(
            f"it has {plan.shards} shards, and the maximum is {MAX_SHARDS}",
            "This is a bug: please report it with the plan. The job's 'local' command can run it on one machine.",
        )
    rounds = len(plan.rounds)
    if plan.shards * rounds > MAX_SHARD_ROUNDS:
        raise _refusal(
            f"{plan.shards} shards in each of {rounds} rounds do not fit into the status of a workflow",
            f"Plan at most {MAX_SHARD_ROUNDS // rounds} shards: {_fewer_shards(plan)}.",
        )
    if len(shards_parameter(plan)) >= PARAMETER_BYTES:
        raise _refusal(
            f"the list of its {plan.shards} shards is longer than {PARAMETER_BYTES} bytes",
            f"Plan fewer shards: {_fewer_shards(plan)}.",
        )
    _require_in_time(plan)


def shards_parameter(plan: PlanHead) -> str:
    """The shard numbers as a JSON list; empty if there is nothing to do."""
    return json.dumps([] if plan.nothing_to_do else list(range(plan.shards)))


def _require_in_time(plan: Plan[Any, Any]) -> None:
    """Require that a shard meets the deadline of its pod; 400 such shards then meet that of the workflow."""
    needed, deadline = plan.estimate.core_seconds, POD_SECONDS["run"]
    if needed * MARGIN > deadline * plan.shards:
        raise _refusal(
            f"a shard is expected to take {_hours(needed / plan.shards)}; its pod is stopped after {_hours(deadline)}"
            f" (estimates may be too low by a factor of {MARGIN})",
            _shorter_shards(plan, deadline),
        )


def _shorter_shards(plan: Plan[Any, Any], deadline: int) -> str:
    """Advice on how to make shards that meet the deadline."""
    size = int(deadline * plan.units / (plan.estimate.core_seconds * MARGIN))
    setting = _size_setting(plan)
    if size < 1:
        return f"A single unit is too much work for a pod: use a layout with smaller cells, {SMALLER_PLAN}."
    if not setting or -(-plan.units // size) > MAX_SHARDS:
        return f"Plan less at once: {SMALLER_PLAN}. The maximum is {MAX_SHARDS} shards."
    return f"Set {setting} to {size} or less."


def _fewer_shards(plan: Plan[Any, Any]) -> str:
    setting = _size_setting(plan)
    return f"raise {setting}, or plan {SMALLER_PLAN}" if setting else f"plan {SMALLER_PLAN}"


def _size_setting(plan: Plan[Any, Any]) -> str:
    """The setting that sets the size of a shard, as a workflow spells it; empty if there is none."""
    return next((name.replace("_", "-") for name in type(plan.settings).model_fields if name.startswith("shard_")), "")


def _hours(seconds: float) -> str:
    return f"{seconds / HOUR:.1f} h"


def _refusal(why: str, fix: str) -> AcdError:
    return AcdError(ErrorCode.PLAN_TOO_LARGE, f"the plan is too large for a workflow: {why}", fix)
