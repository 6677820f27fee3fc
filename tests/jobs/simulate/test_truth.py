from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import numpy as np
import pytest
import shapely
from rasterio import Affine
from rasterio.features import rasterize
from rasterio.warp import transform_geom
from shapely.geometry import shape

from acdtask.cube.aoi import load_aoi
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.simulate.scene import Scene, SceneSettings
from acdtask.jobs.simulate.truth import aoi_payload, outline, truth_geojson

SETTINGS = SceneSettings(size=256, events=8, reference_pairs=4, monitored_pairs=5)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(SETTINGS)


@pytest.fixture(scope="module")
def collection(scene: Scene) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(json.dumps(truth_geojson(scene)))
    return loaded


def test_outlines_rasterise_to_the_pixels_of_their_events(scene: Scene) -> None:
    for event in scene.truth():
        polygon = outline(event)
        assert polygon.is_valid
        assert polygon.area == event.area_px
        assert (rasterize([polygon], SETTINGS.shape).astype(bool) == event.mask(SETTINGS.shape)).all()


def test_polygons_in_longitude_and_latitude_come_back_to_the_same_pixels(
    scene: Scene, collection: dict[str, Any]
) -> None:
    for event, feature in zip(scene.truth(), collection["features"], strict=True):
        on_the_grid = transform_geom("EPSG:4326", SETTINGS.crs, feature["geometry"])
        mask = rasterize([on_the_grid], SETTINGS.shape, transform=Affine(*SETTINGS.transform))
        assert (mask.astype(bool) == event.mask(SETTINGS.shape)).all()


def test_the_truth_is_geojson_as_rfc_7946_wants_it(collection: dict[str, Any]) -> None:
    assert set(collection) == {"type", "features"}  # no crs: it is longitude and latitude
    for feature in collection["features"]:
        assert feature["type"] == "Feature"
        (ring,) = feature["geometry"]["coordinates"]
        assert ring[0] == ring[-1]
        assert shapely.LinearRing(ring).is_ccw
        assert shape(feature["geometry"]).is_valid
        assert all(6.0 < lon < 8.0 and 50.0 < lat < 52.0 for lon, lat in ring)


def test_the_truth_says_what_is_known_of_each_event(scene: Scene, collection: dict[str, Any]) -> None:
    for event, feature in zip(scene.truth(), collection["features"], strict=True):
        properties = feature["properties"]
        assert feature["id"] == properties["id"] == event.id
        assert properties["kind"] == event.kind
        assert properties["start_date"] == event.start_date.isoformat()
        assert properties["end_date"] == event.end_date.isoformat()
        assert properties["area_px"] == event.area_px
        assert properties["factor"] == event.factor
        assert properties["land_cover"] == event.cover.name.lower()


def test_the_aoi_is_a_payload_of_the_geocube_ingester_around_every_pixel() -> None:
    payload = json.loads(json.dumps(aoi_payload(SETTINGS)))
    assert payload["name"] == "koln-demo"
    assert payload["type"] == "Feature"
    assert payload["graph_config"] == {"projection": "EPSG:32632", "resolution": "20"}
    assert all(isinstance(value, str) for value in payload["record_tags"].values())
    start, end = (datetime.fromisoformat(payload[key]) for key in ("start_time", "end_time"))
    for pair in range(SETTINGS.pairs):
        assert start.date() <= SETTINGS.pair_dates(pair)[1] <= end.date()
    area = shape(payload["geometry"])
    assert area.is_valid
    on_the_grid = transform_geom("EPSG:4326", SETTINGS.crs, payload["geometry"])
    mask = rasterize([on_the_grid], SETTINGS.shape, transform=Affine(*SETTINGS.transform))
    assert np.all(mask == 1)


def test_the_aoi_is_read_by_acd_itself() -> None:
    aoi = load_aoi(json.dumps(aoi_payload(SETTINGS)))
    assert aoi.name == "koln-demo"
    grid = aoi.layout_grid(512)
    assert grid is not None
    assert grid.crs == SETTINGS.crs
    assert grid.resolution == SETTINGS.pixel


def test_a_place_outside_the_projection_is_refused() -> None:
    with pytest.raises(AcdError, match="easting") as caught:
        aoi_payload(SETTINGS.model_copy(update={"easting": 1e30}))
    assert caught.value.code is ErrorCode.SETTING_INVALID
