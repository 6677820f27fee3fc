"""The score, against cases computed by hand."""

from __future__ import annotations

from datetime import date

import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.report.score import DetectedPatch, KnownEvent, score

FIRST, SECOND, THIRD = date(2021, 8, 6), date(2021, 8, 12), date(2021, 8, 18)


def event(name: str, box: tuple[float, float, float, float], *dates: date, kind: str = "building") -> KnownEvent:
    return KnownEvent(name, kind, shapely.box(*box), dates)


def patch(name: str, day: date, *box: float) -> DetectedPatch:
    return DetectedPatch(name, day, shapely.box(*box))


def test_a_small_scene_is_scored_as_by_hand() -> None:
    events = [
        event("flood", (0, 0, 20, 20), FIRST, SECOND, kind="flood"),
        event("house", (100, 0, 110, 10), FIRST),
        event("shed", (200, 0, 207, 7), SECOND),
        event("later", (300, 0, 310, 10), THIRD),
    ]
    patches = [
        patch("P1", FIRST, 0, 0, 20, 10),
        patch("P2", FIRST, 105, 0, 115, 10),
        patch("P3", SECOND, 0, 0, 20, 5),
        patch("P4", SECOND, 400, 400, 410, 410),
    ]
    result = score(events, patches, [FIRST, SECOND])
    assert [found.id for found in result.found] == ["flood", "house"]
    assert [missed.id for missed in result.missed] == ["shed"]
    assert [found.id for found in result.counted] == ["flood", "house", "shed"]
    assert result.recall == pytest.approx(2 / 3)
    assert result.false_ids == ("P4",)
    assert result.matches == (("P1", ("flood",)), ("P2", ("house",)), ("P3", ("flood",)))
    assert [(day.date, day.events, day.found, day.patches, day.false_patches) for day in result.dates] == [
        (FIRST, 2, 2, 2, 0),
        (SECOND, 2, 0, 2, 1),
    ]
    assert result.date_recall == 0.5
    flood = next(scored for scored in result.events if scored.id == "flood")
    assert [(day.date, day.covered, day.found) for day in flood.dates] == [(FIRST, 0.5, True), (SECOND, 0.25, False)]
    assert result.area_recall == pytest.approx((200 + 50 + 100) / (400 + 100 + 400 + 49))
    assert result.area_precision == pytest.approx((200 + 50 + 100) / (200 + 100 + 100 + 100))
    assert [(row.label, row.events, row.found, row.patches, row.false_patches) for row in result.sizes] == [
        ("40 to 100", 1, 0, 0, 0),
        ("100 to 300", 1, 1, 4, 1),
        ("300 to 1000", 1, 1, 0, 0),
        ("1000 and more", 0, 0, 0, 0),
    ]
    assert [(row.kind, row.events, row.found) for row in result.kinds] == [("building", 2, 1), ("flood", 1, 1)]


@pytest.mark.parametrize(("width", "found"), [(3, True), (2.999, False)])
def test_an_event_is_found_from_thirty_percent_on(width: float, found: bool) -> None:
    result = score([event("E", (0, 0, 10, 10), FIRST)], [patch("P", FIRST, 0, 0, width, 10)], [FIRST])
    assert result.events[0].found is found


@pytest.mark.parametrize(("width", "false"), [(10, False), (10.01, True)])
def test_a_patch_is_false_below_ten_percent(width: float, false: bool) -> None:
    result = score([event("E", (0, 0, 1, 1), FIRST)], [patch("P", FIRST, 0, 0, width, 1)], [FIRST])
    assert bool(result.false_ids) is false


def test_several_patches_find_an_event_together_and_their_overlap_counts_once() -> None:
    events = [event("E", (0, 0, 10, 10), FIRST)]
    apart = [patch("P1", FIRST, 0, 0, 10, 2), patch("P2", FIRST, 0, 8, 10, 10)]
    assert score(events, apart, [FIRST]).events[0].dates[0].covered == 0.4
    twice = [patch("P1", FIRST, 0, 0, 10, 2), patch("P2", FIRST, 0, 0, 10, 2)]
    assert score(events, twice, [FIRST]).events[0].dates[0].covered == 0.2


def test_a_patch_on_a_date_on_which_the_event_does_not_show_is_false() -> None:
    result = score([event("E", (0, 0, 10, 10), FIRST)], [patch("P", SECOND, 0, 0, 10, 10)], [FIRST, SECOND])
    assert result.false_ids == ("P",)
    assert result.recall == 0.0


