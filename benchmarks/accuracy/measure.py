"""Measures of a method on scenes: pixels, patches, events, and calibration."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from skimage.segmentation import expand_labels

from acdtask.jobs.report.score import FALSE_SHARE, FOUND_SHARE
from benchmarks.accuracy.detected import Detected
from benchmarks.accuracy.scenes import Series

__all__ = ["SIZES", "Bin", "Candidate", "Event", "Figure", "Row", "SceneResult", "curve", "reliability", "row", "scene"]

TOLERANCE = 1.5
"""Pixels this close to an event or a patch count as part of it: one pixel at edges and corners."""
SIZES = ((20, 100), (100, 300), (300, math.inf))
"""Classes of events, in px: from the first number to below the second; the last class has no end."""
BINS = 10


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Candidate(_Record):
    """A candidate of an image.

    Attributes:
        pixels: its area.
        near: its pixels that are part of an event or next to one.
        covers: pixels of events that are part of it or next to it.
        is_event: whether at least FALSE_SHARE of it lies in events.
    """

    pixels: int
    near: int
    covers: int
    is_event: bool
    score: float
    kept: bool
    probability: float | None = None


class Event(_Record):
    """An event, and whether patches cover at least FOUND_SHARE of it on one of its dates."""

    area: int
    found: bool


class SceneResult(_Record):
    """What a method found in a scene.

    Attributes:
        true_pixels: pixels of events, over all images.
        judged_km2: area of all images.
    """

    candidates: list[Candidate]
    events: list[Event]
    true_pixels: int
    judged_km2: float


def scene(series: Series, detected: Sequence[Detected]) -> SceneResult:
    """Compare the candidates of a scene's monitored images with its events."""
    found = np.zeros(len(series.areas) + 1, np.bool_)
    candidates: list[Candidate] = []
    for events, found_there in zip(series.events, detected, strict=True):
        candidates += _candidates(events > 0, found_there)
        pixels = np.bincount(events.ravel(), minlength=len(found))
        covered = np.bincount(events[found_there.mask], minlength=len(found))
        found |= (pixels > 0) & (covered >= FOUND_SHARE * pixels)
    return SceneResult(
        candidates=candidates,
        events=[Event(area=area, found=bool(hit)) for area, hit in zip(series.areas, found[1:], strict=True)],
        true_pixels=int(np.count_nonzero(series.events)),
        judged_km2=series.judged_km2,
    )


def _candidates(truth: NDArray[np.bool_], detected: Detected) -> list[Candidate]:
    number = len(detected.kept)
    labels = detected.labels
    near_truth = expand_labels(truth.astype(np.uint8), TOLERANCE) > 0
    expanded = expand_labels(labels, TOLERANCE)
    pixels, near, inside, covers = (
        np.bincount(values, minlength=number + 1)[1:].tolist()
        for values in (labels.ravel(), labels[near_truth], labels[truth], expanded[truth])
    )
    probabilities = [None] * number if detected.probabilities is None else detected.probabilities.tolist()
    return [
        Candidate(
            pixels=pixels[k],
            near=near[k],
            covers=covers[k],
            is_event=inside[k] >= FALSE_SHARE * pixels[k],
            score=float(detected.scores[k]),
            kept=bool(detected.kept[k]),
            probability=probabilities[k],
        )
        for k in range(number)
    ]


@dataclass(frozen=True)
class Figure:
    """A mean and its standard error; NaN if there is nothing to average."""

    mean: float
    error: float

    def __str__(self) -> str:
        if math.isnan(self.mean):
            return ""
        return f"{self.mean:.2f}" if math.isnan(self.error) else f"{self.mean:.2f} ± {self.error:.2f}"


@dataclass(frozen=True)
class Row:
    """The figures of a method on scenes of a kind; of pixels, of patches, and of events by size."""

    pixel_precision: Figure
    pixel_recall: Figure
    pixel_f1: Figure
    patch_precision: Figure
    patch_recall: Figure
    patch_f1: Figure
    false_per_1000km2: Figure
    by_size: tuple[Figure, ...]


