"""Moments without unusually low values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acdtask.change.moments import CLIP_ROUNDS, LEAST_CLIPPED, Moments
from acdtask.errors import AcdError, ErrorCode


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**31),
    clip=st.sampled_from([1.0, 2.5]),
    kind=st.sampled_from(["int16", "uint16", "uint8"]),
)
def test_each_pixel_has_the_moments_of_what_two_rounds_leave(seed: int, clip: float, kind: str) -> None:
    rng = np.random.default_rng(seed)
    stack = rng.normal(150, 20, (int(rng.integers(1, 60)), 4, 5))
    stack[rng.random(stack.shape) < 0.1] -= 120
    stack = np.clip(stack, 1, 250).astype(kind)
    nodata = 0
    stack[rng.random(stack.shape) < 0.1] = nodata
    moments, left_out = Moments.clipped(stack, nodata, clip)
    for row, column in np.ndindex(4, 5):
        values = stack[:, row, column].astype(np.int64)
        values = every = values[values != nodata]
        for _ in range(CLIP_ROUNDS):
            if every.size >= LEAST_CLIPPED:
                values = values[values >= values.mean() - clip * values.std()]
        assert moments.count[row, column] == values.size
        assert moments.total[row, column] == values.sum()
        assert moments.total_of_squares[row, column] == (values**2).sum()
        assert left_out[row, column] == every.size - values.size


def test_without_a_clip_it_is_the_moments_of_all() -> None:
    stack = np.random.default_rng(0).integers(0, 1000, (30, 5, 6)).astype(np.int16)
    moments, left_out = Moments.clipped(stack, -1, 0)
    assert moments == Moments.of_images(stack, -1)
    assert not left_out.any()


def test_a_pixel_keeps_enough_values_for_a_z() -> None:
    stack = np.random.default_rng(1).normal(600, 30, (LEAST_CLIPPED - 1, 40, 40)).astype(np.int16)
    stack[::4, :, 20:] = -1
    moments, left_out = Moments.clipped(stack, -1, 1.0)
    assert moments == Moments.of_images(stack, -1)
    assert not left_out.any()
    assert Moments.clipped(np.concatenate([stack, stack[1:2]]), -1, 1.0)[1][:, :20].any()


def test_high_values_stay() -> None:
    stack = np.full((30, 1, 1), 300, np.int16)
    stack[3] = 900
    moments, left_out = Moments.clipped(stack, -1, 2.5)
    assert (moments.count[0, 0], left_out[0, 0]) == (30, 0)


def test_a_pixel_without_values_has_no_moments() -> None:
    moments, left_out = Moments.clipped(np.full((30, 1, 2), -1, np.int16), -1, 2.5)
    assert not moments.count.any()
    assert not left_out.any()


def test_only_small_integers_are_taken() -> None:
    with pytest.raises(AcdError) as refused:
        Moments.clipped(np.zeros((3, 2, 2)), None, 2.5)
    assert refused.value.code is ErrorCode.INPUT_BANDS
