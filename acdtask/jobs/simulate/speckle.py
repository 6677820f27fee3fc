"""From true coherence to the estimate that a processor would make of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from acdtask.jobs.simulate.fields import Floats

__all__ = ["NODATA", "sample_coherence", "speckle_sums", "to_stored"]

NODATA = -1
STRIP_ROWS = 32
"""Rows of pixels that are drawn at once. It decides the order of the draws, so it is part of what a seed means."""


def speckle_sums(rng: np.random.Generator, rows: int, columns: int, samples: int) -> tuple[Floats, ...]:
    """Sums over the samples of a pixel, each of shape (rows, columns): |s1|^2, |n|^2, Re and Im of s1 conj(n)."""
    power1, power_n, real, imag = (np.zeros((rows, columns), np.float32) for _ in range(4))
    for _ in range(samples):
        s_re, s_im, n_re, n_im = rng.standard_normal((4, rows, columns), dtype=np.float32)
        power1 += s_re * s_re + s_im * s_im
        power_n += n_re * n_re + n_im * n_im
        real += s_re * n_re + s_im * n_im
        imag += s_im * n_re - s_re * n_im
    return power1, power_n, real, imag


def _window_sum(values: Floats, window: int) -> Floats:
    """Sums over window x window px, only where the window is complete: each side is window - 1 shorter."""
    height, width = (side - window + 1 for side in values.shape)
    rows = values[:height].copy()
    for step in range(1, window):
        rows += values[step : step + height]
    total = rows[:, :width].copy()
    for step in range(1, window):
        total += rows[:, step : step + width]
    return total


def sample_coherence(true: Floats, rng: np.random.Generator, samples: int = 2, window: int = 3) -> Floats:
    r"""The sample coherence of a pair of speckle images with a given true coherence.

    Each pixel holds samples x samples independent pairs of circular complex normal variables of unit power
    (Goodman 1976; Bamler and Hartl 1998), with the true coherence g of the pixel:

        s2 = g s1 + sqrt(1 - g^2) n

    and the estimate is (Touzi et al. 1999)

        |sum s1 conj(s2)| / sqrt(sum |s1|^2  sum |s2|^2)

    over a window of window x window px, so over L = (samples window)^2 looks. It is biased: with no coherence at all
    its mean is Gamma(L) Gamma(3/2) / Gamma(L + 1/2), about sqrt(pi / (4 L)). Estimates whose windows overlap are
    correlated: those of pixels less than `window` apart.

    Within a pixel g is constant, so the sums over it are found from those of s1 and n alone:
    sum s1 conj(s2) = g A + q C and sum |s2|^2 = g^2 A + q^2 B + 2 g q Re C, where q = sqrt(1 - g^2),
    A = sum |s1|^2, B = sum |n|^2, C = sum s1 conj(n).

    Args:
        true: true coherence, 0..1, shape (height, width). Beyond its edge the ground goes on as at the edge.
        rng: where the speckle comes from.
        samples: speckle samples along each side of a pixel.
        window: side of the window in px, odd.

    Returns:
        Estimates, 0..1, float32, shape (height, width).

    >>> dark = sample_coherence(np.zeros((100, 100), np.float32), np.random.default_rng(1))
    >>> round(float(dark.mean()), 2)
    0.15
    """
    half = window // 2
    g = np.pad(true.astype(np.float32, copy=False), half, mode="edge")
    height, width = g.shape
    cross_re, cross_im, power1, power2 = (np.empty((height, width), np.float32) for _ in range(4))
    for top in range(0, height, STRIP_ROWS):
        strip = slice(top, min(top + STRIP_ROWS, height))
        gs = g[strip]
        q = np.sqrt(1 - gs * gs)
        a, b, c_re, c_im = speckle_sums(rng, gs.shape[0], width, samples**2)
        power1[strip] = a
        power2[strip] = gs * gs * a + q * q * b + 2 * gs * q * c_re
        cross_re[strip] = gs * a + q * c_re
        cross_im[strip] = q * c_im
    cross_re, cross_im, power1, power2 = (_window_sum(each, window) for each in (cross_re, cross_im, power1, power2))
    power = power1 * power2
    estimate = np.sqrt((cross_re * cross_re + cross_im * cross_im) / power)
    return np.asarray(np.minimum(estimate, np.float32(1.0)), np.float32)


def to_stored(estimate: Floats, valid: NDArray[np.bool_]) -> NDArray[np.int16]:
    """The estimate as it is stored: 0..1000, rounded half to even, NODATA where not valid.

    >>> to_stored(np.float32([[0.25, 1.0]]), np.array([[True, False]]))
    array([[250,  -1]], dtype=int16)
    """
    return np.where(valid, np.rint(1000 * estimate), NODATA).astype(np.int16)
