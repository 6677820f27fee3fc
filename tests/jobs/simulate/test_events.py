from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.simulate.events import GAP, KINDS, LATTICE, SimulatedEvent
from acdtask.jobs.simulate.land import Cover
from acdtask.jobs.simulate.scene import Scene, SceneSettings

SMALL = SceneSettings(size=192, events=6, reference_pairs=6, monitored_pairs=5)


@pytest.fixture(scope="module")
def full() -> Scene:
    return Scene(SceneSettings())


@pytest.fixture(scope="module")
def truth(full: Scene) -> list[SimulatedEvent]:
    return full.truth()


def test_the_usual_scene_has_at_least_forty_events_of_every_kind(truth: list[SimulatedEvent]) -> None:
    assert len(truth) == 44
    assert [event.id for event in truth] == [f"E{number:03d}" for number in range(1, 45)]
    kinds = {kind: sum(event.kind == kind for event in truth) for kind in KINDS}
    assert kinds == {"abrupt": 19, "flood": 14, "growing": 4, "gentle": 7, "reference": 0}


def test_areas_and_factors_span_the_ranges_of_their_kind(truth: list[SimulatedEvent]) -> None:
    for event in truth:
        kind = KINDS[event.kind]
        assert kind.areas[0] <= event.area_px <= kind.areas[1]
        assert kind.factors[0] <= event.factor <= kind.factors[1]
        assert kind.pairs[0] <= event.last_pair - event.first_pair + 1 <= kind.pairs[1]
    areas = [event.area_px for event in truth]
    assert min(areas) < 100
    assert max(areas) > 1000


def test_a_quarter_of_the_events_lie_across_tile_edges(full: Scene, truth: list[SimulatedEvent]) -> None:
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


def test_events_show_in_monitored_pairs_only(full: Scene, truth: list[SimulatedEvent]) -> None:
    settings = full.settings
    for event in truth:
        assert settings.reference_pairs <= event.first_pair <= event.last_pair < settings.pairs
        assert event.start_date == settings.pair_dates(event.first_pair)[1]
        assert event.end_date == settings.pair_dates(event.last_pair)[1]
    assert len({event.first_pair for event in truth}) > 5


def test_growing_events_cover_more_pixels_in_each_pair_until_they_are_whole(truth: list[SimulatedEvent]) -> None:
    for event in truth:
        pairs = range(event.first_pair - 1, event.last_pair + 2)
        sizes = [len(event.pixels_in(pair)[0]) for pair in pairs]
        assert (sizes[0], sizes[-2], sizes[-1]) == (0, event.area_px, 0)
        steps = np.diff(sizes[1:-1])
        if event.kind == "growing":
            assert steps.min() > 0.9 * event.area_px / len(steps) / 1.5
        else:
            assert not steps.any()


def test_events_keep_off_water_nodata_the_edge_and_mostly_forest(full: Scene, truth: list[SimulatedEvent]) -> None:
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


def test_events_of_the_same_pair_do_not_touch(full: Scene, truth: list[SimulatedEvent]) -> None:
    for pair in range(full.settings.reference_pairs, full.settings.pairs):
        near = np.zeros(full.settings.shape, np.int32)
        for event in truth:
            if event.first_pair <= pair <= event.last_pair:
                mask = event.mask(full.settings.shape)
                assert not near[mask].any()
                near |= ndimage.maximum_filter(mask, 2 * GAP + 1)


def test_shapes_are_one_piece_without_holes_and_no_discs(truth: list[SimulatedEvent]) -> None:
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
            pixels = event.pixels_in(pair)
            expected[pixels] *= np.float32(event.factor)
            mask = np.zeros(SMALL.shape, np.bool_)
            mask[pixels] = True
            near |= ndimage.maximum_filter(mask, SMALL.window)
        assert (scene.changed(pair) == (scene.coherence(pair) < 0.9 * quiet.coherence(pair))).all()
        assert np.allclose(scene.coherence(pair), expected, atol=1e-6)
        assert (scene.image(pair) == quiet.image(pair))[~near].all()


def test_an_event_is_seen_in_the_image_of_its_pairs_and_not_before_or_after() -> None:
    scene = Scene(SMALL)
    quiet = Scene(SMALL.model_copy(update={"events": 0}))
    for event in scene.truth():
        for pair in range(SMALL.pairs):
            shows = event.first_pair <= pair <= event.last_pair
            mask = np.zeros(SMALL.shape, np.bool_)
            mask[event.pixels_in(pair) if shows else (event.rows, event.columns)] = True
            valid = mask & scene.valid(pair)
            others = [e for e in scene.truth() if e is not event and e.first_pair <= pair <= e.last_pair]
            if any(e.mask(SMALL.shape)[valid].any() for e in others):
                continue
            change = scene.image(pair)[valid].mean() / quiet.image(pair)[valid].mean() if valid.any() else 1.0
            if shows:
                assert change < (0.95 if event.kind == "gentle" else 0.85), event.id
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


CONTAMINATED = SMALL.model_copy(update={"reference_events": 5})


def test_changes_of_the_reference_pairs_lower_them_and_are_not_in_the_truth() -> None:
    scene, clean = Scene(CONTAMINATED), Scene(SMALL)
    assert [event.id for event in scene.truth()] == [event.id for event in clean.truth()]
    lowered = [scene.coherence(pair) < 0.9 * clean.coherence(pair) for pair in range(SMALL.pairs)]
    assert sum(mask.any() for mask in lowered[: SMALL.reference_pairs]) > 2
    assert not any(mask.any() for mask in lowered[SMALL.reference_pairs :])
    assert np.mean(lowered[: SMALL.reference_pairs]) > 0.01


def test_without_reference_pairs_there_is_nothing_to_contaminate() -> None:
    scene = Scene(CONTAMINATED.model_copy(update={"reference_pairs": 0}))
    assert (scene.coherence(0) <= 0.97).all()


def test_a_second_track_sees_the_same_events_on_other_days_and_other_speckle() -> None:
    first, second = Scene(SMALL), Scene(SMALL.model_copy(update={"track": 1}))
    for a, b in zip(first.truth(), second.truth(), strict=True):
        assert (a.id, a.kind, a.factor, a.first_pair) == (b.id, b.kind, b.factor, b.first_pair)
        assert (a.rows == b.rows).all()
        assert (b.start_date - a.start_date).days == 3
    assert (first.land.cover == second.land.cover).all()
    for cover in np.unique(first.land.cover)[1:]:
        values = (scene.land.coherence[first.land.cover == cover] for scene in (first, second))
        assert 0.5 < np.corrcoef(*values)[0, 1] < 0.95
    assert (first.image(0) != second.image(0)).mean() > 0.9
    assert (first.weather.factor(0) != second.weather.factor(0)).mean() > 0.9
