"""Rendering of a report page from its model."""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from acdtask import wording
from acdtask.change.thresholds import Direction
from acdtask.jobs.colours import COHERENCE, PATCH, QUALITY, STD, TRUTH, Z_BOTH, ColourMap, Z, css_hex
from acdtask.jobs.report.filters import FILTERS
from acdtask.jobs.report.model import DatePage, PatchRow, QualityReason, ReportPage
from acdtask.jobs.report.pictures import Z_RANGE, Z_RANGE_BOTH, paper_name, std_range
from acdtask.jobs.report.score import FALSE_SHARE, FOUND_SHARE, EventScore
from acdtask.jobs.report.svgmap import MAX_DOTS, svg_map
from acdtask.jobs.report.timeline import Bar, svg_timeline

__all__ = ["MAX_ROWS", "render", "verdict"]

MAX_ROWS = 500
"""Maximum number of rows of a table; the files have all rows."""
MINUS = "\u2212"
MOSTLY_JUDGED = 0.9
"""Below this share of judged area, \"nothing abnormal\" states the share."""
STRONG_Z = 8.0
"""The z at which the bar in the table is full."""


@dataclass(frozen=True)
class Day:
    """A date with its patches, largest first."""

    page: DatePage
    rows: tuple[PatchRow, ...]

    @property
    def judged(self) -> bool:
        """Whether any pixel has a z."""
        return self.page.valid_fraction > 0

    @property
    def area_ha(self) -> float:
        """Changed area in hectares."""
        return sum(row.area_ha for row in self.rows)

    @property
    def z_max(self) -> float:
        """The highest z of the patches, or the highest absolute value of z; requires at least one."""
        return max(abs(row.z_max) for row in self.rows)

    @property
    def short(self) -> str:
        """A one-line summary, without the date."""
        left_out = self.page.tiles_left_out
        return self._found + (f"; {wording.plural(left_out, 'tile')} left out" if left_out else "")

    @property
    def _found(self) -> str:
        if not self.judged:
            return "no pixel could be judged"
        if not self.rows:
            return "nothing abnormal"
        patches = wording.plural(len(self.rows), "patch", "patches")
        return f"{patches}, {wording.hectares(self.area_ha)} ha, z up to {self.z_max:.1f}"

    def judgement(self, reasons: Mapping[int, str]) -> str:
        """A sentence on how much of the area was judged, and why the rest was not. `reasons` are texts by code."""
        total = self.page.pixels
        shares = sorted(((pixels / total, code) for code, pixels in self.page.quality if pixels), reverse=True)
        reasons_text = ", ".join(f"{wording.percent(share)} ({reasons[code]})" for share, code in shares)
        judged = f"{wording.percent(self.page.valid_fraction)} of the area was judged"
        return f"{judged}. Not judged: {reasons_text}." if reasons_text else f"{judged}."


@dataclass(frozen=True)
class DirectionWords:
    """The wording of a page for a method's direction.

    Attributes:
        moved: what the value of a pixel did, measured by z.
        side: where z is positive.
        name: name of the column with the mean difference.
        difference: what the column measures.
        small: the kind of change that is looked for.
        z: what the thresholds are compared with.
    """

    moved: str
    side: str
    name: str
    difference: str
    small: str
    z: str = "z"


WORDS: Mapping[Direction, DirectionWords] = MappingProxyType(
    {
        "drop": DirectionWords("fell below its mean", "below the mean", "drop", "fell below its mean", "drop"),
        "rise": DirectionWords("rose above its mean", "above the mean", "rise", "rose above its mean", "rise"),
        "both": DirectionWords(
            "fell below its mean (z above 0) or rose above it (z below 0)",
            "below the mean; above it, z is negative",
            "drop",
            "fell below its mean; negative for a rise",
            "change",
            "|z|",
        ),
    }
)


@dataclass(frozen=True)
class Legend:
    """A colour strip with labelled ticks: (percent from the left, text)."""

    gradient: str
    title: str
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class MissingZReason:
    """A reason for missing z: its text, its colour, and its share of each date, newest first."""

    words: str
    colour: str
    shares: tuple[float, ...]


def render(page: ReportPage) -> bytes:
    """Render a page as HTML.

    The page has no script, and links only to its folder and to OpenStreetMap. All text from users is escaped. Equal
    pages give equal bytes, in UTF-8.
    """
    return _template().render(_context(page)).encode()


