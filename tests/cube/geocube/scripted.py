"""A scripted Geocube for tests: a real gRPC server with given records, images and faults."""

from __future__ import annotations

import threading
import time
import uuid
import zlib
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import grpc
import numpy as np
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import ResourceInfo  # type: ignore[import-untyped]  # it has no types
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]  # likewise

from acdtask.cube.geocube.connection import Connection
from acdtask.cube.model import Record, Variable
from acdtask.cube.protocol import cubes_pb2, datasets_pb2, jobs_pb2, layouts_pb2, records_pb2, services_pb2
from acdtask.cube.protocol import variables_pb2 as variables
from acdtask.cube.protocol.convert import (
    DTYPES,
    RESAMPLINGS,
    dformat_to_message,
    moment_from_message,
    moment_to_message,
)
from acdtask.cube.protocol.services_pb2_grpc import (
    GeocubeDownloaderServicer,
    GeocubeServicer,
    add_GeocubeDownloaderServicer_to_server,
    add_GeocubeServicer_to_server,
)
from acdtask.cube.protocol.values_pb2 import BigEndian, LittleEndian, Shape
from acdtask.raster.data_format import DataFormat, Pixels

__all__ = ["NO_DATA", "Fault", "Scripted", "deflated", "record_of", "scripted"]

Code = grpc.StatusCode
NO_DATA = "rpc error: code = NotFound desc = Not enough valid pixels (skipped)"
START = datetime(2021, 1, 1, tzinfo=UTC)
AREA = {"type": "Polygon", "coordinates": [[[7, 50], [8, 50], [8, 51], [7, 51], [7, 50]]]}


@dataclass(frozen=True)
class Fault:
    """The failure of a call: before its response, or after some messages of a stream.

    Attributes:
        code: None ends a stream as if all were well.
        resource: kind and name of the ResourceInfo in the details.
        processed: whether the call had its effect nevertheless.
    """

    code: grpc.StatusCode | None = Code.UNAVAILABLE
    message: str = "try again"
    resource: tuple[str, str] | None = None
    after: int = 0
    processed: bool = False


def record_of(number: int) -> Record:
    """The record of a day, counted from 2021-01-01."""
    moment = START + timedelta(days=number)
    return Record(name=f"S1/{number:03d}", datetime=moment, tags={"orbit": "37"}, footprint=AREA)


def deflated(data: bytes, level: int, chunk: int) -> list[bytes]:
    """Raw DEFLATE in pieces as sent by a server; level -2 is Huffman only."""
    strategy = zlib.Z_HUFFMAN_ONLY if level == -2 else zlib.Z_DEFAULT_STRATEGY
    squeeze = zlib.compressobj(6 if level < 0 else level, zlib.DEFLATED, -15, 8, strategy)
    pieces = [squeeze.compress(data[at : at + chunk]) for at in range(0, len(data), chunk)]
    whole = b"".join([*pieces, squeeze.flush()])
    return [whole[at : at + chunk] for at in range(0, len(whole), chunk)]