def test_touching_is_not_meeting() -> None:
    result = score([event("E", (0, 0, 10, 10), FIRST)], [patch("P", FIRST, 10, 0, 20, 10)], [FIRST])
    assert result.matches == ()


def test_an_event_without_data_is_neither_found_nor_missed() -> None:
    events = [event("E", (0, 0, 10, 10), FIRST), event("F", (50, 0, 60, 10), FIRST, SECOND)]
    result = score(events, [], [FIRST, SECOND], unseen={("E", FIRST), ("F", FIRST)})
    assert [counted.id for counted in result.counted] == ["F"]
    assert [day.events for day in result.dates] == [0, 1]
    assert [day.seen for day in result.events[1].dates] == [False, True]
    assert score(events, [], [FIRST], unseen={("E", FIRST), ("F", FIRST)}).area_recall is None


def test_sizes_are_in_pixels_whatever_the_unit_of_the_coordinates() -> None:
    in_pixels = score([event("E", (0, 0, 10, 10), FIRST)], [patch("P", FIRST, 0, 0, 10, 9)], [FIRST])
    in_metres = score([event("E", (0, 0, 200, 200), FIRST)], [patch("P", FIRST, 0, 0, 200, 180)], [FIRST], 400.0)
    assert in_pixels == in_metres
    assert in_pixels.sizes[0].patches == 1


def test_events_under_forty_pixels_have_a_row_of_their_own() -> None:
    result = score([event("E", (0, 0, 5, 5), FIRST)], [], [FIRST])
    assert (result.sizes[0].label, result.sizes[0].events) == ("under 40", 1)


def test_an_outline_that_touches_itself_is_measured_rightly() -> None:
    bow_tie = shapely.Polygon([(0, 0), (10, 10), (0, 10), (10, 0)])
    result = score([KnownEvent("E", "x", bow_tie, (FIRST,))], [patch("P", FIRST, 0, 0, 10, 10)], [FIRST])
    assert result.events[0].pixels == 50
    assert result.area_precision == 0.5


def test_nothing_against_nothing_has_no_recall() -> None:
    result = score([], [], [])
    assert (result.recall, result.date_recall, result.area_recall, result.area_precision) == (None, None, None, None)


def test_an_event_without_area_or_with_the_id_of_another_is_refused() -> None:
    with pytest.raises(AcdError, match="'E' has no area") as refused:
        score([KnownEvent("E", "x", shapely.LineString([(0, 0), (1, 1)]), (FIRST,))], [], [FIRST])
    assert refused.value.code is ErrorCode.TRUTH_UNREADABLE
    with pytest.raises(AcdError, match="two events have the id 'E'"):
        score([event("E", (0, 0, 1, 1), FIRST), event("E", (5, 5, 6, 6), FIRST)], [], [FIRST])


def test_a_patch_without_area_or_of_another_date_is_refused() -> None:
    with pytest.raises(ValueError, match="no area"):
        score([], [DetectedPatch("P", FIRST, shapely.Point(0, 0))], [FIRST])
    with pytest.raises(ValueError, match="not monitored"):
        score([], [patch("P", FIRST, 0, 0, 1, 1)], [SECOND])


boxes = st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(1, 12), st.integers(1, 12)).map(
    lambda box: shapely.box(box[0], box[1], box[0] + box[2], box[1] + box[3])
)


@settings(max_examples=40, deadline=None)
@given(st.data(), st.lists(boxes, max_size=6), st.lists(boxes, max_size=6))
def test_the_order_of_events_patches_and_dates_makes_no_difference(
    data: st.DataObject, shapes: list[shapely.Polygon], blobs: list[shapely.Polygon]
) -> None:
    events = [KnownEvent(f"E{n}", "box", shape, (FIRST, SECOND)[n % 2 :]) for n, shape in enumerate(shapes)]
    patches = [DetectedPatch(f"P{n}", (FIRST, SECOND)[n % 2], blob) for n, blob in enumerate(blobs)]
    shuffled = score(data.draw(st.permutations(events)), data.draw(st.permutations(patches)), [SECOND, FIRST, SECOND])
    assert shuffled == score(events, patches, [FIRST, SECOND])
    assert len(shuffled.matches) + len(shuffled.false_ids) == len(patches)
