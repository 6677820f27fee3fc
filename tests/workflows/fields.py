"""Find unknown fields of objects, by hera's models or by an OpenAPI schema."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, RootModel

__all__ = ["unknown_to_model", "unknown_to_schema"]

Schema = Mapping[str, Any]
OPEN = "x-kubernetes-preserve-unknown-fields"


def unknown_to_model(value: Any, kind: Any, path: str = "") -> Iterator[str]:
    """The paths of fields that a pydantic model (or another annotation) does not define."""
    if not isinstance(value, (dict, list)) or kind is Any:
        return
    kinds = [kind for kind in _alternatives(kind) if _takes(kind, value)]
    if not kinds:
        yield f"{path}: no {type(value).__name__} is expected"
        return
    found = [list(_unknown_inside(value, item, path)) for item in kinds]
    yield from min(found, key=len)


def _alternatives(kind: Any) -> list[Any]:
    if get_origin(kind) in (Union, types.UnionType):
        return [item for part in get_args(kind) for item in _alternatives(part)]
    if isinstance(kind, type) and issubclass(kind, RootModel):
        return _alternatives(kind.model_fields["root"].annotation)
    return [kind]


def _takes(kind: Any, value: Any) -> bool:
    if kind is Any:
        return True
    if isinstance(value, list):
        return get_origin(kind) is list
    return get_origin(kind) is dict or (isinstance(kind, type) and issubclass(kind, BaseModel))


def _unknown_inside(value: Any, kind: Any, path: str) -> Iterator[str]:
    if kind is Any:
        return
    if isinstance(value, list):
        for index, inside in enumerate(value):
            yield from unknown_to_model(inside, get_args(kind)[0], f"{path}[{index}]")
    elif get_origin(kind) is dict:
        for key, inside in value.items():
            yield from unknown_to_model(inside, get_args(kind)[1], f"{path}.{key}")
    else:
        fields = {field.alias or name: field.annotation for name, field in kind.model_fields.items()}
        for key, inside in value.items():
            if key in fields:
                yield from unknown_to_model(inside, fields[key], f"{path}.{key}")
            else:
                yield f"{path}.{key}"


def unknown_to_schema(value: Any, schema: Schema, path: str = "", root: Schema | None = None) -> Iterator[str]:
    """The paths of fields that an OpenAPI v3 schema does not define; references are resolved in `root`."""
    schema = _resolved(schema, schema if root is None else root)
    root = schema if root is None else root
    if isinstance(value, list):
        if "items" not in schema:
            yield f"{path}: no list is expected"
            return
        for index, inside in enumerate(value):
            yield from unknown_to_schema(inside, schema["items"], f"{path}[{index}]", root)
    elif isinstance(value, dict):
        yield from _unknown_keys(value, schema, path, root)


def _unknown_keys(value: Mapping[str, Any], schema: Schema, path: str, root: Schema) -> Iterator[str]:
    known, others = schema.get("properties", {}), schema.get("additionalProperties")
    for key, inside in value.items():
        if key in known:
            yield from unknown_to_schema(inside, known[key], f"{path}.{key}", root)
        elif isinstance(others, dict):
            yield from unknown_to_schema(inside, others, f"{path}.{key}", root)
        elif not schema.get(OPEN):
            yield f"{path}.{key}"


def _resolved(schema: Schema, root: Schema) -> dict[str, Any]:
    """The schema with its reference and `allOf` resolved."""
    parts = [*schema.get("allOf", [])]
    if "$ref" in schema:
        target: Any = root
        for step in schema["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        parts.append(target)
    merged: dict[str, Any] = {}
    for part in parts:
        merged |= _resolved(part, root)
    return {**merged, **{key: part_ for key, part_ in schema.items() if key not in {"$ref", "allOf"}}}
