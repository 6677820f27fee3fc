"""Stored areas (Geocube's AOIs), each with an id computed from its coordinates."""

from __future__ import annotations

import json
import struct
import uuid
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from acdtask.cube.model import Record
from acdtask.errors import AcdError, ErrorCode
from acdtask.storage.seal import seal, unseal
from acdtask.storage.store import Store

__all__ = ["Areas", "area_id"]

Geometry: TypeAlias = dict[str, Any]


def area_id(area: Geometry) -> str:
    """The id of a GeoJSON Polygon or MultiPolygon: a UUID computed from its coordinates as 32-bit floats.

    The same ring with another first point is a different area; a MultiPolygon of a single polygon is the same area as
    the Polygon. Returns an empty string for a geometry without polygons.

    >>> square = [[[7.0, 50.0], [8.0, 50.0], [8.0, 51.0], [7.0, 50.0]]]
    >>> area_id({"type": "Polygon", "coordinates": square})
    '49df817b-519b-5135-b5b3-3303c2787177'
    """
    polygons = _polygons(area)
    if not polygons:
        return ""
    coded = bytearray(struct.pack("<I", len(polygons)))
    for polygon in polygons:
        coded += struct.pack("<I", len(polygon))
        for ring in polygon:
            flat = [number for point in ring for number in point[:2]]
            coded += struct.pack(f"<I{len(flat)}f", len(ring), *flat)
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"acd:aoi\n{coded.hex()}"))


def _polygons(area: Geometry) -> list[Any]:
    kind, coordinates = area.get("type"), area.get("coordinates") or []
    return [coordinates] if kind == "Polygon" and coordinates else list(coordinates) if kind == "MultiPolygon" else []


class Areas:
    """The areas of a cube: those created by clients, stored below `aois/`, and the footprints of its records.

    `records` returns the current records of the cube.
    """

    def __init__(self, store: Store, records: Callable[[], Iterable[Record]]) -> None:
        self._store = store
        self._records = records
        self._known: dict[str, Geometry] = {}

    def create(self, area: Geometry) -> tuple[str, bool]:
        """Store the area. Returns its id and whether it is new."""
        identity = area_id(area)
        created = self._store.create(_key(identity), seal(json.dumps(area).encode()))
        self._known[identity] = area
        return identity, created

    def find(self, identity: str) -> Geometry | None:
        """The area or footprint with an id (lower case, with dashes), or None. CUBE_DAMAGED."""
        if identity not in self._known:
            data = self._store.find(_key(identity))
            if data is not None:
                self._known[identity] = _decoded(data, self._store.address_of(_key(identity)))
            else:
                self._known |= {
                    area_id(record.footprint): record.footprint for record in self._records() if record.footprint
                }
        return self._known.get(identity)


def _decoded(data: bytes, address: str) -> Geometry:
    fix = "Delete the file and create the area again; it gets the same id."
    body = unseal(data, address, ErrorCode.CUBE_DAMAGED, fix)
    try:
        area = json.loads(body)
        if area_id(area):
            return dict(area)
    except (ValueError, TypeError, AttributeError, struct.error):
        pass
    raise AcdError(ErrorCode.CUBE_DAMAGED, f"{address} is damaged: it does not contain an area", fix)


def _key(identity: str) -> str:
    return f"aois/{identity}.json"
