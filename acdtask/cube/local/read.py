"""Reads a stack on a grid; each slice is a mosaic of its datasets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from acdtask.cube.local.chunks import Target
from acdtask.cube.local.containers import read_window
from acdtask.cube.local.mapping import Mapping
from acdtask.cube.local.overviews import overview_for
from acdtask.cube.local.workers import pool_of
from acdtask.cube.model import Dataset, Variable
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.data_format import Pixels, Resampling
from acdtask.raster.grid import Grid, Window
from acdtask.raster.warp import intersection, lattice_blocks, pixel_offset, source_window, warp
from acdtask.storage.block_cache import BlockCache
from acdtask.storage.store import Store
from acdtask.wording import plural

__all__ = ["bytes_to_read", "read_mosaics"]

CONTAINERS_AT_ONCE = 16
REQUESTS_AT_ONCE = 8
"""Parallel requests to an object store, which mostly wait. GeoTIFFs in a folder are read by one thread: Python's lock
lets no more of them work at once."""

MIB = 1024 * 1024
WARPED_AT_MOST = 1024 * MIB
"""Limit for the bytes of source pixels that are warped into one image. They are also held in memory as floats."""

OVERSHOOTING = {"cubic", "lanczos"}
"""Kernels with negative weights: results may lie outside the range of the sources."""
EXACT = {"nearest", "mode"}
"""Kernels whose results are values of the sources."""


def read_mosaics(
    store: Store,
    grid: Grid,
    mosaics: Sequence[Sequence[Dataset]],
    variable: Variable,
    resampling: Resampling | None = None,
    threads: int = 1,
    overviews: bool = False,
    cache: BlockCache | None = None,
) -> Pixels:
    """Read mosaics of datasets on a grid. Where datasets overlap, the later one is on top.

    Datasets with the same pixels as the grid are copied bit for bit. Others are warped in blocks of a lattice that does
    not depend on the grid's extent. A consolidated copy hides earlier datasets of its record in its whole tile, even
    where the copy is nodata.

    The result is as `Cube.read` returns it. `threads` decode chunks of a container in a folder; jobs run in processes,
    so the default is one. With `overviews`, those of GeoTIFFs are read if the grid is coarse enough: this is fast, but
    their resampling is unknown, so it is for viewing only. The `cache` has blocks that were read before, and keeps the
    others. CUBE_DAMAGED or INPUT_UNREADABLE (naming the container), GRID_TOO_COARSE, or what Store raises.
    """
    canvas = _Canvas(grid, mosaics, variable)
    kernel = resampling or variable.resampling
    originals: list[list[Source]] = [[(dataset, None) for dataset in datasets] for datasets in mosaics]
    sources = _with_overviews(store, grid, mosaics) if overviews else originals
    for batch in _batches(_requests(grid, sources, kernel)):
        for requests, arrays in zip(batch, _read_all(store, batch, canvas, threads, cache), strict=True):
            for request, pixels in zip(requests, arrays, strict=True):
                if request.offset is None:
                    request.pixels = pixels
                else:
                    canvas.copy(request, request.offset, pixels)
        _warp_all([r for requests in batch for r in requests if r.offset is None], grid, kernel, canvas)
    return canvas.finished()


def bytes_to_read(grid: Grid, datasets: Sequence[Dataset], variable: Variable, resampling: Resampling | None) -> int:
    """Bytes in memory while an image of the datasets is read: the image itself, and source pixels to be warped.

    With overviews, there may be fewer.
    """
    kernel = resampling or variable.resampling
    size = grid.height * grid.width * len(variable.bands) * np.dtype(variable.dformat.dtype).itemsize
    for dataset in datasets:
        window, offset = _window_of(grid, dataset.grid, kernel)
        if window is not None and offset is None:
            size += _bytes_of(dataset, window)
    return size


@dataclass(slots=True)
class _Request:
    """A window of a dataset to be read for a slice.

    Attributes:
        slice: number of the slice.
        layer: position of the dataset in the slice; later ones are on top.
        window: part of the dataset's grid.
        offset: (row, column) of the result in the dataset if both have the same pixels; None if it is to be warped.
        level: number of the overview to read, which then has the dataset's grid; None for the image itself.
        hidden: windows of the result in which copies of the same record replace this dataset.
        pixels: what was read, until it is warped.
    """

    slice: int
    layer: int
    dataset: Dataset
    window: Window
    offset: tuple[int, int] | None
    level: int | None = None
    hidden: tuple[Window, ...] = ()
    pixels: Pixels | None = None


class _Canvas:
    """The result. Datasets may be painted in any order."""

    def __init__(self, grid: Grid, mosaics: Sequence[Sequence[Dataset]], variable: Variable) -> None:
        self.format = variable.dformat
        self.layers = [len(datasets) for datasets in mosaics]
        self.pixels: Pixels = np.empty((len(mosaics), len(variable.bands), *grid.shape), variable.dformat.dtype)
        self._stack = self.pixels[:, 0]
        self._blank = set(range(len(mosaics)))
        self._top: dict[int, NDArray[np.int32]] = {}

    def target_of(self, request: _Request) -> Target | None:
        """The part of the result to read a request into, if its pixels make up a whole image without a change."""
        is_whole = request.offset is not None and (request.window.height, request.window.width) == self.pixels.shape[2:]
        if not is_whole or self.layers[request.slice] > 1 or self.pixels.shape[1] > 1:
            return None
        return Target(self._stack, request.slice) if Mapping.of(request.dataset, self.format).is_identity else None

    def copy(self, request: _Request, offset: tuple[int, int], pixels: Pixels) -> None:
        """Paint pixels without warping; the result begins at `offset` (row, column) of the dataset."""
        if np.may_share_memory(pixels, self.pixels):  # they were read into their target
            self._blank.discard(request.slice)
            return
        top, left = request.window.row - offset[0], request.window.column - offset[1]
        place = slice(top, top + request.window.height), slice(left, left + request.window.width)
        mapping = Mapping.of(request.dataset, self.format)
        if self.layers[request.slice] == 1:
            image = self._image(request.slice, whole=pixels.shape == self.pixels.shape[1:])
            image[:, *place] = mapping.whole(pixels)
        else:
            self.paint(request, place, *mapping.apply(pixels))

    def paint(self, request: _Request, place: tuple[slice, slice], values: Pixels, valid: NDArray[np.bool_]) -> None:
        """Paint values (bands, height, width) into rows and columns where they are valid and not below others."""
        image = self._image(request.slice)
        shown = _without(valid, place, request.hidden) if request.hidden else valid
        if self.layers[request.slice] > 1:
            # Datasets are painted container by container, so an upper one may come first. `top` holds the layer of each
            # pixel so far. Equal layers are parts of one dataset, which do not overlap.
            top = self._top.setdefault(request.slice, np.full(image.shape, -1, dtype=np.int32))
            above = top[:, *place]
            shown = shown & (above <= request.layer)
            above[shown] = request.layer
        np.copyto(image[:, *place], values, where=shown)

    def finished(self) -> Pixels:
        """The result; for one band, without the axis of bands."""
        for number in list(self._blank):
            self._image(number)
        return self.pixels if self.pixels.shape[1] > 1 else self.pixels[:, 0]

    def _image(self, number: int, *, whole: bool = False) -> Pixels:
        """The image with a number. It is filled with nodata first, unless all of it will be painted."""
        image: Pixels = self.pixels[number]
        if number in self._blank:
            self._blank.remove(number)
            if not whole:
                image[...] = self.format.nodata
        return image


Source: TypeAlias = tuple[Dataset, int | None]
"""A dataset and None, or a dataset with the grid of an overview and the overview's number."""

