"""Fits the models that give the probability of a candidate, on simulated scenes, and writes them into the package.

    python -m benchmarks.model           # or: make model
    python -m benchmarks.model --check   # fits again, and fails unless the file is the same, bit for bit
    python -m benchmarks.model --judge   # figures of the models in the package, on scenes that they were not fitted on
    python -m benchmarks.model --small   # fits and judges on small scenes, writes nothing

Scenes for fitting and for judging have different seeds. Each seed is simulated twice: as a clean year of pairs of six
days, and as one of the other kinds of `benchmarks.accuracy.scenes` in turn, so that probabilities hold for these too.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from acdtask.change.detect import ImageChange, detect_against
from acdtask.change.judgement.choice import chosen, false_accepted
from acdtask.change.judgement.features import FEATURES, CoherenceScale, features_of
from acdtask.change.judgement.judging import MODEL, RULE
from acdtask.change.judgement.model import CERTAIN, Model, fit
from acdtask.change.judgement.whole import sums_of_image
from acdtask.change.methods import BASELINE_CLIPS, PROFILES, STANDARD
from acdtask.change.moments import Moments
from acdtask.change.thresholds import Detection
from acdtask.change.zscore import Quality
from acdtask.jobs.monitor.models import FILE, FittedModel, FittedModels, Provenance, load_models
from acdtask.jobs.monitor.series import ALGORITHM
from acdtask.jobs.report.score import FALSE_SHARE, FOUND_SHARE
from acdtask.jobs.simulate.job import SimulateJob
from acdtask.jobs.simulate.scene import Scene
from acdtask.jobs.simulate.settings import SceneSettings
from benchmarks.accuracy.scenes import CHOOSING_SEEDS, FIT_SEEDS, KINDS, Kind

METHOD = "robust"
SIZE, EVENTS = 512, 11
"""As many events per area as in the demo: probabilities depend on how common events are."""
SMALL_SIZE = 160
ACCEPTED = (10.0, 20.0, 50.0)
LEVELS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0)
"""False patches per 1000 km2 and image for which the file has thresholds."""
SMALL = (20, 100)
NODATA = -1
SCALE = CoherenceScale.of((0, 1000), PROFILES[METHOD].steps)
TARGET = Path(__file__).parents[1] / "acdtask/jobs/monitor" / FILE


@dataclass(frozen=True)
class JudgedImage:
    """A monitored image of a scene: candidates, patches of the standard method, and the truth.

    Attributes:
        features: by name, each of shape (candidates,).
        is_change: shape (candidates,), whether a candidate is an event.
        candidates, standard: shape (height, width), the candidate and the patch of each pixel; 0 is none.
        truth: shape (height, width), the event of each pixel; 0 is none.
        area_km2: judged area.
    """

    features: dict[str, NDArray[np.float64]]
    is_change: NDArray[np.bool_]
    candidates: NDArray[np.int32]
    standard: NDArray[np.int32]
    truth: NDArray[np.int32]
    area_km2: float


CLEAN, *OTHERS = (kind for kind in KINDS if kind.tracks == 1)


def scenes_of(seeds: Sequence[int]) -> list[tuple[Kind, int]]:
    """Each seed as a clean scene, then each as a scene of another kind, in turn."""
    others = [(OTHERS[place % len(OTHERS)], seed) for place, seed in enumerate(seeds)]
    return [*((CLEAN, seed) for seed in seeds), *others]


def images_of(of_scene: tuple[Kind, int], size: int = SIZE, *, with_standard: bool = False) -> list[JudgedImage]:
    """Find the candidates of all monitored images of a scene, given its kind and seed."""
    kind, seed = of_scene
    scene = Scene(SceneSettings.model_validate({**kind.settings, "seed": seed, "size": size, "events": EVENTS}))
    settings = scene.settings
    stack = np.stack([scene.image(pair) for pair in range(settings.reference_pairs)])
    moments, _ = Moments.clipped(stack, NODATA, BASELINE_CLIPS.get(METHOD, 0.0))
    return [
        _judged_image(scene, stack, moments, pair, with_standard=with_standard)
        for pair in range(settings.reference_pairs, settings.pairs)
    ]


def _judged_image(
    scene: Scene, stack: NDArray[np.int16], moments: Moments, pair: int, *, with_standard: bool
) -> JudgedImage:
    image = scene.image(pair)
    truth = np.zeros(image.shape, np.int32)
    for number, event in enumerate(scene.truth(), start=1):
        truth[event.pixels_in(pair)] = number
    change = _detected(moments, image, PROFILES[METHOD])
    sums = sums_of_image(change, stack, image, moments, nodata=NODATA)
    in_event = np.bincount(change.blob_ids.ravel(), (truth > 0).ravel(), len(change.blobs) + 1)[1:]
    return JudgedImage(
        features=features_of(change.blobs, sums, SCALE) if len(change.blobs) else {},
        is_change=in_event >= FALSE_SHARE * change.blobs["area"],
        candidates=change.blob_ids,
        standard=_detected(moments, image, STANDARD).blob_ids if with_standard else np.zeros_like(truth),
        truth=truth,
        area_km2=float(np.count_nonzero(change.score.quality == Quality.VALID)) * scene.settings.pixel**2 / 1e6,
    )


def _detected(moments: Moments, image: NDArray[np.int16], method: Detection) -> ImageChange:
    return detect_against(moments, image, method, nodata=NODATA)


def fitted(images: Sequence[JudgedImage]) -> FittedModels:
    """Fit both models to the candidates of some images."""
    images = [image for image in images if len(image.is_change)]
    is_change = np.concatenate([image.is_change for image in images])
    columns = {name: np.concatenate([image.features[name] for image in images]) for name in FEATURES}
    rule = {"exceeds_past": columns["contrast"] - columns["past_contrast"]}
    area_km2 = sum(image.area_km2 for image in images)
    models = []
    for name, values in ((MODEL, columns), (RULE, rule)):
        model = fit(values, is_change)
        thresholds = _thresholds(model.probabilities(values), area_km2)
        models.append(FittedModel(name=name, model=model, thresholds=thresholds))
    return FittedModels(models=tuple(models), provenance=_provenance(len(is_change), int(is_change.sum())))


def _thresholds(probabilities: NDArray[np.int64], area_km2: float) -> tuple[tuple[float, float], ...]:
    """For each level, the least probability of the candidates that are kept if all images are taken together."""
    kept = [(level, chosen(probabilities, false_accepted(level, area_km2))) for level in LEVELS]
    return tuple((level, int(probabilities[mask].min()) / CERTAIN) for level, mask in kept if mask.any())


def _provenance(candidates: int, changes: int) -> Provenance:
    scenes: dict[str, list[int]] = {}
    for kind, seed in scenes_of(FIT_SEEDS):
        scenes.setdefault(kind.name, []).append(seed)
    return Provenance(
        command="make model",
        scenes={kind: tuple(seeds) for kind, seeds in scenes.items()},
        size=SIZE,
        events=EVENTS,
        monitored_pairs=SceneSettings().monitored_pairs,
        algorithms={"monitor": ALGORITHM, "simulate": SimulateJob.algorithm},
        method=PROFILES[METHOD].recorded(),
        candidates=candidates,
        changes=changes,
    )


@dataclass(frozen=True)
class Figures:
    """How well patches agree with the events of one or more scenes."""

    f1: float
    f1_error: float
    false_per_1000km2: float
    small_found: float
    events_found: float

    def __str__(self) -> str:
        return (
            f"pixel F1 {self.f1:.3f} (s.e. {self.f1_error:.3f}), false per 1000 km2 and image"
            f" {self.false_per_1000km2:5.1f}, found {self.events_found:.2f}, of {SMALL[0]} to {SMALL[1]} px"
            f" {self.small_found:.2f}"
        )


def figures(scenes: Sequence[Sequence[tuple[JudgedImage, NDArray[np.int32]]]]) -> Figures:
    """Compare the patches of images, as arrays of their numbers, with the truth."""
    scores = [_f1(scene) for scene in scenes]
    pairs = [pair for scene in scenes for pair in scene]
    false = sum(_false(image, patches) for image, patches in pairs)
    events = [found for image, patches in pairs for found in _found(image, patches)]
    small = [found for area, found in events if SMALL[0] <= area <= SMALL[1]]
    return Figures(
        f1=float(np.mean(scores)),
        f1_error=float(np.std(scores) / max(len(scores) - 1, 1) ** 0.5),
        false_per_1000km2=false / sum(image.area_km2 for image, _ in pairs) * 1000,
        small_found=float(np.mean(small)) if small else float("nan"),
        events_found=float(np.mean([found for _, found in events])),
    )


def _f1(scene: Sequence[tuple[JudgedImage, NDArray[np.int32]]]) -> float:
    """The F1 of pixels of a scene. A pixel is right if an event, or a patch, is at most one pixel away."""
    right = shown = seen = true = 0
    for image, patches in scene:
        is_patch, is_event = patches > 0, image.truth > 0
        right += int(np.count_nonzero(is_patch & _grown(is_event)))
        seen += int(np.count_nonzero(is_event & _grown(is_patch)))
        shown, true = shown + int(is_patch.sum()), true + int(is_event.sum())
    precision, recall = right / max(shown, 1), seen / max(true, 1)
    return 2 * precision * recall / max(precision + recall, 1e-9)


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray(ndimage.binary_dilation(mask, np.ones((3, 3))), np.bool_)


def _false(image: JudgedImage, patches: NDArray[np.int32]) -> int:
    """Number of patches of which less than FALSE_SHARE is in events."""
    area = np.bincount(patches.ravel())[1:]
    in_event = np.bincount(patches.ravel(), (image.truth > 0).ravel(), len(area) + 1)[1:]
    return int(np.count_nonzero((area > 0) & (in_event < FALSE_SHARE * area)))


def _found(image: JudgedImage, patches: NDArray[np.int32]) -> Iterator[tuple[int, bool]]:
    """For each event of the image its area, and whether patches cover at least FOUND_SHARE of it."""
    for event in np.unique(image.truth)[1:].tolist():
        covered = patches[image.truth == event] > 0
        yield len(covered), bool(covered.sum() >= FOUND_SHARE * len(covered))


def kept_patches(image: JudgedImage, model: Model, accepted: float) -> NDArray[np.int32]:
    """The candidates of an image that are kept."""
    if not len(image.is_change):
        return image.candidates
    kept = chosen(probabilities_of(image, model), false_accepted(accepted, image.area_km2))
    return np.where(np.concatenate([[False], kept])[image.candidates], image.candidates, 0)


def probabilities_of(image: JudgedImage, model: Model) -> NDArray[np.int64]:
    """The probabilities of an image's candidates."""
    return model.probabilities(image.features)


