"""Layouts that jobs can work with: what is refused when one is made, and the grid of images as a layout."""

from __future__ import annotations

from collections.abc import Iterable

from acdtask.cube.model import NAME_BYTES, NAME_RULE
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.grid import Grid, Layout, RegularGrid
from acdtask.raster.points import crs_of

__all__ = ["regular_grid_like", "require_usable"]

SQUARE_TOLERANCE = 1e-6
"""How much the width and height of a pixel may differ, relative to it: rounding, as GDAL's tools leave it."""

SMALLEST_PIXEL, LARGEST_PIXEL = 0.01, 111_320.0
"""In metres on the ground. Anything beyond is a number in another unit than the CRS's."""

METRES_IN_A_DEGREE = 111_320.0


def require_usable(layout: Layout) -> None:
    """Refuse a layout that no job takes, before it is made. NAME_INVALID, NAME_TOO_LONG, LAYOUT_INVALID."""
    name = layout.name
    if (size := len(name.encode())) > NAME_BYTES:
        raise AcdError(
            ErrorCode.NAME_TOO_LONG, f"a layout's name may have {NAME_BYTES} bytes at most, and this one has {size}"
        )
    if not NAME_RULE.match(name):
        raise AcdError(ErrorCode.NAME_INVALID, f"{name!r} cannot be the name of a layout")
    if isinstance(layout.grid, RegularGrid):
        _require_sizes(layout.grid)


def regular_grid_like(grids: Iterable[Grid], cell_size: int, what: str) -> RegularGrid:
    """The regular grid whose pixels are those of images; that of the first, by CRS and transform, if they differ.

    South-up images lie on the same lattice of pixels: rows are counted from the other side.

    Args:
        grids: of the images.
        cell_size: width and height of a cell in pixels.
        what: what the images are called.

    Raises:
        AcdError: LAYOUT_INVALID if there are none, or their pixels are no squares along the axes of the CRS.

    >>> south_up = Grid(crs="EPSG:32632", transform=(20, 0, 400000, 0, 20, 5600000), width=100, height=50)
    >>> grid = regular_grid_like([south_up], 64, "CoherenceVV")
    >>> grid.resolution, grid.ox, grid.oy
    (20.0, 400000.0, 5601000.0)
    """
    first = min(set(grids), key=lambda grid: (grid.crs, grid.transform), default=None)
    if first is None:
        raise AcdError(ErrorCode.LAYOUT_INVALID, f"{what} has no images to take the grid from")
    a, b, c, d, e, f = first.transform
    if b or d or a <= 0 or abs(a - abs(e)) > SQUARE_TOLERANCE * a:
        raise AcdError(
            ErrorCode.LAYOUT_INVALID,
            f"the pixels of {what} are {abs(a):g} x {abs(e):g} units of {first.crs}"
            + (", turned" if b or d else "")
            + ": not squares along its axes",
            "Give --crs and --resolution, so that the images are resampled; or warp them first (gdalwarp -tr).",
        )
    top = f + e * first.height if e > 0 else f
    return RegularGrid(crs=first.crs, resolution=a, cell_size=cell_size, ox=c, oy=top)


def _require_sizes(grid: RegularGrid) -> None:
    """LAYOUT_INVALID unless the CRS is a map's and a pixel has a size that some sensor may have."""
    crs = crs_of(grid.crs)
    if not (crs.is_projected or crs.is_geographic):
        raise AcdError(ErrorCode.LAYOUT_INVALID, f"{grid.crs[:80]!r} is not a map's coordinate system")
    unit, metres = ("degree", METRES_IN_A_DEGREE) if crs.is_geographic else crs.linear_units_factor
    size = grid.resolution * metres
    if not SMALLEST_PIXEL <= size <= LARGEST_PIXEL:
        raise AcdError(
            ErrorCode.LAYOUT_INVALID,
            f"a resolution of {grid.resolution:g} {unit} makes pixels of {size:g} m, and they may have "
            f"{SMALLEST_PIXEL:g} m to {LARGEST_PIXEL:g} m",
            f"Give --resolution in the unit of {grid.crs[:80]}, which is {unit}.",
        )