Containers: TypeAlias = dict[tuple[str, int | None], list[_Request]]
"""Requests by container and overview."""


def _with_overviews(store: Store, grid: Grid, mosaics: Sequence[Sequence[Dataset]]) -> list[list[Source]]:
    """The datasets, with the overviews that suit the grid."""

    def source(dataset: Dataset) -> Source:
        return overview_for(store, dataset, grid) or (dataset, None)

    if all(_is_local_file(store, dataset) for datasets in mosaics for dataset in datasets):
        return [[source(dataset) for dataset in datasets] for datasets in mosaics]
    return [list(pool_of(REQUESTS_AT_ONCE).map(source, datasets)) for datasets in mosaics]


def _is_local_file(store: Store, dataset: Dataset) -> bool:
    """Whether the container is in a folder of this machine."""
    return store.is_folder and "://" not in dataset.uri


def _requests(grid: Grid, mosaics: Sequence[Sequence[Source]], resampling: Resampling) -> Containers:
    requests: Containers = {}
    for index, datasets in enumerate(mosaics):
        warped = 0
        hidden = _hidden(grid, [dataset for dataset, _ in datasets])
        for layer, (dataset, level) in enumerate(datasets):
            window, offset = _window_of(grid, dataset.grid, resampling)
            if window is None or _is_hidden(grid, window, offset, hidden.get(layer, ())):
                continue
            request = _Request(index, layer, dataset, window, offset, level, hidden.get(layer, ()))
            requests.setdefault((dataset.uri, level), []).append(request)
            warped += _bytes_of(dataset, window) if offset is None else 0
        if warped > WARPED_AT_MOST:
            raise AcdError(
                ErrorCode.GRID_TOO_COARSE,
                f"an image of {grid.width} x {grid.height} px needs {warped / MIB:.0f} MiB of pixels from "
                f"{plural(len(datasets), 'dataset')}, more than {WARPED_AT_MOST // MIB} MiB",
            )
    return requests


