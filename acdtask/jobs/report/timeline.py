"""Timeline of changed area per date, as an inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

from markupsafe import Markup

from acdtask.jobs.report.svgmap import nice_step
from acdtask.wording import hectares, plural

__all__ = ["Bar", "svg_timeline"]

WIDTH, HEIGHT = 640.0, 250.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 24.0, 30.0, 34.0
LABEL_WIDTH, LARGE_LABEL_WIDTH = 74.0, 108.0
"""Width of a date's label in SVG units, on a wide page and in the larger font of a narrow page."""
WIDEST_BAR, NARROWEST_BAR = 26.0, 1.5


@dataclass(frozen=True)
class Bar:
    """A date: changed area in hectares (None without a valid pixel), number of patches, and anchor `key`."""

    date: date
    area_ha: float | None
    patches: int
    key: str


def svg_timeline(bars: Sequence[Bar]) -> Markup:
    """Draw the dates (at least one, ascending) on a time axis to scale as an `<svg>`, each bar linked to its date.

    Numbers are rounded, so equal input gives equal text.
    """
    top = max((bar.area_ha or 0.0 for bar in bars), default=0.0) or 1.0
    step = nice_step(top, 3)
    top = math.ceil(top / step - 1e-9) * step
    days = [bar.date.toordinal() for bar in bars]
    inset = 30.0
    available = WIDTH - LEFT - RIGHT - 2 * inset
    span = max(days[-1] - days[0], 1)
    centres = [LEFT + inset + (available * (day - days[0]) / span if len(bars) > 1 else available / 2) for day in days]
    gap = min((after - before for before, after in pairwise(centres)), default=WIDEST_BAR / 0.7)
    width = max(NARROWEST_BAR, min(WIDEST_BAR, gap * 0.7))
    floor = HEIGHT - BOTTOM
    parts = [_axis(top, step, floor)]
    parts += [_bar(bar, centre, width, floor, top) for bar, centre in zip(bars, centres, strict=True)]
    parts += _labels(bars, centres, floor)
    label = f"Changed area on {plural(len(bars), 'date')}, {bars[0].date} to {bars[-1].date}."
    return Markup('<svg class="timeline" viewBox="0 0 {} {}" role="group" aria-label="{}">{}</svg>').format(
        _number(WIDTH), _number(HEIGHT), label, Markup("").join(parts)
    )


def _axis(top: float, step: float, floor: float) -> Markup:
    lines = [Markup('<text class="degree" x="{}" y="16">changed area, ha</text>').format(_number(LEFT - 36))]
    for index in range(round(top / step) + 1):
        y = floor - (floor - TOP) * index * step / top
        lines.append(
            Markup(
                '<path class="{}" d="M{} {}H{}"/><text class="degree" x="{}" y="{}" text-anchor="end">{}</text>'
            ).format(
                "graticule" if index else "axis",
                *map(_number, (LEFT, y, WIDTH - RIGHT, LEFT - 8, y + 4)),
                f"{index * step:.10g}",
            )
        )
    return Markup("").join(lines)


def _bar(bar: Bar, centre: float, width: float, floor: float, top: float) -> Markup:
    if bar.area_ha is None:
        height, kind, label = 12.0, "bar unknown", f"{bar.date}: no valid pixel"
    elif bar.patches == 0:
        height, kind, label = 2.0, "bar calm", f"{bar.date}: nothing abnormal"
    else:
        height = max(3.0, (floor - TOP) * bar.area_ha / top)
        kind, label = "bar", f"{bar.date}: {plural(bar.patches, 'patch', 'patches')}, {hectares(bar.area_ha)} ha"
    return Markup(
        '<a href="#date-{}" aria-label="{}">'
        '<rect class="hit" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>'
        '<rect class="{}" x="{}" y="{}" width="{}" height="{}" rx="1.5"/></a>'
    ).format(
        bar.key,
        label,
        *map(_number, (centre - width / 2, TOP, width, floor - TOP)),
        label,
        kind,
        *map(_number, (centre - width / 2, floor - height, width, height)),
    )


def _labels(bars: Sequence[Bar], centres: Sequence[float], floor: float) -> list[Markup]:
    """Label the last date, and as many before it as fit; fewer on a narrow page."""
    always_shown = _with_room(centres, LARGE_LABEL_WIDTH)
    return [
        Markup('<text class="degree{}" x="{}" y="{}" text-anchor="middle">{}</text>').format(
            "" if index in always_shown else " roomy", _number(centres[index]), _number(floor + 20), bars[index].date
        )
        for index in sorted(always_shown | _with_room(centres, LABEL_WIDTH, always_shown))
    ]


def _with_room(centres: Sequence[float], width: float, taken: frozenset[int] = frozenset()) -> frozenset[int]:
    """Choose the labels that fit beside each other and the taken ones, from the right."""
    chosen = set(taken)
    for index in reversed(range(len(centres))):
        if all(abs(centres[index] - centres[other]) >= width for other in chosen):
            chosen.add(index)
    return frozenset(chosen)


def _number(value: float) -> str:
    return f"{round(value, 1) + 0.0:g}"