def row(results: Sequence[SceneResult]) -> Row:
    """The means over scenes. Recall by size is of all events together, with the error of a share."""
    pixel = [_pixel_scores(result, [c for c in result.candidates if c.kept]) for result in results]
    patch = [_patch_scores(result) for result in results]
    false = [sum(c.kept and not c.is_event for c in r.candidates) / r.judged_km2 * 1000 for r in results]
    events = [event for result in results for event in result.events]
    sizes = [[event.found for event in events if low <= event.area < high] for low, high in SIZES]
    return Row(
        pixel_precision=_mean([scores[0] for scores in pixel]),
        pixel_recall=_mean([scores[1] for scores in pixel]),
        pixel_f1=_mean([scores[2] for scores in pixel]),
        patch_precision=_mean([scores[0] for scores in patch]),
        patch_recall=_mean([scores[1] for scores in patch]),
        patch_f1=_mean([scores[2] for scores in patch]),
        false_per_1000km2=_mean(false),
        by_size=tuple(_share(found) for found in sizes),
    )


def _mean(values: Sequence[float]) -> Figure:
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return Figure(math.nan, math.nan)
    error = float(np.std(known, ddof=1)) / math.sqrt(len(known)) if len(known) > 1 else math.nan
    return Figure(float(np.mean(known)), error)


def _share(found: Sequence[bool]) -> Figure:
    if not found:
        return Figure(math.nan, math.nan)
    share = sum(found) / len(found)
    return Figure(share, math.sqrt(share * (1 - share) / len(found)))


def _scores(precision: float, recall: float) -> tuple[float, float, float]:
    """Precision, recall and F1. Without patches precision is unknown and F1 is 0."""
    if math.isnan(precision) or precision + recall == 0:
        return precision, recall, 0.0
    return precision, recall, 2 * precision * recall / (precision + recall)


def _pixel_scores(result: SceneResult, patches: Sequence[Candidate]) -> tuple[float, float, float]:
    shown = sum(c.pixels for c in patches)
    precision = sum(c.near for c in patches) / shown if shown else math.nan
    return _scores(precision, sum(c.covers for c in patches) / result.true_pixels if result.true_pixels else math.nan)


def _patch_scores(result: SceneResult) -> tuple[float, float, float]:
    kept = [c.is_event for c in result.candidates if c.kept]
    precision = sum(kept) / len(kept) if kept else math.nan
    found = [event.found for event in result.events]
    return _scores(precision, sum(found) / len(found) if found else math.nan)


def curve(results: Sequence[SceneResult]) -> list[tuple[float, float]]:
    """Recall and precision of pixels as fewer and fewer candidates are kept, from all of them to the best one."""
    candidates = sorted((c for result in results for c in result.candidates), key=lambda c: -c.score)
    true = sum(result.true_pixels for result in results)
    shown, near, covers = (np.cumsum([getattr(c, name) for c in candidates]) for name in ("pixels", "near", "covers"))
    ends = [
        k for k, c in enumerate(candidates) if k + 1 == len(candidates) or candidates[k + 1].score != c.score
    ]  # candidates of the same score are kept together
    return [(float(covers[k] / true), float(near[k] / shown[k])) for k in reversed(ends)]


@dataclass(frozen=True)
class Bin:
    """Candidates whose probability lies in a tenth of 0 to 1.

    Attributes:
        expected: their mean probability.
        observed: the share of them that are events.
    """

    candidates: int
    expected: float
    observed: float


def reliability(results: Iterable[SceneResult]) -> list[Bin]:
    """The calibration of the probabilities; empty if the method gives none. Empty bins are left out."""
    pairs = [(c.probability, c.is_event) for r in results for c in r.candidates if c.probability is not None]
    bins = []
    for k in range(BINS):
        inside = [(p, is_event) for p, is_event in pairs if min(int(p * BINS), BINS - 1) == k]
        if inside:
            expected, observed = (float(np.mean(values)) for values in zip(*inside, strict=True))
            bins.append(Bin(len(inside), expected, observed))
    return bins
