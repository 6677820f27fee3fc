"""Warnings about results, as data: what was hardly judged, and images in a season that the baseline lacks.

A baseline has one mean for all seasons that its images are from. An image of another season differs from it without any
change of the ground, and raises many times the false patches (docs/explanation/thresholds.md).
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from acdtask.jobs.coverage import ENOUGH, JudgedPixels
from acdtask.jobs.plans import WARNING

__all__ = [
    "WARNINGS",
    "Caution",
    "baseline_season",
    "caution_lines",
    "image_season",
    "little_judged",
    "merged",
    "months_of",
    "months_text",
    "plan_notes",
    "without_tiles",
]

WARNINGS = "warnings"
"""Key in a plan's notes: its warnings as JSON objects."""

ALL_MONTHS = frozenset(range(1, 13))
NAMES = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
DATE = re.compile(r"\d{4}-\d\d-\d\d")
WIDEN = "extend the baseline to a whole year with --start and --end of 'acdtask baseline local'"


class Caution(BaseModel):
    """A warning about results.

    Attributes:
        kind: `season`: the baseline has no image in some months of the year; `little judged`: less than half of the
            area of an image was judged; `no tiles`: an image has no data in any tile of the baseline.
        text: the warning as a sentence, without a period; names the setting that helps.
        images: labels of the affected images; empty if it is about the baseline.
        months: months of the year (1 to 12) that the baseline lacks.
        area_px, judged_px: numbers of pixels in the area, and of those that were judged; 0 for other kinds.
    """

    model_config = ConfigDict(frozen=True)

    kind: Literal["season", "little judged", "no tiles"]
    text: str
    images: tuple[str, ...] = ()
    months: tuple[int, ...] = ()
    area_px: int = 0
    judged_px: int = 0


def months_of(labels: Iterable[str]) -> frozenset[int]:
    """The months of the year that images fall in; a pair covers all months from its first to its last date.

    >>> sorted(months_of(["2020-12-30_2021-02-04", "2021-06-11_A015_VV"]))
    [1, 2, 6, 12]
    """
    months: set[int] = set()
    for label in labels:
        dates = [dt.date.fromisoformat(text) for text in DATE.findall(label)]
        if dates:
            first, last = (12 * date.year + date.month - 1 for date in (dates[0], dates[-1]))
            months.update(month % 12 + 1 for month in range(first, min(last, first + 11) + 1))
    return frozenset(months)


def months_text(months: Iterable[int]) -> str:
    """Months by name, with runs shortened; a run may go over the turn of the year.

    >>> months_text([7]), months_text([1, 2, 3, 12]), months_text([3, 4, 9])
    ('July', 'December to March', 'March, April and September')
    """
    wanted = sorted(months)
    if len(wanted) == len(ALL_MONTHS):
        return "any month"
    starts = [month for month in wanted if (month - 2) % 12 + 1 not in wanted]
    parts: list[str] = []
    for start in starts:
        run = [start]
        while run[-1] % 12 + 1 in wanted:
            run.append(run[-1] % 12 + 1)
        names = [NAMES[month - 1] for month in run]
        parts += [f"{names[0]} to {names[-1]}"] if len(names) > 2 else names
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def baseline_season(labels: Sequence[str]) -> list[Caution]:
    """A warning about a baseline that has no image in some months of the year; empty if it has all.

    Args:
        labels: labels of its images.
    """
    missing = tuple(sorted(ALL_MONTHS - months_of(labels)))
    if not missing:
        return []
    text = (
        f"the baseline has no image in {months_text(missing)}: in these months the season alone may look abnormal; "
        "extend it to a whole year with --start and --end"
    )
    return [Caution(kind="season", text=text, months=missing)]


def image_season(baseline: Sequence[str], labels: Sequence[str]) -> list[Caution]:
    """A warning about each image in a month of the year in which the baseline has no image.

    The month of an image is that of its last date.

    Args:
        baseline: labels of the baseline's images.
        labels: labels of the images.
    """
    missing = ALL_MONTHS - months_of(baseline)
    months = {label: tuple(sorted(missing & months_of(DATE.findall(label)[-1:]))) for label in labels}
    return [
        Caution(
            kind="season",
            text=f"{label}: the baseline has no image in {months_text(months[label])}, so the season alone may look "
            f"abnormal; {WIDEN}",
            images=(label,),
            months=months[label],
        )
        for label in labels
        if months[label]
    ]


def little_judged(label: str, quality_px: Mapping[str, int]) -> list[Caution]:
    """A warning about an image of whose area less than half was judged; empty if more was.

    Args:
        label: label of the image.
        quality_px: number of pixels per name of `Quality`; empty if all of its tiles were left out.
    """
    judged = JudgedPixels(quality_px)
    if judged.share >= ENOUGH:
        return []
    sentence = judged.sentence if judged.area_px else "nothing was judged, since all of its tiles were left out"
    return [
        Caution(
            kind="little judged",
            text=f"{label}: {sentence}",
            images=(label,),
            area_px=judged.area_px,
            judged_px=judged.judged_px,
        )
    ]


def without_tiles(labels: Sequence[str]) -> list[Caution]:
    """A warning about each image without data in any tile of the baseline, so that it is not judged at all."""
    return [
        Caution(
            kind="no tiles",
            text=f"{label}: no data in the tiles of the baseline, so it is not judged; compute the baseline again with "
            "this AOI, or exclude the records with --leave-out",
            images=(label,),
        )
        for label in labels
    ]


def merged(cautions: Iterable[Caution]) -> list[Caution]:
    """One warning of each kind, in the order of their first: that of the first image, and the number of the others.

    >>> few = [Caution(kind="little judged", text=f"{day}: judged 3%", images=(day,), area_px=9) for day in "abc"]
    >>> [(caution.text, caution.area_px) for caution in merged(few)]
    [('a: judged 3% (and 2 more images)', 27)]
    """
    by_kind: dict[str, list[Caution]] = {}
    for caution in dict.fromkeys(cautions):
        by_kind.setdefault(caution.kind, []).append(caution)
    return [_joined(same) for same in by_kind.values()]


def _joined(same: Sequence[Caution]) -> Caution:
    first, images = same[0], tuple(dict.fromkeys(label for caution in same for label in caution.images))
    more = len(images) - len(first.images)
    return first.model_copy(
        update={
            "text": f"{first.text} (and {more} more image{'' if more == 1 else 's'})" if more else first.text,
            "images": images,
            "months": tuple(sorted({month for caution in same for month in caution.months})),
            "area_px": sum(caution.area_px for caution in same),
            "judged_px": sum(caution.judged_px for caution in same),
        }
    )


def caution_lines(cautions: Iterable[Caution]) -> list[str]:
    """Lines for the user, one for each kind of warning."""
    return [f"warning: {caution.text}" for caution in merged(cautions)]


def plan_notes(cautions: Iterable[Caution], *, text: str = "") -> dict[str, object]:
    """Notes of a plan with these warnings: as data, and as one sentence under WARNING, after `text`."""
    joined = merged(cautions)
    sentences = [*([text] if text else []), *(caution.text for caution in joined)]
    return {
        **({WARNING: "; ".join(sentences)} if sentences else {}),
        **({WARNINGS: [caution.model_dump(mode="json") for caution in joined]} if joined else {}),
    }
