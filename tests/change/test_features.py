"""Numbers that compare a candidate's contrast with what could be seen on its dates."""

from __future__ import annotations

import numpy as np
import pytest

from acdtask.change.fragments import FIXED
from acdtask.change.judgement.features import CoherenceScale, features_of
from acdtask.change.judgement.sums import GROUND, SUMS, BlobSums
from acdtask.change.seams import BLOB

SCALE = CoherenceScale(0, 1000, looks=36)
AREA, RING = 90, 60
MEAN = 600


def numbers(
    levels: list[int],
    contrasts: list[int],
    scale: CoherenceScale = SCALE,
    *,
    step: float = 1,
    spread: int = 0,
    ground_spread: tuple[int, int] = (0, 0),
) -> dict[str, float]:
    """The features of a blob, given its expected level and its contrast on each date, the last of which is judged.

    Both are in thousandths of coherence, as are the standard deviations of the drop within the blob, and of the
    baseline's mean within the blob and its ring; `step` is what a thousandth is in stored units.
    """
    images = np.zeros((1, len(levels), 2, len(SUMS)), np.int64)
    images[0, :, :, 0] = AREA, RING
    ring = MEAN - np.array(levels)
    images[0, :, 1, 2] = np.rint(ring * RING * FIXED * step)
    images[0, :, 0, 2] = np.rint((ring + np.array(contrasts)) * AREA * FIXED * step)
    drop = ring + np.array(contrasts)
    images[0, :, 0, 3] = np.rint(AREA * (drop**2 + spread**2) * step**2)
    mean, ring_mean = (round(pixels * MEAN * FIXED * step) for pixels in (AREA, RING))
    square, ring_square = (
        round(pixels * (MEAN**2 + each**2) * step**2) for pixels, each in zip((AREA, RING), ground_spread, strict=True)
    )
    ground = np.zeros((1, len(GROUND)), np.int64)
    ground[0] = AREA // 2, AREA * (len(levels) - 1), mean, square, RING, ring_mean, ring_square
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


def test_a_field_differs_from_what_is_around_it_and_its_parts_are_alike() -> None:
    """The level within the blob is .5 on the one date of the baseline: speckle is .75 / sqrt(72)."""
    field, event = numbers([600, 600], [100, 0], spread=88), numbers([600, 600], [0, 0], spread=200)
    assert field["past_spread"] == pytest.approx(0.088 / (0.75 / 72**0.5), abs=2e-3)
    assert event["past_spread"] == pytest.approx(0.2 / (0.64 / 72**0.5), abs=2e-3)
    assert field["usual_past"] == field["certain_past"] > 0
    assert numbers([600, 600, 600], [-100, 0, 0])["usual_past"] == pytest.approx(field["usual_past"] / 2**0.5, abs=1e-3)
    assert event["usual_past"] == 0


def test_the_ground_of_a_blob_is_compared_with_that_of_its_ring() -> None:
    assert numbers([600, 600], [0, 0], ground_spread=(50, 20))["uneven_ground"] == pytest.approx(0.03, abs=1e-3)
    assert numbers([600, 600], [0, 0], ground_spread=(20, 50))["uneven_ground"] == pytest.approx(-0.03, abs=1e-3)


def test_dates_are_alike_if_their_levels_are() -> None:
    assert numbers([600, 510, 500, 450, 690, 720, 600], [0] * 7)["dates_alike"] == 4


def test_the_numbers_do_not_depend_on_how_coherence_is_stored() -> None:
    dates = [600, 500, 450], [20, 40, 160]
    thousandths, bytes_ = (
        numbers(*dates, scale, step=step, spread=90, ground_spread=(60, 20))
        for scale, step in ((SCALE, 1.0), (CoherenceScale(0, 250, looks=36), 0.25))
    )
    for name in ("level", "relative_contrast", "certain_past", "dates_alike", "usual_past", "uneven_ground"):
        assert bytes_[name] == pytest.approx(thousandths[name], abs=0.002)
    assert bytes_["past_spread"] == pytest.approx(thousandths["past_spread"], abs=0.01)
