"""Candidates and their rings are summed the same however the image is cut, and judged by what they did before."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from acdtask.change.detect import detect_against
from acdtask.change.evidence import Evidence
from acdtask.change.fragments import FIXED, Fragments, find_fragments
from acdtask.change.judgement.choice import IMPROBABLE, chosen, false_accepted
from acdtask.change.judgement.features import FEATURES, UNKNOWN, CoherenceScale, contrasts_of, features_of
from acdtask.change.judgement.footprints import FAR, NEAR, Footprints, footprints_of
from acdtask.change.judgement.judge import NO_DATE, judge
from acdtask.change.judgement.judging import Judging
from acdtask.change.judgement.model import CERTAIN, Model, Term, fit
from acdtask.change.judgement.sums import GROUND, SUMS, BlobSums, add_sums, ground_sums, image_sums
from acdtask.change.judgement.whole import sums_of_image
from acdtask.change.methods import (
    PROFILES,
    ROBUST,
    STANDARD,
    detection_for,
)
from acdtask.change.moments import Moments
from acdtask.change.seams import BLOB, join_fragments, neighbours_within
from acdtask.change.thresholds import Detection
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.grid import Window

NODATA = -1
RULE = Model(-1.0, (Term("exceeds_past", 2.0, 1.0, 0.5),))


def blobs_in(rng: np.random.Generator, height: int, width: int) -> NDArray[np.int32]:
    """Rectangles with ids, which may touch, overlap and reach the rim."""
    ids = np.zeros((height, width), np.int32)
    for number in range(1, int(rng.integers(1, 7))):
        row, column = int(rng.integers(0, height)), int(rng.integers(0, width))
        ids[row : row + int(rng.integers(1, 7)), column : column + int(rng.integers(1, 7))] = number
    return ids


def members_of(footprints: Footprints) -> set[tuple[int, bool, int]]:
    """(blob, whether in the ring, index)."""
    ids = footprints.ids[footprints.blob].tolist()
    return set(zip(ids, footprints.in_ring.tolist(), footprints.index.tolist(), strict=True))


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_ring_has_the_pixels_that_are_near_its_blob_and_at_no_blob(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 24, 2).tolist()
    ids, judged = blobs_in(rng, height, width), rng.random((height, width)) < 0.9
    expected: set[tuple[int, bool, int]] = set()
    rows, columns = np.indices(ids.shape)
    for row, column in np.ndindex(ids.shape):
        distance = (rows - row) ** 2 + (columns - column) ** 2
        index = row * width + column
        if ids[row, column]:
            expected.add((int(ids[row, column]), False, index))
        elif judged[row, column] and not (ids[distance <= NEAR**2] > 0).any():
            expected |= {(int(blob), True, index) for blob in np.unique(ids[distance <= FAR**2]) if blob}
    found = footprints_of(np.pad(ids, FAR), judged)
    assert members_of(found) == expected
    assert len(found.index) == len(expected), "no pixel is counted twice"
    assert found.ids.tolist() == sorted({blob for blob, _, _ in expected})
    padded, steps = np.pad(ids, 1), ((1, 0), (-1, 0), (0, 1), (0, -1))
    inner = [
        all(padded[row + 1 + down, column + 1 + across] == ids[row, column] for down, across in steps)
        for row, column in np.ndindex(ids.shape)
    ]
    counts = np.bincount(ids.ravel()[np.array(inner, bool)], minlength=8)
    assert found.core_px.tolist() == [int(counts[blob]) for blob in found.ids]


def cuts(rng: np.random.Generator, size: int) -> list[tuple[int, int]]:
    """Intervals that cut a length into parts of any size."""
    at = sorted({0, size, *rng.integers(0, size + 1, int(rng.integers(0, 4))).tolist()})
    return list(pairwise(at))


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_sums_of_tiles_add_up_to_those_of_the_image(seed: int) -> None:
    rng = np.random.default_rng(seed)
    (height, width), images = rng.integers(1, 40, 2).tolist(), 4
    ids, judged = blobs_in(rng, height, width), rng.random((height, width)) < 0.9
    stack = rng.integers(0, 1000, (images, height, width)).astype(np.int16)
    stack[rng.random(stack.shape) < 0.1] = NODATA
    mean = rng.uniform(200, 900, (height, width)).astype(np.float32)
    std = rng.uniform(5, 90, (height, width)).astype(np.float32)
    count = rng.integers(20, 60, (height, width))

    def sums(rows: tuple[int, int], columns: tuple[int, int]) -> BlobSums:
        here = slice(*rows), slice(*columns)
        grown = np.pad(ids, FAR)[rows[0] : rows[1] + 2 * FAR, columns[0] : columns[1] + 2 * FAR]
        members = footprints_of(grown, judged[here])
        parts = image_sums(stack[:, *here], mean[here], std[here], members, nodata=NODATA)
        return BlobSums(members.ids, ground_sums(mean[here], count[here], members), parts)

    whole = sums((0, height), (0, width))
    tiles = [sums(rows, columns) for rows in cuts(rng, height) for columns in cuts(rng, width)]
    order = rng.permutation(len(tiles)).tolist()
    added = add_sums([tiles[number] for number in order], images)
    np.testing.assert_array_equal(added.ids, whole.ids)
    np.testing.assert_array_equal(added.ground, whole.ground)
    np.testing.assert_array_equal(added.images, whole.images)
    for blob, of_blob in zip(whole.ids.tolist(), whole.images, strict=True):
        known = (ids == blob) & (stack[0] != NODATA)
        z = np.rint((mean[known].astype(float) - stack[0][known]) / std[known].astype(float) * FIXED)
        drop = mean[known].astype(float) - stack[0][known]
        of_drop = [int(np.rint(drop * FIXED).sum()), int((np.rint(drop) ** 2).sum())]
        assert of_blob[0, 0].tolist() == [int(known.sum()), int(z.sum()), *of_drop]


def test_the_ground_of_a_blob_and_of_its_ring_is_summed_apart() -> None:
    ids = np.zeros((20, 20), np.int32)
    ids[8:12, 8:12] = 1
    mean = np.full((20, 20), 500, np.float32)
    mean[8:12, 8:10], mean[8:12, 10:12], mean[0:8] = 300.4, 700, 600
    members = footprints_of(np.pad(ids, FAR), np.ones(ids.shape, np.bool_))
    (ground,) = ground_sums(mean, np.full(ids.shape, 60), members)
    ring = mean.ravel()[members.index[members.in_ring]].astype(float)
    assert set(ring.tolist()) == {500, 600}
    inside = [4, 16 * 60, 8 * 300_400 + 8 * 700_000, 8 * 300**2 + 8 * 700**2]
    assert ground.tolist() == [*inside, len(ring), int(ring.sum()) * FIXED, int((ring**2).sum())]


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1))
def test_windows_of_a_tile_add_up_to_the_tile(seed: int) -> None:
    rng = np.random.default_rng(seed)

    height, width = rng.integers(1, 40, 2).tolist()
    ids, judged = blobs_in(rng, height, width), np.ones((height, width), np.bool_)
    members = footprints_of(np.pad(ids, FAR), judged)
    image = rng.integers(0, 1000, (1, height, width)).astype(np.int16)
    mean, std = np.full((height, width), 700, np.float32), np.full((height, width), 30, np.float32)
    total = np.zeros_like(image_sums(image, mean, std, members, nodata=NODATA))
    for top, bottom in cuts(rng, height):
        for left, right in cuts(rng, width):
            window = Window(row=top, column=left, height=bottom - top, width=right - left)
            within, here = members.within(window, width), window.slices
            total += image_sums(image[:, *here], mean[here], std[here], within, nodata=NODATA)
    np.testing.assert_array_equal(total, image_sums(image, mean, std, members, nodata=NODATA))


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1))
def test_each_tile_is_told_of_the_blobs_around_it(seed: int) -> None:
    """Blobs over many tiles, tiles smaller than the ring is far, tiles that are missing."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(4, 40, 2).tolist()
    z = np.where(blobs_in(rng, height, width) > 0, 5.0, 0.0).astype(np.float32)
    places = [(rows, columns) for rows in cuts(rng, height) for columns in cuts(rng, width) if rng.random() < 0.9]
    parts: list[Fragments] = []
    for (top, bottom), (left, right) in places:
        here = z[top:bottom, left:right]
        evidence = Evidence(here, here, here, here.astype(np.float64), np.full(here.shape, 30))
        parts.append(find_fragments(evidence, low=1, high=2, min_area=2, origin=(top - 7, left + 9)))
    tables = [part.table for part in parts]
    ids = join_fragments(tables).blob_ids
    whole = np.zeros((height + 2 * FAR, width + 2 * FAR), np.int32)
    for part, of_tile, ((top, bottom), (left, right)) in zip(parts, ids, places, strict=True):
        whole[top + FAR : bottom + FAR, left + FAR : right + FAR] = of_tile[part.labels]
    for number, others in enumerate(neighbours_within(tables, ids, FAR)):
        assert number not in others
        (top, bottom), (left, right) = places[number]
        known = np.zeros_like(whole)
        for other in (number, *others):
            (row, end_row), (column, end_column) = places[other]
            known[row + FAR : end_row + FAR, column + FAR : end_column + FAR] = ids[other][parts[other].labels]
        grown = slice(top, bottom + 2 * FAR), slice(left, right + 2 * FAR)
        np.testing.assert_array_equal(known[grown], whole[grown])