@dataclass
class Scripted:
    """Contents and behaviour of the server.

    Attributes:
        images: by record id: pixels (height, width) or (bands, height, width), or the text of an error; a record
            without one is absent.
        faults: by the name of the call, the failures of the next calls; None for success.
        calls: requests by the name of the call.
        chunk: bytes of a part.
        knows_v11x: end a compressed image with its first empty chunk.
        big: send big-endian numbers.
        twist: changes the messages of a stream.
        delay: seconds before each message of a stream.
    """

    variable: Variable
    images: dict[str, Pixels | str] = field(default_factory=dict)
    faults: dict[str, deque[Fault | None]] = field(default_factory=lambda: defaultdict(deque))
    calls: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    metadata: list[dict[str, str]] = field(default_factory=list)
    records: dict[str, records_pb2.Record] = field(default_factory=dict)
    jobs: dict[str, jobs_pb2.Job] = field(default_factory=dict)
    layouts: dict[str, layouts_pb2.Layout] = field(default_factory=dict)
    chunk: int = 512 * 1024
    knows_v11x: bool = True
    big: bool = False
    twist: Callable[[Iterator[Any]], Iterator[Any]] = lambda messages: messages
    delay: float = 0.0
    address: str = ""
    instance_id: str = "7df1ce41-cc06-5006-abbc-7d33386d2e86"
    variable_id: str = "5d4ed678-f6b2-507d-88a6-7f6a69a04377"
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __repr__(self) -> str:
        """Short, since hypothesis prints it in failures."""
        return f"<Scripted {self.variable.name}>"

    def put(self, record: Record, image: Pixels | str | None = None) -> str:
        """Add a record, and its image; returns the server's id of the record."""
        identity = str(uuid.uuid4())
        self.records[identity] = records_pb2.Record(
            id=identity, name=record.name, time=moment_to_message(record.datetime), tags=record.tags
        )
        if image is not None:
            self.images[identity] = image
        return identity

    def connection(self, **fields: Any) -> Connection:
        """A connection to this server, with short pauses."""
        return Connection.to(self.address, **({"first_pause": 0.001, "longest_pause": 0.01} | fields))

    # ---- behaviour of calls

    def enter(self, name: str, request: Any, context: grpc.ServicerContext) -> Fault | None:
        """Store a call; fail now unless its fault is for later."""
        with self.lock:
            self.calls[name].append(request)
            self.metadata.append({str(key): str(value) for key, value in context.invocation_metadata()})
            fault = self.faults[name].popleft() if self.faults[name] else None
        if fault is not None and not fault.after and not fault.processed:
            fail(context, fault)
        return fault

    def sent(self, messages: Iterator[Any], fault: Fault | None, context: grpc.ServicerContext) -> Iterator[Any]:
        """The messages of a stream up to its fault."""
        for number, message in enumerate(self.twist(messages)):
            if fault is not None and number == fault.after:
                if fault.code is None:
                    return
                fail(context, fault)
            if self.delay:
                time.sleep(self.delay)
            yield message

    def cube(self, groups: list[list[str]], level: int, *, v11x: bool, bare: bool, answer: Any) -> Iterator[Any]:
        """The messages of a cube, each built by `answer`."""
        with_images = [[identity for identity in group if identity in self.images] for group in groups]
        parts = [ids for ids in with_images if ids]
        yield answer(global_header=cubes_pb2.GetCubeResponseHeader(count=len(parts), nb_datasets=len(parts)))
        for ids in parts:
            yield from self._image(ids, level, v11x=v11x and self.knows_v11x, bare=bare, answer=answer)

    def _image(self, ids: list[str], level: int, *, v11x: bool, bare: bool, answer: Any) -> Iterator[Any]:
        header = cubes_pb2.ImageHeader(
            grouped_records=records_pb2.GroupedRecords(records=[self.records[identity] for identity in ids]),
            dataset_meta=datasets_pb2.DatasetMeta(internalsMeta=[self.meta(identity) for identity in ids]),
            dtype=DTYPES[self.variable.dformat.dtype],
        )
        image = self.images[ids[-1]]
        if bare:
            yield answer(header=header)
            return
        if isinstance(image, str):
            header.error = image
            yield answer(header=header)
            return
        bands = image if image.ndim == 3 else image[np.newaxis]
        data = np.moveaxis(bands, 0, 2).astype(image.dtype.newbyteorder(">" if self.big else "<")).tobytes()
        count = -(-len(data) // self.chunk)
        pieces = [data[at : at + self.chunk] for at in range(0, len(data), self.chunk)]
        if level != -3:
            pieces = deflated(data, level, self.chunk)
            count = max(count, len(pieces))
        header.shape.CopyFrom(Shape(dim1=bands.shape[0], dim2=bands.shape[2], dim3=bands.shape[1]))
        header.order = BigEndian if self.big else LittleEndian
        header.nb_parts, header.size, header.compression = count, len(data), level != -3
        header.data = pieces[0]
        yield answer(header=header)
        for part in range(1, count):
            piece = pieces[part] if part < len(pieces) else b""
            yield answer(chunk=cubes_pb2.ImageChunk(part=part, data=piece))
            if not piece and v11x:
                return

    def meta(self, identity: str) -> datasets_pb2.InternalMeta:
        dformat = self.variable.dformat
        return datasets_pb2.InternalMeta(
            container_uri=f"/data/{identity}.tif",
            bands=range(1, len(self.variable.bands) + 1),
            dformat=dformat_to_message(dformat),
            range_min=dformat.min,
            range_max=dformat.max,
            exponent=1,
        )


def fail(context: grpc.ServicerContext, fault: Fault) -> NoReturn:
    """Abort a call with the fault."""
    code = fault.code or Code.UNAVAILABLE
    if fault.resource is not None:
        detail = AnyMessage()
        detail.Pack(ResourceInfo(resource_type=fault.resource[0], resource_name=fault.resource[1]))
        number: Any = code.value
        status = Status(code=number[0], message=fault.message, details=[detail]).SerializeToString()
        context.set_trailing_metadata((("grpc-status-details-bin", status),))
    context.abort(code, fault.message)
    raise AssertionError


class _Server(GeocubeServicer, GeocubeDownloaderServicer):
    def __init__(self, world: Scripted) -> None:
        self._world = world

    def Version(self, request: Any, context: Any) -> Any:  # noqa: N802  # the RPC's name
        self._world.enter("Version", request, context)
        return services_pb2.GetVersionResponse(Version="1.0.3")

    def GetVariable(self, request: Any, context: Any) -> Any:  # noqa: N802  # the RPC's name
        world = self._world
        world.enter("GetVariable", request, context)
        variable = world.variable
        if request.name != variable.name:
            fail(context, Fault(Code.NOT_FOUND, "no", ("Variable", request.name)))
        message = variables.Variable(
            id=world.variable_id,
            name=variable.name,
            dformat=dformat_to_message(variable.dformat),
            bands=variable.bands,
            resampling_alg=RESAMPLINGS[variable.resampling],
            instances=[variables.Instance(id=world.instance_id, name="master")],
        )
        return variables.GetVariableResponse(variable=message)

    def ListRecords(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802  # the RPC's name
        world = self._world
        fault = world.enter("ListRecords", request, context)
        first, last = moment_from_message(request.from_time), moment_from_message(request.to_time)
        with world.lock:
            records = sorted(world.records.values(), key=lambda record: record.time.seconds)
        chosen = [
            record
            for record in records
            if (moment := moment_from_message(record.time))
            and (first is None or moment >= first)
            and (last is None or moment <= last)
        ]
        answers = (records_pb2.ListRecordsResponseItem(record=record) for record in chosen)
        yield from world.sent(answers, fault, context)

    def CreateAOI(self, request: Any, context: Any) -> Any:  # noqa: N802  # the RPC's name
        self._world.enter("CreateAOI", request, context)
        return records_pb2.CreateAOIResponse(id=str(uuid.uuid5(uuid.NAMESPACE_URL, str(request.aoi))))

    def CreateRecords(self, request: Any, context: Any) -> Any:  # noqa: N802  # the RPC's name
        world = self._world
        fault = world.enter("CreateRecords", request, context)
        with world.lock:
            existing = {
                (record.name, record.time.seconds, tuple(sorted(record.tags.items())))
                for record in world.records.values()
            }
            new = [
                (message.name, message.time.seconds, tuple(sorted(message.tags.items()))) for message in request.records
            ]
        if existing.intersection(new):
            fail(context, Fault(Code.ALREADY_EXISTS, "Record with : ...", ("Record", "...")))
        made = []
        for message in request.records:
            identity = str(uuid.uuid4())
            made.append(identity)
            with world.lock:
                world.records[identity] = records_pb2.Record(
                    id=identity, name=message.name, time=message.time, tags=message.tags, aoi_id=message.aoi_id
                )
        if fault is not None and fault.processed:
            fail(context, fault)
        return records_pb2.CreateRecordsResponse(ids=made)

    def ListDatasets(self, request: Any, context: Any) -> Any:  # noqa: N802  # the RPC's name
        world = self._world
        world.enter("ListDatasets", request, context)
        wanted = list(request.records.ids) or list(world.images)
        known = [identity for identity in wanted if identity in world.images]
        return datasets_pb2.ListDatasetsResponse(
            records=[world.records[identity] for identity in known],
            dataset_metas=[datasets_pb2.DatasetMeta(internalsMeta=[world.meta(identity)]) for identity in known],
        )

    def IndexDatasets(self, request: Any, context: Any) -> Any:  # noqa: N802  # the RPC's name
        self._world.enter("IndexDatasets", request, context)
        return datasets_pb2.IndexDatasetsResponse()

    def GetCube(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802  # the RPC's name
        world = self._world
        fault = world.enter("GetCube", request, context)
        groups = [list(group.ids) for group in request.grouped_records.records]
        messages = world.cube(
            groups,
            request.compression_level,
            v11x=request.protocol_v11x,
            bare=request.headers_only,
            answer=cubes_pb2.GetCubeResponse,
        )
        yield from world.sent(messages, fault, context)

    def DownloadCube(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802  # the RPC's name
        world = self._world
        fault = world.enter("DownloadCube", request, context)
        assert request.ref_dformat.dtype, "this crashes a Geocube's downloader"
        groups = [[record.id for record in group.records] for group in request.grouped_records]
        messages = world.cube(groups, -3, v11x=True, bare=False, answer=cubes_pb2.GetCubeMetadataResponse)
        yield from world.sent(messages, fault, context)

    def ListLayouts(self, request: Any, context: Any) -> Any:  # noqa: N802  # the RPC's name
        self._world.enter("ListLayouts", request, context)
        return layouts_pb2.ListLayoutsResponse(layouts=self._world.layouts.values())

    def ConfigConsolidation(self, request: Any, context: Any) -> Any:  # noqa: N802  # the RPC's name
        self._world.enter("ConfigConsolidation", request, context)
        return jobs_pb2.ConfigConsolidationResponse()

    def GetConsolidationParams(self, request: Any, context: Any) -> Any:  # noqa: N802  # the RPC's name
        self._world.enter("GetConsolidationParams", request, context)
        return fail(context, Fault(Code.NOT_FOUND, "no", ("ConsolidationParams", request.variable_id)))

    def Consolidate(self, request: Any, context: Any) -> Any:  # noqa: N802  # the RPC's name
        world = self._world
        fault = world.enter("Consolidate", request, context)
        if any(job.name == request.job_name for job in world.jobs.values()):
            fail(context, Fault(Code.ALREADY_EXISTS, "Job with name: ...", ("Job", request.job_name)))
        identity = str(uuid.uuid4())
        world.jobs[identity] = jobs_pb2.Job(id=identity, name=request.job_name, type="CONSOLIDATION", state="NEW")
        if fault is not None and fault.processed:
            fail(context, fault)
        return jobs_pb2.ConsolidateResponse(job_id=identity)

    def ListJobs(self, request: Any, context: Any) -> Any:  # noqa: N802  # the RPC's name
        self._world.enter("ListJobs", request, context)
        jobs = [jobs_pb2.Job.FromString(job.SerializeToString()) for job in self._world.jobs.values()]
        for job in jobs:
            del job.logs[:-10]
            job.logs.insert(0, "[... may be more]")
        return jobs_pb2.ListJobsResponse(jobs=jobs)

    def GetJob(self, request: Any, context: Any) -> Any:  # noqa: N802  # the RPC's name
        self._world.enter("GetJob", request, context)
        self._require_job(request.id, context)
        job = jobs_pb2.Job.FromString(self._world.jobs[request.id].SerializeToString())
        end = max(len(job.logs) - request.log_page * request.log_limit, 0)
        begin = max(end - request.log_limit, 0)
        page = [*([f"[... {begin} more]"] if begin else []), *job.logs[begin:end]]
        after = len(job.logs) - end
        del job.logs[:]
        job.logs.extend([*page, *([f"[... {after} more]"] if after else [])])
        return jobs_pb2.GetJobResponse(job=job)

    def ContinueJob(self, request: Any, context: Any) -> Any:  # noqa: N802  # the RPC's name
        self._world.enter("ContinueJob", request, context)
        return jobs_pb2.ContinueJobResponse()

    def RetryJob(self, request: Any, context: Any) -> Any:  # noqa: N802  # the RPC's name
        self._world.enter("RetryJob", request, context)
        self._require_job(request.id, context)
        return jobs_pb2.RetryJobResponse()

    def CancelJob(self, request: Any, context: Any) -> Any:  # noqa: N802  # the RPC's name
        self._world.enter("CancelJob", request, context)
        self._require_job(request.id, context)
        return jobs_pb2.CancelJobResponse()

    def _require_job(self, identity: str, context: Any) -> None:
        if identity not in self._world.jobs:
            fail(context, Fault(Code.NOT_FOUND, f"Job with id: {identity}", ("Job", identity)))


@contextmanager
def scripted(
    variable: Variable | None = None,
    credentials: grpc.ServerCredentials | None = None,
    port: int = 0,
    **fields: Any,
) -> Iterator[Scripted]:
    """A server on a local port; 0 for any free port."""
    default = Variable(name="v", dformat=DataFormat(dtype="int16", nodata=-1, min=0, max=1000))
    world = Scripted(variable or default, **fields)
    with ThreadPoolExecutor(16) as pool:
        server = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
        services: Any = _Server(world)  # type: ignore[abstract]  # the calls that no test makes are UNIMPLEMENTED
        add_GeocubeServicer_to_server(services, server)
        add_GeocubeDownloaderServicer_to_server(services, server)
        if credentials is None:
            world.address = f"geocube://127.0.0.1:{server.add_insecure_port(f'127.0.0.1:{port}')}"
        else:
            world.address = f"geocubes://localhost:{server.add_secure_port(f'127.0.0.1:{port}', credentials)}"
        server.start()
        try:
            yield world
        finally:
            server.stop(None).wait()