def _hidden(grid: Grid, datasets: Sequence[Dataset]) -> dict[int, tuple[Window, ...]]:
    """For each dataset of a mosaic (by number) that copies replace, the windows of the grid that they cover.

    A copy replaces earlier datasets of its record, except other tiles of its own layout.
    """
    kinds = {(dataset.record_id, dataset.layout if dataset.is_copy else "") for dataset in datasets}
    if len(kinds) == len({record_id for record_id, _ in kinds}):  # no record has copies and other datasets
        return {}
    hidden: dict[int, tuple[Window, ...]] = {}
    later: dict[str, list[tuple[str, Window]]] = {}
    # From the top down, so that `later` has the copies above. Example: record A as a file, then tiles 1 and 2 of its
    # copy. The file is hidden in both tiles; tile 1 is not hidden by tile 2, which is of the same layout.
    for number, dataset in reversed(list(enumerate(datasets))):
        above = later.setdefault(dataset.record_id, [])
        if windows := tuple(window for layout, window in above if layout != dataset.layout or not dataset.is_copy):
            hidden[number] = windows
        offset = pixel_offset(grid, dataset.grid) if dataset.is_copy else None
        if offset is not None:
            whole = Window(row=-offset[0], column=-offset[1], height=dataset.grid.height, width=dataset.grid.width)
            if (window := intersection(whole, grid.shape)) is not None:
                above.append((dataset.layout, window))
    return hidden


def _is_hidden(grid: Grid, window: Window, offset: tuple[int, int] | None, hidden: tuple[Window, ...]) -> bool:
    """Whether copies cover all pixels that a window of a dataset could give the result, so that it need not be read."""
    if not hidden:
        return False
    visible = np.zeros(grid.shape, np.bool_)
    top, left = (0, 0) if offset is None else (window.row - offset[0], window.column - offset[1])
    size = grid.shape if offset is None else (window.height, window.width)
    visible[top : top + size[0], left : left + size[1]] = True
    for copy in hidden:
        visible[copy.slices] = False
    return not visible.any()


def _without(valid: NDArray[np.bool_], place: tuple[slice, slice], hidden: tuple[Window, ...]) -> NDArray[np.bool_]:
    """The mask of valid pixels (bands, height, width) of a part of the result, without hidden pixels."""
    shown = valid.copy()
    for window in hidden:
        top, left = window.row - place[0].start, window.column - place[1].start
        # A window may begin or end before this part. Negative numbers in a slice would count from the end.
        shown[:, max(top, 0) : max(top + window.height, 0), max(left, 0) : max(left + window.width, 0)] = False
    return shown


def _bytes_of(dataset: Dataset, window: Window) -> int:
    return window.height * window.width * len(dataset.bands) * np.dtype(dataset.dformat.dtype).itemsize


@lru_cache(maxsize=4096)
def _window_of(grid: Grid, source: Grid, resampling: Resampling) -> tuple[Window | None, tuple[int, int] | None]:
    """The window of a source that is needed for a grid, and the grid's offset in it if both have the same pixels."""
    offset = pixel_offset(grid, source)
    if offset is not None:
        whole = Window(row=offset[0], column=offset[1], height=grid.height, width=grid.width)
        return intersection(whole, source.shape), offset
    # The union of the blocks' windows, not the window of the grid: whole blocks are warped, even beyond its edge.
    windows = [source_window(block, source, resampling) for block, _ in lattice_blocks(grid)]
    needed = [window for window in windows if window is not None]
    if not needed:
        return None, None
    top, left = min(window.row for window in needed), min(window.column for window in needed)
    bottom = max(window.row + window.height for window in needed)
    right = max(window.column + window.width for window in needed)
    return Window(row=top, column=left, height=bottom - top, width=right - left), None


