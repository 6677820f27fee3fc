"""Repairs self-intersecting polygons, within limits that keep the running time reasonable."""

from __future__ import annotations

import time

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from acdtask.errors import AcdError, ErrorCode

__all__ = ["MOST_CROSSINGS", "repaired"]

MOST_CROSSINGS = 200
"""Repair time grows with the cube of the crossings: 200 take a fraction of a second, 40,000 never finish."""

EDGES_AT_ONCE = 64
COUNTING_S = 5.0


def repaired(shape: BaseGeometry) -> BaseGeometry:
    """Repair an invalid shape by the even-odd rule. AREA_TOO_COMPLEX if it crosses itself too often.

    >>> bow_tie = shapely.Polygon([(0, 0), (2, 2), (2, 0), (0, 2), (0, 0)])
    >>> repaired(bow_tie).area
    2.0
    """
    if shapely.is_valid(shape):
        return shape
    _check_crossings(shape)
    return shapely.make_valid(shape)


def _check_crossings(shape: BaseGeometry) -> None:
    rings = shapely.get_rings(shapely.get_parts(shape))
    points, ring = shapely.get_coordinates(rings, return_index=True)
    is_edge = (ring[:-1] == ring[1:]) & (points[:-1] != points[1:]).any(axis=1)
    edges = shapely.linestrings(np.stack([points[:-1][is_edge], points[1:][is_edge]], axis=1))
    tree, crossings, end = shapely.STRtree(edges), 0.0, time.monotonic() + COUNTING_S
    for first in range(0, len(edges), EDGES_AT_ONCE):
        batch = edges[first : first + EDGES_AT_ONCE]
        touching = 3 * len(batch)  # each edge touches itself and its two neighbours
        crossings += max(tree.query(batch, predicate="intersects").shape[1] - touching, 0) / 2
        if crossings > MOST_CROSSINGS or time.monotonic() > end:
            raise AcdError(
                ErrorCode.AREA_TOO_COMPLEX,
                f"the area has {len(edges)} edges and crosses itself more than {MOST_CROSSINGS} times: "
                f"{shapely.is_valid_reason(shape)}",
            )
