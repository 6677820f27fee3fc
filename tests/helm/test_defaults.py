"""Templates started without parameters, and the location of artifacts."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.helm.conftest import CHART, EXAMPLES, Object, Render, example, merged, objects, of_kind
from workflows.parameters import ALIASES, SHARED

pytestmark = pytest.mark.helm


def values_of(workflow: Object) -> dict[str, str]:
    """The defaults of a template's parameters."""
    return {parameter["name"]: parameter["value"] for parameter in workflow["spec"]["arguments"]["parameters"]}


def shipped(name: str) -> dict[str, str]:
    """The defaults in the files of the chart; a versioned name has those of the stable one."""
    stable = name.removesuffix("-0-1-0")
    return values_of(objects((CHART / "files" / f"{stable}.yaml").read_text())[0])


def changed(rendered: list[Object]) -> dict[str, dict[str, str]]:
    """The defaults that the chart changed, by template; equal for the stable and the versioned name."""
    found: dict[str, dict[str, str]] = {}
    for workflow in of_kind(rendered, "WorkflowTemplate"):
        name, now = workflow["metadata"]["name"], values_of(workflow)
        before = shipped(name)
        assert set(now) == set(before)
        assert all(isinstance(value, str) for value in now.values())
        found[name] = {key: value for key, value in now.items() if value != before[key]}
    stable = {name: template for name, template in found.items() if not name[-1].isdigit()}
    assert {name.removesuffix("-0-1-0"): template for name, template in found.items() if name not in stable} == stable
    return stable


def test_the_settings_of_all_monitors_and_the_first_area_are_the_defaults(render: Render) -> None:
    found = changed(render(example("template-defaults")))
    common = {"aoi": "rhine-valley", "layout": "utm", "memory-mib": "4096"}
    assert found["acd-all"] == {
        **common,
        "ingest-source": "s3://passes/rhine",
        "baseline-end": "2021-08-01",
        "monitor-high": "2.5",
        "monitor-name": "sensitive",
    }
    only_aoi = {"aoi": "rhine-valley", "memory-mib": "4096"}
    assert found["acd-ingest"] == {**only_aoi, "source": "s3://passes/rhine", "make-layout": "utm"}
    assert found["acd-consolidate"] == common
    assert found["acd-baseline"] == {**common, "end": "2021-08-01"}  # and the monitor's end is another
    assert found["acd-monitor"] == {**common, "high": "2.5", "name": "sensitive"}
    assert found["acd-report"] == {**common, "name": "sensitive"}


def test_settings_of_the_monitor_alone_mean_the_same_elsewhere(render: Render) -> None:
    found = changed(render(example("many-monitors")))
    assert found["acd-monitor"] == {
        "aoi": "koln",
        "layout": "utm",
        "high": "2.5",
        "centred": "yes",
        "min-area": "1000000",
    }
    assert found["acd-all"] == {
        "aoi": "koln",
        "layout": "utm",
        "monitor-high": "2.5",
        "monitor-centred": "yes",
        "monitor-min-area": "1000000",
    }
    assert found["acd-baseline"] == {"aoi": "koln", "layout": "utm"}


def test_dates_of_one_job_are_not_those_of_another(render: Render) -> None:
    defaults = {"monitorDefaults": {"template": "acd-monitor", "settings": {"start": "2021-01-01"}}}
    found = changed(render(merged(example("minimal"), defaults)))
    assert found["acd-monitor"] == {"start": "2021-01-01"}
    assert found["acd-all"] == {"monitor-start": "2021-01-01"}
    assert found["acd-baseline"] == found["acd-consolidate"] == {}


def test_the_transform_of_the_baseline_is_also_the_monitors(render: Render) -> None:
    defaults = {"monitorDefaults": {"template": "acd-all", "settings": {"baseline": {"transform": "log"}}}}
    found = changed(render(merged(example("minimal"), defaults)))
    assert found["acd-all"] == {"baseline-transform": "log"}
    assert found["acd-baseline"] == found["acd-monitor"] == {"transform": "log"}


def test_without_monitors_and_settings_the_defaults_stay(render: Render) -> None:
    assert all(item == {} for item in changed(render(example("minimal"))).values())


def test_what_the_chart_knows_of_shared_settings_is_what_the_templates_say() -> None:
    assert ALIASES["ingest", "make_layout"] == ("consolidate", "layout")
    assert "layout" in SHARED
    assert ALIASES["report", "name"] == ("monitor", "name")
    assert ALIASES["monitor", "baseline_name"] == ("baseline", "name")  # the same name in acd-monitor: nothing to know
    chosen = {(job, name) for job in ("consolidate", "monitor") for name in ("tags", "track", "pair_days", "mixed")}
    assert all(ALIASES[job, name] == ("baseline", name) for job, name in chosen)
    assert ALIASES["monitor", "transform"] == ("baseline", "transform")
    assert len(ALIASES) == 4 + len(chosen)


def test_every_default_passes_the_check_of_a_monitor(render: Render) -> None:
    for workflow in of_kind(render(example("template-defaults")), "WorkflowTemplate"):
        for parameter in workflow["spec"]["arguments"]["parameters"]:
            assert parameter["value"] in parameter.get("enum", [parameter["value"]])


def keys(rendered: list[Object]) -> set[str]:
    """The explicit keys of all artifacts."""
    templates: list[Any] = [
        template for workflow in of_kind(rendered, "WorkflowTemplate") for template in workflow["spec"]["templates"]
    ]
    return {
        artifact["s3"]["key"] for template in templates for artifact in template.get("outputs", {}).get("artifacts", [])
    }


@pytest.mark.parametrize(
    ("name", "prefix", "key_format"),
    [
        ("minimal", "artifacts/", "artifacts/{{workflow.name}}/{{pod.name}}"),
        ("session-token", "scratch/acd/", "scratch/acd/logs/{{workflow.name}}/{{pod.name}}"),
        ("template-defaults", "", "logs/{{workflow.namespace}}/{{pod.name}}"),
        ("own-account", "artifacts/", None),
    ],
)
def test_all_keys_lie_below_one_prefix(name: str, prefix: str, key_format: str | None, render: Render) -> None:
    rendered = render(example(name))
    found = keys(rendered)
    assert {
        f"{prefix}{{{{workflow.name}}}}/report/report/",
        f"{prefix}{{{{workflow.name}}}}/report/quicklook.png",
    } <= found
    assert all(key.startswith(f"{prefix}{{{{workflow.name}}}}/") for key in found)
    said = [
        yaml.safe_load(config_map["data"]["s3"])
        for config_map in of_kind(rendered, "ConfigMap")
        if "s3" in config_map["data"]
    ]
    assert [repository["s3"]["keyFormat"] for repository in said] == ([key_format] if key_format else [])


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("create", [True, False])
def test_logs_are_kept_where_argo_asks_the_repository_and_where_it_asks_the_workflow(
    name: str, *, create: bool, render: Render
) -> None:
    values = merged(example(name), {"artifacts": {"create": create}})
    rendered = render(values)
    wanted = values["artifacts"].get("archiveLogs", False)
    assert {workflow["spec"].get("archiveLogs", False) for workflow in of_kind(rendered, "WorkflowTemplate")} == {
        wanted
    }
    said = [
        yaml.safe_load(config_map["data"]["s3"])
        for config_map in of_kind(rendered, "ConfigMap")
        if "s3" in config_map["data"]
    ]
    assert [repository["archiveLogs"] for repository in said] == ([wanted] if create else [])
