"""The downloader: streams cubes from the files named by a request, without using the catalogue."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import zarr
import zarr.errors

from acdtask.cube.local.chunks import stack_of
from acdtask.cube.local.containers import is_stack
from acdtask.cube.local.cube import LocalCube
from acdtask.cube.local.stack import METADATA
from acdtask.cube.model import CubeRequest, Dataset, Image, Outcome, Variable
from acdtask.cube.protocol.convert import dformat_from_message
from acdtask.cube.protocol.cubes_pb2 import GetCubeMetadataRequest, GetCubeResponseHeader
from acdtask.cube.protocol.datasets_pb2 import DatasetMeta, InternalMeta
from acdtask.cube.protocol.services_pb2 import GetVersionRequest, GetVersionResponse
from acdtask.cube.protocol.services_pb2_grpc import GeocubeDownloaderServicer
from acdtask.cube.protocol.values_pb2 import DataFormat as DataFormatMessage
from acdtask.cube.protocol.values_pb2 import GTiff
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.data_format import Resampling
from acdtask.raster.grid import Grid
from acdtask.raster.source_files import read_header
from acdtask.serve.cubes import check_format, check_size, grid_asked, resampling_asked
from acdtask.serve.errors import RefusalError, invalid
from acdtask.serve.frames import NOT_COMPRESSED, Frames, Part, first_frame
from acdtask.serve.pixels import Group, bytes_of_stream, read_images
from acdtask.serve.service import VERSION
from acdtask.serve.streams import Streams
from acdtask.storage.roots import plain_address
from acdtask.storage.store import Store

__all__ = ["CHUNK", "DownloaderService"]

CHUNK = 1024 * 1024
NAME = "downloaded"
UNREADABLE = {
    ErrorCode.CUBE_DAMAGED,
    ErrorCode.INPUT_UNREADABLE,
    ErrorCode.INPUT_CRS_MISSING,
    ErrorCode.ADDRESS_OUTSIDE,
}


@dataclass(frozen=True)
class _CheckedRequest:
    """Grid, variable and resampling of a valid request."""

    grid: Grid
    variable: Variable
    resampling: Resampling


class DownloaderService(GeocubeDownloaderServicer):
    """The service GeocubeDownloader. Its RPCs raise RefusalError and AcdError.

    It opens files of the cube, and below the folders and s3:// prefixes that are `allowed`. `streams` is shared with
    the RPCs on the cube, so that the limits apply to both together.
    """

    def __init__(self, cube: LocalCube, streams: Streams, *, allowed: Iterable[str] = ()) -> None:
        self.cube, self.streams = cube.confined(allowed), streams

    def Version(self, request: GetVersionRequest, context: grpc.ServicerContext) -> GetVersionResponse:  # noqa: N802  # the RPC's name
        """Return the version of the API and of acd."""
        return GetVersionResponse(Version=VERSION)

    def DownloadCube(  # noqa: N802  # the RPC's name
        self, request: GetCubeMetadataRequest, context: grpc.ServicerContext
    ) -> Iterator[Any]:
        """Stream the images of a cube, uncompressed. Each message is an encoded GetCubeMetadataResponse."""
        if not request.grouped_records:
            return iter([_global_header(request)])
        checked = self._checked(request)
        size = bytes_of_stream(checked.grid, checked.variable, tiff=request.format == GTiff)
        return self.streams.send(context, size, lambda: self._answer(request, checked))

    def _checked(self, request: GetCubeMetadataRequest) -> _CheckedRequest:
        grid = grid_asked(request.crs, request.pix_to_crs, request.size)
        resampling = resampling_asked(request.resampling_alg)
        if resampling is None:
            raise invalid("resampling_alg must be set")
        check_format(request.format)
        if request.ref_dformat.dtype == DataFormatMessage.UNDEFINED:
            raise invalid("ref_dformat must have a data type")
        bands = _check_metas(request)
        for image_meta in request.datasets_meta:
            for dataset_meta in image_meta.internalsMeta:
                self._check_address(dataset_meta.container_uri)
                _check_mapping(dataset_meta)
        variable = Variable(
            name=NAME, dformat=dformat_from_message(request.ref_dformat), bands=tuple(map(str, range(1, bands + 1)))
        )
        check_size(grid, variable, self.streams.limits)
        return _CheckedRequest(grid, variable, resampling)

    def _check_address(self, address: str) -> None:
        plain_address(address)  # requests have full addresses, never keys relative to the cube
        try:
            self.cube.store.gdal_path(address)
        except AcdError as error:
            if error.code is not ErrorCode.ADDRESS_OUTSIDE:
                raise
            raise RefusalError(grpc.StatusCode.PERMISSION_DENIED, error.detail) from error

    def _answer(self, request: GetCubeMetadataRequest, checked: _CheckedRequest) -> Iterator[bytes]:
        yield _global_header(request)
        frames = Frames(
            checked.grid,
            checked.variable,
            level=NOT_COMPRESSED,
            tiff=request.format == GTiff,
            chunk=CHUNK,
        )
        images = self._images(request, checked)
        for records, meta in zip(request.grouped_records, request.datasets_meta, strict=True):
            yield from frames.image(Part.of(records, meta), next(images))

    def _images(self, request: GetCubeMetadataRequest, checked: _CheckedRequest) -> Iterator[Image]:
        """The images in order; those whose files cannot be opened are excluded from the batches that are read."""
        opened = [self._opened(meta) for meta in request.datasets_meta]
        whole = CubeRequest(variable=NAME, instance=NAME, grid=checked.grid, groups=(), resampling=checked.resampling)
        groups: list[Group] = [((), datasets) for datasets in opened if isinstance(datasets, list)]
        images = read_images(self.cube.store, whole, checked.variable, groups)
        for datasets in opened:
            yield Image((), Outcome.FAILED, reason=str(datasets)) if isinstance(datasets, AcdError) else next(images)

    def _opened(self, meta: DatasetMeta) -> list[Dataset] | AcdError:
        try:
            return [_dataset(self.cube.store, dataset_meta) for dataset_meta in meta.internalsMeta]
        except AcdError as error:
            if error.code not in UNREADABLE:
                raise
            return error


def _global_header(request: GetCubeMetadataRequest) -> bytes:
    return first_frame(
        GetCubeResponseHeader(
            count=len(request.grouped_records),
            nb_datasets=sum(len(meta.internalsMeta) for meta in request.datasets_meta),
            ref_dformat=request.ref_dformat,
            resampling_alg=request.resampling_alg,
            geotransform=request.pix_to_crs,
            crs=request.crs,
        )
    )


def _check_metas(request: GetCubeMetadataRequest) -> int:
    """The number of bands of every dataset. RefusalError."""
    if len(request.datasets_meta) != len(request.grouped_records):
        raise invalid("number of datasetsMeta must be equal to the number of record lists")
    bands = {len(dataset_meta.bands) for meta in request.datasets_meta for dataset_meta in meta.internalsMeta}
    if len(bands) != 1 or not min(bands):
        raise invalid("Bands number is not constant" if bands else "At least one dataset must be provided")
    return bands.pop()


def _check_mapping(meta: InternalMeta) -> None:
    """RefusalError or SETTING_INVALID for invalid bands or an invalid data mapping."""
    dformat_from_message(meta.dformat)
    if min(meta.bands) < 1:
        raise invalid(f"Invalid band of {meta.container_uri}: {min(meta.bands)}")
    if not (meta.range_min < meta.range_max and math.isfinite(meta.range_max - meta.range_min)):
        raise invalid(f"Invalid range of {meta.container_uri}: {meta.range_min:g} to {meta.range_max:g}")
    if not 0 < meta.exponent < math.inf:
        raise invalid(f"Invalid exponent of {meta.container_uri}: {meta.exponent:g}")


def _dataset(store: Store, meta: InternalMeta) -> Dataset:
    """A dataset of a container, with the grid read from its file. INPUT_UNREADABLE, INPUT_CRS_MISSING."""
    address = meta.container_uri
    return Dataset(
        record_id="",
        variable=NAME,
        instance=NAME,
        uri=address,
        subdir=meta.container_subdir,
        bands=tuple(meta.bands),
        dformat=dformat_from_message(meta.dformat),
        real=(meta.range_min, meta.range_max),
        exponent=meta.exponent,
        grid=_stack_grid(store, address) if is_stack(address) else read_header(store, address).grid,
    )


def _stack_grid(store: Store, address: str) -> Grid:
    try:
        home = store.elsewhere(address)
        stack = stack_of(home.find(METADATA) or b"")
        path = stack.name if stack else ""
        array = zarr.open_array(home.zarr_store(read_only=True), path=path, mode="r", zarr_format=3)
        _, height, width = array.shape
        return Grid.model_validate({**array.attrs.asdict(), "height": height, "width": width})
    except (zarr.errors.BaseZarrError, FileNotFoundError, KeyError, ValueError) as error:
        raise AcdError(ErrorCode.INPUT_UNREADABLE, f"{address} is missing or damaged") from error
