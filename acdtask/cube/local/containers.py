"""Reads windows of pixels from containers: GeoTIFFs and consolidated Zarr arrays, in a folder or on S3."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np
import rasterio
import zarr
import zarr.errors
from obstore.exceptions import BaseError
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window as RasterWindow

from acdtask.cube.local.chunks import Request, Target, read_stack, stack_of
from acdtask.cube.local.kept_pixels import KeptWindow
from acdtask.cube.local.stack import METADATA
from acdtask.cube.model import OUTSIDE, Dataset
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.checksums import BlockError, checksum_of, table_of
from acdtask.raster.data_format import Pixels
from acdtask.raster.grid import Window
from acdtask.raster.open_images import open_image
from acdtask.storage.block_cache import BlockCache
from acdtask.storage.store import Store
from acdtask.storage.traffic import count_pixels_read

__all__ = ["UNREADABLE", "is_stack", "read_window"]


UNREADABLE = (RasterioError, ValueError, KeyError, TypeError, OverflowError, MemoryError)
"""Exceptions of rasterio for a damaged file, whose header may hold any numbers and undecodable text."""


def is_stack(uri: str) -> bool:
    """Whether a container is a consolidated Zarr array, by its ending."""
    return uri.endswith(".zarr")


def read_window(
    store: Store,
    uri: str,
    requests: Sequence[tuple[Dataset, Window]],
    targets: Sequence[Target | None] = (),
    pool: Executor | None = None,
    level: int | None = None,
    cache: BlockCache | None = None,
) -> list[Pixels]:
    """Read windows from one container, which is opened once.

    A request is a dataset of the container, with a window of the container's grid. `targets` say where to read each
    request of one band: all in one stack of the datasets' data type, not used if the container has another one. `pool`
    decodes chunks of a consolidated container. `level` is the number of a GeoTIFF's overview, which then has the grid
    of the datasets. `cache` keeps the blocks that are read, and has those that were read before, for as long as the
    container does not change.

    Returns:
        For each request an array of shape (bands, height, width), as stored. It may be the target, and must not be
        written to.

    Raises:
        AcdError: CUBE_DAMAGED if the container belongs to the cube and is missing or damaged, INPUT_UNREADABLE if it
            is outside the cube, or what Store raises.
    """
    targets = targets or [None] * len(requests)
    if is_stack(uri):
        images = _read_stack(store, uri, requests, targets, pool, cache)
    else:
        images = _read_tiff(store, uri, requests, targets, level, cache)
    count_pixels_read(sum(image.nbytes for image in images))
    return images


def _read_tiff(
    store: Store,
    uri: str,
    requests: Sequence[tuple[Dataset, Window]],
    targets: Sequence[Target | None],
    level: int | None,
    cache: BlockCache | None,
) -> list[Pixels]:
    kept = _kept_windows(store, uri, requests, cache) if cache is not None and level is None else []
    if kept and not any(window.missing() for window in kept):
        return _from_kept(kept, targets)
    try:
        with rasterio.Env(**store.gdal_options()), open_image(store.gdal_path(uri), level, store.roots) as image:
            for dataset, _ in requests:
                if image.shape != dataset.grid.shape or image.count < max(dataset.bands):
                    raise _broken(store, uri, f"has {image.count} bands of {image.height} x {image.width} px")
            if not kept or any(set(image.dtypes) != {dataset.dformat.dtype} for dataset, _ in requests):
                return [
                    _read_image(image, level, dataset, window, target)
                    for (dataset, window), target in zip(requests, targets, strict=True)
                ]
            for (dataset, _), window in zip(requests, kept, strict=True):
                if (missing := window.missing()) is not None:
                    window.add(missing, _read_image(image, level, dataset, missing, None))
            return _from_kept(kept, targets)
    except BlockError as error:
        raise _broken(store, uri, str(error)) from error
    except UNREADABLE as error:
        raise _explain(store, uri) from error


def _kept_windows(
    store: Store, uri: str, requests: Sequence[tuple[Dataset, Window]], cache: BlockCache
) -> list[KeptWindow]:
    """What the cache has of a GeoTIFF's windows; an empty list if it cannot be used."""
    state = store.state_of_container(uri)
    if not state:
        return []
    path = store.gdal_path(uri)
    return [KeptWindow(cache, path, state, dataset, window) for dataset, window in requests]


def _from_kept(kept: Sequence[KeptWindow], targets: Sequence[Target | None]) -> list[Pixels]:
    return [
        window.read(None if target is None else target.image[np.newaxis])
        for window, target in zip(kept, targets, strict=True)
    ]


