"""Containers: windows of pixels out of GeoTIFFs and consolidated Zarr arrays, on a folder or on S3."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
import rasterio
import zarr
import zarr.errors
from obstore.exceptions import BaseError
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterWindow

from acdtask.cube.grid import Window
from acdtask.cube.local.store import Store
from acdtask.cube.local.traffic import count_pixels_read
from acdtask.cube.model import OUTSIDE, Dataset, Pixels
from acdtask.errors import AcdError, ErrorCode

__all__ = ["is_stack", "read_window"]


def is_stack(uri: str) -> bool:
    """Whether a container is a consolidated Zarr array."""
    return uri.endswith(".zarr")


def read_window(store: Store, uri: str, requests: Sequence[tuple[Dataset, Window]]) -> list[Pixels]:
    """Windows out of one container, which is opened once.

    Args:
        store: the cube's store.
        uri: the container.
        requests: datasets of the container, and the window of each within the container's grid.

    Returns:
        For each request an array of shape (bands, height, width), as the container keeps it.

    Raises:
        AcdError: CUBE_DAMAGED if the container is the cube's own and missing or damaged, INPUT_UNREADABLE if it lies
            elsewhere, or what Store raises.
    """
    pixels = _read_stack(store, uri, requests) if is_stack(uri) else _read_tiff(store, uri, requests)
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
        raise _explain(store, uri, uri) from error


def _read_stack(store: Store, uri: str, requests: Sequence[tuple[Dataset, Window]]) -> list[Pixels]:
    """One read for all the times that are asked of the same window."""
    try:
        if _is_outside(uri):
            array = zarr.open_array(Store.at(uri).zarr_store(read_only=True), mode="r")
        else:
            array = zarr.open_array(store.zarr_store(uri, read_only=True), mode="r")
        windows: dict[Window, list[int]] = {}
        for dataset, window in requests:
            time = int(dataset.subdir)
            if array.ndim != 3 or array.shape[1:] != dataset.grid.shape or not 0 <= time < array.shape[0]:
                raise _broken(store, uri, f"has the shape {array.shape} and no time {time} of {dataset.grid.shape} px")
            windows.setdefault(window, []).append(time)
        pixels = {}
        for window, times in windows.items():
            first, rows_columns = min(times), window.slices
            stack = np.asarray(array[(slice(first, max(times) + 1), *rows_columns)])
            pixels.update({(window, time): stack[time - first] for time in times})
        return [pixels[window, int(dataset.subdir)][np.newaxis] for dataset, window in requests]
    except (zarr.errors.BaseZarrError, BaseError, FileNotFoundError, KeyError, RuntimeError, ValueError) as error:
        raise _explain(store, uri, f"{uri}/zarr.json") from error


def _explain(store: Store, uri: str, file: str) -> AcdError:
    """Why a container could not be read: the store says so itself if the fault is its own."""
    if _is_outside(file):
        place = PurePosixPath(file.removeprefix("file://"))
        home = f"s3://{'/'.join(place.parts[1:-1])}" if file.startswith("s3://") else str(place.parent)
        there = Store.at(home).exists(place.name)
    else:
        there = store.exists(file)
    return _broken(store, uri, "is damaged" if there else "is missing")


def _broken(store: Store, uri: str, what: str) -> AcdError:
    if _is_outside(uri):
        return AcdError(ErrorCode.INPUT_UNREADABLE, f"{uri} {what}")
    return AcdError(ErrorCode.CUBE_DAMAGED, f"{store.url}/{uri} {what}")


def _is_outside(uri: str) -> bool:
    return uri.startswith(OUTSIDE)
