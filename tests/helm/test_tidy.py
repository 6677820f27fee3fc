"""The schedule that keeps the bucket small."""

from __future__ import annotations

import pytest

from acdtask.maintenance.tidy.retention import SAFE_DAYS, Retention
from tests.helm.conftest import EXAMPLES, Object, Render, Template, example, merged, of_kind

pytestmark = pytest.mark.helm


def schedule(rendered: list[Object]) -> Object:
    """The specification of the schedule of tidy."""
    (found,) = [one["spec"] for one in of_kind(rendered, "CronWorkflow") if one["metadata"]["name"] == "acd-tidy"]
    return dict(found)


def arguments(spec: Object) -> dict[str, str]:
    """Its arguments."""
    return {one["name"]: one["value"] for one in spec["workflowSpec"]["arguments"]["parameters"]}


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_chart_tidies_every_week_as_the_command_does_by_default(name: str, render: Render) -> None:
    spec = schedule(render(example(name)))
    assert spec["schedules"] == ["30 2 * * SUN"]
    assert (spec["timezone"], spec["suspend"], spec["concurrencyPolicy"]) == ("UTC", False, "Forbid")
    assert spec["workflowSpec"]["workflowTemplateRef"] == {"name": "acd-tidy"}
    defaults = {field.replace("_", "-"): str(value) for field, value in Retention().model_dump().items()}
    assert arguments(spec) == {key: value.removesuffix(".0") for key, value in defaults.items()}


def test_its_values_reach_the_command(render: Render) -> None:
    tidy = {
        "schedules": ["0 4 * * *"],
        "timezone": "Europe/Berlin",
        "suspend": True,
        "startingDeadlineSeconds": 0,
        "keepDays": 100000,
        "keepRuns": 2,
        "keepVersions": 1,
        "keepHeads": 5,
    }
    spec = schedule(render(merged(example("minimal"), {"tidy": tidy})))
    assert (spec["schedules"], spec["timezone"], spec["suspend"]) == (["0 4 * * *"], "Europe/Berlin", True)
    assert spec["startingDeadlineSeconds"] == 0
    assert arguments(spec) == {"keep-days": "100000", "keep-runs": "2", "keep-versions": "1", "keep-heads": "5"}


def test_it_can_be_left_out(render: Render) -> None:
    rendered = render(merged(example("one-monitor"), {"tidy": {"enabled": False}}))
    assert [one["metadata"]["name"] for one in of_kind(rendered, "CronWorkflow")] == ["acd-koln"]
    assert "acd-tidy" in {one["metadata"]["name"] for one in of_kind(rendered, "WorkflowTemplate")}


@pytest.mark.parametrize(
    ("tidy", "sentence"),
    [
        ({"keepDays": SAFE_DAYS - 1}, "keepDays"),
        ({"keepRuns": 0}, "keepRuns"),
        ({"schedules": []}, "schedules"),
        ({"schedules": ["0 4 30 2 *"]}, "tidy has the schedule"),
        ({"timezone": "Mars/Olympus"}, "tidy.timezone is Mars/Olympus"),
        ({"keep": 3}, "keep"),
    ],
)
def test_invalid_values_are_refused_by_name(tidy: Object, sentence: str, template: Template) -> None:
    done = template(merged(example("minimal"), {"tidy": tidy}))
    assert done.returncode != 0
    assert sentence in done.stderr


def test_a_monitor_cannot_take_its_name(template: Template) -> None:
    values = example("one-monitor")
    values["monitors"][0]["name"] = "tidy"
    done = template(values)
    assert done.returncode != 0
    assert "A monitor is named tidy" in done.stderr
