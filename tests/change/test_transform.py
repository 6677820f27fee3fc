"""Transforms are tables of integers: exact, the same on every machine, and refused where they have no value."""

from __future__ import annotations

from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acdtask.change.moments import Moments
from acdtask.change.transform import NODATA, STEPS, Transform
from acdtask.errors import AcdError, ErrorCode


def exact(name: str, stored: int, scale: float) -> int:
    """A table entry, with forty digits."""
    with localcontext() as context:
        context.prec = 40
        unit = Decimal(repr(scale))
        value, half = stored * unit, unit / 2
        if name == "log":
            transformed = 10 * max(value, half).log10()
        else:
            value = min(max(value, half - 1), 1 - half)
            transformed = ((1 + value) / (1 - value)).ln() / 2
        return round(transformed / Decimal(repr(STEPS[name])))


CASES = [
    ("log", "uint16", 0, (1, 65535), 0.0001),
    ("log", "int16", -1, (0, 32767), 0.001),
    ("log", "uint8", 0, (1, 255), 1.0),
    ("arctanh", "int16", -1, (0, 1000), 0.001),
    ("arctanh", "int16", -32768, (-1000, 1000), 0.001),
    ("arctanh", "uint16", 65535, (0, 65534), 1 / 65534),
]


@settings(deadline=None, max_examples=150)
@given(case=st.sampled_from(CASES), position=st.floats(0, 1))
def test_each_entry_is_the_rounded_value_of_the_function(case: Any, position: float) -> None:
    name, dtype, nodata, (first, last), scale = case
    transform = Transform.of(name, dtype, nodata=nodata, valid_range=(first, last), scale=scale)
    stored = first + round(position * (last - first))
    assert transform.apply(np.array([[stored]], dtype))[0, 0] == exact(name, stored, scale)


def test_a_whole_table_agrees_with_decimals() -> None:
    transform = Transform.of("log", "int16", nodata=-1, valid_range=(1, 3000), scale=0.001)
    assert [exact("log", stored, 0.001) for stored in range(1, 3001)] == transform.table.tolist()


@pytest.mark.parametrize("case", CASES)
def test_the_order_of_values_is_kept_and_nodata_stays_nodata(case: Any) -> None:
    name, dtype, nodata, (first, last), scale = case
    transform = Transform.of(name, dtype, nodata=nodata, valid_range=(first, last), scale=scale)
    assert (np.diff(transform.table.astype(int)) >= 0).all()
    assert transform.valid_range == (int(transform.table.min()), int(transform.table.max()))
    image = np.array([[nodata, first, last]], dtype)
    assert transform.apply(image).tolist() == [[NODATA, *transform.valid_range]]
    assert Moments.of_images(transform.apply(image)[np.newaxis], NODATA).count.tolist() == [[0, 1, 1]]


def test_values_outside_the_range_are_no_data() -> None:
    transform = Transform.of("arctanh", "int16", nodata=-1, valid_range=(0, 1000), scale=0.001)
    assert transform.apply(np.array([[-7, 1001, 500]], np.int16)).tolist() == [[NODATA, NODATA, 2747]]


def test_a_factor_is_a_constant_in_decibels() -> None:
    transform = Transform.of("log", "uint16", nodata=0, valid_range=(1, 60000), scale=0.0001)
    image = np.array([[50, 500, 5000]], np.uint16)
    gained = transform.apply(10 * image) - transform.apply(image)
    assert gained.tolist() == [[1000, 1000, 1000]]


@pytest.mark.parametrize(
    ("name", "dtype", "valid_range", "scale", "code", "named"),
    [
        ("log", "int16", (-3000, 1000), 0.01, ErrorCode.SETTING_INVALID, "decibels"),
        ("arctanh", "int16", (0, 2000), 0.001, ErrorCode.SETTING_INVALID, "-1 to 1"),
        ("log", "uint16", (1, 1000), 1e-40, ErrorCode.SETTING_INVALID, "larger --scale"),
        ("log", "float32", (0, 1), 1.0, ErrorCode.INPUT_BANDS, "8 or 16 bits"),
    ],
)
def test_a_function_that_does_not_fit_the_variable_is_refused_with_what_to_do(
    name: Any, dtype: str, valid_range: tuple[float, float], scale: float, code: ErrorCode, named: str
) -> None:
    with pytest.raises(AcdError) as refused:
        Transform.of(name, dtype, nodata=-32768, valid_range=valid_range, scale=scale)
    assert refused.value.code is code
    assert named in refused.value.fix


def test_pictures_show_about_what_is_compared() -> None:
    transform = Transform.of("log", "uint16", nodata=0, valid_range=(1, 10000), scale=0.001)
    stored = np.array([[3, 700, 9000]], np.uint16)
    drawn = transform.of_physical(stored * 0.001)
    np.testing.assert_allclose(drawn, transform.apply(stored) * transform.scale, atol=0.0051)
