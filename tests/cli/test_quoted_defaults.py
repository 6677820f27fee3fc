"""A default that a text quotes comes from the constant that sets it: nobody types it twice."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import acdtask
import workflows
from acdtask.change.methods import ROBUST, STANDARD, detection_for
from acdtask.jobs.monitor.settings import MonitorSettings

FOLDERS = [Path(acdtask.__file__).parent, Path(workflows.__file__).parent]
QUOTED = re.compile(r"\(\d[\d.,]*[^\s)]*\)|\bdefault(?:s to| is|:)? *\d|\d by default", re.IGNORECASE)
"""How a text quotes a default: `(1.7)`, `[default: 1024]`, `20 by default`."""


def typed_texts(source: str) -> Iterator[str]:
    """The texts of fields and options as they are typed; a value that is filled in is left out."""
    for node in ast.walk(ast.parse(source)):
        for keyword in node.keywords if isinstance(node, ast.Call) else ():
            if keyword.arg in ("description", "help"):
                parts = [part for part in ast.walk(keyword.value) if isinstance(part, ast.Constant)]
                yield "\0".join(part.value for part in parts if isinstance(part.value, str))


def test_no_text_of_a_field_or_an_option_has_a_default_that_is_typed_by_hand() -> None:
    texts = [
        (path.name, text)
        for folder in FOLDERS
        for path in sorted(folder.rglob("*.py"))
        for text in typed_texts(path.read_text())
    ]
    assert len(texts) > 100
    assert [(name, text) for name, text in texts if QUOTED.search(text)] == []


@pytest.mark.parametrize("text", ["above it (1.7)", "a cell.  [default: 1024]", "20 by default", "default is 3"])
def test_such_a_text_would_be_found(text: str) -> None:
    assert [QUOTED.search(found) is not None for found in typed_texts(f"Field(description={text!r})")] == [True]


def test_a_value_that_is_filled_in_is_not_one() -> None:
    assert list(typed_texts("Field(description=f'above it ({STANDARD.low})')")) == ["above it (\0)"]


@pytest.mark.parametrize("name", ["low", "high", "min_area", "min_count"])
def test_the_thresholds_that_the_monitor_quotes_are_those_that_it_takes(name: str) -> None:
    field = MonitorSettings.model_fields[name]
    assert field.default is None, "the profile decides"
    assert f"({getattr(STANDARD, name)})" in str(field.description)
    if name == "low":
        assert "not for robust" in str(field.description)
    else:
        assert f"({getattr(ROBUST, name)})" in str(field.description)
    for profile, method in (("standard", STANDARD), ("robust", ROBUST)):
        assert getattr(detection_for(profile, (0, 1000), 0.001, {}), name) == getattr(method, name)
