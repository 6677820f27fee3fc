"""A z where there is one, and elsewhere the reason why not."""

from __future__ import annotations

import numpy as np
import pytest

from acdtask.change.zscore import Quality, z_score

NAN = float("nan")


@pytest.mark.parametrize(
    ("image", "mean", "std", "count", "z", "quality"),
    [
        (300, 800.0, 100.0, 60, 5.0, Quality.VALID),
        (900, 800.0, 100.0, 60, -1.0, Quality.VALID),
        (300, 800.0, 5.0, 20, 100.0, Quality.VALID),
        (-1, 800.0, 100.0, 60, NAN, Quality.NO_DATA),
        (-1, NAN, NAN, 0, NAN, Quality.NO_DATA),
        (-1, 800.0, 0.0, 3, NAN, Quality.NO_DATA),
        (300, NAN, NAN, 0, NAN, Quality.NO_BASELINE),
        (300, NAN, NAN, NAN, NAN, Quality.NO_BASELINE),
        (300, 800.0, 100.0, 19, NAN, Quality.TOO_FEW_IMAGES),
        (300, 800.0, 0.0, 19, NAN, Quality.TOO_FEW_IMAGES),
        (300, 800.0, 0.0, 60, NAN, Quality.STEADY),
        (300, 800.0, 4.99, 60, NAN, Quality.STEADY),
        (300, 800.0, NAN, 60, NAN, Quality.STEADY),
    ],
)
def test_each_pixel_has_a_z_or_a_reason(
    image: int, mean: float, std: float, count: float, z: float, quality: Quality
) -> None:
    found = z_score(
        np.array([[image]], np.int16),
        np.array([[mean]], np.float32),
        np.array([[std]], np.float32),
        np.array([[count]], np.float32),
        nodata=-1,
        min_count=20,
        min_std=5,
    )
    np.testing.assert_array_equal(found.z, np.array([[z]], np.float32))
    assert (found.z.dtype.name, found.quality.dtype.name) == ("float32", "uint8")
    assert found.quality.tolist() == [[quality]]


@pytest.mark.parametrize("min_std", [0.0, 5.0])
@pytest.mark.parametrize("dtype", ["int16", "uint16", "uint8", "int32"])
def test_z_is_that_of_single_precision_arithmetic_with_one_bit_pattern_for_no_z(dtype: str, min_std: float) -> None:
    rng = np.random.default_rng(2)
    shape = (50, 70)
    image = rng.integers(0, 200, shape).astype(dtype)
    count = rng.integers(0, 40, shape).astype(np.int32)
    mean = np.where(count, rng.uniform(0, 200, shape), np.nan).astype(np.float32)
    std = np.where(count, rng.choice([0.0, 3.0, 17.3], shape), np.nan).astype(np.float32)
    before = [array.copy() for array in (image, mean, std, count)]
    found = z_score(image, mean, std, count, nodata=0, min_count=10, min_std=min_std)
    for array, copy in zip((image, mean, std, count), before, strict=True):
        np.testing.assert_array_equal(array, copy)
    valid = (image != 0) & (count >= 10) & (std > 0) & (std >= min_std)
    np.testing.assert_array_equal(found.quality == Quality.VALID, valid)
    np.testing.assert_array_equal(np.isnan(found.z), ~valid)
    expected = (mean[valid] - image[valid].astype(np.float32)) / std[valid]
    np.testing.assert_array_equal(found.z[valid], expected)
    assert set(found.z[~valid].view(np.uint32).tolist()) == {np.array(np.nan, np.float32).view(np.uint32).item()}


def test_without_nodata_every_pixel_is_data() -> None:
    one = np.ones((1, 1), np.float32)
    found = z_score(np.zeros((1, 1), np.uint8), one, one, one, nodata=None, min_count=1, min_std=0)
    assert found.quality.tolist() == [[Quality.VALID]]
    assert found.z.tolist() == [[1.0]]
