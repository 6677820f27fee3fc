from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import shapely

from acdtask.cube.aoi import load_aoi
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.grid import RegularGrid
from acdtask.storage.store import Store
from tests.cube.builders import box, geojson

SQUARE = box(7, 50, 8, 51)
ISLAND = box(9, 50, 9.5, 50.5)
BOTH = {"type": "MultiPolygon", "coordinates": [SQUARE["coordinates"], ISLAND["coordinates"]]}
TIMES = {"start_time": "2021-01-01T00:00:00.000Z", "end_time": "2021-02-10T02:00:00+02:00"}


RING = [[6, 50], [7, 50], [7, 51], [6, 51], [6, 50]]


def payload(**changes: Any) -> dict[str, Any]:
    """A small version of the example in the ingester's guide."""
    fields = {
        "name": "DenmarkDemo",
        "type": "Feature",
        "geometry": SQUARE,
        **TIMES,
        "scene_type": {
            "constellation": "sentinel1",
            "parameters": {"producttype": "SLC", "relativeorbitnumber": "44"},
        },
        "scene_graph_name": "S1Preprocessing",
        "tile_graph_name": "S1BackscatterCoherence",
        "graph_config": {"projection": "EPSG:32632", "resolution": "20", "snap_cpu_parallelism": "8"},
        "layers": {"coh_VV": {"variable": "CoherenceVV", "instance": "master"}},
        "record_tags": {"source": "tutorial", "area": "Dänemark"},
    }
    return {name: value for name, value in (fields | changes).items() if value is not None}


def text(**changes: Any) -> str:
    return json.dumps(payload(**changes))


def refused(source: str) -> AcdError:
    with pytest.raises(AcdError) as caught:
        load_aoi(source)
    return caught.value


def test_a_payload_of_the_ingester_is_an_aoi() -> None:
    aoi = load_aoi(text())
    assert aoi.name == "DenmarkDemo"
    assert aoi.start is not None
    assert aoi.end is not None
    assert (aoi.start.isoformat(), aoi.end.isoformat()) == ("2021-01-01T00:00:00+00:00", "2021-02-10T00:00:00+00:00")
    assert aoi.geometry.equals(shapely.box(7, 50, 8, 51))
    assert aoi.record_tags == {"source": "tutorial", "area": "Dänemark"}
    assert aoi.layers["coh_VV"].variable == "CoherenceVV"
    assert aoi.scene_type.parameters["relativeorbitnumber"] == "44"


def test_a_payload_survives_a_round_trip() -> None:
    aoi = load_aoi(text())
    sent = aoi.payload()
    assert load_aoi(json.dumps(sent)) == aoi
    assert set(sent) == {*payload(), "properties"}
    assert sent["graph_config"] == payload()["graph_config"]


def test_an_aoi_comes_from_a_path_an_address_or_text(place: str, tmp_path: Path) -> None:
    Store.at(place).put("aoi.json", text().encode())
    path = tmp_path / "aoi.json"
    path.write_text(text())
    expected = load_aoi(text())
    sources = [str(path), f"file://{path}", f"\n {text()}"]
    if place.startswith("s3://"):
        sources.append(f"{place}/aoi.json")
    assert [load_aoi(source) for source in sources] == [expected] * len(sources)


@pytest.mark.parametrize(
    "shape",
    [
        {"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": g} for g in (SQUARE, ISLAND)]},
        {"type": "Feature", "geometry": BOTH},
        BOTH,
        {
            "type": "FeatureCollection",
            "features": [
                {"type": "Feature", "geometry": {"type": "GeometryCollection", "geometries": [SQUARE, ISLAND, SQUARE]}}
            ],
        },
    ],
)
def test_all_polygons_are_merged(shape: dict[str, Any]) -> None:
    aoi = load_aoi(json.dumps({"name": "a", **TIMES, **shape}))
    assert aoi.geometry.equals(shapely.union(shapely.box(7, 50, 8, 51), shapely.box(9, 50, 9.5, 50.5)))
    assert aoi.geojson["type"] == "MultiPolygon"


def test_holes_stay_and_overlaps_count_once() -> None:
    ring = geojson(shapely.box(0, 0, 3, 3).difference(shapely.box(1, 1, 2, 2)))
    assert load_aoi(text(geometry=ring)).geometry.area == pytest.approx(8)
    both = {
        "type": "FeatureCollection",
        "geometry": None,
        "features": [
            {"type": "Feature", "geometry": box(0, 0, 2, 2)},
            {"type": "Feature", "geometry": box(1, 0, 3, 2)},
        ],
    }
    assert load_aoi(text(**both)).geometry.area == pytest.approx(6)


def test_heights_are_dropped() -> None:
    high = {"type": "Polygon", "coordinates": [[[0, 0, 5], [1, 0, 5], [1, 1, 5], [0, 0, 5]]]}
    assert not load_aoi(text(geometry=high)).geometry.has_z


def test_the_layout_comes_from_the_graph_config() -> None:
    assert load_aoi(text()).layout_grid(512) == RegularGrid(crs="EPSG:32632", resolution=20, cell_size=512)
    assert load_aoi(text(graph_config={"projection": "EPSG:32632"})).layout_grid() is None
    assert load_aoi(text(graph_config=None)).layout_grid() is None
    for config in (
        {"projection": "EPSG:1", "resolution": "20"},
        {"projection": "EPSG:32632", "resolution": "-1"},
        {"projection": "EPSG:32632", "resolution": "fine"},
        {"projection": "EPSG:4978", "resolution": "20"},
    ):
        with pytest.raises(AcdError) as caught:
            load_aoi(text(graph_config=config)).layout_grid()
        assert caught.value.code is ErrorCode.LAYOUT_INVALID


