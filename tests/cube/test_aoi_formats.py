"""Areas as drawn and exported by people: geojson.io, QGIS, GeoPackage, Shapefile, KML, a bounding box."""

from __future__ import annotations

import json
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from rasterio.warp import transform_geom

from acdtask.cube.aoi import aoi_document, load_aoi
from acdtask.cube.aoi_area import bbox_document
from acdtask.errors import AcdError, ErrorCode
from acdtask.storage.files import SMALL_FILE_BYTES
from tests.cube.builders import box

FIELD = shapely.box(7.0, 50.0, 7.2, 50.1)
MOMENT = datetime(2021, 1, 31, 23, 59, 59, 999999, tzinfo=UTC)

GEOJSON_IO = """{
  "type": "FeatureCollection",
  "features": [
    {
      "type": "Feature",
      "properties": %s,
      "geometry": {
        "coordinates": [
          [
            [7.0, 50.0],
            [7.2, 50.0],
            [7.2, 50.1],
            [7.0, 50.1],
            [7.0, 50.0]
          ]
        ],
        "type": "Polygon"
      }%s
    }
  ]
}"""
"""A file saved by geojson.io."""

QGIS = """{
"type": "FeatureCollection",
"name": "%s",
"crs": { "type": "name", "properties": { "name": "%s" } },
"features": [
{ "type": "Feature", "properties": { "id": 1, "name": %s, "start_time": %s, "end_time": %s }, "geometry": %s }
]
}
"""
"""A file of 'Export > Save Features As' in QGIS: a layer's name, a crs member, attributes, MultiPolygons with Z."""

CRS84 = "urn:ogc:def:crs:OGC:1.3:CRS84"
MULTI_Z = '{ "type": "MultiPolygon", "coordinates": [ [ [ [ 7.0, 50.0, 0.0 ], [ 7.2, 50.0, 0.0 ], [ 7.2, 50.1, 0.0 ], [ 7.0, 50.1, 0.0 ], [ 7.0, 50.0, 0.0 ] ] ] ] }'  # noqa: E501  # as QGIS writes it


def refused(source: str, given: dict[str, Any] | None = None) -> AcdError:
    with pytest.raises(AcdError) as caught:
        load_aoi(source, given)
    return caught.value


def qgis(layer: str = "aoi", crs: str = CRS84, name: str = '"site"', start: str = "null", end: str = "null") -> str:
    return QGIS % (layer, crs, name, start, end, MULTI_Z)


def in_crs(crs: str) -> dict[str, Any]:
    """The field in another CRS."""
    moved: dict[str, Any] = transform_geom("EPSG:4326", crs, shapely.geometry.mapping(FIELD))
    return moved


def test_a_file_of_geojson_io_with_a_name_is_an_aoi() -> None:
    aoi = load_aoi(GEOJSON_IO % ('{"name": "site"}', ""))
    assert aoi.geometry.equals(FIELD)
    assert (aoi.name, aoi.start, aoi.end) == ("site", None, None)
    bare = GEOJSON_IO % ("{}", ', "id": 0')
    assert load_aoi(bare, {"name": "given"}).name == "given"


def test_all_missing_fields_are_named_at_once() -> None:
    error = refused(GEOJSON_IO % ("{}", ""))
    assert error.code is ErrorCode.AOI_UNREADABLE
    assert all(word in error.detail for word in ("no name", "start_time", "end_time"))
    assert all(word in error.fix for word in ("--aoi-name", "top-level", "property", "--aoi-start"))
    assert "end_time" not in refused(GEOJSON_IO % ('{"start_time": "2020-01-01", "end_time": "2021-01-01"}', "")).detail


@pytest.mark.parametrize("day", ['"2021-01-31"', '"2021/01/31"', '"20210131"', '"2021-01-31T23:59:59.999999"'])
def test_a_file_of_qgis_is_an_aoi_with_the_dates_of_its_attributes(day: str) -> None:
    aoi = load_aoi(qgis(layer="Köln Süd", start='"2021/01/01"', end=day))
    assert aoi.geometry.equals(FIELD)
    assert not aoi.geometry.has_z
    assert (aoi.name, aoi.start, aoi.end) == ("site", datetime(2021, 1, 1, tzinfo=UTC), MOMENT)


