"""The area of a GeoJSON document: its polygons in longitude and latitude, each of them checked."""

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
"""An edge in another CRS is cut into pieces of at least the area's width over this before it is reprojected."""

NEVER = object()
"""In place of a `crs` member that is not there: null means that the CRS is unknown."""

Placed = tuple[dict[str, Any], str]
"""A plain geometry and its CRS."""


def area_of_document(document: dict[str, Any], label: str) -> BaseGeometry:
    """The union of the document's polygons, in longitude and latitude, cut at the antimeridian.

    Raises:
        AcdError: AOI_UNREADABLE, AOI_EMPTY, AOI_INVALID, AOI_CRS.
    """
    polygons = [part for geometry, crs in _geometries(document, label) for part in _polygons(geometry, crs, label)]
    area = shapely.normalize(shapely.union_all([polygon for polygon in polygons if polygon.area > 0]))
    if area.is_empty:
        raise AcdError(ErrorCode.AOI_EMPTY, f"{label} has no polygon with an area")
    return area


def features_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The features of a document, which may be one itself."""
    features = document.get("features") if document.get("type") == "FeatureCollection" else [document]
    return [one for one in features if isinstance(one, dict)] if isinstance(features, list) else []


def bbox_document(text: str) -> dict[str, Any]:
    """The rectangle `west,south,east,north` as GeoJSON. With west > east it lies over the antimeridian. AOI_INVALID.

    >>> bbox_document("7, 50, 7.5, 51")["coordinates"][0][2]
    [7.5, 51.0]
    """
    parts = [part for part in re.split(r"[,\s]+", text.strip().strip("[]()")) if part]
    try:
        west, south, east, north = (float(part) for part in parts)
    except ValueError:
        raise _bad_bbox(text, "is not four numbers") from None
    if not all(map(math.isfinite, (west, south, east, north))):
        raise _bad_bbox(text, "has a number that is not finite")
    if south >= north:
        raise _bad_bbox(text, "does not reach from south to north")
    if west == east:
        raise _bad_bbox(text, "has no width")
    east += 360 if west > east else 0
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}


def _bad_bbox(text: str, reason: str) -> AcdError:
    return AcdError(
        ErrorCode.AOI_INVALID, f"the bounding box {text!r} {reason}", "Write west,south,east,north, in degrees."
    )


def _geometries(document: dict[str, Any], label: str, crs: str = LON_LAT) -> Iterator[Placed]:
    """The plain geometries of a GeoJSON object, in order, each with its CRS."""
    try:
        kind = document.get("type")
        crs = _crs_named(document.get("crs", NEVER), crs, label)
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
        raise AcdError(ErrorCode.AOI_UNREADABLE, f"{label} has a {kind} that is not GeoJSON") from error


def _crs_named(member: Any, inherited: str, label: str) -> str:
    """The CRS that a `crs` member names. AOI_CRS if it names none that acd knows."""
    if member is NEVER:
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
        raise AcdError(ErrorCode.AOI_CRS, f"{label} has the coordinate system {name[:80]!r}, which is not a map's")
    return text


def _polygons(geometry: dict[str, Any], crs: str, label: str) -> list[BaseGeometry]:
    """The polygons of a plain geometry in longitude and latitude."""
    kind = geometry.get("type")
    if kind in ("Point", "MultiPoint", "LineString", "MultiLineString"):
        raise AcdError(ErrorCode.AOI_EMPTY, f"{label} has a {kind}, which has no area")
    if kind not in ("Polygon", "MultiPolygon"):
        raise AcdError(ErrorCode.AOI_UNREADABLE, f"{label} has the GeoJSON type {kind!r}")
    try:
        shape = shapely.force_2d(shapely.geometry.shape(geometry))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, shapely.errors.ShapelyError) as error:
        raise AcdError(ErrorCode.AOI_UNREADABLE, f"{label} has a {kind} whose coordinates are damaged") from error
    polygons = []
    for polygon in shapely.get_parts(shape):
        if not np.isfinite(shapely.get_coordinates(polygon)).all():
            raise AcdError(ErrorCode.AOI_UNREADABLE, f"{label} has a coordinate that is not finite")
        if polygon.convex_hull.area > 0 and not polygon.is_valid:  # the halves of a bow tie may cancel out
            raise AcdError(ErrorCode.AOI_INVALID, f"{label}: {_defect(polygon, crs)}")
        if not polygon.is_empty:
            moved = shapely.get_parts(_in_degrees(polygon, crs, label))
            polygons += [part for one in moved for part in _cut_at_antimeridian(one, label)]
    return polygons


def _in_degrees(polygon: BaseGeometry, crs: str, label: str) -> BaseGeometry:
    if crs == LON_LAT:
        return polygon
    min_x, min_y, max_x, max_y = polygon.bounds
    if crs_of(crs).is_projected and max(abs(min_x), abs(max_x)) <= 180 and max(abs(min_y), abs(max_y)) <= 90:
        raise AcdError(
            ErrorCode.AOI_CRS,
            f"{label} says that its coordinates are those of {crs[:80]}, and they look like degrees: "
            f"({min_x:g}, {min_y:g}) to ({max_x:g}, {max_y:g})",
            "Export the area again in EPSG:4326, or remove the crs member if the coordinates are longitude, latitude.",
        )
    fine = shapely.segmentize(polygon, max(max_x - min_x, max_y - min_y) / PIECES or 1.0)
    moved = move_points(shapely.get_coordinates(fine), crs, LON_LAT)
    if not np.isfinite(moved).all():
        raise AcdError(ErrorCode.AOI_CRS, f"{label} reaches where its coordinate system {crs[:80]} is not defined")
    turned = np.column_stack([np.unwrap(moved[:, 0], period=360), moved[:, 1]])
    return repaired(shapely.set_coordinates(fine, turned))


def _cut_at_antimeridian(polygon: BaseGeometry, label: str) -> list[BaseGeometry]:
    """The parts of a polygon whose longitudes go on beyond 180, as geojson.io draws it, each within -180..180."""
    min_x, min_y, max_x, max_y = polygon.bounds
    if min_x >= -180 and max_x <= 180 and min_y >= -90 and max_y <= 90:
        return [polygon]
    if min_y < -90 or max_y > 90 or max_x - min_x > 360 or min_x < -540 or max_x > 540:
        raise AcdError(
            ErrorCode.AOI_INVALID,
            f"{label} reaches from ({min_x:g}, {min_y:g}) to ({max_x:g}, {max_y:g})",
            "Give longitudes from -180 to 180, then latitudes from -90 to 90. For coordinates in metres, export the "
            "area in EPSG:4326, or name their coordinate system in a crs member.",
        )
    parts = []
    for world in range(math.floor((min_x + 180) / 360), math.floor((max_x + 180) / 360) + 1):
        part = shapely.clip_by_rect(polygon, world * 360 - 180, -90, world * 360 + 180, 90)
        parts.append(shapely.transform(part, lambda xy, shift=world * 360: xy - [shift, 0]))
    return [one for part in parts for one in shapely.get_parts(part) if one.geom_type == "Polygon"]


def _defect(polygon: BaseGeometry, crs: str) -> str:
    """What is wrong and where, such as 'Self-intersection at longitude 7.05, latitude 50.05'."""
    reason = str(shapely.is_valid_reason(polygon))
    found = re.match(r"^(.*)\[(\S+) (\S+)\]$", reason)
    x, y = ("longitude ", "latitude ") if crs == LON_LAT else ("x ", "y ")
    return f"{found[1]} at {x}{found[2]}, {y}{found[3]}" if found else reason
