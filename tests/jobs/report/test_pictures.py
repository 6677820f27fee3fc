"""Pictures: their size, their colours, and their bytes."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from acdtask.jobs.colours import COHERENCE, PATCH, QUALITY, STD, TRUTH, ColourMap, Z
from acdtask.jobs.report.pictures import (
    ENOUGH_SIDE,
    MAX_SIDE,
    PAPER_SIDE,
    coherence_png,
    magnification,
    paper_jpeg,
    patches_png,
    std_png,
    z_png,
)


def pixels(png: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGBA"))


def lightness(colours: NDArray[Any]) -> NDArray[np.float64]:
    """OKLab's L of sRGB colours, by the forward matrices of its paper."""
    value = colours / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    to_lms = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    return np.asarray(np.cbrt(linear @ to_lms.T) @ np.array([0.2104542553, 0.7936177850, -0.0040720468]))


@pytest.mark.parametrize(("colours", "turn"), [(COHERENCE, 0.0), (STD, 0.0), (Z, 0.25)])
def test_lightness_is_linear_in_the_value_on_each_side_of_the_turn(colours: ColourMap, turn: float) -> None:
    position = np.linspace(turn, 1, 101)
    found = lightness(colours.colours(position))
    straight = np.interp(position, [turn, 1], [found[0], found[-1]])
    assert np.abs(found - straight).max() < 0.012


def test_a_step_in_z_is_as_light_below_zero_as_above() -> None:
    minus_two, zero, two = lightness(Z.colours(np.array([0.0, 0.25, 0.5])))
    assert zero - minus_two == pytest.approx(zero - two, abs=0.012)


