"""The runner rejects unsupported features by name."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from acdtask.errors import AcdError
from tests.workflows.pods import dag, pod, retry, run, workflow

UNKNOWN: list[tuple[dict[str, Any], str]] = [
    ({"spec": {"templateDefaults": {}}}, "spec.templateDefaults"),
    ({"spec": {"hooks": {}}}, "spec.hooks"),
    ({"template": {"memoize": {}}}, "spec.templates.0.memoize"),
    ({"template": {"sidecars": []}}, "spec.templates.0.sidecars"),
    ({"container": {"lifecycle": {}}}, "spec.templates.0.container.lifecycle"),
    ({"container": {"envFrom": []}}, "spec.templates.0.container.envFrom"),
    ({"container": {"env": [{"name": "A", "valueFrom": {}}]}}, "container.env.0.valueFrom"),
    ({"template": {"retryStrategy": retry(affinity={})}}, "retryStrategy.affinity"),
    ({"template": {"retryStrategy": retry(retryPolicy="OnError")}}, "retryStrategy.retryPolicy"),
    ({"template": {"outputs": {"result": "x"}}}, "outputs.result"),
    ({"spec": {"synchronization": {"mutex": {"name": "x"}}}}, "spec.synchronization.mutex"),
    ({"spec": {"volumes": [{"name": "x", "hostPath": {}}]}}, "spec.volumes.0.hostPath"),
]


@pytest.mark.parametrize(("change", "named"), UNKNOWN)
def test_what_the_runner_does_not_know_it_names(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    document = workflow(pod("work", ""))
    template = document["spec"]["templates"][0]
    document["spec"].update(change.get("spec", {}))
    template.update(change.get("template", {}))
    template["container"].update(change.get("container", {}))
    with pytest.raises(AcdError, match=named.replace(".", r"\.")):
        run(document, tmp_path)


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        ({"withItems": [1]}, "withItems"),
        ({"continueOn": {"failed": True}}, "continueOn"),
        ({"depends": "other.AllFailed"}, "depends: 'other.AllFailed'"),
        ({"depends": "other + more"}, "depends: 'other \\+ more'"),
        ({"depends": "other ||"}, "cannot be evaluated|wait for each other"),
        ({"depends": "other.Failed"}, "wait for each other"),
        ({"depends": "nobody"}, "wait for each other"),
        ({"withParam": '["a"]'}, "not a list of integers"),
        ({"withParam": "[1]", "when": "{{item}} != 1"}, "a 'when' with an item"),
        ({"when": "{{tasks.x.outputs.result}} == 1"}, "has no value"),
        ({"template": "nothing"}, "has no template 'nothing'"),
        ({"template": "dag"}, "are nested more than 100 deep"),
    ],
)
def test_a_task_that_the_runner_does_not_know_is_refused(tmp_path: Path, task: dict[str, Any], sentence: str) -> None:
    document = workflow(dag({"name": "task", "template": "work", **task}), pod("work", ""))
    with pytest.raises(AcdError, match=sentence):
        run(document, tmp_path)


def test_a_dag_that_stops_at_the_first_failure_is_refused(tmp_path: Path) -> None:
    document = workflow(dag({"name": "task", "template": "work"}), pod("work", ""))
    failing_fast = copy.deepcopy(document)
    del failing_fast["spec"]["templates"][0]["dag"]["failFast"]
    with pytest.raises(AcdError, match=r"dag\.failFast"):
        run(failing_fast, tmp_path)


def test_parameters_are_checked_before_anything_runs(tmp_path: Path) -> None:
    arguments = {"parameters": [{"name": "size", "value": "small", "enum": ["small", "large"]}, {"name": "open"}]}
    document = workflow(pod("work", ""), arguments=arguments)
    for given, sentence in (
        ({"colour": "red"}, "has no parameter 'colour'"),
        ({"size": "huge"}, "must be one of small, large"),
        ({}, "parameter open has no value"),
    ):
        with pytest.raises(AcdError, match=sentence):
            run(document, tmp_path, given)
    assert not (tmp_path / "run").exists()
