"""Points from one CRS to another."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError  # rasterio raises it here, and has no public name for it
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.warp import transform

from acdtask.errors import AcdError, ErrorCode

__all__ = ["crs_of", "move_points"]


@lru_cache(maxsize=256)
def crs_of(text: str) -> CRS:
    """The CRS of an authority code or of WKT. LAYOUT_INVALID."""
    try:
        return CRS.from_user_input(text)
    except CRSError as error:
        raise AcdError(ErrorCode.LAYOUT_INVALID, f"the CRS {text!r} is unknown") from error


def move_points(points: NDArray[np.float64], source: str, target: str) -> NDArray[np.float64]:
    """Points (n, 2) as x, y (longitude first) in another CRS; not finite where that is not defined. LAYOUT_INVALID."""
    if crs_of(source) == crs_of(target) or not len(points):
        return points
    try:
        return np.column_stack(transform(crs_of(source), crs_of(target), points[:, 0], points[:, 1]))
    except CPLE_BaseError:
        if len(points) == 1:
            return np.full((1, 2), np.inf)
        half = len(points) // 2
        return np.concatenate([move_points(part, source, target) for part in (points[:half], points[half:])])