@pytest.mark.parametrize("draw", [coherence_png, z_png, std_png])
@pytest.mark.parametrize("shape", [(1, 1), (60, 100), (1, 700), (1201, 3), (2500, 40)])
def test_no_picture_is_longer_than_allowed_and_small_ones_are_enlarged(draw: Any, shape: tuple[int, int]) -> None:
    found = pixels(draw(np.zeros(shape)))
    assert max(found.shape[:2]) <= MAX_SIDE
    assert max(found.shape[:2]) >= min(ENOUGH_SIDE, max(shape)) * 0.5
    larger, smaller = magnification(shape)
    assert found.shape[:2] == tuple(-(-side * larger // smaller) for side in shape)


@pytest.mark.parametrize("draw", [coherence_png, z_png, std_png])
def test_a_picture_of_nothing_is_only_a_hatch(draw: Any) -> None:
    alpha = pixels(draw(np.full((30, 40), np.nan)))[..., 3]
    assert set(np.unique(alpha)) == {0, 120}


def test_nodata_is_never_the_colour_of_a_value() -> None:
    found = pixels(coherence_png(np.array([[0.0, np.nan]])))
    half = found.shape[1] // 2
    assert (found[:, :half, 3] == 255).all()
    assert (found[:, half:, 3] < 255).all()


def test_values_beyond_the_map_have_the_colour_of_its_ends() -> None:
    found = pixels(z_png(np.array([[-50.0, -2.0, 6.0, np.inf]])))
    size = found.shape[1] // 4
    columns = found[0, ::size]
    assert (columns[0] == columns[1]).all()
    assert (columns[2] == columns[3]).all()


def test_a_smaller_picture_shows_the_mean_of_the_pixels_that_have_a_value() -> None:
    values = np.full((1202, 4), np.nan)
    values[0, 0], values[1, 1] = 0.2, 0.4
    values[2:4, :2] = 1.0
    found = pixels(coherence_png(values))
    assert found.shape[:2] == (601, 2)
    expected = COHERENCE.table(250)[round(0.3 * 249)]
    assert np.abs(found[0, 0, :3].astype(int) - expected).max() <= 1
    assert found[1, 0, :3].tolist() == COHERENCE.table(250)[-1].tolist()
    assert found[0, 1, 3] < 255


def test_the_same_array_gives_the_same_bytes_and_is_left_alone() -> None:
    random = np.random.default_rng(1)
    image = random.random((70, 50))
    change, quality = image > 0.9, (image < 0.1).astype(np.uint8)
    before = image.copy()
    for draw in (coherence_png, z_png, std_png):
        assert draw(image) == draw(np.asfortranarray(image))
    first = patches_png(image, change, quality, [1], change)
    assert first == patches_png(image.copy(), change.copy(), quality.copy(), [1], change.copy())
    assert (image == before).all()


def test_a_patch_of_one_pixel_is_seen_in_a_large_image() -> None:
    image = np.full((4000, 4000), 0.5, np.float32)
    change = np.zeros(image.shape, bool)
    change[2001, 1003] = True
    found = pixels(patches_png(image, change, np.zeros(image.shape, np.uint8), [1]))
    red = (found[..., :3] == PATCH).all(axis=-1)
    assert red.sum() == 5 * 5 - 1
    assert np.argwhere(red).mean(axis=0).round().tolist() == [2001 // 4, 1003 // 4]


def test_patches_truth_and_reasons_each_have_their_colour() -> None:
    image = np.full((300, 300), 0.5)
    change, truth = np.zeros(image.shape, bool), np.zeros(image.shape, bool)
    quality = np.zeros(image.shape, np.uint8)
    change[20:60, 20:60] = True
    truth[120:160, 20:60] = True
    quality[200:240, 20:60], quality[200:240, 120:160], quality[200:240, 220:260] = 7, 2, 9
    found = pixels(patches_png(image, change, quality, [2, 7], truth))[::2, ::2]

    def at(rows: slice, columns: slice) -> set[tuple[int, ...]]:
        return {tuple(colour) for colour in found[rows, columns, :3].reshape(-1, 3).tolist()}

    fill = at(slice(25, 55), slice(25, 55))
    assert len(fill) == 1
    red, green, blue = next(iter(fill))
    assert red > 100 > max(green, blue)
    assert PATCH in at(slice(15, 65), slice(15, 65))
    assert TRUTH in at(slice(115, 165), slice(15, 65))
    assert PATCH not in at(slice(110, 170), slice(15, 65))
    assert QUALITY[1] in at(slice(205, 235), slice(25, 55))
    assert QUALITY[0] in at(slice(205, 235), slice(125, 155))
    assert at(slice(205, 235), slice(225, 255)) == at(slice(280, 290), slice(280, 290))


def test_more_reasons_than_colours_are_still_hatched() -> None:
    quality = np.full((10, 10), 30, np.uint8)
    found = pixels(patches_png(np.full((10, 10), 0.5), np.zeros((10, 10), bool), quality, list(range(1, 40))))
    assert (found[..., :3] == QUALITY[-1]).all(axis=-1).any()


def test_a_picture_of_all_kinds_of_nothing_can_be_drawn() -> None:
    nothing = np.full((1, 1), np.nan)
    mask = np.zeros((1, 1), bool)
    assert set(np.unique(pixels(patches_png(nothing, mask, np.zeros((1, 1), np.uint8), [], mask))[..., 3])) == {0, 120}


def test_arrays_that_are_no_picture_are_refused() -> None:
    with pytest.raises(ValueError, match="rows and columns"):
        coherence_png(np.zeros((0, 4)))
    with pytest.raises(ValueError, match="shapes differ"):
        patches_png(np.zeros((2, 2)), np.zeros((2, 3), bool), np.zeros((2, 2), np.uint8), [])


@pytest.mark.parametrize("shape", [(1, 1), (60, 100), (1, 700), (1100, 900)])
def test_a_picture_for_paper_is_small_and_white_where_there_is_nothing(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(3).uniform(0, 1, shape)
    values[: -(-shape[0] // 2)] = np.nan
    png = coherence_png(values)
    jpeg = paper_jpeg(png)
    assert jpeg == paper_jpeg(png)
    with Image.open(io.BytesIO(jpeg)) as paper, Image.open(io.BytesIO(png)) as screen:
        assert paper.format == "JPEG"
        assert max(paper.size) <= PAPER_SIDE
        assert paper.width / paper.height == pytest.approx(screen.width / screen.height, rel=0.02) or min(shape) == 1
        top = np.asarray(paper.convert("L"))[: max(1, paper.height // 2 - 8)]
    assert np.median(top) > 225
    assert len(jpeg) < 100_000


def test_a_patch_shows_in_the_picture_for_paper() -> None:
    image = np.full((1000, 1000), 0.6)
    change = np.zeros(image.shape, bool)
    change[500:512, 300:312] = True
    with Image.open(io.BytesIO(paper_jpeg(patches_png(image, change, np.zeros(image.shape, int), [])))) as paper:
        red, green, _ = np.moveaxis(np.asarray(paper.convert("RGB")).astype(int), -1, 0)
        scale = paper.width / 1000
    rows, columns = np.nonzero(red - green > 60)
    assert np.abs(np.median(rows) / scale - 506) < 6
    assert np.abs(np.median(columns) / scale - 306) < 6
