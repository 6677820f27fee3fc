"""GetCube and GetXYZTile: the pixels of the local cube as Geocube streams them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import grpc

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import CubeRequest, Record, RecordQuery, Variable
from acdtask.cube.protocol.convert import (
    RESAMPLING_NAMES,
    RESAMPLINGS,
    dformat_to_wire,
    grid_from_wire,
)
from acdtask.cube.protocol.cubes_pb2 import (
    GetCubeRequest,
    GetCubeResponseHeader,
    GetTileRequest,
    GetTileResponse,
    ImageFile,
)
from acdtask.cube.protocol.records_pb2 import GroupedRecords, RecordFilters
from acdtask.cube.protocol.values_pb2 import FileFormat, GeoTransform, GTiff, Size
from acdtask.cube.protocol.values_pb2 import Resampling as ResamplingMessage
from acdtask.errors import AcdError
from acdtask.raster.data_format import Resampling
from acdtask.raster.grid import Grid
from acdtask.raster.points import crs_of
from acdtask.serve.cancellation import GoneError
from acdtask.serve.catalogue import Catalogue
from acdtask.serve.errors import RefusalError, invalid, uuid_of
from acdtask.serve.frames import Frames, Part, first_frame, metas_of
from acdtask.serve.messages import bound_of, record_to_wire
from acdtask.serve.pictures import render_tile
from acdtask.serve.pixels import WORK, Group, bytes_of_image, bytes_of_work, read_images
from acdtask.serve.streams import StreamLimits, Streams

__all__ = ["CubeCalls", "check_format", "check_size", "grid_asked", "query_of", "resampling_asked"]

Groups: TypeAlias = tuple[tuple[str, ...], ...]

MIB = 1024 * 1024
MESSAGES_KEPT = 20_000
FLAT = 1e-10
"""GDAL inverts no rotated transform whose determinant is below this part of its largest number, squared."""


def grid_asked(crs: str, transform: GeoTransform, size: Size) -> Grid:
    """The grid of a request. RefusalError."""
    t = transform
    determinant = t.b * t.f - t.c * t.e
    largest = max(abs(number) for number in (t.b, t.c, t.e, t.f))
    is_flat = bool(t.c or t.e) and abs(determinant) <= FLAT * largest * largest
    if not determinant or is_flat or not all(map(math.isfinite, (t.a, t.b, t.c, t.d, t.e, t.f, determinant))):
        raise invalid("Invalid pixToCRS transform: not invertible")
    try:
        crs_of(crs)
    except AcdError as error:
        raise invalid(f"Invalid crs: {crs} ({error.detail})") from error
    if size.width <= 0 or size.height <= 0:
        raise invalid(f"Invalid shape: {size.width}x{size.height}")
    return grid_from_wire(crs, transform, size)


def resampling_asked(number: ResamplingMessage.ValueType) -> Resampling | None:
    """The kernel of a request, None for the variable's. RefusalError."""
    if number and number not in RESAMPLING_NAMES:
        raise invalid(f"Invalid resampling: {number}")
    return RESAMPLING_NAMES.get(number)


def check_format(number: FileFormat.ValueType) -> None:
    """RefusalError for a file format that there is not."""
    if number not in FileFormat.values():
        raise invalid(f"Invalid file format: {number}")


def check_size(grid: Grid, variable: Variable, limits: StreamLimits) -> None:
    """RefusalError for an image that is larger than the server allows."""
    size = bytes_of_image(grid, variable)
    if size > limits.image_mb * MIB:
        raise RefusalError(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            f"an image of {grid.width}x{grid.height} px has {size} bytes, more than the {limits.image_mb} MiB that "
            "this server sends: ask for a smaller one",
        )


def query_of(filters: RecordFilters) -> RecordQuery:
    """The records that filters ask for."""
    return RecordQuery(
        tags=dict(filters.tags),
        start=bound_of(filters.from_time, given=filters.HasField("from_time")),
        end=bound_of(filters.to_time, given=filters.HasField("to_time")),
    )


@dataclass(frozen=True)
class _Asked:
    """A request that can be answered: the variable, the images that there are, and what each is made of."""

    variable: Variable
    request: CubeRequest
    found: list[Group]


class _RecordMessages:
    """Records as they go over the wire. They are kept until the index changes: one costs as much as its image."""

    def __init__(self, cube: LocalCube) -> None:
        self._cube = cube
        self._kept: tuple[int, dict[str, bytes]] = (-1, {})

    def messages(self, ids: frozenset[str]) -> dict[str, bytes]:
        """The records of these ids that the cube has, and maybe others, by id."""
        state, (kept_state, kept) = self._cube.state(), self._kept
        if state != kept_state or len(kept) > MESSAGES_KEPT:
            kept = {}
        missing = sorted(ids - kept.keys())
        if missing:
            kept = kept | {one.id: _alone(one) for one in self._cube.records_by_id(missing)}
        self._kept = state, kept
        return kept


def _alone(record: Record) -> bytes:
    return GroupedRecords(records=[record_to_wire(record)]).SerializeToString()


