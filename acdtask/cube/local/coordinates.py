"""Coordinates of a consolidated container, as CF has them: time, y, x, and the coordinate system `spatial_ref`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acdtask.cube.model import Record
from acdtask.raster.grid import Grid
from acdtask.raster.points import crs_of

__all__ = ["SPATIAL_REF", "Coordinate", "coordinates_of"]

SPATIAL_REF = "spatial_ref"
"""The name that rioxarray and GDAL look for."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# PROJ's names and parameters, and those of CF (conventions 1.11, appendix F).
GRID_MAPPINGS = {
    "longlat": "latitude_longitude",
    "utm": "transverse_mercator",
    "tmerc": "transverse_mercator",
    "merc": "mercator",
    "laea": "lambert_azimuthal_equal_area",
    "lcc": "lambert_conformal_conic",
    "aea": "albers_conical_equal_area",
}
ORIGIN = {"lat_0": "latitude_of_projection_origin", "x_0": "false_easting", "y_0": "false_northing"}
CENTRAL_MERIDIAN = ORIGIN | {"lon_0": "longitude_of_central_meridian"}
ORIGIN_MERIDIAN = ORIGIN | {"lon_0": "longitude_of_projection_origin"}
PARAMETERS = {
    "latitude_longitude": {},
    "transverse_mercator": CENTRAL_MERIDIAN | {"k": "scale_factor_at_central_meridian"},
    "mercator": {name: cf for name, cf in ORIGIN_MERIDIAN.items() if name != "lat_0"} | {"lat_ts": "standard_parallel"},
    "lambert_azimuthal_equal_area": ORIGIN_MERIDIAN,
    "lambert_conformal_conic": CENTRAL_MERIDIAN,
    "albers_conical_equal_area": CENTRAL_MERIDIAN,
}


@dataclass(frozen=True)
class Coordinate:
    """A coordinate: its values, the dimensions that it has, and its attributes."""

    values: NDArray[Any]
    dimensions: tuple[str, ...]
    attributes: dict[str, Any]


def coordinates_of(grid: Grid, records: Sequence[Record]) -> dict[str, Coordinate]:
    """The coordinates of an array of the dimensions time, y, x.

    Times are whole seconds, or microseconds if a record needs them. A grid with rotation has no y and x: its pixels lie
    where the transform of `spatial_ref` says.
    """
    a, b, c, d, e, f = grid.transform
    found = {"time": _time(records)}
    if not b and not d:
        y, x = (
            {"standard_name": "latitude", "units": "degrees_north"},
            {"standard_name": "longitude", "units": "degrees_east"},
        )
        if not crs_of(grid.crs).is_geographic:
            unit = _unit(grid.crs)
            y, x = (
                {"standard_name": f"projection_{axis}_coordinate", "long_name": f"{axis} of projection", "units": unit}
                for axis in "yx"
            )
        found["y"] = Coordinate(f + e * (np.arange(grid.height) + 0.5), ("y",), {**y, "axis": "Y"})
        found["x"] = Coordinate(c + a * (np.arange(grid.width) + 0.5), ("x",), {**x, "axis": "X"})
    return {**found, SPATIAL_REF: Coordinate(np.zeros((), np.int64), (), _grid_mapping(grid))}


def _time(records: Sequence[Record]) -> Coordinate:
    micros = np.array([(record.datetime - EPOCH) // timedelta(microseconds=1) for record in records], np.int64)
    unit = "microseconds" if (micros % 1_000_000).any() else "seconds"
    values = micros if unit == "microseconds" else micros // 1_000_000
    attributes = {
        "standard_name": "time",
        "long_name": "time of the image, UTC",
        "units": f"{unit} since 1970-01-01T00:00:00",
        "calendar": "proleptic_gregorian",
        "axis": "T",
    }
    return Coordinate(values, ("time",), attributes)


def _unit(crs: str) -> str:
    """The unit of a projected CRS, as CF writes it."""
    unit = crs_of(crs).to_dict().get("units", "m")
    return {"m": "m", "km": "km", "us-ft": "US_survey_foot", "ft": "foot"}.get(unit, str(unit))


def _grid_mapping(grid: Grid) -> dict[str, Any]:
    crs = crs_of(grid.crs)
    a, b, c, d, e, f = grid.transform
    wkt = crs.to_wkt()
    attributes = _cf_parameters(crs.to_dict())
    attributes |= {"crs_wkt": wkt, "spatial_ref": wkt}
    attributes["GeoTransform"] = " ".join(repr(float(number)) for number in (c, a, b, f, d, e))
    return attributes


def _cf_parameters(proj: dict[str, Any]) -> dict[str, Any]:
    """The name and the parameters of a projection; nothing if CF has none, since the WKT says it all."""
    name = GRID_MAPPINGS.get(proj.get("proj", ""))
    if name is None:
        return {}
    if proj["proj"] == "utm":
        proj = {"lat_0": 0, "lon_0": 6 * proj["zone"] - 183, "k": 0.9996, "x_0": 500_000} | {
            "y_0": 10_000_000 if proj.get("south") else 0
        }
    found: dict[str, Any] = {"grid_mapping_name": name}
    found |= {cf: float(proj[key]) for key, cf in PARAMETERS[name].items() if key in proj}
    parallels = [float(proj[key]) for key in ("lat_1", "lat_2") if key in proj]
    if parallels:
        found["standard_parallel"] = parallels
    return found