def test_the_name_of_a_layer_of_qgis_is_used_if_no_feature_has_one() -> None:
    assert load_aoi(qgis(layer="quarry", name="null")).name == "quarry"
    assert load_aoi(qgis(layer="quarry"), {"name": "given"}).name == "given"
    error = refused(qgis(layer="Köln Süd", name="null"))
    assert (error.code, "--aoi-name" in error.fix) == (ErrorCode.NAME_INVALID, True)


def test_properties_of_a_payload_of_the_ingester_are_ignored() -> None:
    document = json.loads(qgis(layer="payload")) | {
        "start_time": "2020-01-01T00:00:00Z",
        "end_time": "2020-12-31T00:00:00Z",
    }
    aoi = load_aoi(json.dumps(document))
    assert aoi.name == "payload"
    assert aoi.payload()["start_time"] == "2020-01-01T00:00:00Z"


def test_features_with_different_names_need_one_for_all() -> None:
    document = json.loads(qgis(name='"west"'))
    document["features"].append({"type": "Feature", "properties": {"name": "east"}, "geometry": box(8, 50, 8.1, 50.1)})
    error = refused(json.dumps(document))
    assert "'west', 'east'" in error.detail
    assert "--aoi-name" in error.fix
    both = load_aoi(json.dumps(document), {"name": "both"})
    assert both.geometry.equals(shapely.union(FIELD, shapely.box(8, 50, 8.1, 50.1)))


def test_an_aoi_without_times_is_not_a_payload() -> None:
    with pytest.raises(AcdError) as caught:
        load_aoi(GEOJSON_IO % ('{"name": "site", "start_time": "2020-01-01"}', "")).payload()
    assert "no end_time" in caught.value.detail
    assert "no start_time" not in caught.value.detail


@pytest.mark.parametrize(
    "name",
    [CRS84, "EPSG:4326", "urn:ogc:def:crs:EPSG::4326", "http://www.opengis.net/def/crs/OGC/1.3/CRS84", "OGC:CRS84"],
)
def test_coordinates_in_degrees_stay_as_they_are(name: str) -> None:
    assert load_aoi(qgis(crs=name)).geometry.equals(FIELD)


@pytest.mark.parametrize("crs", ["EPSG:32632", "EPSG:3857", "EPSG:25832", "EPSG:4258"])
@pytest.mark.parametrize("form", ["{}", "urn:ogc:def:crs:{}", "http://www.opengis.net/def/crs/EPSG/0/{}"])
def test_other_coordinates_are_reprojected(crs: str, form: str) -> None:
    authority, _, code = crs.partition(":")
    name = {"{}": crs, "urn:ogc:def:crs:{}": f"urn:ogc:def:crs:{authority}::{code}"}.get(form, form.format(code))
    document = json.loads(qgis(crs=name))
    document["features"][0]["geometry"] = in_crs(crs)
    found = load_aoi(json.dumps(document)).geometry
    drawn = shapely.geometry.shape(in_crs(crs))
    fine = shapely.geometry.mapping(shapely.segmentize(drawn, drawn.length / 10_000))
    expected = shapely.geometry.shape(transform_geom(crs, "EPSG:4326", fine))
    assert found.symmetric_difference(expected).area < 1e-6 * FIELD.area  # edges are straight in the original CRS


@pytest.mark.parametrize("place", ["Feature", "geometry"])
def test_a_crs_member_may_be_at_any_level(place: str) -> None:
    crs = {"type": "name", "properties": {"name": "EPSG:32632"}}
    feature: dict[str, Any] = {"type": "Feature", "name": "site", "geometry": in_crs("EPSG:32632")}
    (feature if place == "Feature" else feature["geometry"])["crs"] = crs
    assert load_aoi(json.dumps(feature)).geometry.centroid.distance(FIELD.centroid) < 1e-4


