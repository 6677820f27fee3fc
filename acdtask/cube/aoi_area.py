"""The area of a GeoJSON document: the union of its valid polygons, in longitude and latitude."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.points import crs_of, move_points
from acdtask.raster.repair import repaired

__all__ = ["area_of_document", "bbox_document", "features_of"]

LON_LAT = "EPSG:4326"
LON_LAT_CODES = frozenset({"CRS84", "4326"})
CODE = re.compile(r"(?:^|[:/])(?:(?P<authority>EPSG|OGC)(?:[:/]+[\w.]*)?[:/])(?P<code>\w+)$", re.IGNORECASE)
"""`EPSG:32632`, `urn:ogc:def:crs:EPSG::32632`, `urn:ogc:def:crs:OGC:1.3:CRS84`, and their http:// forms."""

PIECES = 64
"""Before an edge is reprojected, it is divided into pieces no longer than the area's extent divided by this."""

NO_MEMBER = object()
"""Stands for a missing `crs` member. A null member means that the CRS is unknown."""

Placed = tuple[dict[str, Any], str]
"""A single geometry and its CRS."""


def area_of_document(document: dict[str, Any], label: str) -> BaseGeometry:
    """The union of a GeoJSON object's polygons, in longitude and latitude, cut at the antimeridian.

    AOI_UNREADABLE, AOI_EMPTY, AOI_INVALID and AOI_CRS name the document by its `label`.
    """
    polygons = [part for geometry, crs in _geometries(document, label) for part in _polygons(geometry, crs, label)]
    area = shapely.normalize(shapely.union_all([polygon for polygon in polygons if polygon.area > 0]))
    if area.is_empty:
        raise AcdError(ErrorCode.AOI_EMPTY, f"{label} has no polygon with an area")
    return area


