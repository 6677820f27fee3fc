"""Map of the area: AOI, tiles and patches as a self-contained inline SVG."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from urllib.parse import quote

import shapely
import shapely.geometry
from markupsafe import Markup

from acdtask.jobs.report.model import FusedRow, PatchRow, TileShape
from acdtask.wording import hectares, plural

__all__ = ["MAX_DOTS", "svg_map"]

MAX_DOTS = 2000
"""Maximum number of patches on the map; the largest are shown."""

WIDTH = 640.0
MIN_HEIGHT, MAX_HEIGHT = 340.0, 640.0
LEFT, RIGHT, TOP, BOTTOM = 28.0, 2.0, 2.0, 30.0
MARGIN = 0.06
"""Margin around the area, as a share of its size."""
SMALLEST_DOT, LARGEST_DOT = 3.0, 13.0
SIZES = 34.0
"""Height of the legend of dot sizes below the map."""
MAX_NUMBERS = 20
"""Maximum number of patches of the last date labelled with their numbers, from the largest, where there is room."""
DIGIT, NUMBER_HEIGHT = 10.0, 20.0
"""Width of a digit and height of a number in SVG units, for the larger font of a narrow page."""
NAME_WIDTH = 6.6
"""Width of a character of a cell's name, in SVG units."""

Ring = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class _Frame:
    """Conversion of degrees to SVG units: an equirectangular projection true to scale in the area's middle."""

    west: float
    north: float
    units_per_lon: float
    units_per_lat: float
    metres_per_unit: float
    height: float

    def point(self, lon: float, lat: float) -> tuple[float, float]:
        return LEFT + (lon - self.west) * self.units_per_lon, TOP + (self.north - lat) * self.units_per_lat

    @property
    def inside(self) -> tuple[float, float, float, float]:
        return LEFT, TOP, WIDTH - RIGHT, self.height - BOTTOM

    @property
    def east(self) -> float:
        return self.west + (WIDTH - LEFT - RIGHT) / self.units_per_lon

    @property
    def south(self) -> float:
        return self.north - (self.height - TOP - BOTTOM) / self.units_per_lat


def svg_map(
    geometry: dict[str, Any],
    tiles: Iterable[TileShape],
    patches: Iterable[PatchRow],
    last: date | None,
    linked: Collection[str],
    fused: Iterable[FusedRow] = (),
) -> Markup:
    """Draw the map.

    Args:
        geometry: the AOI, a GeoJSON geometry in longitude and latitude that does not cross the antimeridian.
        tiles: outlines, labelled with their cells where there is room.
        patches: drawn as dots with an area proportional to the patch's.
        last: the date whose patches are drawn as filled dots; others are rings.
        linked: ids of patches with a row in the table on the page; their dots link to it.
        fused: patches of fused series, drawn as outlines.

    Returns:
        An `<svg>` element; numbers are rounded, so equal input gives equal text.
    """
    aoi = shapely.geometry.shape(geometry)
    tiles = list(tiles)
    frame = _frame([aoi.bounds, *(shapely.MultiPoint(tile.ring).bounds for tile in tiles)])
    shown = sorted(patches, key=lambda patch: (-patch.area_px, patch.id))[:MAX_DOTS]
    sizes = _sizes(shown, frame)
    parts = [
        *_graticule(frame),
        _aoi(aoi, frame),
        *(_tile(tile, frame) for tile in tiles),
        *(_outline(row, frame) for row in fused),
        *_dots(shown, last, linked, frame),
        _scale_bar(frame),
        _north_arrow(),
        sizes,
    ]
    label = f"Map of the area: {plural(len(tiles), 'tile')}, {plural(len(shown), 'patch', 'patches')} shown."
    return Markup('<svg class="map" viewBox="0 0 {} {}" role="group" aria-label="{}">{}</svg>').format(
        _number(WIDTH), _number(frame.height + (SIZES if sizes else 0)), label, Markup("").join(parts)
    )


def nice_step(length: float, parts: int) -> float:
    """The largest step of 1, 2 or 5 times a power of ten that fits a length at least `parts` times.

    >>> nice_step(0.31, 3), nice_step(25.0, 4)
    (0.1, 5.0)
    """
    wanted = length / parts
    power = math.floor(math.log10(wanted))
    step = max((factor for factor in (1, 2, 5) if factor * 10.0**power <= wanted * (1 + 1e-9)), default=1)
    return float(f"{step}e{power}")


