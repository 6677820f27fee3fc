"""Moments: exact, fast to update, and equal to numpy's own statistics."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acdtask.change.moments import MAX_COUNT, Moments, stored_nodata
from acdtask.errors import AcdError, ErrorCode


def numpy_statistics(stack: np.ndarray, nodata: int) -> tuple[np.ndarray, np.ndarray]:
    values = stack.astype(np.float64)
    values[values == nodata] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanmean(values, axis=0).astype(np.float32), np.nanstd(values, axis=0).astype(np.float32)


@pytest.mark.parametrize(
    ("dtype", "low", "high", "nodata"),
    [
        ("int16", 0, 1000, 0),
        ("int16", 0, 1000, -32768),
        ("int16", -32768, 32767, 32767),
        ("uint16", 0, 65535, 0),
        ("uint8", 0, 255, 255),
        ("int8", -128, 127, -1),
    ],
)
@pytest.mark.parametrize("shape", [(1, 3, 4), (60, 40, 33), (300, 7, 5)])
def test_statistics_equal_numpy_in_double_precision_rounded_to_single(
    dtype: str, low: int, high: int, nodata: int, shape: tuple[int, int, int]
) -> None:
    rng = np.random.default_rng(1)
    stack = rng.integers(low, high, shape, endpoint=True).astype(dtype)
    stack[rng.random(shape) < 0.1] = nodata
    stack[:, 0, 0] = nodata
    moments = Moments.of_images(stack, nodata)
    mean, deviation = numpy_statistics(stack, nodata)
    np.testing.assert_array_equal(moments.mean(), mean)
    np.testing.assert_array_equal(moments.standard_deviation(), deviation)
    np.testing.assert_array_equal(moments.count_view(), (stack != nodata).sum(axis=0).astype(np.float32))
    assert {view.dtype for view in (moments.mean(), moments.standard_deviation(), moments.count_view())} == {
        np.dtype(np.float32)
    }


def test_a_pixel_without_images_is_nan_and_a_constant_pixel_has_deviation_zero() -> None:
    stack = np.array([[[7, -1]], [[7, -1]]], np.int16)
    moments = Moments.of_images(stack, -1)
    np.testing.assert_array_equal(moments.mean(), np.array([[7, np.nan]], np.float32))
    np.testing.assert_array_equal(moments.standard_deviation(), np.array([[0, np.nan]], np.float32))
    np.testing.assert_array_equal(Moments.zeros((2, 3)).mean(), np.full((2, 3), np.nan, np.float32))


@pytest.mark.parametrize(("dtype", "low", "high"), [("int16", -32768, 32767), ("uint16", 0, 65535)])
def test_the_widest_values_of_65535_images_do_not_overflow(dtype: str, low: int, high: int) -> None:
    stack = np.full((MAX_COUNT, 1, 2), high, dtype)
    stack[::2, 0, 0] = low
    moments = Moments.of_images(stack, None)
    exact = [int(value) for value in stack[:, 0, 0]]
    total, squares = sum(exact), sum(value * value for value in exact)
    assert moments.total[0, 0] == total
    assert moments.total_of_squares[0, 0] == squares
    expected = np.float32(np.sqrt(float(MAX_COUNT * squares - total * total)) / MAX_COUNT)
    np.testing.assert_array_equal(moments.standard_deviation(), np.array([[expected, 0]], np.float32))


def test_a_count_that_no_images_explain_is_refused() -> None:
    image = Moments.of_images(np.ones((1, 1, 1), np.int16), None)
    with pytest.raises(AcdError) as below:
        (Moments.zeros((1, 1)) - image).mean()
    assert below.value.code is ErrorCode.BUG
    with pytest.raises(AcdError):
        Moments(image.count * (MAX_COUNT + 1), image.total, image.total_of_squares).standard_deviation()


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint64", "bool"])
def test_numbers_that_have_no_exact_moments_are_refused(dtype: str) -> None:
    stack = np.zeros((2, 3, 3), dtype)
    with pytest.raises(AcdError) as refused:
        Moments.of_images(stack, 0)
    assert refused.value.code is ErrorCode.INPUT_BANDS
    with pytest.raises(AcdError) as refused:
        Moments.of(stack, stack == 0)
    assert refused.value.code is ErrorCode.INPUT_BANDS


@pytest.mark.parametrize("nodata", [-1, 256, float("nan"), 0.5, None])
def test_a_nodata_that_the_type_cannot_hold_hides_no_pixel(nodata: float | None) -> None:
    assert stored_nodata(nodata, np.dtype(np.uint8)) is None
    assert Moments.of_images(np.zeros((2, 1, 1), np.uint8), nodata).count[0, 0] == 2


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        Moments.of(np.zeros((2, 3, 3), np.int16), np.zeros((3, 3, 3), bool))
    with pytest.raises(ValueError, match="differ"):
        Moments(np.zeros((1, 1), np.int32), np.zeros((1, 2), np.int64), np.zeros((1, 1), np.int64))


def test_moments_do_not_depend_on_the_memory_layout_of_the_stack() -> None:
    rng = np.random.default_rng(5)
    stack = rng.integers(0, 1000, (9, 70, 1000)).astype(np.int16)
    whole = Moments.of_images(stack, 0)
    assert whole == Moments.of_images(np.asfortranarray(stack), 0)
    left = Moments.of_images(stack[:, 3:40:2, 10:600:7], 0)
    assert left == whole.window(slice(3, 40, 2), slice(10, 600, 7))
    assert whole != left
    assert whole != "moments"


@settings(deadline=None, max_examples=100)
@given(seed=st.integers(0, 2**32 - 1), length=st.integers(1, 30), dtype=st.sampled_from(["int16", "uint16", "uint8"]))
def test_any_sequence_of_add_subtract_and_merge_equals_recomputation(seed: int, length: int, dtype: str) -> None:
    rng = np.random.default_rng(seed)
    limits = np.iinfo(dtype)
    images = rng.integers(limits.min, limits.max, (length, 4, 5), endpoint=True).astype(dtype)
    valid = rng.random(images.shape) < 0.7
    parts = [Moments.zeros((4, 5)) for _ in range(3)]
    inside: set[int] = set()
    home = rng.integers(0, 3, length)
    for step in rng.integers(0, length, 3 * length):
        part = home[step]
        if step in inside:
            parts[part] = parts[part].subtract(images[step], valid[step])
            inside.remove(step)
        else:
            parts[part] = parts[part].add(images[step], valid[step])
            inside.add(step)
    order = rng.permutation(3)
    merged = parts[order[0]] + parts[order[1]] + parts[order[2]]
    kept = sorted(inside)
    fresh = Moments.of(images[kept], valid[kept])
    assert merged == fresh
    np.testing.assert_array_equal(merged.mean(), fresh.mean())
    np.testing.assert_array_equal(merged.standard_deviation(), fresh.standard_deviation())
    assert merged - fresh == Moments.zeros((4, 5))
