"""Reading a stack: each slice a mosaic of its datasets, on the grid that is asked for."""

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
from acdtask.cube.model import Dataset, Slice, Variable
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.data_format import Pixels, Resampling
from acdtask.raster.grid import Grid, Window
from acdtask.raster.warp import intersection, lattice_blocks, pixel_offset, source_window, warp
from acdtask.storage.store import Store

__all__ = ["bytes_to_read", "read_mosaics", "read_slices"]

CONTAINERS_AT_ONCE = 16
REQUESTS_AT_ONCE = 8
"""Over a network the time goes into waiting. GeoTIFFs of a folder are read by one thread: more wait for Python."""

MIB = 1024 * 1024
WARPED_AT_MOST = 1024 * MIB
"""Bytes of pixels that one image is warped from. They are held beside that as floats."""

OVERSHOOTING = {"cubic", "lanczos"}
EXACT = {"nearest", "mode"}


def read_slices(
    store: Store,
    grid: Grid,
    slices: Sequence[Slice],
    variable: Variable,
    resampling: Resampling | None = None,
) -> Pixels:
    """The pixels of each slice on the grid, as `Cube.read` says. It raises what `read_mosaics` does."""
    return read_mosaics(store, grid, [part.datasets for part in slices], variable, resampling)


def read_mosaics(
    store: Store,
    grid: Grid,
    mosaics: Sequence[Sequence[Dataset]],
    variable: Variable,
    resampling: Resampling | None = None,
    threads: int = 1,
    overviews: bool = False,
) -> Pixels:
    """Each mosaic of datasets on the grid; where they overlap, the later one lies on top.

    Where a dataset has the grid's own pixels they are copied bit for bit; else they are warped, block by block of a
    lattice that does not depend on the request. A consolidated copy hides earlier datasets of the same record in its
    whole tile, including where the copy is nodata.

    Args:
        store: the cube's store.
        grid: where the pixels are wanted.
        mosaics: what is wanted.
        variable: whose format the pixels have.
        resampling: default: the variable's.
        threads: how many decode chunks of a folder's container at once; jobs run in processes, so one is the default.
        overviews: read overviews of GeoTIFFs where they are as coarse as the grid: quick, but how they were made is
            unknown. Good for looking at.

    Returns:
        As `Cube.read`.

    Raises:
        AcdError: CUBE_DAMAGED or INPUT_UNREADABLE, naming the container, GRID_TOO_COARSE, or what Store raises.
    """
    canvas = _Canvas(grid, mosaics, variable)
    kernel = resampling or variable.resampling
    sources = _sources(store, grid, mosaics) if overviews else [[(one, None) for one in part] for part in mosaics]
    for batch in _batches(_requests(grid, sources, kernel)):
        for requests, arrays in zip(batch, _read_all(store, batch, canvas, threads), strict=True):
            for request, pixels in zip(requests, arrays, strict=True):
                if request.offset is None:
                    request.pixels = pixels
                else:
                    canvas.copy(request, request.offset, pixels)
        _warp_all([r for requests in batch for r in requests if r.offset is None], grid, kernel, canvas)
    return canvas.finished()


def bytes_to_read(grid: Grid, datasets: Sequence[Dataset], variable: Variable, resampling: Resampling | None) -> int:
    """How many bytes of pixels wait in memory while an image of the datasets is read: itself, and what is warped.

    With overviews there may be less.
    """
    kernel = resampling or variable.resampling
    size = grid.height * grid.width * len(variable.bands) * np.dtype(variable.dformat.dtype).itemsize
    for one in datasets:
        window, offset = _need(grid, one.grid, kernel)
        if window is not None and offset is None:
            size += _bytes_of(one, window)
    return size


