"""Small difficult images and ways to cut them, for property tests."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from acdtask.change.evidence import Evidence

Tile = tuple[int, int, int, int]
"""First row, first column, end row, end column."""


@dataclass
class Scene:
    z: NDArray[np.float32]
    mean: NDArray[np.float32]
    image: NDArray[np.int16]
    count: NDArray[np.int32]
    min_area: int


def spiral(height: int, width: int) -> NDArray[np.bool_]:
    """A path one pixel wide from a corner to the middle, with one pixel between its turns."""
    path = np.zeros((height, width), bool)
    row, column, step_row, step_column = 0, 0, 0, 1
    path[0, 0] = True

    def free(r: int, c: int) -> bool:
        return 0 <= r < height and 0 <= c < width and not path[r, c]

    while True:
        for _ in range(2):
            ahead = (row + step_row, column + step_column)
            beyond = (row + 2 * step_row, column + 2 * step_column)
            inside = 0 <= beyond[0] < height and 0 <= beyond[1] < width
            if free(*ahead) and not (inside and path[beyond]):
                break
            step_row, step_column = step_column, -step_row
        else:
            return path
        row, column = ahead
        path[row, column] = True


def comb(height: int, width: int) -> NDArray[np.bool_]:
    """Teeth that only the last row joins: U after U, closed far from where they start."""
    teeth = np.zeros((height, width), bool)
    teeth[:, ::2] = True
    teeth[-1] = True
    return teeth


def _mask(kind: str, height: int, width: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    if kind == "noise":
        return np.asarray(rng.random((height, width)) < rng.uniform(0.1, 0.8))
    if kind == "smooth":
        noise = gaussian_filter(rng.normal(size=(height, width)), rng.uniform(0.5, 2.5))
        return np.asarray(noise > np.quantile(noise, rng.uniform(0.3, 0.9)))
    if kind == "spiral":
        return np.rot90(spiral(width, height) if (turn := int(rng.integers(4))) % 2 else spiral(height, width), turn)
    if kind == "comb":
        return np.rot90(comb(width, height) if (turn := int(rng.integers(4))) % 2 else comb(height, width), turn)
    if kind == "checkerboard":
        return np.asarray(np.indices((height, width)).sum(axis=0) % 2 == 0)
    return np.ones((height, width), bool)


KINDS = ["noise", "smooth", "spiral", "comb", "checkerboard", "full"]


@st.composite
def scenes(draw: st.DrawFn, largest: int = 24) -> Scene:
    """Images whose z exceeds low on a difficult mask, and high on a few of its pixels; some pixels have no z."""
    height, width = draw(st.integers(1, largest)), draw(st.integers(1, largest))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    mask = _mask(draw(st.sampled_from(KINDS)), height, width, rng)
    z = rng.uniform(-3, 1.7, (height, width)).astype(np.float32)
    z[mask] = rng.uniform(1.71, 3, int(mask.sum()))
    z[mask & (rng.random((height, width)) < draw(st.sampled_from([0.005, 0.05, 0.5])))] = 3.5
    z[rng.random((height, width)) < draw(st.sampled_from([0.0, 0.02, 0.1]))] = np.nan
    edge = draw(st.integers(0, 3))
    z[:, : edge if width > 3 else 0] = np.nan
    return Scene(
        z=z,
        mean=rng.uniform(0, 1000, (height, width)).astype(np.float32),
        image=rng.integers(0, 1001, (height, width)).astype(np.int16),
        count=rng.integers(0, 70, (height, width)).astype(np.int32),
        min_area=draw(st.sampled_from([0, 1, 3, 8, 30])),
    )


@st.composite
def tilings(draw: st.DrawFn, height: int, width: int) -> list[Tile]:
    """Rectangles that partition the image, in any order: a grid of random cuts, or cut by cut; 1 px to whole."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["whole", "pixels", "grid", "regular", "guillotine"]))
    if kind == "guillotine":
        tiles = [(0, 0, height, width)]
        for _ in range(int(rng.integers(0, 30))):
            tiles.extend(_cut(tiles.pop(int(rng.integers(len(tiles)))), rng))
    else:
        rows, columns = (_cuts(kind, length, rng) for length in (height, width))
        tiles = [(top, left, bottom, right) for top, bottom in pairwise(rows) for left, right in pairwise(columns)]
    return [tiles[k] for k in rng.permutation(len(tiles))]


def _cuts(kind: str, length: int, rng: np.random.Generator) -> list[int]:
    if kind == "whole":
        return [0, length]
    if kind == "pixels":
        return list(range(length + 1))
    if kind == "regular":
        return [*range(0, length, int(rng.integers(1, length + 1))), length]
    inner = rng.permutation(np.arange(1, length))[: int(rng.integers(0, length))]
    return [0, *sorted(inner.tolist()), length]


def _cut(tile: Tile, rng: np.random.Generator) -> list[Tile]:
    top, left, bottom, right = tile
    if rng.random() < 0.5 and bottom - top > 1:
        at = int(rng.integers(top + 1, bottom))
        return [(top, left, at, right), (at, left, bottom, right)]
    if right - left > 1:
        at = int(rng.integers(left + 1, right))
        return [(top, left, bottom, at), (top, at, bottom, right)]
    return [tile]


def evidence_of(scene: Scene, tile: Tile) -> Evidence:
    """The scores of a tile as evidence."""
    return Evidence.of_scores(*(window(array, tile) for array in (scene.z, scene.mean, scene.image, scene.count)))


def window(array: NDArray[Any], tile: Tile) -> NDArray[Any]:
    return array[tile[0] : tile[2], tile[1] : tile[3]]
