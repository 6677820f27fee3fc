"""Fusion gives the same findings in any order, and says what each member knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry.base import BaseGeometry

from acdtask.change.fusion import FUSING, Candidate, Finding, WindowImage, fuse, sample_points, windows_of
from acdtask.change.judgement.model import CERTAIN

PIXEL = 2e-4
START = datetime(2021, 6, 1, tzinfo=UTC)


def everywhere(member: int, outline: BaseGeometry) -> bool:
    del member, outline
    return True


def nowhere(member: int, outline: BaseGeometry) -> bool:
    del member, outline
    return False


def square(column: float, row: float, side: float) -> BaseGeometry:
    west, south = 7 + column * PIXEL, 50 + row * PIXEL
    return shapely.box(west, south, west + side * PIXEL, south + side * PIXEL)


boxes = st.builds(square, st.integers(0, 20), st.integers(0, 20), st.integers(1, 8))
candidates = st.lists(st.builds(Candidate, st.integers(0, 2), boxes, st.integers(1, CERTAIN - 1)), max_size=14)


def said(findings: Sequence[Finding]) -> list[tuple[object, ...]]:
    return [(f.outline.wkb, f.probability, f.members, f.absent, f.unseen, f.digest) for f in findings]


@given(candidates, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_candidates_changes_nothing(found: list[Candidate], random: Random) -> None:
    shuffled = list(found)
    random.shuffle(shuffled)
    assert said(fuse(shuffled, 3, everywhere)) == said(fuse(found, 3, everywhere))


@given(candidates, st.permutations(range(3)))
@settings(deadline=None)
def test_the_order_of_members_changes_neither_outlines_nor_probabilities(
    found: list[Candidate], numbers: list[int]
) -> None:
    renamed = [replace(candidate, member=numbers[candidate.member]) for candidate in found]
    outlines = [(f.outline.wkb, f.probability) for f in fuse(found, 3, everywhere)]
    assert [(f.outline.wkb, f.probability) for f in fuse(renamed, 3, everywhere)] == outlines


@given(candidates)
@settings(deadline=None)
def test_every_candidate_is_in_one_finding(found: list[Candidate]) -> None:
    findings = fuse(found, 3, everywhere)
    assert sorted(position for finding in findings for position in finding.candidates) == [*range(len(found))]
    for finding in findings:
        assert {found[position].member for position in finding.candidates} == set(finding.members)
        assert sorted((*finding.members, *finding.absent, *finding.unseen)) == [0, 1, 2]
        assert finding.outline.is_valid


@given(st.lists(st.builds(Candidate, st.just(1), boxes, st.integers(1, CERTAIN - 1)), max_size=8))
@settings(deadline=None)
def test_a_member_alone_keeps_its_candidates_as_they_are(found: list[Candidate]) -> None:
    findings = fuse(found, 2, nowhere)
    kept = sorted((candidate.probability, candidate.outline.area) for candidate in found)
    assert sorted((finding.probability, finding.outline.area) for finding in findings) == kept
    assert all(finding.unseen == (0,) for finding in findings)


@pytest.mark.parametrize(("others", "rises"), [([5000], True), ([50], False), ([5000, 5000], True)])
def test_a_probable_candidate_of_another_member_raises_the_probability_and_an_improbable_one_lowers_it(
    others: list[int], *, rises: bool
) -> None:
    found = [Candidate(member, square(0, 0, 5), p) for member, p in enumerate([5000, *others])]
    (finding,) = fuse(found, len(found), everywhere)
    assert (finding.probability > 5000) is rises


def test_more_members_make_more_certain() -> None:
    probabilities = [FUSING.probability([6000] * members, 0) for members in (1, 2, 3)]
    assert probabilities == sorted(set(probabilities))


def test_probabilities_are_never_certain() -> None:
    assert FUSING.probability([9999, 9999, 9999], 0) == CERTAIN - 1
    assert FUSING.probability([1, 1, 1], 0) == 1


def test_a_member_that_saw_nothing_is_absent_and_one_without_data_is_unseen() -> None:
    west, east = square(0, 0, 4), square(12, 0, 4)

    def sees(member: int, outline: BaseGeometry) -> bool:
        del member
        return bool(outline.bounds[0] < 7 + 6 * PIXEL)

    of_west, of_east = fuse([Candidate(0, west, 7000), Candidate(0, east, 7000)], 2, sees)
    assert (of_west.absent, of_west.unseen) == ((1,), ())
    assert (of_east.absent, of_east.unseen) == ((), (1,))
    assert of_east.probability == 7000
    fewer = replace(FUSING, absence=1.0)
    assert fuse([Candidate(0, west, 7000)], 2, sees, fewer)[0].probability < 7000


def test_an_improbable_candidate_does_not_widen_the_outline() -> None:
    found = [Candidate(0, square(0, 0, 4), 8000), Candidate(1, square(0, 0, 8), 100)]
    (finding,) = fuse(found, 2, everywhere)
    assert finding.outline.equals(found[0].outline)


def test_candidates_that_hardly_overlap_stay_apart() -> None:
    found = [Candidate(0, square(0, 0, 10), 8000), Candidate(1, square(9, 9, 10), 8000)]
    assert len(fuse(found, 2, everywhere)) == 2


def test_candidates_of_one_member_are_joined_by_one_of_another() -> None:
    found = [
        Candidate(0, square(0, 0, 3), 8000),
        Candidate(0, square(6, 0, 3), 6000),
        Candidate(1, square(0, 0, 9), 7000),
    ]
    (finding,) = fuse(found, 2, everywhere)
    assert finding.candidates == (0, 2, 1)


def test_no_candidates_are_no_findings() -> None:
    assert fuse([], 2, everywhere) == []


def test_an_outline_whose_rings_cross_is_repaired() -> None:
    bow = shapely.Polygon([(7, 50), (7.002, 50.002), (7.002, 50), (7, 50.002)])
    (finding,) = fuse([Candidate(0, bow, 8000), Candidate(1, square(0, 0, 9), 8000)], 2, everywhere)
    assert finding.outline.is_valid


def test_outlines_are_counter_clockwise_outside() -> None:
    found = [Candidate(0, shapely.reverse(square(0, 0, 5)), 8000), Candidate(1, square(2, 2, 5), 8000)]
    (finding,) = fuse(found, 2, everywhere)
    assert all(shapely.is_ccw(part.exterior) for part in shapely.get_parts(finding.outline))


@given(boxes)
def test_sample_points_lie_in_the_outline(outline: BaseGeometry) -> None:
    assert shapely.covers(outline, shapely.points(sample_points(outline))).all()


images = st.lists(
    st.builds(lambda member, day: WindowImage(member, START + timedelta(days=day), f"{day:03}"),
              st.integers(0, 2), st.integers(0, 60)),
    max_size=30,
    unique=True,
)  # fmt: skip


@given(images, st.randoms(use_true_random=False), st.floats(0, 20))
def test_windows_hold_each_image_once_and_each_member_at_most_once(
    found: list[WindowImage], random: Random, days: float
) -> None:
    windows = windows_of(found, days)
    assert sorted(map(repr, (image for window in windows for image in window))) == sorted(map(repr, found))
    for window in windows:
        assert len({image.member for image in window}) == len(window)
        assert window[-1].datetime - window[0].datetime <= timedelta(days=days)
    shuffled = list(found)
    random.shuffle(shuffled)
    assert windows_of(shuffled, days) == windows


@given(images, st.integers(61, 90))
def test_a_later_image_changes_the_last_window_only(found: list[WindowImage], day: int) -> None:
    later = WindowImage(0, START + timedelta(days=day), f"{day:03}")
    before, after = windows_of(found, 6), windows_of([*found, later], 6)
    assert after[: len(before) - 1] == before[:-1] if before else len(after) == 1


def test_two_polarisations_of_a_day_are_a_window() -> None:
    found = [WindowImage(member, START + timedelta(days=6 * k), str(k)) for k in range(3) for member in (0, 1)]
    assert [len(window) for window in windows_of(found, 0)] == [2, 2, 2]


def test_sample_points_of_a_thin_outline_are_not_empty() -> None:
    assert len(sample_points(shapely.Polygon([(7, 50), (8, 50.0001), (7, 50.00001)]))) >= 1
    assert np.isfinite(sample_points(square(0, 0, 1))).all()
