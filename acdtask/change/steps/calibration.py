"""Calibration: z in standard deviations of what the image's other pixels did, nearby and at similar coherence.

Rain, snow or a long perpendicular baseline lowers the coherence of whole land covers, some regions more than others.
The baseline's standard deviation contains these common terms, so z is too large on some dates and too small on others.
The distribution of an image's own scores, most of which are of unchanged ground, shows by how much: an "empirical null"
(B. Efron, "Large-scale simultaneous hypothesis testing: the choice of a null hypothesis", J. Am. Stat. Assoc. 99,
2004). For a pixel p in bin b of mean coherence and at a place x,

    d(p) = (z(p) - m(b) - o(x)) / s(b)        z'(p) = T(d(p))

m(b): median z of the bin's pixels in the image. Bins are 20 of equal width over the variable's range, merged with their
    neighbours until each has an eighth of the image's scores, and LEAST at least.
o(x): median of z - m in the block of 96 px around x, of the global pixel lattice, interpolated bilinearly between the
    centres of blocks; blocks with fewer than a quarter of their pixels count as absent.
s(b): half of the range from the 16th to the 84th percentile of z - m - o, relative to that of the normal distribution.
    Changes widen only the upper half of it, so it is at most WIDER times what the lower half gives.
T: from Student's t to the normal distribution. Mean and standard deviation are estimates from n images, so d has the
    tails of t with n - 1 degrees of freedom, and heavier ones, because the spread of a bin's pixels differs:
    1 / nu = 1 / (n - 1) + 1 / MOST_FREEDOM. T keeps one standard deviation as it is.

Medians and percentiles come from counts of integers (`acdtask.change.levels`), added over tiles in any order. T is a
table of rounded numbers, so it does not depend on the C library. Halo: none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from acdtask.change.levels import BINS, BLOCK, HUNDREDTHS, LevelCounts, ZLevels, cells_of
from acdtask.change.scene import BaselineArrays, Scene
from acdtask.change.steps.centring import bins_of_mean
from acdtask.change.steps.step import Counts, Step, StepSettings, Whole

__all__ = ["Calibration", "CalibrationSettings", "normal_scores"]

SHARE = 8
"""A bin is merged with the next ones until it has a SHARE-th of the image's scores."""

LEAST = 300
"""Minimum number of scores of a bin, if the image has as many."""

LEAST_OF_IMAGE = 200
"""An image with fewer scores is not centred."""

LEAST_OF_BLOCK = BLOCK * BLOCK // 4
"""Minimum number of scores of a block."""

LOWER, MIDDLE, UPPER = (16, 100), (1, 2), (84, 100)
HALF_RANGE = 0.99446
"""Half of the range from the 16th to the 84th percentile of the standard normal distribution."""

WIDER = 1.2
LEAST_SCALE, MOST_SCALE = 0.5, 4.0
MOST_FREEDOM = 12
STEPS_PER_Z = 64
"""Steps of the table T per unit."""

TABLE_LIMIT = 30
"""Larger deviations are taken as this."""

TABLE_ROUNDING = 2**12


@dataclass(frozen=True, eq=False)
class _Background:
    """What the image's scores have in common.

    Attributes:
        median, scale: shape (BINS,): m in hundredths and s in thousandths.
        blocks: shape (n, 3): row, column and o in hundredths, of blocks that have enough scores.
    """

    median: NDArray[np.int64]
    scale: NDArray[np.int64]
    blocks: NDArray[np.int64]

    @classmethod
    def of(cls, counts: LevelCounts) -> _Background:
        levels = ZLevels.of(counts)
        if not levels.count.size or levels.count.sum() < LEAST_OF_IMAGE:
            return cls(np.zeros(BINS, np.int64), np.full(BINS, 1000), np.zeros((0, 3), np.int64))
        group = _merged(levels.totals(levels.bin, BINS))
        groups = int(group[-1]) + 1
        (median,) = levels.quantiles(group[levels.bin], groups, [MIDDLE])
        levels = levels.shifted(median[group[levels.bin]])
        number = len(levels.blocks)
        (offset,) = levels.quantiles(levels.block, number, [MIDDLE])
        enough = levels.totals(levels.block, number) >= LEAST_OF_BLOCK
        offset[~enough] = 0
        levels = levels.shifted(offset[levels.block])
        scale = _scale(*levels.quantiles(group[levels.bin], groups, [LOWER, MIDDLE, UPPER]))
        blocks = np.concatenate([levels.blocks, offset[:, np.newaxis]], axis=1)[enough]
        return cls(median[group], scale[group], blocks)

    def packed(self) -> Whole:
        """As one array of integers, shape (3, BINS + n)."""
        bins = np.stack([self.median, self.scale, np.zeros(BINS, np.int64)])
        return np.concatenate([bins, self.blocks.T], axis=1)

    @classmethod
    def unpacked(cls, whole: Whole) -> _Background:
        return cls(whole[0, :BINS], whole[1, :BINS], whole[:, BINS:].T)

    def common(self, bins: NDArray[np.uint8], origin: tuple[int, int]) -> NDArray[np.float32]:
        """The common part of each pixel's z: m + o."""
        common = (self.median / HUNDREDTHS).astype(np.float32)[bins]
        if len(self.blocks):
            common += self._offsets(bins.shape, origin)
        return common

    def _offsets(self, shape: tuple[int, ...], origin: tuple[int, int]) -> NDArray[np.float32]:
        """The offset o of each pixel, from sums of integers."""
        (top, row, row_weight), (left, column, column_weight) = (
            _between(first, size) for first, size in zip(origin, shape, strict=True)
        )
        known = np.zeros((int(row[-1]) + 2, int(column[-1]) + 2), np.int32)
        value = np.zeros_like(known)
        place = self.blocks[:, :2] - (top, left)
        near = ((place >= 0) & (place < known.shape)).all(axis=1)
        known[tuple(place[near].T)] = 1
        value[tuple(place[near].T)] = self.blocks[near, 2]
        total, weight = (_interpolated(field, row, row_weight, column, column_weight) for field in (value, known))
        np.maximum(weight, 1, out=weight)
        weight *= HUNDREDTHS
        offsets: NDArray[np.float32] = (total / weight).astype(np.float32)
        return offsets


