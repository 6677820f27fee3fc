"""The comparison of methods: its measures on made images, its methods on simulated ones, and its page."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from acdtask.change.detect import detect_against
from acdtask.change.methods import PROFILES, TUTORIAL
from benchmarks.accuracy import methods as rows
from benchmarks.accuracy.detected import Detected, by_hysteresis, of_mask, united
from benchmarks.accuracy.measure import SceneResult, curve, reliability, row, scene
from benchmarks.accuracy.methods import ProfileRow, methods
from benchmarks.accuracy.others import (
    dist_s1,
    dist_s1_confirmed,
    median_mad,
    percentile,
    quantile,
    tutorial_as_printed,
)
from benchmarks.accuracy.scenes import CHOOSING_SEEDS, FIT_SEEDS, JUDGE_SEEDS, KINDS, Series, series_of

ROOT = Path(__file__).parents[2]
SHAPE = (60, 60)


def series(reference: NDArray[np.int16], monitored: NDArray[np.int16], events: NDArray[np.int32]) -> Series:
    areas = tuple(int(np.any(events == number, axis=0).sum()) for number in range(1, int(events.max(initial=0)) + 1))
    return Series(reference, monitored, events, areas, pixel_km2=0.0004)


def made(seed: int = 1, images: int = 30, monitored: int = 2) -> Series:
    """Noise around 700, and events 1 (10 x 10 px, in image 0) and 2 (20 x 20 px, in both) at 300."""
    rng = np.random.default_rng(seed)
    events = np.zeros((monitored, *SHAPE), np.int32)
    events[0, 5:15, 5:15] = 1
    events[:, 30:50, 30:50] = 2
    new = rng.normal(700, 40, (monitored, *SHAPE))
    new[events > 0] = rng.normal(300, 10, np.count_nonzero(events))
    return series(rng.normal(700, 40, (images, *SHAPE)).astype(np.int16), new.astype(np.int16), events)


def shown(masks: NDArray[np.bool_]) -> list[Detected]:
    return [of_mask(mask, mask.astype(np.float64)) for mask in masks]


def test_no_scene_is_both_for_fitting_and_for_judging() -> None:
    assert not set(FIT_SEEDS) & set(JUDGE_SEEDS)
    assert not set(CHOOSING_SEEDS) & {*FIT_SEEDS, *JUDGE_SEEDS}
    assert len(JUDGE_SEEDS) >= 12
    demo = {7, 21}
    assert not demo & (set(FIT_SEEDS) | set(JUDGE_SEEDS))


def test_the_truth_itself_is_perfect_and_nothing_finds_nothing() -> None:
    truth = made()
    perfect = row([scene(truth, shown(truth.events > 0))])
    for figure in (perfect.pixel_precision, perfect.pixel_recall, perfect.pixel_f1, perfect.patch_f1):
        assert figure.mean == 1
    assert perfect.false_per_1000km2.mean == 0
    assert [figure.mean for figure in perfect.by_size[1:]] == [1, 1]
    assert math.isnan(perfect.by_size[0].mean)  # no event is that small
    nothing = row([scene(truth, shown(np.zeros_like(truth.events, np.bool_)))])
    assert nothing.pixel_f1.mean == nothing.pixel_recall.mean == nothing.patch_f1.mean == 0
    assert math.isnan(nothing.pixel_precision.mean)
    assert str(nothing.pixel_precision) == ""


def test_an_edge_that_is_off_by_one_pixel_is_no_error_and_by_two_is() -> None:
    truth = made()
    for margin, is_error in ((1, False), (2, True)):
        larger, smaller = np.zeros_like(truth.events, np.bool_), np.zeros_like(truth.events, np.bool_)
        larger[0, 5 - margin : 15 + margin, 5 - margin : 15 + margin] = True
        larger[:, 30 - margin : 50 + margin, 30 - margin : 50 + margin] = True
        smaller[0, 5 + margin : 15 - margin, 5 + margin : 15 - margin] = True
        smaller[:, 30 + margin : 50 - margin, 30 + margin : 50 - margin] = True
        assert (row([scene(truth, shown(larger))]).pixel_precision.mean < 1) == is_error
        assert (row([scene(truth, shown(smaller))]).pixel_recall.mean < 1) == is_error


def test_false_patches_are_counted_per_area_of_all_images() -> None:
    truth = made()
    masks = truth.events > 0
    masks[1, 5:8, 5:8] = True  # where event 1 was in the other image
    result = row([scene(truth, shown(masks))])
    assert result.false_per_1000km2.mean == pytest.approx(1 / (2 * 3600 * 0.0004) * 1000)
    assert result.patch_precision.mean == pytest.approx(3 / 4)
    assert result.patch_recall.mean == 1


def test_nodata_is_no_judged_area() -> None:
    truth = made()
    truth.monitored[0, :30] = truth.nodata
    assert truth.judged_km2 == pytest.approx(1.5 * 3600 * 0.0004)


def test_an_event_is_found_at_thirty_percent_on_one_of_its_dates_and_a_patch_is_false_below_a_tenth() -> None:
    truth = made()
    masks = np.zeros_like(truth.events, np.bool_)
    masks[1, 30:36, 30:50] = True  # 30 % of event 2, in its second image
    masks[0, 14:15, 14:15] = True  # 1 % of event 1, all within it
    masks[0, 49:60, 30:39] = True  # 9 of 99 px in event 2
    result = scene(truth, shown(masks))
    assert [event.found for event in result.events] == [False, True]
    assert sorted(c.is_event for c in result.candidates) == [False, True, True]


def test_errors_are_those_of_the_mean_over_scenes() -> None:
    truth = made()
    perfect, nothing = scene(truth, shown(truth.events > 0)), scene(truth, shown(np.zeros(truth.events.shape, bool)))
    figure = row([perfect, nothing]).pixel_f1
    assert figure.mean == 0.5
    assert figure.error == pytest.approx(0.5)
    assert math.isnan(row([perfect]).pixel_f1.error)


def ranked(scores: Sequence[float], are_events: Sequence[bool]) -> SceneResult:
    truth = made()
    result = scene(truth, shown(truth.events > 0))
    kept = [
        result.candidates[0].model_copy(
            update={"score": score, "is_event": e, "pixels": 10, "near": 10 * e, "covers": 10 * e, "probability": score}
        )
        for score, e in zip(scores, are_events, strict=True)
    ]
    return result.model_copy(update={"candidates": kept, "true_pixels": 40})


def test_the_curve_goes_from_all_candidates_to_the_most_certain() -> None:
    result = ranked([0.9, 0.5, 0.7, 0.5], [True, False, True, True])
    assert curve([result]) == [(0.75, 0.75), (0.5, 1.0), (0.25, 1.0)]  # the two at 0.5 go together


def test_reliability_compares_probabilities_with_events() -> None:
    (low, high) = reliability([ranked([0.91, 0.95, 0.05, 0.03, 1.0], [True, True, False, True, False])])
    assert (low.candidates, high.candidates) == (2, 3)
    assert [low.expected, high.expected] == pytest.approx([0.04, 0.953], abs=0.001)
    assert [low.observed, high.observed] == pytest.approx([1 / 2, 2 / 3])
    truth = made()
    assert reliability([scene(truth, shown(truth.events > 0))]) == []


def test_the_tutorial_as_printed_marks_the_region_before_each_large_one() -> None:
    truth = made(monitored=1)
    truth.monitored[truth.events == 0] = 700
    truth.monitored[0, 0:4, 40:44] = 300  # a small region, first in order
    (printed,) = tutorial_as_printed(truth)
    expected = np.zeros(SHAPE, np.bool_)
    expected[5:15, 5:15] = True  # the region before event 2, which alone has more than 100 px
    assert (printed.mask == expected).all()
    (right,) = next(m for m in methods() if m.name == "`tutorial`").run(truth)
    assert right.mask[30:50, 30:50].mean() > 0.95


def test_the_tutorial_of_the_table_is_that_of_scikit_image() -> None:
    truth = made()
    z = (truth.moments.mean() - truth.monitored[0]) / truth.moments.standard_deviation()
    (first, _) = next(m for m in methods() if m.name == "`tutorial`").run(truth)
    assert (first.mask == by_hysteresis(z, TUTORIAL.low, TUTORIAL.high, TUTORIAL.min_area).mask).all()


@pytest.mark.parametrize("run", [median_mad, percentile, dist_s1])
def test_methods_of_others_find_strong_events(run: rows.Run) -> None:
    truth = made()
    result = row([scene(truth, run(truth))])
    assert result.pixel_recall.mean > 0.5
    assert result.patch_recall.mean >= 0.5


def test_quantiles_are_those_of_numpy_where_there_is_data() -> None:
    rng = np.random.default_rng(3)
    values = rng.integers(0, 1000, (11, 4, 5)).astype(np.int16)
    values[rng.random(values.shape) < 0.3] = -1
    values[:, 0, 0] = -1
    some = series(values, values[:1], np.zeros((1, 4, 5), np.int32))
    as_floats = np.where(values == -1, np.nan, values)
    for share in (0.01, 0.05, 0.5):
        got = quantile(some.in_order, some.count, share)
        assert np.isnan(got[0, 0])
        expected = np.nanquantile(as_floats[:, 1:], share, axis=0)
        np.testing.assert_allclose(got[1:], expected)


def test_dist_s1_confirms_at_the_third_alert_and_forgets_a_single_one() -> None:
    truth = made(monitored=5)
    truth.monitored[:] = 700
    truth.monitored[0:4, 20:24, 20:24] = 560  # about 3 standard deviations, four images in a row
    truth.monitored[1, 40:44, 40:44] = 300  # one image
    confirmed = [detected.mask for detected in dist_s1_confirmed(truth)]
    assert [bool(mask[20:24, 20:24].all()) for mask in confirmed] == [False, False, True, True, False]
    assert not any(mask[40:44, 40:44].any() for mask in confirmed)


def test_patches_of_two_tracks_are_united() -> None:
    first, second = np.zeros(SHAPE, np.bool_), np.zeros(SHAPE, np.bool_)
    first[5:10, 5:10], second[8:15, 8:15], second[30:32, 30:32] = True, True, True
    both = united([of_mask(first, 2.0 * first), of_mask(second, 3.0 * second)])
    assert (both.mask == (first | second)).all()
    assert both.scores.tolist() == [3, 3]


def test_a_profile_row_is_what_the_command_would_run_with_these_options(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = ProfileRow("standard", "changed", {"low": 1.4, "high": 3.4, "min_area": 50, "centred": False})
    monkeypatch.setattr(rows, "PROFILE_ROWS", (changed,))
    truth = made()
    method = next(m for m in rows.methods() if m.name == "`standard`, changed")
    detection = replace(PROFILES["standard"], low=1.4, high=3.4, min_area=50, steps=())
    for image, detected in zip(truth.monitored, method.run(truth), strict=True):
        expected = detect_against(truth.moments, image, detection, nodata=truth.nodata)
        assert (detected.labels == expected.blob_ids).all()
    assert method.candidates is None


def test_rows_of_a_profile_that_does_not_exist_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "PROFILE_ROWS", (ProfileRow("future", "no step", {"step": False}),))
    assert rows.missing_profiles() == ["`future`, no step"]
    assert all("future" not in method.name for method in rows.methods())


def test_every_kind_of_scene_can_be_made() -> None:
    for kind in KINDS:
        tracks = series_of(kind, JUDGE_SEEDS[0], size=64, monitored_pairs=1, events=1)
        assert len(tracks) == kind.tracks
        for track in tracks:
            assert track.reference.shape[1:] == track.monitored.shape[1:] == (64, 64)
            assert (track.events == tracks[0].events).all()
        assert np.count_nonzero(tracks[0].events) == tracks[0].areas[0]


def test_the_command_writes_the_page_with_every_kind_and_every_method(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", "benchmarks.accuracy", "--small", "--workers", "1"]
    options = ["--out", str(tmp_path), "--keep", str(tmp_path / "kept")]
    finished = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert finished.returncode == 0, finished.stderr
    page = (tmp_path / "accuracy.md").read_text()
    for kind in KINDS:
        (table,) = re.findall(rf"^## {re.escape(kind.name.capitalize())}\n\n((?:\|.*\n)+)", page, re.MULTILINE)
        lines = table.splitlines()[2:]
        assert [line.split(" | ")[0].removeprefix("| ") for line in lines] == [
            m.name for m in methods() if m.is_judged_on(kind.name)
        ]
        assert {line.count("|") for line in lines} == {12}
    assert "{{" not in page
    svg = (tmp_path / "images/accuracy.svg").read_text()
    assert svg.count("<polyline") == sum(method.candidates is not None for method in methods())
    assert len(list((tmp_path / "kept").glob("*.json"))) == 2 * len(KINDS)
    again = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True, timeout=600, check=True)
    assert " of " not in again.stdout  # nothing was computed again
    assert (tmp_path / "accuracy.md").read_text() == page
