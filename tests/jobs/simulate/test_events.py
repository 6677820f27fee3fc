from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.simulate.events import GAP, LATTICE, MAX_AREA, MIN_AREA, Event
from acdtask.jobs.simulate.land import Cover
from acdtask.jobs.simulate.scene import Scene, SceneSettings

SMALL = SceneSettings(size=192, events=6, reference_pairs=6, monitored_pairs=5)


@pytest.fixture(scope="module")
def full() -> Scene:
    return Scene(SceneSettings())


@pytest.fixture(scope="module")
def truth(full: Scene) -> list[Event]:
    return full.truth()


def test_the_usual_scene_has_at_least_forty_events_of_both_kinds(truth: list[Event]) -> None:
    assert len(truth) == 44
    assert [event.id for event in truth] == [f"E{number:03d}" for number in range(1, 45)]
    assert sum(event.kind == "flood" for event in truth) == 14
    assert sum(event.kind == "abrupt" for event in truth) == 30


def test_areas_span_the_range_that_is_promised(truth: list[Event]) -> None:
    areas = [event.area_px for event in truth]
    assert min(areas) >= MIN_AREA
    assert max(areas) <= MAX_AREA
    assert min(areas) < 100
    assert max(areas) > 1000


def test_a_quarter_of_the_events_lie_across_tile_edges(full: Scene, truth: list[Event]) -> None:
    lines = full.settings.lattice_lines(LATTICE)
    crossing = [event for event in truth if event.crosses(lines)]
    assert len(crossing) >= max(10, len(truth) / 4)
    for event in crossing:  # counted once more on the ground, cell by cell
        easting = full.settings.easting + full.settings.pixel * event.columns
        northing = full.settings.northing - full.settings.pixel * event.rows
        extent = LATTICE * full.settings.pixel
        cells = set(zip(easting // extent, -northing // extent, strict=True))
        assert len(cells) > 1
    assert any(event.crosses(full.settings.lattice_lines(512)) for event in truth)


def test_events_show_in_monitored_pairs_only_and_floods_in_several(full: Scene, truth: list[Event]) -> None:
    settings = full.settings
    for event in truth:
        length = event.last_pair - event.first_pair + 1
        assert settings.reference_pairs <= event.first_pair <= event.last_pair < settings.pairs
        assert length in ((1,) if event.kind == "abrupt" else (2, 3, 4))
        assert event.start_date == settings.pair_dates(event.first_pair)[1]
        assert event.end_date == settings.pair_dates(event.last_pair)[1]
        assert 0.05 <= event.factor <= 0.45
    assert len({event.first_pair for event in truth}) > 5


def test_events_keep_off_water_nodata_the_edge_and_mostly_forest(full: Scene, truth: list[Event]) -> None:
    for event in truth:
        mask = event.mask(full.settings.shape)
        assert mask.sum() == event.area_px
        cover = full.land.cover[mask]
        assert not (cover == Cover.WATER).any()
        assert (cover == Cover.FOREST).mean() <= 0.5
        assert (cover == event.cover).sum() == np.bincount(cover).max()
        for pair in range(event.first_pair, event.last_pair + 1):
            assert full.valid(pair)[mask].all()
        assert not mask[[0, -1]].any()
        assert not mask[:, [0, -1]].any()


def test_events_of_the_same_pair_do_not_touch(full: Scene, truth: list[Event]) -> None:
    for pair in range(full.settings.reference_pairs, full.settings.pairs):
        near = np.zeros(full.settings.shape, np.int32)
        for event in truth:
            if event.first_pair <= pair <= event.last_pair:
                mask = event.mask(full.settings.shape)
                assert not near[mask].any()
                near |= ndimage.maximum_filter(mask, 2 * GAP + 1)


def test_shapes_are_one_piece_without_holes_and_no_discs(truth: list[Event]) -> None:
    excess = []
    for event in truth:
        mask = np.pad(event.mask((1024, 1024))[event.window], 1)
        assert ndimage.label(mask)[1] == 1
        assert ndimage.label(~mask, np.ones((3, 3)))[1] == 1
        rows, columns = np.nonzero(mask)
        spread = rows.var() + columns.var()
        excess.append(spread / (event.area_px / (2 * np.pi)))  # 1 for a disc
    assert min(excess) > 0.95
    assert np.median(excess) > 1.15
    assert max(excess) > 1.4


def test_an_event_lowers_its_pairs_by_its_factor_and_nothing_else() -> None:
    scene = Scene(SMALL)
    quiet = Scene(SMALL.model_copy(update={"events": 0}))
    for pair in range(SMALL.pairs):
        expected = quiet.coherence(pair)
        near = np.zeros(SMALL.shape, np.bool_)
        for event in scene.truth():
            if event.first_pair <= pair <= event.last_pair:
                expected[event.rows, event.columns] *= np.float32(event.factor)
                near |= ndimage.maximum_filter(event.mask(SMALL.shape), SMALL.window)
        assert np.allclose(scene.coherence(pair), expected, atol=1e-6)
        assert (scene.image(pair) == quiet.image(pair))[~near].all()


def test_an_event_is_seen_in_the_image_of_its_pairs_and_not_before_or_after() -> None:
    scene = Scene(SMALL)
    quiet = Scene(SMALL.model_copy(update={"events": 0}))
    for event in scene.truth():
        mask = event.mask(SMALL.shape)
        for pair in range(SMALL.pairs):
            valid = mask & scene.valid(pair)
            others = [e for e in scene.truth() if e is not event and e.first_pair <= pair <= e.last_pair]
            if any(e.mask(SMALL.shape)[valid].any() for e in others):
                continue
            change = scene.image(pair)[valid].mean() / quiet.image(pair)[valid].mean() if valid.any() else 1.0
            if event.first_pair <= pair <= event.last_pair:
                assert change < 0.85, event.id
            else:
                assert change > 0.9, event.id


def test_the_first_events_stay_when_more_are_asked_for() -> None:
    few, more = Scene(SMALL.model_copy(update={"events": 3})), Scene(SMALL)
    for a, b in zip(few.truth(), more.truth(), strict=False):
        assert (a.id, a.kind, a.factor, a.first_pair) == (b.id, b.kind, b.factor, b.first_pair)
        assert (a.rows == b.rows).all()


def test_a_single_monitored_pair_has_abrupt_changes_only() -> None:
    scene = Scene(SceneSettings(size=256, events=4, reference_pairs=0, monitored_pairs=1))
    assert {event.kind for event in scene.truth()} == {"abrupt"}


def test_too_many_events_for_the_scene_are_refused_with_the_number_that_fits() -> None:
    crowded = Scene(SceneSettings(size=64, events=60, reference_pairs=1, monitored_pairs=1))
    with pytest.raises(AcdError, match="events: 60 do not fit into a scene of 64 px") as caught:
        crowded.truth()
    assert caught.value.code is ErrorCode.SETTING_INVALID