@pytest.mark.parametrize(
    ("crs", "message"),
    [
        ({"type": "name", "properties": {"name": "EPSG:99999"}}, "EPSG:99999"),
        ({"type": "name", "properties": {"name": "EPSG:3857"}}, "look like degrees"),
        ({"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32632"}}, "look like degrees"),
        ({"type": "name", "properties": {"name": "EPSG:4978"}}, "neither geographic nor projected"),
        ({"type": "name", "properties": {"name": "/etc/passwd"}}, "unknown"),
        ({"type": "link", "properties": {"href": "http://example.com/crs.prj"}}, "without a name"),
        ({"type": "name"}, "without a name"),
        ("EPSG:4326", "without a name"),
        (None, "without a name"),
    ],
)
def test_an_unknown_crs_is_never_ignored(crs: Any, message: str) -> None:
    error = refused(json.dumps(json.loads(qgis()) | {"crs": crs}))
    assert (error.code, message in error.detail) == (ErrorCode.AOI_CRS, True), str(error)


@pytest.mark.parametrize("shift", [0, -360])
def test_an_area_over_the_antimeridian_is_cut_there(shift: int) -> None:
    fiji = {"type": "Feature", "name": "fiji", "geometry": box(179.9 + shift, -17, 180.1 + shift, -16.9)}
    parts = shapely.union(shapely.box(179.9, -17, 180, -16.9), shapely.box(-180, -17, -179.9, -16.9))
    found = load_aoi(json.dumps(fiji)).geometry
    assert found.symmetric_difference(parts).area < 1e-9
    assert found.bounds == (-180, -17, 180, -16.9)


def test_a_bounding_box_is_an_area_also_over_the_antimeridian() -> None:
    assert load_aoi(json.dumps(bbox_document("7,50,7.2,50.1")), {"name": "site"}).geometry.equals(FIELD)
    over = load_aoi(json.dumps(bbox_document("179.9 -17 -179.9 -16.9")), {"name": "fiji"}).geometry
    assert over.bounds == (-180, -17, 180, -16.9)
    assert over.area == pytest.approx(0.02)
    for wrong in ("7,50,7.2", "a,b,c,d", "7,51,8,50", "7,50,7,51", "7,50,nan,51", ""):
        with pytest.raises(AcdError) as caught:
            bbox_document(wrong)
        assert (caught.value.code, "west,south,east,north" in caught.value.fix) == (ErrorCode.AOI_INVALID, True)


def test_an_aoi_and_its_options_become_one_document() -> None:
    text = aoi_document(qgis(end='"2021-01-31"'), {"name": "other", "start_time": "2020-05-01"})
    aoi = load_aoi(text)
    assert (aoi.name, aoi.start, aoi.end) == ("other", datetime(2020, 5, 1, tzinfo=UTC), MOMENT)
    assert aoi.geometry.equals(FIELD)
    assert aoi_document(text, {}) == text


def test_a_document_nested_too_deeply_is_refused() -> None:
    deep = '{"type": "Feature", "name": "x", "geometry": ' * 3000 + "null" + "}" * 3000
    assert refused(deep).code is ErrorCode.AOI_UNREADABLE


# Vector files written by GDAL


@pytest.fixture
def write(tmp_path: Path) -> Any:
    pyogrio = pytest.importorskip("pyogrio", reason="the extra `vector` is not installed")

    def make(
        file: str, crs: str | None = "EPSG:4326", layer: str | None = None, append: bool = False, **more: Any
    ) -> Path:
        shape = shapely.geometry.shape(in_crs(crs)) if crs else FIELD
        path = tmp_path / file
        fields = {"name": "site", "start_time": "2021-01-01", "end_time": "2021-01-31"} | more
        pyogrio.raw.write(
            path,
            np.array([shapely.to_wkb(shape)], dtype=object),
            [np.array([value], dtype=object) for value in fields.values()],
            list(fields),
            crs=crs,
            geometry_type="Polygon",
            layer=layer,
            append=append,
            driver="KML" if file.endswith(".kml") else None,
        )
        return path

    return make