class CubeCalls:
    """The calls of the Geocube service that answer with pixels. They raise RefusalError and AcdError.

    Args:
        cube: whose pixels.
        streams: shared with a downloader, so that both together keep the limits.
    """

    def __init__(self, cube: LocalCube, streams: Streams | StreamLimits | None = None) -> None:
        self.cube = cube
        self.streams = streams if isinstance(streams, Streams) else Streams(streams or StreamLimits())
        self._catalogue = Catalogue(cube)
        self._records = _RecordMessages(cube)

    def GetCube(self, request: GetCubeRequest, context: grpc.ServicerContext) -> Iterator[bytes]:  # noqa: N802  # the name of the call
        """The images of a cube, one after the other; each message is a GetCubeResponse, encoded already."""
        asked = self._asked(request)
        if request.headers_only:
            return self._answer(request, asked)
        size = bytes_of_work(asked.request.grid, asked.variable, tiff=request.format == GTiff)
        return self.streams.send(context, size, lambda: self._answer(request, asked))

    def GetXYZTile(self, request: GetTileRequest, context: grpc.ServicerContext) -> GetTileResponse:  # noqa: N802  # the name of the call
        """A tile of the web's map as PNG."""
        which: Sequence[str] | RecordQuery
        if request.WhichOneof("records_lister") == "records":
            which = [uuid_of(one, f"Invalid Record.uuid {one}") for one in request.records.ids]
        elif request.WhichOneof("records_lister") == "filters":
            which = query_of(request.filters)
        else:
            raise invalid("either record ids or record filters must be provided")
        place, limits = (request.x, request.y, request.z), (request.min, request.max)
        with self.streams.turns.turn(context, WORK) as granted:
            if not granted:
                raise GoneError
            return GetTileResponse(
                image=ImageFile(data=render_tile(self.cube, request.instance_id, which, place, limits))
            )

    def _asked(self, request: GetCubeRequest) -> _Asked:
        if not -3 <= request.compression_level <= 9:
            raise invalid("CompressionLevel must be in [-3, 9]")
        groups, instance = _groups_asked(request), _instance_asked(request)
        grid = grid_asked(request.crs, request.pix_to_crs, request.size)
        resampling = resampling_asked(request.resampling_alg)
        check_format(request.format)
        if groups is not None and not (groups and groups[0]):
            raise invalid("At least one record must be provided")
        variable, found_instance = self._catalogue.instance(instance)
        if not request.headers_only:
            check_size(grid, variable, self.streams.limits)
        if groups is None:
            groups = tuple((one.id,) for one in self.cube.records(query_of(request.filters)))
        whole = CubeRequest(
            variable=variable.name, instance=found_instance.name, grid=grid, groups=groups, resampling=resampling
        )
        return _Asked(variable, whole, [(ids, datasets) for ids, datasets in self.cube.groups(whole) if datasets])

    def _answer(self, request: GetCubeRequest, asked: _Asked) -> Iterator[bytes]:
        variable, grid = asked.variable, asked.request.grid
        yield first_frame(
            GetCubeResponseHeader(
                count=len(asked.found),
                nb_datasets=sum(len(datasets) for _, datasets in asked.found),
                ref_dformat=dformat_to_wire(variable.dformat),
                resampling_alg=RESAMPLINGS[asked.request.resampling or variable.resampling],
                geotransform=request.pix_to_crs,
                crs=request.crs,
            )
        )
        frames = Frames(
            grid,
            variable,
            level=request.compression_level,
            tiff=request.format == GTiff,
            ends_early=request.protocol_v11x,
        )
        parts = self._parts(asked)
        if request.headers_only:
            yield from map(frames.outline, parts)
            return
        images = read_images(self.cube.store, asked.request, variable, asked.found)
        for part in parts:
            yield from frames.image(part, next(images))  # no name for it here: it is gone before the next one is read

    def _parts(self, asked: _Asked) -> Iterator[Part]:
        """What each image is made of: of the records of its group those that have pixels there."""
        records = self._records.messages(frozenset(one.record_id for _, datasets in asked.found for one in datasets))
        for group, datasets in asked.found:
            there = {one.record_id for one in datasets}
            yield Part.joined(
                (records[one] for one in group if one in there and one in records),
                metas_of(datasets, asked.variable, self._catalogue.address_of),
            )


def _groups_asked(request: GetCubeRequest) -> Groups | None:
    """The groups of record ids; None if filters say which."""
    lister = request.WhichOneof("records_lister")
    if lister == "records":
        groups = [[one] for one in request.records.ids]
    elif lister == "grouped_records":
        groups = [list(one.ids) for one in request.grouped_records.records]
    else:
        return None
    return tuple(tuple(uuid_of(one, f"Invalid Record.uuid {one}") for one in group) for group in groups)


def _instance_asked(request: GetCubeRequest) -> str:
    if not request.instances_id:
        raise invalid("At least one instance must be provided")
    if len(request.instances_id) > 1:
        raise invalid("Exactly one instance must be provided")
    return uuid_of(request.instances_id[0], f"Invalid Instance.uuid {request.instances_id[0]}")