def reliability(images: Sequence[JudgedImage], model: Model) -> list[str]:
    """For each fifth of the probability: number of candidates, mean probability, and share of changes."""
    probability = np.concatenate([probabilities_of(image, model) for image in images if len(image.is_change)]) / CERTAIN
    is_change = np.concatenate([image.is_change for image in images])
    number = np.minimum((probability * 5).astype(int), 4)
    return [
        f"p {part / 5:.1f} to {part / 5 + 0.2:.1f}: {(number == part).sum():5d} candidates, mean p"
        f" {probability[number == part].mean():.2f}, changes {is_change[number == part].mean():.2f}"
        for part in range(5)
        if (number == part).any()
    ]


def judged(seeds: Sequence[int], models: FittedModels, size: int = SIZE) -> list[str]:
    """Figures of the models on clean scenes, and of the standard method; the reliability also on other kinds."""
    scenes = _scenes(seeds, size, with_standard=True)
    clean, others = scenes[: len(seeds)], scenes[len(seeds) :]
    lines = [f"standard            {figures([[(image, image.standard) for image in scene] for scene in clean])}"]
    for fitted_model in models.models:
        for accepted in ACCEPTED:
            kept = [[(image, kept_patches(image, fitted_model.model, accepted)) for image in scene] for scene in clean]
            lines.append(f"{fitted_model.name:5} at {accepted:3.0f}        {figures(kept)}")
        for name, of_kind in ((CLEAN.name, clean), ("other kinds", others)):
            lines += [name, *reliability([image for scene in of_kind for image in scene], fitted_model.model)]
    return lines


