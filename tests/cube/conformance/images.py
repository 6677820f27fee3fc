"""Pixels for tests of images, and their comparison."""

from __future__ import annotations

import numpy as np

from acdtask.cube.model import Image, Outcome
from acdtask.raster.data_format import Pixels
from acdtask.raster.grid import Grid, Window
from tests.cube.builders import image

__all__ = ["NODATA", "ground", "shown", "window"]

NODATA = -1


def ground(of: Grid, seed: int = 0) -> Pixels:
    """Smooth ground with nodata in a corner."""
    pixels = image(of, seed)
    pixels[:20, :30] = NODATA
    return pixels


def window(pixels: Pixels, part: Window) -> Pixels:
    """A window of pixels, which may extend beyond them."""
    padded = np.pad(pixels, 1000, constant_values=NODATA)
    row, column = part.row + 1000, part.column + 1000
    return np.asarray(padded[row : row + part.height, column : column + part.width])


def shown(found: Image) -> Pixels:
    assert found.outcome is Outcome.DATA, found.reason
    assert found.pixels is not None
    assert found.reason == ""
    return found.pixels
