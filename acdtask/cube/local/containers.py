"""Containers: windows of pixels out of GeoTIFFs and consolidated Zarr arrays, on a folder or on S3."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import rasterio
import zarr
import zarr.errors
from obstore.exceptions import BaseError
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterWindow

from acdtask.cube.grid import Window
from acdtask.cube.local.chunks import read_stack, stack_layout
from acdtask.cube.local.stack import METADATA
from acdtask.cube.local.store import Store
from acdtask.cube.local.traffic import count_pixels_read
from acdtask.cube.model import OUTSIDE, Dataset, Pixels
from acdtask.errors import AcdError, ErrorCode

__all__ = ["is_stack", "read_window"]


def is_stack(uri: str) -> bool:
    """Whether a container is a consolidated Zarr array."""
    return uri.endswith(".zarr")


def read_window(
    store: Store, uri: str, requests: Sequence[tuple[Dataset, Window]], pool: Executor | None = None
) -> list[Pixels]:
    """Windows out of one container, which is opened once.

    Args:
        store: the cube's store.
        uri: the container.
        requests: datasets of the container, and the window of each within the container's grid.
        pool: whose threads decode the chunks of a consolidated container; default: this one.

    Returns:
        For each request an array of shape (bands, height, width), as the container keeps it, not to be written to.

    Raises:
        AcdError: CUBE_DAMAGED if the container is the cube's own and missing or damaged, INPUT_UNREADABLE if it lies
            elsewhere, or what Store raises.
    """
    pixels = _read_stack(store, uri, requests, pool) if is_stack(uri) else _read_tiff(store, uri, requests)
    count_pixels_read(sum(one.nbytes for one in pixels))
    return pixels


def _read_tiff(store: Store, uri: str, requests: Sequence[tuple[Dataset, Window]]) -> list[Pixels]:
    try:
        with rasterio.Env(**store.gdal_options()), rasterio.open(store.gdal_path(uri)) as image:
            for dataset, _ in requests:
                if image.shape != dataset.grid.shape or image.count < max(dataset.bands):
                    raise _broken(store, uri, f"has {image.count} bands of {image.height} x {image.width} px")
            return [
                image.read(
                    list(dataset.bands),
                    window=RasterWindow(window.column, window.row, window.width, window.height),
                )
                for dataset, window in requests
            ]
    except RasterioError as error:
        raise _explain(store, uri) from error


def _read_stack(
    store: Store, uri: str, requests: Sequence[tuple[Dataset, Window]], pool: Executor | None
) -> list[Pixels]:
    """One read for all the times that are asked of the same window."""
    home, key = (Store.at(uri), "") if _is_outside(uri) else (store, uri)
    metadata = home.find(f"{key}/{METADATA}" if key else METADATA)
    if metadata is None:
        raise _broken(store, uri, "is missing")
    try:
        wanted = [(int(dataset.subdir), window) for dataset, window in requests]
        layout = stack_layout(metadata)
        if layout is not None:
            _check_shape(store, uri, layout.shape, requests)
            found = read_stack(home, key, layout, wanted, pool)
        else:
            array = zarr.open_array(home.zarr_store(key, read_only=True), mode="r")
            _check_shape(store, uri, array.shape, requests)
            found = _read_any_zarr(array, wanted)
        return [found[one][np.newaxis] for one in wanted]
    except (zarr.errors.BaseZarrError, BaseError, FileNotFoundError, KeyError, RuntimeError, ValueError) as error:
        raise _broken(store, uri, "is damaged") from error


def _check_shape(store: Store, uri: str, shape: tuple[int, ...], requests: Sequence[tuple[Dataset, Window]]) -> None:
    for dataset, _ in requests:
        time = int(dataset.subdir)
        if len(shape) != 3 or shape[1:] != dataset.grid.shape or not 0 <= time < shape[0]:
            raise _broken(store, uri, f"has the shape {shape} and no time {time} of {dataset.grid.shape} px")


def _read_any_zarr(array: zarr.Array[Any], wanted: list[tuple[int, Window]]) -> dict[tuple[int, Window], Pixels]:
    windows: dict[Window, list[int]] = {}
    for time, window in wanted:
        windows.setdefault(window, []).append(time)
    pixels = {}
    for window, times in windows.items():
        first = min(times)
        stack = np.asarray(array[(slice(first, max(times) + 1), *window.slices)])
        pixels.update({(time, window): stack[time - first] for time in times})
    return pixels


def _explain(store: Store, uri: str) -> AcdError:
    """Why a GeoTIFF could not be read: the store says so itself if the fault is its own."""
    if _is_outside(uri):
        place = PurePosixPath(uri.removeprefix("file://"))
        home = f"s3://{'/'.join(place.parts[1:-1])}" if uri.startswith("s3://") else str(place.parent)
        there = Store.at(home).exists(place.name)
    else:
        there = store.exists(uri)
    return _broken(store, uri, "is damaged" if there else "is missing")


def _broken(store: Store, uri: str, what: str) -> AcdError:
    if _is_outside(uri):
        return AcdError(ErrorCode.INPUT_UNREADABLE, f"{uri} {what}")
    return AcdError(ErrorCode.CUBE_DAMAGED, f"{store.url}/{uri} {what}")


def _is_outside(uri: str) -> bool:
    return uri.startswith(OUTSIDE)