def _read_image(
    image: DatasetReader, level: int | None, dataset: Dataset, window: Window, target: Target | None
) -> Pixels:
    """Read a window of an open GeoTIFF. BlockError.

    If the dataset has a checksum, the blocks are verified, once per open file. GDAL decodes whole blocks anyway, so
    this needs no additional reads.
    """
    # rasterio would convert another data type silently.
    out = target.image[np.newaxis] if target and set(image.dtypes) == {target.stack.dtype.name} else None
    if not dataset.checksum:
        return _read_bands(image, dataset, window, out)
    if set(image.dtypes) != {dataset.dformat.dtype}:
        raise BlockError(f"contains {', '.join(sorted(set(image.dtypes)))}, not {dataset.dformat.dtype}")
    table = table_of(image, level)
    if table.is_checked(dataset.bands, window):
        return _read_bands(image, dataset, window, out)
    around = table.around(window)
    blocks = _read_bands(image, dataset, around, out if around == window else None)
    table.check(dataset.bands, around, blocks)
    top, left = window.row - around.row, window.column - around.column
    return blocks[:, top : top + window.height, left : left + window.width]


def _read_bands(image: DatasetReader, dataset: Dataset, window: Window, out: Pixels | None) -> Pixels:
    raster_window = RasterWindow(window.column, window.row, window.width, window.height)
    return np.asarray(image.read(list(dataset.bands), window=raster_window, out=out))


def _read_stack(
    store: Store,
    uri: str,
    requests: Sequence[tuple[Dataset, Window]],
    targets: Sequence[Target | None],
    pool: Executor | None,
    cache: BlockCache | None,
) -> list[Pixels]:
    home, key = (store.elsewhere(uri), "") if _is_outside(uri) else (store, uri)
    # The file is small, and its checksum covers those of all other small files, so it is read and verified each time.
    metadata = home.find(f"{key}/{METADATA}" if key else METADATA)
    if metadata is None:
        raise _broken(store, uri, "is missing")
    checksums = {dataset.checksum for dataset, _ in requests if dataset.checksum}
    if checksums and checksums != {checksum_of(metadata)}:
        raise _broken(store, uri, f"is damaged: the checksum of its {METADATA} is wrong")
    try:
        stack = stack_of(metadata)
        if stack is not None:
            layout = stack.layout
            _check_shape(store, uri, layout.shape, requests)
            wanted = [
                Request(int(dataset.subdir), window, target if layout.data_type == dataset.dformat.dtype else None)
                for (dataset, window), target in zip(requests, targets, strict=True)
            ]
            images = read_stack(home, stack.key(key), layout, wanted, pool, cache)
        else:  # an array that another program wrote
            array = zarr.open_array(home.zarr_store(key, read_only=True), mode="r", zarr_format=3)
            _check_shape(store, uri, array.shape, requests)
            images = _read_any_zarr(array, [Request(int(dataset.subdir), window) for dataset, window in requests])
        return [image[np.newaxis] for image in images]
    except (zarr.errors.BaseZarrError, BaseError, FileNotFoundError, KeyError, RuntimeError, ValueError) as error:
        raise _broken(store, uri, "is damaged") from error


def _check_shape(store: Store, uri: str, shape: tuple[int, ...], requests: Sequence[tuple[Dataset, Window]]) -> None:
    for dataset, _ in requests:
        time = int(dataset.subdir)
        if len(shape) != 3 or shape[1:] != dataset.grid.shape or not 0 <= time < shape[0]:
            raise _broken(store, uri, f"has the shape {shape}, so it has no image {time} of {dataset.grid.shape} px")


def _read_any_zarr(array: zarr.Array[Any], requests: Sequence[Request]) -> list[Pixels]:
    """Read windows with zarr; all times of the same window are read at once."""
    windows: dict[Window, list[int]] = {}
    for request in requests:
        windows.setdefault(request.window, []).append(request.time)
    pixels = {}
    for window, times in windows.items():
        first = min(times)
        images = np.asarray(array[(slice(first, max(times) + 1), *window.slices)])
        pixels.update({(time, window): images[time - first] for time in times})
    return [pixels[request.time, request.window] for request in requests]


def _explain(store: Store, uri: str) -> AcdError:
    """The error for a GeoTIFF that could not be read. If the store is at fault, it raises its own error."""
    return _broken(store, uri, "is damaged" if store.has_container(uri) else "is missing")


def _broken(store: Store, uri: str, problem: str) -> AcdError:
    if _is_outside(uri):
        return AcdError(ErrorCode.INPUT_UNREADABLE, f"{uri} {problem}")
    return AcdError(ErrorCode.CUBE_DAMAGED, f"{store.url}/{uri} {problem}")


def _is_outside(uri: str) -> bool:
    return uri.startswith(OUTSIDE)
