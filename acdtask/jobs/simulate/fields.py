"""Seeded random numbers and smooth random fields."""

from __future__ import annotations

import math
from enum import IntEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Floats", "Stream", "field_from_knots", "generator", "knot_shape", "smooth_field", "spline_weights"]

Floats: TypeAlias = NDArray[np.float32]


class Stream(IntEnum):
    """Purposes of random numbers. Their values are part of what a seed means: never renumber them."""

    LAND = 0
    EVENT = 1
    RAIN = 2
    FARM = 3
    DRIFT = 4
    SWATH = 5
    SPECKLE = 6
    PARCEL = 7
    ORBIT = 8
    STORM = 9
    MOISTURE = 10
    REFERENCE_EVENT = 11


def generator(seed: int, stream: Stream, k: int = 0, track: int = 0) -> np.random.Generator:
    """The generator of item k (an acquisition, an event, a year) of a stream, and of a track if tracks differ in it.

    It is independent of earlier draws and of the worker.

    >>> bool(generator(1, Stream.RAIN, 5).random() == generator(1, Stream.RAIN, 5).random())
    True
    """
    return np.random.default_rng([seed, int(stream), k, track])


def spline_weights(phase: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights of the four knots around a position: uniform cubic B-spline, scaled so that squares sum to 1.

    A blend of independent unit normal knots is then unit normal everywhere.

    Args:
        phase: position between the second and the third knot, 0..1, shape (n,).

    Returns:
        Shape (4, n).
    """
    u = phase
    weights = np.stack([(1 - u) ** 3, 3 * u**3 - 6 * u**2 + 4, -3 * u**3 + 3 * u**2 + 3 * u + 1, u**3])
    return np.asarray(weights / np.sqrt((weights**2).sum(axis=0)))


def knot_shape(shape: tuple[int, int], length: float) -> tuple[int, int]:
    """Shape of the knots, `length` px apart, of a field of the given shape."""
    return math.ceil(shape[0] / length) + 4, math.ceil(shape[1] / length) + 4


def _blend(knots: Floats, count: int, length: float) -> Floats:
    """Interpolate knots along the first axis: (knots, n) to (count, n)."""
    position: NDArray[np.float64] = (np.arange(count, dtype=np.float64) + 0.5) / length
    first = np.floor(position).astype(np.intp)
    weights = spline_weights(position - first).astype(np.float32)
    # A loop, not a matrix product, so that the order of the sum does not depend on the number of threads.
    field = weights[0][:, None] * knots[first]
    for tap in range(1, 4):
        field += weights[tap][:, None] * knots[first + tap]
    return np.asarray(field)


def field_from_knots(knots: Floats, shape: tuple[int, int], length: float) -> Floats:
    """The smooth field, float32, interpolated from knots of shape `knot_shape(shape, length)`."""
    rows = _blend(knots, shape[0], length)
    return np.ascontiguousarray(_blend(np.ascontiguousarray(rows.T), shape[1], length).T)


def smooth_field(rng: np.random.Generator, shape: tuple[int, int], length: float) -> Floats:
    """A random field, normal with mean 0 and variance 1 at every pixel, that varies over about `length` px.

    >>> smooth_field(np.random.default_rng(1), (50, 40), 8.0).shape
    (50, 40)
    """
    knots = rng.standard_normal(knot_shape(shape, length), dtype=np.float32)
    return field_from_knots(knots, shape, length)
