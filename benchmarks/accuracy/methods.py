"""The methods that are compared. A row of the table is an entry of `METHODS` or of `PROFILE_ROWS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from acdtask.change.detect import ImageChange, detect_against
from acdtask.change.fragments import FIXED
from acdtask.change.judgement.choice import false_accepted
from acdtask.change.judgement.features import CoherenceScale
from acdtask.change.judgement.judge import judge
from acdtask.change.judgement.judging import Judging
from acdtask.change.judgement.model import CERTAIN
from acdtask.change.judgement.sums import BlobSums
from acdtask.change.judgement.whole import sums_of_image
from acdtask.change.methods import BASELINE_CLIPS, PROFILES, detection_for
from acdtask.change.moments import Moments
from acdtask.change.thresholds import Detection
from acdtask.change.zscore import Quality
from acdtask.jobs.monitor.models import load_models
from benchmarks.accuracy import others
from benchmarks.accuracy.detected import Detected
from benchmarks.accuracy.scenes import Series

__all__ = ["PROFILE_ROWS", "Method", "ProfileRow", "methods", "missing_profiles"]

Run: TypeAlias = Callable[[Series], list[Detected]]
"""Finds the patches of each monitored image of a series."""

VALID_RANGE, SCALE = (0, 1000), 0.001


@dataclass(frozen=True)
class Method:
    """A method.

    Attributes:
        name: the row's title.
        run: finds the patches.
        candidates: finds more than the patches, ranked, for the precision-recall curve; None draws a point.
        kinds: kinds of scenes on which it is judged; None means all.
    """

    name: str
    run: Run
    candidates: Run | None = None
    kinds: tuple[str, ...] | None = None

    def is_judged_on(self, kind: str) -> bool:
        """Whether the table of a kind of scenes has this method."""
        return self.kinds is None or kind in self.kinds


@dataclass(frozen=True)
class ProfileRow:
    """A profile of acd with some settings changed, as the options of `acdtask monitor` change them.

    Attributes:
        profile: its name in PROFILES. If this version of acd has no such profile, the page says so.
        title: what is changed.
        given: the changed settings by name, including those of steps; None turns a step off.
        clip: the clip of the baseline; None means the profile's.
        curve: whether the precision-recall curve is drawn.
        kinds: kinds of scenes on which it is judged; None means all.
    """

    profile: str
    title: str = ""
    given: Mapping[str, Any] | None = None
    clip: float | None = None
    curve: bool = False
    kinds: tuple[str, ...] | None = None

    @property
    def name(self) -> str:
        """The row's title."""
        return f"`{self.profile}`{', ' if self.title else ''}{self.title}"


STEP_BY_STEP = ("clean", "contaminated")
"""Kinds of scenes on which methods are judged without one of their steps; on all kinds it would take too long."""

PROFILE_ROWS = (
    ProfileRow("tutorial", curve=True),
    ProfileRow("standard", curve=True),
    ProfileRow("standard", "not centred", {"centred": False}, kinds=STEP_BY_STEP),
    ProfileRow("standard", "`--low 1.4 --high 3.4 --min-area 50`", {"low": 1.4, "high": 3.4, "min_area": 50}),
    ProfileRow("robust", curve=True),
    ProfileRow("robust", "baseline not clipped", clip=0.0, kinds=STEP_BY_STEP),
    ProfileRow("robust", "centred, not calibrated", {"calibrated": False, "centred": True}, kinds=STEP_BY_STEP),
    ProfileRow("robust", "not smoothed", {"smooth": 0.0}, kinds=STEP_BY_STEP),
    ProfileRow("robust", "no mean field", {"mean_field": False}, kinds=STEP_BY_STEP),
    ProfileRow("robust", "no wide mean", {"wide": 0.0}, kinds=STEP_BY_STEP),
    ProfileRow("robust", "judged by the rule", {"judged_by": "rule"}, kinds=STEP_BY_STEP),
)
"""Without one of its steps, `robust` has the model that was fitted with all of them."""


def methods() -> list[Method]:
    """All methods, in the order of the table."""
    return [
        Method("tutorial as printed", others.tutorial_as_printed),
        *(_of_profile(row) for row in PROFILE_ROWS if row.profile in PROFILES),
        Method("median and MAD, 1.7 / 3 / 100 px", others.median_mad),
        Method("Olen and Bookhagen, 5th percentile", others.percentile),
        Method("Olen and Bookhagen, 1st percentile", lambda series: others.percentile(series, 0.01)),
        Method("DIST-S1, first alert of high confidence", others.dist_s1),
        Method("DIST-S1, confirmed alerts", others.dist_s1_confirmed),
    ]


def missing_profiles() -> list[str]:
    """The names of rows whose profile this version of acd does not have."""
    return [row.name for row in PROFILE_ROWS if row.profile not in PROFILES]


def _of_profile(row: ProfileRow) -> Method:
    detection = detection_for(row.profile, VALID_RANGE, SCALE, dict(row.given or {}))
    clip = BASELINE_CLIPS.get(row.profile, 0.0) if row.clip is None else row.clip
    # A method that judges candidates ranks them all; of others, lower thresholds show what they rank.
    generous = detection if detection.judging else replace(detection, high=detection.low)
    return Method(
        row.name,
        lambda series: _detect(series, detection, clip),
        (lambda series: _detect(series, generous, clip)) if row.curve else None,
        row.kinds,
    )


def _detect(series: Series, detection: Detection, clip: float) -> list[Detected]:
    stack, nodata = detection.without_zeros(series.reference, series.nodata)
    moments = series.moments if stack is series.reference and not clip else Moments.clipped(stack, nodata, clip)[0]
    detected = []
    for image in series.monitored:
        change = detect_against(moments, image, detection, nodata=series.nodata, valid_range=VALID_RANGE)
        if detection.judging is None:
            detected.append(_patches(change))
        else:
            sums = sums_of_image(change, stack, image, moments, nodata=nodata)
            scale = CoherenceScale.of(VALID_RANGE, detection.steps)
            detected.append(_judged(change, sums, detection.judging, scale, series.pixel_km2))
    return detected


def _judged(change: ImageChange, sums: BlobSums, judging: Judging, scale: CoherenceScale, pixel_km2: float) -> Detected:
    """The candidates of an image, ranked by their probability, as the monitor chooses among them."""
    fitted = load_models().named(judging.judged_by)
    area_km2 = float(np.count_nonzero(change.score.quality == Quality.VALID)) * pixel_km2
    rows = judge(
        change.blobs,
        sums,
        fitted.model,
        scale,
        accepted=false_accepted(judging.false_per_1000km2, area_km2),
        sure=fitted.threshold(judging.false_per_1000km2),
    )
    kept, probabilities = np.zeros(len(change.blobs), np.bool_), np.zeros(len(change.blobs))
    kept[rows["id"] - 1], probabilities[rows["id"] - 1] = rows["kept"], rows["probability"] / CERTAIN
    return Detected(change.blob_ids, kept, probabilities, probabilities)


def _patches(change: ImageChange) -> Detected:
    """The blobs of an image as patches, ranked by their highest z."""
    number = len(change.blobs)
    return Detected(change.blob_ids, np.ones(number, np.bool_), change.blobs["z_max"] / FIXED)
