"""The RPCs GetCube and GetXYZTile: streams pixels of the local cube in Geocube's protocol."""

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
    dformat_to_message,
    grid_from_message,
)
from acdtask.cube.protocol.cubes_pb2 import (
    GetCubeRequest,
    GetCubeResponseHeader,
    GetTileRequest,
    GetTileResponse,
    ImageFile,
)
from acdtask.cube.protocol.records_pb2 import GroupedRecords
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
from acdtask.serve.messages import query_of, record_to_message
from acdtask.serve.pictures import render_tile
from acdtask.serve.pixels import WORKING_BYTES, Group, bytes_of_image, bytes_of_stream, read_images
from acdtask.serve.streams import StreamLimits, Streams

__all__ = ["CubeCalls", "check_format", "check_size", "grid_asked", "resampling_asked"]

Groups: TypeAlias = tuple[tuple[str, ...], ...]

MIB = 1024 * 1024
MESSAGES_KEPT = 20_000
FLAT = 1e-10
"""GDAL does not invert a rotated transform whose determinant is below this times the square of its largest number."""


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
    return grid_from_message(crs, transform, size)


def resampling_asked(number: ResamplingMessage.ValueType) -> Resampling | None:
    """The resampling method of a request, None for the variable's. RefusalError."""
    if number and number not in RESAMPLING_NAMES:
        raise invalid(f"Invalid resampling: {number}")
    return RESAMPLING_NAMES.get(number)


def check_format(number: FileFormat.ValueType) -> None:
    """RefusalError for an unknown file format."""
    if number not in FileFormat.values():
        raise invalid(f"Invalid file format: {number}")


def check_size(grid: Grid, variable: Variable, limits: StreamLimits) -> None:
    """RefusalError for an image that is larger than the server allows."""
    size = bytes_of_image(grid, variable)
    if size > limits.image_mb * MIB:
        raise RefusalError(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            f"an image of {grid.width}x{grid.height} px has {size} bytes; this server's limit is "
            f"{limits.image_mb} MiB: request a smaller image",
        )


@dataclass(frozen=True)
class _CheckedRequest:
    """A valid request: the variable, and the groups that have datasets, with these."""

    variable: Variable
    request: CubeRequest
    groups: list[Group]


class _RecordMessages:
    """Encoded records, cached until the index changes: encoding a record costs as much as a small image."""

    def __init__(self, cube: LocalCube) -> None:
        self._cube = cube
        self._kept: tuple[int, dict[str, bytes]] = (-1, {})

    def messages(self, ids: frozenset[str]) -> dict[str, bytes]:
        """The encoded records with these ids as far as they exist, and possibly others, by id."""
        state, (kept_state, kept) = self._cube.state(), self._kept
        if state != kept_state or len(kept) > MESSAGES_KEPT:
            kept = {}
        missing = sorted(ids - kept.keys())
        if missing:
            kept = kept | {record.id: _encoded(record) for record in self._cube.records_by_id(missing)}
        self._kept = state, kept
        return kept


def _encoded(record: Record) -> bytes:
    return GroupedRecords(records=[record_to_message(record)]).SerializeToString()


