"""Outlines are those of the pixels, valid, and the same however the image was cut."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.features import rasterize
from shapely import MultiPolygon, Polygon, box, from_wkb

from acdtask.change.polygons import (
    Outline,
    join_all,
    join_pieces,
    to_crs_coordinates,
    trace,
)
from tests.change import reference as plain
from tests.change.scenes import Scene, Tile, scenes, tilings, window


def outlines(blobs: NDArray[np.int32], tiles: list[Tile]) -> dict[int, Outline]:
    """Traced in tiles and joined, by way of bytes, as between pods."""
    pieces = [trace(window(blobs, tile), tile[:2]) for tile in tiles]
    return join_all(piece for part in pieces for piece in part)


def whole(blobs: NDArray[np.int32]) -> list[Tile]:
    return [(0, 0, blobs.shape[0], blobs.shape[1])]


def polygons_of(outline: Outline) -> list[Polygon]:
    return list(outline.geoms) if isinstance(outline, MultiPolygon) else [outline]


def assert_normal(outline: Outline) -> None:
    assert shapely.is_valid(outline), shapely.is_valid_reason(outline)
    first = []
    for polygon in polygons_of(outline):
        assert not polygon.exterior.is_ccw  # on rows that grow downwards
        assert all(ring.is_ccw for ring in polygon.interiors)
        for ring in (polygon.exterior, *polygon.interiors):
            points = [(y, x) for x, y in ring.coords]
            assert points[0] == min(points)
            assert len(points) == len(set(points)) + 1
            turns = np.diff(np.array([*points, points[1]]), axis=0)
            assert ((turns == 0).sum(axis=1) == 1).all(), "an edge that is not along a row or column"
            assert (turns[:-1] * turns[1:] == 0).all(), "a vertex on a straight line"
        first.append(min((y, x) for x, y in polygon.exterior.coords))
    assert first == sorted(first)


@settings(deadline=None, max_examples=100)
@given(data=st.data(), scene=scenes())
def test_any_tiling_gives_the_same_valid_outlines_of_the_same_pixels(data: st.DataObject, scene: Scene) -> None:
    blobs = plain.blobs_of(scene.z, 1.7, 3.0, scene.min_area).astype(np.int32)
    expected = outlines(blobs, whole(blobs))
    found = outlines(blobs, data.draw(tilings(*scene.z.shape)))
    assert {blob: outline.wkb for blob, outline in found.items()} == {
        blob: outline.wkb for blob, outline in expected.items()
    }
    assert list(expected) == list(range(1, int(blobs.max()) + 1))
    for blob, outline in expected.items():
        assert_normal(outline)
        np.testing.assert_array_equal(rasterize([(outline, 1)], out_shape=blobs.shape), blobs == blob)
        assert outline.area == np.sum(blobs == blob)


def test_a_ring_that_would_touch_itself_becomes_an_exterior_and_a_hole() -> None:
    blobs = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]], np.int32)
    for tiles in (whole(blobs), [(0, 0, 2, 2), (0, 2, 2, 3), (2, 0, 3, 2), (2, 2, 3, 3)]):
        outline = outlines(blobs, tiles)[1]
        assert outline.wkt == "POLYGON ((0 0, 0 3, 2 3, 2 2, 3 2, 3 0, 0 0), (1 1, 2 1, 2 2, 1 2, 1 1))"


def test_parts_that_touch_at_a_corner_only_are_polygons_of_their_own() -> None:
    blobs = np.array([[1, 0], [0, 1]], np.int32)
    assert isinstance(outlines(blobs, whole(blobs))[1], MultiPolygon)
    assert_normal(outlines(blobs, whole(blobs))[1])


def test_holes_that_touch_at_a_corner_are_holes_of_their_own_and_islands_lie_in_them() -> None:
    blobs = np.ones((9, 9), np.int32)
    blobs[1, 1] = blobs[2, 2] = 0
    blobs[4:8, 4:8] = 0
    blobs[5, 5] = 1
    outline = outlines(blobs, [(0, 0, 9, 6), (0, 6, 5, 9), (5, 6, 9, 9)])[1]
    assert_normal(outline)
    assert [len(polygon.interiors) for polygon in polygons_of(outline)] == [3, 0]


def test_outlines_far_from_the_origin_are_exact() -> None:
    blobs = np.ones((3, 4), np.int32)
    blobs[1, 1] = 0
    far = join_pieces([piece.polygon for piece in trace(blobs, (-(10**10), 10**10))])
    near = join_pieces([piece.polygon for piece in trace(blobs, (0, 0))])
    moved = shapely.transform(near, lambda xy: xy + np.array([1e10, -1e10]))
    assert far.wkb == moved.wkb


@pytest.mark.parametrize(
    "transform",
    [
        (20.0, 0.0, 400000.0, 0.0, -20.0, 5600000.0),
        (20.0, 0.0, 400000.0, 0.0, 20.0, 5600000.0),
        (-0.5, 0.0, 3.0, 0.0, 0.5, 1.0),
        (3.0, 4.0, 0.0, 4.0, -3.0, 0.0),
    ],
)
def test_exteriors_are_counter_clockwise_in_the_crs(transform: tuple[float, float, float, float, float, float]) -> None:
    blobs = np.ones((5, 6), np.int32)
    blobs[2, 2] = 0
    pixel_outline = outlines(blobs, whole(blobs))[1]
    outline = to_crs_coordinates(pixel_outline, transform)
    (polygon,) = polygons_of(outline)
    assert polygon.exterior.is_ccw
    assert not polygon.interiors[0].is_ccw
    a, b, c, d, e, f = transform
    assert polygon.exterior.coords[0] == (c, f)
    assert outline.area == pytest.approx(abs(a * e - b * d) * 29)
    assert (a * 2 + b * 2 + c, d * 2 + e * 2 + f) in polygon.interiors[0].coords


def test_pieces_are_by_blob_and_survive_as_wkb() -> None:
    blobs = np.zeros((6, 6), np.int32)
    blobs[0:3, 0:3] = 2
    blobs[1, 1] = 0
    blobs[5, 5] = 1
    pieces = trace(blobs, (-4, 7))
    assert [piece.blob for piece in pieces] == [1, 2]
    back = [from_wkb(piece.polygon.wkb_hex) for piece in pieces]
    assert all(polygon.wkb == outline.polygon.wkb for polygon, outline in zip(back, trace(blobs, (-4, 7)), strict=True))
    assert trace(np.zeros((2, 2), np.int32), (0, 0)) == []


def test_no_pieces_have_no_outline() -> None:
    with pytest.raises(ValueError, match="no pieces"):
        join_pieces([])
    assert join_all([]) == {}
    assert join_pieces([box(0, 0, 1, 1)]).area == 1
