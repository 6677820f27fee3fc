"""The schema of a monitor's settings in the chart's values, generated from the settings models of the jobs.

Parameters are texts, so a value may be a number or its text: `minimum` checks the first, `pattern` the second. Each
setting has one flat rule, since Helm then names the value and the rule in one line. Patterns have no lookahead, which
Go lacks.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from pydantic import ValidationError, create_model
from pydantic.fields import FieldInfo

from acdtask.cli.parameters import Bound, bound_to
from acdtask.jobs.contract import Settings
from acdtask.jobs.registry import load_job
from workflows.parameters import AOI, HERE_SECONDS, QUARANTINE, parameter_of
from workflows.retries import HERE_MEMORY, MEMORY
from workflows.templates import CHAIN

__all__ = ["SCHEMA_FILE", "rule_of", "schema_of_settings", "with_settings", "write_schema"]

SCHEMA_FILE = Path(__file__).resolve().parents[1] / "helm" / "acd" / "values.schema.json"

TEMPLATES = (CHAIN, ("monitor",), ("fuse",))
"""Jobs of the templates that monitors may use: acd-all, acd-monitor and acd-fuse."""

EXPONENT = "([eE][-+]?[0-9]{1,2})?"
ZERO_OR_MORE = f"[0-9]{{0,15}}[.]?[0-9]{{1,15}}{EXPONENT}"
ABOVE_ZERO = f"(0*[1-9][0-9]{{0,14}}([.][0-9]{{1,15}})?|0*[.]0*[1-9][0-9]{{0,14}}){EXPONENT}"

Rule = dict[str, Any]


def write_schema(file: Path = SCHEMA_FILE) -> Path:
    """Write the rules of the settings into the chart's schema, which is otherwise written by hand."""
    schema = with_settings(json.loads(file.read_text(encoding="utf-8")))
    file.write_text(json.dumps(schema, indent=2) + "\n", encoding="utf-8")
    return file


def with_settings(schema: Rule) -> Rule:
    """The chart's schema with the rules of the settings."""
    definitions = schema["definitions"]
    settings = {**definitions["settings"], "properties": schema_of_settings()}
    return {**schema, "definitions": {**definitions, "settings": settings}}


def schema_of_settings() -> dict[str, Rule]:
    """The rule of each setting of a monitor, under the names of its parameters, and in the sections of acd.toml.

    The AOI is not among them, since the chart sets it.
    """
    rules: dict[str, list[Rule]] = {}
    for jobs in TEMPLATES:
        bounds = [bound for job in jobs for bound in bound_to(job, load_job(job).settings, alone=len(jobs) == 1)]
        required = {bound.parameter for bound in bounds if bound.option.required}
        for bound in bounds:
            if bound.parameter != AOI:
                rules.setdefault(bound.parameter, []).append(_rule(bound, required=bound.parameter in required))
    properties = {name: _joined(several) for name, several in rules.items()} | _other_parameters()
    for job in CHAIN:
        section = _section(job)
        # acd-monitor has a setting named baseline. Other names are refused by the chart, which lists those that exist.
        kinds = {"type": ["string", "object"]} if job in properties else {"type": "object"}
        texts = {"type": ["string", "number", "boolean"]}
        properties[job] = {**properties.get(job, {}), **kinds, "properties": section, "additionalProperties": texts}
    return dict(sorted(properties.items()))


def _section(job: str) -> dict[str, Rule]:
    """The rules of a job's settings, under both spellings of their names."""
    bounds = [bound for bound in bound_to(job, load_job(job).settings, alone=True) if bound.parameter != AOI]
    rules = {bound: _rule(bound, required=bound.option.required) for bound in bounds}
    return {name: rule for bound, rule in rules.items() for name in (bound.parameter, bound.option.field)}


def _other_parameters() -> dict[str, Rule]:
    """The rules of parameters that are not settings of a job."""
    memory = {"type": ["integer", "string"], "minimum": 100, "maximum": 9999999, "pattern": "^[1-9][0-9]{2,6}$"}
    seconds = {"type": ["number", "string"], "minimum": 0, "pattern": f"^{ZERO_OR_MORE}$"}
    shards = {"type": ["integer", "string"], "minimum": 0, "maximum": 400, "pattern": f"^({_up_to(400)})$"}
    return {MEMORY: memory, HERE_MEMORY: memory, HERE_SECONDS: seconds, QUARANTINE: shards}


def _rule(bound: Bound, *, required: bool) -> Rule:
    """The rule of a setting, with its meaning. A setting that is not required may be empty, for its default."""
    option = bound.option
    if option.kind == "flag" or option.choices:
        allowed = list(parameter_of([bound]).enum or [])
        rule: Rule = {"enum": [*allowed, True, False] if option.kind == "flag" else allowed}
    else:
        rule = rule_of(load_job(bound.job).settings, option.field, required=required)
    return {"description": option.meaning, **rule}


