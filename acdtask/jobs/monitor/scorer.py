"""Reads a tile with its baseline, and scores images there."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from acdtask.change.detect import TileChange, detect_on_ground, scene_of
from acdtask.change.method import halo_of, measure, measuring
from acdtask.change.profile import Detection
from acdtask.change.scene import Ground
from acdtask.change.steps.step import Counts, Whole
from acdtask.cube.model import Cube, Dataset, Slice, Variable
from acdtask.jobs.monitor.content import MonitorContext, TileWork
from acdtask.jobs.monitor.halo import mask_of, windows_around
from acdtask.jobs.monitor.tally import Tally, tally_of
from acdtask.raster.data_format import Resampling
from acdtask.raster.masks import inside_mask

__all__ = ["Scorer", "scorer_of"]

NOTHING_MEASURED: Counts = np.zeros(0, np.int64)
"""Of a method that measures nothing of the whole image."""


def scorer_of(
    work: TileWork, context: MonitorContext, *, around: bool = True, left_out: Collection[str] = ()
) -> Scorer:
    """The scorer of a tile, as the plan asks for it; `around` and `left_out` are those of `Scorer`."""
    cube, settings, method = context.site.cube, context.settings, context.content.method
    variable, area = cube.variable(settings.variable), shape(method.area)
    return Scorer(work, cube, variable, area, method.rules, settings.resampling, around=around, left_out=left_out)


class Scorer:
    """Reads a tile and its baseline, and judges it image by image.

    Args:
        work: the tile.
        cube: where its pixels are.
        variable: that of the images.
        area: the area of interest, in longitude and latitude.
        detection: the method.
        resampling: default: the variable's.
        around: whether the neighbours are read that the method reaches into; the tile alone is enough to measure it.
        left_out: cells of tiles that are left out: what lies there is not read, and is absent.
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
        self._detection, self._resampling = detection, resampling
        self._halo = halo_of(detection.steps) if around else 0
        self._grid = work.tile.grid.grown(self._halo)
        neighbours = work.baseline.neighbours.difference(left_out) if self._halo else set()
        self._cells = {work.tile.cell, *neighbours}
        self._windows = windows_around(work.tile, neighbours, self._halo)
        self._inside = inside_mask(area, self._grid) & mask_of(self._windows, self._grid.shape)
        dformat = variable.dformat
        self._ground = Ground(
            self._read_view(work.baseline.mean),
            self._read_view(work.baseline.standard_deviation),
            np.nan_to_num(self._read_view(work.baseline.count), nan=0.0),
            (dformat.min, dformat.max),
        )

    def measure(self, image: Slice) -> Counts:
        """What the method measures of the image in the tile, which may be nothing.

        The tile is read anyway, so that one that cannot be read is left out before its neighbours look into it.
        """
        scene, _ = scene_of(
            self._read(image),
            self._ground,
            self._detection,
            nodata=self._variable.dformat.nodata,
            inside=self._inside,
        )
        steps = self._detection.steps
        return measure(scene, steps, ()) if measuring(steps) else NOTHING_MEASURED

    def change(self, image: Slice, wholes: Sequence[Whole]) -> TileChange:
        """Scores and fragments. Pixels outside the AOI have no z, so that patches never depend on the tiles."""
        return detect_on_ground(
            self._read(image),
            self._ground,
            self._detection,
            nodata=self._variable.dformat.nodata,
            origin=self._work.tile.origin,
            inside=self._inside,
            wholes=wholes,
        )

    def tally(self, change: TileChange) -> Tally:
        """What its scores amount to."""
        ground = self._ground.without_margin(self._halo)
        return tally_of(change, ground.count, ground.std, self._detection)

    def _read(self, image: Slice) -> NDArray[Any]:
        if len(self._windows) == 1 and self._grid.shape == (self._windows[0].height, self._windows[0].width):
            return np.asarray(self._cube.read(self._grid, [image], self._variable, self._resampling)[0])
        whole = np.full(self._grid.shape, self._variable.dformat.nodata, self._variable.dformat.dtype)
        for window in self._windows:
            on = self._grid.window(window)
            whole[window.slices] = self._cube.read(on, [image], self._variable, self._resampling)[0]
        return whole

    def _read_view(self, datasets: Sequence[Dataset]) -> NDArray[np.float32]:
        variable = self._cube.variable(datasets[0].variable)
        wanted = Slice(label="", datasets=tuple(one for one in datasets if one.cell in self._cells))
        return np.asarray(self._cube.read(self._grid, [wanted], variable)[0])
