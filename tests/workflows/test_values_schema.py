"""The rules of settings in the chart's schema are those of the settings models."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from acdtask.cli.options import values_of_parameters
from acdtask.cli.parameters import Bound, bound_to
from acdtask.jobs.registry import load_job
from workflows.parameters import AOI, EVENT_MONITOR, WEBHOOK
from workflows.templates import CHAIN, build_all
from workflows.values_schema import SCHEMA_FILE, rule_of, schema_of_settings, with_settings


def enumerated(bound: Bound) -> bool:
    """Whether a setting has a list of values."""
    return bound.option.kind == "flag" or bool(bound.option.choices)


BOUNDS = [bound for job in CHAIN for bound in bound_to(job, load_job(job).settings, alone=False)]
FIELDS = [bound for bound in BOUNDS if bound.parameter != AOI and not enumerated(bound)]
RULES = schema_of_settings()
NEEDED = {"aoi": "x", "layout": "utm", "source": "s3://x"}


def test_the_schema_of_the_chart_is_the_one_that_the_models_give() -> None:
    shipped = json.loads(SCHEMA_FILE.read_text())
    assert with_settings(shipped) == shipped, "run python -m workflows"


def test_every_parameter_of_a_monitor_has_a_rule() -> None:
    templates = build_all()
    for name in ("acd-all", "acd-monitor"):
        parameters = templates[name].to_dict()["spec"]["arguments"]["parameters"]
        assert {parameter["name"] for parameter in parameters} - {AOI, EVENT_MONITOR, WEBHOOK} <= set(RULES)


def accepted(rule: dict[str, Any], value: Any) -> bool:
    """Whether the schema accepts a value."""
    return bool(jsonschema.Draft7Validator(rule).is_valid(value))


def taken(bound: Bound, text: str) -> bool:
    """Whether the job accepts a text for a setting. Rules about several settings do not count."""
    model, field = load_job(bound.job).settings, bound.option.field
    value = values_of_parameters(model, [f"{field}={text}"]).get(field, "")
    if bound.option.kind == "pairs":
        return all("=" in part and part.partition("=")[0].strip() for part in value)
    if value == "":
        return True  # the default
    needed = {name: known for name, known in NEEDED.items() if name in model.model_fields}
    try:
        model.model_validate({**needed, field: value.strip() if isinstance(value, str) else value})
    except ValidationError as error:
        return not any(problem["loc"][:1] == (field,) for problem in error.errors())
    return True


TEXTS = st.one_of(
    st.integers(-20, 70_000).map(str),
    st.floats(allow_nan=True, allow_infinity=True, width=32).map(str),
    st.text("0123456789.-+eE_,=:/ TZnaif", max_size=12),
    st.sampled_from(["", "0", "00", "1", "utm", "a b", "KEY=VALUE", "=x", "yes", "nan", "inf", "6,12", "6;12", "1e3"]),
    st.dates().map(str),
    st.sampled_from(["2021-02-28", "20210228", "2021-13-01", "2021-00-10", "2021", "2021-02", "2021-02-28T06:00:00Z"]),
)


@settings(max_examples=400, deadline=None)
@given(bound=st.sampled_from(FIELDS), text=TEXTS)
def test_a_text_that_the_schema_accepts_is_accepted_by_the_job(bound: Bound, text: str) -> None:
    rule = rule_of(load_job(bound.job).settings, bound.option.field)
    if accepted(rule, text):
        assert taken(bound, text), (rule, text)


@pytest.mark.parametrize("bound", FIELDS, ids=[bound.parameter for bound in FIELDS])
def test_the_default_of_a_setting_and_its_limits_are_accepted(bound: Bound) -> None:
    rule = rule_of(load_job(bound.job).settings, bound.option.field)
    assert accepted(rule, bound.option.default)
    for name, beyond in (("minimum", -1), ("maximum", 1)):
        if name in rule:
            limit = rule[name]
            assert accepted(rule, limit)
            assert accepted(rule, str(int(limit)))
            assert not accepted(rule, limit + beyond)
            assert not accepted(rule, str(int(limit) + beyond))


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("monitor-high", [2.5, "2.5", 3, "3", "-1", ".5", "1e3", ""], ["abc", "nan", True, "2,5", None, [2]]),
        ("monitor-shard-tiles", [1, "12", ""], [0, "0", 1.5, "1.5", "-1"]),
        ("baseline-end", ["2021-08-01", "20210801", "2021-08-01T06:30:00Z"], ["2020-13-45", "2021-02", 20210801]),
        ("baseline-start", ["2021-02", "2021-02-01"], ["2021", "2021-2-1"]),
        ("ingest-nodata", [-1, "nan", "-9999.5"], ["none"]),
        ("ingest-scale", [0.001, "1e-3", "0.001"], [0, "0", "0.0", -1]),
        ("monitor-smooth", [0, 16, "1.2", "16.0"], [16.5, "16.01", "17", -1]),
        ("ingest-cell-size", [1, 65536, "65536", "1024"], [0, "0", 65537, "65537", "70000", "99999"]),
        ("monitor-centred", [True, False, "yes", "no", ""], ["maybe", 1]),
        ("layout", ["utm", "a/b"], ["", "a b", "/a", 3]),
        ("quarantine", [0, 2, "2", 400], ["some", -1, 401, "401", ""]),
        ("baseline", ["latest", {"end": "2021-08-01", "min_dates": 3, "min-dates": "3"}], [{"end": "soon"}, 3]),
    ],
)
def test_a_rule_of_the_chart_accepts_and_refuses(name: str, good: list[Any], bad: list[Any]) -> None:
    assert [value for value in good if not accepted(RULES[name], value)] == []
    assert [value for value in bad if accepted(RULES[name], value)] == []
