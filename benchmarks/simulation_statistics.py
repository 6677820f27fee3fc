"""Compare simulated coherence with real coherence: `python -m benchmarks.simulation_statistics [--write]`.

The real images are the 30 pairs of Mexico City that the README's example uses, in a folder `pyrate_cropA`, which
`ACD_REAL_DATA` names or which is in `../shared/data`. With `--write` the table replaces the one in
docs/reference/simulation.md; with `--small` one small scene is simulated, as a test.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray

from acdtask.jobs.simulate.scene import Scene
from acdtask.jobs.simulate.settings import SceneSettings
from acdtask.jobs.simulate.speckle import NODATA

__all__ = ["PAGE", "Statistics", "mean_of", "read_real", "real_folder", "simulated", "statistics_of", "table_of"]

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/reference/simulation.md"
BEGIN, END = "<!-- statistics: begin -->", "<!-- statistics: end -->"
SEEDS = (3, 7, 21)
SIZE = 384
LAG = 5
"""Distance of correlated pixels, in px."""
ABOVE = 1.7
"""Scores above this are counted."""
COMPLETE = 0.6
"""Pixels are used if this share of the images is valid."""


@dataclass(frozen=True)
class Statistics:
    """How the coherence of a series varies around the mean of each pixel. `r` is an image minus the pixels' means.

    Attributes:
        common: share of the variance of r that the median of each image removes.
        above: share of pixels with z > 1.7, each image against all others; mean of the images.
        above_worst: the same of the worst image.
        next_pair: correlation of r of an image and of the next one, medians removed.
        neighbours: correlation of r of pixels 5 px apart in a row.
        neighbours_own: the same, medians removed.
        spread: standard deviation of a pixel's r, mean of the pixels.
        spread_own: the same, medians removed.
    """

    common: float
    above: float
    above_worst: float
    next_pair: float
    neighbours: float
    neighbours_own: float
    spread: float
    spread_own: float


TITLES = {
    "common": "share of the variance that an image has in common",
    "above": "z > 1.7 in a left-out image, mean",
    "above_worst": "z > 1.7 in a left-out image, worst",
    "next_pair": "correlation with the next pair, medians removed",
    "neighbours": "correlation at 5 px",
    "neighbours_own": "correlation at 5 px, medians removed",
    "spread": "standard deviation of a pixel",
    "spread_own": "standard deviation of a pixel, medians removed",
}

BEFORE = Statistics(0.217, 0.055, 0.189, 0.145, 0.337, 0.153, 0.106, 0.096)
"""The same seeds of the simulator before decision 0037 (`ALGORITHM` 1 of the job simulate)."""


def statistics_of(images: NDArray[np.int16], nodata: int) -> Statistics:
    """The statistics of a series of images.

    Args:
        images: coherence in thousandths, shape (images, height, width), in the order of their dates.
        nodata: the stored value that means no data.

    >>> rng = np.random.default_rng(1)
    >>> common = rng.normal(0, 40, (40, 1, 1))
    >>> images = (600 + common + rng.normal(0, 40, (40, 30, 30))).astype(np.int16)
    >>> got = statistics_of(images, -1)
    >>> round(got.common, 1), round(got.neighbours, 1), abs(got.neighbours_own) < 0.05
    (0.5, 0.5, True)
    """
    valid = images != nodata
    used = valid.mean(axis=0) >= COMPLETE
    values = np.where(valid & used, images / 1000.0, np.nan)
    own = values - _mean(values)
    medians = np.array([np.median(image[~np.isnan(image)]) for image in own])
    rest = own - medians[:, np.newaxis, np.newaxis]
    above = _shares_above(values)
    return Statistics(
        common=1 - float(np.nanmean(rest**2) / np.nanmean(own**2)),
        above=float(np.mean(above)),
        above_worst=max(above),
        next_pair=_correlation(rest[:-1], rest[1:]),
        neighbours=_correlation(own[:, :, :-LAG], own[:, :, LAG:]),
        neighbours_own=_correlation(rest[:, :, :-LAG], rest[:, :, LAG:]),
        spread=_spread(own),
        spread_own=_spread(rest),
    )


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean over dates, NaN where there is none, without numpy's warning."""
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    return np.where(known, values, 0).sum(axis=0) / np.where(count, count, np.nan)


def _spread(residual: NDArray[np.float64]) -> float:
    return float(np.nanmean(np.sqrt(_mean((residual - _mean(residual)) ** 2))))


def _shares_above(values: NDArray[np.float64]) -> list[float]:
    """The share of pixels of each image that are lower than usual, judged by the other images."""
    known = ~np.isnan(values)
    filled = np.where(known, values, 0)
    count, total, squares = known.sum(axis=0), filled.sum(axis=0), (filled**2).sum(axis=0)
    shares = []
    for image, seen in zip(values, known, strict=True):
        number = count[seen] - 1
        mean = (total[seen] - image[seen]) / number
        variance = np.maximum((squares[seen] - image[seen] ** 2) / number - mean**2, 0)
        shares.append(float((mean - image[seen] > ABOVE * np.sqrt(variance)).mean()))
    return shares


def _correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    both = ~np.isnan(first) & ~np.isnan(second)
    return float(np.corrcoef(first[both], second[both])[0, 1])


def real_folder() -> Path | None:
    """The folder of the real images, if this machine has it."""
    folder = Path(os.environ.get("ACD_REAL_DATA") or ROOT.parent / "shared/data") / "pyrate_cropA/geotiffs"
    return folder if folder.is_dir() else None


def read_real(folder: Path) -> NDArray[np.int16]:
    """The real images in thousandths, nodata -1, by dates."""
    images = []
    for path in sorted(folder.glob("*_cc.tif")):
        with rasterio.open(path) as raster:
            values = raster.read(1)
        images.append(np.where(values == 0, NODATA, np.rint(values * 1000)).astype(np.int16))
    return np.stack(images)


def simulated(seed: int, size: int = SIZE, pairs: int = 60) -> Statistics:
    """The statistics of a year of a simulated scene, without events."""
    scene = Scene(SceneSettings(seed=seed, size=size, events=0, reference_pairs=pairs, monitored_pairs=1))
    return statistics_of(np.stack([scene.image(pair) for pair in range(pairs)]), NODATA)


def mean_of(parts: list[Statistics]) -> Statistics:
    """The mean of each figure."""
    return Statistics(*(float(np.mean([getattr(part, field.name) for part in parts])) for field in fields(Statistics)))


def table_of(columns: dict[str, Statistics]) -> str:
    """A Markdown table with a row for each figure."""
    lines = [f"| | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    for name, title in TITLES.items():
        cells = " | ".join(f"{getattr(column, name):.3f}" for column in columns.values())
        lines.append(f"| {title} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table, and write it into the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="replace the table in docs/reference/simulation.md")
    parser.add_argument("--small", action="store_true", help="simulate one small scene")
    arguments = parser.parse_args()
    folder = real_folder()
    if folder is None:
        print("No folder pyrate_cropA (ACD_REAL_DATA): the column of real images is missing.")
        if arguments.write:
            parser.error("the page needs the column of real images")
    scenes = [simulated(7, 96, 24)] if arguments.small else [simulated(seed) for seed in SEEDS]
    real = {"real": statistics_of(read_real(folder), NODATA)} if folder else {}
    table = table_of({**real, "simulated": mean_of(scenes), "simulated before": BEFORE})
    print(table)
    if arguments.write:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        _, _, after = rest.partition(END)
        PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