@dataclass(slots=True)
class _Request:
    """A window of a dataset, for a slice. `layer` is its place in the slice: a later one lies on top.

    `hidden` are windows of the result in which copies of the same record replace it. With the number of an overview,
    `level`, the dataset's grid is the overview's.
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
    """The result, painted in any order of datasets."""

    def __init__(self, grid: Grid, mosaics: Sequence[Sequence[Dataset]], variable: Variable) -> None:
        self.format = variable.dformat
        self.layers = [len(datasets) for datasets in mosaics]
        self.pixels: Pixels = np.empty((len(mosaics), len(variable.bands), *grid.shape), variable.dformat.dtype)
        self._stack = self.pixels[:, 0]
        self._blank = set(range(len(mosaics)))
        self._top: dict[int, NDArray[np.int32]] = {}

    def target_of(self, request: _Request) -> Target | None:
        """Where to read the request, if its pixels are all of an image as they are."""
        is_all = request.offset is not None and (request.window.height, request.window.width) == self.pixels.shape[2:]
        if not is_all or self.layers[request.slice] > 1 or self.pixels.shape[1] > 1:
            return None
        return Target(self._stack, request.slice) if Mapping.of(request.dataset, self.format).is_identity else None

    def copy(self, request: _Request, offset: tuple[int, int], pixels: Pixels) -> None:
        """Paint pixels that are the grid's own; the grid begins at `offset` (row, column) of the dataset."""
        if np.may_share_memory(pixels, self.pixels):  # it was read into its target
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
        """Paint values (bands, height, width) on rows and columns where they are valid and nothing is above."""
        image = self._image(request.slice)
        shown = _without(valid, place, request.hidden) if request.hidden else valid
        if self.layers[request.slice] > 1:
            # Datasets come container by container, so an upper one may be painted first. `top` has the layer of each
            # pixel so far; equal layers are parts of one dataset, which do not overlap.
            top = self._top.setdefault(request.slice, np.full(image.shape, -1, dtype=np.int32))
            above = top[:, *place]
            shown = shown & (above <= request.layer)
            above[shown] = request.layer
        np.copyto(image[:, *place], values, where=shown)

    def finished(self) -> Pixels:
        """The images; without the axis of bands where there is one band."""
        for number in list(self._blank):
            self._image(number)
        return self.pixels if self.pixels.shape[1] > 1 else self.pixels[:, 0]

    def _image(self, number: int, *, whole: bool = False) -> Pixels:
        """An image to paint on; nodata at first, unless all of it will be painted."""
        image: Pixels = self.pixels[number]
        if number in self._blank:
            self._blank.remove(number)
            if not whole:
                image[...] = self.format.nodata
        return image


Source: TypeAlias = tuple[Dataset, int | None]
"""A dataset as it is, or as it is in an overview and the overview's number."""

Containers: TypeAlias = dict[tuple[str, int | None], list[_Request]]
"""What to read out of each container, or of an overview of it."""


def _sources(store: Store, grid: Grid, mosaics: Sequence[Sequence[Dataset]]) -> list[list[Source]]:
    """The datasets in the overviews that fit the grid."""

    def source(dataset: Dataset) -> Source:
        return overview_for(store, dataset, grid) or (dataset, None)

    if all(_is_near(store, one) for datasets in mosaics for one in datasets):
        return [[source(one) for one in datasets] for datasets in mosaics]
    return [list(pool_of(REQUESTS_AT_ONCE).map(source, datasets)) for datasets in mosaics]


def _is_near(store: Store, dataset: Dataset) -> bool:
    """Whether the container is a file of this machine."""
    return store.is_folder and "://" not in dataset.uri


def _requests(grid: Grid, mosaics: Sequence[Sequence[Source]], resampling: Resampling) -> Containers:
    requests: Containers = {}
    for index, datasets in enumerate(mosaics):
        warped = 0
        hidden = _hidden(grid, [dataset for dataset, _ in datasets])
        for layer, (dataset, level) in enumerate(datasets):
            window, offset = _need(grid, dataset.grid, resampling)
            if window is None:
                continue
            request = _Request(index, layer, dataset, window, offset, level, hidden.get(layer, ()))
            requests.setdefault((dataset.uri, level), []).append(request)
            warped += _bytes_of(dataset, window) if offset is None else 0
        if warped > WARPED_AT_MOST:
            raise AcdError(
                ErrorCode.GRID_TOO_COARSE,
                f"An image of {grid.width} x {grid.height} px would be made of {warped / MIB:.0f} MiB of pixels of "
                f"{len(datasets)} datasets, more than {WARPED_AT_MOST // MIB}",
            )
    return requests


def _hidden(grid: Grid, datasets: Sequence[Dataset]) -> dict[int, tuple[Window, ...]]:
    """For each dataset of a mosaic (by number) that copies replace, the windows of the grid that the copies cover.

    A copy replaces earlier datasets of its record, except other tiles of its own layout.
    """
    kinds = {(dataset.record_id, dataset.layout if dataset.is_copy else "") for dataset in datasets}
    if len(kinds) == len({record_id for record_id, _ in kinds}):  # no record has both copies and others
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


def _without(valid: NDArray[np.bool_], place: tuple[slice, slice], hidden: tuple[Window, ...]) -> NDArray[np.bool_]:
    """The valid pixels (bands, height, width) of a part of the result, without hidden ones."""
    shown = valid.copy()
    for window in hidden:
        top, left = window.row - place[0].start, window.column - place[1].start
        # A window may begin before this part, or end before it: slices must not count from the end then.
        shown[:, max(top, 0) : max(top + window.height, 0), max(left, 0) : max(left + window.width, 0)] = False
    return shown


