"""Argo's own linter on all templates and schedules together, since it resolves references only among these."""

from __future__ import annotations

import copy
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helm.conftest import CHART, EXAMPLES, Done, Object, Render, example, of_kind

pytestmark = pytest.mark.cluster  # of which it needs no more than argo

KINDS = ("WorkflowTemplate", "CronWorkflow")
ONE = "acd-koln"


def lint(*places: Path) -> Done:
    """`argo lint` without a cluster."""
    argo = shutil.which("argo")
    if argo is None:
        pytest.skip("argo is not on PATH")
    command = [argo, "lint", "--offline", "--strict", *map(str, places)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def written(rendered: list[Object], folder: Path) -> Path:
    """Write the templates and schedules as files into one folder."""
    for kind in KINDS:
        for resource in of_kind(rendered, kind):
            (folder / f"{kind}-{resource['metadata']['name']}.yaml").write_text(yaml.safe_dump(resource))
    return folder


def test_argo_finds_nothing_in_the_files_of_the_chart() -> None:
    files = sorted((CHART / "files").glob("acd-*.yaml"))
    assert files
    done = lint(*files)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.helm
@pytest.mark.parametrize("name", EXAMPLES)
def test_argo_finds_nothing_in_the_templates_and_schedules_of_a_chart(
    name: str, render: Render, tmp_path: Path
) -> None:
    folder = written(render(example(name)), tmp_path)
    monitors = example(name).get("monitors", [])
    assert len(list(folder.glob("CronWorkflow-*"))) == len(monitors) + 1  # and tidy
    assert len(list(folder.glob("WorkflowTemplate-*"))) == 2 * len(list((CHART / "files").glob("acd-*.yaml")))
    done = lint(folder)
    assert done.returncode == 0, done.stdout + done.stderr


def cron(rendered: list[Object]) -> Any:
    return next(schedule for schedule in of_kind(rendered, "CronWorkflow") if schedule["metadata"]["name"] == ONE)


def fan_out(rendered: list[Object]) -> Any:
    template = next(
        workflow for workflow in of_kind(rendered, "WorkflowTemplate") if workflow["metadata"]["name"] == "acd-all"
    )
    tasks = [task for dag in template["spec"]["templates"] for task in dag.get("dag", {}).get("tasks", [])]
    return next(task for task in tasks if "withParam" in task)


@pytest.mark.helm
@pytest.mark.parametrize(
    "break_it",
    [
        lambda all_of: cron(all_of)["spec"]["workflowSpec"]["workflowTemplateRef"].update(name="acd-other"),
        lambda all_of: cron(all_of)["spec"].update(schedules=["61 6 * * *"]),
        lambda all_of: cron(all_of)["spec"].update(madeUp=1),
        lambda all_of: fan_out(all_of).update(template="other"),
        lambda all_of: fan_out(all_of).update(withParam="{{tasks.plan.outputs.parameters.other}}"),
    ],
    ids=["template", "schedule", "field", "task", "parameter"],
)
def test_argo_would_find_what_is_wrong(break_it: Callable[[Any], Any], render: Render, tmp_path: Path) -> None:
    rendered = copy.deepcopy(render(example("one-monitor")))
    break_it(rendered)
    assert lint(written(rendered, tmp_path)).returncode != 0
