"""acd's .proto files are compatible with Geocube's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto

from acdtask.cube.protocol import (
    cubes_pb2,
    datasets_pb2,
    jobs_pb2,
    layouts_pb2,
    records_pb2,
    services_pb2,
    values_pb2,
    variables_pb2,
)
from hatch_build import MADE, PROTOCOL, generate

CHECKOUT = Path(__file__).resolve().parents[3]
RECORDED = json.loads(Path(__file__).with_name("geocube-1.0.3.json").read_text())
"""Descriptors by protoc of airbusgeo/geocube api/v1/pb at 5516cb2c: number, type, label, oneof of each field; request,
response and streams of each call."""

FILES = [
    module.DESCRIPTOR
    for module in (
        values_pb2,
        records_pb2,
        variables_pb2,
        layouts_pb2,
        datasets_pb2,
        cubes_pb2,
        jobs_pb2,
        services_pb2,
    )
]


def messages(of: Iterator[Descriptor]) -> Iterator[Descriptor]:
    for message in of:
        yield message
        yield from messages(iter(message.nested_types))


def every_message() -> Iterator[Descriptor]:
    return (message for file in FILES for message in messages(iter(file.message_types_by_name.values())))


def every_enum() -> Iterator[EnumDescriptor]:
    for file in FILES:
        yield from file.enum_types_by_name.values()
    for message in every_message():
        yield from message.enum_types


def described(field: FieldDescriptor) -> list[Any]:
    named = field.message_type or field.enum_type
    kind = named.full_name if named else FieldDescriptorProto.Type.Name(field.type)[5:].lower()  # type: ignore[arg-type]  # the same numbers
    label = "repeated" if field.is_repeated else "optional"
    return [field.number, kind, label, field.containing_oneof.name if field.containing_oneof else ""]


def test_every_message_has_the_fields_of_geocube() -> None:
    ours = {
        message.full_name: {field.name: described(field) for field in message.fields} for message in every_message()
    }
    assert ours == RECORDED["messages"]


def test_every_enum_has_the_numbers_of_geocube() -> None:
    ours = {enum.full_name: {value.name: value.number for value in enum.values} for enum in every_enum()}
    assert ours == RECORDED["enums"]


def test_every_call_has_the_name_and_the_streams_of_geocube() -> None:
    ours = {
        service.full_name: {
            call.name: [
                call.input_type.full_name,
                call.output_type.full_name,
                call.client_streaming,
                call.server_streaming,
            ]
            for call in service.methods
        }
        for file in FILES
        for service in file.services_by_name.values()
    }
    assert ours == RECORDED["services"]


@pytest.mark.parametrize("pattern", MADE)
def test_the_modules_are_those_of_the_proto_files(pattern: str, tmp_path: Path) -> None:
    generate(CHECKOUT, tmp_path)
    fresh = {path.name: path.read_text() for path in (tmp_path / PROTOCOL).glob(pattern)}
    assert fresh
    assert fresh == {path.name: path.read_text() for path in (CHECKOUT / PROTOCOL).glob(pattern)}, "run make test"
