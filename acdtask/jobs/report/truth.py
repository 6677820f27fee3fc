"""Known events, read from GeoJSON: of simulated scenes, or ground truth from users."""

from __future__ import annotations

import json
from datetime import date

from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from acdtask.dates import parse_moment
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.report.score import KnownEvent
from acdtask.raster.tiling import LON_LAT, project
from acdtask.storage.store import Store

__all__ = ["events_on", "read_truth"]


def read_truth(address: str) -> bytes:
    """Read the file at an address. TRUTH_UNREADABLE if it does not exist, FILE_UNFIT."""
    store, key = Store.of_file(address)
    body = store.find_small(key)
    if body is None:
        raise AcdError(ErrorCode.TRUTH_UNREADABLE, f"there is no file {address}")
    return body


def events_on(body: bytes, dates: list[date], crs: str, area: BaseGeometry) -> list[KnownEvent]:
    """Parse the events, project them to a planar CRS, and select the dates on which each shows.

    Each feature has a polygon in longitude and latitude, and properties `start_date` and `end_date` (or `date`) of the
    first and last image on which it shows; `id` and `kind` are optional. Events outside the area are excluded.
    TRUTH_UNREADABLE.
    """
    try:
        features = json.loads(body)["features"]
    except (ValueError, KeyError, TypeError) as error:
        raise AcdError(ErrorCode.TRUTH_UNREADABLE, "the truth is not a GeoJSON feature collection") from error
    events = []
    for number, feature in enumerate(features, start=1):
        properties = feature.get("properties") or {}
        try:
            first = parse_moment(properties.get("start_date") or properties["date"]).date()
            last = parse_moment(properties.get("end_date") or first).date()
            geometry = shape(feature["geometry"])
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise AcdError(
                ErrorCode.TRUTH_UNREADABLE, f"event {number} of the truth has no date or no polygon"
            ) from error
        if geometry.intersects(area):
            name = str(properties.get("id") or feature.get("id") or number)
            kind = str(properties.get("kind") or "event")
            days = tuple(day for day in dates if first <= day <= last)
            events.append(KnownEvent(name, kind, project(geometry, LON_LAT, crs), days))
    return events
