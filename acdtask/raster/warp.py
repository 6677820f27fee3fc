"""From one grid to another: whole pixels where the grids agree, GDAL's warper where they do not."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import Resampling as GdalResampling
from rasterio.warp import reproject

from acdtask.raster.data_format import Pixels, Resampling
from acdtask.raster.grid import Grid, Window
from acdtask.raster.points import crs_of, move_points

__all__ = ["intersection", "lattice_blocks", "middle_pixel", "pixel_offset", "source_window", "warp"]

Positions: TypeAlias = NDArray[np.float64]

BLOCK = 256
"""Pixels are warped in blocks of a lattice that the CRS and the resolution fix, so that no request changes them."""

SAME_PIXEL = 1e-3
"""How far two pixels of the same place may lie apart, in pixels."""

LATTICE_STEPS = 2**20
"""A power of two, so that no usual fraction of a pixel lies between two steps."""

REACH = {"nearest": 1, "bilinear": 1, "cubic": 2, "cubic_spline": 2, "lanczos": 3, "average": 1, "mode": 1}
RANKS = {"max", "min", "med", "q1", "q3"}
REACH |= dict.fromkeys(RANKS, 1)

INTERPOLATING = {"bilinear", "cubic", "cubic_spline", "lanczos"}

EDGE = 1e-5
"""A kernel that ranks takes a source pixel whole however little of it lies within, so edges so near are the same."""
EDGE_STEPS = 4096

SAME_SIZE = 1 / 0.95
"""How much larger a pixel may be before GDAL widens its kernels."""

BANDS_AT_ONCE = 16
WARP_MEMORY_MB = 1024
"""So large that GDAL never cuts a block, whatever the number of bands."""


def pixel_offset(grid: Grid, source: Grid) -> tuple[int, int] | None:
    """(row, column) in the source of the grid's first pixel, or None if the pixels are not the same.

    >>> source = Grid(crs="EPSG:32632", transform=(20, 0, 400000, 0, -20, 5600000), width=100, height=50)
    >>> pixel_offset(source.window(Window(row=-2, column=3, height=5, width=5)), source)
    (-2, 3)
    """
    a, b, c, d, e, f = grid.transform
    a2, b2, c2, d2, e2, f2 = source.transform
    extent = max(grid.width, grid.height, source.width, source.height)
    if b or d or b2 or d2 or max(abs(a - a2) / abs(a2), abs(e - e2) / abs(e2)) * extent > SAME_PIXEL:
        return None
    column, row = (c - c2) / a2, (f - f2) / e2
    if abs(column - round(column)) > SAME_PIXEL or abs(row - round(row)) > SAME_PIXEL:
        return None
    return (round(row), round(column)) if crs_of(grid.crs) == crs_of(source.crs) else None


def intersection(window: Window, shape: tuple[int, int]) -> Window | None:
    """The part of a window that lies in an image of that shape."""
    top, left = max(window.row, 0), max(window.column, 0)
    bottom, right = min(window.row + window.height, shape[0]), min(window.column + window.width, shape[1])
    if top >= bottom or left >= right:
        return None
    return Window(row=top, column=left, height=bottom - top, width=right - left)


def lattice_blocks(grid: Grid) -> Iterator[tuple[Grid, Window]]:
    """Blocks that cover the grid, and the window of each in the grid (it may reach beyond).

    A block is the same for every grid of the same pixels. A rotated grid is one block.
    """
    a, b, _, d, e, _ = grid.transform
    if b or d:
        yield grid, Window(row=0, column=0, height=grid.height, width=grid.width)
        return
    first_column, x_phase = _lattice(grid.transform[2] / a)
    first_row, y_phase = _lattice(grid.transform[5] / e)
    # Example in one dimension: a grid from column 300 on begins in the block of columns 256 to 511, and uses of it the
    # pixels from 44 on. GDAL interpolates positions within a block, so a block must never depend on the request.
    for row in range(first_row - first_row % BLOCK, first_row + grid.height, BLOCK):
        for column in range(first_column - first_column % BLOCK, first_column + grid.width, BLOCK):
            origin = (a, 0.0, (column + x_phase) * a, 0.0, e, (row + y_phase) * e)
            block = Grid(crs=grid.crs, transform=origin, width=BLOCK, height=BLOCK)
            yield block, Window(row=row - first_row, column=column - first_column, height=BLOCK, width=BLOCK)


def _lattice(pixels: float) -> tuple[int, float]:
    """A position as whole pixels and a fraction, the same for all positions of a lattice in spite of rounding."""
    fine = round(pixels * LATTICE_STEPS)
    return fine // LATTICE_STEPS, fine % LATTICE_STEPS / LATTICE_STEPS


def source_window(grid: Grid, source: Grid, resampling: Resampling) -> Window | None:
    """The window of the source that the grid needs with a resampling, or None if it needs nothing of it."""
    # 22 x 22 samples: between two CRSs edges are curves, and the farthest point may lie inside (a pole, for example).
    steps = np.linspace(0, 1, 22)
    columns, rows = (axis.ravel() for axis in np.meshgrid(steps * grid.width, steps * grid.height))
    xs, ys = _moved(Affine(*grid.transform), columns, rows)
    xs, ys = move_points(np.column_stack([xs, ys]), grid.crs, source.crs).T
    known = np.isfinite(xs) & np.isfinite(ys)
    if not known.any():
        return None
    # Beyond what the CRS can express nothing says how far the curve goes on, so the whole source is needed.
    if not known.all():
        return Window(row=0, column=0, height=source.height, width=source.width)
    source_columns, source_rows = _moved(~Affine(*source.transform), xs, ys)
    left, right = _span(source_columns, grid.width, resampling)
    top, bottom = _span(source_rows, grid.height, resampling)
    return intersection(Window(row=top, column=left, height=bottom - top, width=right - left), source.shape)


def _moved(transform: Affine, xs: Positions, ys: Positions) -> tuple[Positions, Positions]:
    a, b, c, d, e, f = transform[:6]
    return a * xs + b * ys + c, d * xs + e * ys + f


def _span(positions: Positions, pixels: int, resampling: Resampling) -> tuple[int, int]:
    """From where to where a source is needed: with the reach of the kernel, and what bends between the samples.

    The reach grows with the ratio of pixel sizes. GDAL estimates that by the size of the source too, so where the
    source begins late it must not end before it is as large as without the cut.
    """
    first, last = float(positions.min()), float(positions.max())
    spread = last - first
    # Two pixels for rounding, and one per cent for what bends between two samples.
    margin = math.ceil(REACH[resampling] * max(1.0, spread / pixels)) + 2 + math.ceil(spread * 0.01)
    start, end = math.floor(first) - margin, math.ceil(last) + margin
    return start, max(end, math.ceil(spread) + margin) if start < 0 < end else end


def warp(
    sources: Sequence[Pixels], source_grid: Grid, nodata: float, block: Grid, resampling: Resampling
) -> list[Pixels]:
    """Images of one grid, warped to a block; a nodata pixel never enters a valid one.

    Args:
        sources: arrays of shape (bands, height, width), of one dtype.
        source_grid: the grid of all sources.
        nodata: what means nodata, before and after.
        block: the grid to warp to.
        resampling: GDAL's name of the kernel.

    Returns:
        Arrays of shape (bands, block height, block width) of the sources' dtype.
    """
    stacked = np.concatenate(list(sources))
    if 1 in stacked.shape[1:]:
        # GDAL takes the nearest pixel, whatever the kernel, where a source is one pixel wide or high.
        stacked = np.pad(stacked, ((0, 0), (1, 1), (1, 1)), constant_values=nodata)
        wider = Window(row=-1, column=-1, height=source_grid.height + 2, width=source_grid.width + 2)
        source_grid = source_grid.window(wider)
    if resampling in RANKS:
        block = _with_same_edges(block, source_grid)
    warped = np.concatenate(
        [
            _warp_bands(stacked[first : first + BANDS_AT_ONCE], source_grid, nodata, block, resampling)
            for first in range(0, len(stacked), BANDS_AT_ONCE)
        ]
    )
    return np.split(warped, np.cumsum([len(source) for source in sources])[:-1])


def _with_same_edges(block: Grid, source: Grid) -> Grid:
    """The block, moved by what its lattice was rounded, so that its pixels end where those of the source do."""
    a, b, c, d, e, f = block.transform
    a2, b2, c2, d2, e2, f2 = source.transform
    if b or d or b2 or d2 or crs_of(block.crs) != crs_of(source.crs):
        return block
    numbers = np.array([a / a2, (c - c2) / a2, e / e2, (f - f2) / e2])
    # Example: a block of 60 m pixels on a source of 20 m has edges at 2.9999999 columns after the lattice's rounding; a
    # kernel that ranks would take the column before as well. They are moved to 3.
    near = np.rint(numbers * EDGE_STEPS) / EDGE_STEPS
    if (np.abs(near - numbers) * (block.width, 1, block.height, 1) > EDGE).any():
        return block
    across, left, down, top = near.tolist()
    transform = (across * a2, 0.0, c2 + left * a2, 0.0, down * e2, f2 + top * e2)
    return block.model_copy(update={"transform": transform})


def _warp_bands(bands: Pixels, source_grid: Grid, nodata: float, block: Grid, resampling: Resampling) -> Pixels:
    """The bands, each as if it were alone."""
    pixels = _warped(bands, source_grid, nodata, block, resampling)
    if len(bands) > 1 and resampling in INTERPOLATING and _is_nodata(bands, nodata).any():
        # GDAL gives no value where the nearest pixel is nodata, but only if an image has one band.
        pixels[_is_nodata(_warped(bands, source_grid, nodata, block, "nearest"), nodata)] = nodata
    return pixels


def _is_nodata(pixels: Pixels, nodata: float) -> NDArray[np.bool_]:
    return np.asarray(np.isnan(pixels) if math.isnan(nodata) else pixels == nodata)


def _warped(bands: Pixels, source_grid: Grid, nodata: float, block: Grid, resampling: Resampling) -> Pixels:
    """As gdalwarp does, in one piece: with the positions and the widths of kernels that it estimates for a block."""
    pixels: Pixels = np.empty((len(bands), *block.shape), bands.dtype)
    reproject(
        bands,
        pixels,
        src_transform=Affine(*source_grid.transform),
        src_crs=source_grid.crs,
        src_nodata=nodata,
        dst_transform=Affine(*block.transform),
        dst_crs=block.crs,
        dst_nodata=nodata,
        resampling=GdalResampling[resampling],
        warp_mem_limit=WARP_MEMORY_MB,
        UNIFIED_SRC_NODATA="NO",
        **(_spline_width(source_grid, block) if resampling == "cubic_spline" else {}),
    )
    return pixels


def _spline_width(source: Grid, block: Grid) -> dict[str, int]:
    """GDAL's option not to widen a kernel, where pixels of the block are no larger than those of the source.

    GDAL widens kernels by the extents, so on a turned grid too, and its B-spline has a negative tail on one side then.
    """
    size = middle_pixel(block, source)
    return {"XSCALE": 1, "YSCALE": 1} if size is not None and size < SAME_SIZE else {}


def middle_pixel(of: Grid, source: Grid) -> float | None:
    """How many columns or rows of another grid a grid's middle pixel spans, whichever is more; None beyond its CRS.

    >>> source = Grid(crs="EPSG:32632", transform=(20, 0, 400000, 0, -20, 5600000), width=100, height=50)
    >>> middle_pixel(source.model_copy(update={"transform": (100, 0, 0, 0, -60, 0)}), source)
    5.0
    """
    column, row = of.width / 2, of.height / 2
    places = _moved(Affine(*of.transform), column + np.array([0, 1, 0]), row + np.array([0, 0, 1]))
    xs, ys = move_points(np.column_stack(places), of.crs, source.crs).T
    if not np.isfinite([xs, ys]).all():
        return None
    return float(max(np.hypot(*(axis[1:] - axis[0])) for axis in _moved(~Affine(*source.transform), xs, ys)))