@cache
def _template() -> Template:
    """The page's template, compiled once because that takes longer than rendering."""
    environment = Environment(
        loader=PackageLoader("acdtask.jobs.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= FILTERS
    return environment.get_template("page.html.j2")


def verdict(page: ReportPage) -> str:
    """One sentence that says what changed with the last pass, how big and how sure."""
    days = _days(page)
    return _verdict(days[0]) if days else "No date was monitored."


def _verdict(day: Day) -> str:
    if not day.judged:
        return f"No pixel of {day.page.date} could be judged."
    if not day.rows:
        share = day.page.valid_fraction
        area = "" if share >= MOSTLY_JUDGED else f" in the {wording.percent(share)} of the area that could be judged"
        return f"Nothing abnormal on {day.page.date}{area}."
    size = wording.hectares(day.rows[0].area_ha)
    if len(day.rows) == 1:
        return f"1 patch on {day.page.date}: {size} ha, z up to {day.z_max:.1f}."
    patches = wording.plural(len(day.rows), "patch", "patches")
    return f"{patches} on {day.page.date}, the largest {size} ha, z up to {day.z_max:.1f}."


def _days(page: ReportPage) -> list[Day]:
    """The dates with their patches, newest first."""
    rows: defaultdict[str, list[PatchRow]] = defaultdict(list)
    for row in sorted(page.patches, key=lambda row: (-row.area_px, row.id)):
        rows[row.key].append(row)
    dates = sorted(page.dates, key=lambda day: (day.date, day.pair_start), reverse=True)
    return [Day(day, tuple(rows[day.key])) for day in dates]


def _context(page: ReportPage) -> dict[str, Any]:
    days = _days(page)
    all_rows = [row for day in days for row in day.rows]
    shown_ids = frozenset(row.id for row in all_rows[:MAX_ROWS])
    fused_rows = page.fused.rows[:MAX_ROWS] if page.fused else ()
    return {
        "page": page,
        "days": days,
        "last": days[0] if days else None,
        "verdict": verdict(page),
        "rows": all_rows[:MAX_ROWS],
        "shown_ids": shown_ids,
        "judged": bool(all_rows) and all(row.probability is not None for row in all_rows),
        "total_ha": sum(day.area_ha for day in days),
        "changed_days": sum(bool(day.rows) for day in days),
        "map": svg_map(
            page.geometry, page.tiles, page.patches, days[0].page.date if days else None, shown_ids, fused_rows
        ),
        "fused_rows": fused_rows,
        "max_dots": MAX_DOTS,
        "timeline": svg_timeline(_bars(days)) if days else "",
        "legends": _legends(page),
        "words": WORDS[page.direction],
        "sign": -1 if page.direction == "rise" else 1,
        "quantity": "Coherence" if page.quantity == "coherence" else page.quantity,
        "similar": "coherence" if page.quantity == "coherence" else "mean",
        "reasons": {reason.code: reason.words for reason in page.quality_reasons},
        "paper": paper_name,
        "hidden": _hidden(page.quality_reasons, days),
        "patch_colour": css_hex(PATCH),
        "truth_colour": css_hex(TRUTH),
        "strong_z": STRONG_Z,
        "found_share": FOUND_SHARE,
        "false_share": FALSE_SHARE,
        "events": _events(page),
        "max_rows": MAX_ROWS,
        "matches": dict(page.score.matches) if page.score else {},
    }


def _bars(days: list[Day]) -> list[Bar]:
    return [
        Bar(day.page.date, day.area_ha if day.judged else None, len(day.rows), day.page.key) for day in reversed(days)
    ]


def _legends(page: ReportPage) -> dict[str, Legend]:
    unit, both = f", {page.unit}" if page.unit else "", page.direction == "both"
    coherence = _legend(COHERENCE, f"{page.quantity}{unit}", page.limits, _even(page.limits, 4))
    spread = std_range(page.limits)
    std = _legend(STD, f"standard deviation of {page.quantity}{unit}", spread, _even(spread, 5))
    z_range = Z_RANGE_BOTH if both else Z_RANGE
    lower = {-page.low, -page.high} if both else set()
    values = sorted({z_range[0], 0.0, page.low, page.high, z_range[1], *lower})
    z = _legend(Z_BOTH if both else Z, f"z, standard deviations {WORDS[page.direction].side}", z_range, tuple(values))
    return {"coherence": coherence, "std": std, "z": z}


def _even(limits: tuple[float, float], parts: int) -> tuple[float, ...]:
    """Values that divide a range evenly."""
    return tuple(limits[0] + part * (limits[1] - limits[0]) / parts for part in range(parts + 1))


def _legend(colours: ColourMap, title: str, limits: tuple[float, float], values: tuple[float, ...]) -> Legend:
    lower, upper = limits
    visible = [value for value in values if lower <= value <= upper]
    ticks = tuple(
        (round(100 * (value - lower) / (upper - lower), 2), f"{value:g}".replace("-", MINUS)) for value in visible
    )
    return Legend(colours.css_gradient(), title, ticks)


def _hidden(reasons: tuple[QualityReason, ...], days: list[Day]) -> list[MissingZReason]:
    pixels = [dict(day.page.quality) for day in days]
    return [
        MissingZReason(
            words=reason.words,
            colour=css_hex(QUALITY[min(index, len(QUALITY) - 1)]),
            shares=tuple(
                counts.get(reason.code, 0) / day.page.pixels if day.page.pixels else 0.0
                for counts, day in zip(pixels, days, strict=True)
            ),
        )
        for index, reason in enumerate(reasons)
    ]


def _events(page: ReportPage) -> list[EventScore]:
    """Missed events first, then by first visible date; events that could not be seen come last."""
    if page.score is None:
        return []

    def order(event: EventScore) -> tuple[bool, bool, datetime.date, str]:
        first = event.dates[0].date if event.dates else datetime.date.max
        return not event.counted, event.found, first, event.id

    return sorted(page.score.events, key=order)