def _frame(boxes: list[tuple[float, float, float, float]]) -> _Frame:
    west, south = min(box[0] for box in boxes), min(box[1] for box in boxes)
    east, north = max(box[2] for box in boxes), max(box[3] for box in boxes)
    metres_per_lon, metres_per_lat = _metres_per_degree((south + north) / 2)
    wide = max((east - west) * metres_per_lon, 1.0) * (1 + 2 * MARGIN)
    high = max((north - south) * metres_per_lat, 1.0) * (1 + 2 * MARGIN)
    room = WIDTH - LEFT - RIGHT
    height = min(max(high * room / wide, MIN_HEIGHT), MAX_HEIGHT)
    metres_per_unit = max(wide / room, high / height)
    units_per_lon, units_per_lat = metres_per_lon / metres_per_unit, metres_per_lat / metres_per_unit
    return _Frame(
        west=(west + east) / 2 - room / units_per_lon / 2,
        north=(south + north) / 2 + height / units_per_lat / 2,
        units_per_lon=units_per_lon,
        units_per_lat=units_per_lat,
        metres_per_unit=metres_per_unit,
        height=height + TOP + BOTTOM,
    )


def _metres_per_degree(lat: float) -> tuple[float, float]:
    """Metres per degree of (longitude, latitude) on WGS 84, to about a metre (series of NGA's calculator)."""
    angle = math.radians(min(max(lat, -89.0), 89.0))
    lon_metres = 111412.84 * math.cos(angle) - 93.5 * math.cos(3 * angle) + 0.118 * math.cos(5 * angle)
    lat_metres = 111132.92 - 559.82 * math.cos(2 * angle) + 1.175 * math.cos(4 * angle)
    return lon_metres, lat_metres


def _graticule(frame: _Frame) -> Iterator[Markup]:
    left, top, right, bottom = frame.inside
    yield Markup('<rect class="sea" x="{}" y="{}" width="{}" height="{}" rx="6"/>').format(
        *map(_number, (left, top, right - left, bottom - top))
    )
    step = nice_step(min(frame.east - frame.west, (frame.north - frame.south) * 1.5), 3)
    for lon in _multiples(frame.west, frame.east, step):
        x, _ = frame.point(lon, 0)
        yield Markup('<path class="graticule" d="M{} {}V{}"/>').format(*map(_number, (x, top, bottom)))
        if left + 40 < x < right - 40:
            yield Markup('<text class="degree" x="{}" y="{}" text-anchor="middle">{}</text>').format(
                _number(x), _number(bottom + 18), _degrees(lon, step, "E", "W")
            )
    for lat in _multiples(frame.south, frame.north, step):
        _, y = frame.point(0, lat)
        yield Markup('<path class="graticule" d="M{} {}H{}"/>').format(*map(_number, (left, y, right)))
        if top + 40 < y < bottom - 40:
            beside = _number(left - 10)
            yield Markup(
                '<text class="degree" x="{}" y="{}" text-anchor="middle" transform="rotate(-90 {} {})">{}</text>'
            ).format(beside, _number(y), beside, _number(y), _degrees(lat, step, "N", "S"))


def _multiples(start: float, end: float, step: float) -> Iterator[float]:
    for count in range(math.ceil(start / step), math.floor(end / step) + 1):
        yield count * step


def _degrees(value: float, step: float, positive: str, negative: str) -> str:
    decimals = max(0, -math.floor(math.log10(step)))
    text = f"{abs(value):.{decimals}f}°"
    return text if float(f"{value:.{decimals}f}") == 0 else f"{text} {positive if value > 0 else negative}"


def _aoi(aoi: Any, frame: _Frame) -> Markup:
    simple = shapely.simplify(aoi, 0.4 / frame.units_per_lat, preserve_topology=True)
    polygons = [part for part in shapely.get_parts([simple], return_index=False) if part.geom_type == "Polygon"]
    rings = [ring for polygon in polygons for ring in (polygon.exterior, *polygon.interiors)]
    path = "".join(_path(list(ring.coords), frame) for ring in rings)
    return Markup('<path class="aoi" fill-rule="evenodd" d="{}"/>').format(path)


def _tile(tile: TileShape, frame: _Frame) -> Markup:
    points = [frame.point(*corner) for corner in tile.ring]
    width = max(x for x, _ in points) - min(x for x, _ in points)
    shape = Markup('<path class="tile" d="{}"><title>Tile {}</title></path>').format(_path(tile.ring, frame), tile.cell)
    if width < NAME_WIDTH * len(tile.cell) + 12:
        return shape
    x, y = min(x for x, _ in points) + 6, min(y for _, y in points) + 15
    return shape + Markup('<text class="cell" x="{}" y="{}">{}</text>').format(_number(x), _number(y), tile.cell)


def _outline(row: FusedRow, frame: _Frame) -> Markup:
    label = f"Fused patch: {row.window}, {hectares(row.area_ha)} ha, probability {row.probability:.2f}"
    path = "".join(_path(ring, frame) for ring in row.outline)
    return Markup('<path class="fused" d="{}"><title>{}</title></path>').format(path, label)


