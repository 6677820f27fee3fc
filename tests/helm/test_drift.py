"""Every field of the templates exists in Argo, according to the models of hera."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hera.workflows import models

from tests.helm.conftest import EXAMPLES, Render, example, of_kind
from tests.workflows.fields import unknown_to_model, unknown_to_schema
from workflows.rendering import CHART_FILES

FILES = sorted(CHART_FILES.glob("acd-*.yaml"))
MODELS = {"WorkflowTemplate": models.WorkflowTemplate, "CronWorkflow": models.CronWorkflow}


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_hera_knows_every_field_of_a_template(file: Any) -> None:
    assert list(unknown_to_model(yaml.safe_load(file.read_text()), models.WorkflowTemplate)) == []


@pytest.mark.helm
@pytest.mark.parametrize("name", EXAMPLES)
def test_hera_knows_every_field_that_the_chart_adds(name: str, render: Render) -> None:
    rendered = render(example(name))
    for kind, model in MODELS.items():
        for resource in of_kind(rendered, kind):
            assert list(unknown_to_model(resource, model)) == [], resource["metadata"]["name"]


def entry(document: Any) -> Any:
    name = document["spec"]["entrypoint"]
    return next(template for template in document["spec"]["templates"] if template["name"] == name)


def first_pod(document: Any) -> Any:
    return next(template for template in document["spec"]["templates"] if "container" in template)


def first_dag(document: Any) -> Any:
    return next(template for template in document["spec"]["templates"] if "dag" in template)


MADE_UP: list[tuple[Callable[[Any], Any], str]] = [
    (lambda d: d, ".madeUp"),
    (lambda d: d["metadata"], ".metadata.madeUp"),
    (lambda d: d["spec"], ".spec.madeUp"),
    (lambda d: d["spec"]["podGC"], ".spec.podGC.madeUp"),
    (lambda d: entry(d)["synchronization"]["mutexes"][0], ".synchronization.mutexes[0].madeUp"),
    (lambda d: d["spec"]["volumes"][0]["configMap"], ".spec.volumes[0].configMap.madeUp"),
    (lambda d: d["spec"]["arguments"]["parameters"][2], ".spec.arguments.parameters[2].madeUp"),
    (lambda d: first_pod(d)["container"]["securityContext"]["capabilities"], ".securityContext.capabilities.madeUp"),
    (lambda d: first_pod(d)["retryStrategy"]["backoff"], ".retryStrategy.backoff.madeUp"),
    (lambda d: first_pod(d)["outputs"]["parameters"][0]["valueFrom"], ".parameters[0].valueFrom.madeUp"),
    (lambda d: first_pod(d)["outputs"]["artifacts"][0]["archive"]["none"], ".artifacts[0].archive.none.madeUp"),
    (lambda d: first_pod(d)["outputs"]["artifacts"][0]["s3"], ".artifacts[0].s3.madeUp"),
    (lambda d: first_dag(d)["dag"]["tasks"][1]["arguments"]["parameters"][0], "[1].arguments.parameters[0].madeUp"),
]


@pytest.mark.parametrize(("place", "path"), MADE_UP, ids=[path for _, path in MADE_UP])
def test_a_field_that_argo_has_not_is_found_at_any_depth(place: Callable[[Any], Any], path: str) -> None:
    document = yaml.safe_load((CHART_FILES / "acd-baseline.yaml").read_text())
    place(document)["madeUp"] = {"at": ["any", "depth"]}
    (found,) = unknown_to_model(document, models.WorkflowTemplate)
    assert found.endswith(path)


def test_an_object_in_the_place_of_a_word_and_fields_that_argo_removed_are_found() -> None:
    document = yaml.safe_load((CHART_FILES / "acd-baseline.yaml").read_text())
    other = copy.deepcopy(document)
    other["spec"]["entrypoint"] = {"name": "x"}
    assert list(unknown_to_model(other, models.WorkflowTemplate)) == [".spec.entrypoint: no dict is expected"]
    document["spec"]["synchronization"] = {"mutex": {"name": "x"}}
    assert list(unknown_to_model(document, models.WorkflowTemplate)) == [".spec.synchronization.mutex"]


SCHEMA = {
    "components": {
        "inner": {"properties": {"list": {"items": {"allOf": [{"$ref": "#/components/leaf"}]}}}},
        "leaf": {},
    },
    "properties": {
        "inner": {"$ref": "#/components/inner"},
        "map": {"additionalProperties": {"properties": {"a": {}}}},
        "open": {"x-kubernetes-preserve-unknown-fields": True, "properties": {"a": {"properties": {}}}},
        "number": {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]},
    },
}


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"inner": {"list": [1, 2]}, "map": {"x": {"a": 1}}, "open": {"z": {"y": 1}}, "number": "3"}, []),
        ({"number": 3, "other": 1}, [".other"]),
        ({"inner": {"list": [{}, {"a": 1}]}}, [".inner.list[1].a"]),
        ({"inner": {"b": 1}}, [".inner.b"]),
        ({"map": {"x": {"b": 1}}}, [".map.x.b"]),
        ({"open": {"a": {"b": 1}}}, [".open.a.b"]),
        ({"number": [1]}, [".number: no list is expected"]),
        ({"number": {"a": 1}}, [".number.a"]),
    ],
)
def test_the_walk_of_a_schema_finds_what_it_has_not(value: Any, found: list[str]) -> None:
    assert list(unknown_to_schema(value, SCHEMA)) == found
