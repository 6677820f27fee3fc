"""Known events, read from a GeoJSON feature collection: for simulated scenes, and for ground truth of one's own."""

from __future__ import annotations

import json
from datetime import date

from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from acdtask.dates import parse_moment
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.report.score import Event
from acdtask.raster.tiling import LON_LAT, project
from acdtask.storage.store import Store

__all__ = ["events_on", "read_truth"]


def read_truth(address: str) -> bytes:
    """The file at an address. TRUTH_UNREADABLE if there is none, FILE_UNFIT."""
    folder, _, file = address.rpartition("/")
    body = Store.at(folder or ".").find_small(file)
    if body is None:
        raise AcdError(ErrorCode.TRUTH_UNREADABLE, f"there is no file {address}")
    return body


def events_on(body: bytes, dates: list[date], crs: str, area: BaseGeometry) -> list[Event]:
    """The events, in a planar CRS, with those of the dates on which each shows.

    Each feature has a polygon in longitude and latitude, and properties `start_date` and `end_date` (or `date`): the
    first and last image on which it shows; `id` and `kind` if there are any. Events that the area does not meet are
    left out. TRUTH_UNREADABLE.
    """
    try:
        features = json.loads(body)["features"]
    except (ValueError, KeyError, TypeError) as error:
        raise AcdError(ErrorCode.TRUTH_UNREADABLE, "the truth is not a GeoJSON feature collection") from error
    events = []
    for place, feature in enumerate(features, start=1):
        properties = feature.get("properties") or {}
        try:
            first = parse_moment(properties.get("start_date") or properties["date"]).date()
            last = parse_moment(properties.get("end_date") or first).date()
            geometry = shape(feature["geometry"])
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise AcdError(
                ErrorCode.TRUTH_UNREADABLE, f"event {place} of the truth has no date or no polygon"
            ) from error
        if geometry.intersects(area):
            name = str(properties.get("id") or feature.get("id") or place)
            showing = tuple(day for day in dates if first <= day <= last)
            events.append(Event(name, str(properties.get("kind") or "event"), project(geometry, LON_LAT, crs), showing))
    return events
