"""The likelihood of a drop, and the neighbours that support it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from acdtask.change.scene import BaselineArrays, Scene
from acdtask.change.steps import likelihood, mean_field
from acdtask.change.steps.likelihood import Likelihood
from acdtask.change.steps.mean_field import ITERATIONS, MeanField


def scene(image: NDArray[np.int16], mean: float, std: float) -> Scene:
    means, stds, counts = (np.full(image.shape, value, np.float32) for value in (mean, std, 60))
    baseline = BaselineArrays(means, stds, counts)
    return Scene.of(baseline, image, ((baseline.mean - image) / baseline.std).astype(np.float32))


def ratio(value: int, mean: float, std: float) -> float:
    return float(Likelihood(36).ratio(scene(np.array([[value]], np.int16), mean, std))[0, 0])


def density(value: float, mean: float, std: float) -> float:
    return float(np.exp(-0.5 * ((value - mean) / std) ** 2) / std)


def test_the_ratio_is_that_of_the_formula() -> None:
    """With the true coherence found by inverting the bias on a fine lattice."""
    looks, independent, expected, std = 36, 20, 0.6, 0.0765625
    fine = np.linspace(0, 1, 200_001)
    true = float(np.interp(expected, np.sqrt(fine**2 + (1 - fine**2) ** 1.5 * np.pi / (4 * looks)), fine))
    for deviation in (0, 2, 4):
        value = expected - deviation * std
        drop = 0.0
        for factor, weight in likelihood.FACTORS:
            lower = factor * true
            mean = np.sqrt(lower**2 + (1 - lower**2) ** 1.5 * np.pi / (4 * looks))
            rest = max(0.0, std**2 - (1 - true**2) ** 2 / (2 * independent))
            drop += weight * density(value, mean, np.sqrt((1 - lower**2) ** 2 / (2 * independent) + factor**2 * rest))
        usual = 0.98 * density(value, expected, std) + 0.02 * density(value, expected, 3 * std)
        assert ratio(round(value * 1000), 600, std * 1000) == pytest.approx(np.log(drop / usual), abs=0.12)


def test_a_deeper_drop_is_likelier_and_neither_end_decides_alone() -> None:
    ratios = [ratio(value, 700, 50) for value in range(900, 0, -25)]
    usual = ratios[8:]
    assert all(deeper >= higher - 0.3 for higher, deeper in pairwise(usual))
    assert min(ratios) >= -likelihood.LIMIT
    assert max(ratios) == likelihood.LIMIT


def test_a_loss_of_all_coherence_is_likely_although_its_estimate_is_not_0() -> None:
    """36 looks show some 0.15 where there is none."""
    assert ratio(150, 450, 80) > 3


def test_no_number_of_the_table_depends_on_the_c_library() -> None:
    """Logarithms and exponentials are exact to 1e-13; every number is further from where rounding changes."""
    exact = likelihood._exact(36.0) * likelihood.TABLE_ROUNDING
    assert np.abs(exact - np.floor(exact) - 0.5).min() > 1e-9


def test_pixels_without_z_have_no_extent_and_change_no_other() -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(600, 60, (30, 30)).astype(np.int16)
    before = scene(image, 600, 60)
    before.z[10:14, 10:14] = np.nan
    other = scene(np.where(np.isnan(before.z), np.int16(5), image), 600, 60)
    other.z[10:14, 10:14] = np.nan
    found, same = (MeanField().apply(Likelihood(36).apply(each, None), None).extent for each in (before, other))
    np.testing.assert_array_equal(np.isnan(found), np.isnan(before.z))
    np.testing.assert_array_equal(found, same)


def test_t_is_close_to_the_hyperbolic_tangent() -> None:
    odds = np.linspace(-20, 20, 801, dtype=np.float32)
    np.testing.assert_allclose(mean_field._leaning(odds), np.tanh(odds / 2), atol=0.025)


def test_the_field_is_that_of_the_formula_and_reaches_as_far_as_its_halo() -> None:
    rng = np.random.default_rng(1)
    own = rng.normal(-2, 2, (31, 33)).astype(np.float32)
    kernel = np.array([[0.7, 1, 0.7], [1, 0, 1], [0.7, 1, 0.7]]) * mean_field.COUPLING
    odds = own.astype(np.float64) - mean_field.RARITY
    start = odds.copy()
    for _ in range(ITERATIONS):
        limited = np.clip(odds, -6, 6)
        leaning = np.pad(limited * (108 + limited**2) / (216 + 18 * limited**2), 1)
        odds = start + sum(
            kernel[row, column] * leaning[row : row + 31, column : column + 33] for row, column in np.ndindex(3, 3)
        )

    def extent(ratios: NDArray[np.float32]) -> NDArray[np.float32]:
        zeros = np.zeros_like(ratios)
        before = Scene.of(BaselineArrays(zeros, zeros, zeros), zeros, zeros)
        return MeanField().apply(Scene(**{**vars(before), "extent": ratios}), None).extent

    np.testing.assert_allclose(extent(own), odds + mean_field.MARGIN, atol=1e-4)
    for distance, differs in ((MeanField().halo, True), (MeanField().halo + 1, False)):
        calm = np.full((31, 33), mean_field.RARITY, np.float32)  # undecided, so that a neighbour counts most
        other = calm.copy()
        other[15, 16 + distance] = 8
        assert (extent(other)[15, 16] != extent(calm)[15, 16]) == differs


def test_a_weak_wide_drop_is_in_the_extent_where_smoothed_z_is_evident() -> None:
    ratios = np.full((20, 20), -3, np.float32)
    z, smoothed = np.ones_like(ratios), np.zeros_like(ratios)
    smoothed[5:15, 5:15] = 2.1
    baseline = BaselineArrays(z, z, z)
    before = Scene(**{**vars(Scene.of(baseline, z, z)), "extent": ratios, "seed": smoothed})
    np.testing.assert_array_equal(MeanField().apply(before, None).extent > 0, smoothed > 0)
    plain = Scene(**{**vars(before), "seed": before.z})
    assert (MeanField().apply(plain, None).extent < 0).all()
