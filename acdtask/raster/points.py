"""Parsing of CRSs, and transformation of points between them."""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError  # rasterio raises it here, and has no public name for it
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.warp import transform

from acdtask.errors import AcdError, ErrorCode

__all__ = ["crs_of", "move_points"]


KNOWN_TEXTS = re.compile(
    r"\s*(?:(?:WGS|NAD|CRS)[0-9]{2}\s*$|[A-Za-z]\w*:[\w.+-]+\s*$|urn:ogc:def:crs:[\w:.,-]+\s*$|\+(?:proj=|init=epsg:)|[A-Za-z]\w*\s*\[|\{)"
)
"""An authority code, URN, PROJ string, WKT or PROJJSON. For other texts GDAL might open files or fetch URLs."""

NAMED_FILE = re.compile(
    r"""(?:grids|file|init)\W++(?!epsg:)[^\s,\]}]*[/\\:]|file\s*\[\s*"[^"]*"\s*,\s*"[^"]*[/\\:]|"value"\s*:\s*\"""",
    re.IGNORECASE,
)
"""A grid-shift or definition file given by path or URL."""


@lru_cache(maxsize=256)
def crs_of(text: str) -> CRS:
    """Parse a CRS from an authority code, a PROJ string, WKT or PROJJSON; opens no file. LAYOUT_INVALID.

    >>> crs_of("epsg:32632").to_epsg()
    32632
    """
    if not KNOWN_TEXTS.match(text) or NAMED_FILE.search(text):
        raise AcdError(ErrorCode.LAYOUT_INVALID, f"the CRS {text!r} is unknown")
    try:
        return CRS.from_user_input(text)
    except CRSError as error:
        raise AcdError(ErrorCode.LAYOUT_INVALID, f"the CRS {text!r} is unknown") from error


def move_points(points: NDArray[np.float64], source: str, target: str) -> NDArray[np.float64]:
    """Transform points, shape (n, 2): x, y (longitude first); not finite where the target CRS is undefined.

    LAYOUT_INVALID if a CRS is unknown.
    """
    if crs_of(source) == crs_of(target) or not len(points):
        return points
    try:
        return np.column_stack(transform(crs_of(source), crs_of(target), points[:, 0], points[:, 1]))
    except CPLE_BaseError:
        # PROJ rejects the whole batch for one bad point: bisect until only bad points are left.
        if len(points) == 1:
            return np.full((1, 2), np.inf)
        half = len(points) // 2
        return np.concatenate([move_points(part, source, target) for part in (points[:half], points[half:])])