def test_a_contrast_needs_data_in_half_of_the_blob() -> None:
    images = np.zeros((1, 4, 2, len(SUMS)), np.int64)
    images[0, :, 0, 0] = [10, 5, 4, 10]
    images[0, :, 0, 1] = [10_000, 20_000, 90_000, 40_000]
    images[0, :, 1, :2] = [[2, 1_000], [2, 0], [2, 0], [0, 0]]
    sums = BlobSums(np.array([1], np.int32), np.zeros((1, len(GROUND)), np.int64), images)
    found = contrasts_of(sums, np.array([10]), drop=False)
    assert found.past.tolist() == [[500, 4000, UNKNOWN]]
    assert found.now.tolist() == [4000], "without a ring, the drop of the blob itself"
    assert (found.largest().tolist(), found.largest(2).tolist()) == ([4000], [500])
    assert found.date_of_largest().tolist() == [1]
    assert found.largest(4).tolist() == [UNKNOWN]


SCALE = CoherenceScale.of((0, 1000), ROBUST.steps)


def worked_field(*, worked_before: bool) -> np.void:
    """The judgement of a square that falls by 0.2; it may have fallen by as much in the 13th image before."""
    rng = np.random.default_rng(5)
    stack = rng.normal(700, 40, (30, 64, 64)).astype(np.int16)
    stack[:, 20:30, 20:30] -= (rng.random((30, 1, 1)) * 10).astype(np.int16)
    if worked_before:
        stack[12, 20:30, 20:30] -= 190
    image = rng.normal(700, 40, (64, 64)).astype(np.int16)
    image[20:30, 20:30] -= 200
    moments = Moments.of_images(stack, NODATA)
    change = detect_against(moments, image, ROBUST, nodata=NODATA)
    sums = sums_of_image(change, stack, image, moments, nodata=NODATA)
    judged = judge(change.blobs, sums, RULE, SCALE, accepted=CERTAIN // 2)
    row: np.void = judged[np.argmax(change.blobs["area"])]
    return row


def test_a_drop_that_has_happened_before_is_rejected_and_a_first_one_is_kept() -> None:
    again, first = worked_field(worked_before=True), worked_field(worked_before=False)
    assert not again["kept"]
    assert first["kept"]
    assert again["past_date"] == 12
    # The candidate reaches a little over the square, so it fell by a little less on average.
    assert 120 * FIXED < again["past_contrast"] < 190 * FIXED
    assert 120 * FIXED < again["contrast"] < 200 * FIXED
    assert first["past_contrast"] < 30 * FIXED
    assert abs(int(first["ring"])) < 20 * FIXED


def test_without_images_before_nothing_is_known_of_the_past() -> None:
    ground, images = np.ones((1, len(GROUND)), np.int64), np.ones((1, 1, 2, len(SUMS)), np.int64)
    sums = BlobSums(np.array([1], np.int32), ground, images)

    blobs = np.ones(1, BLOB)
    (row,) = judge(blobs, sums, RULE, SCALE, accepted=0)
    assert (row["past_date"], row["past_contrast"]) == (NO_DATE, 0)
    assert all(math.isfinite(values[0]) for values in features_of(blobs, sums, SCALE).values())


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, CERTAIN), max_size=30), st.integers(0, 20 * CERTAIN))
def test_the_most_probable_are_kept_and_one_more_would_be_too_many(ten_thousandths: list[int], accepted: int) -> None:
    probabilities = np.array(ten_thousandths, np.int64)
    kept = chosen(probabilities, accepted)
    assert (CERTAIN - probabilities[kept]).sum() <= accepted
    assert not kept.any() or probabilities[kept].min() >= IMPROBABLE
    probable = ~kept & (probabilities >= IMPROBABLE)
    if probable.any():
        best = probabilities[probable].max()
        assert not kept.any() or probabilities[kept].min() >= best
        assert (CERTAIN - probabilities[kept]).sum() + CERTAIN - best > accepted
    assert false_accepted(1000, 1e-4 * accepted) == accepted


