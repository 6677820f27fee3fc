"""Reads the past of a tile's candidates: the images of the baseline, only in the blocks that have candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from acdtask.change.judgement.footprints import Footprints
from acdtask.change.judgement.sums import BlobSums, ground_sums, image_sums
from acdtask.change.scene import BaselineArrays
from acdtask.cube.model import Cube, Slice, Variable
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.monitor.content import TileWork
from acdtask.jobs.monitor.reference import Reference
from acdtask.raster.data_format import Resampling
from acdtask.raster.grid import Window

__all__ = ["History"]

BLOCK = 256
"""Side of the windows in which images are read: the blocks of COGs and the chunks of consolidated containers."""
IMAGES_AT_ONCE = 64
"""Number of images in a chunk of a consolidated container."""


class History:
    """Sums images over the candidates of a tile.

    Args:
        work: the tile, with the images to judge.
        baseline: the baseline of the tile, without its halo.
        reference: the images of the baseline.
        past: those with pixels in the tile, with their position in the reference.
        cube: the cube to read from.
        variable: variable of the images.
        resampling: resampling of the images to judge; None means the variable's.
    """

    def __init__(
        self,
        work: TileWork,
        baseline: BaselineArrays,
        reference: Reference,
        past: Sequence[tuple[int, Slice]],
        cube: Cube,
        variable: Variable,
        resampling: Resampling | None,
    ) -> None:
        self._work, self._baseline, self._reference, self._past = work, baseline, reference, past
        self._cube, self._variable, self._resampling = cube, variable, resampling

    def sums(self, footprints: Mapping[str, Footprints]) -> dict[str, BlobSums]:
        """The sums of the candidates of each image, by its label.

        Args:
            footprints: footprints in the tile, by label of the judged image.

        Raises:
            AcdError: BASELINE_IMAGES_CHANGED if the images are not those that the baseline was made from.
        """
        images = len(self._reference.images) + 1
        sums = {label: BlobSums.zeros(members.ids, images) for label, members in footprints.items()}
        for label, members in footprints.items():
            sums[label].ground[...] = ground_sums(self._baseline.mean, self._baseline.count, members)
        width = self._work.tile.grid.width
        for window in self._work.tile.grid.blocks(BLOCK):
            within = {label: members.within(window, width) for label, members in footprints.items()}
            within = {label: members for label, members in within.items() if len(members.index)}
            if within:
                self._add_past(sums, within, window)
                self._add_judged(sums, within, window)
        for of_image in sums.values():
            self._require_same_images(of_image)
        return sums

    def _add_past(self, sums: Mapping[str, BlobSums], within: Mapping[str, Footprints], window: Window) -> None:
        """Add the sums of the baseline's images in a window."""
        grid, nodata, rules = self._work.tile.grid.window(window), self._variable.dformat.nodata, self._reference.rules
        for first in range(0, len(self._past), IMAGES_AT_ONCE):
            part = self._past[first : first + IMAGES_AT_ONCE]
            positions = [position for position, _ in part]
            slices = [image for _, image in part]
            stack = self._cube.read_once(grid, slices, self._variable, self._reference.resampling)
            images, missing = rules.without_zeros(stack, nodata)
            mean, std = self._baseline.mean[window.slices], self._baseline.std[window.slices]
            for label, members in within.items():
                sums[label].images[:, positions] += image_sums(images, mean, std, members, nodata=missing)

    def _add_judged(self, sums: Mapping[str, BlobSums], within: Mapping[str, Footprints], window: Window) -> None:
        """Add the sums of the judged images in a window, as the last of each."""
        grid, nodata = self._work.tile.grid.window(window), self._variable.dformat.nodata
        slices = [image for image in self._work.images if image.label in within]
        stack = self._cube.read(grid, slices, self._variable, self._resampling)
        mean, std = self._baseline.mean[window.slices], self._baseline.std[window.slices]
        for image, pixels in zip(slices, stack, strict=True):
            members = within[image.label]
            # Pixels that the method takes for nodata, such as zeros, have no z and are in no footprint.
            sums[image.label].images[:, -1:] += image_sums(pixels[np.newaxis], mean, std, members, nodata=nodata)

    def _require_same_images(self, sums: BlobSums) -> None:
        """Require that candidates have as many values in the images as the baseline counted; more if it was clipped."""
        read, counted = int(sums.images[:, :-1, 0, 0].sum()), int(sums.ground[:, 1].sum())
        if read < counted or (read > counted and not self._reference.clip):
            raise AcdError(
                ErrorCode.BASELINE_IMAGES_CHANGED,
                f"in the tile {self._work.tile.cell}, pixels with a candidate have {counted} values in the baseline,"
                f" but {read} in its images",
            )