@dataclass(frozen=True)
class Calibration(Step):
    """Centres and scales z by the distribution of the image's scores.

    >>> rng = np.random.default_rng(0)
    >>> z = rng.normal(1.5, 0.6, (100, 100)).astype(np.float32)
    >>> z[40:44, 40:44] = 6
    >>> scene = Scene.of(BaselineArrays(np.full_like(z, 650), np.full_like(z, 30), np.full(z.shape, 60)), z, z)
    >>> whole = Calibration().conclude(Calibration().measure(scene))
    >>> calibrated = Calibration().apply(scene, whole).z
    >>> calibrated[:40].std().round(1), calibrated[41, 41].round(1)
    (np.float32(1.0), np.float32(4.3))
    """

    measures: ClassVar[bool] = True

    @classmethod
    def chosen(cls, given: Mapping[str, Any]) -> Self | None:
        """Calibration if `calibrated` is true."""
        return cls() if given.get("calibrated") else None

    @classmethod
    def recorded(cls, step: Self | None) -> dict[str, Any]:
        """That z is calibrated, if it is."""
        return {"calibrated": True} if step else {}

    def measure(self, scene: Scene) -> Counts:
        """Count each z by block, bin and level."""
        return LevelCounts.of(scene.z, _cells(scene), scene.origin).rows

    def total(self, parts: Sequence[Counts]) -> Counts:
        """Add the counts of tiles."""
        return LevelCounts.total([LevelCounts(part) for part in parts]).rows

    def conclude(self, counts: Counts) -> Whole:
        """The median and scale of each bin, and the offsets of blocks."""
        return _Background.of(LevelCounts(counts)).packed()

    def part(self, whole: Whole, areas: Sequence[tuple[int, int, int, int]]) -> Whole:
        """Only the offsets of blocks in or next to the areas."""
        row, column = whole[:2, BINS:]
        near = np.zeros(len(row), np.bool_)
        for top, left, bottom, right in areas:
            near |= (
                (row >= top // BLOCK - 1)
                & (row <= bottom // BLOCK + 1)
                & ((column >= left // BLOCK - 1) & (column <= right // BLOCK + 1))
            )
        return np.concatenate([whole[:, :BINS], whole[:, BINS:][:, near]], axis=1)

    def apply(self, scene: Scene, whole: Whole | None) -> Scene:
        """Replace z by calibrated z."""
        if whole is None:
            return scene
        background, bins = _Background.unpacked(whole), _bins(scene.baseline)
        scale = (background.scale / 1000).astype(np.float32)[bins]
        deviation = scene.z - background.common(bins, scene.origin)
        deviation /= scale
        scale *= scene.baseline.std
        z = normal_scores(deviation, _half_freedoms(scene.baseline))
        return replace(scene, z=z, extent=z, seed=z, deviation=deviation, spread=scale)


class CalibrationSettings(StepSettings):
    """Whether z is calibrated; default: the profile's."""

    step: ClassVar[type[Step]] = Calibration
    calibrated: bool | None = Field(
        default=None,
        description="measure z in standard deviations of the image's own scores, nearby and at similar mean coherence"
        " (robust: yes)",
    )


def normal_scores(deviation: NDArray[np.float32], half_freedoms: NDArray[np.uint8]) -> NDArray[np.float32]:
    """T: the normal scores of deviations that have Student's t distribution. NaN stays NaN.

    Args:
        deviation: any shape.
        half_freedoms: twice the degrees of freedom, same shape, 2 to 2 * MOST_FREEDOM.

    >>> normal_scores(np.array([-1, 0, 1, 3, 100], np.float32), np.full(5, 20, np.uint8)).round(2)
    array([-1.  , -0.  ,  1.  ,  2.57,  6.68], dtype=float32)
    """
    table = _table()
    unknown = np.isnan(deviation)
    steps = np.clip(deviation, -TABLE_LIMIT, TABLE_LIMIT)
    steps *= STEPS_PER_Z
    np.rint(steps, out=steps)
    steps[unknown] = 0
    index = steps.astype(np.int32)
    index += half_freedoms.astype(np.int32) * np.int32(table.shape[1]) + np.int32(TABLE_LIMIT * STEPS_PER_Z)
    z: NDArray[np.float32] = table.reshape(-1)[index]
    z[unknown] = np.nan
    return z


@lru_cache(maxsize=1)
def _table() -> NDArray[np.float32]:
    """T for each number of half degrees of freedom (rows; 0 and 1 are not used), in steps of deviation; rounded."""
    rows = [np.zeros(2 * TABLE_LIMIT * STEPS_PER_Z + 1)] * 2
    for halves in range(2, 2 * MOST_FREEDOM + 1):
        score = np.round(_exact_scores(halves / 2) * TABLE_ROUNDING) / TABLE_ROUNDING
        rows.append(np.concatenate([-score[:0:-1], score]))
    return np.stack(rows).astype(np.float32)


def _exact_scores(freedom: float) -> NDArray[np.float64]:
    """T for deviations from 0 to TABLE_LIMIT, before rounding."""
    deviation = np.arange(0, TABLE_LIMIT * STEPS_PER_Z + 1) / STEPS_PER_Z
    # The lower tail, since the upper one is too close to 1.
    scores: NDArray[np.float64] = -ndtri(stdtr(freedom, -deviation * stdtrit(freedom, ndtr(1.0))))
    return scores


def _merged(totals: NDArray[np.int64]) -> NDArray[np.int64]:
    """The group of each bin: neighbours together until a group has enough scores.

    >>> _merged(np.array([0, 310, 5, 900, 900, 10])).tolist()
    [0, 0, 1, 1, 2, 2]
    """
    needed = max(LEAST, -(-int(totals.sum()) // SHARE))
    group, within = np.zeros(len(totals), np.int64), 0
    current = 0
    for number, total in enumerate(totals.tolist()):
        group[number] = current
        within += total
        if within >= needed:
            current, within = current + 1, 0
    if current:
        group[group == current] = current - 1  # the rest has too few
    return group


def _scale(lower: NDArray[np.int64], middle: NDArray[np.int64], upper: NDArray[np.int64]) -> NDArray[np.int64]:
    """The scale s of each bin in thousandths, from its percentiles in hundredths."""
    both, half = (upper - lower) / 2, middle - lower
    scale = np.minimum(both, WIDER * half) / (HUNDREDTHS * HALF_RANGE)
    thousandths: NDArray[np.int64] = np.rint(np.clip(scale, LEAST_SCALE, MOST_SCALE) * 1000).astype(np.int64)
    return thousandths


def _between(first: int, size: int) -> tuple[int, NDArray[np.int64], NDArray[np.int32]]:
    """Along one axis: the first block, that before each pixel's centre counted from it, and the weight of the next one.

    Weights are of 2 * BLOCK.
    """
    doubled = 2 * np.arange(first, first + size) + 1 - BLOCK  # twice the distance from the centre of block 0
    block, weight = np.divmod(doubled, 2 * BLOCK)
    return int(block[0]), block - block[0], weight.astype(np.int32)


def _interpolated(
    field: NDArray[np.int32],
    row: NDArray[np.int64],
    row_weight: NDArray[np.int32],
    column: NDArray[np.int64],
    column_weight: NDArray[np.int32],
) -> NDArray[np.int32]:
    """Bilinear sums of a field of blocks, in units of (2 * BLOCK) squared."""
    lines = (2 * BLOCK - row_weight)[:, np.newaxis] * field[row] + row_weight[:, np.newaxis] * field[row + 1]
    before = lines[:, column]
    before *= 2 * BLOCK - column_weight
    after = lines[:, column + 1]
    after *= column_weight
    before += after
    return before


def _bins(baseline: BaselineArrays) -> NDArray[np.uint8]:
    name = "fine coherence bins"
    if name not in baseline.derived:
        baseline.derived[name] = bins_of_mean(baseline.mean, *baseline.valid_range, BINS).astype(np.uint8)
    return baseline.derived[name]


def _cells(scene: Scene) -> NDArray[np.int32]:
    name, baseline = f"cells at {scene.origin}", scene.baseline
    if name not in baseline.derived:
        baseline.derived[name] = cells_of(_bins(baseline), scene.origin)
    return baseline.derived[name]


def _half_freedoms(baseline: BaselineArrays) -> NDArray[np.uint8]:
    """Twice the degrees of freedom of each pixel, rounded; 2 for pixels with fewer than three images."""
    name = "half degrees of freedom"
    if name not in baseline.derived:
        count = np.maximum(baseline.count, 2).astype(np.float64) - 1
        baseline.derived[name] = np.rint(np.maximum(2 / (1 / count + 1 / MOST_FREEDOM), 2)).astype(np.uint8)
    return baseline.derived[name]