def test_in_a_small_area_the_threshold_of_large_ones_decides() -> None:
    probabilities = np.array([9999, 8000, 300])
    assert chosen(probabilities, 10, sure=5000).tolist() == [True, True, False]
    assert chosen(probabilities, 10).tolist() == [True, False, False]
    assert chosen(probabilities, CERTAIN, sure=100).tolist() == [True, True, False], "a large area has its own sum"


def test_a_fit_finds_the_model_that_made_the_data_and_is_the_same_in_any_order() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(3, 2, 20_000), rng.normal(0, 1, 20_000)
    truth = Model(-1.0, (Term("x", 2.0, 3.0, 2.0), Term("y", -0.5, 0.0, 1.0)))
    probability = truth.probabilities({"x": x, "y": y}) / CERTAIN
    is_change = rng.random(20_000) < probability
    found = fit({"x": x, "y": y}, is_change)
    again = fit({"x": x[::-1], "y": y[::-1]}, is_change[::-1])
    assert found == again
    assert found.intercept == pytest.approx(-1.0, abs=0.1)
    assert [term.weight for term in found.terms] == pytest.approx([2.0, -0.5], abs=0.1)
    np.testing.assert_allclose(found.probabilities({"x": x, "y": y}) / CERTAIN, probability, atol=0.03)
    with pytest.raises(ValueError, match="both kinds"):
        fit({"x": x}, np.zeros(len(x), np.bool_))


