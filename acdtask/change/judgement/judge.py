"""The judgement of an image's candidates: contrasts, probability, and which are kept."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from acdtask.change.judgement.choice import chosen
from acdtask.change.judgement.features import UNKNOWN, CoherenceScale, contrasts_of, features_of
from acdtask.change.judgement.model import Model
from acdtask.change.judgement.sums import BlobSums

__all__ = ["JUDGED", "NO_DATE", "judge"]

JUDGED = np.dtype(
    [
        ("id", "<i4"),
        ("probability", "<i8"),
        ("kept", "?"),
        ("contrast", "<i8"),
        ("past_contrast", "<i8"),
        ("past_date", "<i8"),
        ("inside", "<i8"),
        ("ring", "<i8"),
    ]
)
"""A judged blob.

probability: in units of 1 / `acdtask.change.judgement.model.CERTAIN`. contrast: contrast of the drop in the image, in
fixed point of stored units. past_contrast, past_date: the largest in the baseline, and the number of its date.
inside, ring: mean drop of the blob and of its ring.
"""

NO_DATE = -1
"""Number of the date if no date of the baseline has data in half of the blob."""


def judge(
    blobs: NDArray[np.void],
    sums: BlobSums,
    model: Model,
    scale: CoherenceScale,
    *,
    accepted: int,
    sure: int | None = None,
) -> NDArray[np.void]:
    """Judge the candidates of an image. Blobs without a pixel in the sums are left out.

    Args:
        blobs: BLOB rows (`acdtask.change.seams`), by id.
        sums: sums of the whole image.
        model: gives probabilities.
        scale: meaning of stored values.
        accepted: see `acdtask.change.judgement.choice.chosen`.
        sure: see `acdtask.change.judgement.choice.chosen`.

    Returns:
        JUDGED rows, by id.
    """
    has_pixels = sums.images[:, -1, 0, 0] > 0
    sums = BlobSums(sums.ids[has_pixels], sums.ground[has_pixels], sums.images[has_pixels])
    blobs = blobs[np.isin(blobs["id"], sums.ids)]
    drops = contrasts_of(sums, blobs["area"].astype(np.int64), drop=True)
    judged = np.zeros(len(blobs), JUDGED)
    judged["id"] = blobs["id"]
    judged["probability"] = model.probabilities(features_of(blobs, sums, scale))
    judged["kept"] = chosen(judged["probability"], accepted, sure)
    largest = drops.largest()
    judged["contrast"], judged["inside"], judged["ring"] = drops.now, drops.inside[:, -1], drops.ring[:, -1]
    judged["past_contrast"] = np.where(largest == UNKNOWN, 0, largest)
    judged["past_date"] = np.where(largest == UNKNOWN, NO_DATE, drops.date_of_largest())
    return judged
