"""Resampling between grids: copying where pixels coincide, GDAL's warper elsewhere."""

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
"""Size of warped blocks in pixels. They align to the CRS origin, so a pixel has the same value in every request."""

SAME_PIXEL = 1e-3
"""Largest distance in pixels at which two pixels are considered the same."""

LATTICE_STEPS = 2**20
"""Steps per pixel; a power of two, so that common fractions of a pixel are exact."""

REACH = {"nearest": 1, "bilinear": 1, "cubic": 2, "cubic_spline": 2, "lanczos": 3, "average": 1, "mode": 1}
RANKS = {"max", "min", "med", "q1", "q3"}
REACH |= dict.fromkeys(RANKS, 1)

INTERPOLATING = {"bilinear", "cubic", "cubic_spline", "lanczos"}

EDGE = 1e-5
"""Block and source edges closer than this many pixels coincide: rank kernels count a source pixel fully, however
little of it is inside."""
EDGE_STEPS = 4096

SAME_SIZE = 1 / 0.95
"""Ratio of pixel sizes above which GDAL widens its kernels."""

BANDS_AT_ONCE = 16
WARP_MEMORY_MB = 1024
"""Large enough that GDAL never splits a block of BANDS_AT_ONCE bands."""


def pixel_offset(grid: Grid, source: Grid) -> tuple[int, int] | None:
    """(row, column) in the source of the grid's first pixel; None if the pixels do not coincide.

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
    """Part of a window inside an image of this shape; None if they do not overlap."""
    top, left = max(window.row, 0), max(window.column, 0)
    bottom, right = min(window.row + window.height, shape[0]), min(window.column + window.width, shape[1])
    if top >= bottom or left >= right:
        return None
    return Window(row=top, column=left, height=bottom - top, width=right - left)


def lattice_blocks(grid: Grid) -> Iterator[tuple[Grid, Window]]:
    """Blocks that cover the grid, each with its window in the grid (which may extend beyond it).

    Grids with the same pixels share the same blocks. A rotated grid is a single block.
    """
    a, b, _, d, e, _ = grid.transform
    if b or d:
        yield grid, Window(row=0, column=0, height=grid.height, width=grid.width)
        return
    first_column, x_phase = _lattice(grid.transform[2] / a)
    first_row, y_phase = _lattice(grid.transform[5] / e)
    # Example in one dimension: a grid that starts at column 300 starts in the block of columns 256 to 511, at offset
    # 44. GDAL interpolates positions within a block, so a block must never depend on the request.
    for row in range(first_row - first_row % BLOCK, first_row + grid.height, BLOCK):
        for column in range(first_column - first_column % BLOCK, first_column + grid.width, BLOCK):
            origin = (a, 0.0, (column + x_phase) * a, 0.0, e, (row + y_phase) * e)
            block = Grid(crs=grid.crs, transform=origin, width=BLOCK, height=BLOCK)
            yield block, Window(row=row - first_row, column=column - first_column, height=BLOCK, width=BLOCK)


def _lattice(pixels: float) -> tuple[int, float]:
    """Split a position into whole pixels and a fraction, rounded so that all grids of a lattice share the fraction."""
    fine = round(pixels * LATTICE_STEPS)
    return fine // LATTICE_STEPS, fine % LATTICE_STEPS / LATTICE_STEPS


def source_window(grid: Grid, source: Grid, resampling: Resampling) -> Window | None:
    """Window of the source that resampling onto the grid needs; None if they do not overlap."""
    # 22 x 22 samples: edges are curves in the other CRS, and the extreme point may be inside the grid (e.g. a pole).
    steps = np.linspace(0, 1, 22)
    columns, rows = (axis.ravel() for axis in np.meshgrid(steps * grid.width, steps * grid.height))
    xs, ys = _moved(Affine(*grid.transform), columns, rows)
    xs, ys = move_points(np.column_stack([xs, ys]), grid.crs, source.crs).T
    known = np.isfinite(xs) & np.isfinite(ys)
    if not known.any():
        return None
    # Where the source's CRS is undefined, the extent of the curve is unknown, so take the whole source.
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
    """Range of source rows or columns needed, with margins for the kernel and for curvature between samples.

    The kernel's reach grows with the ratio of pixel sizes. GDAL also uses the source's size to estimate that ratio, so
    a source cut at its start must be at least as long as it would be without the cut.
    """
    first, last = float(positions.min()), float(positions.max())
    spread = last - first
    # Two pixels for rounding, and one per cent for curvature between samples.
    margin = math.ceil(REACH[resampling] * max(1.0, spread / pixels)) + 2 + math.ceil(spread * 0.01)
    start, end = math.floor(first) - margin, math.ceil(last) + margin
    return start, max(end, math.ceil(spread) + margin) if start < 0 < end else end


def warp(
    sources: Sequence[Pixels], source_grid: Grid, nodata: float, block: Grid, resampling: Resampling
) -> list[Pixels]:
    """Warp images of one grid to a block; nodata pixels never contribute to valid ones.

    The sources have shape (bands, height, width) and the same dtype. The results have shape (bands, block height, block
    width), the same dtype and nodata.
    """
    stacked = np.concatenate(list(sources))
    if 1 in stacked.shape[1:]:
        # For a source one pixel wide or high, GDAL uses nearest neighbour regardless of the kernel: pad with nodata.
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
    """Block snapped to the source's pixel edges, undoing the rounding of `_lattice`."""
    a, b, c, d, e, f = block.transform
    a2, b2, c2, d2, e2, f2 = source.transform
    if b or d or b2 or d2 or crs_of(block.crs) != crs_of(source.crs):
        return block
    numbers = np.array([a / a2, (c - c2) / a2, e / e2, (f - f2) / e2])
    # Example: rounding can put an edge of a block of 60 m pixels at column 2.9999999 of a 20 m source; a rank kernel
    # would then include the column before. It is moved to 3.
    snapped = np.rint(numbers * EDGE_STEPS) / EDGE_STEPS
    if (np.abs(snapped - numbers) * (block.width, 1, block.height, 1) > EDGE).any():
        return block
    width, left, height, top = snapped.tolist()
    transform = (width * a2, 0.0, c2 + left * a2, 0.0, height * e2, f2 + top * e2)
    return block.model_copy(update={"transform": transform})


