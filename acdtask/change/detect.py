"""Change detection for a tile and for a whole image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acdtask.change.fragments import Fragments, find_fragments
from acdtask.change.methods import STANDARD
from acdtask.change.moments import Moments
from acdtask.change.polygons import Outline, join_all, trace
from acdtask.change.scene import BaselineArrays, Scene
from acdtask.change.seams import join_fragments
from acdtask.change.steps.step import Counts, Step, Whole, halo_of, measuring
from acdtask.change.thresholds import Detection
from acdtask.change.zscore import Quality, ZScore, z_score

__all__ = [
    "ImageChange",
    "TileChange",
    "apply_steps",
    "detect_against",
    "detect_change",
    "detect_in_tile",
    "detect_monolithic",
    "halo_before",
    "measure",
    "scene_of",
    "score_tile",
]


@dataclass(frozen=True, eq=False)
class TileChange:
    """The scores of a tile, and its fragments, which are joined with those of other tiles."""

    score: ZScore
    fragments: Fragments


@dataclass(frozen=True, eq=False)
class ImageChange:
    """The change in a whole image.

    Attributes:
        score: z and quality of each pixel; z after the steps of the method.
        blob_ids: shape (height, width), int32, the blob of each pixel; 0 is background.
        blobs: BLOB rows (`acdtask.change.seams`).
        outlines: outlines in pixel coordinates, by blob id.
    """

    score: ZScore
    blob_ids: NDArray[np.int32]
    blobs: NDArray[np.void]
    outlines: dict[int, Outline]


def score_tile(
    image: NDArray[Any],
    mean: NDArray[np.float32],
    std: NDArray[np.float32],
    count: NDArray[Any],
    settings: Detection,
    *,
    nodata: float | None,
    inside: NDArray[np.bool_] | None = None,
) -> ZScore:
    """Score a tile of a new image against its baseline.

    Args:
        image: shape (height, width), integers, in stored units.
        mean: mean of the baseline, same shape.
        std: population standard deviation of the baseline, same shape.
        count: number of baseline images, same shape.
        settings: thresholds and rules.
        nodata: the variable's nodata, or None.
        inside: same shape, True in the area of interest; None means everywhere.
    """
    image, nodata = settings.without_zeros(image, nodata)
    score = z_score(image, mean, std, count, nodata=nodata, min_count=settings.min_count, min_std=settings.min_std)
    if settings.direction == "rise":
        score = ZScore(-score.z, score.quality)
    if inside is None:
        return score
    z = np.where(inside, score.z, np.float32(np.nan))
    return ZScore(z, np.where(inside, score.quality, np.uint8(Quality.OUTSIDE)))


def scene_of(
    image: NDArray[Any],
    baseline: BaselineArrays,
    settings: Detection,
    *,
    nodata: float | None,
    inside: NDArray[np.bool_] | None = None,
    origin: tuple[int, int] = (0, 0),
) -> tuple[Scene, ZScore]:
    """Score an image against its baseline; no step is applied yet.

    Args:
        image: shape (height, width), integers, in stored units.
        baseline: same shape.
        settings: thresholds and rules.
        nodata: the variable's nodata, or None.
        inside: same shape, True where pixels may be judged; None means everywhere.
        origin: global (row, column) of the first pixel.
    """
    score = score_tile(image, baseline.mean, baseline.std, baseline.count, settings, nodata=nodata, inside=inside)
    return Scene.of(baseline, image, score.z, origin), score


def halo_before(steps: Sequence[Step], turn: int) -> int:
    """The halo that measuring step number `turn` (from 0) needs to count."""
    return halo_of(_until(steps, turn))


def measure(scene: Scene, steps: Sequence[Step], wholes: Sequence[Whole]) -> Counts:
    """Count in a tile for the next measuring step.

    Args:
        scene: the tile grown by `halo_before(steps, len(wholes))`.
        steps: the method.
        wholes: conclusions of the measuring steps before it.
    """
    turn = len(wholes)
    before = apply_steps(scene, _until(steps, turn), wholes)
    return measuring(steps)[turn].measure(before.without_margin(halo_before(steps, turn)))


def apply_steps(scene: Scene, steps: Sequence[Step], wholes: Sequence[Whole]) -> Scene:
    """Apply all steps. The result is valid without a margin of `halo_of(steps)` pixels.

    Args:
        scene: a tile, grown by that margin.
        steps: the method.
        wholes: conclusions of the measuring steps; measuring steps without one change nothing.
    """
    concluded = iter(wholes)
    for step in steps:
        scene = step.apply(scene, next(concluded, None) if step.measures else None)
    return scene


def _until(steps: Sequence[Step], turn: int) -> Sequence[Step]:
    positions = [position for position, step in enumerate(steps) if step.measures]
    return steps[: positions[turn]]


def detect_change(
    image: NDArray[Any],
    baseline: BaselineArrays,
    settings: Detection,
    *,
    nodata: float | None,
    origin: tuple[int, int],
    inside: NDArray[np.bool_] | None = None,
    wholes: Sequence[Whole] = (),
) -> TileChange:
    """Judge a tile of a new image and find its fragments of change.

    Args:
        image: the tile grown by the method's halo, integers, in stored units.
        baseline: same shape.
        settings: the method.
        nodata: the variable's nodata, or None.
        origin: global (row, column) of the tile's first pixel.
        inside: same shape, True where pixels may be judged; None means everywhere.
        wholes: what the measuring steps concluded about the whole image.
    """
    halo = halo_of(settings.steps)
    around = origin[0] - halo, origin[1] - halo
    scene, score = scene_of(image, baseline, settings, nodata=nodata, inside=inside, origin=around)
    scene = apply_steps(scene, settings.steps, wholes).without_margin(halo)
    fragments = find_fragments(
        scene.evidence(),
        low=settings.low,
        high=settings.high,
        min_area=settings.min_area,
        origin=origin,
        both=settings.direction == "both",
    )
    cut = slice(halo, -halo or None)
    return TileChange(ZScore(scene.z, score.quality[cut, cut]), fragments)


def detect_in_tile(
    image: NDArray[Any],
    mean: NDArray[np.float32],
    std: NDArray[np.float32],
    count: NDArray[Any],
    settings: Detection,
    *,
    nodata: float | None,
    origin: tuple[int, int],
    inside: NDArray[np.bool_] | None = None,
    wholes: Sequence[Whole] = (),
) -> TileChange:
    """Like `detect_change`, with the views of the baseline as separate arrays."""
    baseline = BaselineArrays(mean, std, count)
    return detect_change(image, baseline, settings, nodata=nodata, origin=origin, inside=inside, wholes=wholes)


def detect_monolithic(
    stack: NDArray[Any],
    image: NDArray[Any],
    settings: Detection = STANDARD,
    *,
    nodata: float | None,
    valid_range: tuple[float, float] = (0, 1000),
) -> ImageChange:
    """Find the change in a whole image against a stack of earlier images.

    Args:
        stack: the baseline, shape (images, height, width), integers of 8 or 16 bits.
        image: the new image, shape (height, width), same type.
        settings: thresholds and rules.
        nodata: the stored value that means no data, or None.
        valid_range: minimum and maximum valid stored value; centring divides it into bins.

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> stack = rng.normal(700, 50, (30, 40, 40)).astype(np.int16)
    >>> image = np.full((40, 40), 700, np.int16)
    >>> image[10:22, 5:17] = 200
    >>> change = detect_monolithic(stack, image, nodata=-1)
    >>> change.blobs["area"], change.outlines[1].bounds
    (array([144]), (5.0, 10.0, 17.0, 22.0))
    """
    moments = Moments.of_images(*settings.without_zeros(stack, nodata))
    return detect_against(moments, image, settings, nodata=nodata, valid_range=valid_range)


def detect_against(
    moments: Moments,
    image: NDArray[Any],
    settings: Detection = STANDARD,
    *,
    nodata: float | None,
    valid_range: tuple[float, float] = (0, 1000),
    inside: NDArray[np.bool_] | None = None,
    origin: tuple[int, int] = (0, 0),
) -> ImageChange:
    """Find the change in a whole image against the moments of earlier images.

    Args:
        moments: moments of the baseline, shape (height, width).
        image: the new image, same shape, integers of 8 or 16 bits.
        settings: thresholds and rules.
        nodata: the stored value that means no data, or None.
        valid_range: minimum and maximum valid stored value; centring divides it into bins.
        inside: same shape, True in the area of interest; None means everywhere.
        origin: global (row, column) of the first pixel, in which the result counts.
    """
    halo = halo_of(settings.steps)
    around = origin[0] - halo, origin[1] - halo
    image, within = np.pad(image, halo), np.pad(np.ones(image.shape, np.bool_) if inside is None else inside, halo)
    mean, std, count = moments.mean(), moments.standard_deviation(), moments.count
    baseline = BaselineArrays(np.pad(mean, halo), np.pad(std, halo), np.pad(count, halo), valid_range)
    wholes: list[Whole] = []
    for step in measuring(settings.steps):
        scene, _ = scene_of(image, baseline, settings, nodata=nodata, inside=within, origin=around)
        margin = halo - halo_before(settings.steps, len(wholes))
        wholes.append(step.conclude(measure(scene.without_margin(margin), settings.steps, wholes)))
    tile = detect_change(image, baseline, settings, nodata=nodata, origin=origin, inside=within, wholes=wholes)
    joined = join_fragments([tile.fragments.table])
    blob_ids = joined.blob_ids[0][tile.fragments.labels]
    return ImageChange(tile.score, blob_ids, joined.blobs, join_all(trace(blob_ids, origin)))