def _bytes_of(dataset: Dataset, window: Window) -> int:
    return window.height * window.width * len(dataset.bands) * np.dtype(dataset.dformat.dtype).itemsize


@lru_cache(maxsize=4096)
def _need(grid: Grid, source: Grid, resampling: Resampling) -> tuple[Window | None, tuple[int, int] | None]:
    """The window of the source that the grid needs, and the offset of the grid if it has the same pixels."""
    offset = pixel_offset(grid, source)
    if offset is not None:
        whole = Window(row=offset[0], column=offset[1], height=grid.height, width=grid.width)
        return intersection(whole, source.shape), offset
    # The sum of the blocks' windows, not that of the grid: whole blocks are warped, also beyond the grid's edge.
    windows = [source_window(block, source, resampling) for block, _ in lattice_blocks(grid)]
    found = [window for window in windows if window is not None]
    if not found:
        return None, None
    top, left = min(window.row for window in found), min(window.column for window in found)
    bottom = max(window.row + window.height for window in found)
    right = max(window.column + window.width for window in found)
    return Window(row=top, column=left, height=bottom - top, width=right - left), None


def _batches(requests: Containers) -> Iterator[list[list[_Request]]]:
    containers = iter(requests.values())
    while batch := list(islice(containers, CONTAINERS_AT_ONCE)):
        yield batch


def _read_all(store: Store, batch: list[list[_Request]], canvas: _Canvas, threads: int) -> Iterator[list[Pixels]]:
    def read(requests: list[_Request], pool: Executor | None = None) -> list[Pixels]:
        wanted = [(request.dataset, request.window) for request in requests]
        targets = [canvas.target_of(request) for request in requests]
        return read_window(store, requests[0].dataset.uri, wanted, targets, pool, requests[0].level)

    if all(_is_near(store, requests[0].dataset) for requests in batch):
        pool = pool_of(threads) if threads > 1 else None
        yield from (read(requests, pool) for requests in batch)
    elif len(batch) == 1:
        yield read(batch[0], pool_of(REQUESTS_AT_ONCE))
    else:
        yield from pool_of(REQUESTS_AT_ONCE).map(read, batch)


def _warp_all(requests: list[_Request], grid: Grid, resampling: Resampling, canvas: _Canvas) -> None:
    """Warp and paint; images of one grid and format go through the warper together."""
    groups: dict[tuple[Grid, Mapping], list[_Request]] = {}
    for request in requests:
        groups.setdefault((request.dataset.grid, Mapping.of(request.dataset, canvas.format)), []).append(request)
    for (source, mapping), members in groups.items():
        working, nodata = _working(members, mapping, resampling)
        for block, window in lattice_blocks(grid):
            need, seen = source_window(block, source, resampling), intersection(window, grid.shape)
            if need is None or seen is None:
                continue
            # One window for all members: they have the same grid, and `_need` depends on nothing else of them.
            first = members[0].window
            local = need.model_copy(update={"row": need.row - first.row, "column": need.column - first.column})
            cut = [pixels[:, local.slices[0], local.slices[1]] for pixels in working]
            inside = seen.model_copy(update={"row": seen.row - window.row, "column": seen.column - window.column})
            for request, pixels in zip(members, warp(cut, source.window(need), nodata, block, resampling), strict=True):
                part = pixels[:, inside.slices[0], inside.slices[1]]
                canvas.paint(request, seen.slices, *_from_warped(part, mapping, resampling))
    # The batch keeps its requests until the last is painted; their pixels would add up.
    for request in requests:
        request.pixels = None


def _working(requests: list[_Request], mapping: Mapping, resampling: Resampling) -> tuple[list[Pixels], float]:
    """The pixels as the warper takes them, and what means nodata in them: NaN, except for kernels that keep values.

    What does not map linearly is mapped first, since a mean is one of real values; the rest keeps its own numbers, in
    which ties are exact.
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
    if resampling in EXACT:
        return mapping.apply(pixels)
    source = mapping.source
    low, high = (source.min, source.max) if mapping.is_linear else mapping.real
    valid = ~np.isnan(pixels)
    values = np.where(valid, pixels, low).astype(np.float64)
    # A cubic kernel has negative weights: beside a step from 0 to 1000 it gives -70 and 1070.
    if resampling in OVERSHOOTING:
        values = np.clip(values, low, high)
    return mapping.rounded(mapping.numbers(values) if mapping.is_linear else values, snap=True), valid