def test_a_method_records_its_judgement_and_others_record_none() -> None:
    assert Detection.of(ROBUST.recorded()) == ROBUST
    assert not set(Judging.names()) & (STANDARD.recorded().keys() | PROFILES["tutorial"].recorded().keys())
    changed = detection_for("robust", (0, 1000), 0.001, {"false_per_1000km2": 5.0, "judged_by": "rule"})
    assert changed.judging == Judging(5.0, "rule")
    assert (changed.low, changed.high, changed.min_area) == (ROBUST.low, ROBUST.high, ROBUST.min_area)
    fewer = detection_for("robust", (0, 1000), 0.001, {"high": 2.0, "min_area": 50})
    assert (fewer.low, fewer.high, fewer.min_area, fewer.judging) == (ROBUST.low, 2.0, 50, Judging())


@pytest.mark.parametrize(
    ("profile", "given", "named"),
    [
        ("robust", {"low": 1.0}, "low"),
        ("standard", {"false_per_1000km2": 5.0}, "false_per_1000km2"),
        ("tutorial", {"judged_by": "rule"}, "judged_by"),
        ("robust", {"judged_by": "guess"}, "judged_by"),
        ("robust", {"false_per_1000km2": -1.0}, "false_per_1000km2"),
        ("robust", {"false_per_1000km2": math.inf}, "false_per_1000km2"),
    ],
)
def test_a_setting_without_effect_is_refused(profile: str, given: dict[str, object], named: str) -> None:
    with pytest.raises(AcdError, match=named) as caught:
        detection_for(profile, (0, 1000), 0.001, given)
    assert caught.value.code is ErrorCode.SETTING_INVALID


def test_every_feature_has_a_value() -> None:
    assert set(FEATURES) < set(features_of(np.zeros(0, BLOB), BlobSums.zeros(np.zeros(0, np.int32), 3), SCALE))


@pytest.mark.parametrize("unknown", [{"direction": "rise"}, {"direction": "both"}, {"transform": "arctanh"}])
def test_judgement_knows_only_drops_of_values_without_transform(unknown: dict[str, str]) -> None:
    with pytest.raises(AcdError) as caught:
        detection_for("robust", (0, 1000), 0.001, unknown)
    assert caught.value.code is ErrorCode.SETTING_INVALID
    assert detection_for("standard", (0, 1000), 0.001, unknown).judging is None  # the advised profile accepts them
