"""Tiles that cover an area, and footprints of grids in longitude and latitude."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.grid import Grid, Layout, Tile, WebMercatorGrid
from acdtask.raster.points import move_points
from acdtask.raster.repair import repaired

__all__ = ["each_tile", "edge_points", "footprint", "project", "tiles_as_geojson", "tiles_of"]

LON_LAT = "EPSG:4326"
EDGE_STEP_DEGREES = 0.02
"""Longest piece of an edge reprojected as a straight line: over 2 km the curvature is below 0.1 m."""

SLIVER_PIXELS = 1e-3
"""A cell that the area enters by less than this is skipped; rounding errors of a reprojection are far smaller."""

MOST_CELLS = 1_000_000
"""Maximum number of cells to search: a continent at 20 m has fewer."""

WEB_MERCATOR_LIMIT = 85.0511287798066
BLOCK, BLOCKS_AT_ONCE = 32, 1000
FOOTPRINT_TOLERANCE_DEGREES = 1e-6
FARTHEST_IN_CRS = 1e10
"""Largest coordinate that is plausible in any unit, from centimetres to degrees."""
FARTHEST = np.array([720.0, 90.0 + 1e-6])
"""Largest longitude and latitude of an outline: a raster may extend past 180 degrees, but not twice around."""


def tiles_of(area: BaseGeometry, layout: Layout) -> list[Tile]:
    """Tiles that overlap an area, by row, then column.

    The area is polygons with edges straight in longitude and latitude, as in RFC 7946, also on both sides of the
    antimeridian. AOI_INVALID if the layout's CRS is undefined in a part of the area, LAYOUT_INVALID if the CRS is
    unknown, LAYOUT_TOO_FINE if the area spans more than MOST_CELLS.

    >>> from acdtask.raster.grid import RegularGrid
    >>> layout = Layout(name="utm32", grid=RegularGrid(crs="EPSG:32632", resolution=20, cell_size=1024))
    >>> [tile.cell for tile in tiles_of(shapely.box(7.0, 50.9, 7.2, 51.0), layout)]
    ['17/-276', '18/-276']
    """
    try:
        return list(each_tile(area, layout, most_cells=MOST_CELLS))
    except AcdError as error:
        if error.code is not ErrorCode.AREA_TOO_COMPLEX:
            raise
        detail = (
            f"{error.detail}; cells of the layout {layout.name} are {layout.cell_extent:g} units of {layout.crs} wide"
        )
        raise AcdError(ErrorCode.LAYOUT_TOO_FINE, detail) from error


def each_tile(
    area: BaseGeometry, layout: Layout, *, most_cells: int, check: Callable[[], None] = lambda: None
) -> Iterator[Tile]:
    """Iterate over the tiles of `tiles_of`, but AREA_TOO_COMPLEX if it would search more than `most_cells`.

    These are the cells in the bounding boxes of the area's parts. `check` is called from time to time; an exception
    that it raises ends the search.
    """
    if isinstance(layout.grid, WebMercatorGrid):
        area = shapely.clip_by_rect(area, -180, -WEB_MERCATOR_LIMIT, 180, WEB_MERCATOR_LIMIT)
    projected = project(area, LON_LAT, layout.crs)
    _check_cells(projected, layout, most_cells)
    inset = SLIVER_PIXELS * layout.cell_extent / layout.cell_pixels
    cells = _cells_meeting(projected, layout, inset, check)
    if not len(cells):  # an area thinner than the inset: take every cell that it touches
        cells = _cells_meeting(projected, layout, 0.0, check)
    if isinstance(layout.grid, WebMercatorGrid):
        count = 2**layout.grid.zoom
        cells = cells[((cells >= 0) & (cells < count)).all(axis=1)]
    for j, i in cells:
        yield layout.tile(int(i), int(j))


def _check_cells(area: BaseGeometry, layout: Layout, most: int) -> None:
    """Raise AREA_TOO_COMPLEX if the area's bounding boxes span too many cells."""
    bounds = shapely.bounds(shapely.get_parts(area))
    spans = (bounds[:, 2:] - bounds[:, :2]) / layout.cell_extent + 2
    cells = float(np.nansum(spans[:, 0] * spans[:, 1]))  # the bounds of an empty part are NaN
    if not cells <= most:
        raise AcdError(ErrorCode.AREA_TOO_COMPLEX, f"the area spans {cells:.0f} cells; the limit is {most}")


