"""Patches: blobs with an id, an area on the ground and measures in physical units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import shapely
from geographiclib.geodesic import Geodesic
from numpy.typing import NDArray
from shapely import LinearRing

from acdtask.change.fragments import FIXED
from acdtask.change.polygons import Outline

__all__ = ["Patch", "geodesic_area", "patch_id", "patch_table"]


@dataclass(frozen=True)
class Patch:
    """An abnormal blob on one date.

    Attributes:
        id: `<aoi>_<image>_r<row>_c<column>`, with row and column of the first pixel in raster order.
        blob: the blob's id on that date.
        area_px: area in pixels.
        area_m2: area in square metres on the WGS 84 ellipsoid, without holes.
        z_max: highest z, in standard deviations.
        z_mean: mean z.
        drop_mean: mean of (baseline mean - image), in the variable's physical unit.
        baseline_count: mean number of baseline images, rounded half to even.
    """

    id: str
    blob: int
    area_px: int
    area_m2: float
    z_max: float
    z_mean: float
    drop_mean: float
    baseline_count: int


def patch_table(
    blobs: NDArray[np.void], geometries: Mapping[int, Outline], *, aoi: str, image: str, scale: float
) -> list[Patch]:
    """The patches of an image, one per blob.

    Args:
        blobs: BLOB rows (`acdtask.change.seams`).
        geometries: outlines in longitude and latitude (WGS 84, degrees), by blob id.
        aoi: name of the area of interest.
        image: label of the image, such as its date.
        scale: physical = stored * scale.

    Raises:
        KeyError: a blob has no geometry.

    >>> from shapely import box
    >>> from acdtask.change.seams import BLOB
    >>> blobs = np.array([(1, 4, 4200, 14000, 1234000, 238, -7, 12, -7, 12, -6, 13, 4200, 14000)], BLOB)
    >>> (patch,) = patch_table(blobs, {1: box(7, 50, 7.001, 50.001)}, aoi="koln", image="20210107", scale=0.001)
    >>> patch.id, round(patch.area_m2), patch.z_max, patch.z_mean, patch.drop_mean, patch.baseline_count
    ('koln_20210107_r-7_c12', 7975, 4.2, 3.5, 0.3085, 60)
    """
    return [
        Patch(
            id=patch_id(aoi, image, int(blob["first_row"]), int(blob["first_column"])),
            blob=int(blob["id"]),
            area_px=int(blob["area"]),
            area_m2=geodesic_area(geometries[int(blob["id"])]),
            z_max=int(blob["z_max"]) / FIXED,
            z_mean=int(blob["z_sum"]) / (int(blob["area"]) * FIXED),
            drop_mean=int(blob["drop_sum"]) / (int(blob["area"]) * FIXED) * scale,
            baseline_count=_rounded_quotient(int(blob["count_sum"]), int(blob["area"])),
        )
        for blob in blobs
    ]


def patch_id(aoi: str, image: str, row: int, column: int) -> str:
    """The id of the patch whose first pixel is at this global row and column."""
    return f"{aoi}_{image}_r{row}_c{column}"


def geodesic_area(geometry: Outline) -> float:
    """Area in square metres of an outline in longitude and latitude, with WGS 84 geodesics as edges.

    C. F. F. Karney, Algorithms for geodesics, J. Geodesy 87, 43-55 (2013), section 6.
    """
    return sum(
        _ring_area(polygon.exterior) - sum(_ring_area(hole) for hole in polygon.interiors)
        for polygon in shapely.get_parts(geometry)
    )


def _ring_area(ring: LinearRing) -> float:
    polygon = Geodesic.WGS84.Polygon()
    for longitude, latitude in shapely.get_coordinates(ring)[:-1].tolist():
        polygon.AddPoint(latitude, longitude)
    _, _, area = polygon.Compute()
    return abs(float(area))


def _rounded_quotient(dividend: int, divisor: int) -> int:
    """Quotient rounded half to even, in integer arithmetic."""
    quotient, rest = divmod(dividend, divisor)
    return quotient + int(2 * rest > divisor or (2 * rest == divisor and quotient % 2 == 1))
