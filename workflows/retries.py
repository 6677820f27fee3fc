"""When Argo retries a pod, and with how much memory."""

from __future__ import annotations

from hera.workflows import RetryStrategy
from hera.workflows.models import Backoff, IntOrString

from acdtask.errors import ExitStatus

__all__ = ["HERE_MEMORY", "LIMIT", "MEMORY", "RETRIED_EXIT_CODES", "memory_patch", "retry_expression", "retry_strategy"]

EXECUTOR_EXIT_CODES = (64, 65)
"""Exit codes of Argo's executor if it cannot start the command (argo-workflows, cmd/argoexec/commands)."""
OUT_OF_MEMORY = 137
"""SIGKILL, which the kernel sends to a container that exceeds its memory limit."""
TERMINATED = 143
"""SIGTERM, sent when a node is drained or a pod is deleted."""
UNKNOWN = -1
"""Argo's value for a missing exit code, when the pod is gone."""

RETRIED_EXIT_CODES = (*EXECUTOR_EXIT_CODES, int(ExitStatus.TRANSIENT), OUT_OF_MEMORY, TERMINATED, UNKNOWN)
LIMIT = 3
MEMORY = "memory-mib"
"""Workflow parameter with the memory of a pod that runs a shard."""
HERE_MEMORY = "here-memory-mib"
"""Workflow parameter with the memory of a pod that plans and does small work itself."""


def retry_expression() -> str:
    """The condition of a retry, in Argo's expression language.

    >>> retry_expression()
    'lastRetry.status == "Error" or asInt(lastRetry.exitCode) in [64, 65, 75, 137, 143, -1]'
    """
    codes = ", ".join(map(str, RETRIED_EXIT_CODES))
    return f'lastRetry.status == "Error" or asInt(lastRetry.exitCode) in [{codes}]'


def retry_strategy() -> RetryStrategy:
    """Retry transient failures three times, after 20 s, 1 min and 3 min.

    The policy is explicit, since old versions of Argo retry only failures by default. There is no maxDuration: it
    counts from the start of the first attempt, so that long work would never be retried.
    """
    return RetryStrategy(
        limit=LIMIT,
        retry_policy="Always",
        expression=retry_expression(),
        backoff=Backoff(duration="20s", factor=IntOrString(root=3)),
    )


def memory_patch(parameter: str = MEMORY) -> str:
    """The pod patch that sets the memory; after an OOM kill, the memory grows by that amount with each retry.

    Argo only knows the last exit code. The condition must come first in the expression, since newer versions of Argo
    evaluate it separately. Quotes are single, since the expression is inside JSON.
    """
    memory = f"asInt(workflow.parameters['{parameter}'])"
    grown = f"{{{{=lastRetry.exitCode == '{OUT_OF_MEMORY}' ? {memory} * (asInt(retries) + 1) : {memory}}}}}Mi"
    return (
        '{"containers": [{"name": "main", "resources": '
        f'{{"requests": {{"memory": "{grown}"}}, "limits": {{"memory": "{grown}"}}}}}}]}}'
    )