def _batches(requests: Containers) -> Iterator[list[list[_Request]]]:
    containers = iter(requests.values())
    while batch := list(islice(containers, CONTAINERS_AT_ONCE)):
        yield batch


def _read_all(
    store: Store, batch: list[list[_Request]], canvas: _Canvas, threads: int, cache: BlockCache | None
) -> Iterator[list[Pixels]]:
    def read(requests: list[_Request], pool: Executor | None = None) -> list[Pixels]:
        wanted = [(request.dataset, request.window) for request in requests]
        targets = [canvas.target_of(request) for request in requests]
        return read_window(store, requests[0].dataset.uri, wanted, targets, pool, requests[0].level, cache)

    if all(_is_local_file(store, requests[0].dataset) for requests in batch):
        pool = pool_of(threads) if threads > 1 else None
        yield from (read(requests, pool) for requests in batch)
    elif len(batch) == 1:
        yield read(batch[0], pool_of(REQUESTS_AT_ONCE))
    else:
        yield from pool_of(REQUESTS_AT_ONCE).map(read, batch)


def _warp_all(requests: list[_Request], grid: Grid, resampling: Resampling, canvas: _Canvas) -> None:
    """Warp and paint requests. Images with the same grid and format are warped together."""
    groups: dict[tuple[Grid, Mapping], list[_Request]] = {}
    for request in requests:
        groups.setdefault((request.dataset.grid, Mapping.of(request.dataset, canvas.format)), []).append(request)
    for (source, mapping), members in groups.items():
        working, nodata = _working(members, mapping, resampling)
        for block, window in lattice_blocks(grid):
            needed, visible = source_window(block, source, resampling), intersection(window, grid.shape)
            if needed is None or visible is None:
                continue
            # All members have the same window, since they have the same grid: `_window_of` depends on nothing else.
            first = members[0].window
            local = needed.model_copy(update={"row": needed.row - first.row, "column": needed.column - first.column})
            cut = [pixels[:, local.slices[0], local.slices[1]] for pixels in working]
            inside = visible.model_copy(
                update={"row": visible.row - window.row, "column": visible.column - window.column}
            )
            warped = warp(cut, source.window(needed), nodata, block, resampling)
            for request, pixels in zip(members, warped, strict=True):
                part = pixels[:, inside.slices[0], inside.slices[1]]
                canvas.paint(request, visible.slices, *_from_warped(part, mapping, resampling))
    # Requests live until the whole batch is painted. Without this, their pixels would add up.
    for request in requests:
        request.pixels = None


def _working(requests: list[_Request], mapping: Mapping, resampling: Resampling) -> tuple[list[Pixels], float]:
    """The pixels as input for the warper, and their nodata: NaN, except for kernels that keep values.

    Pixels with an exponent are mapped first, since a mean must be one of real values. Others are warped as stored,
    in which rounding of ties is exact, and mapped afterwards.
    """
    arrays = [request.pixels for request in requests if request.pixels is not None]
    source = mapping.source
    if resampling in EXACT:
        return arrays, source.nodata
    numbers = source if mapping.is_linear else mapping.target
    kind = "float64" if numbers.dtype in ("int32", "int64", "float64") else "float32"
    if mapping.is_linear:
        return [np.where(source.valid(pixels), pixels, np.nan).astype(kind) for pixels in arrays], float("nan")
    working = []
    for pixels in arrays:
        valid = source.valid(pixels)
        real = mapping.numbers(np.where(valid, pixels, source.min).astype(np.float64))
        working.append(np.where(valid, real, np.nan).astype(kind))
    return working, float("nan")


def _from_warped(pixels: Pixels, mapping: Mapping, resampling: Resampling) -> tuple[Pixels, NDArray[np.bool_]]:
    """Warped pixels in the variable's format, and which of them are valid."""
    if resampling in EXACT:
        return mapping.apply(pixels)
    source = mapping.source
    low, high = (source.min, source.max) if mapping.is_linear else mapping.real
    valid = ~np.isnan(pixels)
    values = np.where(valid, pixels, low).astype(np.float64)
    # Beside a step from 0 to 1000, a cubic kernel gives -70 and 1070.
    if resampling in OVERSHOOTING:
        values = np.clip(values, low, high)
    return mapping.rounded(mapping.numbers(values) if mapping.is_linear else values, snap=True), valid
