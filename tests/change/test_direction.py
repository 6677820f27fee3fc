"""Drops, rises, or both: what each direction finds, and that a rise beside a drop is another patch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from acdtask.change.detect import ImageChange, detect_against
from acdtask.change.evidence import Evidence
from acdtask.change.fragments import find_fragments
from acdtask.change.methods import STANDARD, TUTORIAL
from acdtask.change.moments import Moments
from acdtask.change.seams import JoinedBlobs, join_fragments
from acdtask.change.thresholds import Detection
from acdtask.errors import AcdError, ErrorCode
from tests.change.round_trip import crossed
from tests.change.scenes import KINDS, _mask, tilings, window

LOW, HIGH = 1.7, 3.0
METHODS = {
    "plain": replace(TUTORIAL, min_area=3),
    "smooth": Detection.of({**TUTORIAL.recorded(), "smooth": 1.2, "low": 0.6, "high": 1.2, "min_area": 3}),
}


def signed_scores(seed: int, height: int, width: int) -> NDArray[np.float32]:
    """Scores with difficult shapes of both signs that touch each other, and some pixels without a score."""
    rng = np.random.default_rng(seed)
    z = rng.uniform(-1.6, 1.6, (height, width)).astype(np.float32)
    for sign in (1, -1):
        mask = _mask(rng.choice(KINDS), height, width, rng) & (rng.random((height, width)) < rng.uniform(0.5, 1))
        z[mask] = sign * rng.uniform(1.71, 3.4, int(mask.sum()))
    z[rng.random((height, width)) < 0.05] = np.nan
    return z


def joined(z: NDArray[np.float32], tiles: list[Any], min_area: int, *, both: bool) -> tuple[NDArray[Any], JoinedBlobs]:
    """The blobs of an image cut into tiles, and their ids."""
    zeros = np.zeros(z.shape, np.float32)
    image = np.zeros(z.shape, np.int32)
    parts = []
    for tile in tiles:
        mean, count = window(zeros + 700, tile), window(zeros, tile)
        evidence = Evidence.of_scores(window(z, tile), mean, window(700 - 10 * np.nan_to_num(z), tile), count)
        parts.append(find_fragments(evidence, low=LOW, high=HIGH, min_area=min_area, origin=tile[:2], both=both))
    whole = join_fragments([crossed(part.table) for part in parts])
    for part, tile, ids in zip(parts, tiles, whole.blob_ids, strict=True):
        window(image, tile)[...] = ids[part.labels]
    return image, whole


def drops_and_rises(z: NDArray[np.float32], min_area: int) -> tuple[NDArray[Any], NDArray[np.void]]:
    """Both directions, each found on its own; ids in the order of first pixels."""
    tile = [(0, 0, *z.shape)]
    drops, of_drops = joined(z, tile, min_area, both=False)
    rises, of_rises = joined(-z, tile, min_area, both=False)
    below = of_rises.blobs.copy()
    for name in ("z_max", "z_sum", "drop_sum"):
        below[name] *= -1
    blobs = np.concatenate([of_drops.blobs, below])
    order = np.lexsort((blobs["first_column"], blobs["first_row"]))
    rank = np.zeros(len(blobs) + 1, np.int64)
    rank[order + 1] = np.arange(1, len(blobs) + 1)
    blobs = blobs[order]
    blobs["id"] = np.arange(1, len(blobs) + 1)
    moved = np.where(rises > 0, rises + len(of_drops.blobs), drops)
    return rank[moved], blobs


@settings(deadline=None, max_examples=80)
@given(data=st.data(), seed=st.integers(0, 2**32 - 1), min_area=st.sampled_from([0, 2, 8]))
def test_both_finds_what_each_direction_finds_alone_however_the_image_is_cut(
    data: st.DataObject, seed: int, min_area: int
) -> None:
    height, width = np.random.default_rng(seed).integers(1, 22, 2).tolist()
    z = signed_scores(seed, height, width)
    expected, blobs = drops_and_rises(z, min_area)
    image, found = joined(z, data.draw(tilings(height, width)), min_area, both=True)
    np.testing.assert_array_equal(image, expected)
    np.testing.assert_array_equal(found.blobs, blobs)


@pytest.mark.parametrize("cut", [8, 6, 3])
def test_a_rise_beside_a_drop_is_another_patch(cut: int) -> None:
    """They share an edge on the left, and touch at a corner on the right; the cut runs through them or between."""
    z = np.zeros((6, 8), np.float32)
    z[1:3, 0:6], z[3:5, 0:3], z[3:5, 6:8] = 4, -5, -6
    tiles = [(0, 0, 6, cut), *([(0, cut, 6, 8)] if cut < 8 else [])]
    image, found = joined(z, tiles, 1, both=True)
    assert found.blobs["z_max"].tolist() == [4000, -5000, -6000]
    assert found.blobs["area"].tolist() == [12, 6, 4]
    assert (image[z > 0] == 1).all()
    assert (np.sign(z) == np.select([image == 1, image > 1], [1, -1])).all()
    rows = [(0, 0, 3, 8), (3, 0, 6, 8)]  # the seam between the drop and the rises
    np.testing.assert_array_equal(joined(z, rows, 1, both=True)[0], image)


def stacked(seed: int) -> tuple[Moments, NDArray[np.int16]]:
    """A quiet scene, and an image of it with a drop and a rise side by side."""
    rng = np.random.default_rng(seed)
    moments = Moments.of_images(rng.normal(500, 30, (25, 40, 40)).astype(np.int16), -1)
    image = rng.normal(500, 30, (40, 40)).astype(np.int16)
    image[5:20, 5:20], image[5:20, 20:35] = 200, 800
    return moments, image


@pytest.mark.parametrize("centred", [False, True])
def test_each_direction_finds_its_own(centred: bool) -> None:
    moments, image = stacked(1)
    base = replace(STANDARD, steps=STANDARD.steps if centred else ())

    def found(direction: Any) -> ImageChange:
        return detect_against(moments, image, replace(base, direction=direction), nodata=-1)

    drop, rise, both = found("drop"), found("rise"), found("both")
    assert (drop.blob_ids[5:20, 5:20] == 1).all()
    assert (rise.blob_ids[5:20, 20:35] == 1).all()
    assert len(drop.blobs) == len(rise.blobs) == 1
    assert not (drop.blob_ids > 0)[:, 22:].any()
    assert not (rise.blob_ids > 0)[:, :18].any()
    np.testing.assert_array_equal(both.score.z, drop.score.z)
    if not centred:
        np.testing.assert_array_equal(rise.score.z, -drop.score.z)
    np.testing.assert_array_equal(both.blob_ids > 0, (drop.blob_ids > 0) | (rise.blob_ids > 0))
    assert len(both.blobs) == 2
    assert both.blobs["drop_sum"].tolist()[0] > 0 > both.blobs["drop_sum"].tolist()[1]
    assert rise.blobs["drop_sum"][0] < 0 < rise.blobs["z_max"][0]
    assert both.blobs["z_max"].tolist()[0] > 0 > both.blobs["z_max"].tolist()[1]
    assert {1, 2} == set(both.outlines)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), name=st.sampled_from(sorted(METHODS)))
def test_the_methods_steps_count_for_both_as_for_each(seed: int, name: str) -> None:
    rng = np.random.default_rng(seed)
    moments = Moments.of_images(rng.normal(500, 30, (12, 30, 30)).astype(np.int16), -1)
    image = (500 + 90 * np.repeat(np.repeat(rng.normal(size=(6, 6)), 5, 0), 5, 1)).astype(np.int16)
    image[rng.random(image.shape) < 0.05] = -1

    def found(direction: Any) -> NDArray[np.bool_]:
        change = detect_against(moments, image, replace(METHODS[name], direction=direction), nodata=-1)
        return np.asarray(change.blob_ids > 0)

    np.testing.assert_array_equal(found("both"), found("drop") | found("rise"))
    assert found("both").any()


def test_the_default_direction_is_not_recorded_and_another_is() -> None:
    """So that existing results keep their ids."""
    assert not {"direction", "transform"} & STANDARD.recorded().keys()
    other = replace(STANDARD, direction="both", transform="log")
    assert Detection.of(other.recorded()) == other
    assert (other.recorded()["direction"], other.recorded()["transform"]) == ("both", "log")


@pytest.mark.parametrize("given", [{"direction": "up"}, {"transform": "sqrt"}])
def test_an_unknown_direction_or_transform_is_refused_by_name(given: dict[str, str]) -> None:
    with pytest.raises(AcdError, match=next(iter(given))) as refused:
        Detection.of(given)
    assert refused.value.code is ErrorCode.SETTING_INVALID
