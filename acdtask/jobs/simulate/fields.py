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
    """What random numbers are drawn for. The numbers are part of what a seed means: never renumber them."""

    LAND = 0
    EVENT = 1
    RAIN = 2
    FARM = 3
    DRIFT = 4
    SWATH = 5
    SPECKLE = 6
    PARCEL = 7
    DATE = 8


def generator(seed: int, stream: Stream, k: int = 0) -> np.random.Generator:
    """The generator of item k (a pair, an event) of a stream: the same whatever was drawn before, by whichever worker.

    >>> bool(generator(1, Stream.RAIN, 5).random() == generator(1, Stream.RAIN, 5).random())
    True
    """
    return np.random.default_rng([seed, int(stream), k])


def spline_weights(phase: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights of the four knots around a position, from the uniform cubic B-spline, with squares that sum to one.

    So a blend of independent unit normal knots is unit normal everywhere, between knots as on them.

    Args:
        phase: position between the second and the third knot, 0..1, shape (n,).

    Returns:
        Shape (4, n).
    """
    u = phase
    weights = np.stack([(1 - u) ** 3, 3 * u**3 - 6 * u**2 + 4, -3 * u**3 + 3 * u**2 + 3 * u + 1, u**3])
    return np.asarray(weights / np.sqrt((weights**2).sum(axis=0)))


def knot_shape(shape: tuple[int, int], length: float) -> tuple[int, int]:
    """How many knots, `length` px apart, carry a field of that shape."""
    return math.ceil(shape[0] / length) + 4, math.ceil(shape[1] / length) + 4


def _blend(knots: Floats, count: int, length: float) -> Floats:
    """The field between knots along the first axis: (knots, n) to (count, n)."""
    position: NDArray[np.float64] = (np.arange(count, dtype=np.float64) + 0.5) / length
    first = np.floor(position).astype(np.intp)
    weights = spline_weights(position - first).astype(np.float32)
    # One knot after the other, and no matrix product: the sum has one order, whatever the number of threads.
    field = weights[0][:, None] * knots[first]
    for tap in range(1, 4):
        field += weights[tap][:, None] * knots[first + tap]
    return np.asarray(field)


def field_from_knots(knots: Floats, shape: tuple[int, int], length: float) -> Floats:
    """The smooth field that knots of shape `knot_shape(shape, length)` carry; float32 of that shape."""
    rows = _blend(knots, shape[0], length)
    return np.ascontiguousarray(_blend(np.ascontiguousarray(rows.T), shape[1], length).T)


def smooth_field(rng: np.random.Generator, shape: tuple[int, int], length: float) -> Floats:
    """A random field, normal with mean 0 and variance 1 at every pixel, that varies over about `length` px.

    >>> smooth_field(np.random.default_rng(1), (50, 40), 8.0).shape
    (50, 40)
    """
    knots = rng.standard_normal(knot_shape(shape, length), dtype=np.float32)
    return field_from_knots(knots, shape, length)
