"""The choice of candidates: as many as keep the expected number of false ones within what a person accepts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from acdtask.change.judgement.model import CERTAIN

__all__ = ["IMPROBABLE", "chosen", "false_accepted"]

AREA_KM2 = 1000.0

IMPROBABLE = CERTAIN // 50
"""Less probable candidates are never kept, however many patches are accepted."""


def false_accepted(false_per_1000km2: float, area_km2: float) -> int:
    """The expected number of false patches that an image may have, in units of 1 / CERTAIN.

    >>> false_accepted(20, 419.43)
    83886
    """
    return round(false_per_1000km2 * area_km2 / AREA_KM2 * CERTAIN)


def chosen(probabilities: NDArray[np.int64], accepted: int, sure: int | None = None) -> NDArray[np.bool_]:
    """Keep the most probable candidates while the sum of (1 - p), the expected number of false ones, is accepted.

    Of equally probable candidates, the one with the smaller id comes first. If less than one false candidate is
    accepted because the area is small, the sum of an image says little. Candidates are then also kept if they are as
    probable as those that are kept in large areas. Candidates less probable than IMPROBABLE are not kept.

    Args:
        probabilities: shape (candidates,), in units of 1 / CERTAIN, by id.
        accepted: the largest sum, in the same unit.
        sure: probability from which candidates are kept if `accepted` is below CERTAIN, in the same unit.

    >>> chosen(np.array([9000, 500, 9900, 6000]), 5100)
    array([ True, False,  True,  True])
    >>> chosen(np.array([9000, 500, 9900, 6000]), 100, sure=8000)
    array([ True, False,  True, False])
    >>> chosen(np.array([9000, 500, 199, 0]), 50000)
    array([ True,  True, False, False])
    """
    order = np.argsort(-probabilities, kind="stable")
    kept = np.zeros(len(probabilities), np.bool_)
    kept[order] = np.cumsum(CERTAIN - probabilities[order]) <= accepted
    if sure is not None and accepted < CERTAIN:
        kept |= probabilities >= sure
    return kept & (probabilities >= IMPROBABLE)
