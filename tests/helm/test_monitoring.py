"""Alerts and dashboard: optional objects, whose queries parse and use only metrics that exist."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
import yaml

from tests.helm.conftest import CHART, NAMESPACE, Object, Render, example, merged, of_kind
from workflows.metrics import DURATION, FIGURES, PREFIX

pytestmark = pytest.mark.helm

OURS = {PREFIX + name: {"job", "aoi"} for name in (DURATION, *(figure.metric for figure in FIGURES))}
ARGOS = {
    f"{PREFIX}total_count": {"phase", "namespace"},
    f"{PREFIX}cronworkflows_triggered_total": {"name", "namespace"},
}
"""Metrics of Argo's controller 3.7.3, with their labels."""

ON = {
    "monitoring": {
        "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}, "silentAfter": "8d"},
        "dashboard": {"enabled": True},
    }
}


@pytest.fixture
def rendered(render: Render) -> list[Object]:
    return render(merged(example("one-monitor"), ON))


def rules(rendered: list[Object]) -> list[Object]:
    (made,) = of_kind(rendered, "PrometheusRule")
    (group,) = made["spec"]["groups"]
    found: list[Object] = group["rules"]
    return found


def dashboard(rendered: list[Object]) -> Any:
    (config_map,) = [item for item in of_kind(rendered, "ConfigMap") if item["metadata"]["name"] == "acd-dashboard"]
    return json.loads(config_map["data"]["acd.json"])


def queries(rendered: list[Object]) -> Iterator[str]:
    """All queries, with a value for each variable of Grafana."""
    yield from (rule["expr"] for rule in rules(rendered))
    for panel in dashboard(rendered)["panels"]:
        yield from (target["expr"].replace("$__range", "7d") for target in panel["targets"])


def selectors(node: Any) -> Iterator[Any]:
    """The vector selectors of a parsed query."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    for name in ("expr", "lhs", "rhs", "vector_selector", "param"):
        child = getattr(node, name, None)
        if child is not None:
            yield from selectors(child)
    for child in getattr(node, "args", None) or []:
        yield from selectors(child)


def test_the_objects_are_made_only_on_demand(render: Render) -> None:
    off = render(example("one-monitor"))
    assert of_kind(off, "PrometheusRule") == []
    assert "acd-dashboard" not in {item["metadata"]["name"] for item in of_kind(off, "ConfigMap")}


def test_the_objects_have_the_labels_that_select_them(rendered: list[Object]) -> None:
    (rule,) = of_kind(rendered, "PrometheusRule")
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    (config_map,) = [item for item in of_kind(rendered, "ConfigMap") if item["metadata"]["name"] == "acd-dashboard"]
    assert config_map["metadata"]["labels"]["grafana_dashboard"] == "1"


def test_every_query_uses_metrics_and_labels_that_exist(rendered: list[Object]) -> None:
    known = OURS | ARGOS
    used: set[str] = set()
    for query in queries(rendered):
        found = list(selectors(promql_parser.parse(query)))
        assert found, query
        for selector in found:
            assert selector.name in known, query
            assert {matcher.name for matcher in selector.matchers.matchers} <= known[selector.name], query
            used.add(selector.name)
    assert used == set(known)


@pytest.mark.parametrize("query", ["sum(increase(argo_workflows_total_count[1h])", "sum by (a) (x[7d])"])
def test_a_query_that_is_wrong_does_not_parse(query: str) -> None:
    with pytest.raises(ValueError):
        promql_parser.parse(query)


def test_the_variables_of_the_dashboard_exist_and_are_used(rendered: list[Object]) -> None:
    board = dashboard(rendered)
    names = {variable["name"] for variable in board["templating"]["list"]}
    text = json.dumps(board["panels"])
    assert {name for name in names if f"${name}" in text or f"${{{name}}}" in text} == names
    asked = [variable["query"] for variable in board["templating"]["list"] if variable["type"] == "query"]
    for query in asked:
        metric, label = query.removeprefix("label_values(").removesuffix(")").split(", ")
        assert label in (OURS | ARGOS)[metric]


def test_panels_do_not_overlap_and_have_their_own_ids(rendered: list[Object]) -> None:
    panels = dashboard(rendered)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


def test_the_alerts_are_about_this_namespace_and_the_given_time(rendered: list[Object]) -> None:
    by_name = {rule["alert"]: rule for rule in rules(rendered)}
    assert f'namespace="{NAMESPACE}"' in by_name["AcdWorkflowFailed"]["expr"]
    assert "[8d]" in by_name["AcdScheduleSilent"]["expr"]
    assert "offset 8d" in by_name["AcdScheduleSilent"]["expr"]
    assert all(set(rule) <= {"alert", "expr", "for", "labels", "annotations"} for rule in by_name.values())
    assert all(rule["annotations"]["summary"] and rule["annotations"]["description"] for rule in by_name.values())


def test_the_files_have_no_placeholder_that_the_chart_does_not_fill(rendered: list[Object]) -> None:
    text = json.dumps(rules(rendered))
    assert "NAMESPACE" not in text
    assert "SILENT" not in text
    assert yaml.safe_load((CHART / "monitoring" / "rules.yaml").read_text())["groups"][0]["name"] == "acd"
