"""values.yaml, its comments and its schema say the same."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema
import pytest
import yaml

from tests.helm.conftest import CHART, EXAMPLES, Object, example, merged

SCHEMA: Object = json.loads((CHART / "values.schema.json").read_text())
TEXT = (CHART / "values.yaml").read_text()
DEFAULTS: Object = yaml.safe_load(TEXT)
FREE = {"settings", "annotations", "labels", "nodeSelector", "affinity", "extraEnv", "requests", "limits"}
"""Maps whose keys are chosen by the user, or defined by Kubernetes."""

SAID_ABOVE = {"requests", "limits", "cidrs", "namespaces", "ports"}
"""Repeated keys, which one comment explains."""


def resolved(schema: Any) -> Any:
    """Resolve the reference of a schema."""
    return SCHEMA["definitions"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def differences(defaults: Object, schema: Object, place: str) -> list[str]:
    """Keys that are in only one of the two."""
    known = set(schema["properties"]) - {"global"}
    found = [f"{place}{key}" for key in sorted(known ^ set(defaults))]
    for key in sorted(known & set(defaults)):
        if isinstance(defaults[key], dict) and key not in FREE:
            found += differences(defaults[key], resolved(schema["properties"][key]), f"{place}{key}.")
    return found


def open_objects(schema: Any, place: str = "") -> list[str]:
    """Objects of the schema that allow any key."""
    if isinstance(schema, list):
        return [item for index, part in enumerate(schema) for item in open_objects(part, f"{place}/{index}")]
    if not isinstance(schema, dict):
        return []
    found = [place] if schema.get("type") == "object" and "additionalProperties" not in schema else []
    return found + [item for key, part in schema.items() for item in open_objects(part, f"{place}/{key}")]


def test_the_schema_and_the_defaults_have_the_same_keys() -> None:
    assert differences(DEFAULTS, SCHEMA, "") == []


def test_no_object_takes_any_key_but_those_that_are_not_ours() -> None:
    node_affinity = "/properties/scheduling/properties/affinity/properties/nodeAffinity/properties"
    assert open_objects(SCHEMA) == [
        "/properties/global",
        f"{node_affinity}/requiredDuringSchedulingIgnoredDuringExecution",
        "/definitions/aoi/anyOf/1",
        "/definitions/aoi/anyOf/1/properties/geometry",
    ]


def test_the_schema_is_a_schema_and_takes_the_defaults() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    jsonschema.validate(DEFAULTS, SCHEMA, jsonschema.Draft7Validator)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_schema_takes_the_examples(name: str) -> None:
    values = json.loads(json.dumps(merged(DEFAULTS, example(name)), default=str))
    jsonschema.validate(values, SCHEMA, jsonschema.Draft7Validator)


def test_every_value_has_a_comment() -> None:
    lines = TEXT.splitlines()
    keys = [(number, re.match(r"^ *([a-zA-Z]+):", line)) for number, line in enumerate(lines)]
    bare = [key[1] for number, key in keys if key and not lines[number - 1].strip().startswith("#")]
    assert set(bare) == SAID_ABOVE
