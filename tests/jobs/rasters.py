"""Small rasters, good and bad."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio import Affine

CRS = "EPSG:32632"
ORIGIN = (346640.0, 5655340.0)


def good_pixels(seed: int = 1, size: int = 32) -> NDArray[np.float32]:
    """Coherence in 0..1."""
    return np.random.default_rng(seed).uniform(0.2, 0.9, (size, size)).astype(np.float32)


def write_tiff(
    path: Path, pixels: NDArray[Any], *, nodata: float | None = -1, crs: str | None = CRS, resolution: float = 20.0
) -> Path:
    """A GeoTIFF whose upper-left corner is ORIGIN."""
    path.parent.mkdir(parents=True, exist_ok=True)
    transform = (
        Affine(resolution, 0, ORIGIN[0], 0, -resolution, ORIGIN[1])
        if crs != "EPSG:4326"
        else Affine(2e-4, 0, 6.8, 0, -2e-4, 51.0)
    )
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        dtype=pixels.dtype,
        count=1,
        height=pixels.shape[0],
        width=pixels.shape[1],
        crs=crs,
        transform=transform,
        nodata=nodata,
    ) as raster:
        raster.write(pixels, 1)
    return path
