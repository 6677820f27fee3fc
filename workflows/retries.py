"""When Argo tries a pod again, and with how much memory."""

from __future__ import annotations

from hera.workflows import RetryStrategy
from hera.workflows.models import Backoff, IntOrString

from acdtask.errors import ExitStatus

__all__ = [
    "HERE_MEMORY",
    "LIMIT",
    "MEMORY",
    "OUT_OF_MEMORY",
    "RETRIED_EXIT_CODES",
    "memory_patch",
    "retry_expression",
    "retry_strategy",
]

EXECUTOR_EXIT_CODES = (64, 65)
"""Argo's executor could not start the command (argo-workflows, cmd/argoexec/commands)."""
OUT_OF_MEMORY = 137
"""SIGKILL; the kernel sends it when a container needs more memory than its limit."""
TERMINATED = 143
"""SIGTERM; the node is drained, or the pod deleted."""
UNKNOWN = -1
"""What Argo says when there is no exit code, since the pod is gone."""

RETRIED_EXIT_CODES = (*EXECUTOR_EXIT_CODES, int(ExitStatus.TRANSIENT), OUT_OF_MEMORY, TERMINATED, UNKNOWN)
LIMIT = 3
MEMORY = "memory-mib"
"""The workflow parameter with the memory of a pod that runs a shard."""
HERE_MEMORY = "here-memory-mib"
"""That of a pod that plans, and does small work itself."""


def retry_expression() -> str:
    """Whether to try again, in Argo's expression language.

    >>> retry_expression()
    'lastRetry.status == "Error" or asInt(lastRetry.exitCode) in [64, 65, 75, 137, 143, -1]'
    """
    codes = ", ".join(map(str, RETRIED_EXIT_CODES))
    return f'lastRetry.status == "Error" or asInt(lastRetry.exitCode) in [{codes}]'


def retry_strategy() -> RetryStrategy:
    """Three more attempts after 20 s, 1 min and 3 min, for what may go better the next time.

    A policy is given since without one old versions retry failures only. There is no maxDuration: it counts from the
    start of the first attempt, so that long work would never be retried.
    """
    return RetryStrategy(
        limit=LIMIT,
        retry_policy="Always",
        expression=retry_expression(),
        backoff=Backoff(duration="20s", factor=IntOrString(root=3)),
    )


def memory_patch(parameter: str = MEMORY) -> str:
    """A patch of the pod: its memory, and after an OOM kill one more time that for each retry.

    Argo knows the last exit code only. The condition of a ternary has to stand first: newer versions of Argo evaluate
    it by itself. Quotes are single, since the expression lies in JSON.
    """
    memory = f"asInt(workflow.parameters['{parameter}'])"
    grown = f"{{{{=lastRetry.exitCode == '{OUT_OF_MEMORY}' ? {memory} * (asInt(retries) + 1) : {memory}}}}}Mi"
    return (
        '{"containers": [{"name": "main", "resources": '
        f'{{"requests": {{"memory": "{grown}"}}, "limits": {{"memory": "{grown}"}}}}}}]}}'
    )
