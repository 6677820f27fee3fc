"""The truth of a scene and its area of interest, as GeoJSON."""

from __future__ import annotations

from typing import Any

import numpy as np
from rasterio._err import CPLE_BaseError  # rasterio.errors has no name for what PROJ refuses
from rasterio.features import shapes
from rasterio.warp import transform
from shapely.geometry import Polygon, shape
from shapely.geometry.polygon import orient

from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.simulate.events import Event
from acdtask.jobs.simulate.scene import Scene
from acdtask.jobs.simulate.settings import SceneSettings

__all__ = ["AOI_NAME", "aoi_payload", "outline", "truth_geojson"]

AOI_NAME = "koln-demo"
DIGITS = 7
"""Decimals of a longitude or latitude: about a centimetre."""
SIDE_POINTS = 8
"""Points on a side of the AOI, since a straight line in the CRS is bent in longitude and latitude."""

Ring = list[tuple[float, float]]
Position = list[float]


def outline(event: Event) -> Polygon:
    """The edge of the event's pixels: x is the column and y the row of a pixel corner in the scene."""
    rows, columns = event.window
    mask = event.mask((rows.stop, columns.stop))[event.window].astype(np.uint8)
    (geometry,) = (g for g, value in shapes(mask, mask=mask.astype(bool), connectivity=4) if value)
    polygon = shape(geometry)
    return Polygon([(x + columns.start, y + rows.start) for x, y in polygon.exterior.coords])


def _lon_lat(settings: SceneSettings, ring: Ring) -> list[Position]:
    """Pixel coordinates (column, row) as longitude and latitude, counterclockwise. SETTING_INVALID."""
    a, _, c, _, e, f = settings.transform
    outside = AcdError(
        ErrorCode.SETTING_INVALID,
        f"easting {settings.easting:g} and northing {settings.northing:g} lie outside {settings.crs}",
    )
    try:
        lon, lat = transform(settings.crs, "EPSG:4326", [c + a * x for x, _ in ring], [f + e * y for _, y in ring])
    except CPLE_BaseError as error:
        raise outside from error
    if not np.isfinite([lon, lat]).all():
        raise outside
    points = [(round(x, DIGITS), round(y, DIGITS)) for x, y in zip(lon, lat, strict=True)]
    return [[x, y] for x, y in orient(Polygon(points), 1.0).exterior.coords]


def truth_geojson(scene: Scene) -> dict[str, Any]:
    """The events as a feature collection (RFC 7946): polygons in longitude and latitude.

    `start_date` and `end_date` are the dates of the images on which an event shows, inclusive.
    """
    features = [
        {
            "type": "Feature",
            "id": event.id,
            "geometry": {
                "type": "Polygon",
                "coordinates": [_lon_lat(scene.settings, list(outline(event).exterior.coords))],
            },
            "properties": {
                "id": event.id,
                "kind": event.kind,
                "start_date": event.start_date.isoformat(),
                "end_date": event.end_date.isoformat(),
                "area_px": event.area_px,
                "factor": event.factor,
                "land_cover": event.cover.name.lower(),
            },
        }
        for event in scene.truth()
    ]
    return {"type": "FeatureCollection", "features": features}


def aoi_payload(settings: SceneSettings) -> dict[str, Any]:
    """The scene as an area of interest: a payload of the Geocube ingester, whose times are inclusive."""
    size, steps = settings.size, np.linspace(0, settings.size, SIDE_POINTS, endpoint=False).tolist()
    ring: Ring = [(0.0, step) for step in steps]
    ring += [(step, float(size)) for step in steps]
    ring += [(float(size), size - step) for step in steps]
    ring += [(size - step, 0.0) for step in steps]
    last = settings.pair_dates(settings.pairs - 1)[1]
    return {
        "name": AOI_NAME,
        "type": "Feature",
        "geometry": {"type": "MultiPolygon", "coordinates": [[_lon_lat(settings, [*ring, ring[0]])]]},
        "properties": {},
        "start_time": f"{settings.first_date.isoformat()}T00:00:00Z",
        "end_time": f"{last.isoformat()}T23:59:59Z",
        "scene_type": {
            "constellation": "sentinel1",
            "parameters": {"producttype": "SLC", "polarisationmode": "VV VH", "sensoroperationalmode": "IW"},
        },
        "scene_graph_name": "S1Preprocessing",
        "tile_graph_name": "S1BackscatterCoherence",
        "graph_config": {"projection": settings.crs, "resolution": f"{settings.pixel:g}"},
        "layers": {"coh_VV": {"variable": "CoherenceVV", "instance": "master"}},
        "record_tags": {"source": "simulation", "area": AOI_NAME},
        "is_retriable": True,
        "retry_count": 1,
    }
