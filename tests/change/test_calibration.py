"""z in standard deviations of the image's own scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import norm, t

from acdtask.change.levels import BINS, BLOCK, LevelCounts, ZLevels, cells_of
from acdtask.change.scene import BaselineArrays, Scene
from acdtask.change.steps import calibration
from acdtask.change.steps.calibration import Calibration, normal_scores
from acdtask.change.steps.centring import bins_of_mean

STEP = Calibration()


def scene(z: NDArray[np.float32], mean: NDArray[np.float32], origin: tuple[int, int] = (0, 0)) -> Scene:
    baseline = BaselineArrays(mean, np.full_like(mean, 30), np.full(mean.shape, 60))
    return Scene.of(baseline, np.zeros(mean.shape, np.int16), z, origin)


def calibrated(z: NDArray[np.float32], mean: NDArray[np.float32], origin: tuple[int, int] = (0, 0)) -> Scene:
    before = scene(z, mean, origin)
    return STEP.apply(before, STEP.conclude(STEP.measure(before)))


def noise(seed: int, height: int, width: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 1, (height, width)).astype(np.float32)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**31), row=st.integers(-500, 500), column=st.integers(-500, 500))
def test_counts_of_tiles_add_up_in_any_order(seed: int, row: int, column: int) -> None:
    z, rng = noise(seed, 120, 90), np.random.default_rng(seed)
    z[rng.random(z.shape) < 0.1] = np.nan
    bins = bins_of_mean(rng.uniform(0, 1000, z.shape).astype(np.float32), 0, 1000, BINS).astype(np.uint8)
    cuts = [slice(0, 31), slice(31, 60), slice(60, None)]
    parts = []
    for rows in cuts:
        for columns in cuts:
            origin = (row + rows.start, column + columns.start)
            tile = bins[rows, columns]
            parts.append(LevelCounts.of(z[rows, columns], cells_of(tile, origin), origin))
    whole = LevelCounts.of(z, cells_of(bins, (row, column)), (row, column))
    assert whole.rows[1].sum() == np.count_nonzero(~np.isnan(z))
    order = rng.permutation(len(parts))
    joined = LevelCounts.total([LevelCounts.total([parts[k] for k in order[:4]]), *(parts[k] for k in order[4:])])
    np.testing.assert_array_equal(joined.rows, whole.rows)


def test_quantiles_are_those_of_numpy() -> None:
    z = noise(1, 200, 200) * np.float32(0.7)
    levels = ZLevels.of(LevelCounts.of(z, cells_of(np.zeros(z.shape, np.uint8), (0, 0)), (0, 0)))
    everything = np.zeros(len(levels.count), np.int64)
    found = levels.quantiles(everything, 1, [(16, 100), (1, 2), (84, 100)])[:, 0] / 100
    np.testing.assert_allclose(found, np.quantile(z, [0.16, 0.5, 0.84]), atol=0.02)


def test_what_bins_and_places_have_in_common_is_taken_away_and_the_rest_has_unit_spread() -> None:
    z = noise(2, 300, 400)
    mean = np.full(z.shape, 350, np.float32)
    mean[:, 150:] = 800
    slope = np.linspace(-1, 1, 400, dtype=np.float32)
    common = np.where(mean > 500, np.float32(2), np.float32(0.5)) + slope
    spread = np.where(mean > 500, np.float32(0.6), np.float32(1.5))
    after = calibrated(z * spread + common, mean)
    for part in (mean > 500, mean < 500):
        assert abs(np.median(after.z[part])) < 0.15
        assert np.percentile(after.z[part], 84) == pytest.approx(1, abs=0.12)
    np.testing.assert_allclose(after.spread, 30 * spread, rtol=0.12)
    left, right = slice(240, 260), slice(310, 330)
    assert (slope[right].mean() - slope[left].mean()) / 0.6 > 0.5
    assert abs(after.z[:, right].mean() - after.z[:, left].mean()) < 0.15


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_a_large_change_neither_hides_itself_nor_the_small_ones(share: float) -> None:
    z = noise(3, 100, 100)
    changed = np.zeros(z.shape, np.bool_)
    changed[: round(100 * share)] = True
    z[changed] += 8
    z[80:84, 80:84] = 6
    after = calibrated(z, np.full(z.shape, 600, np.float32)).z
    assert np.median(after[changed]) > 3
    assert after[80:84, 80:84].min() > 2.4


def test_a_small_area_is_centred_too_and_a_handful_of_pixels_is_not() -> None:
    rng = np.random.default_rng(4)
    mean = rng.uniform(300, 900, (22, 22)).astype(np.float32)
    assert abs(np.median(calibrated(noise(4, 22, 22) + 3, mean).z)) < 0.15
    few = calibrated(noise(4, 10, 10) + 3, mean[:10, :10])
    assert np.median(few.deviation) > 2.5


def test_without_spread_nothing_is_blown_up() -> None:
    z = np.full((40, 40), 0.01, np.float32)
    z[5, 5] = 1
    after = calibrated(z, np.full(z.shape, 600, np.float32)).z
    assert np.abs(after).max() < 2.1


def test_offsets_are_those_of_blocks_and_between_their_centres_linear() -> None:
    z = np.full((4 * BLOCK, 4 * BLOCK), 0.2, np.float32)
    z[:, 2 * BLOCK :] += 1
    z += noise(6, *z.shape) * np.float32(0.3)
    background = STEP.conclude(STEP.measure(scene(z, np.full(z.shape, 600, np.float32))))
    blocks = background[:, BINS:]
    assert sorted(map(tuple, blocks[:2].T.tolist())) == [(row, column) for row in range(4) for column in range(4)]
    calm = calibration._Background.unpacked(background)
    bins = np.zeros((2, 4 * BLOCK), np.uint8)
    line = calm.common(bins + np.uint8(12), (BLOCK, 0))[0]
    left, right = line[BLOCK + BLOCK // 2], line[2 * BLOCK + BLOCK // 2]
    assert right - left == pytest.approx(1, abs=0.05)
    assert line[2 * BLOCK] == pytest.approx((left + right) / 2, abs=0.01)
    np.testing.assert_array_equal(line[: BLOCK // 2], line[0])


def test_a_shard_gets_the_blocks_around_its_tiles() -> None:
    blocks = np.array([[row, column, 10] for row in range(-3, 9) for column in range(-3, 9)]).T
    whole = np.concatenate([np.ones((3, BINS), np.int64), blocks], axis=1)
    part = STEP.part(whole, [(0, -BLOCK, BLOCK, 0)])
    assert part.shape[1] < whole.shape[1]
    bins, origin = np.zeros((BLOCK, BLOCK), np.uint8), (0, -BLOCK)
    every, some = (calibration._Background.unpacked(packed).common(bins, origin) for packed in (whole, part))
    np.testing.assert_array_equal(every, some)


def test_normal_scores_are_those_of_students_t() -> None:
    deviation = np.array([-3, -1, 0, 0.5, 1, 2, 4, 8], np.float32)
    for freedom in (2, 8.5, 12):
        scale = t.ppf(norm.cdf(1), freedom)
        expected = -norm.ppf(t.sf(deviation * scale, freedom))
        found = normal_scores(deviation, np.full(deviation.shape, round(2 * freedom), np.uint8))
        np.testing.assert_allclose(found, expected, atol=2e-4)


def test_no_number_of_the_table_depends_on_the_c_library() -> None:
    """The functions behind it are exact to 1e-13; every number is further than that from where rounding changes."""
    rounding = calibration.TABLE_ROUNDING
    for halves in range(2, 2 * calibration.MOST_FREEDOM + 1):
        exact = calibration._exact_scores(halves / 2) * rounding
        distance = np.abs(exact - np.floor(exact) - 0.5)
        assert distance.min() > 1e-7
    table = calibration._table()
    assert (np.diff(table[1:], axis=1) >= 0).all()
