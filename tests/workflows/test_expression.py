"""Retries: when, with how much memory, and their expressions."""

from __future__ import annotations

import json

import pytest

from acdtask.errors import AcdError, ErrorCode, ExitStatus
from tests.workflows.equipment.expression import evaluate, substitute
from workflows.retries import RETRIED_EXIT_CODES, memory_patch, retry_expression

ARGOS = {64, 65, 137, 143, -1}
"""Exit codes set by Argo's executor, the kernel and the kubelet, and Argo's value for a missing code."""

PHASES = ("Pending", "Running", "Succeeded", "Skipped", "Omitted", "Failed", "")


@pytest.mark.parametrize("code", [*range(256), -1])
def test_an_exit_code_is_retried_if_and_only_if_it_may_pass(code: int) -> None:
    ours = {int(code.value.exit_status) for code in ErrorCode if code.value.retryable}
    for phase in PHASES:
        scope = {"lastRetry.exitCode": str(code), "lastRetry.status": phase}
        assert evaluate(retry_expression(), scope) is (code in ours | ARGOS)
    assert evaluate(retry_expression(), {**scope, "lastRetry.status": "Error"}) is True


@pytest.mark.parametrize("error", list(ErrorCode), ids=[error.name for error in ErrorCode])
def test_an_error_is_retried_as_its_entry_says(error: ErrorCode) -> None:
    status = error.value.exit_status
    scope = {"lastRetry.exitCode": str(int(status)), "lastRetry.status": "Failed"}
    assert evaluate(retry_expression(), scope) is error.value.retryable
    assert int(status) not in ARGOS
    assert 0 < status < 128


def test_our_own_exit_statuses_are_retried_only_if_transient() -> None:
    assert [status for status in ExitStatus if status in RETRIED_EXIT_CODES] == [ExitStatus.TRANSIENT]


@pytest.mark.parametrize(
    ("retries", "exit_code", "memory"),
    [("0", "0", 2048), ("1", "137", 4096), ("2", "137", 6144), ("3", "137", 8192), ("2", "75", 2048)],
)
def test_memory_grows_after_a_kill_for_memory_only(retries: str, exit_code: str, memory: int) -> None:
    scope = {"retries": retries, "lastRetry.exitCode": exit_code, "workflow.parameters.memory-mib": "2048"}
    patch = json.loads(substitute(memory_patch(), scope))
    size = {"memory": f"{memory}Mi"}
    assert patch == {"containers": [{"name": "main", "resources": {"requests": size, "limits": size}}]}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("3 != 0", True),
        ("'' != ''", False),
        ("1 + 2 * 3 - 4", 3),
        ("(1 + 2) * 3", 9),
        ("!(1 == 1) || 'a' in ['a', 'b'] && 2 >= 2", True),
        ("not (true and false)", True),
        ("x.y['z-1'] == \"q\" ? 1 : x.n == '2' ? 2 : 3", 2),
    ],
)
def test_an_expression_has_its_value(expression: str, value: object) -> None:
    assert evaluate(expression, {"x.y.z-1": "p", "x.n": "2"}) == value


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "1 +",
        "x",
        "sprig.int(retries)",
        "1 ? 2 : 3",
        "'a' + 1",
        "asInt('x')",
        "[1, 2",
        "2 > '1'",
        "1 2",
        "a[1]",
        "#",
    ],
)
def test_an_expression_that_is_not_known_is_refused(expression: str) -> None:
    with pytest.raises(AcdError, match="cannot be evaluated"):
        evaluate(expression, {"retries": "1"})