def project(geometry: BaseGeometry, source: str, target: str) -> BaseGeometry:
    """Reproject a geometry, densifying its edges so that they stay in place. AOI_INVALID, LAYOUT_INVALID."""
    if source == target:
        return geometry
    fine = shapely.segmentize(geometry, EDGE_STEP_DEGREES) if source == LON_LAT else geometry
    points = shapely.get_coordinates(fine)
    if not len(points):
        return geometry
    moved = move_points(points, source, target)
    if not np.isfinite(moved).all():
        lon, lat = points[~np.isfinite(moved).all(axis=1)][0]
        raise AcdError(
            ErrorCode.AOI_INVALID,
            f"{target} is not defined at ({lon:.4f}, {lat:.4f})",
            "Choose a layout whose CRS covers the area.",
        )
    projected = shapely.set_coordinates(fine, moved)
    return repaired(projected)


def edge_points(area: BaseGeometry) -> int:
    """Estimate the number of points of an area after `project` densifies its edges.

    >>> edge_points(shapely.box(7, 50, 8, 51))
    205
    """
    return int(shapely.get_num_coordinates(area)) + round(float(shapely.length(area)) / EDGE_STEP_DEGREES)


def _cells_meeting(area: BaseGeometry, layout: Layout, inset: float, check: Callable[[], None]) -> NDArray[np.int64]:
    """(j, i) of the cells that overlap the area when shrunk by `inset` on each side; sorted and unique."""
    pieces = [np.empty((0, 2), np.int64)]
    for part in shapely.get_parts(area):
        if not part.is_empty:
            for cells in _cells_meeting_polygon(part, layout, inset):
                pieces.append(cells)
                check()
    cells = np.concatenate(pieces)
    if not len(cells):
        return cells
    # np.unique of one number per cell is much faster than of pairs.
    first, width = cells.min(axis=0), int(np.ptp(cells[:, 1])) + 1
    numbers = np.unique((cells[:, 0] - first[0]) * width + cells[:, 1] - first[1])
    sorted_cells: NDArray[np.int64] = first + np.column_stack(np.divmod(numbers, width))
    return sorted_cells


