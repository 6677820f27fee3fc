"""However an image is cut, the steps of a method give what they give on the whole, bit for bit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

from acdtask.change.detect import ImageChange, detect_against, detect_change, halo_before, measure, scene_of
from acdtask.change.fragments import find_fragments
from acdtask.change.methods import ROBUST, STANDARD, TUTORIAL, detection_for
from acdtask.change.moments import Moments
from acdtask.change.near_misses import Near
from acdtask.change.scene import BaselineArrays, Scene
from acdtask.change.seams import join_fragments, join_near
from acdtask.change.steps.calibration import Calibration
from acdtask.change.steps.centring import Centring
from acdtask.change.steps.likelihood import Likelihood
from acdtask.change.steps.mean_field import MeanField
from acdtask.change.steps.registry import STEPS, AllStepSettings, recorded_steps, steps_of
from acdtask.change.steps.smooth import LARGEST, Smooth, gaussian_mean
from acdtask.change.steps.step import Whole, halo_of, measuring
from acdtask.change.steps.wide import Wide
from acdtask.change.thresholds import Detection
from acdtask.change.zscore import Quality
from acdtask.errors import AcdError, ErrorCode
from tests.change.round_trip import crossed
from tests.change.scenes import Tile, tilings, window

METHODS = {
    "tutorial": TUTORIAL,
    "standard": STANDARD,
    "smooth": Detection.of({**STANDARD.recorded(), "smooth": 1.2}),
    "widely smooth": Detection.of({**STANDARD.recorded(), "smooth": 3.7, "low": 0.4, "high": 0.8}),
    "tutorial, smooth": Detection.of({**TUTORIAL.recorded(), "smooth": 0.8}),
    "rises": replace(STANDARD, direction="rise"),
    "both": replace(TUTORIAL, direction="both"),
    "both, smooth": Detection.of({**STANDARD.recorded(), "direction": "both", "smooth": 1.2, "low": 0.6, "high": 1.2}),
}


@dataclass(frozen=True)
class Image:
    """An image, its baseline, and where something may be said of it."""

    pixels: NDArray[np.int16]
    baseline: BaselineArrays
    moments: Moments
    inside: NDArray[np.bool_]


def image_of(seed: int, height: int, width: int) -> Image:
    """Drops and rises, nodata edges and holes, thin and steady places, and an area of interest with a rough rim."""
    rng = np.random.default_rng(seed)
    stack = np.clip(rng.normal(rng.uniform(200, 900, (height, width)), 60, (25, height, width)), 1, 1000)
    stack = stack.astype(np.int16)
    stack[:, rng.random((height, width)) < 0.03] = 500
    stack[:, rng.random((height, width)) < 0.03] = -1
    stack[:8, : height // 3] = -1
    pixels = np.clip(rng.normal(stack[10], 60), 1, 1000).astype(np.int16)
    for _ in range(4):
        row, column = rng.integers(0, height), rng.integers(0, width)
        pixels[row : row + rng.integers(2, 12), column : column + rng.integers(2, 12)] = rng.choice([20, 20, 1000])
    pixels[rng.random((height, width)) < 0.05] = -1
    pixels[:, : rng.integers(0, 5)] = -1
    rows, columns = np.indices((height, width))
    inside = (rows - height / 2) ** 2 / height**2 + (columns - width / 2) ** 2 / width**2 < rng.uniform(0.1, 0.6)
    inside &= rng.random((height, width)) > 0.02
    moments = Moments.of_images(stack, -1)
    baseline = BaselineArrays(moments.mean(), moments.standard_deviation(), moments.count_view())
    return Image(pixels, baseline, moments, inside)


def grown(array: NDArray[Any], tile: Tile, halo: int, beyond: float) -> NDArray[Any]:
    """A tile and what lies around it; beyond the image there is something else than on it."""
    padded = np.pad(array, halo, constant_values=beyond)
    return padded[tile[0] : tile[2] + 2 * halo, tile[1] : tile[3] + 2 * halo]


def baseline_of(image: Image, tile: Tile, halo: int) -> BaselineArrays:
    baseline = image.baseline
    views = (
        grown(baseline.mean, tile, halo, 800),
        grown(baseline.std, tile, halo, 30),
        grown(baseline.count, tile, halo, 60),
    )
    return BaselineArrays(*views)


def detect_in_tiles(
    image: Image, method: Detection, tiles: list[Tile], origin: tuple[int, int] = (0, 0)
) -> tuple[ImageChange, Near]:
    """A round for each step that measures, then one for fragments, as pods do it."""
    (row, column), around = origin, halo_of(method.steps)
    wholes: list[Whole] = []
    for turn, step in enumerate(measuring(method.steps)):
        halo = halo_before(method.steps, turn)
        counts = []
        for tile in tiles:
            inside = grown(image.inside, tile, halo, False)
            scene, _ = scene_of(
                grown(image.pixels, tile, halo, 3),
                baseline_of(image, tile, halo),
                method,
                nodata=-1,
                inside=inside,
                origin=(row + tile[0] - halo, column + tile[1] - halo),
            )
            counts.append(measure(scene, method.steps, wholes))
        wholes.append(step.conclude(step.total([step.total(counts[1:]), counts[0]] if counts[1:] else counts)))
    halo = halo_of(method.steps)
    parts = [
        detect_change(
            grown(image.pixels, tile, halo, 3),
            baseline_of(image, tile, halo),
            method,
            nodata=-1,
            origin=(row + tile[0], column + tile[1]),
            inside=grown(image.inside, tile, halo, False),
            wholes=[
                step.part(whole, [area_of(tile, origin, around)])
                for step, whole in zip(measuring(method.steps), wholes, strict=True)
            ],
        )
        for tile in tiles
    ]
    tables = [crossed(part.fragments.table) for part in parts]
    joined = join_fragments(tables)
    z, quality = np.full(image.pixels.shape, 99, np.float32), np.full(image.pixels.shape, 99, np.uint8)
    blob_ids = np.full(image.pixels.shape, -1, np.int32)
    for part, tile, ids in zip(parts, tiles, joined.blob_ids, strict=True):
        window(z, tile)[...], window(quality, tile)[...] = part.score.z, part.score.quality
        window(blob_ids, tile)[...] = ids[part.fragments.labels]
    score = replace(parts[0].score, z=z, quality=quality)
    return ImageChange(score, blob_ids, joined.blobs, {}), join_near(tables, [part.fragments.near for part in parts])


def area_of(tile: Tile, origin: tuple[int, int], halo: int) -> tuple[int, int, int, int]:
    top, left, bottom, right = tile
    row, column = origin
    return row + top - halo, column + left - halo, row + bottom + halo, column + right + halo


@settings(deadline=None, max_examples=70)
@given(data=st.data(), seed=st.integers(0, 2**32 - 1), name=st.sampled_from(sorted(METHODS)))
def test_any_tiling_gives_what_the_whole_image_gives(data: st.DataObject, seed: int, name: str) -> None:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 36, 2).tolist()
    image, method = image_of(seed, height, width), METHODS[name]
    method = replace(method, min_area=int(rng.integers(0, 20)))
    assert_no_cut_shows(image, method, data.draw(tilings(height, width)), (0, 0))


@settings(deadline=None, max_examples=12)
@given(seed=st.integers(0, 2**32 - 1), cell=st.integers(7, 100), name=st.sampled_from(["robust", "without blocks"]))
def test_no_tiling_shows_in_what_the_robust_method_gives(seed: int, cell: int, name: str) -> None:
    """Blocks of the global lattice are larger than these images, so most lie across several of them."""
    rng = np.random.default_rng(seed)
    size = (130, 110) if name == "robust" else (24, 31)
    image, method = image_of(seed, *size), replace(ROBUST, high=1.2, min_area=int(rng.integers(0, 20)))
    origin = tuple(rng.integers(-3000, 3000, 2).tolist())
    top, left = (-int(rng.integers(cell)) for _ in range(2))
    tiles = [
        (max(row, 0), max(column, 0), min(row + cell, size[0]), min(column + cell, size[1]))
        for row in range(top, size[0], cell)
        for column in range(left, size[1], cell)
    ]
    assert_no_cut_shows(image, method, [tiles[k] for k in rng.permutation(len(tiles))], (origin[0], origin[1]))


def assert_no_cut_shows(image: Image, method: Detection, tiles: list[Tile], origin: tuple[int, int]) -> None:
    height, width = image.pixels.shape
    whole = detect_against(image.moments, image.pixels, method, nodata=-1, inside=image.inside, origin=origin)
    found, near = detect_in_tiles(image, method, tiles, origin)
    np.testing.assert_array_equal(found.score.z.view(np.int32), whole.score.z.view(np.int32))
    np.testing.assert_array_equal(found.score.quality, whole.score.quality)
    np.testing.assert_array_equal(found.blob_ids, whole.blob_ids)
    np.testing.assert_array_equal(found.blobs, whole.blobs)
    assert near == detect_in_tiles(image, method, [(0, 0, height, width)], origin)[1]


@pytest.mark.parametrize("name", ["smooth", "widely smooth"])
def test_smoothing_changes_what_is_found(name: str) -> None:
    """So that the property above is not held by a step that does nothing."""
    image = image_of(3, 50, 60)
    plain, smooth = (
        detect_against(image.moments, image.pixels, replace(method, min_area=5), nodata=-1, inside=image.inside)
        for method in (STANDARD, METHODS[name])
    )
    np.testing.assert_array_equal(smooth.score.z, plain.score.z)
    assert (smooth.blob_ids != plain.blob_ids).any()
    assert smooth.blob_ids.any()


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), sigma=st.sampled_from([0.3, 0.8, 1.2, 2.0, 5.0]))
def test_the_mean_is_that_of_normalised_convolution(seed: int, sigma: float) -> None:
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 2, rng.integers(1, 40, 2)).astype(np.float32)
    z[rng.random(z.shape) < rng.uniform(0, 0.6)] = np.nan
    step = Smooth(sigma)
    weights = step.weights()
    kernel = [*weights[:0:-1], *weights]
    known = ~np.isnan(z)

    def convolved(field: NDArray[np.float64]) -> NDArray[np.float64]:
        rows = correlate1d(field, kernel, axis=0, mode="constant")
        return np.asarray(correlate1d(rows, kernel, axis=1, mode="constant"))

    with np.errstate(invalid="ignore"):
        expected = convolved(np.where(known, z, 0).astype(np.float64)) / convolved(known.astype(np.float64))
    expected[~known] = np.nan
    np.testing.assert_allclose(gaussian_mean(z, weights), expected, rtol=1e-6, atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), sigma=st.sampled_from([0.3, 1.2, 3.0]))
def test_a_pixels_mean_has_the_same_bits_wherever_it_lies(seed: int, sigma: float) -> None:
    """Also in an array that is cut, turned in memory, or of another width, as vector units see it."""
    rng = np.random.default_rng(seed)
    step = Smooth(sigma)
    z = rng.normal(0, 3, (70, 81)).astype(np.float32)
    z[rng.random(z.shape) < 0.2] = np.nan
    whole = gaussian_mean(z, step.weights())
    top, left = rng.integers(0, 40, 2).tolist()
    bottom, right = top + int(rng.integers(1, 30)), left + int(rng.integers(1, 40))
    halo = step.halo
    around = np.pad(z, halo, constant_values=np.nan)[top : bottom + 2 * halo, left : right + 2 * halo]
    for part in (around, np.asfortranarray(around), np.ascontiguousarray(around)):
        found = gaussian_mean(part, step.weights())[halo : halo + bottom - top, halo : halo + right - left]
        np.testing.assert_array_equal(found.view(np.int32), whole[top:bottom, left:right].view(np.int32))


def test_what_lies_beyond_the_halo_decides_nothing_and_what_lies_within_does() -> None:
    step = Smooth(1.2)
    z = np.zeros((41, 41), np.float32)
    for distance, differs in ((step.halo, True), (step.halo + 1, False)):
        other = z.copy()
        other[20, 20 + distance] = 1e6
        changed = gaussian_mean(other, step.weights())[20, 20] != gaussian_mean(z, step.weights())[20, 20]
        assert changed == differs


def test_infinite_scores_do_not_spoil_their_neighbours() -> None:
    z = np.array([[0, np.inf, 0, -np.inf, 0]], np.float32)
    assert np.isfinite(gaussian_mean(z, Smooth(1.0).weights())).all()


@pytest.mark.parametrize("sigma", [-1.0, float("nan"), float("inf"), LARGEST + 0.1])
def test_a_sigma_that_cannot_be_is_refused_by_name(sigma: float) -> None:
    with pytest.raises(AcdError, match="smooth is") as refused:
        steps_of({"smooth": sigma})
    assert refused.value.code is ErrorCode.SETTING_INVALID


def test_methods_are_lists_of_steps_in_the_order_of_the_registry() -> None:
    assert STANDARD.steps == (Centring(),)
    assert TUTORIAL.steps == ()
    assert (Centring, Calibration, Smooth, Likelihood, MeanField, Wide) == STEPS
    assert ROBUST.steps == (Calibration(), Smooth(1.2), Likelihood(36.0), MeanField(), Wide(3.0))
    assert halo_of(ROBUST.steps) == 28
    method = detection_for("standard", (0, 1000), 0.001, {"smooth": 1.2, "centred": None} | {"centred": True})
    assert method.steps == (Centring(), Smooth(1.2))
    assert Detection.of(method.recorded()) == method
    assert detection_for("tutorial", (0, 1000), 0.001, {"smooth": 0.0}) == TUTORIAL


def test_the_named_methods_record_what_they_did_before_there_were_steps() -> None:
    """So that the ids of their results stay."""
    assert STANDARD.recorded() == {
        "low": 1.7,
        "high": 3.0,
        "min_area": 100,
        "min_count": 20,
        "min_std": 5.0,
        "zero_is_nodata": False,
        "centred": True,
    }
    assert set(TUTORIAL.recorded()) == set(STANDARD.recorded())
    assert recorded_steps([Smooth(2.0)]) == {"centred": False, "smooth": 2.0}
    assert Detection.of(ROBUST.recorded()) == ROBUST


def test_every_setting_of_a_step_is_of_that_step_alone() -> None:
    names = [name for base in AllStepSettings.__bases__ for name in base.__annotations__ if name != "step"]
    assert sorted(names) == sorted(AllStepSettings.model_fields)
    assert len(set(names)) == len(names)


def test_a_monitor_has_one_round_for_what_is_measured_and_measures_tiles_without_surroundings() -> None:
    """What the rounds of the monitor are made for. A step that needs more needs another round."""
    others = {"smooth": 1.2, "looks": 36.0, "mean_field": True, "wide": 3.0}
    for measured in ({"centred": True}, {"calibrated": True}):
        every = steps_of(measured | others)
        assert len(every) == len(STEPS) - 1
        assert len(measuring(every)) == 1
        assert halo_before(every, 0) == 0


@pytest.mark.parametrize(
    ("given", "named", "advised"),
    [
        ({"centred": True, "calibrated": True}, "centred and calibrated", {"centred": False}),
        ({"mean_field": True}, "mean_field needs looks", {"looks": 36.0}),
        ({"looks": 1.0}, "looks is 1", {"looks": 2.0}),
    ],
)
def test_steps_that_do_not_go_together_are_refused_with_what_helps(
    given: dict[str, Any], named: str, advised: dict[str, Any]
) -> None:
    with pytest.raises(AcdError, match=named) as refused:
        steps_of(given)
    assert refused.value.code is ErrorCode.SETTING_INVALID
    assert steps_of(given | advised)


def test_a_step_that_measured_nothing_does_nothing() -> None:
    z = np.zeros((3, 3), np.float32)
    scene = Scene.of(BaselineArrays(z, z, z), z, z)
    assert Centring().apply(scene, None) is scene


def test_a_pixel_without_z_is_in_no_patch_whatever_a_step_says() -> None:
    image = image_of(5, 30, 30)
    scene, score = scene_of(image.pixels, image.baseline, STANDARD, nodata=-1, inside=image.inside)
    everywhere = np.full(scene.z.shape, 9, np.float32)
    evidence = replace(scene, extent=everywhere, seed=everywhere).evidence()
    found = find_fragments(evidence, low=1.7, high=3.0, min_area=0, origin=(0, 0))
    np.testing.assert_array_equal(found.labels > 0, score.quality == Quality.VALID)
