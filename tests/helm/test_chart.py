"""The chart as a whole: no warnings, reproducible output, consistent files."""

from __future__ import annotations

import re

import pytest
import yaml

from acdtask import __version__
from tests.helm.conftest import (
    CHART,
    EXAMPLES,
    FILES,
    NAMESPACE,
    SHIPPED,
    VALUES,
    Render,
    Run,
    Template,
    example,
    of_kind,
)

ARGO_WORDS = ("workflow", "inputs", "outputs", "tasks", "steps", "item", "pod", "retries", "lastRetry", "cronworkflow")
ARGO_BRACES = re.compile(r"\{\{-?\s*=?\s*(?:" + "|".join(ARGO_WORDS) + r")\b|\{\{`|\{\{\s*[\"']\{\{")
PLAIN_NAME = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")


def test_the_chart_is_made_for_this_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == __version__


def test_no_braces_of_argo_are_typed_in_the_chart() -> None:
    for path in sorted((CHART / "templates").rglob("*")):
        if path.is_file():
            assert ARGO_BRACES.findall(path.read_text()) == [], path


@pytest.mark.parametrize("text", ["{{workflow.name}}", "{{=lastRetry.exitCode}}", "{{`{{item}}`}}", '{{ "{{" }}'])
def test_braces_of_argo_would_be_found(text: str) -> None:
    assert ARGO_BRACES.search(text)


@pytest.mark.helm
def test_lint_has_nothing_to_say(helm: Run) -> None:
    for arguments in ([], *(["--values", str(FILES[name])] for name in EXAMPLES)):
        done = helm("lint", "--strict", str(CHART), *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "[WARNING]" not in done.stdout


def test_there_are_ten_examples_and_one_for_each_cloud() -> None:
    assert len(list(VALUES.glob("*.yaml"))) >= 10
    assert {path.stem for path in SHIPPED.glob("*.yaml")} == {"aws", "azure", "gcp", "minio"}
    assert len(FILES) == len(list(VALUES.glob("*.yaml"))) + 4


@pytest.mark.helm
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_renders_the_same_each_time(name: str, template: Template) -> None:
    first, second = template(example(name)), template(example(name))
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    assert "<no value>" not in first.stdout


@pytest.mark.helm
@pytest.mark.parametrize("name", EXAMPLES)
def test_every_object_is_named_labelled_and_in_the_namespace(name: str, render: Render) -> None:
    rendered = render(example(name))
    keys = [(resource["kind"], resource["metadata"]["name"]) for resource in rendered]
    assert len(set(keys)) == len(keys)
    for resource in rendered:
        metadata = resource["metadata"]
        assert len(metadata["name"]) <= (52 if resource["kind"] == "CronWorkflow" else 63)
        assert PLAIN_NAME.match(metadata["name"])
        assert metadata["namespace"] == NAMESPACE
        labels = metadata["labels"]
        assert labels["app.kubernetes.io/name"] == "acd"
        assert labels["app.kubernetes.io/instance"] == "acd"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert all(len(label) <= 63 for label in labels.values())


@pytest.mark.helm
def test_hooks_are_the_check_before_an_installation_and_the_smoke_test(render: Render) -> None:
    hooks = [
        resource
        for resource in render(example("one-monitor"))
        if "helm.sh/hook" in resource["metadata"].get("annotations", {})
    ]
    assert sorted((hook["kind"], hook["metadata"]["annotations"]["helm.sh/hook"]) for hook in hooks) == [
        ("ConfigMap", "pre-install,pre-upgrade"),
        ("Job", "pre-install,pre-upgrade"),
        ("Pod", "test"),
    ]


@pytest.mark.helm
def test_the_smoke_test_shows_the_version_and_reads_the_store(render: Render) -> None:
    (pod,) = of_kind(render(example("one-monitor")), "Pod")
    (version,), (store, _) = pod["spec"]["initContainers"], pod["spec"]["containers"]
    assert (version["command"], version["args"]) == (["acdtask"], ["--version"])
    assert (store["command"], store["args"]) == (["acdtask"], ["show", "cube", "--if-any"])
    assert {"name": "ACD_CUBE", "value": "s3://ground/cubes/rhine"} in store["env"]


@pytest.mark.helm
@pytest.mark.parametrize("name", EXAMPLES)
def test_the_notes_name_the_next_commands(name: str, helm: Run) -> None:
    values = str(FILES[name])
    done = helm("install", "acd", str(CHART), "--namespace", NAMESPACE, "--dry-run=client", "--values", values)
    if "cluster unreachable" in done.stderr:
        pytest.skip("Helm 3 shows the notes only when it reaches a cluster")
    assert done.returncode == 0, done.stderr
    notes = done.stdout.partition("NOTES:")[2]
    assert f"helm test acd --namespace {NAMESPACE}" in notes
    for monitor in example(name).get("monitors", []):
        assert monitor["name"] in notes
    late = [f"annotate cronworkflows --all --namespace {NAMESPACE}", "20 minutes"]
    assert [text in notes for text in late] == [bool(example(name).get("monitors"))] * 2
