"""The one picture: its size, its line, its patches, and its bytes."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from acdtask.jobs.colours import PATCH
from acdtask.jobs.report.model import BaselinePage, ReportPage
from acdtask.jobs.report.pictures import coherence_png, patches_png
from acdtask.jobs.report.quicklook import MAX_SIDE, quicklook, quicklook_png
from tests.jobs.report.conftest import Report


def pixels(png: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(png)) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        return np.asarray(image)


def patch_pixels(png: bytes) -> int:
    """Pixels in the colour of the line around patches, a little faded where the picture was made smaller."""
    return int((np.abs(pixels(png).astype(int) - np.array(PATCH)).max(axis=-1) < 16).sum())


def drawn(shape: tuple[int, int], *, patch: bool) -> bytes:
    image, change = np.full(shape, 0.7, np.float32), np.zeros(shape, bool)
    change[: shape[0] // 2, : shape[1] // 2] = patch
    return patches_png(image, change, np.zeros(shape, np.uint8), [])


def of(report: Report, **changes: Any) -> bytes:
    page = report.page.model_copy(update=changes)
    assert isinstance(page, ReportPage)
    assert isinstance(page.baseline, BaselinePage)
    return quicklook(page, page.baseline, report.pictures.__getitem__)


def test_the_newest_image_is_shown_with_its_patches(made_up: Report) -> None:
    days = [day for day in made_up.page.dates if day.patches]
    newest = days[-1]
    assert any(patch.key == newest.key for patch in made_up.page.patches)
    shown = of(made_up)
    assert patch_pixels(shown) > 100
    assert shown == of(made_up, dates=tuple(reversed(made_up.page.dates)))
    assert shown != of(made_up, dates=tuple(days[:-1]))
    body = pixels(shown)[-100:, :100]
    with Image.open(io.BytesIO(made_up.pictures[str(newest.patches)])) as original:
        white = Image.new("RGBA", original.size, "white")
        white.alpha_composite(original.convert("RGBA"))
        assert np.array_equal(body, np.asarray(white.convert("RGB"))[-100:, :100])


def test_an_image_without_patches_is_shown_too(made_up: Report) -> None:
    name = str(next(day.patches for day in reversed(made_up.page.dates) if day.patches))
    plain = Report(made_up.page, {**made_up.pictures, name: drawn((300, 300), patch=False)})
    shown = of(plain, patches=())
    assert patch_pixels(shown) == 0
    assert shown != of(plain)  # the line above says how many


def test_without_an_image_it_is_the_mean_of_the_baseline(made_up: Report) -> None:
    shown = of(made_up, dates=(), patches=())
    assert patch_pixels(shown) == 0
    mean = pixels(quicklook_png(made_up.pictures["baseline/mean.png"], "x"))
    assert np.array_equal(pixels(shown)[-200:, :500], mean[-200:, :500])
    hidden = tuple(day.model_copy(update={"patches": None}) for day in made_up.page.dates)
    assert of(made_up, dates=hidden, patches=()) == shown


@pytest.mark.parametrize("shape", [(1, 1), (64, 64), (600, 20), (20, 600), (1024, 1024), (1200, 1200), (3000, 700)])
def test_it_is_small_opaque_and_the_same_each_time(shape: tuple[int, int]) -> None:
    made = [quicklook_png(drawn(shape, patch=True), "koln, 2021-07-01: 3 patches, 12.5 ha") for _ in range(2)]
    assert made[0] == made[1]
    found = pixels(made[0])
    assert max(found.shape[:2]) <= MAX_SIDE
    assert min(found.shape[:2]) >= 40
    if min(shape) > 20:
        assert patch_pixels(made[0]) > 50


def test_the_line_is_there_and_depends_on_the_words_only() -> None:
    picture = coherence_png(np.full((200, 200), np.nan))
    one, other, odd = (pixels(quicklook_png(picture, words)) for words in ("koln", "bonn", "Köln 東"))
    dark = [(image[:38].max(axis=-1) < 60).sum() for image in (one, other, odd)]
    assert min(dark) > 100
    assert (one[:38] != other[:38]).any()
    assert (one[38:] == other[38:]).all()
