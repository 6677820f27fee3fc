"""The pages about the chart: their values render, and their numbers and names exist."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from acdtask.errors import ErrorCode, ExitStatus
from tests.conftest import CHECKOUT
from tests.helm.conftest import Object, Render, of_kind
from workflows.retries import LIMIT, RETRIED_EXIT_CODES

KUBERNETES = (CHECKOUT / "docs/how-to/kubernetes.md").read_text()
GITOPS = (CHECKOUT / "docs/how-to/gitops.md").read_text()
OPERATE = (CHECKOUT / "docs/how-to/operate.md").read_text()
BLOCK = re.compile(r"^```yaml\n# (?P<file>\S+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str, file: str) -> list[Any]:
    """The YAML blocks of a page that begin with this filename."""
    return [next(yaml.safe_load_all(found["body"])) for found in BLOCK.finditer(page) if found["file"] == file]


def all_values() -> list[Object]:
    """The values of the chart in all pages."""
    (application,), (release,) = blocks(GITOPS, "application.yaml"), blocks(GITOPS, "helmrelease.yaml")
    given = [application["spec"]["source"]["helm"]["valuesObject"], release["spec"]["values"]]
    return blocks(KUBERNETES, "values.yaml") + blocks(OPERATE, "values.yaml") + given


def test_every_yaml_block_says_which_file_it_is() -> None:
    for page in (KUBERNETES, GITOPS, OPERATE):
        assert page.count("```yaml\n") == len(BLOCK.findall(page))


def test_no_command_of_a_cluster_is_run_without_one() -> None:
    assert "```console" not in KUBERNETES + GITOPS + OPERATE


@pytest.mark.helm
@pytest.mark.parametrize("index", range(len(all_values())))
def test_the_values_of_the_pages_render(index: int, render: Render) -> None:
    values = all_values()[index]
    assert len(of_kind(render(values), "CronWorkflow")) == len(values.get("monitors", [])) + 1  # and tidy


@pytest.mark.helm
def test_parameters_and_names_in_the_commands_exist(render: Render) -> None:
    rendered = render(all_values()[0])
    schedules = {schedule["metadata"]["name"] for schedule in of_kind(rendered, "CronWorkflow")}
    workflows = {workflow["metadata"]["name"]: workflow["spec"] for workflow in of_kind(rendered, "WorkflowTemplate")}
    known = {parameter["name"] for parameter in workflows["acd-all"]["arguments"]["parameters"]}
    given = set(re.findall(r"--parameter ([a-z-]+)=", KUBERNETES))
    assert given
    assert given <= known
    assert set(re.findall(r"cronworkflow/([a-z-]+)", KUBERNETES)) == schedules


def test_every_error_is_on_the_page_by_its_number_or_in_a_range_that_refers_to_the_reference() -> None:
    numbers = {code.value.number for code in ErrorCode}
    single = [int(number) for number in re.findall(r"^\| ACD-(\d+) \|", KUBERNETES, re.MULTILINE)]
    assert len(single) == len(set(single))
    assert set(single) <= numbers
    ends = re.findall(r"^\| ACD-(\d+) to ACD-(\d+) \|", KUBERNETES, re.MULTILINE)
    assert {int(end) for pair in ends for end in pair} <= numbers
    ranges = {number for first, last in ends for number in range(int(first), int(last) + 1)}
    assert numbers <= {*single, *ranges}


def test_the_exit_statuses_of_the_page_are_those_that_are_tried_again() -> None:
    (sentence,) = re.findall(r"^Exit statuses (.*) are retried three times; (.*) are not", KUBERNETES, re.MULTILINE)
    again, never = (set(map(int, re.findall(r"\d+", part))) for part in sentence)
    assert again == {code for code in RETRIED_EXIT_CODES if code > 0}
    assert never == {int(status) for status in ExitStatus} - again - {0}
    assert LIMIT == 3
