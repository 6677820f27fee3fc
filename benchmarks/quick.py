"""Compare acd with the tutorial's numpy code, as medians of paired runs: `python -m benchmarks.quick`.

With `--small` everything runs on small arrays, as a test; the figures mean nothing.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.filters import apply_hysteresis_threshold
from skimage.measure import label

from acdtask.change.detect import detect_in_tile
from acdtask.change.methods import TUTORIAL
from acdtask.change.moments import Moments
from acdtask.change.seams import join_fragments
from benchmarks.memory import SIZE, WORKERS, baseline_peak

NODATA = 0
LOW, HIGH, MIN_AREA = TUTORIAL.low, TUTORIAL.high, TUTORIAL.min_area


@dataclass(frozen=True)
class Sizes:
    """The sizes of arrays, and the number of runs.

    Attributes:
        images, tile: number of images and width in pixels of the stacks for statistics.
        scene, blobs, scene_tile: width in pixels, number of blobs and tile width of the image for detection.
        memory, dates: width in pixels and numbers of dates of the baselines whose memory is measured.
        pairs: number of runs of each of two compared functions.
    """

    images: int = 60
    tile: int = 256
    scene: int = 1024
    blobs: int = 40
    scene_tile: int = 256
    memory: int = SIZE
    dates: tuple[int, int] = (60, 200)
    pairs: int = 9


SMALL = Sizes(images=8, tile=32, scene=256, blobs=4, scene_tile=64, memory=512, dates=(3, 6), pairs=1)


@dataclass(frozen=True)
class Section:
    """A table of results: title, header and rows."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]


@dataclass(frozen=True)
class Comparison:
    """Median seconds of two functions in alternating runs, and the median ratio of the pairs."""

    ours: float
    theirs: float
    ratio: float


def compare(ours: Callable[[], object], theirs: Callable[[], object], pairs: int) -> Comparison:
    """Run two functions alternately, each first in half of the pairs, so that a busy machine slows both."""
    functions = (ours, theirs)
    for function in functions:
        function()
    seconds: tuple[list[float], list[float]] = ([], [])
    for pair in range(pairs):
        for index in (0, 1) if pair % 2 else (1, 0):
            start = time.perf_counter()
            functions[index]()
            seconds[index].append(time.perf_counter() - start)
    ratios = [their / our for our, their in zip(*seconds, strict=True)]
    return Comparison(statistics.median(seconds[0]), statistics.median(seconds[1]), statistics.median(ratios))


def timing_section(title: str, rows: Sequence[tuple[str, str, Comparison]]) -> Section:
    """Make a section of comparisons, each with a name and a target."""
    return Section(
        title,
        ("compared with", "acd ms", "other ms", "ratio", "target"),
        [(name, f"{c.ours * 1e3:.1f}", f"{c.theirs * 1e3:.1f}", f"{c.ratio:.1f}x", target) for name, target, c in rows],
    )


