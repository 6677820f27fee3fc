"""Numbers that compare a candidate's contrast with what could be seen on its dates."""

from __future__ import annotations

import numpy as np
import pytest

from acdtask.change.fragments import FIXED
from acdtask.change.judgement.features import CoherenceScale, features_of
from acdtask.change.judgement.sums import BlobSums
from acdtask.change.seams import BLOB

SCALE = CoherenceScale(0, 1000, looks=36)
AREA, RING = 90, 60
MEAN = 600


def numbers(
    levels: list[int], contrasts: list[int], scale: CoherenceScale = SCALE, step: float = 1
) -> dict[str, float]:
    """The features of a blob, given its expected level and its contrast on each date, the last of which is judged.

    Both are in thousandths of coherence; `step` is what a thousandth is in stored units.
    """
    images = np.zeros((1, len(levels), 2, 3), np.int64)
    images[0, :, :, 0] = AREA, RING
    ring = MEAN - np.array(levels)
    images[0, :, 1, 2] = np.rint(ring * RING * FIXED * step)
    images[0, :, 0, 2] = np.rint((ring + np.array(contrasts)) * AREA * FIXED * step)
    ground = np.array([[AREA // 2, AREA * (len(levels) - 1), round(AREA * MEAN * FIXED * step)]])
    blobs = np.zeros(1, BLOB)
    blobs["id"], blobs["area"] = 1, AREA
    features = features_of(blobs, BlobSums(np.array([1], np.int32), ground, images), scale)
    return {name: float(values[0]) for name, values in features.items()}


def test_a_contrast_is_compared_with_the_coherence_that_was_left_to_lose() -> None:
    """sqrt(pi / 144) = .148 is the mean estimate of no coherence."""
    found = numbers([600, 600, 450], [0, 0, 151])
    assert found["level"] == 0.45
    assert found["relative_contrast"] == pytest.approx(0.151 / (0.45 - 0.1477), abs=1e-3)
    assert numbers([600, 150], [0, 300])["relative_contrast"] == 2.0, "limited where nothing was left"


def test_a_past_contrast_counts_as_far_as_it_exceeds_the_noise_of_its_date() -> None:
    """Speckle of 36 looks in windows of 9 px, and 6 % of the level from field to field."""
    bright, dark = numbers([600, 600], [100, 0]), numbers([200, 600], [100, 0])
    of_speckle = (1 - 0.6**2) ** 2 / (72 * AREA / 9)
    assert bright["certain_past"] == pytest.approx(0.1 / (of_speckle + (0.06 * 0.6) ** 2) ** 0.5, abs=1e-3)
    assert dark["certain_past"] > bright["certain_past"]
    assert numbers([600, 600], [-100, 0])["certain_past"] == 0


def test_dates_are_alike_if_their_levels_are() -> None:
    assert numbers([600, 510, 500, 450, 690, 720, 600], [0] * 7)["dates_alike"] == 4


def test_the_numbers_do_not_depend_on_how_coherence_is_stored() -> None:
    dates = [600, 500, 450], [20, 40, 160]
    thousandths, bytes_ = numbers(*dates), numbers(*dates, CoherenceScale(0, 250, looks=36), step=0.25)
    for name in ("level", "relative_contrast", "certain_past", "dates_alike"):
        assert bytes_[name] == pytest.approx(thousandths[name], abs=0.002)