@pytest.mark.parametrize("name", ["area.gpkg", "area.shp", "area.fgb", "area.kml", "AREA.GPKG"])
def test_vector_files_are_read_with_their_attributes(name: str, write: Any) -> None:
    aoi = load_aoi(str(write(name)))
    assert aoi.geometry.symmetric_difference(FIELD).area < 1e-9
    assert (aoi.name, aoi.start, aoi.end) == ("site", datetime(2021, 1, 1, tzinfo=UTC), MOMENT)


@pytest.mark.parametrize("name", ["area.gpkg", "area.shp", "area.fgb"])
@pytest.mark.parametrize("crs", ["EPSG:32632", "EPSG:3035"])
def test_vector_files_in_another_crs_are_reprojected(name: str, crs: str, write: Any) -> None:
    found = load_aoi(str(write(name, crs))).geometry
    assert found.symmetric_difference(FIELD).area < 1e-3 * FIELD.area


def test_one_of_several_layers_is_named_as_in_qgis(write: Any) -> None:
    path = write("area.gpkg", layer="west", name="west")
    write("area.gpkg", layer="east", append=True, name="east")
    error = refused(str(path))
    assert "west, east" in error.detail
    assert "|layername=" in error.fix
    assert load_aoi(f"{path}|layername=east").name == "east"
    assert "its layers: west, east" in refused(f"{path}|layername=north").detail


def test_a_zipped_shapefile_is_read(write: Any, tmp_path: Path) -> None:
    path = write("area.shp")
    with zipfile.ZipFile(tmp_path / "area.zip", "w") as archive:
        for part in sorted(tmp_path.glob("area.*")):
            if part.suffix != ".zip":
                archive.write(part, f"export/{part.name}")
    assert load_aoi(str(tmp_path / "area.zip")).geometry.equals(load_aoi(str(path)).geometry)


def test_a_shapefile_without_prj_is_refused(write: Any) -> None:
    path = write("area.shp")
    path.with_suffix(".prj").unlink()
    error = refused(str(path))
    assert (error.code, "area.prj is missing" in error.detail) == (ErrorCode.AOI_CRS, True)


VRT = b"<OGRVRTDataSource><OGRVRTLayer name='x'><SrcDataSource>/etc/passwd</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>"  # noqa: E501  # one document


@pytest.mark.parametrize("name", ["a.gpkg", "a.shp", "a.fgb", "a.kml", "a.zip"])
@pytest.mark.parametrize("data", [b"", b"{}", VRT, b"SQLite format 3\x00 and nothing more", b"PK\x03\x04 no archive"])
def test_a_file_whose_content_does_not_match_its_ending_is_refused(name: str, data: bytes, tmp_path: Path) -> None:
    pytest.importorskip("pyogrio", reason="the extra `vector` is not installed")
    (tmp_path / name).write_bytes(data)
    assert refused(str(tmp_path / name)).code is ErrorCode.AOI_UNREADABLE


def test_large_files_are_refused_before_they_are_opened(tmp_path: Path) -> None:
    with (tmp_path / "a.gpkg").open("wb") as file:
        file.write(b"SQLite format 3\x00")
        file.truncate(SMALL_FILE_BYTES + 1)
    assert refused(str(tmp_path / "a.gpkg")).code is ErrorCode.FILE_UNFIT
    assert refused(str(tmp_path / "absent.gpkg")).code is ErrorCode.AOI_UNREADABLE
    (tmp_path / "folder.gpkg").mkdir()
    assert refused(str(tmp_path / "folder.gpkg")).code is ErrorCode.AOI_UNREADABLE


def test_without_the_extra_the_error_says_how_to_install_it(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "a.gpkg").write_bytes(b"SQLite format 3\x00")
    monkeypatch.setitem(__import__("sys").modules, "pyogrio.raw", None)
    error = refused(str(tmp_path / "a.gpkg"))
    assert (error.code, "pip install 'acdtask[vector]'" in error.fix) == (ErrorCode.EXTRA_MISSING, True)