class CubeCalls:
    """The RPCs of the service Geocube that return pixels. They raise RefusalError and AcdError.

    `streams` is shared with the downloader, so that the limits apply to both together.
    """

    def __init__(self, cube: LocalCube, streams: Streams) -> None:
        self.cube, self.streams = cube, streams
        self._catalogue = Catalogue(cube)
        self._records = _RecordMessages(cube)

    def GetCube(self, request: GetCubeRequest, context: grpc.ServicerContext) -> Iterator[bytes]:  # noqa: N802  # the RPC's name
        """Stream the images of a cube. Each message is an encoded GetCubeResponse."""
        checked = self._checked(request)
        if request.headers_only:
            return self._answer(request, checked)
        size = bytes_of_stream(checked.request.grid, checked.variable, tiff=request.format == GTiff)
        return self.streams.send(context, size, lambda: self._answer(request, checked))

    def GetXYZTile(self, request: GetTileRequest, context: grpc.ServicerContext) -> GetTileResponse:  # noqa: N802  # the RPC's name
        """Return a web map tile as PNG."""
        which: Sequence[str] | RecordQuery
        if request.WhichOneof("records_lister") == "records":
            which = [uuid_of(record_id, f"Invalid Record.uuid {record_id}") for record_id in request.records.ids]
        elif request.WhichOneof("records_lister") == "filters":
            which = query_of(request.filters)
        else:
            raise invalid("either record ids or record filters must be provided")
        tile, limits = (request.x, request.y, request.z), (request.min, request.max)
        with self.streams.turns.turn(context, WORKING_BYTES) as granted:
            if not granted:
                raise GoneError
            return GetTileResponse(
                image=ImageFile(data=render_tile(self.cube, request.instance_id, which, tile, limits))
            )

    def _checked(self, request: GetCubeRequest) -> _CheckedRequest:
        if not -3 <= request.compression_level <= 9:
            raise invalid("CompressionLevel must be in [-3, 9]")
        groups, instance = _groups_asked(request), _instance_asked(request)
        grid = grid_asked(request.crs, request.pix_to_crs, request.size)
        resampling = resampling_asked(request.resampling_alg)
        check_format(request.format)
        if groups is not None and not (groups and groups[0]):
            raise invalid("At least one record must be provided")
        variable, served_instance = self._catalogue.instance(instance)
        if not request.headers_only:
            check_size(grid, variable, self.streams.limits)
        if groups is None:
            groups = tuple((record.id,) for record in self.cube.records(query_of(request.filters)))
        whole = CubeRequest(
            variable=variable.name, instance=served_instance.name, grid=grid, groups=groups, resampling=resampling
        )
        return _CheckedRequest(
            variable, whole, [(ids, datasets) for ids, datasets in self.cube.groups(whole) if datasets]
        )

    def _answer(self, request: GetCubeRequest, checked: _CheckedRequest) -> Iterator[bytes]:
        variable, grid = checked.variable, checked.request.grid
        yield first_frame(
            GetCubeResponseHeader(
                count=len(checked.groups),
                nb_datasets=sum(len(datasets) for _, datasets in checked.groups),
                ref_dformat=dformat_to_message(variable.dformat),
                resampling_alg=RESAMPLINGS[checked.request.resampling or variable.resampling],
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
        parts = self._parts(checked)
        if request.headers_only:
            yield from map(frames.outline, parts)
            return
        images = read_images(self.cube.store, checked.request, variable, checked.groups)
        for part in parts:
            yield from frames.image(part, next(images))  # not bound to a name, so it is freed before the next is read

    def _parts(self, checked: _CheckedRequest) -> Iterator[Part]:
        """The records and datasets of each image, without records that have no dataset on the grid."""
        ids = frozenset(dataset.record_id for _, datasets in checked.groups for dataset in datasets)
        records = self._records.messages(ids)
        for group, datasets in checked.groups:
            with_pixels = {dataset.record_id for dataset in datasets} & records.keys()
            yield Part.joined(
                (records[record_id] for record_id in group if record_id in with_pixels),
                metas_of(datasets, checked.variable, self._catalogue.address_of),
            )


def _groups_asked(request: GetCubeRequest) -> Groups | None:
    """The groups of record ids, or None if the request has filters."""
    lister = request.WhichOneof("records_lister")
    if lister == "records":
        groups = [[record_id] for record_id in request.records.ids]
    elif lister == "grouped_records":
        groups = [list(group_message.ids) for group_message in request.grouped_records.records]
    else:
        return None
    return tuple(
        tuple(uuid_of(record_id, f"Invalid Record.uuid {record_id}") for record_id in group) for group in groups
    )


def _instance_asked(request: GetCubeRequest) -> str:
    if not request.instances_id:
        raise invalid("At least one instance must be provided")
    if len(request.instances_id) > 1:
        raise invalid("Exactly one instance must be provided")
    return uuid_of(request.instances_id[0], f"Invalid Instance.uuid {request.instances_id[0]}")
