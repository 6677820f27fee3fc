"""A Geocube accessed by protocol messages, without acd's client."""

from __future__ import annotations

import uuid
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from acdtask.cube.protocol import (
    cubes_pb2,
    datasets_pb2,
    jobs_pb2,
    layouts_pb2,
    records_pb2,
    services_pb2_grpc,
    values_pb2,
    variables_pb2,
)
from acdtask.cube.protocol.convert import area_to_message, moment_to_message, transform_to_message
from acdtask.raster.data_format import Pixels
from acdtask.raster.grid import Grid
from acdtask.storage.store import Store
from tests.cube.builders import START, box, grid, image
from tests.raster.cogs import write_cog

__all__ = ["INT16", "SCENE", "UNKNOWN_ID", "Call", "Wire", "pixels_of", "refusal_of", "streamed"]

INT16 = values_pb2.DataFormat(dtype=values_pb2.DataFormat.Int16, no_data=-1, min_value=0, max_value=1000)
SCENE = grid(150, 100)
UNKNOWN_ID = "0f5e1ad4-8d0e-4b6f-9e4f-7f3d2f1a9c11"


@dataclass(frozen=True)
class Wire:
    """A server, with a catalogue of the test that is created when it is first used."""

    stub: services_pb2_grpc.GeocubeStub
    folder: Path
    prefix: str = field(default_factory=lambda: f"w{uuid.uuid4().hex[:10]}")

    def name(self, name: str) -> str:
        return f"{self.prefix}-{name}"

    def new_variable(self, called: str = "v", **changes: object) -> variables_pb2.CreateVariableRequest:
        """A request to create a variable."""
        fields = {"name": self.name(called), "dformat": INT16, "bands": [""], "resampling_alg": values_pb2.BILINEAR}
        return variables_pb2.CreateVariableRequest(variable=variables_pb2.Variable(**(fields | changes)))  # type: ignore[arg-type]  # by name

    def new_layout(self, called: str = "l", **changes: object) -> layouts_pb2.CreateLayoutRequest:
        """A request to create a layout with cells of 64 px."""
        parameters = {"grid": "regular", "crs": "EPSG:32632", "resolution": "20", "cell_size": "64"}
        fields = {
            "name": self.name(called),
            "grid_parameters": parameters,
            "block_x_size": 64,
            "block_y_size": 64,
            "max_records": 100,
            "overviews_min_size": 0,
            "interlacing_pattern": "Z=0>T>R>B;R>Z=1:>T>B",
        }
        return layouts_pb2.CreateLayoutRequest(layout=layouts_pb2.Layout(**(fields | changes)))  # type: ignore[arg-type]  # by name

    @cached_property
    def variable(self) -> str:
        """Id of a variable."""
        return self.stub.CreateVariable(self.new_variable()).id

    @cached_property
    def instance(self) -> str:
        """Id of its instance."""
        request = variables_pb2.InstantiateVariableRequest(variable_id=self.variable, instance_name="master")
        return self.stub.InstantiateVariable(request).instance.id

    @cached_property
    def layout(self) -> str:
        """Name of a layout."""
        self.stub.CreateLayout(self.new_layout())
        return self.name("l")

    @cached_property
    def area(self) -> records_pb2.AOI:
        """A unique area."""
        east, north = (round(int(part, 16) / 2**20 * 0.5, 5) for part in (self.prefix[1:6], self.prefix[6:11]))
        return area_to_message(box(7 + east, 50 + north, 8 + east, 51 + north))

    @cached_property
    def area_id(self) -> str:
        """Id of the area."""
        return self.stub.CreateAOI(records_pb2.CreateAOIRequest(aoi=self.area)).id

    def new_record(self, number: int = 0, **changes: object) -> records_pb2.NewRecord:
        """A record for a request to create records."""
        fields = {
            "name": self.name(f"r{number}"),
            "time": moment_to_message(START.replace(day=number + 1)),
            "tags": {"orbit": "37"},
            "aoi_id": self.area_id,
        }
        return records_pb2.NewRecord(**(fields | changes))  # type: ignore[arg-type]  # by name

    @cached_property
    def records(self) -> list[str]:
        """Ids of three records."""
        request = records_pb2.CreateRecordsRequest(records=[self.new_record(number) for number in range(3)])
        return list(self.stub.CreateRecords(request).ids)

    def write(self, pixels: Pixels, of: Grid = SCENE) -> str:
        """Write pixels (height, width) to a file, and return its path."""
        folder = self.folder / self.prefix
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{uuid.uuid4().hex}.tif"
        write_cog(Store.at(str(folder)), name, pixels[np.newaxis], of, nodata=-1)
        return str(folder / name)

    def container(self, uri: str, record: str, **changes: object) -> datasets_pb2.IndexDatasetsRequest:
        """A request to index band 1 of a file for a record."""
        fields = {
            "record_id": record,
            "instance_id": self.instance,
            "bands": [1],
            "dformat": INT16,
            "real_min_value": 0,
            "real_max_value": 1000,
            "exponent": 1,
        }
        dataset = datasets_pb2.Dataset(**(fields | changes))  # type: ignore[arg-type]  # by name
        return datasets_pb2.IndexDatasetsRequest(container=datasets_pb2.Container(uri=uri, datasets=[dataset]))

    @cached_property
    def images(self) -> list[Pixels]:
        """Index images of the three records, and return their pixels."""
        pixels = [image(SCENE, number, low=1) for number in range(3)]
        for raster, record in zip(pixels, self.records, strict=True):
            self.stub.IndexDatasets(self.container(self.write(raster), record))
        return pixels

    def cube(self, *groups: tuple[str, ...], on: Grid = SCENE, **changes: object) -> cubes_pb2.GetCubeRequest:
        """A request for a cube of the instance."""
        fields = {
            "grouped_records": records_pb2.GroupedRecordIdsList(
                records=[records_pb2.GroupedRecordIds(ids=group) for group in groups]
            ),
            "instances_id": [self.instance],
            "crs": on.crs,
            "pix_to_crs": transform_to_message(on),
            "size": values_pb2.Size(width=on.width, height=on.height),
            "compression_level": -3,
            "protocol_v11x": True,
        }
        return cubes_pb2.GetCubeRequest(**(fields | changes))  # type: ignore[arg-type]  # by name

    def consolidation(self, name: str = "job", **changes: object) -> jobs_pb2.ConsolidateRequest:
        """A request to consolidate the three records."""
        fields = {
            "job_name": self.name(name),
            "instance_id": self.instance,
            "layout_name": self.layout,
            "execution_level": 1,
            "records": records_pb2.RecordIdList(ids=self.records),
        }
        return jobs_pb2.ConsolidateRequest(**(fields | changes))  # type: ignore[arg-type]  # by name

    def configure(self) -> None:
        """Set the variable's consolidation parameters."""
        params = jobs_pb2.ConsolidationParams(dformat=INT16, exponent=1, resampling_alg=values_pb2.BILINEAR)
        self.stub.ConfigConsolidation(
            jobs_pb2.ConfigConsolidationRequest(variable_id=self.variable, consolidation_params=params)
        )


