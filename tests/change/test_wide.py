"""Wide, weak drops are found in a mean over a greater distance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from acdtask.change.detect import detect_against
from acdtask.change.methods import ROBUST
from acdtask.change.moments import Moments
from acdtask.change.scene import BaselineArrays, Scene
from acdtask.change.steps.registry import steps_of
from acdtask.change.steps.wide import LIFT, MARGIN, Wide
from acdtask.errors import AcdError, ErrorCode

SIDE = 28


def candidates(*, wide: bool) -> tuple[float, int]:
    """The share of a square of 784 px that candidates cover, after a drop of 1.15 standard deviations; their number."""
    random = np.random.default_rng(11)
    stack = random.normal(600, 80, (40, 128, 128)).astype(np.int16)
    image = random.normal(600, 80, (128, 128)).astype(np.int16)
    image[50 : 50 + SIDE, 40 : 40 + SIDE] -= 92
    steps = tuple(step for step in ROBUST.steps if wide or not isinstance(step, Wide))
    change = detect_against(Moments.of_images(stack, -1), image, replace(ROBUST, steps=steps), nodata=-1)
    return float((change.blob_ids[50 : 50 + SIDE, 40 : 40 + SIDE] > 0).mean()), len(change.blobs)


def test_a_wide_drop_of_little_more_than_a_standard_deviation_becomes_a_candidate() -> None:
    (without, _), (covered, number) = candidates(wide=False), candidates(wide=True)
    assert without < 0.1
    assert covered > 0.5
    assert number < 8


def test_extent_and_seed_are_only_ever_raised() -> None:
    z = np.random.default_rng(3).normal(0, 1, (50, 50)).astype(np.float32)
    z[5, 7] = np.nan
    before = Scene.of(BaselineArrays(z, z, z), z, z)
    after = Wide(2.0).apply(before, None)
    known = ~np.isnan(z)
    assert (after.extent[known] >= z[known]).all()
    assert (after.seed[known] >= z[known]).all()
    assert np.isnan(after.extent[5, 7])
    assert np.isnan(after.seed[5, 7])
    raised = known & (after.seed > z)
    assert raised.any()
    np.testing.assert_allclose(
        after.seed[raised & (after.extent > z)] - after.extent[raised & (after.extent > z)], MARGIN + LIFT, atol=1e-5
    )


@pytest.mark.parametrize("sigma", [-1.0, 17.0, float("nan")])
def test_a_width_that_cannot_be_is_refused_by_name(sigma: float) -> None:
    with pytest.raises(AcdError, match="wide is") as refused:
        steps_of({"wide": sigma})
    assert refused.value.code is ErrorCode.SETTING_INVALID
