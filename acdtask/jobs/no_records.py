"""Explains why an AOI has no records: location, swapped coordinates, or period."""

from __future__ import annotations

from datetime import datetime

import shapely
from shapely.geometry import mapping

from acdtask.cube.aoi import Aoi
from acdtask.cube.model import Cube, RecordQuery
from acdtask.errors import AcdError, ErrorCode

__all__ = ["no_record"]

WORLD = shapely.box(-180, -90, 180, 90)


def no_record(
    cube: Cube, variable: str, instance: str, aoi: Aoi, start: datetime | None, end: datetime | None
) -> AcdError:
    """The error AOI_OUTSIDE, with advice on how to find records.

    `start` and `end` are those of the requested period, or None.
    """
    what = f"{variable}:{instance}"
    in_area = cube.records(RecordQuery(area=aoi.geojson))
    having = cube.having(variable, instance, [record.id for record in in_area])
    at_any_time = [record for record in in_area if record.id in having]
    if at_any_time:
        first, last = (f"{record.datetime.date()}" for record in (at_any_time[0], at_any_time[-1]))
        period = f"from {start.date() if start else 'the first'} to {end.date() if end else 'the last'}"
        return AcdError(
            ErrorCode.AOI_OUTSIDE,
            f"no record of {what} touches the AOI {aoi.name} {period}; there are {len(at_any_time)} records from "
            f"{first} to {last}",
            "Choose --start and --end to include some of them, or the --variable and --instance that they have.",
        )
    swapped = shapely.transform(aoi.geometry, lambda points: points[:, ::-1])
    if WORLD.contains(swapped) and cube.records(RecordQuery(area=mapping(swapped))):
        return AcdError(
            ErrorCode.AOI_OUTSIDE,
            f"no record of {what} touches the AOI {aoi.name}, but would if its latitudes and longitudes were swapped",
            "In GeoJSON, longitude comes first: swap the coordinates in the AOI file.",
        )
    return AcdError(ErrorCode.AOI_OUTSIDE, f"no record of {what} touches the AOI {aoi.name}")