Call = Callable[[Wire], Any]


def refusal_of(call: Call, wire: Wire) -> grpc.RpcError:
    """The error of a refused call; a stream is read to its end."""

    def whole() -> None:
        found = call(wire)
        if isinstance(found, Iterable):
            list(found)

    with pytest.raises(grpc.RpcError) as error:
        whole()
    return error.value


def streamed(answers: Iterable[cubes_pb2.GetCubeResponse]) -> list[Any]:
    """The messages of a cube: the global header, then for each slice its header and chunks."""
    slices: list[Any] = []
    for answer in answers:
        kind = answer.WhichOneof("response")
        if kind == "global_header":
            assert not slices, "a global header comes first, once"
            slices.append(answer.global_header)
        elif kind == "header":
            slices.append((answer.header, []))
        else:
            slices[-1][1].append(answer.chunk)
    return slices


def pixels_of(header: cubes_pb2.ImageHeader, chunks: list[cubes_pb2.ImageChunk]) -> Any:
    data = b"".join([header.data, *(chunk.data for chunk in chunks)])
    if header.compression:
        data = zlib.decompress(data, wbits=-15)
    assert len(data) == header.size
    shape = (header.shape.dim3, header.shape.dim2, header.shape.dim1)
    return np.frombuffer(data, "<i2" if header.order == 0 else ">i2").reshape(shape)
