"""A server for pixels, and a strict reader of its streams."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import rasterio
from affine import Affine

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import Addition, Dataset, Instance, Record, Variable
from acdtask.cube.protocol.convert import transform_to_message
from acdtask.cube.protocol.cubes_pb2 import (
    GetCubeMetadataResponse,
    GetCubeRequest,
    GetCubeResponse,
    GetCubeResponseHeader,
    ImageHeader,
)
from acdtask.cube.protocol.records_pb2 import GroupedRecordIds, GroupedRecordIdsList, RecordFilters, RecordIdList
from acdtask.cube.protocol.services_pb2_grpc import (
    GeocubeDownloaderStub,
    GeocubeStub,
    add_GeocubeDownloaderServicer_to_server,
    add_GeocubeServicer_to_server,
)
from acdtask.cube.protocol.values_pb2 import FileFormat, Raw, Size
from acdtask.raster.data_format import DataFormat, Pixels
from acdtask.raster.grid import Grid
from acdtask.serve.call_interceptor import CallInterceptor
from acdtask.serve.consolidation.jobs import ConsolidationJobs
from acdtask.serve.downloader import DownloaderService
from acdtask.serve.ids import instance_id
from acdtask.serve.keys import Keys
from acdtask.serve.lanes import Lanes
from acdtask.serve.service import services_of
from acdtask.serve.stalls import StallGuard
from acdtask.serve.streams import StreamLimits, Streams
from tests.cube.builders import dataset, grid, put_image, record

DTYPES = (None, "uint8", "uint16", "uint32", "int8", "int16", "int32", "float32", "float64", "complex64")


@dataclass
class Served:
    """A local server and its stubs."""

    cube: LocalCube
    streams: Streams
    address: str
    geocube: GeocubeStub
    downloader: GeocubeDownloaderStub


@contextmanager
def serving(cube: LocalCube, limits: StreamLimits | None = None, allowed: Iterable[str] = ()) -> Iterator[Served]:
    streams = Streams(limits or StreamLimits())
    lanes = Lanes(16, streams.limits)
    with ThreadPoolExecutor(1) as pool:
        guard = StallGuard(10, streams.limits.stall_s)
        server = grpc.server(pool, interceptors=[CallInterceptor(Keys(), lanes, guard)])
        add_GeocubeServicer_to_server(services_of(cube, ConsolidationJobs(cube), streams, list(allowed))[0], server)
        add_GeocubeDownloaderServicer_to_server(DownloaderService(cube, streams, allowed=allowed), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                yield Served(cube, streams, f"127.0.0.1:{port}", GeocubeStub(channel), GeocubeDownloaderStub(channel))
        finally:
            server.stop(None).wait()
            lanes.shut_down()


@dataclass
class Received:
    """A received image: its header, the number of its messages, and its inflated bytes."""

    header: ImageHeader
    messages: int = 1
    data: bytes = b""
    records: list[str] = field(default_factory=list)

    @property
    def pixels(self) -> Pixels:
        """Shape (height, width, bands)."""
        shape = self.header.shape
        return np.frombuffer(self.data, DTYPES[self.header.dtype]).reshape(shape.dim3, shape.dim2, shape.dim1)


def receive(
    stream: Iterable[GetCubeResponse | GetCubeMetadataResponse], *, ends_early: bool
) -> tuple[GetCubeResponseHeader, list[Received]]:
    """The global header and every image, read as strictly as the protocol allows."""
    messages: Iterator[Any] = iter(stream)
    first = next(messages)
    assert first.WhichOneof("response") == "global_header"
    images = []
    for message in messages:
        assert message.WhichOneof("response") == "header"
        images.append(_receive_image(message.header, messages, ends_early=ends_early))
    assert len(images) == first.global_header.count
    return first.global_header, images


def _receive_image(header: ImageHeader, messages: Iterator[Any], *, ends_early: bool) -> Received:
    ids = [record.id for record in header.grouped_records.records]
    image, data = Received(header, records=ids), header.data
    for part in range(1, header.nb_parts):
        message = next(messages)
        assert message.WhichOneof("response") == "chunk"
        assert message.chunk.part == part
        image.messages += 1
        data += message.chunk.data
        if ends_early and not message.chunk.data:
            break
    image.data = zlib.decompress(data, -15) if header.compression and data else data
    assert len(image.data) == header.size
    return image


def ask(
    variable: Variable,
    grid: Grid,
    groups: Iterable[Iterable[str]] | RecordFilters = (),
    *,
    instance: str = "master",
    level: int = -3,
    plain: bool = False,
    file: FileFormat.ValueType = Raw,
    **fields: Any,
) -> GetCubeRequest:
    """A request; `plain` sends groups of single records as a list of records."""
    request: dict[str, Any] = {}
    if isinstance(groups, RecordFilters):
        request["filters"] = groups
    elif plain:
        request["records"] = RecordIdList(ids=[record_id for group in groups for record_id in group])
    else:
        request["grouped_records"] = GroupedRecordIdsList(records=[GroupedRecordIds(ids=group) for group in groups])
    request |= {
        "instances_id": [instance_id(variable.name, instance)],
        "crs": grid.crs,
        "pix_to_crs": transform_to_message(grid),
        "size": Size(width=grid.width, height=grid.height),
        "compression_level": level,
        "format": file,
    }
    return GetCubeRequest(**(request | fields))


def filled(place: str, variable: Variable, images: Iterable[tuple[Record, Pixels, Grid]]) -> LocalCube:
    """A cube with one COG per image; a record may have several."""
    cube = LocalCube.create(place)
    cube.commit(Addition(variables=[variable], instances=[Instance(variable=variable.name, name="master")]))
    records: dict[str, Record] = {}
    datasets: list[Dataset] = []
    for number, (of, pixels, on) in enumerate(images):
        records[of.id] = of
        changes = {"record_id": of.id, "variable": variable.name, "dformat": variable.dformat}
        stored = put_image(cube.store, f"pixels/{number}.tif", pixels, on, dformat=variable.dformat)
        datasets.append(stored.model_copy(update=changes))
    cube.commit(Addition(list(records.values()), datasets))
    return cube


def of_zeros(folder: Path, side: int, bands: int, count: int = 1) -> tuple[LocalCube, Variable, Grid]:
    """A cube of large float32 files of zeros, which are sparse on disk.

    Args:
        folder: folder for the cube.
        side: width and height in pixels.
        bands: number of bands.
        count: number of records: record(0), record(1), ...

    Returns:
        The cube, its variable, and the grid of its files.
    """
    dformat = DataFormat(dtype="float32", nodata=-1, min=0, max=1)
    variable = Variable(name="Huge", dformat=dformat, bands=tuple("abcdef"[:bands]), resampling="nearest")
    on = grid(side, side)
    profile = {"driver": "GTiff", "dtype": "float32", "width": side, "height": side, "count": bands, "crs": on.crs}
    profile |= {"transform": Affine(*on.transform), "tiled": True, "sparse_ok": True}
    cube = LocalCube.create(str(folder / "cube"))
    fields: dict[str, Any] = {"variable": "Huge", "dformat": dformat, "grid": on, "bands": tuple(range(1, bands + 1))}
    records = [record(number) for number in range(count)]
    paths = [str(folder / "cube" / f"{number}.tif") for number in range(count)]
    for path in paths:
        with rasterio.open(path, "w", **profile):
            pass  # unwritten blocks are zeros
    datasets = [dataset(record, path, **fields) for record, path in zip(records, paths, strict=True)]
    cube.commit(Addition(records, datasets, variables=[variable], instances=[Instance(variable="Huge", name="master")]))
    return cube, variable, on
