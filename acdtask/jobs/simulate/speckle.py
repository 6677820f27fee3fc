"""Speckle: from true coherence to the estimate that a processor would make."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from acdtask.jobs.simulate.fields import Floats

__all__ = ["ACQUISITIONS", "NODATA", "SpeckleGenerators", "sample_coherence", "speckle_sums", "to_stored"]

SpeckleGenerators: TypeAlias = Sequence[np.random.Generator]
"""Generators of the white speckle of ACQUISITIONS acquisitions; the last two are those of the pair."""

ACQUISITIONS = 4
"""Number of acquisitions whose speckle an image depends on: the pair and the two before it."""

NODATA = -1
STRIP_ROWS = 32
"""Rows of pixels drawn at once. This decides the order of draws, so it is part of what a seed means."""


def speckle_sums(
    rngs: SpeckleGenerators, memory: tuple[Floats, Floats], samples: int
) -> tuple[Floats, Floats, Floats, Floats]:
    """Sums over each pixel's samples: |s1|^2, |n|^2, Re and Im of s1 conj(n).

    Args:
        rngs: generators of the white speckle from which s1 is made (`sample_coherence`), and of n.
        memory: m and sqrt(1 - m^2) of each pixel, shape (rows, columns).
        samples: number of samples of a pixel.

    Returns:
        Four arrays of shape (rows, columns).
    """
    kept, fresh = memory
    power1, power_n, real, imag = (np.zeros(kept.shape, np.float32) for _ in range(4))
    for _ in range(samples):
        first, *between, (n_re, n_im) = (rng.standard_normal((2, *kept.shape), dtype=np.float32) for rng in rngs)
        for white in between:
            first *= kept
            white *= fresh
            first += white
        s_re, s_im = first
        power1 += s_re * s_re + s_im * s_im
        power_n += n_re * n_re + n_im * n_im
        real += s_re * n_re + s_im * n_im
        imag += s_im * n_re - s_re * n_im
    return power1, power_n, real, imag


def _window_sum(values: Floats, window: int) -> Floats:
    """Sums over window x window px, only where the window is complete; each side is window - 1 shorter."""
    height, width = (side - window + 1 for side in values.shape)
    rows = values[:height].copy()
    for step in range(1, window):
        rows += values[step : step + height]
    total = rows[:, :width].copy()
    for step in range(1, window):
        total += rows[:, step : step + width]
    return total


def sample_coherence(true: Floats, usual: Floats, rngs: SpeckleGenerators, samples: int = 2, window: int = 3) -> Floats:
    r"""The sample coherence of a pair of speckle images with a given true coherence.

    Each pixel holds samples x samples independent pairs of circular complex normal variables of unit power
    (Goodman 1976; Bamler and Hartl 1998), with the true coherence g of the pixel:

        s2 = g s1 + sqrt(1 - g^2) n

    Speckle is kept from one acquisition to the next by the usual coherence m of the pixel. With white speckle c0, c1
    and c2 of the acquisitions until the beginning of the pair, and n of its end,

        s1 = m (m c0 + sqrt(1 - m^2) c1) + sqrt(1 - m^2) c2

    The next pair's c0, c1 and c2 are this one's c1, c2 and n, so it begins with nearly the speckle with which this one
    ends (if g = m, their correlation is 1 - m^4 (1 - sqrt(1 - m^2)): 0.97 for 0.6, 0.84 for 0.8), and their estimates
    are correlated.

    The estimate is (Touzi et al. 1999)

        |sum s1 conj(s2)| / sqrt(sum |s1|^2  sum |s2|^2)

    over window x window px, that is L = (samples window)^2 looks. It is biased: without any coherence
    its mean is Gamma(L) Gamma(3/2) / Gamma(L + 1/2), about sqrt(pi / (4 L)). Estimates of pixels less than
    `window` apart are correlated, since their windows overlap.

    Within a pixel g is constant, so its sums follow from those of s1 and n alone:
    sum s1 conj(s2) = g A + q C and sum |s2|^2 = g^2 A + q^2 B + 2 g q Re C, where q = sqrt(1 - g^2),
    A = sum |s1|^2, B = sum |n|^2, C = sum s1 conj(n).

    Args:
        true: true coherence, 0..1, shape (height, width). It is padded with its edge values.
        usual: usual coherence of each pixel, 0..1, same shape.
        rngs: generators of c0, c1, c2 and n.
        samples: speckle samples along each side of a pixel.
        window: side of the window in px, odd.

    Returns:
        Estimates, 0..1, float32, shape (height, width).

    >>> zero = np.zeros((100, 100), np.float32)
    >>> dark = sample_coherence(zero, zero, [np.random.default_rng(k) for k in range(ACQUISITIONS)])
    >>> round(float(dark.mean()), 2)
    0.15
    """
    half = window // 2
    g, kept = (np.pad(values.astype(np.float32, copy=False), half, mode="edge") for values in (true, usual))
    fresh = np.sqrt(1 - kept * kept)
    height, width = g.shape
    cross_re, cross_im, power1, power2 = (np.empty((height, width), np.float32) for _ in range(4))
    for top in range(0, height, STRIP_ROWS):
        strip = slice(top, min(top + STRIP_ROWS, height))
        gs = g[strip]
        q = np.sqrt(1 - gs * gs)
        a, b, c_re, c_im = speckle_sums(rngs, (kept[strip], fresh[strip]), samples**2)
        power1[strip] = a
        power2[strip] = gs * gs * a + q * q * b + 2 * gs * q * c_re
        cross_re[strip] = gs * a + q * c_re
        cross_im[strip] = q * c_im
    cross_re, cross_im, power1, power2 = (_window_sum(each, window) for each in (cross_re, cross_im, power1, power2))
    power = power1 * power2
    estimate = np.sqrt((cross_re * cross_re + cross_im * cross_im) / power)
    return np.asarray(np.minimum(estimate, np.float32(1.0)), np.float32)


def to_stored(estimate: Floats, valid: NDArray[np.bool_]) -> NDArray[np.int16]:
    """Convert an estimate to stored values: 0..1000, rounded half to even, NODATA where not valid.

    >>> to_stored(np.float32([[0.25, 1.0]]), np.array([[True, False]]))
    array([[250,  -1]], dtype=int16)
    """
    return np.where(valid, np.rint(1000 * estimate), NODATA).astype(np.int16)