def fitted_on(seeds: Sequence[int], size: int = SIZE) -> FittedModels:
    """Fit both models on scenes."""
    return fitted([image for scene in _scenes(seeds, size, with_standard=False) for image in scene])


def _scenes(seeds: Sequence[int], size: int, *, with_standard: bool) -> list[list[JudgedImage]]:
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(partial(images_of, size=size, with_standard=with_standard), scenes_of(seeds)))


def body_of(models: FittedModels) -> str:
    """The file's content."""
    return models.model_dump_json(indent=1) + "\n"


def main() -> None:
    """Fit, check or judge the models."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail if models.json would change")
    parser.add_argument("--judge", action="store_true", help="print figures on other scenes")
    parser.add_argument("--small", action="store_true", help="fit and judge on small scenes; nothing is written")
    arguments = parser.parse_args()
    if arguments.small:
        print("\n".join(judged(CHOOSING_SEEDS[:2], fitted_on(FIT_SEEDS[:2], SMALL_SIZE), SMALL_SIZE)))
        return
    if arguments.judge:
        print("\n".join(judged(CHOOSING_SEEDS, load_models())))
        return
    body = body_of(fitted_on(FIT_SEEDS))
    if arguments.check:
        sys.exit(f"{TARGET} differs from what 'make model' writes" if TARGET.read_text() != body else 0)
    TARGET.write_text(body)
    print(f"{TARGET} is written; figures on other scenes: python -m benchmarks.model --judge")


if __name__ == "__main__":
    main()
