"""Formatting of numbers, dates and settings for people."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from markupsafe import Markup

__all__ = ["count", "dates", "hectares", "map_link", "percent", "plural", "position", "setting"]

THIN_SPACE = "\u202f"
PIXELS_IN_VIEW, SURROUNDINGS, SMALLEST_SIDE, MAX_ZOOM = 800, 4, 100.0, 18
"""Width of a web map in px; view relative to the place's side; smallest side in metres; largest zoom."""


def count(number: float) -> str:
    """Format a whole number in groups of three digits.

    >>> count(1048576).split(THIN_SPACE)
    ['1', '048', '576']
    """
    return f"{number:,.0f}".replace(",", THIN_SPACE)


def dates(text: object) -> Markup:
    """Escape text, and mark its dates so that lines do not break inside them.

    >>> dates("<3 on 2021-08-12")
    Markup('&lt;3 on <time>2021-08-12</time>')
    """
    parts = re.split(r"(\b\d{4}-\d\d-\d\d\b)", str(text))
    return Markup("").join(Markup("<time>{}</time>").format(part) if i % 2 else part for i, part in enumerate(parts))


def hectares(area: float) -> str:
    """Format an area to about two significant digits, without its unit.

    >>> hectares(0.1234), hectares(2.449), hectares(30.0), hectares(0.0), hectares(0.0049)
    ('0.12', '2.4', '30', '0', '<0.01')
    """
    if area == 0:
        return "0"
    if area < 0.005:
        return "<0.01"
    if area < 1:
        return f"{area:.2f}"
    return f"{area:.1f}" if area < 10 else count(area)


def map_link(lon: float, lat: float, area: float) -> str:
    """The address of a place on OpenStreetMap, with a marker.

    Args:
        lon: degrees.
        lat: degrees.
        area: area to show together with its surroundings, in hectares.

    >>> map_link(6.95831, 50.94128, 2.4)
    'https://www.openstreetmap.org/?mlat=50.94128&mlon=6.95831#map=16/50.94128/6.95831'
    """
    side = max(math.sqrt(area * 1e4), SMALLEST_SIDE)
    metres_at_zoom_0 = 156543.03 * math.cos(math.radians(lat)) * PIXELS_IN_VIEW
    zoom = min(max(math.floor(math.log2(metres_at_zoom_0 / (side * SURROUNDINGS))), 1), MAX_ZOOM)
    coordinates = f"{lat:.5f}", f"{lon:.5f}"
    return f"https://www.openstreetmap.org/?mlat={coordinates[0]}&mlon={coordinates[1]}#map={zoom}/{coordinates[0]}/{coordinates[1]}"


def percent(share: float) -> str:
    r"""Format a share as a percentage; 0 and 100 are shown only if exact.

    >>> [percent(share) for share in (0.0, 0.0001, 0.034, 0.965, 0.9999, 1.0)]
    ['0\xa0%', '<0.1\xa0%', '3.4\xa0%', '96.5\xa0%', '>99.9\xa0%', '100\xa0%']
    """
    if share in (0, 1):
        number = f"{100 * share:.0f}"
    elif share < 0.001:
        number = "<0.1"
    elif share > 0.999:
        number = ">99.9"
    else:
        number = f"{100 * share:.1f}"
    return f"{number}\u00a0%"


def plural(number: int, singular: str, many: str = "") -> str:
    """Format a number with its noun.

    >>> plural(1, "patch", "patches"), plural(0, "date")
    ('1 patch', '0 dates')
    """
    return f"{count(number)} {singular if number == 1 else many or singular + 's'}"


def position(lon: float, lat: float) -> str:
    """Format latitude and longitude to about ten metres.

    >>> position(-6.95831, 50.94128)
    '50.9413° N, 6.9583° W'
    """
    return f"{abs(lat):.4f}° {'N' if lat >= 0 else 'S'}, {abs(lon):.4f}° {'E' if lon >= 0 else 'W'}"


def setting(value: Any) -> str:
    """Format the value of a setting: text as it is, anything else as JSON.

    >>> setting("tutorial"), setting(1.7), setting(True), setting(["a"]), setting(None)
    ('tutorial', '1.7', 'true', '["a"]', 'none')
    """
    if isinstance(value, str):
        return value or "(empty)"
    return "none" if value is None else json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