def _warp_bands(bands: Pixels, source_grid: Grid, nodata: float, block: Grid, resampling: Resampling) -> Pixels:
    """Warp bands so that each gets the same result as if it were warped alone."""
    pixels = _warped(bands, source_grid, nodata, block, resampling)
    if len(bands) > 1 and resampling in INTERPOLATING and _is_nodata(bands, nodata).any():
        # GDAL returns nodata where the nearest pixel is nodata, but only for images with one band: do it for all.
        pixels[_is_nodata(_warped(bands, source_grid, nodata, block, "nearest"), nodata)] = nodata
    return pixels


def _is_nodata(pixels: Pixels, nodata: float) -> NDArray[np.bool_]:
    return np.asarray(np.isnan(pixels) if math.isnan(nodata) else pixels == nodata)


def _warped(bands: Pixels, source_grid: Grid, nodata: float, block: Grid, resampling: Resampling) -> Pixels:
    """Warp bands in one piece, like gdalwarp: it estimates positions and kernel widths per piece."""
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
    """GDAL options that keep the kernel's width where the block's pixels are no larger than the source's.

    GDAL estimates the width from bounding boxes and so widens kernels for rotated grids too; its widened B-spline has a
    negative tail on one side.
    """
    size = middle_pixel(block, source)
    return {"XSCALE": 1, "YSCALE": 1} if size is not None and size < SAME_SIZE else {}


def middle_pixel(of: Grid, source: Grid) -> float | None:
    """Size of a grid's middle pixel in pixels of another grid, the larger of both axes; None where undefined.

    >>> source = Grid(crs="EPSG:32632", transform=(20, 0, 400000, 0, -20, 5600000), width=100, height=50)
    >>> middle_pixel(source.model_copy(update={"transform": (100, 0, 0, 0, -60, 0)}), source)
    5.0
    """
    column, row = of.width / 2, of.height / 2
    corners = _moved(Affine(*of.transform), column + np.array([0, 1, 0]), row + np.array([0, 0, 1]))
    xs, ys = move_points(np.column_stack(corners), of.crs, source.crs).T
    if not np.isfinite([xs, ys]).all():
        return None
    return float(max(np.hypot(*(axis[1:] - axis[0])) for axis in _moved(~Affine(*source.transform), xs, ys)))