def rule_of(settings: type[Settings], field: str, *, required: bool = False) -> Rule:
    """The rule of a setting without its meaning, from the model's JSON schema.

    >>> from acdtask.jobs.monitor.settings import MonitorSettings
    >>> rule_of(MonitorSettings, "shard_tiles")
    {'type': ['integer', 'string'], 'minimum': 1, 'pattern': '^(0*[1-9][0-9]{0,8})?$'}
    """
    schema = settings.model_json_schema()["properties"][field]
    schema = next((part for part in schema.get("anyOf", []) if part["type"] != "null"), schema)
    limits = {name: schema[name] for name in ("minimum", "exclusiveMinimum", "maximum", "maxLength") if name in schema}
    if schema["type"] in ("integer", "number"):
        pattern = _of_numbers(schema, settings.model_fields[field])
        return {"type": [schema["type"], "string"], **limits, "pattern": _anchored(pattern, required=required)}
    if schema["type"] == "array":
        return _rule_of_list(schema)
    if schema["type"] == "object":
        pair = "[^=,]*[^=, ][^=,]*=[^,]*"
        return {"type": "string", "pattern": _anchored(f"{pair}(,{pair})*", required=required)}
    if "pattern" in schema:
        return {"type": "string", **limits, "pattern": _anchored(schema["pattern"], required=required)}
    return {"type": ["string", "number"], **({"pattern": "[^ ]"} if required else {})}


def _rule_of_list(schema: Rule) -> Rule:
    if schema["items"]["type"] != "integer":
        return {"type": "string"}
    return {"type": ["integer", "string"], "pattern": "^( *-?[0-9]{1,9} *(, *-?[0-9]{1,9} *)*)?$"}


def _of_numbers(schema: Rule, field: FieldInfo) -> str:
    """A pattern of the texts of a number within its limits."""
    whole, most = schema["type"] == "integer", schema.get("maximum")
    if most is not None:
        return _whole_from_one(int(most)) if schema.get("minimum") == 1 else _at_most(int(most), whole=whole)
    if schema.get("minimum") == 1:
        return "0*[1-9][0-9]{0,8}"
    if whole:
        return "[0-9]{1,9}" if schema.get("minimum") == 0 else "-?[0-9]{1,9}"
    if schema.get("exclusiveMinimum") == 0:
        return ABOVE_ZERO
    if schema.get("minimum") == 0:
        return ZERO_OR_MORE
    return f"[-+]?{ZERO_OR_MORE}|nan|NaN" if _takes_nan(field) else f"[-+]?{ZERO_OR_MORE}"


def _takes_nan(field: FieldInfo) -> bool:
    annotation: Any = field.annotation
    try:
        create_model("Setting", value=(annotation, field)).model_validate({"value": "nan"})
    except ValidationError:
        return False
    return True


def _at_most(most: int, *, whole: bool) -> str:
    """Numbers from 0 to `most`."""
    return _up_to(most) if whole else f"({_up_to(most - 1)})([.][0-9]{{1,15}})?|{most}([.]0+)?"


def _whole_from_one(most: int) -> str:
    return "|".join(part for part in _up_to(most).split("|") if part != "[0-9]") + "|[1-9]"


def _up_to(most: int) -> str:
    """Whole numbers from 0 to `most`, without leading zeros.

    >>> _up_to(7), _up_to(15), _up_to(400)
    ('[0-7]', '[0-9]|1[0-5]', '[0-9]|[1-9][0-9]|[1-3][0-9]{2}|400')
    """
    digits = str(most)
    parts = ["[0-9]" if length == 1 else f"[1-9]{_any(length - 1)}" for length in range(1, len(digits))]
    for place, digit in enumerate(digits):
        rest, least = len(digits) - place - 1, 1 if place == 0 and len(digits) > 1 else 0
        last = int(digit) - (0 if rest == 0 else 1)
        if last >= least:
            parts.append(f"{digits[:place]}{_between(least, last)}{_any(rest)}")
    return "|".join(parts)


def _between(least: int, last: int) -> str:
    return str(last) if least == last else f"[{least}-{last}]"


def _any(count: int) -> str:
    return "" if count == 0 else "[0-9]" if count == 1 else f"[0-9]{{{count}}}"


def _anchored(pattern: str, *, required: bool) -> str:
    """The pattern for the whole text, which may also be empty unless required."""
    inner = re.sub(r"^\^\$\|", "", pattern).removeprefix("^").removesuffix("$")
    return f"^({inner})$" if required else f"^({inner})?$"


def _joined(rules: list[Rule]) -> Rule:
    """One rule of settings that share a parameter: their first meaning, and all their distinct limits."""
    distinct = []
    for rule in rules:
        limits = {name: value for name, value in rule.items() if name != "description"}
        if limits not in distinct:
            distinct.append(limits)
    if len(distinct) == 1:
        return {"description": rules[0]["description"], **distinct[0]}
    return {"description": rules[0]["description"], "allOf": distinct}
