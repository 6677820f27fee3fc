"""Reading a stack: each slice a mosaic of its datasets, on the grid that is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from acdtask.cube.grid import Grid, Window
from acdtask.cube.local.containers import read_window
from acdtask.cube.local.store import Store
from acdtask.cube.local.warp import intersection, lattice_blocks, pixel_offset, source_window, warp
from acdtask.cube.model import DataFormat, Dataset, Pixels, Resampling, Slice, Variable

__all__ = ["pick_datasets", "read_slices", "to_format"]

CONTAINERS_AT_ONCE = 16
REQUESTS_AT_ONCE = 8
"""Over a network the time goes into waiting; a folder is read by one thread, since jobs run in processes."""

OVERSHOOTING = {"cubic", "lanczos"}
EXACT = {"nearest", "mode"}
SNAP = 4096.0
"""A warped value is rounded to this fraction first, so that ties do not hang on the last bit of a coordinate."""


def pick_datasets(datasets: Iterable[Dataset], layout: str, cell: str) -> list[Dataset]:
    """For each record the copies consolidated for a tile, or else its own datasets; copies of other tiles are left out.

    The order is kept.
    """
    candidates = [
        dataset for dataset in datasets if not dataset.is_copy or (dataset.layout, dataset.cell) == (layout, cell)
    ]
    consolidated = {dataset.record_id for dataset in candidates if dataset.is_copy}
    return [dataset for dataset in candidates if dataset.is_copy == (dataset.record_id in consolidated)]


def read_slices(
    store: Store, grid: Grid, slices: Sequence[Slice], variable: Variable, resampling: Resampling | None = None
) -> Pixels:
    """The pixels of each slice on the grid, as `Cube.read` says.

    Where a dataset has the grid's own pixels they are copied bit for bit; else they are warped, block by block of a
    lattice that does not depend on the request.

    Raises:
        AcdError: CUBE_DAMAGED or INPUT_UNREADABLE, naming the container, or what Store raises.
    """
    canvas = _Canvas(grid, slices, variable)
    kernel = resampling or variable.resampling
    for batch in _batches(_requests(grid, slices, kernel)):
        for requests, arrays in zip(batch, _read_all(store, batch), strict=True):
            for request, pixels in zip(requests, arrays, strict=True):
                if request.offset is None:
                    request.pixels = pixels
                else:
                    canvas.copy(request, request.offset, pixels)
        _warp_all([r for requests in batch for r in requests if r.offset is None], grid, kernel, canvas)
    return canvas.pixels if len(variable.bands) > 1 else canvas.pixels[:, 0]


@dataclass
class _Request:
    """A window of a dataset, for a slice. `layer` is its place in the slice: a later one lies on top."""

    slice: int
    layer: int
    dataset: Dataset
    window: Window
    offset: tuple[int, int] | None
    pixels: Pixels | None = None


class _Canvas:
    """The result, painted in any order of datasets."""

    def __init__(self, grid: Grid, slices: Sequence[Slice], variable: Variable) -> None:
        self.format = variable.dformat
        self.layers = [len(part.datasets) for part in slices]
        self.bounds = Window(row=0, column=0, height=grid.height, width=grid.width)
        shape = (len(slices), len(variable.bands), *grid.shape)
        self.pixels: Pixels = np.full(shape, variable.dformat.nodata, dtype=variable.dformat.dtype)
        self._top: dict[int, NDArray[np.int32]] = {}

    def copy(self, request: _Request, offset: tuple[int, int], pixels: Pixels) -> None:
        """Paint pixels that are the grid's own; the grid begins at `offset` (row, column) of the dataset."""
        row, column = offset
        window = request.window.model_copy(
            update={"row": request.window.row - row, "column": request.window.column - column}
        )
        values, valid = to_format(pixels, request.dataset.dformat, self.format)
        self.paint(request, window, values, valid)

    def paint(self, request: _Request, window: Window, values: Pixels, valid: NDArray[np.bool_]) -> None:
        """Paint values (bands, height, width) on a window of the grid where they are valid and nothing is above."""
        rows, columns = window.slices
        shown = valid
        if self.layers[request.slice] > 1:
            top = self._top.setdefault(request.slice, np.full(self.pixels.shape[1:], -1, dtype=np.int32))
            above = top[:, rows, columns]
            shown = valid & (above <= request.layer)
            above[shown] = request.layer
        np.copyto(self.pixels[request.slice][:, rows, columns], values, where=shown)


def _requests(grid: Grid, slices: Sequence[Slice], resampling: Resampling) -> dict[str, list[_Request]]:
    """What to read out of each container."""
    requests: dict[str, list[_Request]] = {}
    needs: dict[Grid, tuple[Window | None, tuple[int, int] | None]] = {}
    for index, part in enumerate(slices):
        for layer, dataset in enumerate(part.datasets):
            if dataset.grid not in needs:
                needs[dataset.grid] = _need(grid, dataset.grid, resampling)
            window, offset = needs[dataset.grid]
            if window is not None:
                requests.setdefault(dataset.uri, []).append(_Request(index, layer, dataset, window, offset))
    return requests


