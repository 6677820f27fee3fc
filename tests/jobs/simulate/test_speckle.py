from __future__ import annotations

from math import exp, lgamma, log, pi, sqrt

import numpy as np
import pytest
from scipy.special import ellipe, ellipk

from acdtask.jobs.simulate.fields import Floats
from acdtask.jobs.simulate.speckle import ACQUISITIONS, NODATA, STRIP_ROWS, sample_coherence, speckle_sums, to_stored


def touzi_moment(true: float, looks: int, order: int) -> float:
    """Moment of the sample coherence: Touzi et al. 1999, a 3F2 series summed term by term in logarithms."""
    half = order / 2
    scale = lgamma(looks) + lgamma(1 + half) - lgamma(looks + half)
    if true == 0:
        return exp(scale)

    def term(n: int) -> float:
        rising = lgamma(1 + half + n) - lgamma(1 + half) + 2 * (lgamma(looks + n) - lgamma(looks))
        falling = lgamma(looks + half + n) - lgamma(looks + half) + 2 * lgamma(n + 1)
        return exp(scale + rising - falling + 2 * n * log(true) + looks * log(1 - true**2))

    return sum(term(n) for n in range(4000))


def flat(true: float, size: int = 240) -> Floats:
    return np.full((size, size), true, np.float32)


def generators(*seed: int) -> list[np.random.Generator]:
    return [np.random.default_rng([*seed, k]) for k in range(ACQUISITIONS)]


def estimate(true: float, samples: int = 2, window: int = 3) -> Floats:
    return sample_coherence(flat(true), flat(0.5), generators(3, samples, window), samples, window)


def correlation(values: Floats, lag: int) -> float:
    return float(np.corrcoef(values[:, :-lag].ravel(), values[:, lag:].ravel())[0, 1])


def test_the_series_of_the_theory_has_the_known_limits() -> None:
    assert touzi_moment(0.0, 36, 1) == pytest.approx(sqrt(pi / (4 * 36)), rel=0.01)
    assert touzi_moment(0.9, 36, 2) == pytest.approx(0.81, abs=0.01)
    assert touzi_moment(0.4, 7, 2) > touzi_moment(0.4, 7, 1) ** 2


@pytest.mark.parametrize(("samples", "window"), [(2, 3), (2, 1), (1, 3), (3, 5)])
@pytest.mark.parametrize("true", [0.0, 0.3, 0.6, 0.9])
def test_mean_and_variance_of_the_estimate_are_those_of_theory(true: float, samples: int, window: int) -> None:
    looks = (samples * window) ** 2
    got = estimate(true, samples, window).astype(np.float64)
    mean, square = touzi_moment(true, looks, 1), touzi_moment(true, looks, 2)
    error = 5 * sqrt(square - mean**2) * window / got.shape[0]  # five standard errors of independent windows
    assert got.mean() == pytest.approx(mean, abs=error)
    assert got.var() == pytest.approx(square - mean**2, rel=0.1)


def test_the_mean_estimate_grows_with_the_true_coherence() -> None:
    means = [float(estimate(true).mean()) for true in np.linspace(0, 0.95, 12)]
    assert means == sorted(means)
    assert means[0] > 0.14  # never near zero: the estimator is biased
    assert means[-1] == pytest.approx(0.95, abs=0.01)


def test_speckle_is_circular_and_its_intensity_exponential() -> None:
    power1, power_n, real, imag = speckle_sums(generators(5), (flat(0.6, 300), flat(0.8, 300)), 1)
    for power in (power1, power_n):
        assert float(power.mean()) == pytest.approx(2.0, rel=0.02)
        assert float(power.std() / power.mean()) == pytest.approx(1.0, rel=0.03)
    assert abs(np.corrcoef(power1.ravel(), power_n.ravel())[0, 1]) < 0.02
    assert float(real.var()) == pytest.approx(float(imag.var()), rel=0.05)
    assert abs(np.corrcoef(real.ravel(), imag.ravel())[0, 1]) < 0.02
    assert abs(float(real.mean())) < 0.03
    assert abs(float(imag.mean())) < 0.03


