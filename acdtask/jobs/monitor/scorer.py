"""Reads tiles with their baselines, and scores images."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from acdtask.change.detect import TileChange, detect_change, measure, scene_of
from acdtask.change.scene import BaselineArrays
from acdtask.change.steps.step import Counts, Whole, halo_of, measuring
from acdtask.change.thresholds import Detection
from acdtask.cube.model import Cube, Dataset, Slice, Variable
from acdtask.jobs.monitor.content import MonitorContext, TileWork
from acdtask.jobs.monitor.halo import mask_of, windows_around
from acdtask.jobs.monitor.tally import PixelTally, tally_of
from acdtask.jobs.transformed import transform_of, transformed
from acdtask.raster.data_format import Resampling
from acdtask.raster.masks import inside_mask

__all__ = ["Scorer", "scorer_of"]

IMAGES_AT_ONCE = 8
"""Number of images of a tile in memory at once, whatever the number to judge (see `costs.MONITOR`)."""

NOTHING_MEASURED: Counts = np.zeros(0, np.int64)
"""Counts of a method that does not measure the whole image."""


def scorer_of(
    work: TileWork, context: MonitorContext, *, around: bool = True, left_out: Collection[str] = ()
) -> Scorer:
    """The scorer of a tile for a plan; see `Scorer` for `around` and `left_out`."""
    cube, settings, method = context.site.cube, context.settings, context.content.method
    variable, area = cube.variable(settings.variable), shape(method.area)
    return Scorer(work, cube, variable, area, method.rules, settings.resampling, around=around, left_out=left_out)


class Scorer:
    """Reads a tile and its baseline, and judges images, which are read several at a time.

    Args:
        work: the tile.
        cube: the cube to read from.
        variable: variable of the images.
        area: area of interest, in longitude and latitude.
        detection: the method.
        resampling: resampling; None means the variable's.
        around: whether to read the method's halo too. Measuring only needs the tile.
        left_out: cells of tiles that were left out. They are not read, and their pixels are missing.
    """

    def __init__(
        self,
        work: TileWork,
        cube: Cube,
        variable: Variable,
        area: BaseGeometry,
        detection: Detection,
        resampling: Resampling | None,
        *,
        around: bool = True,
        left_out: Collection[str] = (),
    ) -> None:
        self._work, self._cube, self._variable = work, cube, variable
        self._transform, self._resampling = transform_of(variable, detection.transform), resampling
        self._without_zeros = detection.without_zeros
        # A transformed 0 is a value like any other: zeros that mean nodata are replaced before.
        self._detection = replace(detection, zero_is_nodata=False) if self._transform else detection
        self._halo = halo_of(detection.steps) if around else 0
        self._grid = work.tile.grid.grown(self._halo)
        neighbours = work.baseline.neighbours.difference(left_out) if self._halo else set()
        self._cells = {work.tile.cell, *neighbours}
        self._windows = windows_around(work.tile, neighbours, self._halo)
        self._inside = inside_mask(area, self._grid) & mask_of(self._windows, self._grid.shape)
        dformat = transformed(variable, detection.transform).dformat
        self._nodata = dformat.nodata
        self._baseline = BaselineArrays(
            self._read_view(work.baseline.mean),
            self._read_view(work.baseline.standard_deviation),
            np.nan_to_num(self._read_view(work.baseline.count), nan=0.0),
            (dformat.min, dformat.max),
        )

    @property
    def baseline(self) -> BaselineArrays:
        """The baseline of the tile, with the halo if that is read."""
        return self._baseline

    def counts(self) -> Iterator[tuple[Slice, Counts]]:
        """Count in each image of the tile for the method's first measuring step, if any."""
        steps = self._detection.steps
        for image, pixels in self._images():
            scene, _ = scene_of(
                pixels,
                self._baseline,
                self._detection,
                nodata=self._nodata,
                inside=self._inside,
                origin=(self._work.tile.origin[0] - self._halo, self._work.tile.origin[1] - self._halo),
            )
            yield image, measure(scene, steps, ()) if measuring(steps) else NOTHING_MEASURED

    def changes(self, wholes: Mapping[str, Sequence[Whole]]) -> Iterator[tuple[Slice, TileChange]]:
        """Compute the scores and fragments of each image of the tile.

        Pixels outside the AOI get no z, so patches do not depend on the tiling. `wholes` are the conclusions about each
        image, by its label.
        """
        for image, pixels in self._images():
            change = detect_change(
                pixels,
                self._baseline,
                self._detection,
                nodata=self._nodata,
                origin=self._work.tile.origin,
                inside=self._inside,
                wholes=wholes[image.label],
            )
            yield image, change

    def tally(self, change: TileChange) -> PixelTally:
        """Tally the scores of the tile."""
        baseline = self._baseline.without_margin(self._halo)
        return tally_of(change, baseline.count, baseline.std, self._detection)

    def _images(self) -> Iterator[tuple[Slice, NDArray[Any]]]:
        """The images of the tile, with their pixels as the baseline has them: as stored, or transformed.

        Several are read at once, so that a container is opened once for them.
        """
        images = self._work.images
        for first in range(0, len(images), IMAGES_AT_ONCE):
            part = images[first : first + IMAGES_AT_ONCE]
            for image, pixels in zip(part, self._read(part), strict=True):
                yield image, self._compared(pixels)

    def _compared(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """An image in the numbers that the baseline has."""
        if self._transform is None:
            return pixels
        return self._transform.apply(self._without_zeros(pixels, self._variable.dformat.nodata)[0])

    def _read(self, images: list[Slice]) -> NDArray[Any]:
        """Stored pixels of images, shape (images, height, width)."""
        if len(self._windows) == 1 and self._grid.shape == (self._windows[0].height, self._windows[0].width):
            return np.asarray(self._cube.read(self._grid, images, self._variable, self._resampling))
        dformat = self._variable.dformat
        pixels = np.full((len(images), *self._grid.shape), dformat.nodata, dformat.dtype)
        for window in self._windows:
            grid = self._grid.window(window)
            pixels[:, *window.slices] = self._cube.read(grid, images, self._variable, self._resampling)
        return pixels

    def _read_view(self, datasets: Sequence[Dataset]) -> NDArray[np.float32]:
        variable = self._cube.variable(datasets[0].variable)
        wanted = Slice(label="", datasets=tuple(dataset for dataset in datasets if dataset.cell in self._cells))
        return np.asarray(self._cube.read(self._grid, [wanted], variable)[0])
