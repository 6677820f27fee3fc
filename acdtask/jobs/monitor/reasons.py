"""Sentences that say why a candidate is a patch, or why it is held back."""

from __future__ import annotations

import numpy as np

from acdtask.change.fragments import FIXED
from acdtask.change.judgement.choice import IMPROBABLE
from acdtask.change.judgement.judge import NO_DATE
from acdtask.change.judgement.model import CERTAIN
from acdtask.cube.model import Variable
from acdtask.jobs.monitor.reference import Reference
from acdtask.jobs.patch_files import PatchJudgement

__all__ = ["comparison_in", "held_back", "judgement_of", "reason_of"]

ABOUT_EQUAL = 1.25
"""Up to this ratio, two drops are about equal."""
MANY = 100
"""From this ratio on, the smaller drop is none."""
HELD_BACK, BECAUSE = "held back (probability ", "): "
"""Around the probability and the reason why a candidate is held back, before its comparison."""
STILL = 0.25
"""Surroundings that moved by at most this share of the contrast did not fall."""


def judgement_of(judged: np.void, reference: Reference, variable: Variable, accepted: float) -> PatchJudgement:
    """The judgement of a candidate in physical units, with its reason.

    Args:
        judged: a JUDGED row (`acdtask.change.judgement.judge`).
        reference: the images that it was compared with.
        variable: variable of the images.
        accepted: the number of false patches that is accepted in 1000 square kilometres.
    """
    contrast, past, ring = (
        int(judged[name]) / FIXED * variable.scale for name in ("contrast", "past_contrast", "ring")
    )
    date = None if judged["past_date"] == NO_DATE else reference.images[int(judged["past_date"])].datetime
    day = f"{date:%Y-%m-%d}" if date else ""
    reason = reason_of(contrast, past, day, ring=ring, unit=variable.unit)
    probability = int(judged["probability"]) / CERTAIN
    if not judged["kept"]:
        reason = held_back(reason, probability, accepted)
    return PatchJudgement(probability, contrast, past, date, reason)


def held_back(comparison: str, probability: float, accepted: float) -> str:
    """The reason of a candidate that is not kept, given its comparison with its past.

    >>> held_back("fell by 0.31", 0.04, 20)
    'held back (probability 0.04; 20 false patches per 1000 km2 are accepted): fell by 0.31'
    >>> held_back("fell by 0.02", 0.0046, 20)
    'held back (probability 0.005, less than 0.02): fell by 0.02'
    """
    if probability < IMPROBABLE / CERTAIN:
        return f"{HELD_BACK}{probability:.1g}, less than {IMPROBABLE / CERTAIN:g}{BECAUSE}{comparison}"
    return f"{HELD_BACK}{probability:.2f}; {accepted:g} false patches per 1000 km2 are accepted{BECAUSE}{comparison}"


def comparison_in(reason: str) -> str:
    """The comparison with the past in the reason of a candidate, kept or not.

    >>> comparison_in(held_back("fell by 0.31", 0.04, 20)), comparison_in("fell by 0.31")
    ('fell by 0.31', 'fell by 0.31')
    """
    return reason.partition(BECAUSE)[2] if reason.startswith(HELD_BACK) else reason


def reason_of(contrast: float, past: float, day: str, *, ring: float, unit: str = "") -> str:
    r"""The sentence that compares a candidate with its past.

    Args:
        contrast: how much farther it fell than its surroundings.
        past: the largest contrast of the past.
        day: the date of that; empty if there is none.
        ring: how far its surroundings fell.
        unit: unit of these.

    >>> reason_of(0.31, 0.077, "2018-05-06", ring=-0.01)
    'fell by 0.31, 4 times its largest drop in the baseline (0.08 on 2018-05-06); its surroundings did not'
    >>> print(*reason_of(1.2, 1.8, "2018-05-06", ring=0.8, unit="dB").split("; "), sep="\n")
    fell by 1.20 dB against its surroundings, which fell by 0.80 dB
    less than its largest drop in the baseline (1.80 dB on 2018-05-06)
    """
    compared = _compared(contrast, past, day, unit)
    if abs(ring) <= STILL * contrast:
        return f"fell by {_amount(contrast, unit)}, {compared}; its surroundings did not"
    moved = f"{'fell' if ring > 0 else 'rose'} by {_amount(abs(ring), unit)}"
    return f"fell by {_amount(contrast, unit)} against its surroundings, which {moved}; {compared}"


def _compared(contrast: float, past: float, day: str, unit: str) -> str:
    if not day:
        return "with no image of the baseline to compare with"
    if past <= contrast / MANY:
        return "as never in the baseline"
    ratio = contrast / past
    largest = f"its largest drop in the baseline ({_amount(past, unit)} on {day})"
    if ratio * ABOUT_EQUAL < 1:
        return f"less than {largest}"
    if ratio < ABOUT_EQUAL:
        return f"about {largest}"
    return f"{_ratio_text(ratio)} times {largest}"


def _ratio_text(ratio: float) -> str:
    """A ratio with one decimal, or none from 3 on.

    >>> _ratio_text(1.52), _ratio_text(3.96)
    ('1.5', '4')
    """
    return f"{ratio:.1f}" if ratio < 3 else f"{ratio:.0f}"


def _amount(value: float, unit: str) -> str:
    return f"{value:.2f}{' ' if unit else ''}{unit}"