def test_the_short_cut_equals_the_definition_written_out() -> None:
    size, samples, window = 12, 2, 3
    true, usual = np.random.default_rng(1).uniform(0, 0.95, (2, size, size)).astype(np.float32)
    got = sample_coherence(true, usual, generators(2), samples, window)
    g, m = (np.pad(values, 1, mode="edge")[..., None].astype(np.float64) for values in (true, usual))
    assert g.shape[0] <= STRIP_ROWS
    speckle = []
    for rng in generators(2):
        draws = [rng.standard_normal((2, *g.shape[:2]), dtype=np.float32) for _ in range(samples**2)]
        speckle.append(np.stack([d[0] + 1j * d[1] for d in draws], axis=-1))
    s1 = speckle[0]
    for white in speckle[1:-1]:
        s1 = m * s1 + np.sqrt(1 - m**2) * white
    s2 = g * s1 + np.sqrt(1 - g**2) * speckle[-1]
    for row in range(size):
        for column in range(size):
            a, b = (s[row : row + window, column : column + window].ravel() for s in (s1, s2))
            expected = abs(np.vdot(b, a)) / sqrt(np.vdot(a, a).real * np.vdot(b, b).real)
            assert got[row, column] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("true", [0.5, 0.65, 0.8])
def test_estimates_of_consecutive_pairs_are_correlated_and_of_others_hardly(true: float) -> None:
    whites = [np.random.default_rng([9, k]) for k in range(6)]
    states = [rng.bit_generator.state for rng in whites]
    estimates = []
    for pair in range(3):
        for rng, state in zip(whites, states, strict=True):
            rng.bit_generator.state = state
        estimates.append(sample_coherence(flat(true), flat(true), whites[pair : pair + ACQUISITIONS], 3, 1).ravel())
    following = [np.corrcoef(estimates[k], estimates[k + 1])[0, 1] for k in range(2)]
    assert 0.02 < min(following) <= max(following) < 0.3
    assert abs(np.corrcoef(estimates[0], estimates[2])[0, 1]) < 0.09


def rayleigh_correlation(shared: float) -> float:
    """Correlation of the moduli of two complex normal variables whose own correlation is `shared`."""
    k, e = ellipk(shared**2), ellipe(shared**2)
    return float((2 * e - (1 - shared**2) * k - pi / 2) / (2 - pi / 2))


@pytest.mark.parametrize(
    ("true", "expected"),
    [(0.0, [rayleigh_correlation(2 / 3), rayleigh_correlation(1 / 3)]), (0.7, [2 / 3, 1 / 3])],
)
def test_neighbours_are_correlated_as_far_as_their_windows_overlap(true: float, expected: list[float]) -> None:
    for values in (estimate(true), estimate(true).T):
        assert [correlation(values, 1), correlation(values, 2)] == pytest.approx(expected, abs=0.06)
        for lag in (3, 4, 9):
            assert abs(correlation(values, lag)) < 0.06


def test_a_window_of_one_pixel_leaves_neighbours_independent() -> None:
    assert abs(correlation(estimate(0.4, 4, 1), 1)) < 0.02


def test_estimates_lie_between_0_and_1_even_for_perfect_coherence() -> None:
    for true in (0.0, 1.0):
        got = estimate(true)
        assert got.dtype == np.float32
        assert got.min() >= 0
        assert got.max() <= 1
    assert float(estimate(1.0).min()) > 0.999


def test_storing_rounds_half_to_even_and_marks_nodata() -> None:
    values = np.array([[0.0, 0.0625, 0.1875, 1.0]], np.float32)  # 62.5 and 187.5 are exact in binary
    assert to_stored(values, np.array([[True, True, True, False]])).tolist() == [[0, 62, 188, NODATA]]
    assert to_stored(values, np.ones((1, 4), bool)).max() == 1000