def _cells_meeting_polygon(polygon: BaseGeometry, layout: Layout, inset: float) -> Iterator[NDArray[np.int64]]:
    """Yield cells that overlap a polygon, testing blocks of cells first: only blocks on its outline are searched."""
    extent, (ox, oy) = layout.cell_extent, layout.origin
    min_x, min_y, max_x, max_y = polygon.bounds
    first = np.array([math.floor((oy - max_y) / extent), math.floor((min_x - ox) / extent)])
    last = np.array([math.floor((oy - min_y) / extent), math.floor((max_x - ox) / extent)])
    shapely.prepare(polygon)
    inside = np.stack(np.meshgrid(np.arange(BLOCK), np.arange(BLOCK), indexing="ij"), axis=-1).reshape(-1, 2)
    rows, columns = -(-(last - first + 1) // BLOCK)
    for start in range(0, rows * columns, BLOCKS_AT_ONCE):
        numbers = np.arange(start, min(start + BLOCKS_AT_ONCE, rows * columns))
        blocks = first + BLOCK * np.column_stack(np.divmod(numbers, columns))
        boxes = _boxes(blocks, layout, BLOCK)
        within = shapely.contains_properly(polygon, boxes)
        for corner in blocks[within]:  # all cells of such a block overlap
            yield corner + inside
        for corner in blocks[~within & shapely.intersects(polygon, boxes)]:
            cells = corner + inside
            cells = cells[(cells <= last).all(axis=1)]
            small = _boxes(cells, layout, 1, inset)
            # Without an inset, cells that only share an edge or a corner must not count: T requires common interior.
            yield cells[
                shapely.intersects(polygon, small) if inset else shapely.relate_pattern(polygon, small, "T********")
            ]
        yield inside[:0]  # so that the caller's check runs even if nothing overlaps


def _boxes(cells: NDArray[np.int64], layout: Layout, size: int, inset: float = 0.0) -> NDArray[np.object_]:
    """Squares with cells (j, i) at their upper left, `size` cells wide, shrunk by `inset` on each side."""
    extent, (ox, oy) = layout.cell_extent, layout.origin
    left, top = ox + cells[:, 1] * extent, oy - cells[:, 0] * extent
    width = size * extent
    boxes: NDArray[np.object_] = shapely.box(left + inset, top - width + inset, left + width - inset, top - inset)
    return boxes


def footprint(grid: Grid) -> dict[str, Any]:
    """Outline of a grid as a GeoJSON geometry in longitude and latitude (RFC 7946).

    Curved edges are densified to an accuracy of 1e-6 degrees; coordinates are rounded to 1e-7 degrees. An outline that
    crosses the antimeridian is split there into a MultiPolygon; one around a pole includes the pole. LAYOUT_INVALID if
    the CRS is unknown or undefined at the grid.
    """
    outline: dict[str, Any] = json.loads(_footprint_text(grid))
    return outline


@lru_cache(maxsize=1024)
def _footprint_text(grid: Grid) -> str:
    """Outline as JSON text, cached because the images of a series share one or a few grids."""
    ring = _unwrapped(_outline(grid))
    turn = round((ring[-1, 0] - ring[0, 0]) / 360)
    if turn:  # the outline goes around a pole: close it along the pole
        pole = math.copysign(90.0, ring[:, 1].mean())
        ring = np.vstack([ring, [ring[-1, 0], pole], [ring[0, 0], pole], ring[:1]])
    outline = shapely.Polygon(ring)
    outline = outline if outline.is_valid else shapely.make_valid(outline)
    min_x, _, max_x, _ = outline.bounds
    # Longitudes may exceed 180: cut the outline into worlds of 360 degrees, and shift each part back to -180..180.
    # Example: an outline from 170 to 190 becomes the parts 170..180 and -180..-170.
    parts = []
    for world in range(math.floor((min_x + 180) / 360), math.floor((max_x + 180) / 360) + 1):
        part = shapely.clip_by_rect(outline, world * 360 - 180, -90, world * 360 + 180, 90)
        parts.append(shapely.transform(part, lambda xy, shift=world * 360: xy - [shift, 0]))
    polygons = [p for p in shapely.get_parts(shapely.union_all(parts, grid_size=1e-7)) if p.geom_type == "Polygon"]
    if not polygons:
        raise AcdError(ErrorCode.LAYOUT_INVALID, f"{grid.bounds} has no area on the ground ({grid.crs})")
    whole = polygons[0] if len(polygons) == 1 else shapely.MultiPolygon(polygons)
    oriented = shapely.orient_polygons(shapely.normalize(whole), exterior_cw=False)
    return json.dumps(_rounded(shapely.geometry.mapping(oriented)))


def _outline(grid: Grid) -> NDArray[np.float64]:
    """Closed outline in longitude and latitude, densified until its edges are nearly straight."""
    pieces = 8
    # Twice as many points include the previous ones, so the deviation of the odd points measures the remaining error.
    while True:
        edges = _edges(grid, pieces)
        if not (np.abs(edges) < FARTHEST_IN_CRS).all():  # PROJ may never return from such numbers
            raise AcdError(ErrorCode.LAYOUT_INVALID, f"the coordinates {grid.bounds} are too large ({grid.crs})")
        ring = move_points(edges, grid.crs, LON_LAT)
        if not np.isfinite(ring).all() or (np.abs(ring) > FARTHEST).any():
            raise AcdError(ErrorCode.LAYOUT_INVALID, f"{grid.crs} is not defined everywhere within {grid.bounds}")
        if _deviation(_unwrapped(ring)) < FOOTPRINT_TOLERANCE_DEGREES or pieces >= 1024:
            return ring
        pieces *= 2


def _deviation(ring: NDArray[np.float64]) -> float:
    """Largest distance of the ring's odd points from the line between their neighbours."""
    chord, middle = ring[2::2] - ring[:-1:2], ring[1::2] - ring[:-1:2]
    cross = chord[:, 0] * middle[:, 1] - chord[:, 1] * middle[:, 0]
    length = np.hypot(chord[:, 0], chord[:, 1])
    return float(np.max(np.divide(np.abs(cross), length, out=np.zeros_like(length), where=length > 0)))


def _edges(grid: Grid, pieces: int) -> NDArray[np.float64]:
    """Points along the four edges in the grid's CRS, `pieces` per edge, counter-clockwise for a north-up grid."""
    a, b, c, d, e, f = grid.transform
    width, height = grid.width, grid.height
    corners = np.array([(0, 0), (0, height), (width, height), (width, 0), (0, 0)], dtype=np.float64)
    steps = np.arange(4 * pieces + 1) / pieces
    columns = np.interp(steps, np.arange(5), corners[:, 0])
    rows = np.interp(steps, np.arange(5), corners[:, 1])
    return np.column_stack([a * columns + b * rows + c, d * columns + e * rows + f])


def _unwrapped(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ring with longitudes that continue past 180 degrees instead of jumping."""
    return np.column_stack([np.unwrap(ring[:, 0], period=360), ring[:, 1]])


def _rounded(mapping: dict[str, Any]) -> dict[str, Any]:
    def to_lists(node: Any) -> Any:
        return [to_lists(child) for child in node] if isinstance(node, tuple | list) else round(node, 7) + 0.0

    return {"type": mapping["type"], "coordinates": to_lists(mapping["coordinates"])}


def tiles_as_geojson(tiles: Iterable[Tile]) -> dict[str, Any]:
    """FeatureCollection of the tiles' outlines, with layout, cell, i and j as properties."""
    return {
        "type": "FeatureCollection",
        "features": [
            {
                "type": "Feature",
                "id": f"{tile.layout}/{tile.cell}",
                "properties": {"layout": tile.layout, "cell": tile.cell, "i": tile.i, "j": tile.j},
                "geometry": footprint(tile.grid),
            }
            for tile in tiles
        ],
    }
