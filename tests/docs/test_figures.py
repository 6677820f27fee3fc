"""The figures from real images in docs/explanation/thresholds.md match the code."""

from __future__ import annotations

import re
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
import rasterio

from acdtask.change.detect import detect_monolithic
from acdtask.change.thresholds import Detection
from tests.docs.pages import text_of

pytestmark = pytest.mark.realdata
PAGE = "docs/explanation/thresholds.md"


@pytest.fixture(scope="module")
def images(real_data: Path) -> np.ndarray[tuple[int, int, int], np.dtype[np.int16]]:
    """Coherence of the pairs of Mexico City in thousandths, shape (pairs, height, width); nodata is -1."""
    stack = []
    for path in sorted((real_data / "pyrate_cropA/geotiffs").glob("*_cc.tif")):
        with rasterio.open(path) as raster:
            values = raster.read(1)
        stack.append(np.where(values == 0, -1, np.rint(values * 1000)).astype(np.int16))
    return np.stack(stack)


def row(name: str) -> list[float]:
    """Numbers in a row of the table."""
    (line,) = re.findall(rf"^\| {re.escape(name)} \|(.*)\|$", text_of(PAGE), re.MULTILINE)
    return [float(cell) for cell in line.split("|") if cell.strip()]


def test_the_theory_row_is_a_normal_distribution() -> None:
    assert row("normal theory") == [round(1 - NormalDist().cdf(1.7), 4), round(1 - NormalDist().cdf(3), 5)]


@pytest.mark.parametrize(("name", "centred"), [("`standard`, centred", True), ("`standard`, not centred", False)])
def test_the_shares_above_the_thresholds_match_leave_one_out(
    name: str, centred: bool, images: np.ndarray[tuple[int, int, int], np.dtype[np.int16]]
) -> None:
    above, far_above, patches = [], [], 0
    for index, image in enumerate(images):
        detection = Detection.of({"centred": centred})
        change = detect_monolithic(np.delete(images, index, 0), image, detection, nodata=-1)
        z = change.score.z[~np.isnan(change.score.z)]
        above.append(float((z > 1.7).mean()))
        far_above.append(float((z > 3).mean()))
        patches += len(change.blobs)
    assert row(name) == [
        round(float(np.mean(above)), 4),
        round(max(above), 3),
        round(float(np.mean(far_above)), 5),
        round(max(far_above), 4),
        patches,
    ]


@pytest.mark.parametrize("page", [PAGE, "docs/explanation/science.md"])
def test_the_share_of_the_variance_common_to_a_pair(
    page: str, images: np.ndarray[tuple[int, int, int], np.dtype[np.int16]]
) -> None:
    values = images[:, (images >= 0).all(axis=0)].astype(float)
    residual = values - values.mean(axis=0)
    own = residual - np.median(residual, axis=1)[:, np.newaxis]
    share = 1 - (own - own.mean(axis=0)).var() / residual.var()
    assert f"{share:.2f} of the variance" in text_of(page)
