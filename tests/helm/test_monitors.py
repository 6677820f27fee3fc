"""A monitor is a schedule and an area; its data is not the chart's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from acdtask.cube.aoi import load_aoi
from tests.helm.conftest import EXAMPLES, Object, Render, example, of_kind

pytestmark = pytest.mark.helm


def schedules(rendered: list[Object]) -> dict[str, Object]:
    """The specifications of the CronWorkflows of monitors, by name."""
    found = {schedule["metadata"]["name"]: schedule["spec"] for schedule in of_kind(rendered, "CronWorkflow")}
    return {name: spec for name, spec in found.items() if name != "acd-tidy"}


def standing(rendered: list[Object]) -> list[Object]:
    """The objects that stay: without hooks, which name all monitors."""
    return [resource for resource in rendered if "helm.sh/hook" not in resource["metadata"].get("annotations", {})]


def arguments(spec: Object) -> dict[str, str]:
    """The arguments of a CronWorkflow."""
    return {parameter["name"]: parameter["value"] for parameter in spec["workflowSpec"]["arguments"]["parameters"]}


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_monitor_has_one_schedule_that_says_everything(name: str, render: Render) -> None:
    rendered = render(example(name))
    parameters = {
        workflow["metadata"]["name"]: {known["name"] for known in workflow["spec"]["arguments"]["parameters"]}
        for workflow in of_kind(rendered, "WorkflowTemplate")
    }
    found = schedules(rendered)
    assert set(found) == {f"acd-{monitor['name']}" for monitor in example(name).get("monitors", [])}
    for spec in found.values():
        assert spec["concurrencyPolicy"] == "Forbid"
        assert isinstance(spec["suspend"], bool)
        assert isinstance(spec["startingDeadlineSeconds"], int)
        assert spec["schedules"]
        assert "schedule" not in spec
        assert spec["timezone"]
        assert all(isinstance(value, str) for value in arguments(spec).values())
        assert set(arguments(spec)) <= parameters[spec["workflowSpec"]["workflowTemplateRef"]["name"]]


@pytest.mark.parametrize("name", EXAMPLES)
def test_argo_cd_makes_schedules_after_all_else(name: str, render: Render) -> None:
    waves = {
        (resource["kind"], resource["metadata"].get("annotations", {}).get("argocd.argoproj.io/sync-wave"))
        for resource in render(example(name))
    }
    assert {kind for kind, wave in waves if wave == "1"} == {"CronWorkflow"}
    assert {wave for kind, wave in waves if kind != "CronWorkflow"} == {None}


def test_a_monitor_takes_the_defaults_one_by_one(render: Render) -> None:
    found = schedules(render(example("many-monitors")))
    koln, sensitive, bonn = found["acd-koln"], found["acd-koln-sensitive"], found["acd-bonn"]
    assert koln["schedules"] == ["0 6 * * *", "0 18 * * MON-FRI"]
    assert (koln["timezone"], koln["startingDeadlineSeconds"], koln["suspend"]) == ("Europe/Berlin", 7200, False)
    assert koln["workflowSpec"]["workflowTemplateRef"] == {"name": "acd-monitor"}
    base = {"layout": "utm", "min-area": "1000000"}
    assert arguments(koln) == {"aoi": "koln", "event-monitor": "koln", **base, "high": "2.5", "centred": "yes"}
    assert arguments(sensitive) == {
        "aoi": "koln",
        "event-monitor": "koln-sensitive",
        **base,
        "name": "sensitive",
        "high": "2",
        "centred": "no",
        "min-count": "1",
    }
    assert (bonn["timezone"], bonn["startingDeadlineSeconds"], bonn["suspend"]) == ("UTC", 0, True)


def test_the_sections_of_acd_toml_are_settings_of_a_monitor(render: Render) -> None:
    values = example("one-monitor")
    (monitor,) = values["monitors"]
    monitor["settings"] = {
        "layout": "utm",
        "ingest": {"source": "s3://passes/koln", "source_nodata": 0},
        "baseline": {"end": "2021-01-29", "profile": "standard"},
        "monitor": {"min_area": 50, "centred": False, "smooth": 1.2},
    }
    assert arguments(schedules(render(values))["acd-koln"]) == {
        "aoi": "koln",
        "event-monitor": "koln",
        "layout": "utm",
        "ingest-source": "s3://passes/koln",
        "ingest-source-nodata": "0",
        "baseline-end": "2021-01-29",
        "profile": "standard",
        "monitor-min-area": "50",
        "monitor-centred": "no",
        "monitor-smooth": "1.2",
    }
    monitor |= {"template": "acd-monitor", "settings": {"layout": "utm", "monitor": {"min_area": 50}}}
    assert arguments(schedules(render(values))["acd-koln"]) == {
        "aoi": "koln",
        "event-monitor": "koln",
        "layout": "utm",
        "min-area": "50",
    }


def test_an_area_needs_no_dates(render: Render, tmp_path: Path) -> None:
    values = example("one-monitor")
    for name in ("start_time", "end_time"):
        del values["monitors"][0]["aoi"][name]
    area = next(
        config_map
        for config_map in of_kind(render(values), "ConfigMap")
        if config_map["metadata"]["name"] == "acd-aoi-koln"
    )
    (tmp_path / "aoi.json").write_text(area["data"]["aoi.json"])
    aoi = load_aoi(str(tmp_path / "aoi.json"))
    assert (aoi.name, aoi.start, aoi.end) == ("koln", None, None)


def test_the_area_in_the_config_map_is_the_one_in_the_values(render: Render, tmp_path: Path) -> None:
    rendered = render(example("one-monitor"))
    given = example("one-monitor")["monitors"][0]["aoi"]
    area = next(
        config_map for config_map in of_kind(rendered, "ConfigMap") if config_map["metadata"]["name"] == "acd-aoi-koln"
    )
    assert json.loads(area["data"]["aoi.json"]) == given
    (tmp_path / "aoi.json").write_text(area["data"]["aoi.json"])
    assert load_aoi(str(tmp_path / "aoi.json")).name == "koln"


def test_an_area_given_as_text_is_kept_to_the_letter(render: Render) -> None:
    given = example("many-monitors")["monitors"][2]["aoi"]
    areas = {
        config_map["metadata"]["name"]: config_map["data"]
        for config_map in of_kind(render(example("many-monitors")), "ConfigMap")
    }
    assert areas["acd-aoi-bonn"] == {"aoi.json": given}


def test_an_area_by_reference_makes_no_config_map(render: Render) -> None:
    rendered = standing(render(example("many-monitors")))
    areas = [config_map["metadata"]["name"] for config_map in of_kind(rendered, "ConfigMap")]
    assert sorted(areas) == ["acd-aoi-bonn", "acd-aoi-koln", "acd-artifacts"]


@pytest.mark.parametrize(("name", "gone"), [("bonn", {"ConfigMap/acd-aoi-bonn"}), ("koln-sensitive", set())])
def test_removing_a_monitor_removes_its_schedule_and_area_and_nothing_else(
    name: str, gone: set[str], render: Render
) -> None:
    def by_key(values: Object) -> dict[str, Object]:
        return {f"{item['kind']}/{item['metadata']['name']}": item for item in standing(render(values))}

    values = example("many-monitors")
    before = by_key(values)
    values["monitors"] = [monitor for monitor in values["monitors"] if monitor["name"] != name]
    after = by_key(values)
    assert set(before) - set(after) == {f"CronWorkflow/acd-{name}"} | gone
    assert after == {key: before[key] for key in after}
