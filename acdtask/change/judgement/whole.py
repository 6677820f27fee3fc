"""Sums over the candidates of a whole image, for fitting models and for tests; the monitor sums tile by tile."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from acdtask.change.detect import ImageChange
from acdtask.change.judgement.footprints import FAR, footprints_of
from acdtask.change.judgement.sums import BlobSums, ground_sums, image_sums
from acdtask.change.moments import Moments
from acdtask.change.zscore import Quality

__all__ = ["sums_of_image"]


def sums_of_image(
    change: ImageChange, stack: NDArray[Any], image: NDArray[Any], moments: Moments, *, nodata: float | None
) -> BlobSums:
    """Sum the images over the candidates of an image and their rings.

    Args:
        change: the candidates and scores of the image.
        stack: images of the baseline, shape (images, height, width).
        image: the image, shape (height, width).
        moments: moments of the stack.
        nodata: the stored value that means no data, or None.
    """
    footprints = footprints_of(np.pad(change.blob_ids, FAR), change.score.quality == Quality.VALID)
    mean, std = moments.mean(), moments.standard_deviation()
    parts = [image_sums(each[np.newaxis], mean, std, footprints, nodata=nodata) for each in (*stack, image)]
    return BlobSums(footprints.ids, ground_sums(mean, moments.count, footprints), np.concatenate(parts, axis=1))