BOWTIE = {"type": "Polygon", "coordinates": [[[7, 50], [8, 51], [8, 50], [7, 50.5], [7, 50]]]}
LINE = {"type": "LineString", "coordinates": [[7, 50], [8, 51]]}
FLAT = {"type": "Polygon", "coordinates": [[[7, 50], [8, 51], [7, 50], [7, 50]]]}


@pytest.mark.parametrize(
    ("source", "code", "message"),
    [
        ("{", ErrorCode.AOI_UNREADABLE, "not JSON"),
        ("[]", ErrorCode.AOI_UNREADABLE, "not a JSON object"),
        ("nowhere.json", ErrorCode.AOI_UNREADABLE, "nowhere.json cannot be read: No such file"),
        ('{"name": NaN}', ErrorCode.AOI_UNREADABLE, "NaN"),
        (text(type="Nothing"), ErrorCode.AOI_UNREADABLE, "'Nothing'"),
        (text(type=None), ErrorCode.AOI_UNREADABLE, "None"),
        (text(type="FeatureCollection"), ErrorCode.AOI_UNREADABLE, "not GeoJSON"),
        (text(type="FeatureCollection", features=[1]), ErrorCode.AOI_UNREADABLE, "not GeoJSON"),
        (text(geometry={"type": "Polygon"}), ErrorCode.AOI_UNREADABLE, "invalid coordinates"),
        (
            text(geometry={"type": "Polygon", "coordinates": [[["x", 1]]]}),
            ErrorCode.AOI_UNREADABLE,
            "invalid coordinates",
        ),
        (text(geometry={"type": "Polygon", "coordinates": 3}), ErrorCode.AOI_UNREADABLE, "invalid coordinates"),
        (text(name=None), ErrorCode.AOI_UNREADABLE, "no name"),
        (text(name=7), ErrorCode.AOI_UNREADABLE, "name of the AOI"),
        (text(graph_config={"resolution": 20}), ErrorCode.AOI_UNREADABLE, "graph_config.resolution"),
        (text(record_tags=["a"]), ErrorCode.AOI_UNREADABLE, "record_tags"),
        (text(limit="3"), ErrorCode.AOI_UNREADABLE, "limit"),
        (text(geometry={"type": "Polygon", "coordinates": []}), ErrorCode.AOI_EMPTY, "no polygon with an area"),
        (text(geometry={"type": "MultiPolygon", "coordinates": []}), ErrorCode.AOI_EMPTY, "no polygon"),
        (text(type="FeatureCollection", features=[]), ErrorCode.AOI_EMPTY, "no polygon"),
        (text(geometry=FLAT), ErrorCode.AOI_EMPTY, "no polygon with an area"),
        (text(geometry=LINE), ErrorCode.AOI_EMPTY, "LineString"),
        (text(geometry=BOWTIE), ErrorCode.AOI_INVALID, "Self-intersection at longitude 7.3333333333333"),
        (text(geometry=box(50, 170, 51, 171)), ErrorCode.AOI_INVALID, "170"),
        (text(geometry=box(541, 0, 542, 1)), ErrorCode.AOI_INVALID, "541"),
        (text(geometry=box(346640, 5655340, 347640, 5656340)), ErrorCode.AOI_INVALID, "346640"),
        (text(name="Köln Süd"), ErrorCode.NAME_INVALID, "Köln Süd"),
        (text(name=""), ErrorCode.NAME_INVALID, "''"),
        (text(start_time="2021"), ErrorCode.DATE_INVALID, "start_time of the AOI: '2021'"),
        (text(end_time="2021-13-01T00:00:00Z"), ErrorCode.DATE_INVALID, "end_time"),
        (text(end_time=20210101), ErrorCode.DATE_INVALID, "end_time"),
        (text(end_time="2020-01-01T00:00:00Z"), ErrorCode.DATE_INVALID, "before it starts"),
    ],
)
def test_an_invalid_aoi_is_refused_with_the_reason(source: str, code: ErrorCode, message: str) -> None:
    error = refused(source)
    assert (error.code, message in error.detail) == (code, True), str(error)


@pytest.mark.parametrize(
    "shape",
    [
        {"type": "Polygon", "coordinates": [RING[:-1]]},
        {"type": "Polygon", "coordinates": [RING, [[6.1, 50.1], [6.2, 50.1], [6.2, 50.2]]]},
        {"type": "MultiPolygon", "coordinates": [[RING], [[[8, 50], [9, 50], [9, 51], [8, 51]]]]},
    ],
)
def test_a_ring_that_is_not_closed_is_refused(shape: dict[str, Any]) -> None:
    error = refused(json.dumps({"name": "x", **shape}))
    assert error.code is ErrorCode.AOI_INVALID
    assert "a ring that is not closed: it begins at (" in error.detail
    assert error.fix.startswith("Add the ring's first position again")


def test_the_heights_of_the_ends_of_a_ring_may_differ() -> None:
    heights = [[*position, height] for height, position in enumerate(RING)]
    assert load_aoi(json.dumps({"name": "x", "type": "Polygon", "coordinates": [heights]})).geometry.area == 1


def test_the_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "aoi.json"
    path.write_text(text(geometry=BOWTIE))
    assert str(path) in refused(str(path)).detail


def test_binary_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "aoi.json").write_bytes(b"\xff\xfe\x00{")
    assert refused(str(tmp_path / "aoi.json")).code is ErrorCode.AOI_UNREADABLE
    assert refused(str(tmp_path)).code is ErrorCode.AOI_UNREADABLE
