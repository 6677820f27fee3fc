"""All RPCs with odd enums, numbers and strings: such requests are refused and never cause an internal error."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from acdtask.cube.local.cube import LocalCube
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
from acdtask.cube.protocol.convert import transform_to_message
from acdtask.cube.protocol.services_pb2_grpc import GeocubeStub
from tests.cube.builders import grid
from tests.serve.conftest import serving
from tests.serve.requests import (
    SQUARE,
    area,
    create_layout,
    create_records,
    instantiate,
    int16,
    layout,
    new_aoi,
    new_record,
    refusal,
    variable,
)
from tests.serve.requests import create_variable as made_variable
from tests.serve.test_datasets import tiff

SERVICES = ("Geocube", "GeocubeDownloader", "Admin")
RPCS = [
    (service, method.name)
    for service in SERVICES
    for method in services_pb2.DESCRIPTOR.services_by_name[service].methods
]
REQUESTS = 150
DEPTH, SHALLOW = 6, 0.1
FLOATS = (0.0, -1.0, 1.0, 0.5, 1e-300, 1e300, -1e300, math.nan, math.inf, -math.inf)
ODD_INTEGERS = (0, 1, -1, 2, 7, 256)
ENUMS = (0, 1, 2, 3, 5, 99, -1, 2**31 - 1, -(2**31))
TEXTS = (
    *(
        "",
        "a",
        "*",
        "[",
        "?" * 50,
        "..",
        "../..",
        "\0",
        "\n",
        "é",
        "\U0001f600",
        "%s",
        "{",
        "-1",
        "NaN",
        "1e999",
        "inf",
    ),
    *("EPSG:4326", "EPSG:32632", "EPSG:99999", "epsg:0", "+proj=nothing", "regular", "web", "resolution", "cell_size"),
    *("crs", "grid", "Z=0>T>R>B;R>Z=1:>T>B", "Z=9" * 20, "00000000-0000-0000-0000-000000000000", "x" * 36, "{}" * 18),
    *("/nowhere/a.tif", "/", "//", "a" * 5000, "utm", "CoherenceVV", "master", "DONE", "COMPRESS", "GTIFF_DIR:99"),
)

INTEGER_LIMITS = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SINT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SFIXED32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SINT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SFIXED64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_FIXED32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_FIXED64: (0, 2**64 - 1),
}


class Odd:
    """Generates messages from odd values and known ids."""

    def __init__(self, seed: int, known: tuple[str, ...]) -> None:
        self._random = np.random.default_rng(seed)
        self._texts = TEXTS + known * 6

    def message(self, descriptor: Descriptor, depth: int = 0) -> Message:
        """A message with randomly set fields."""
        made: Message = GetMessageClass(descriptor)()
        for field in descriptor.fields:
            if self._random.random() < (0.8 if depth < DEPTH else 0.0):
                self._set(made, field, depth)
        return made

    def spoilt(self, honest: Message) -> Message:
        """A valid request with one odd field."""
        made: Message = type(honest)()
        made.CopyFrom(honest)
        inner, field = self._somewhere(made)
        inner.ClearField(field.name)
        self._set(inner, field, DEPTH - 1)
        return made

    def _somewhere(self, message: Message) -> tuple[Message, FieldDescriptor]:
        field = self._pick(tuple(message.DESCRIPTOR.fields))
        entry = field.message_type
        if entry is None or entry.GetOptions().map_entry or self._random.random() < SHALLOW:
            return message, field
        target = getattr(message, field.name)
        if not field.is_repeated:
            return self._somewhere(target)
        return self._somewhere(target[self._random.integers(len(target))]) if len(target) else (message, field)

    def _set(self, made: Message, field: FieldDescriptor, depth: int) -> None:
        target = getattr(made, field.name)
        entry = field.message_type
        if entry is not None and entry.GetOptions().map_entry:
            for _ in range(self._random.integers(0, 4)):
                value = entry.fields_by_name["value"]
                if value.message_type is None:
                    target[self._value(entry.fields_by_name["key"], depth)] = self._value(value, depth)
        elif field.is_repeated:
            target.extend(self._value(field, depth) for _ in range(self._random.integers(0, 4)))
        elif entry is not None:
            target.CopyFrom(self._value(field, depth))
        else:
            setattr(made, field.name, self._value(field, depth))

    def _value(self, field: FieldDescriptor, depth: int) -> Any:
        if field.message_type is not None:
            return self.message(field.message_type, depth + 1)
        if field.type == FieldDescriptor.TYPE_ENUM:
            return self._pick(ENUMS)
        if field.type == FieldDescriptor.TYPE_STRING:
            return self._pick(self._texts)
        if field.type == FieldDescriptor.TYPE_BYTES:
            return self._pick((b"", b"\xff", b"a"))
        if field.type == FieldDescriptor.TYPE_BOOL:
            return bool(self._random.integers(2))
        if field.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
            return self._pick(FLOATS)
        low, high = INTEGER_LIMITS[field.type]
        return self._pick((low, high, *(number for number in ODD_INTEGERS if low <= number <= high)))

    def _pick(self, values: tuple[Any, ...]) -> Any:
        return values[self._random.integers(len(values))]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[grpc.Channel, tuple[str, ...]]]:
    """A channel to a server of a cube with an item of each kind, and their ids."""
    cube = LocalCube.create(str(tmp_path_factory.mktemp("odd") / "cube"))
    with serving(cube, jobs=0) as server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = GeocubeStub(channel)
        aoi = new_aoi(stub)
        records = create_records(stub, new_record(aoi), new_record(aoi, day=2))
        identity = made_variable(stub)
        instance = instantiate(stub, identity).id
        create_layout(stub, layout())
        yield channel, (aoi, *records, identity, instance)


def honest_requests(known: tuple[str, ...], folder: Path) -> list[tuple[str, str, Message]]:
    """Valid requests of the RPCs with many fields."""
    _, first, second, identity, instance = known
    on = grid(64, 64)
    ids: Any = {"ids": [first, second]}
    params = jobs_pb2.ConsolidationParams(dformat=int16(), exponent=1, resampling_alg=values_pb2.NEAR)
    indexed = datasets_pb2.Dataset(
        record_id=first, instance_id=instance, bands=[1], dformat=int16(), exponent=1, real_max_value=1000
    )
    meta = datasets_pb2.InternalMeta(
        container_uri=tiff(folder / "b.tif"), bands=[1], dformat=int16(), range_max=1000, exponent=1
    )
    place: dict[str, Any] = {
        "crs": on.crs,
        "pix_to_crs": transform_to_message(on),
        "size": values_pb2.Size(width=64, height=64),
    }
    filters = records_pb2.RecordFilters(tags={"k": "v"})
    return [
        ("Geocube", "CreateVariable", variables_pb2.CreateVariableRequest(variable=variable("Other"))),
        (
            "Geocube",
            "ConfigConsolidation",
            jobs_pb2.ConfigConsolidationRequest(variable_id=identity, consolidation_params=params),
        ),
        (
            "Geocube",
            "Consolidate",
            jobs_pb2.ConsolidateRequest(
                job_name="j",
                instance_id=instance,
                layout_name="utm",
                records=ids,
                execution_level=values_pb2.ExecutionAsynchronous,
            ),
        ),
        ("Geocube", "CreateLayout", layouts_pb2.CreateLayoutRequest(layout=layout("other"))),
        ("Geocube", "TileAOI", layouts_pb2.TileAOIRequest(aoi=area(SQUARE), layout=layout(""))),
        ("Geocube", "CreateRecords", records_pb2.CreateRecordsRequest(records=[new_record(known[0], "S2")])),
        (
            "Geocube",
            "ListRecords",
            records_pb2.ListRecordsRequest(name="*", tags={"k": "v"}, aoi=area(SQUARE), limit=3),
        ),
        (
            "Geocube",
            "IndexDatasets",
            datasets_pb2.IndexDatasetsRequest(
                container=datasets_pb2.Container(uri=tiff(folder / "a.tif"), datasets=[indexed])
            ),
        ),
        ("Geocube", "ListDatasets", datasets_pb2.ListDatasetsRequest(instance_id=instance, records=ids)),
        (
            "Geocube",
            "GetCube",
            cubes_pb2.GetCubeRequest(records=ids, instances_id=[instance], compression_level=-3, **place),
        ),
        (
            "Geocube",
            "GetCube",
            cubes_pb2.GetCubeRequest(filters=filters, instances_id=[instance], format=values_pb2.GTiff, **place),
        ),
        (
            "Geocube",
            "GetXYZTile",
            cubes_pb2.GetTileRequest(instance_id=instance, records=ids, x=8508, y=5450, z=14, max=1000),
        ),
        (
            "GeocubeDownloader",
            "DownloadCube",
            cubes_pb2.GetCubeMetadataRequest(
                datasets_meta=[datasets_pb2.DatasetMeta(internalsMeta=[meta])],
                grouped_records=[records_pb2.GroupedRecords()],
                ref_dformat=int16(),
                resampling_alg=values_pb2.NEAR,
                **place,
            ),
        ),
        (
            "Admin",
            "UpdateDatasets",
            services_pb2.UpdateDatasetsRequest(
                instance_id=instance, record_ids=[first], dformat=int16(), real_max_value=1000, exponent=1
            ),
        ),
        (
            "Geocube",
            "CreatePalette",
            variables_pb2.CreatePaletteRequest(
                palette=variables_pb2.Palette(
                    name="p",
                    colors=[variables_pb2.colorPoint(value=0, a=255), variables_pb2.colorPoint(value=1, r=255)],
                ),
                replace=True,
            ),
        ),
    ]


def test_a_request_that_is_odd_in_one_field_is_never_a_bug(
    served: tuple[grpc.Channel, tuple[str, ...]], tmp_path: Path
) -> None:
    channel, known = served
    for service, rpc, honest in honest_requests(known, tmp_path):
        for seed in range(REQUESTS):
            request = Odd(seed, known).spoilt(honest)
            code, message = called(channel, service, rpc, request.SerializeToString())
            assert code not in ("INTERNAL", "CANCELLED", "DEADLINE_EXCEEDED"), (rpc, seed, message, str(request)[:2000])


def called(channel: grpc.Channel, service: str, rpc: str, request: bytes) -> tuple[str, str]:
    """The final code and message of a call."""
    call: Any = channel.stream_stream(f"/geocube.{service}/{rpc}")
    try:
        for _ in call(iter([request]), timeout=60):
            pass
    except grpc.RpcError as error:
        ended: Any = error
        return ended.code().name, ended.details()
    return "OK", ""


@pytest.mark.parametrize(("service", "rpc"), RPCS)
def test_an_odd_request_is_never_a_bug(served: tuple[grpc.Channel, tuple[str, ...]], service: str, rpc: str) -> None:
    channel, known = served
    descriptor = services_pb2.DESCRIPTOR.services_by_name[service].methods_by_name[rpc].input_type
    for seed in range(REQUESTS):
        request = Odd(seed, known).message(descriptor)
        code, message = called(channel, service, rpc, request.SerializeToString())
        assert code not in ("INTERNAL", "CANCELLED", "DEADLINE_EXCEEDED"), (seed, message, str(request)[:2000])
        assert "internal error of acd" not in message


@pytest.mark.parametrize(("service", "rpc"), RPCS)
def test_a_request_with_a_text_of_megabytes_is_never_a_bug(
    served: tuple[grpc.Channel, tuple[str, ...]], service: str, rpc: str
) -> None:
    channel, _ = served
    descriptor = services_pb2.DESCRIPTOR.services_by_name[service].methods_by_name[rpc].input_type
    made = GetMessageClass(descriptor)
    for field in descriptor.fields:
        if field.type == FieldDescriptor.TYPE_STRING:
            for size, allowed in ((3_000_000, True), (10_000_000, False)):
                text = "x" * size
                request = made(**{field.name: [text] if field.is_repeated else text})
                code, message = called(channel, service, rpc, request.SerializeToString())
                assert code != "INTERNAL", message
                assert allowed or code == "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize("dtype", [99, -1, 2**31 - 1])
def test_an_unknown_data_type_is_an_invalid_argument(stub: GeocubeStub, dtype: int) -> None:
    dformat = int16()
    dformat.dtype = dtype  # type: ignore[assignment]  # on purpose
    request = variables_pb2.CreateVariableRequest(variable=variable(dformat=dformat))
    refused = refusal(lambda: stub.CreateVariable(request))
    assert refused.code == "INVALID_ARGUMENT"
    assert str(dtype) in refused.message


def test_an_unsupported_data_type_is_named(stub: GeocubeStub) -> None:
    dformat = values_pb2.DataFormat(dtype=values_pb2.DataFormat.Complex64, min_value=0, max_value=1)
    request = variables_pb2.CreateVariableRequest(variable=variable(dformat=dformat))
    refused = refusal(lambda: stub.CreateVariable(request))
    assert (refused.code, "Complex64" in refused.message) == ("UNIMPLEMENTED", True)
