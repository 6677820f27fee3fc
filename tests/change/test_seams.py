"""However an image is cut, joining its fragments gives what scikit-image gives on the whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from acdtask.change.evidence import Evidence
from acdtask.change.fragments import FRAGMENT, Fragments, find_fragments
from acdtask.change.seams import BLOB, JoinedBlobs, join_fragments
from tests.change import reference as plain
from tests.change.round_trip import blobs_crossed, crossed, table_bytes
from tests.change.scenes import Scene, Tile, comb, evidence_of, scenes, spiral, tilings, window

LOW, HIGH = 1.7, 3.0


def fragments_of(scene: Scene, tile: Tile, shift: tuple[int, int] = (0, 0)) -> Fragments:
    return find_fragments(
        evidence_of(scene, tile),
        low=LOW,
        high=HIGH,
        min_area=scene.min_area,
        origin=(tile[0] + shift[0], tile[1] + shift[1]),
    )


def join(scene: Scene, tiles: list[Tile]) -> tuple[NDArray[np.int32], JoinedBlobs]:
    """The blobs and their image, by way of bytes, as between pods."""
    fragments = [fragments_of(scene, tile) for tile in tiles]
    joined = join_fragments([crossed(part.table) for part in fragments])
    image = np.full(scene.z.shape, -1, np.int32)
    for part, tile, ids in zip(fragments, tiles, joined.blob_ids, strict=True):
        window(image, tile)[...] = ids[part.labels]
    return image, joined


def assert_blobs_equal_plain(image: NDArray[np.int32], joined: JoinedBlobs, scene: Scene, tiles: list[Tile]) -> None:
    expected = plain.blobs_of(scene.z, LOW, HIGH, scene.min_area)
    np.testing.assert_array_equal(image, expected)
    measures = plain.measure(expected, scene.z, scene.mean, scene.image, scene.count)
    rows = [
        (k, m.area, m.z_max, m.z_sum, m.drop_sum, m.count_sum, *m.first, *m.bounds, m.z_max, m.z_sum)
        for k, m in enumerate(measures, 1)
    ]
    np.testing.assert_array_equal(joined.blobs, np.array(rows, BLOB))
    spanned = [sum(bool((window(expected, tile) == row[0]).any()) for tile in tiles) for row in rows]
    assert joined.tiles_spanned.tolist() == spanned


@settings(deadline=None, max_examples=120)
@given(data=st.data(), scene=scenes())
def test_any_tiling_gives_the_blobs_of_the_whole_image(data: st.DataObject, scene: Scene) -> None:
    tiles = data.draw(tilings(*scene.z.shape))
    image, joined = join(scene, tiles)
    assert_blobs_equal_plain(image, joined, scene, tiles)


def scene_of(mask: NDArray[np.bool_], seeds: list[tuple[int, int]], min_area: int = 0) -> Scene:
    z = np.where(mask, np.float32(2), np.float32(0))
    for seed in seeds:
        assert mask[seed]
        z[seed] = 5
    rng = np.random.default_rng(3)
    return Scene(
        z=z,
        mean=rng.uniform(0, 1000, z.shape).astype(np.float32),
        image=rng.integers(0, 1000, z.shape).astype(np.int16),
        count=np.full(z.shape, 60, np.int32),
        min_area=min_area,
    )


def grid(height: int, width: int, size: int) -> list[Tile]:
    return [
        (row, column, min(row + size, height), min(column + size, width))
        for row in range(0, height, size)
        for column in range(0, width, size)
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 16, 40])
def test_a_spiral_through_many_tiles_is_one_blob_with_one_high_pixel_at_its_end(size: int) -> None:
    mask = spiral(37, 31)
    scene = scene_of(mask, [(0, 0)], min_area=int(mask.sum()) - 1)
    tiles = grid(37, 31, size)
    image, joined = join(scene, tiles)
    assert len(joined.blobs) == 1
    assert_blobs_equal_plain(image, joined, scene, tiles)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 20])
def test_arms_that_only_a_third_tile_closes_are_one_blob(size: int) -> None:
    scene = scene_of(comb(20, 17), [(0, 16)], min_area=100)
    tiles = grid(20, 17, size)
    image, joined = join(scene, tiles)
    assert len(joined.blobs) == 1
    assert_blobs_equal_plain(image, joined, scene, tiles)


def test_a_blob_over_the_corner_of_four_tiles_is_one_blob() -> None:
    mask = np.zeros((10, 10), bool)
    mask[4:6, 4:6] = True
    image, joined = join(scene_of(mask, [(4, 4)], min_area=3), tiles := grid(10, 10, 5))
    assert joined.blobs["area"].tolist() == [4]
    assert joined.tiles_spanned.tolist() == [len(tiles)]
    assert (image == mask).all()


@pytest.mark.parametrize("flip", [False, True])
def test_two_pixels_that_meet_in_the_corner_of_four_tiles_join_only_if_both_are_high(flip: bool) -> None:
    mask = np.zeros((4, 4), bool)
    mask[1, 1] = mask[2, 2] = True
    mask = mask[:, ::-1] if flip else mask
    first, second = [(row, column) for row, column in np.argwhere(mask).tolist()]
    tiles = grid(4, 4, 2)
    _, both = join(scene_of(mask, [first, second], min_area=1), tiles)
    assert both.blobs["area"].tolist() == [2]
    _, single = join(scene_of(mask, [first], min_area=0), tiles)
    assert single.blobs["area"].tolist() == [1]


def test_the_end_of_a_row_does_not_touch_the_start_of_the_next() -> None:
    mask = np.zeros((2, 6), bool)
    mask[0, 5] = mask[1, 0] = True
    _, joined = join(scene_of(mask, [(0, 5), (1, 0)]), grid(2, 6, 1))
    assert joined.blobs["area"].tolist() == [1, 1]


def test_what_a_tile_can_decide_does_not_leave_it() -> None:
    mask = np.zeros((12, 12), bool)
    mask[1:3, 1:3] = True  # never high
    mask[4, 4] = mask[5, 5] = True  # high, but too small together
    mask[7:11, 7:11] = True  # high and large enough
    mask[0, 8] = True  # on the border: the neighbour decides
    scene = scene_of(mask, [(4, 4), (5, 5), (8, 8)], min_area=2)
    found = fragments_of(scene, (0, 0, 12, 12))
    assert found.table.fragments["area"].tolist() == [1, 16]
    assert np.unique(found.labels).tolist() == [0, 1, 2]
    assert found.labels[0, 8] == 1
    assert len(found.table.border) == 1
    assert not len(found.table.diagonals)


def test_a_small_group_stays_when_one_of_its_parts_reaches_the_border() -> None:
    mask = np.zeros((6, 6), bool)
    mask[0, 2] = mask[1, 3] = mask[2, 4] = True
    found = fragments_of(scene_of(mask, [(1, 3), (2, 4)], min_area=5), (0, 0, 6, 6))
    assert found.table.fragments["area"].tolist() == [1, 1, 1]
    assert found.table.diagonals.tolist() == [[1, 2], [2, 3]]


@settings(deadline=None, max_examples=60)
@given(data=st.data(), scene=scenes(largest=15))
@example(data=None, scene=scene_of(spiral(9, 9), [(0, 0)]))
def test_places_are_global_and_may_be_negative(data: st.DataObject | None, scene: Scene) -> None:
    height, width = scene.z.shape
    tiles = data.draw(tilings(height, width)) if data else grid(height, width, 4)
    shift = (-(10**9) - 7, 10**9 - 5)
    _, here = join(scene, tiles)
    there = join_fragments([fragments_of(scene, tile, shift).table for tile in tiles])
    moved = here.blobs.copy()
    for name in ("first_row", "min_row", "max_row"):
        moved[name] += shift[0]
    for name in ("first_column", "min_column", "max_column"):
        moved[name] += shift[1]
    np.testing.assert_array_equal(there.blobs, moved)


def test_thresholds_are_compared_as_scikit_image_compares_them() -> None:
    just_above = np.float32(1.7)  # a little more than the double 1.7
    assert float(just_above) > 1.7
    z = np.array([[just_above, np.float32(3.0), 3.5, np.nan, np.inf]], np.float32)
    scene = Scene(z, np.zeros_like(z), np.zeros(z.shape, np.int16), np.ones(z.shape, np.int32), 0)
    image, joined = join(scene, [(0, 0, 1, 5)])
    np.testing.assert_array_equal(image, plain.blobs_of(z, LOW, HIGH, 0))
    assert image.tolist() == [[1, 1, 1, 0, 2]]
    assert joined.blobs["z_max"].tolist() == [3500, 10**9]


@pytest.mark.parametrize(("low", "high"), [(2.0, 3.0), (3.0, 3.0), (4.0, 3.0)])
def test_a_z_that_equals_a_threshold_is_not_above_it_and_low_is_never_above_high(low: float, high: float) -> None:
    z = np.array([[2.0, 2.5, 3.0, 3.5, 2.0, 3.5, 1.0, 4.5]], np.float32)
    zeros = np.zeros(z.shape, np.int16)
    evidence = Evidence.of_scores(z, zeros.astype(np.float32), zeros, zeros)
    found = find_fragments(evidence, low=low, high=high, min_area=0, origin=(0, 0))
    ids = join_fragments([found.table]).blob_ids[0][found.labels]
    np.testing.assert_array_equal(ids, plain.blobs_of(z, low, high, 0))


def test_nothing_joins_to_nothing() -> None:
    assert not len(join_fragments([]).blobs)
    scene = scene_of(np.zeros((5, 5), bool), [])
    image, joined = join(scene, grid(5, 5, 2))
    assert not image.any()
    assert not len(joined.blobs)
    assert [ids.tolist() for ids in joined.blob_ids] == [[0]] * 9


def test_a_table_is_the_same_bytes_each_time_and_comes_back_whole() -> None:
    scene = scene_of(comb(20, 17), [(0, 0)])
    table = fragments_of(scene, (2, 3, 15, 14)).table
    data = table_bytes(table)
    assert data == table_bytes(fragments_of(scene, (2, 3, 15, 14)).table)
    back = crossed(table)
    assert (back.origin, back.shape, back.min_area) == ((2, 3), (13, 11), 0)
    assert back.fragments.dtype == FRAGMENT
    for name in ("fragments", "diagonals", "border"):
        np.testing.assert_array_equal(getattr(back, name), getattr(table, name))
    blobs = join_fragments([table]).blobs
    np.testing.assert_array_equal(blobs_crossed(blobs), blobs)


def test_tiles_that_overlap_or_differ_in_settings_are_refused() -> None:
    scene = scene_of(comb(6, 6), [(0, 0)])
    table = fragments_of(scene, (0, 0, 6, 6)).table
    with pytest.raises(ValueError, match="overlap"):
        join_fragments([table, table])
    with pytest.raises(ValueError, match="min_area"):
        join_fragments([table, replace(table, min_area=5)])
    with pytest.raises(ValueError, match="shape"):
        Evidence.of_scores(scene.z, scene.mean[:2], scene.image[:2], scene.count)
