"""Scores relative to what the whole image has in common."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from acdtask.change.steps.centring import BINS, MIN_PIXELS, STEP, ScoreHistogram, bins_of_mean, common_score


def scene(seed: int, height: int = 60, width: int = 70) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    z = random.normal(0.3, 1, (height, width)).astype(np.float32)
    z[random.random((height, width)) < 0.1] = np.nan
    return z, random.uniform(0, 1000, (height, width)).astype(np.float32)


@given(seed=st.integers(0, 2**31), cut_row=st.integers(1, 59), cut_column=st.integers(1, 69))
@settings(deadline=None, max_examples=40)
def test_the_sum_over_any_tiles_is_the_histogram_of_the_whole(seed: int, cut_row: int, cut_column: int) -> None:
    z, mean = scene(seed)
    bins = bins_of_mean(mean, 0, 1000, BINS)
    total = ScoreHistogram.empty()
    for rows in (slice(cut_row, None), slice(0, cut_row)):
        for columns in (slice(0, cut_column), slice(cut_column, None)):
            total += ScoreHistogram.of(z[rows, columns], bins[rows, columns])
    np.testing.assert_array_equal(total.counts, ScoreHistogram.of(z, bins).counts)


def test_medians_are_those_of_numpy_to_a_step() -> None:
    z, mean = scene(1, 300, 300)
    bins = bins_of_mean(mean, 0, 1000, BINS)
    medians = ScoreHistogram.of(z, bins).medians()
    expected = [np.nanmedian(z[bins == k]) for k in range(BINS)]
    np.testing.assert_allclose(medians, expected, atol=STEP)


def test_a_common_drop_of_a_bin_is_taken_away_and_a_rare_bin_is_left_alone() -> None:
    z, mean = scene(2, 200, 200)
    mean[:] = 350
    mean[:10, :10] = 950
    z[mean == 350] += 5
    z[mean == 950] = 7
    bins = bins_of_mean(mean, 0, 1000, BINS)
    assert np.count_nonzero(mean == 950) < MIN_PIXELS
    result = z - common_score(bins, ScoreHistogram.of(z, bins).medians())
    assert abs(np.nanmedian(result[mean == 350])) <= STEP
    assert (result[mean == 950] == 7).all()
    np.testing.assert_array_equal(np.isnan(result), np.isnan(z))


def test_extreme_scores_and_nan_means_do_no_harm() -> None:
    z = np.array([[np.inf, -np.inf, 1e30, np.nan]], np.float32)
    bins = bins_of_mean(np.array([[np.nan, 0, 1000, 5000]], np.float32), 0, 1000, BINS)
    assert bins.max() < BINS
    assert ScoreHistogram.of(z, bins).counts.sum() == 3
