"""Rules for layouts: checks when a layout is created, and the layout's grid for images."""

from __future__ import annotations

from collections.abc import Iterable

from acdtask.cube.model import NAME_BYTES, NAME_RULE
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.grid import Grid, Layout, RegularGrid
from acdtask.raster.points import crs_of

__all__ = ["regular_grid_like", "require_usable"]

SQUARE_TOLERANCE = 1e-6
"""Relative difference of a pixel's width and height that is accepted as rounding by GDAL's tools."""

SMALLEST_PIXEL, LARGEST_PIXEL = 0.01, 111_320.0
"""Limits for a pixel's size in metres on the ground. Beyond them, the resolution is probably in a wrong unit."""

METRES_IN_A_DEGREE = 111_320.0


def require_usable(layout: Layout) -> None:
    """Require a layout that jobs can use. NAME_INVALID, NAME_TOO_LONG, LAYOUT_INVALID."""
    name = layout.name
    if (size := len(name.encode())) > NAME_BYTES:
        raise AcdError(
            ErrorCode.NAME_TOO_LONG, f"a layout's name may have at most {NAME_BYTES} bytes, but this one has {size}"
        )
    if not NAME_RULE.match(name):
        raise AcdError(ErrorCode.NAME_INVALID, f"{name!r} is not a valid name for a layout")
    if isinstance(layout.grid, RegularGrid):
        _require_sizes(layout.grid)


def regular_grid_like(grids: Iterable[Grid], cell_size: int, images: str) -> RegularGrid:
    """Make the regular grid with the same pixels as images. If they differ, the first by CRS and transform is used.

    South-up images have the same pixels, with rows counted from the other side. `cell_size` is the width and height of
    a cell in pixels, `images` the name of the images in messages. LAYOUT_INVALID if there are no images, or if their
    pixels are not squares along the axes of the CRS.

    >>> south_up = Grid(crs="EPSG:32632", transform=(20, 0, 400000, 0, 20, 5600000), width=100, height=50)
    >>> grid = regular_grid_like([south_up], 64, "CoherenceVV")
    >>> grid.resolution, grid.ox, grid.oy
    (20.0, 400000.0, 5601000.0)
    """
    first = min(set(grids), key=lambda grid: (grid.crs, grid.transform), default=None)
    if first is None:
        raise AcdError(ErrorCode.LAYOUT_INVALID, f"{images} has no images from which to take the grid")
    a, b, c, d, e, f = first.transform
    if b or d or a <= 0 or abs(a - abs(e)) > SQUARE_TOLERANCE * a:
        raise AcdError(
            ErrorCode.LAYOUT_INVALID,
            f"the pixels of {images} are {abs(a):g} x {abs(e):g} units of {first.crs}"
            + (", rotated" if b or d else "")
            + ": they are not squares along its axes",
            "Give --crs and --resolution to resample the images, or warp them first (gdalwarp -tr).",
        )
    top = f + e * first.height if e > 0 else f
    return RegularGrid(crs=first.crs, resolution=a, cell_size=cell_size, ox=c, oy=top)


def _require_sizes(grid: RegularGrid) -> None:
    """Require a geographic or projected CRS, and a plausible size of pixels. LAYOUT_INVALID."""
    crs = crs_of(grid.crs)
    if not (crs.is_projected or crs.is_geographic):
        raise AcdError(ErrorCode.LAYOUT_INVALID, f"{grid.crs[:80]!r} is neither a geographic nor a projected CRS")
    unit, metres = ("degree", METRES_IN_A_DEGREE) if crs.is_geographic else crs.linear_units_factor
    size = grid.resolution * metres
    if not SMALLEST_PIXEL <= size <= LARGEST_PIXEL:
        raise AcdError(
            ErrorCode.LAYOUT_INVALID,
            f"a resolution of {grid.resolution:g} {unit} means pixels of {size:g} m; the limits are "
            f"{SMALLEST_PIXEL:g} m and {LARGEST_PIXEL:g} m",
            f"Give --resolution in the unit of {grid.crs[:80]}, which is {unit}.",
        )