def _need(grid: Grid, source: Grid, resampling: Resampling) -> tuple[Window | None, tuple[int, int] | None]:
    """The window of the source that the grid needs, and the offset of the grid if it has the same pixels."""
    offset = pixel_offset(grid, source)
    if offset is not None:
        whole = Window(row=offset[0], column=offset[1], height=grid.height, width=grid.width)
        return intersection(whole, source.shape), offset
    windows = [source_window(block, source, resampling) for block, _ in lattice_blocks(grid)]
    found = [window for window in windows if window is not None]
    if not found:
        return None, None
    top, left = min(window.row for window in found), min(window.column for window in found)
    bottom = max(window.row + window.height for window in found)
    right = max(window.column + window.width for window in found)
    return Window(row=top, column=left, height=bottom - top, width=right - left), None


def _batches(requests: dict[str, list[_Request]]) -> Iterator[list[list[_Request]]]:
    containers = iter(requests.values())
    while batch := list(islice(containers, CONTAINERS_AT_ONCE)):
        yield batch


def _read_all(store: Store, batch: list[list[_Request]]) -> Iterator[list[Pixels]]:
    def read(requests: list[_Request]) -> list[Pixels]:
        uri = requests[0].dataset.uri
        return read_window(store, uri, [(request.dataset, request.window) for request in requests])

    near = all(store.is_folder and "://" not in requests[0].dataset.uri for requests in batch)
    if near or len(batch) == 1:
        yield from map(read, batch)
        return
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        yield from pool.map(read, batch)


def _warp_all(requests: list[_Request], grid: Grid, resampling: Resampling, canvas: _Canvas) -> None:
    """Warp and paint; images of one grid and format go through the warper together."""
    groups: dict[tuple[Grid, DataFormat], list[_Request]] = {}
    for request in requests:
        groups.setdefault((request.dataset.grid, request.dataset.dformat), []).append(request)
    for (source, dformat), members in groups.items():
        working, nodata = _working(members, dformat, resampling)
        for block, window in lattice_blocks(grid):
            need, seen = source_window(block, source, resampling), intersection(window, grid.shape)
            if need is None or seen is None:
                continue
            first = members[0].window
            local = need.model_copy(update={"row": need.row - first.row, "column": need.column - first.column})
            cut = [pixels[:, local.slices[0], local.slices[1]] for pixels in working]
            inside = seen.model_copy(update={"row": seen.row - window.row, "column": seen.column - window.column})
            for request, pixels in zip(members, warp(cut, source.window(need), nodata, block, resampling), strict=True):
                part = pixels[:, inside.slices[0], inside.slices[1]]
                values, valid = _from_warped(part, dformat, canvas.format, nodata, resampling)
                canvas.paint(request, seen, values, valid)
    for request in requests:
        request.pixels = None


def _working(requests: list[_Request], dformat: DataFormat, resampling: Resampling) -> tuple[list[Pixels], float]:
    """The pixels as the warper takes them, and what means nodata in them: NaN, except for kernels that keep values."""
    arrays = [request.pixels for request in requests if request.pixels is not None]
    if resampling in EXACT:
        return arrays, dformat.nodata
    kind = "float64" if dformat.dtype in ("int32", "int64", "float64") else "float32"
    return [np.where(dformat.valid(pixels), pixels, np.nan).astype(kind) for pixels in arrays], float("nan")


def _from_warped(
    pixels: Pixels, source: DataFormat, target: DataFormat, nodata: float, resampling: Resampling
) -> tuple[Pixels, NDArray[np.bool_]]:
    if resampling in EXACT:
        return to_format(pixels, source, target)
    valid = ~np.isnan(pixels)
    values = np.where(valid, pixels, source.min).astype(np.float64)
    if resampling in OVERSHOOTING:
        values = np.clip(values, source.min, source.max)
    if (source.min, source.max) != (target.min, target.max):
        values = _mapped(values, source, target)
    if np.issubdtype(np.dtype(target.dtype), np.integer):
        values = np.rint(values * SNAP) / SNAP
    return _cast(values, target), valid


def to_format(pixels: Pixels, source: DataFormat, target: DataFormat) -> tuple[Pixels, NDArray[np.bool_]]:
    """Numbers of one format in another: its range maps linearly, integers are rounded half to even.

    Returns:
        The values (without meaning where not valid), and where they are valid.

    >>> source = DataFormat(dtype="uint8", nodata=255, min=0, max=250)
    >>> target = DataFormat(dtype="int16", nodata=-1, min=0, max=1000)
    >>> to_format(np.array([0, 1, 250, 255], dtype="uint8"), source, target)[0][:3]
    array([   0,    4, 1000], dtype=int16)
    """
    valid = source.valid(pixels)
    same_range = (source.min, source.max) == (target.min, target.max)
    if same_range and np.can_cast(pixels.dtype, target.dtype):
        return pixels.astype(target.dtype, copy=False), valid
    values = np.where(valid, pixels, source.min).astype(np.float64)
    return _cast(values if same_range else _mapped(values, source, target), target), valid


def _mapped(values: NDArray[np.float64], source: DataFormat, target: DataFormat) -> NDArray[np.float64]:
    return (values - source.min) * ((target.max - target.min) / (source.max - source.min)) + target.min


def _cast(values: NDArray[np.float64], target: DataFormat) -> Pixels:
    dtype = np.dtype(target.dtype)
    if dtype.kind == "f":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)
