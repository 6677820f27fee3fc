"""Patches carry the measures of their blob in physical units."""

from __future__ import annotations

import math

import numpy as np
import pytest
from shapely import MultiPolygon, Polygon, box

from acdtask.change.patches import geodesic_area, patch_table
from acdtask.change.seams import BLOB

AUTHALIC_SPHERE = 510_065_621_724_088.4
"""Area of the WGS 84 ellipsoid in square metres."""


def band(south: float, north: float, west: float, east: float) -> float:
    """Area between two meridians and two parallels of the WGS 84 ellipsoid, in square metres (Snyder 1987, 3-12)."""
    e = math.sqrt(0.00669437999014)

    def q(latitude: float) -> float:
        s = math.sin(math.radians(latitude))
        return (1 - e * e) * (s / (1 - (e * s) ** 2) + math.log((1 + e * s) / (1 - e * s)) / (2 * e))

    return 6378137.0**2 / 2 * (q(north) - q(south)) * math.radians(east - west)


def test_area_is_that_of_the_ellipsoid() -> None:
    assert geodesic_area(box(7, 50, 7.01, 50.01)) == pytest.approx(band(50, 50.01, 7, 7.01), rel=1e-6)
    octant = Polygon([(0, 0), (90, 0), (90, 90), (0, 90)])
    assert geodesic_area(octant) == pytest.approx(AUTHALIC_SPHERE / 8, rel=1e-12)


def test_holes_are_left_out_and_parts_are_added_whatever_their_direction() -> None:
    outer, hole = box(7, 50, 7.03, 50.03), box(7.01, 50.01, 7.02, 50.02)
    ring = Polygon(outer.exterior.coords, [hole.exterior.coords])
    reverse = Polygon(outer.exterior.coords[::-1], [hole.exterior.coords])
    expected = geodesic_area(outer) - geodesic_area(hole)
    assert geodesic_area(ring) == pytest.approx(expected, rel=1e-12)
    assert geodesic_area(reverse) == pytest.approx(expected, rel=1e-12)
    assert geodesic_area(MultiPolygon([ring, hole])) == pytest.approx(geodesic_area(outer), rel=1e-12)


def test_an_area_across_the_antimeridian_is_small() -> None:
    across = Polygon([(179.99, 0), (-179.99, 0), (-179.99, 0.02), (179.99, 0.02)])
    assert geodesic_area(across) == pytest.approx(band(0, 0.02, 0, 0.02), rel=1e-6)


def test_a_patch_has_the_measures_of_its_blob() -> None:
    blobs = np.array(
        [
            (1, 4, 5250, 14000, 1_000_000, 238, 10, 20, 10, 19, 11, 21, 5250, 14000),
            (2, 2, 3001, 6001, -3000, 119, 12, -3, 12, -3, 12, -2, 3001, 6001),
        ],
        BLOB,
    )
    first, second = patch_table(
        blobs, {2: box(0, 0, 1, 1), 1: box(7, 50, 8, 51)}, aoi="koln", image="20210107", scale=0.001
    )
    assert (first.id, second.id) == ("koln_20210107_r10_c20", "koln_20210107_r12_c-3")
    assert (first.blob, first.area_px, first.z_max, first.z_mean) == (1, 4, 5.25, 3.5)
    assert first.drop_mean == pytest.approx(0.25)
    assert second.drop_mean == pytest.approx(-0.0015)
    assert first.area_m2 == pytest.approx(geodesic_area(box(7, 50, 8, 51)))
    assert (first.baseline_count, second.baseline_count) == (60, 60), "59.5 is rounded to the even number"


@pytest.mark.parametrize(("total", "area", "rounded"), [(7, 2, 4), (5, 2, 2), (59, 4, 15), (57, 4, 14), (0, 3, 0)])
def test_the_baseline_count_is_rounded_half_to_even(total: int, area: int, rounded: int) -> None:
    blobs = np.array([(1, area, 1, 1, 1, total, 0, 0, 0, 0, 0, 0, 1, 1)], BLOB)
    (patch,) = patch_table(blobs, {1: box(0, 0, 1, 1)}, aoi="a", image="20210107", scale=1)
    assert patch.baseline_count == rounded


def test_a_blob_without_geometry_is_an_error() -> None:
    with pytest.raises(KeyError):
        patch_table(np.zeros(1, BLOB), {}, aoi="a", image="20210107", scale=1)
