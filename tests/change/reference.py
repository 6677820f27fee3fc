"""The tutorial's detection in plain numpy and scikit-image, on one untiled image: slow and plain."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.filters import apply_hysteresis_threshold
from skimage.measure import label


@dataclass
class PlainBlob:
    area: int
    z_max: int
    z_sum: int
    drop_sum: int
    count_sum: int
    first: tuple[int, int]
    bounds: tuple[int, int, int, int]


def statistics(stack: NDArray[Any], nodata: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    values = stack.astype(np.float64)
    values[values == nodata] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        mean = np.nanmean(values, axis=0).astype(np.float32)
        std = np.nanstd(values, axis=0).astype(np.float32)
    return mean, std, np.sum(~np.isnan(values), axis=0)


def tutorial_z(stack: NDArray[Any], image: NDArray[Any]) -> NDArray[Any]:
    mean, std, count = statistics(stack, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        z: NDArray[Any] = (mean - image.astype(np.float32)) / std
    z[(image == 0) | (std == 0) | (count == 0)] = np.nan
    return z


def blobs_of(z: NDArray[Any], low: float, high: float, min_area: int) -> NDArray[Any]:
    """Blob ids 1, 2, ... in raster order; 0 elsewhere."""
    blobs: NDArray[Any] = label(apply_hysteresis_threshold(z, low, high), connectivity=2)
    kept: NDArray[Any] = np.zeros_like(blobs)
    number = 0
    for i in range(1, blobs.max() + 1):
        if np.sum(blobs == i) > min_area:
            number += 1
            kept[blobs == i] = number
    return kept


def measure(
    blobs: NDArray[Any], z: NDArray[Any], mean: NDArray[Any], image: NDArray[Any], count: NDArray[Any]
) -> list[PlainBlob]:
    """The measures of each blob, added up pixel by pixel."""
    found = []
    for i in range(1, blobs.max() + 1):
        pixels = [(int(row), int(column)) for row, column in np.argwhere(blobs == i)]
        scores = [round(float(z[pixel]) * 1000) for pixel in pixels]
        rows, columns = [row for row, _ in pixels], [column for _, column in pixels]
        found.append(
            PlainBlob(
                area=len(pixels),
                z_max=max(scores),
                z_sum=sum(scores),
                drop_sum=sum(round((float(mean[pixel]) - int(image[pixel])) * 1000) for pixel in pixels),
                count_sum=sum(int(count[pixel]) for pixel in pixels),
                first=pixels[0],
                bounds=(min(rows), min(columns), max(rows), max(columns)),
            )
        )
    return found
