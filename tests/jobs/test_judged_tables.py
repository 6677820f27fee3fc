"""Tables of judged patches, their sentences, and the models in the package."""

from __future__ import annotations

import datetime as dt
import json
import math

import numpy as np
import pytest
from shapely import box

from acdtask.change.judgement.features import FEATURES
from acdtask.change.judgement.judge import JUDGED, NO_DATE
from acdtask.change.judgement.judging import MODELS
from acdtask.change.judgement.model import CERTAIN
from acdtask.change.patches import Patch
from acdtask.cube.model import Variable
from acdtask.jobs.monitor.models import load_models, models_id
from acdtask.jobs.monitor.reasons import judgement_of, reason_of
from acdtask.jobs.monitor.reference import Reference, ReferenceImage
from acdtask.jobs.near_misses import Closest
from acdtask.jobs.patch_files import LocatedPatch, PatchJudgement, patches_to_geojson, patches_to_parquet, read_patches
from acdtask.raster.data_format import DataFormat

DAY = dt.datetime(2020, 3, 4, 5, 6, 7, tzinfo=dt.UTC)
COHERENCE = Variable(name="CoherenceVV", dformat=DataFormat(dtype="int16", nodata=-1, min=0, max=1000), scale=0.001)


def patch(judgement: PatchJudgement | None) -> LocatedPatch:
    measures = Patch("site_2020-03-16_r1_c2", 1, 40, 16000.0, 5.25, 3.5, 0.25, 60)
    return LocatedPatch(measures, "site", "CoherenceVV", DAY, None, box(7, 50, 7.5, 50.5), 3, judgement)


@pytest.mark.parametrize("past", [DAY, None])
def test_a_judged_patch_survives_its_table(past: dt.datetime | None) -> None:
    judged = patch(PatchJudgement(0.9375, 0.3125, 0.0625, past, "fell by 0.31"))
    assert read_patches(patches_to_parquet([judged])) == [judged]
    (feature,) = json.loads(patches_to_geojson([judged]))["features"]
    properties = {name: feature["properties"][name] for name in ("probability", "contrast", "past_datetime", "reason")}
    expected = {"probability": 0.9375, "contrast": 0.3125, "reason": "fell by 0.31"}
    assert properties == {**expected, "past_datetime": past.isoformat() if past else None}


def test_a_table_of_another_method_has_the_bytes_that_it_had() -> None:
    plain = patch(None)
    assert read_patches(patches_to_parquet([plain])) == [plain]
    assert b"probability" not in patches_to_parquet([plain])
    assert "probability" not in json.loads(patches_to_geojson([plain]))["features"][0]["properties"]
    assert b"probability" in patches_to_parquet([], judged=True)


def judged_row(**values: object) -> np.void:
    rows = np.zeros(1, JUDGED)
    for name, value in {"probability": 9000, "kept": True, "past_date": NO_DATE, **values}.items():
        rows[name] = value
    row: np.void = rows[0]
    return row


def test_a_judgement_is_in_the_unit_of_the_variable_and_names_the_date() -> None:
    images = tuple(
        ReferenceImage(label=str(n), datetime=DAY + dt.timedelta(days=n), records=(str(n),)) for n in range(3)
    )
    reference = Reference(variable="v", instance="i", profile="standard", resampling=None, clip=0.0, images=images)
    row = judged_row(contrast=310_000, past_contrast=77_500, past_date=2, ring=-1000)
    kept = judgement_of(row, reference, COHERENCE, 20)
    assert (kept.probability, kept.past_datetime) == (0.9, images[2].datetime)
    assert [kept.contrast, kept.past_contrast] == pytest.approx([0.31, 0.0775])
    largest = "4 times its largest drop in the baseline (0.08 on 2020-03-06)"
    assert kept.reason == f"fell by 0.31, {largest}; its surroundings did not"
    row = judged_row(kept=False, probability=312, contrast=310_000, past_contrast=77_500, past_date=2, ring=200_000)
    held = judgement_of(row, reference, COHERENCE, 12.5)
    assert held.reason == (
        "held back (probability 0.03; 12.5 false patches per 1000 km2 are accepted): fell by 0.31 against its"
        f" surroundings, which fell by 0.20; {largest}"
    )


@pytest.mark.parametrize(
    ("contrast", "past", "day", "ring", "words"),
    [
        (0.2, 0.001, "2020-03-04", 0.0, "as never in the baseline; its surroundings did not"),
        (0.2, -0.1, "2020-03-04", 0.0, "as never in the baseline; its surroundings did not"),
        (0.2, 0.0, "", 0.0, "with no image of the baseline to compare with; its surroundings did not"),
        (0.2, 0.19, "2020-03-04", 0.0, "about its largest drop in the baseline (0.19 on 2020-03-04)"),
        (0.1, 0.2, "2020-03-04", 0.0, "less than its largest drop in the baseline (0.20 on 2020-03-04)"),
        (0.3, 0.2, "2020-03-04", -0.2, "which rose by 0.20; 1.5 times its largest drop"),
        (-0.1, 0.2, "2020-03-04", 0.2, "which fell by 0.20; less than its largest drop"),
    ],
)
def test_a_sentence_fits_its_numbers(contrast: float, past: float, day: str, ring: float, words: str) -> None:
    assert words in reason_of(contrast, past, day, ring=ring)


def test_the_models_are_complete_and_their_thresholds_fall() -> None:
    models = load_models()
    assert tuple(model.name for model in models.models) == MODELS
    assert {term.feature for term in models.named("model").model.terms} == set(FEATURES)
    assert [term.feature for term in models.named("rule").model.terms] == ["exceeds_past"]
    assert models.named("rule").model.terms[0].weight > 0
    for model in models.models:
        levels, probabilities = zip(*model.thresholds, strict=True)
        assert list(levels) == sorted(levels)
        assert list(probabilities) == sorted(probabilities, reverse=True)
        assert model.threshold(levels[0] / 2) == CERTAIN, "fewer than any known number"
        assert model.threshold(math.inf) == round(probabilities[-1] * CERTAIN)
    assert len(models_id()) == 12
    assert models.provenance.changes < models.provenance.candidates


def test_the_advised_number_is_enough_and_not_much_more() -> None:
    for probability in (0.02, 0.031, 0.25, 0.9999):
        for area in (0.37, 40.0, 419.43, 1e6):
            advised = Closest().with_candidate(probability, area).false_per_1000km2
            assert advised is not None
            assert 1 - probability <= advised * area / 1000 <= 1.11 * (1 - probability)
    assert Closest().with_candidate(0.0199, 400.0).false_per_1000km2 is None, "no number is enough"
    sure = Closest().with_candidate(1.0, 400.0)
    assert sure.false_per_1000km2 == 0.0
