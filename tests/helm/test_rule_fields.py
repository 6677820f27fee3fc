"""The chart's PrometheusRule has only fields of its definition, which comes from the Go module proxy."""

from __future__ import annotations

import copy
from pathlib import Path

import jsonschema
import pytest
import yaml

from tests.cluster.crds import module_folder
from tests.helm.conftest import Object, Render, example, merged, of_kind
from tests.helm.test_monitoring import ON
from tests.workflows.fields import unknown_to_schema

MODULE = ("github.com/prometheus-operator/prometheus-operator", "v0.85.0")
pytestmark = pytest.mark.helm
FILE = "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml"


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Object:
    """The schema of the definition's version."""
    definition = yaml.safe_load((module_folder(*MODULE, tmp_path_factory.mktemp("go")) / FILE).read_text())
    (version,) = definition["spec"]["versions"]
    found: Object = version["schema"]["openAPIV3Schema"]
    return found


@pytest.fixture
def rule(render: Render) -> Object:
    (made,) = of_kind(render(merged(example("one-monitor"), ON)), "PrometheusRule")
    return made


def wrong(rule: Object, schema: Object) -> list[str]:
    found = [*unknown_to_schema({"spec": rule["spec"]}, schema)]
    return found + [error.message for error in jsonschema.Draft7Validator(schema).iter_errors(rule)]


def test_the_rule_has_only_fields_of_the_definition(rule: Object, schema: Object) -> None:
    assert wrong(rule, schema) == []


@pytest.mark.parametrize("field", ["expression", "labels"])
def test_a_field_that_is_wrong_is_found(field: str, rule: Object, schema: Object, tmp_path: Path) -> None:
    other = copy.deepcopy(rule)
    other["spec"]["groups"][0]["rules"][0][field] = "x"
    assert wrong(other, schema)
