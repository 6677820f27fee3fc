"""Outlines of blobs on the pixel grid, traced tile by tile and joined exactly, whatever the tiling."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple, TypeAlias

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import shapes
from shapely import MultiPolygon, Polygon

from acdtask.raster.grid import Transform

__all__ = [
    "Outline",
    "Piece",
    "join_all",
    "join_pieces",
    "to_crs_coordinates",
    "trace",
]

Outline: TypeAlias = Polygon | MultiPolygon


class Piece(NamedTuple):
    """Outline of a 4-connected part of a blob in one tile, in global pixel coordinates (x = column, y = row)."""

    blob: int
    polygon: Polygon


def trace(blob_ids: NDArray[np.int32], origin: tuple[int, int]) -> list[Piece]:
    """Trace the blobs of a tile along pixel edges.

    Args:
        blob_ids: shape (height, width), int32, the blob of each pixel; 0 is background.
        origin: global (row, column) of the tile's first pixel.

    Returns:
        One piece per 4-connected part, sorted by blob. Pixel (row, column) covers x from column to column + 1 and y
        from row to row + 1.
    """
    shift = np.array([origin[1], origin[0]], np.float64)
    pieces = []
    for geometry, blob in shapes(blob_ids, mask=blob_ids != 0, connectivity=4):
        exterior, *holes = (np.asarray(ring, np.float64) + shift for ring in geometry["coordinates"])
        pieces.append(Piece(int(blob), Polygon(exterior, holes)))
    return sorted(pieces, key=lambda piece: piece.blob)


def join_pieces(polygons: Sequence[Polygon]) -> Outline:
    """Join the pieces of one blob.

    The result depends only on the set of pixels. No vertex lies on a straight line; a ring starts at its first vertex
    in raster order; polygons and holes are in raster order of their first vertices. Parts that touch only at a corner
    are separate polygons, and a ring that would touch itself becomes an exterior and a hole. Drawn with rows growing
    downwards, exteriors are counter-clockwise, as RFC 7946 requires; `to_crs_coordinates` preserves that.

    Args:
        polygons: pieces of one blob from `trace`, from any tiles.

    >>> from shapely import box
    >>> join_pieces([box(0, 0, 2, 1), box(2, 0, 3, 1), box(3, 1, 4, 2)]).wkt
    'MULTIPOLYGON (((0 0, 0 1, 3 1, 3 0, 0 0)), ((3 1, 3 2, 4 2, 4 1, 3 1)))'
    """
    if not polygons:
        raise ValueError("no pieces to join")
    # All edges run along rows or columns at whole numbers, so the union computes no new coordinates.
    union = polygons[0] if len(polygons) == 1 else shapely.union_all(polygons)
    parts = sorted((_normal(part) for part in shapely.get_parts(union)), key=_first_vertex_of_polygon)
    return parts[0] if len(parts) == 1 else MultiPolygon(parts)


def join_all(pieces: Iterable[Piece]) -> dict[int, Outline]:
    """Join the pieces of all tiles, in any order, into one outline per blob, by blob id."""
    by_blob = groupby(sorted(pieces, key=lambda piece: piece.blob), key=lambda piece: piece.blob)
    return {blob: join_pieces([piece.polygon for piece in group]) for blob, group in by_blob}


def to_crs_coordinates(geometry: Outline, transform: Transform) -> Outline:
    """Transform an outline from pixel to CRS coordinates. Exteriors are counter-clockwise there.

    Args:
        geometry: in global pixel coordinates, from `join_pieces`.
        transform: pixel-to-CRS transform of the origin of the global coordinates, ordered as in
            `acdtask.raster.grid`.

    >>> from shapely import box
    >>> to_crs_coordinates(join_pieces([box(0, 0, 2, 1)]), (20, 0, 400000, 0, -20, 5600000)).wkt
    'POLYGON ((400000 5600000, 400000 5599980, 400040 5599980, 400040 5600000, 400000 5600000))'
    """
    a, b, c, d, e, f = transform

    def to_crs(pixel: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = pixel[:, 0], pixel[:, 1]
        return np.stack([a * x + b * y + c, d * x + e * y + f], axis=1)

    keeps_direction = a * e - b * d < 0
    moved: Outline = shapely.transform(geometry if keeps_direction else shapely.reverse(geometry), to_crs)
    return moved


def _first_vertex_of_polygon(polygon: Polygon) -> tuple[float, float]:
    x, y = polygon.exterior.coords[0]
    return y, x


def _normal(polygon: Polygon) -> Polygon:
    exterior = _normal_ring(shapely.get_coordinates(polygon.exterior), positive=False)
    holes = [_normal_ring(shapely.get_coordinates(ring), positive=True) for ring in polygon.interiors]
    return Polygon(exterior, sorted(holes, key=lambda ring: (ring[0, 1], ring[0, 0])))


def _normal_ring(closed: NDArray[np.float64], *, positive: bool) -> NDArray[np.float64]:
    """Normalise a ring: no collinear vertices, first vertex in raster order first, area of the given sign."""
    ring = closed[:-1]
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    ring = ring[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]
    following = np.roll(ring, -1, axis=0)
    origin = ring[0]  # relative to a vertex, so that large coordinates lose no precision
    near, far = ring - origin, following - origin
    area = (near[:, 0] * far[:, 1] - near[:, 1] * far[:, 0]).sum()
    if (area > 0) != positive:
        ring = ring[::-1]
    ring = np.roll(ring, -int(np.lexsort((ring[:, 0], ring[:, 1]))[0]), axis=0)
    return np.concatenate([ring, ring[:1]])
