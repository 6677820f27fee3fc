"""Compares ways to fuse two tracks with one track alone, at the same number of false patches.

    python -m benchmarks.fusion          # on scenes for judging
    python -m benchmarks.fusion --fit    # on scenes for fitting, on which the defaults were chosen, with their prior
    python -m benchmarks.fusion --small  # two small scenes, as a test; the figures mean nothing

Each track's candidates are found and judged by `robust`. All findings of a scene are ranked by probability; F1 of
pixels is read where the number of false patches per 1000 km2 and window reaches a level.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage
from shapely.geometry.base import BaseGeometry

from acdtask.change.fusion import FUSING, Candidate, Finding, Fusing, fuse, sample_points
from acdtask.change.judgement.model import CERTAIN
from acdtask.change.polygons import join_all, trace
from acdtask.jobs.report.score import FALSE_SHARE
from benchmarks.accuracy.detected import Detected
from benchmarks.accuracy.methods import methods
from benchmarks.accuracy.scenes import FIT_SEEDS, JUDGE_SEEDS, KINDS, Series, series_of

METHOD, KIND = "`robust`", "two tracks"
SCENES = 8
LEVELS = (2.0, 5.0, 10.0, 20.0)
"""False patches per 1000 km2 and window."""
SMALL = {"size": 128, "monitored_pairs": 3, "events": 3}
SEEN_SHARE = 0.5

Scores: TypeAlias = Callable[[Finding, Sequence[Candidate]], float]


@dataclass(frozen=True)
class Way:
    """A way to join tracks: the fusion, and the score by which findings are ranked."""

    name: str
    fusing: Fusing
    score: Scores = lambda finding, _: finding.probability


def _highest(finding: Finding, candidates: Sequence[Candidate]) -> float:
    return candidates[finding.candidates[0]].probability


WAYS = (
    Way("union of judged candidates: the highest probability", FUSING, _highest),
    Way("**sum of log odds, shrunk by 0.6**", FUSING),
    Way("sum of log odds, shrunk by 0.8", replace(FUSING, shrink=0.8)),
    Way("sum of log odds", replace(FUSING, shrink=1.0)),
    Way("shrunk by 0.8, less 0.5 if the other track has none", replace(FUSING, shrink=0.8, absence=0.5)),
    Way("shrunk by 0.8, less 1 if the other track has none", replace(FUSING, shrink=0.8, absence=1.0)),
    Way("shrunk by 0.8, outline of the most probable alone", replace(FUSING, shrink=0.8, outline=1.0)),
)


@dataclass(frozen=True)
class Shown:
    """A finding as pixels of its image: how certain, how many, how many near an event, how many of events near it."""

    score: float
    pixels: int
    near: int
    covers: int
    is_event: bool


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=SCENES, help=f"number of scenes ({SCENES})")
    parser.add_argument("--fit", action="store_true", help="take the scenes for fitting")
    parser.add_argument("--small", action="store_true", help="two small scenes")
    arguments = parser.parse_args()
    seeds = (FIT_SEEDS if arguments.fit else JUDGE_SEEDS)[: 2 if arguments.small else arguments.scenes]
    print("\n".join(table(seeds, **(SMALL if arguments.small else {}))))


def table(seeds: Sequence[int], **others: int) -> list[str]:
    """The lines of the table: F1 of pixels at each level, means over scenes, and the gain over one track."""
    kind = next(kind for kind in KINDS if kind.name == KIND)
    run = next(method.run for method in methods() if method.name == METHOD)
    scores: dict[str, list[list[float]]] = {}
    share: list[float] = []
    for seed in seeds:
        tracks = series_of(kind, seed, **others)
        detected = [run(series) for series in tracks]
        for name, figures in _scene(tracks, detected, share).items():
            scores.setdefault(name, []).append(figures)
    one = np.mean([scores["first track"], scores["second track"]], axis=0)
    head = ["| way |", *(f" {level:g} false | gain |" for level in LEVELS)]
    lines = [f"{len(seeds)} scenes; {np.mean(share):.3f} of the candidates are changes", "".join(head)]
    lines.append("|---|" + "---|---|" * len(LEVELS))
    for name, rows in scores.items():
        gains = np.array(rows) - one
        errors = gains.std(axis=0, ddof=1) / math.sqrt(len(rows)) if len(rows) > 1 else gains[0] * math.nan
        cells = zip(np.mean(rows, axis=0), gains.mean(axis=0), errors, strict=True)
        lines.append(f"| {name} |" + "".join(f" {f1:.3f} | {gain:+.3f} ± {error:.3f} |" for f1, gain, error in cells))
    return lines


def _scene(tracks: Sequence[Series], detected: Sequence[list[Detected]], share: list[float]) -> dict[str, list[float]]:
    """The F1 of pixels of each way at each level, for a scene. The share of changes among candidates joins `share`."""
    events = tracks[0].events
    area_km2 = tracks[0].monitored.size * tracks[0].pixel_km2
    shown: dict[str, list[Shown]] = {"first track": [], "second track": [], **{way.name: [] for way in WAYS}}
    for index, truth in enumerate(events):
        images = [of_track[index] for of_track in detected]
        seen = [series.monitored[index] != series.nodata for series in tracks]
        candidates = [candidate for member, image in enumerate(images) for candidate in _candidates(member, image)]
        for member, name in enumerate(("first track", "second track")):
            alone = [candidate for candidate in candidates if candidate.member == member]
            shown[name] += [_shown(each.outline, each.probability, truth > 0) for each in alone]
        for way in WAYS:
            findings = fuse(candidates, len(tracks), _sees(seen), way.fusing)
            shown[way.name] += [
                _shown(finding.outline, way.score(finding, candidates), truth > 0) for finding in findings
            ]
    share += [each.is_event for name in ("first track", "second track") for each in shown[name]]
    true = int(np.count_nonzero(events))
    return {name: _at_levels(of_way, true, area_km2) for name, of_way in shown.items()}


def _candidates(member: int, image: Detected) -> list[Candidate]:
    """The candidates of an image, with outlines in pixels: x is the column, y the row."""
    probabilities = np.zeros(len(image.kept)) if image.probabilities is None else image.probabilities
    numbers = [round(probability * CERTAIN) for probability in probabilities.tolist()]
    outlines = join_all(trace(image.labels, (0, 0)))
    return [Candidate(member, outline, max(numbers[blob - 1], 1)) for blob, outline in outlines.items()]


def _sees(seen: Sequence[NDArray[np.bool_]]) -> Callable[[int, BaseGeometry], bool]:
    def sees(member: int, outline: BaseGeometry) -> bool:
        columns, rows = sample_points(outline).astype(int).T
        return float(np.mean(seen[member][rows, columns])) >= SEEN_SHARE

    return sees


def _shown(outline: BaseGeometry, score: float, truth: NDArray[np.bool_]) -> Shown:
    """Compare a finding with the truth, with a tolerance of one pixel."""
    left, top, right, bottom = (int(value) for value in outline.bounds)
    rows = slice(max(top - 1, 0), bottom + 1)
    columns = slice(max(left - 1, 0), right + 1)
    x, y = np.meshgrid(
        np.arange(columns.start, min(columns.stop, truth.shape[1])) + 0.5,
        np.arange(rows.start, min(rows.stop, truth.shape[0])) + 0.5,
    )
    mask = shapely.contains_xy(outline, x.ravel(), y.ravel()).reshape(x.shape)
    wider = np.pad(truth, 1)[rows.start : rows.stop + 2, columns.start : columns.stop + 2]
    near = _grown(wider)[1 : 1 + mask.shape[0], 1 : 1 + mask.shape[1]]
    inside = truth[rows, columns]
    pixels = int(mask.sum())
    return Shown(
        score=score,
        pixels=pixels,
        near=int((mask & near).sum()),
        covers=int((_grown(mask) & inside).sum()),
        is_event=int((mask & inside).sum()) >= FALSE_SHARE * pixels,
    )


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray(ndimage.binary_dilation(mask, np.ones((3, 3))), np.bool_)


def _at_levels(shown: Sequence[Shown], true: int, area_km2: float) -> list[float]:
    """The F1 of pixels with as many findings, most certain first, as have no more false ones than each level."""
    ordered = sorted(shown, key=lambda each: -each.score)
    false = np.cumsum([not each.is_event for each in ordered]) / area_km2 * 1000
    pixels, near, covers = (
        np.cumsum([getattr(each, name) for each in ordered]) for name in ("pixels", "near", "covers")
    )
    precision, recall = near / np.maximum(pixels, 1), np.minimum(covers / max(true, 1), 1)
    f1 = np.concatenate([[0.0], 2 * precision * recall / np.maximum(precision + recall, 1e-9)])
    return [float(f1[np.searchsorted(false, level, side="right")]) for level in LEVELS]


if __name__ == "__main__":
    main()
