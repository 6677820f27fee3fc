"""The tutorial profile is the tutorial: patch for patch and pixel for pixel, tiled or not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from acdtask.change.detect import detect_in_tile, detect_monolithic
from acdtask.change.methods import PROFILES, STANDARD, TUTORIAL
from acdtask.change.moments import Moments
from acdtask.change.seams import BLOB, join_fragments
from acdtask.change.thresholds import Detection
from acdtask.change.zscore import Quality
from acdtask.errors import AcdError, ErrorCode
from tests.change import reference as plain
from tests.change.scenes import tilings, window


def coherence(seed: int, images: int, height: int, width: int) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """A baseline and a new image: correlated noise, steady pixels, nodata edges, blocks where coherence drops."""
    rng = np.random.default_rng(seed)
    noise = gaussian_filter(rng.normal(size=(images + 1, height, width)), (0, 0.8, 0.8))
    level = rng.uniform(300, 900, (height, width))
    every = np.clip(level + 250 * noise, 1, 1000).astype(np.int16)
    every[:, rng.random((height, width)) < 0.02] = 500
    every[rng.random(every.shape) < 0.03] = 0
    for index in range(images + 1):
        every[index, :, : rng.integers(0, 4)] = 0
    every[:, -2:, -3:] = 0
    image = every[-1]
    for _ in range(6):
        row, column = rng.integers(0, height), rng.integers(0, width)
        part = image[row : row + rng.integers(2, 12), column : column + rng.integers(2, 12)]
        part[part != 0] = 20
    return every[:-1], image


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", [(60, 90, 121), (5, 64, 64), (1, 20, 20)])
def test_the_tutorial_profile_equals_plain_numpy_and_scikit_image(seed: int, shape: tuple[int, int, int]) -> None:
    stack, image = coherence(seed, *shape)
    rules = Detection(min_area=30, min_count=1, min_std=0, zero_is_nodata=True, steps=())
    found = detect_monolithic(stack, image, rules, nodata=0)

    z = plain.tutorial_z(stack, image)
    mean, _, count = plain.statistics(stack, 0)
    blobs = plain.blobs_of(z, 1.7, 3.0, 30)
    np.testing.assert_array_equal(found.score.z, z)
    np.testing.assert_array_equal(found.blob_ids, blobs)
    rows = [
        (k, m.area, m.z_max, m.z_sum, m.drop_sum, m.count_sum, *m.first, *m.bounds, m.z_max, m.z_sum)
        for k, m in enumerate(plain.measure(blobs, z, mean, image, count), 1)
    ]
    np.testing.assert_array_equal(found.blobs, np.array(rows, BLOB))
    assert [outline.area for outline in found.outlines.values()] == found.blobs["area"].tolist()
    assert bool(len(rows)) == (shape[0] > 1), "a baseline of one image is steady everywhere"


@settings(deadline=None, max_examples=60)
@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_tiles_with_their_own_moments_give_the_tutorials_patches(data: st.DataObject, seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(5, 40, 2).tolist()
    stack, image = coherence(seed, int(rng.integers(2, 20)), height, width)
    rules = Detection(min_area=int(rng.integers(0, 20)), min_count=1, min_std=0, zero_is_nodata=True, steps=())
    tiles = data.draw(tilings(height, width))
    parts = []
    for tile in tiles:
        moments = Moments.of_images(stack[:, tile[0] : tile[2], tile[1] : tile[3]], 0)
        parts.append(
            detect_in_tile(
                window(image, tile),
                moments.mean(),
                moments.standard_deviation(),
                moments.count_view(),
                rules,
                nodata=0,
                origin=tile[:2],
            ).fragments
        )
    joined = join_fragments([part.table for part in parts])
    blob_ids = np.zeros(image.shape, np.int32)
    for part, tile, ids in zip(parts, tiles, joined.blob_ids, strict=True):
        window(blob_ids, tile)[...] = ids[part.labels]
    np.testing.assert_array_equal(blob_ids, plain.blobs_of(plain.tutorial_z(stack, image), 1.7, 3.0, rules.min_area))


@pytest.mark.parametrize(("dtype", "nodata"), [("int16", 0), ("int16", -32768), ("int16", None), ("uint8", -1)])
def test_the_tutorial_profile_takes_zeros_for_nodata_whatever_the_nodata_of_the_variable(
    dtype: str, nodata: float | None
) -> None:
    stack, image = coherence(9, 12, 30, 30)
    stack, image = (array // 4 for array in (stack, image))
    expected = detect_monolithic(stack, image, TUTORIAL, nodata=0)

    def written(array: NDArray[Any]) -> NDArray[Any]:
        array = array.copy()
        if nodata == -32768:
            array[array == 0] = np.random.default_rng(0).choice([0, -32768], int(np.sum(array == 0)))
        return array.astype(dtype)

    found = detect_monolithic(written(stack), written(image), TUTORIAL, nodata=nodata)
    np.testing.assert_array_equal(found.score.z, expected.score.z)
    np.testing.assert_array_equal(found.score.quality, expected.score.quality)


def test_the_standard_profile_keeps_zeros_and_mistrusts_thin_and_steady_baselines() -> None:
    assert PROFILES["standard"] is STANDARD
    assert PROFILES["tutorial"] is TUTORIAL
    rng = np.random.default_rng(4)
    stack = rng.normal(700, 40, (30, 30, 30)).clip(0, 1000).astype(np.int16)
    stack[:, 0, :] = 700
    stack[:11, 1, :] = -1
    image = np.full((30, 30), 700, np.int16)
    image[5:20, 5:20] = 0
    image[2] = -1
    found = detect_monolithic(stack, image, nodata=-1)
    assert found.blobs["area"].tolist() == [225]
    assert set(found.score.quality[0].tolist()) == {Quality.STEADY}
    assert set(found.score.quality[1].tolist()) == {Quality.TOO_FEW_IMAGES}
    assert set(found.score.quality[2].tolist()) == {Quality.NO_DATA}


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"low": 4.0}, "low is 4.0; it must not exceed high"),
        ({"low": -1.0}, "low is -1.0"),
        ({"high": float("nan")}, "high is nan"),
        ({"min_std": float("inf")}, "min_std is inf"),
        ({"min_std": -1.0}, "min_std is -1.0"),
        ({"min_area": -1}, "min_area is -1"),
        ({"min_count": 0}, "min_count is 0"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(values: dict[str, Any], named: str) -> None:
    with pytest.raises(AcdError, match=named) as refused:
        Detection(**values)
    assert refused.value.code is ErrorCode.SETTING_INVALID