def _path(ring: Ring, frame: _Frame) -> str:
    corners = [" ".join(map(_number, frame.point(lon, lat))) for lon, lat, *_ in ring]
    return f"M{'L'.join(corners)}Z"


def _dots(patches: list[PatchRow], last: date | None, linked: Collection[str], frame: _Frame) -> Iterator[Markup]:
    if not patches:
        return
    largest = patches[0].area_px
    numbers = _number_places([patch for patch in patches if patch.date == last], largest, frame)
    for patch in sorted(patches, key=lambda patch: (patch.date == last, -patch.area_px, patch.id)):
        label = f"Patch {patch.number}: {patch.date}, {hectares(patch.area_ha)} ha, z up to {abs(patch.z_max):.1f}"
        dot = Markup('<circle class="dot{}" cx="{}" cy="{}" r="{}"><title>{}</title></circle>').format(
            " last" if patch.date == last else "",
            *map(_number, (*frame.point(patch.lon, patch.lat), _radius(patch, largest))),
            label,
        )
        if patch.number in numbers:
            x, y, anchor = numbers[patch.number]
            dot += Markup('<text class="number" x="{}" y="{}" text-anchor="{}">{}</text>').format(
                _number(x), _number(y), anchor, patch.number
            )
        if patch.id in linked:
            dot = Markup('<a href="#patch-{}" aria-label="{}">{}</a>').format(quote(patch.id, safe=""), label, dot)
        yield dot


def _radius(patch: PatchRow, largest: int) -> float:
    return max(SMALLEST_DOT, LARGEST_DOT * math.sqrt(patch.area_px / largest))


def _number_places(patches: list[PatchRow], largest: int, frame: _Frame) -> dict[int, tuple[float, float, str]]:
    """Positions of numbers beside dots, by number: x, y and text-anchor. Overlapping numbers are omitted."""
    positions: dict[int, tuple[float, float, str]] = {}
    taken: list[tuple[float, float, float]] = []
    for patch in patches[:MAX_NUMBERS]:
        x, y = frame.point(patch.lon, patch.lat)
        gap, width = _radius(patch, largest) + 3, DIGIT * len(str(patch.number))
        fits = x + gap + width < frame.inside[2]
        left = x + gap if fits else x - gap - width
        if all(abs(y - top) > NUMBER_HEIGHT or left + width < start or left > end for start, end, top in taken):
            taken.append((left, left + width, y))
            positions[patch.number] = (x + gap, y + 5, "start") if fits else (x - gap, y + 5, "end")
    return positions


def _sizes(patches: list[PatchRow], frame: _Frame) -> Markup:
    """A legend of the areas of a small and of the largest dot; empty without patches."""
    if not patches:
        return Markup("")
    y, x = frame.height + SIZES / 2, LEFT + 154
    parts = [Markup('<text x="{}" y="{}">Size = area:</text>').format(_number(LEFT), _number(y + 5))]
    for radius in (LARGEST_DOT / 3, LARGEST_DOT):
        label = f"{hectares(patches[0].area_ha * (radius / LARGEST_DOT) ** 2)} ha"
        parts.append(
            Markup('<circle class="dot" cx="{}" cy="{}" r="{}"/><text x="{}" y="{}">{}</text>').format(
                *map(_number, (x, y, radius, x + radius + 7, y + 5)), label
            )
        )
        x += 150
    return Markup('<g class="sizes">{}</g>').format(Markup("").join(parts))


def _scale_bar(frame: _Frame) -> Markup:
    left, _, right, bottom = frame.inside
    metres = nice_step((right - left) * frame.metres_per_unit, 5)
    length = metres / frame.metres_per_unit
    text = f"{metres / 1000:g} km" if metres >= 1000 else f"{metres:g} m"
    x = right - 16 - length
    return Markup(
        '<g class="scale"><rect class="plate" x="{}" y="{}" width="{}" height="30" rx="4"/>'
        '<path d="M{} {}v5h{}v-5"/><text x="{}" y="{}" text-anchor="middle">{}</text></g>'
    ).format(
        *map(_number, (x - 8, bottom - 38, length + 16, x, bottom - 19, length, x + length / 2, bottom - 22)), text
    )


def _north_arrow() -> Markup:
    x = WIDTH - RIGHT - 22
    return Markup(
        '<g class="north"><path d="M{} {}l7 20l-7 -5l-7 5z"/><text x="{}" y="{}" text-anchor="middle">N</text></g>'
    ).format(*map(_number, (x, TOP + 10, x, TOP + 44)))


def _number(value: float) -> str:
    """A coordinate with one decimal, never -0.0."""
    return f"{round(value, 1) + 0.0:g}"
