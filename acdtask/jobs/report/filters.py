"""Template filters of the report: format dates, positions and settings."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

from markupsafe import Markup

from acdtask.wording import count, hectares, percent, plural

__all__ = ["FILTERS", "dates", "map_link", "position", "setting"]

PIXELS_IN_VIEW, SURROUNDINGS, SMALLEST_SIDE, MAX_ZOOM = 800, 4, 100.0, 18
"""Width of a web map in px, and width of its view in sides of the area shown; SMALLEST_SIDE is in metres."""


def dates(text: object) -> Markup:
    """Escape text, with dates in <time> so that no line breaks inside one.

    >>> dates("<3 on 2021-08-12")
    Markup('&lt;3 on <time>2021-08-12</time>')
    """
    parts = re.split(r"(\b\d{4}-\d\d-\d\d\b)", str(text))
    return Markup("").join(
        Markup("<time>{}</time>").format(part) if index % 2 else part for index, part in enumerate(parts)
    )


def map_link(lon: float, lat: float, area: float) -> str:
    """Link to a position on OpenStreetMap, with a marker.

    Args:
        lon: longitude in degrees.
        lat: latitude in degrees.
        area: area to show, in hectares; the view also includes its surroundings.

    >>> map_link(6.95831, 50.94128, 2.4)
    'https://www.openstreetmap.org/?mlat=50.94128&mlon=6.95831#map=16/50.94128/6.95831'
    """
    side = max(math.sqrt(area * 1e4), SMALLEST_SIDE)
    metres_at_zoom_0 = 156543.03 * math.cos(math.radians(lat)) * PIXELS_IN_VIEW
    zoom = min(max(math.floor(math.log2(metres_at_zoom_0 / (side * SURROUNDINGS))), 1), MAX_ZOOM)
    latitude, longitude = f"{lat:.5f}", f"{lon:.5f}"
    return f"https://www.openstreetmap.org/?mlat={latitude}&mlon={longitude}#map={zoom}/{latitude}/{longitude}"


def position(lon: float, lat: float) -> str:
    """Format latitude and longitude, accurate to about ten metres.

    >>> position(-6.95831, 50.94128)
    '50.9413° N, 6.9583° W'
    """
    return f"{abs(lat):.4f}° {'N' if lat >= 0 else 'S'}, {abs(lon):.4f}° {'E' if lon >= 0 else 'W'}"


def setting(value: Any) -> str:
    """Format the value of a setting: text unchanged, anything else as JSON.

    >>> setting("tutorial"), setting(1.7), setting(True), setting(["a"]), setting(None)
    ('tutorial', '1.7', 'true', '["a"]', 'none')
    """
    if isinstance(value, str):
        return value or "(empty)"
    return "none" if value is None else json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


FILTERS: dict[str, Callable[..., str]] = {
    function.__name__: function for function in (count, dates, hectares, map_link, percent, plural, position, setting)
}
"""All filters, by name."""
