"""The timeline: changed area per date as an inline SVG."""

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
"""Room that a date needs below the axis, in letters for a wide and for a narrow page."""
WIDEST_BAR, NARROWEST_BAR = 26.0, 1.5


@dataclass(frozen=True)
class Bar:
    """A date: its changed area in hectares and its patches; None without a valid pixel. `key` is its anchor."""

    date: date
    area_ha: float | None
    patches: int
    key: str


def svg_timeline(bars: Sequence[Bar]) -> Markup:
    """Draw the dates on a true time axis, each bar leading to its date.

    Args:
        bars: at least one, by date.

    Returns:
        An `<svg>` element; numbers are rounded, so the same input gives the same text.
    """
    top = max((bar.area_ha or 0.0 for bar in bars), default=0.0) or 1.0
    step = nice_step(top, 3)
    top = math.ceil(top / step - 1e-9) * step
    days = [bar.date.toordinal() for bar in bars]
    inset = 30.0
    room = WIDTH - LEFT - RIGHT - 2 * inset
    span = max(days[-1] - days[0], 1)
    places = [LEFT + inset + (room * (day - days[0]) / span if len(bars) > 1 else room / 2) for day in days]
    gap = min((after - before for before, after in pairwise(places)), default=WIDEST_BAR / 0.7)
    width = max(NARROWEST_BAR, min(WIDEST_BAR, gap * 0.7))
    floor = HEIGHT - BOTTOM
    parts = [_axis(top, step, floor)]
    parts += [_bar(bar, place, width, floor, top) for bar, place in zip(bars, places, strict=True)]
    parts += _labels(bars, places, floor)
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


def _bar(bar: Bar, place: float, width: float, floor: float, top: float) -> Markup:
    if bar.area_ha is None:
        height, kind, words = 12.0, "bar unknown", f"{bar.date}: no valid pixel"
    elif bar.patches == 0:
        height, kind, words = 2.0, "bar calm", f"{bar.date}: nothing abnormal"
    else:
        height = max(3.0, (floor - TOP) * bar.area_ha / top)
        kind, words = "bar", f"{bar.date}: {plural(bar.patches, 'patch', 'patches')}, {hectares(bar.area_ha)} ha"
    return Markup(
        '<a href="#date-{}" aria-label="{}">'
        '<rect class="hit" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>'
        '<rect class="{}" x="{}" y="{}" width="{}" height="{}" rx="1.5"/></a>'
    ).format(
        bar.key,
        words,
        *map(_number, (place - width / 2, TOP, width, floor - TOP)),
        words,
        kind,
        *map(_number, (place - width / 2, floor - height, width, height)),
    )


def _labels(bars: Sequence[Bar], places: Sequence[float], floor: float) -> list[Markup]:
    """The last date always, and as many before it as there is room for; fewer on a narrow page."""
    anywhere = _with_room(places, LARGE_LABEL_WIDTH)
    return [
        Markup('<text class="degree{}" x="{}" y="{}" text-anchor="middle">{}</text>').format(
            "" if index in anywhere else " roomy", _number(places[index]), _number(floor + 20), bars[index].date
        )
        for index in sorted(anywhere | _with_room(places, LABEL_WIDTH, anywhere))
    ]


def _with_room(places: Sequence[float], width: float, taken: frozenset[int] = frozenset()) -> frozenset[int]:
    """Which labels fit beside each other and those that are taken, from the right."""
    chosen = set(taken)
    for index in reversed(range(len(places))):
        if all(abs(places[index] - places[other]) >= width for other in chosen):
            chosen.add(index)
    return frozenset(chosen)


def _number(value: float) -> str:
    return f"{round(value, 1) + 0.0:g}"
