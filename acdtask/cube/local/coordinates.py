"""CF coordinates of a consolidated container: time, y, x, and the coordinate system `spatial_ref`.

Source: CF conventions 1.11, https://cfconventions.org
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acdtask.cube.local.columns import microseconds
from acdtask.cube.model import Record
from acdtask.raster.grid import Grid
from acdtask.raster.points import crs_of

__all__ = ["SPATIAL_REF", "Coordinate", "coordinates_of"]

SPATIAL_REF = "spatial_ref"
"""The name that rioxarray and GDAL look for."""

# Names and parameters of projections in PROJ, and in CF (appendix F).
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
    """Values, names of dimensions and attributes of a coordinate."""

    values: NDArray[Any]
    dimensions: tuple[str, ...]
    attributes: dict[str, Any]


def coordinates_of(grid: Grid, records: Sequence[Record]) -> dict[str, Coordinate]:
    """The coordinates of an array with the dimensions time, y, x; y and x are the centres of pixels.

    Times are in seconds, or in microseconds if a record needs them. Rotated grids have no y and x, but the transform in
    `spatial_ref`.
    """
    a, b, c, d, e, f = grid.transform
    coordinates = {"time": _time(records)}
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
        coordinates["y"] = Coordinate(f + e * (np.arange(grid.height) + 0.5), ("y",), {**y, "axis": "Y"})
        coordinates["x"] = Coordinate(c + a * (np.arange(grid.width) + 0.5), ("x",), {**x, "axis": "X"})
    return {**coordinates, SPATIAL_REF: Coordinate(np.zeros((), np.int64), (), _grid_mapping(grid))}


def _time(records: Sequence[Record]) -> Coordinate:
    micros = np.array([microseconds(record.datetime) for record in records], np.int64)
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
    """The unit of a projected CRS, in the notation of CF."""
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
    """Name and parameters of a projection; empty if CF does not define it. The WKT is complete in any case."""
    name = GRID_MAPPINGS.get(proj.get("proj", ""))
    if name is None:
        return {}
    if proj["proj"] == "utm":
        proj = {"lat_0": 0, "lon_0": 6 * proj["zone"] - 183, "k": 0.9996, "x_0": 500_000} | {
            "y_0": 10_000_000 if proj.get("south") else 0
        }
    attributes: dict[str, Any] = {"grid_mapping_name": name}
    attributes |= {cf: float(proj[key]) for key, cf in PARAMETERS[name].items() if key in proj}
    parallels = [float(proj[key]) for key in ("lat_1", "lat_2") if key in proj]
    if parallels:
        attributes["standard_parallel"] = parallels
    return attributes