def features_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The features of a document, which may be a feature itself."""
    features = document.get("features") if document.get("type") == "FeatureCollection" else [document]
    return [feature for feature in features if isinstance(feature, dict)] if isinstance(features, list) else []


def bbox_document(text: str) -> dict[str, Any]:
    """The rectangle `west,south,east,north` as GeoJSON. With west > east, it crosses the antimeridian. AOI_INVALID.

    >>> bbox_document("7, 50, 7.5, 51")["coordinates"][0][2]
    [7.5, 51.0]
    """
    parts = [part for part in re.split(r"[,\s]+", text.strip().strip("[]()")) if part]
    try:
        west, south, east, north = (float(part) for part in parts)
    except ValueError:
        raise _bad_bbox(text, "does not consist of four numbers") from None
    if not all(map(math.isfinite, (west, south, east, north))):
        raise _bad_bbox(text, "contains a number that is not finite")
    if south >= north:
        raise _bad_bbox(text, "has a south that is not below its north")
    if west == east:
        raise _bad_bbox(text, "has no width")
    east += 360 if west > east else 0
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}


def _bad_bbox(text: str, reason: str) -> AcdError:
    return AcdError(
        ErrorCode.AOI_INVALID, f"the bounding box {text!r} {reason}", "Give west,south,east,north in degrees."
    )


def _geometries(document: dict[str, Any], label: str, crs: str = LON_LAT) -> Iterator[Placed]:
    """The single geometries of a GeoJSON object, in order, each with its CRS."""
    try:
        kind = document.get("type")
        crs = _crs_named(document.get("crs", NO_MEMBER), crs, label)
        if kind == "FeatureCollection":
            parts = document["features"]
        elif kind == "Feature":
            parts = [document["geometry"]] if document["geometry"] else []
        elif kind == "GeometryCollection":
            parts = document["geometries"]
        else:
            yield document, crs
            return
        for part in parts:
            yield from _geometries(part, label, crs)
    except RecursionError as error:
        raise AcdError(ErrorCode.AOI_UNREADABLE, f"{label} is nested too deeply") from error
    except (KeyError, TypeError, AttributeError) as error:
        kind = document.get("type") if isinstance(document, dict) else "part"
        raise AcdError(ErrorCode.AOI_UNREADABLE, f"{label} has an invalid {kind}, which is not GeoJSON") from error


def _crs_named(member: Any, inherited: str, label: str) -> str:
    """The CRS of a `crs` member. AOI_CRS if it is unknown."""
    if member is NO_MEMBER:
        return inherited
    name = member.get("properties", {}).get("name") if isinstance(member, dict) else None
    if not isinstance(name, str) or not name.strip():
        raise AcdError(ErrorCode.AOI_CRS, f"{label} has a crs member without a name: {str(member)[:80]}")
    code = CODE.search(name.strip())
    if code and code["code"].upper() in LON_LAT_CODES:
        return LON_LAT
    text = f"EPSG:{code['code']}" if code else name
    try:
        known = crs_of(text)
    except AcdError as error:
        raise AcdError(ErrorCode.AOI_CRS, f"{label} names an unknown coordinate system, {name[:80]!r}") from error
    if not (known.is_projected or known.is_geographic):
        raise AcdError(
            ErrorCode.AOI_CRS, f"{label} has the coordinate system {name[:80]!r}, neither geographic nor projected"
        )
    return text


def _polygons(geometry: dict[str, Any], crs: str, label: str) -> list[BaseGeometry]:
    """The polygons of a single geometry, in longitude and latitude."""
    kind = geometry.get("type")
    if kind in ("Point", "MultiPoint", "LineString", "MultiLineString"):
        raise AcdError(ErrorCode.AOI_EMPTY, f"{label} has a {kind}, which has no area")
    if kind not in ("Polygon", "MultiPolygon"):
        raise AcdError(ErrorCode.AOI_UNREADABLE, f"{label} has the GeoJSON type {kind!r}")
    try:
        shape = shapely.force_2d(shapely.geometry.shape(geometry))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, shapely.errors.ShapelyError) as error:
        raise AcdError(ErrorCode.AOI_UNREADABLE, f"{label} has a {kind} with invalid coordinates") from error
    polygons = []
    for polygon in shapely.get_parts(shape):
        if not np.isfinite(shapely.get_coordinates(polygon)).all():
            raise AcdError(ErrorCode.AOI_UNREADABLE, f"{label} has a coordinate that is not finite")
        if polygon.convex_hull.area > 0 and not polygon.is_valid:  # signed areas of a bow tie may cancel out
            raise AcdError(ErrorCode.AOI_INVALID, f"{label}: {_defect(polygon, crs)}")
        if not polygon.is_empty:
            moved = shapely.get_parts(_in_degrees(polygon, crs, label))
            polygons += [piece for part in moved for piece in _cut_at_antimeridian(part, label)]
    _require_closed(geometry, label)
    return polygons


def _require_closed(geometry: dict[str, Any], label: str) -> None:
    """Require closed rings (RFC 7946, section 3.1.6), since shapely closes all silently. AOI_INVALID."""
    coordinates = geometry["coordinates"]
    for polygon in [coordinates] if geometry["type"] == "Polygon" else coordinates:
        for ring in polygon:
            if ring and list(ring[0][:2]) != list(ring[-1][:2]):
                raise AcdError(
                    ErrorCode.AOI_INVALID,
                    f"{label} has a ring that is not closed: it begins at {_shown(ring[0])}, and ends at "
                    f"{_shown(ring[-1])}",
                    "Add the ring's first position again at its end, or the positions that are missing there.",
                )


def _shown(position: list[float]) -> str:
    return f"({', '.join(map(str, position[:2]))})"


def _in_degrees(polygon: BaseGeometry, crs: str, label: str) -> BaseGeometry:
    """Reproject a polygon to longitude and latitude. AOI_CRS."""
    if crs == LON_LAT:
        return polygon
    min_x, min_y, max_x, max_y = polygon.bounds
    if crs_of(crs).is_projected and max(abs(min_x), abs(max_x)) <= 180 and max(abs(min_y), abs(max_y)) <= 90:
        raise AcdError(
            ErrorCode.AOI_CRS,
            f"the crs member of {label} is {crs[:80]}, but its coordinates look like degrees: "
            f"({min_x:g}, {min_y:g}) to ({max_x:g}, {max_y:g})",
            "Export the area again in EPSG:4326, or remove the crs member if coordinates are longitude and latitude.",
        )
    fine = shapely.segmentize(polygon, max(max_x - min_x, max_y - min_y) / PIECES or 1.0)
    moved = move_points(shapely.get_coordinates(fine), crs, LON_LAT)
    if not np.isfinite(moved).all():
        raise AcdError(ErrorCode.AOI_CRS, f"{label} extends beyond the domain of its coordinate system {crs[:80]}")
    # Beside the antimeridian, reprojected longitudes jump by 360. Without jumps, the polygon can be cut there.
    unwrapped = np.column_stack([np.unwrap(moved[:, 0], period=360), moved[:, 1]])
    return repaired(shapely.set_coordinates(fine, unwrapped))


def _cut_at_antimeridian(polygon: BaseGeometry, label: str) -> list[BaseGeometry]:
    """Cut a polygon with longitudes beyond 180, as geojson.io draws it, into parts within -180 to 180. AOI_INVALID."""
    min_x, min_y, max_x, max_y = polygon.bounds
    if min_x >= -180 and max_x <= 180 and min_y >= -90 and max_y <= 90:
        return [polygon]
    if min_y < -90 or max_y > 90 or max_x - min_x > 360 or min_x < -540 or max_x > 540:
        raise AcdError(
            ErrorCode.AOI_INVALID,
            f"{label} extends from ({min_x:g}, {min_y:g}) to ({max_x:g}, {max_y:g})",
            "Give longitudes from -180 to 180, then latitudes from -90 to 90. If coordinates are in metres, export the "
            "area in EPSG:4326, or add a crs member.",
        )
    parts = []
    for world in range(math.floor((min_x + 180) / 360), math.floor((max_x + 180) / 360) + 1):
        part = shapely.clip_by_rect(polygon, world * 360 - 180, -90, world * 360 + 180, 90)
        parts.append(shapely.transform(part, lambda xy, shift=world * 360: xy - [shift, 0]))
    return [piece for part in parts for piece in shapely.get_parts(part) if piece.geom_type == "Polygon"]


def _defect(polygon: BaseGeometry, crs: str) -> str:
    """The defect of a polygon and its position, such as 'Self-intersection at longitude 7.05, latitude 50.05'."""
    reason = str(shapely.is_valid_reason(polygon))
    match = re.match(r"^(.*)\[(\S+) (\S+)\]$", reason)
    x, y = ("longitude ", "latitude ") if crs == LON_LAT else ("x ", "y ")
    return f"{match[1]} at {x}{match[2]}, {y}{match[3]}" if match else reason
