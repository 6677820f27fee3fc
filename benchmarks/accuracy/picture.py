"""The precision-recall curves, as a picture without a script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

__all__ = ["precision_recall"]

WIDTH, HEIGHT = 640.0, 420.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 20.0, 16.0, 44.0
COLOURS = (
    "#1b6ca8",
    "#c0392b",
    "#2e8b57",
    "#8e5ea2",
    "#b8860b",
    "#444444",
    "#e67e22",
    "#16a085",
    "#7f8c8d",
    "#d16ba5",
    "#000000",
)
POINTS = 200
"""Points of a curve, at most."""
LINE_HEIGHT = 15.0

Curve = Sequence[tuple[float, float]]
"""Recall and precision."""


def _place(recall: float, precision: float) -> tuple[float, float]:
    return LEFT + recall * (WIDTH - LEFT - RIGHT), TOP + (1 - precision) * (HEIGHT - TOP - BOTTOM)


def precision_recall(curves: Mapping[str, Curve], points: Mapping[str, tuple[float, float]], title: str) -> str:
    """Draw precision over recall.

    Args:
        curves: lines, by name.
        points: the defaults of methods, by name; a method with a line has the same colour.
        title: what the picture shows, for those who cannot see it.

    >>> svg = precision_recall({"a": [(0.9, 0.2), (0.5, 0.8)]}, {"a": (0.5, 0.8), "b": (0.1, 0.9)}, "Two methods")
    >>> svg.count("<polyline"), svg.count("<circle"), "Two methods" in svg
    (1, 4, True)
    """
    names = list(dict.fromkeys([*curves, *points]))
    colours = {name: COLOURS[k % len(COLOURS)] for k, name in enumerate(names)}
    parts = [
        Markup(
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {}" role="img" font-family="sans-serif"'
        ).format(round(WIDTH), round(HEIGHT + LINE_HEIGHT * len(names)))
        + Markup(' font-size="12">\n<title>{}</title>\n<rect width="100%" height="100%" fill="#ffffff"/>').format(
            title
        ),
        *_axes(),
    ]
    for name, line in curves.items():
        step = max(1, len(line) // POINTS)
        path = " ".join("{:.1f},{:.1f}".format(*_place(*point)) for point in line[::step])
        parts.append(
            Markup('<polyline fill="none" stroke="{}" stroke-width="2" points="{}"/>').format(colours[name], path)
        )
    for name, point in points.items():
        x, y = _place(*point)
        parts.append(_dot(x, y, colours[name]))
    for k, name in enumerate(names):
        y = HEIGHT + LINE_HEIGHT * k
        parts.append(_dot(LEFT, y - 4, colours[name]))
        parts.append(Markup('<text x="{}" y="{}">{}</text>').format(LEFT + 12, y, name.replace("`", "")))
    return "\n".join([*map(str, parts), "</svg>", ""])


def _dot(x: float, y: float, colour: str) -> Markup:
    return Markup('<circle cx="{:.1f}" cy="{:.1f}" r="4.5" fill="{}"/>').format(x, y, colour)


def _axes() -> list[Markup]:
    parts = []
    for tenth in range(0, 11, 2):
        value = tenth / 10
        (x, bottom), (left, y) = _place(value, 0), _place(0, value)
        right, top = WIDTH - RIGHT, TOP
        parts += [
            Markup('<path d="M{:.1f} {}V{:.1f}M{} {:.1f}H{}" stroke="#dddddd"/>').format(
                x, top, bottom, left, y, right
            ),
            Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="middle">{:g}</text>').format(x, bottom + 16, value),
            Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="end">{:g}</text>').format(left - 6, y + 4, value),
        ]
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        Markup('<text x="{}" y="{}" text-anchor="middle">recall of pixels</text>').format(middle, HEIGHT - BOTTOM + 32)
    )
    height = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(
        Markup('<text transform="translate(14 {}) rotate(-90)" text-anchor="middle">precision of pixels</text>').format(
            height
        )
    )
    return parts