def coherence_stack(seed: int, images: int, size: int) -> NDArray[np.int16]:
    """Simulate coherence from 1 to 1000, with nodata at an edge and in scattered pixels."""
    rng = np.random.default_rng(seed)
    stack = rng.normal(600, 120, (images, size, size)).clip(1, 1000).astype(np.int16)
    stack[rng.random(stack.shape) < 0.02] = NODATA
    for image in stack:
        image[:, : rng.integers(0, size // 8)] = NODATA
    return stack


def tutorial_statistics(stack: NDArray[np.int16], dtype: type[np.floating[Any]]) -> list[NDArray[Any]]:
    """Compute mean and std as the tutorial does."""
    values = stack.astype(dtype)
    values[values == NODATA] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return [np.nanmean(values, axis=0), np.nanstd(values, axis=0)]


def our_statistics(stack: NDArray[np.int16]) -> list[NDArray[np.float32]]:
    """Compute count, mean and std from exact moments."""
    moments = Moments.of_images(stack, NODATA)
    return [moments.count_view(), moments.mean(), moments.standard_deviation()]


def statistics_ratio(sizes: Sizes) -> Section:
    """Compare the statistics of three tiles of many images."""
    stacks = [coherence_stack(seed, sizes.images, sizes.tile) for seed in range(3)]
    for stack in stacks:
        for ours, theirs in zip(our_statistics(stack)[1:], tutorial_statistics(stack, np.float64), strict=True):
            np.testing.assert_array_equal(ours, theirs.astype(np.float32))

    def run_ours() -> None:
        for stack in stacks:
            our_statistics(stack)

    def tutorial_with(dtype: type[np.floating[Any]]) -> Callable[[], None]:
        def run() -> None:
            for stack in stacks:
                tutorial_statistics(stack, dtype)

        return run

    return timing_section(
        f"Mean and std (acd: also count) of {len(stacks)} tiles of {' x '.join(map(str, stacks[0].shape))} int16",
        [
            (
                "numpy in float64 (tutorial; equal results)",
                ">= 7x",
                compare(run_ours, tutorial_with(np.float64), sizes.pairs),
            ),
            ("numpy in float32 (inexact)", "", compare(run_ours, tutorial_with(np.float32), sizes.pairs)),
        ],
    )


@dataclass(frozen=True)
class Scene:
    """A new image, with mean, std and count of its baseline, shape (y, x)."""

    image: NDArray[np.int16]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    count: NDArray[np.float32]


def change_scene(size: int, blobs: int) -> Scene:
    """Simulate an image with noise correlated as in multilooked coherence, and ellipses of lost coherence."""
    rng = np.random.default_rng(7)
    mean = gaussian_filter(rng.uniform(300, 900, (size, size)), 4).astype(np.float32)
    std = rng.uniform(40, 90, (size, size)).astype(np.float32)
    noise = gaussian_filter(rng.normal(size=(size, size)), 0.7)
    image = mean + std * noise / noise.std()
    rows, columns = np.indices((size, size))
    for _ in range(blobs):
        row, column = rng.uniform(0, size, 2)
        tall, wide = rng.uniform(5, 28, 2)
        inside = ((rows - row) / tall) ** 2 + ((columns - column) / wide) ** 2 < 1
        image[inside] -= 5 * std[inside]
    return Scene(image.clip(1, 1000).astype(np.int16), mean, std, np.full((size, size), 60, np.float32))


def tutorial_mask(scene: Scene) -> NDArray[np.bool_]:
    """Mask large blobs as the tutorial does, counting the pixels of each blob over the whole image."""
    z = (scene.mean - scene.image) / scene.std
    blobs = label(apply_hysteresis_threshold(z, LOW, HIGH), connectivity=2)
    mask = np.zeros(blobs.shape, np.bool_)
    for i in range(1, blobs.max() + 1):
        if np.sum(blobs == i) > MIN_AREA:
            mask |= blobs == i
    return mask


def counting_mask(scene: Scene) -> NDArray[np.bool_]:
    """Mask large blobs, counting all blobs at once."""
    z = (scene.mean - scene.image) / scene.std
    blobs = label(apply_hysteresis_threshold(z, LOW, HIGH), connectivity=2)
    large = np.bincount(blobs.reshape(-1)) > MIN_AREA
    large[0] = False
    mask: NDArray[np.bool_] = large[blobs]
    return mask


def our_mask(scene: Scene, tile: int) -> NDArray[np.bool_]:
    """Mask large blobs with acd: fragments of tiles, joined, with the measures of every patch."""
    height, width = scene.image.shape
    windows = [(slice(r, r + tile), slice(c, c + tile)) for r in range(0, height, tile) for c in range(0, width, tile)]
    parts = [
        detect_in_tile(
            scene.image[window],
            scene.mean[window],
            scene.std[window],
            scene.count[window],
            TUTORIAL,
            nodata=NODATA,
            origin=(window[0].start, window[1].start),
        ).fragments
        for window in windows
    ]
    joined = join_fragments([part.table for part in parts])
    mask = np.zeros(scene.image.shape, np.bool_)
    for part, window, ids in zip(parts, windows, joined.blob_ids, strict=True):
        mask[window] = (ids > 0)[part.labels]
    return mask


def detection_ratio(sizes: Sizes) -> Section:
    """Compare the change mask of one date; acd works in 4 x 4 tiles and joins them."""
    scene = change_scene(sizes.scene, sizes.blobs)
    tile = sizes.scene_tile
    expected = tutorial_mask(scene)
    np.testing.assert_array_equal(our_mask(scene, tile), expected)
    np.testing.assert_array_equal(counting_mask(scene), expected)
    patches = int(label(expected, connectivity=2).max())
    return timing_section(
        f"z, fragments of 4 x 4 tiles and their join on {sizes.scene} x {sizes.scene} px with {patches} patches",
        [
            (
                "tutorial (loop over blobs)",
                ">= 2x",
                compare(lambda: our_mask(scene, tile), lambda: tutorial_mask(scene), sizes.pairs),
            ),
            (
                "np.bincount (all blobs at once)",
                "",
                compare(lambda: our_mask(scene, tile), lambda: counting_mask(scene), sizes.pairs),
            ),
        ],
    )


def baseline_memory(sizes: Sizes) -> Section:
    """Measure the peak memory of baseline runs, which must not grow with the number of dates."""
    rows: list[tuple[str, ...]] = []
    for dates in sizes.dates:
        mib, seconds = baseline_peak(dates, sizes.memory)
        rows.append((f"{dates} dates", f"{mib:.0f} MiB", f"{seconds:.1f} s"))
    run = f"Baseline of {sizes.memory} x {sizes.memory} px, {WORKERS} workers"
    title = f"{run}: peak memory of all processes together, target 2048 MiB"
    return Section(title, ("run", "peak", "time"), rows)


SECTIONS: list[Callable[[Sizes], Section]] = [statistics_ratio, detection_ratio, baseline_memory]


def machine() -> str:
    """Describe cores, processor and versions in one line."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return f"{os.cpu_count()} cores, {model}; Python {platform.python_version()}, numpy {np.__version__}"


def print_section(section: Section) -> None:
    """Print a section as a Markdown table."""
    table = [section.header, *section.rows]
    widths = [max(len(row[k]) for row in table) for k in range(len(section.header))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in table
    ]
    print(f"\n### {section.title}\n")
    print("\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]), flush=True)


def main() -> None:
    """Run every section and print it."""
    sizes = SMALL if "--small" in sys.argv[1:] else Sizes()
    print(machine())
    for section in SECTIONS:
        print_section(section(sizes))


if __name__ == "__main__":
    main()
