"""Runs all methods on all scenes, in several processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from benchmarks.accuracy.detected import Detected, united
from benchmarks.accuracy.measure import SceneResult, scene
from benchmarks.accuracy.methods import Run, methods
from benchmarks.accuracy.scenes import KINDS, Kind, Series, series_of

__all__ = ["CURVES_OF", "Results", "SceneResults", "judge", "judge_scene"]

CURVES_OF = "clean"
"""The kind of scene of which precision-recall curves are drawn."""


class SceneResults(BaseModel):
    """The results of all methods on a scene, by the method's name; `curves` for all of their candidates."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    seed: int
    methods: dict[str, SceneResult]
    curves: dict[str, SceneResult] = {}


Results = dict[str, list[SceneResults]]
"""The results of the scenes of each kind, by the kind's name, in the order of seeds."""


def judge_scene(kind: Kind, seed: int, size: int | None = None, **others: int) -> SceneResults:
    """Simulate a scene and run all methods on it.

    Args:
        kind: the kind of the scene.
        seed: its seed.
        size: its width and height in pixels; None for that of all scenes.
        others: other settings of the scene.
    """
    tracks = series_of(kind, seed, **({"size": size} if size else {}), **others)
    judged: dict[str, SceneResult] = {}
    curves: dict[str, SceneResult] = {}
    for method in (method for method in methods() if method.is_judged_on(kind.name)):
        judged[method.name] = scene(tracks[0], _run(method.run, tracks))
        if method.candidates is not None and kind.name == CURVES_OF:
            curves[method.name] = scene(tracks[0], method.candidates(tracks[0]))
    return SceneResults(kind=kind.name, seed=seed, methods=judged, curves=curves)


def _run(run: Run, tracks: Sequence[Series]) -> list[Detected]:
    if len(tracks) == 1:
        return run(tracks[0])
    return [united(list(images)) for images in zip(*map(run, tracks), strict=True)]


def judge(
    seeds: Sequence[int], workers: int, keep: Path | None = None, kinds: Sequence[Kind] = KINDS, **others: int
) -> Results:
    """Judge all methods on scenes of all kinds, and print each finished scene.

    Args:
        seeds: seeds of the scenes, the same for every kind.
        workers: number of processes.
        keep: folder for the results of each scene; those that it has already are not computed again.
        kinds: the kinds of scenes.
        others: other settings of the scenes, such as size.
    """
    results: dict[tuple[str, int], SceneResults] = {}
    missing = []
    for seed in seeds:
        for kind in kinds:
            path = _kept(keep, kind, seed)
            if path is not None and path.exists():
                results[kind.name, seed] = SceneResults.model_validate_json(path.read_bytes())
            else:
                missing.append((kind, seed))
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn) as pool:
        futures = [pool.submit(judge_scene, kind, seed, **others) for kind, seed in missing]
        for number, future in enumerate(as_completed(futures), start=1):
            result = future.result()
            results[result.kind, result.seed] = result
            print(f"{number} of {len(futures)}: {result.kind}, seed {result.seed}", flush=True)
            path = _kept(keep, next(kind for kind in kinds if kind.name == result.kind), result.seed)
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(result.model_dump_json(), encoding="utf-8")
    return {kind.name: [results[kind.name, seed] for seed in seeds] for kind in kinds}


def _kept(keep: Path | None, kind: Kind, seed: int) -> Path | None:
    return keep / f"{kind.name.replace(' ', '-')}-{seed}.json" if keep else None
