"""The metrics of the runner, as Argo's controller would report them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from acdtask.errors import AcdError
from tests.workflows.pods import PRINT, dag, pod, retry, run, workflow


def counter(name: str, value: str, **changes: Any) -> dict[str, Any]:
    labels = [{"key": "job", "value": "{{inputs.parameters.job}}"}]
    metric = {"name": name, "help": f"help of {name}", "labels": labels, "when": "{{status}} == Succeeded"}
    return {**metric, "counter": {"value": value}, **changes}


def measured(*metrics: dict[str, Any], code: str = PRINT) -> dict[str, Any]:
    """Two pods of one template, with their metrics."""
    tasks = [
        {"name": name, "template": "work", "arguments": {"parameters": [{"name": "job", "value": name}]}}
        for name in ("a", "b")
    ]
    work = pod(
        "work",
        code,
        "/scratch/count",
        "2.5",
        inputs={"parameters": [{"name": "job"}]},
        outputs={"parameters": [{"name": "count", "valueFrom": {"path": "/scratch/count", "default": "0"}}]},
        metrics={"prometheus": list(metrics)},
        retryStrategy=retry(),
    )
    return workflow(dag(*tasks), work)


def test_counters_add_up_and_gauges_are_set(tmp_path: Path) -> None:
    gauge = {**counter("seconds", ""), "gauge": {"value": "{{duration}}", "realtime": False}}
    del gauge["counter"]
    plain = counter("all_total", "{{outputs.parameters.count}}", labels=[])
    result = run(measured(counter("count_total", "{{outputs.parameters.count}}"), plain, gauge), tmp_path)
    assert result.metric("count_total", job="a") == result.metric("count_total", job="b") == 2.5
    assert result.metric("all_total") == 5.0
    assert 0 < result.metric("seconds", job="a") < 60


def test_an_attempt_that_failed_is_not_measured(tmp_path: Path) -> None:
    fails_once = (
        f"import pathlib, sys; seen = pathlib.Path({str(tmp_path / 'seen')!r})\n"
        "if not seen.exists(): seen.touch(); sys.exit(75)\n"
    )
    result = run(measured(counter("runs_total", "1"), code=fails_once + PRINT), tmp_path)
    assert [len(node.attempts) for node in result.nodes] == [2, 1]
    assert result.metric("runs_total", job="b") == 1.0
    assert result.metric("runs_total", job="a") == 1.0


@pytest.mark.parametrize(
    ("metrics", "sentence"),
    [
        ([counter("x_total", "many")], "the value of metric x_total is 'many'"),
        ([counter("x_total", "-1")], "the value of metric x_total is '-1'"),
        ([counter("x_total", "inf")], "the value of metric x_total is 'inf'"),
        ([counter("x_total", "{{outputs.parameters.other}}")], "has no value"),
        ([counter("x_total", "1"), counter("x_total", "1", help="other")], "exists with a different help"),
        ([counter("x_total", "1"), counter("x_total", "1", labels=[])], "exists with a different help, type or labels"),
        ([counter("x_total", "1", gauge={"value": "1"})], "must be either a counter or a gauge"),
        ([counter("x-total", "1")], "name"),
        ([counter("x_total", "1", histogram={"value": "1"})], "does not support"),
        ([counter("x_total", "1", gauge={"value": "{{duration}}", "realtime": True})], "realtime"),
    ],
)
def test_a_metric_that_argo_could_not_take_is_refused(
    metrics: list[dict[str, Any]], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(AcdError, match=sentence):
        run(measured(*metrics), tmp_path)
