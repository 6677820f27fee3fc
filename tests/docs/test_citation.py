"""CITATION.cff is valid and names this version.

The schema below is the part of Citation File Format 1.2.0 that the file uses; other keys are rejected.
"""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

import acdtask
from tests.conftest import CHECKOUT

TEXT = {"type": "string", "minLength": 1}
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["authors", "cff-version", "message", "title"],
    "properties": {
        "cff-version": {"const": "1.2.0"},
        "message": TEXT,
        "type": {"enum": ["software", "dataset"]},
        "title": TEXT,
        "abstract": TEXT,
        "version": {"type": "string", "pattern": r"^\d+\.\d+\.\d+$"},
        "date-released": {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$"},
        "license": {"const": "Apache-2.0"},
        "url": {"type": "string", "pattern": "^https://"},
        "repository-code": {"type": "string", "pattern": "^https://"},
        "keywords": {"type": "array", "minItems": 1, "uniqueItems": True, "items": TEXT},
        "authors": {
            "type": "array",
            "minItems": 1,
            "uniqueItems": True,
            "items": {
                "anyOf": [
                    {  # an entity
                        "type": "object",
                        "additionalProperties": False,
                        "required": ["name"],
                        "properties": {"name": TEXT, "website": TEXT, "email": TEXT},
                    },
                    {  # a person
                        "type": "object",
                        "additionalProperties": False,
                        "minProperties": 1,
                        "properties": {"family-names": TEXT, "given-names": TEXT, "orcid": TEXT, "affiliation": TEXT},
                    },
                ]
            },
        },
    },
}


@pytest.fixture
def citation() -> dict[str, Any]:
    return dict(yaml.safe_load((CHECKOUT / "CITATION.cff").read_text()))


def errors(citation: dict[str, Any]) -> list[str]:
    return [error.message for error in Draft7Validator(SCHEMA).iter_errors(citation)]


def test_the_citation_is_valid(citation: dict[str, Any]) -> None:
    Draft7Validator.check_schema(SCHEMA)
    assert errors(citation) == []


@pytest.mark.parametrize("change", [{"title": ""}, {"authors": []}, {"license": "free"}, {"versoin": "0.1.0"}])
def test_an_invalid_citation_is_detected(change: dict[str, Any], citation: dict[str, Any]) -> None:
    assert len(errors({**citation, **change})) == 1


def test_the_citation_is_of_this_version(citation: dict[str, Any]) -> None:
    assert citation["version"] == acdtask.__version__
    assert f'"{citation["license"]}"' in (CHECKOUT / "pyproject.toml").read_text()
