"""Sources: values of --source, what they contain, and messages about files that are not ingested."""

from __future__ import annotations

import io
import json
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from arro3.core import Array, DataType, Field, Schema, Table, struct_array
from arro3.io import write_parquet
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.vrt import WarpedVRT

from acdtask.cube.model import RecordQuery
from acdtask.engine.stages import make_plan, open_site
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.ingest.job import IngestJob
from acdtask.jobs.ingest.listing import list_rasters
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.storage.store import Store
from tests.jobs.rasters import good_pixels, write_tiff
from tests.jobs.test_filenames import command
from tests.jobs.test_ingest import ingest
from tests.storage.forbidden import mosaic_vrt
from tests.storage.public_bucket import public_bucket

NAMES = ["S1_20200104_20200116_VV.tif", "S1_20200116_20200128_VV.tif", "S1_20200128_20200209_VV.tif"]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number, name in enumerate(NAMES):
        write_tiff(tmp_path / "in" / name, good_pixels(number))
    return tmp_path / "in"


def ingested(cube: Path) -> list[str]:
    return sorted(record.name for record in open_site(str(cube)).cube.records(RecordQuery()))


def stems(count: int = 3) -> list[str]:
    return [name.removesuffix(".tif") for name in NAMES[:count]]


def refusal(source: object, tmp_path: Path, **settings: Any) -> AcdError:
    with pytest.raises(AcdError) as caught:
        ingest(tmp_path / "cube", source=str(source), **settings)
    return caught.value


GIVEN: list[tuple[str, int]] = [
    ("in", 3),
    ("in/", 3),
    ("./in", 3),
    ("in/S1_20200104_20200116_VV.tif", 1),
    ("in/*.tif", 3),
    ("in/S1_202001*", 3),
    ("in/S1_20200104*.tif", 1),
    ("in/S1_2020011[0-9]_*.tif", 1),
    ("in/S1_2020011[!0-9]_*.tif", 0),
    ("in/S1_202001?6_*", 1),
    ("i*/*.tif", 3),
    ("i*", 3),
    ("**/*_VV.tif", 3),
    ("file://{here}/in", 3),
    ("{here}/in/*.tif", 3),
]


@pytest.mark.parametrize(("given", "count"), GIVEN)
def test_a_folder_a_file_or_a_pattern_is_a_source(
    given: str, count: int, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = given.format(here=tmp_path)
    if not count:
        assert refusal(source, tmp_path).code is ErrorCode.INPUT_MISSING
        return
    ingest(tmp_path / "cube", source=source)
    expected = stems() if count == 3 else [name for name in stems() if name == ingested(tmp_path / "cube")[0]]
    assert ingested(tmp_path / "cube") == expected


def test_a_folder_whose_name_has_the_signs_of_a_pattern_is_that_folder(images: Path, tmp_path: Path) -> None:
    odd = tmp_path / "in [2020]*"
    images.rename(odd)
    ingest(tmp_path / "cube", source=str(odd))
    assert ingested(tmp_path / "cube") == stems()


@pytest.mark.parametrize("given", ["", "/S1_20200104_20200116_VV.tif", "/*.tif", "/S1_202001[012]*", "/**/*.tif"])
def test_a_bucket_takes_files_and_patterns_too(
    given: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = {f"in/deep/{name}": (images / name).read_bytes() for name in NAMES}
    with public_bucket("pub", objects) as bucket:
        for name, value in {**bucket.environment, "AWS_NO_SIGN_REQUEST": "YES"}.items():
            monkeypatch.setenv(name, value)
        ingest(tmp_path / "cube", source=f"s3://pub/in/deep{given}")
    assert ingested(tmp_path / "cube") == (stems(1) if "20200104" in given else stems())


MISSING: list[tuple[str, str]] = [
    ("nowhere", "there is no folder or file"),
    ("in/nowhere.tif", "there is no folder or file"),
    ("nowhere/*.tif", "there is no folder"),
    ("in/*.nothing", "holds no GeoTIFF"),
    ("empty", "it is empty"),
    ("notes", "there are other files"),
    ("x" * 5000, "there is no folder or file"),
]


@pytest.mark.parametrize(("given", "words"), MISSING)
def test_a_source_that_is_not_there_is_not_an_empty_one(given: str, words: str, images: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/readme.txt").write_text("x")
    error = refusal(tmp_path / given, tmp_path)
    assert error.code is ErrorCode.INPUT_MISSING
    assert words in error.detail


def test_a_pattern_that_the_shell_has_replaced_is_told(images: Path, tmp_path: Path) -> None:
    done = command(tmp_path, "--source", *[f"in/{name}" for name in NAMES])
    assert done.returncode == 2
    assert "in quotes" in done.stderr
    assert command(tmp_path, "--source", "in/*.tif").returncode == 0


LITTER: list[tuple[str, bytes, str]] = [
    ("._S1_20200104_20200116_VV.tif", b"\0\5\x16\7", "hidden"),
    (".ipynb_checkpoints/S1_20200104_20200116_VV-checkpoint.tif", b"x", "hidden"),
    (".git/S1_20200104_20200116_VV.tif", b"x", "hidden"),
    ("deep/.hidden/S1_20200104_20200116_VV.tif", b"x", "hidden"),
    (".DS_Store", b"x", "hidden"),
    ("S1_20200209_20200221_VV.tif.part", b"x", "unfinished"),
    ("S1_20200209_20200221_VV.tif.crdownload", b"x", "unfinished"),
    ("S1_20200209_20200221_VV.tif~", b"x", "unfinished"),
]


@pytest.mark.parametrize(("name", "data", "why"), LITTER)
def test_litter_is_passed_over_and_counted(name: str, data: bytes, why: str, images: Path, tmp_path: Path) -> None:
    (images / name).parent.mkdir(parents=True, exist_ok=True)
    (images / name).write_bytes(data)
    outcome = ingest(tmp_path / "cube", source=str(images))
    assert ingested(tmp_path / "cube") == stems()
    assert outcome.plan.notes["skipped"] == f"1 {why}"
    assert f"skipped: 1 {why}" in outcome.lines


def test_an_empty_raster_is_no_litter(images: Path, tmp_path: Path) -> None:
    empty = images / "S1_20200209_20200221_VV.tif"
    empty.write_bytes(b"")
    (failure,) = ingest(tmp_path / "cube", source=str(images)).unusable.values()
    assert (failure.number, empty.name in failure.message) == (ErrorCode.INPUT_UNREADABLE.value.number, True)


def test_names_that_do_not_match_are_counted_and_shown_each_time(images: Path, tmp_path: Path) -> None:
    for name in ("dem.tif", "deep/other_2020-03-01.tif", "mask.TIF", "x.tiff"):
        write_tiff(images / name, good_pixels(7))
    sentence = (
        "excluded: 4 files whose names do not match the pattern (deep/other_2020-03-01.tif, dem.tif, mask.TIF, ...)"
    )
    outcome = ingest(tmp_path / "cube", source=str(images))
    assert sentence in outcome.lines
    assert outcome.plan.notes["excluded, name does not match"] == 4
    assert sentence in ingest(tmp_path / "cube", source=str(images)).lines[0]
    plan = make_plan(IngestJob(), IngestSettings(source=str(images)), open_site(str(tmp_path / "other")))
    assert plan.notes["first excluded names"].startswith("deep/other_2020-03-01.tif, dem.tif")


def test_every_spelling_of_tif_is_taken(images: Path, tmp_path: Path) -> None:
    for name, ending in zip(NAMES, ("TIF", "tiff", "TIFF"), strict=True):
        (images / name).rename((images / name).with_suffix(f".{ending}"))
    ingest(tmp_path / "cube", source=str(images))
    assert ingested(tmp_path / "cube") == stems()


def test_vrts_are_read_where_the_pattern_says_so_and_only_below_the_source(images: Path, tmp_path: Path) -> None:
    for name in NAMES:
        vrt = mosaic_vrt(name, 32, 32, relative=True, dtype="Float32")
        (images / name).with_suffix(".vrt").write_text(vrt)
    pattern = "*{start}_{end}*.vrt"
    ingest(tmp_path / "cube", source=str(images), pattern=pattern)
    assert ingested(tmp_path / "cube") == stems()
    outside = mosaic_vrt(str(write_tiff(tmp_path / "out/a.tif", good_pixels(1))), 32, 32, dtype="Float32")
    (images / NAMES[0]).with_suffix(".vrt").write_text(outside)
    for source in (images, images / "S1_20200104_20200116_VV.vrt", images / "*.vrt"):
        with pytest.raises(AcdError, match=f"ACD-{ErrorCode.INPUT_REFERS_OUTSIDE.value.number}"):
            ingest(tmp_path / "other", source=str(source), pattern=pattern, unusable_files=0)
    assert [
        failure.number for failure in ingest(tmp_path / "other", source=str(images), pattern=pattern).unusable.values()
    ] == [217]
    assert ingested(tmp_path / "other") == stems()[1:]


FORMATS: list[tuple[str, str]] = [
    ("S1AA_20200104T022252_20200116T022253_VVP012_INT80_G_ueF_1204.zip", "unzip"),
    ("pairs.tar.gz", "Unpack"),
    ("20200104_20200116/filt_fine.cor.vrt", "gdal_translate in.vrt"),
    ("20200104_20200116/filt_fine.cor", "gdal_translate in.cor.vrt"),
    ("OPERA_L3_DISP-S1_IW_F11115_VV_20220926T140929Z_20221113T140929Z_v0.9.nc", "NETCDF"),
    ("S1-GUNW-A-R-124-tops-20180502_20180408.h5", "HDF5"),
    ("S1_coh.data/coh_IW1_VV_04Jun2020_16Jun2020.img", "gdal_translate in.img"),
    ("S1_coh.dim", "GeoTIFF"),
    ("S1A_IW_SLC__1SDV_20200104.SAFE/measurement/x.tiff.xml", "not coherence"),
    ("coherence.zarr/0/c/0/0", "ZARR"),
    ("corr_ll.grd", "gdal_translate"),
    ("20200104_20200116.geo.cc.png", "Pictures"),
]


@pytest.mark.parametrize(("name", "way"), FORMATS)
@pytest.mark.parametrize("among_others", [False, True])
def test_other_formats_are_named_with_the_way_to_a_geotiff(
    name: str, way: str, among_others: bool, tmp_path: Path
) -> None:
    path = tmp_path / "in" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    if among_others:
        (tmp_path / "in/readme.txt").write_text("x")
    error = refusal(tmp_path / "in", tmp_path)
    assert error.code is ErrorCode.INPUT_MISSING
    assert "there are 1 " in error.detail
    assert way in error.fix


@pytest.mark.parametrize("driver", ["ENVI", "VRT"])
def test_what_gdal_translate_makes_of_another_format_has_the_same_pixels(driver: str, tmp_path: Path) -> None:
    """The advice for .img and .vrt, followed with the library behind gdal_translate."""
    tif = write_tiff(tmp_path / "made.tif", good_pixels(3))
    other = tmp_path / "in" / ("a.img" if driver == "ENVI" else "a.vrt")
    other.parent.mkdir()
    rasterio.shutil.copy(tif, other, driver=driver)
    assert "gdal_translate" in refusal(tmp_path / "in", tmp_path).fix
    rasterio.shutil.copy(other, tmp_path / "in" / NAMES[0], driver="GTiff")
    ingest(tmp_path / "cube", source=str(tmp_path / "in"))
    (made,) = (tmp_path / "cube/data").rglob("*.tif")
    with rasterio.open(made) as raster:
        np.testing.assert_array_equal(raster.read(1), np.rint(good_pixels(3).astype(float) * 1000))


def write_gcps(path: Path) -> None:
    corners = [(0, 0, 6.80, 51.03), (0, 32, 6.83, 51.03), (32, 0, 6.80, 51.0), (32, 32, 6.83, 51.0)]
    points = [GroundControlPoint(*corner) for corner in corners]
    how = {"driver": "GTiff", "dtype": "float32", "count": 1, "height": 32, "width": 32, "nodata": -1}
    path.parent.mkdir(exist_ok=True)
    with rasterio.open(path, "w", gcps=points, crs="EPSG:4326", **how) as raster:
        raster.write(good_pixels(1), 1)


def test_control_points_are_told_to_be_warped_and_the_warped_file_lies_where_it_should(tmp_path: Path) -> None:
    path = tmp_path / "in" / NAMES[0]
    write_gcps(path)
    error = refusal(tmp_path / "in", tmp_path)
    assert (error.code, "gdalwarp" in error.fix) == (ErrorCode.INPUT_CRS_MISSING, True)
    assert NAMES[0] in error.detail
    with rasterio.open(path) as raw, WarpedVRT(raw, crs="EPSG:32632", nodata=-1) as warped:
        rasterio.shutil.copy(warped, tmp_path / "warped.tif", driver="GTiff")
    shutil.move(tmp_path / "warped.tif", path)
    ingest(tmp_path / "cube", source=str(tmp_path / "in"))
    (record,) = open_site(str(tmp_path / "cube")).cube.records(RecordQuery())
    west = min(x for x, _ in record.footprint["coordinates"][0])
    assert west == pytest.approx(6.80, abs=0.002)


ENGINEERING = (
    'ENGCRS["x",EDATUM["x"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],LENGTHUNIT["m",1]]',
    'LOCAL_CS["unnamed",UNIT["m",1]]',
)


@pytest.mark.parametrize("wkt", ENGINEERING)
def test_a_local_coordinate_system_is_an_input_error_that_names_the_file(wkt: str, tmp_path: Path) -> None:
    write_tiff(tmp_path / "in" / NAMES[0], good_pixels(1), crs=CRS.from_wkt(wkt))
    error = refusal(tmp_path / "in", tmp_path)
    assert (error.code, error.code.value.exit_status) == (ErrorCode.INPUT_CRS_MISSING, 66)
    assert NAMES[0] in error.detail


def test_ten_thousand_names_are_listed_in_seconds(tmp_path: Path) -> None:
    for number in range(10_000):
        (tmp_path / f"S1_{number:05}_20200104_20200116.tif").write_bytes(b"x")
    begun = time.process_time()
    listing = list_rasters(str(tmp_path))
    spent = time.process_time() - begun
    begun = time.process_time()
    Store.at(str(tmp_path)).fingerprints("")
    bare = time.process_time() - begun
    assert len(listing.rasters) == 10_000
    assert spent < 3 * bare + 1


def item(number: int, href: str, **properties: Any) -> dict[str, Any]:
    start, end = NAMES[number][3:11], NAMES[number][12:20]
    day = "{}-{}-{}T05:26:40Z".format
    times = {
        "datetime": None,
        "start_datetime": day(start[:4], start[4:6], start[6:]),
        "end_datetime": day(end[:4], end[4:6], end[6:]),
    }
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": f"pair-{number}",
        "geometry": None,
        "properties": {**times, "orbit": "descending", **properties},
        "links": [],
        "assets": {"coh": {"href": href, "type": "image/tiff"}},
    }


def as_collection(items: list[dict[str, Any]]) -> bytes:
    return json.dumps({"type": "FeatureCollection", "features": items}).encode()


def as_lines(items: list[dict[str, Any]]) -> bytes:
    return "\n".join(["", *map(json.dumps, items), ""]).encode()


def as_parquet(items: list[dict[str, Any]]) -> bytes:
    """Write items as stac-geoparquet specifies: properties are columns, assets a struct."""
    micros = {
        name: np.array([int(datetime.fromisoformat(item["properties"][name]).timestamp()) * 10**6 for item in items])
        for name in ("start_datetime", "end_datetime")
    }
    text = DataType.string()
    parts = {name: Array([item["assets"]["coh"][name] for item in items], type=text) for name in ("href", "type")}
    coh = struct_array(list(parts.values()), fields=[Field(name, text) for name in parts])
    columns: dict[str, Any] = {
        "type": Array(["Feature"] * len(items), type=text),
        "id": Array([item["id"] for item in items], type=text),
        "geometry": Array([b""] * len(items), type=DataType.binary()),
        "assets": struct_array([coh], fields=[Field("coh", coh.type)]),
        "orbit": Array([item["properties"]["orbit"] for item in items], type=text),
        **{name: Array.from_numpy(values).cast(DataType.timestamp("us", tz="UTC")) for name, values in micros.items()},
    }
    schema = Schema([Field(name, column.type) for name, column in columns.items()])
    buffer = io.BytesIO()
    write_parquet(Table(columns, schema=schema), buffer)
    return buffer.getvalue()


DOCUMENTS: list[tuple[str, Callable[[list[dict[str, Any]]], bytes]]] = [
    ("items.json", as_collection),
    ("items.geojson", as_collection),
    ("ITEMS.JSON", as_collection),
    ("items.ndjson", as_lines),
    ("items.jsonl", as_lines),
    ("items.parquet", as_parquet),
    ("items.geoparquet", as_parquet),
]


@pytest.mark.parametrize(("name", "written"), DOCUMENTS, ids=[name for name, _ in DOCUMENTS])
def test_stac_items_come_in_four_forms(
    name: str, written: Callable[[list[dict[str, Any]]], bytes], images: Path, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(written([item(number, f"./in/{NAMES[number]}") for number in range(3)]))
    ingest(tmp_path / "cube", source=str(tmp_path / name))
    records = open_site(str(tmp_path / "cube")).cube.records(RecordQuery(tags={"orbit": "descending"}))
    assert [record.datetime for record in records] == [
        datetime(2020, *day, 5, 26, 40, tzinfo=UTC) for day in ((1, 16), (1, 28), (2, 9))
    ]
    assert records[0].tags["start_datetime"] == "2020-01-04T05:26:40+00:00"


@pytest.mark.parametrize("name", [name for name, _ in DOCUMENTS])
@pytest.mark.parametrize("data", [b"{}", b"x", b"PAR1xxxxPAR1", b"[1]", b"PAR1" + bytes(90)])
def test_a_document_that_is_no_stac_is_refused_with_the_forms_that_are(name: str, data: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    error = refusal(tmp_path / name, tmp_path)
    assert error.code is ErrorCode.STAC_INVALID
    assert name in error.detail
    assert ".json" in error.fix


GOOD_TIMES = ["2020-01-04T05:26:40", "2020-01-04T05:26:40Z", "2020-01-04T06:26:40+01:00", "2020-01-04 05:26:40"]


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo"])
@pytest.mark.parametrize("start", GOOD_TIMES)
def test_a_datetime_without_zone_is_utc_on_every_machine(start: str, zone: str, images: Path, tmp_path: Path) -> None:
    (tmp_path / "i.json").write_bytes(as_collection([item(0, f"./in/{NAMES[0]}", start_datetime=start)]))
    done = command(tmp_path, "--source", "i.json", TZ=zone)
    assert done.returncode == 0, done.stderr
    (record,) = open_site(str(tmp_path / "cube")).cube.records(RecordQuery())
    assert record.tags["start_datetime"] == "2020-01-04T05:26:40+00:00"


@pytest.mark.parametrize("name", ["start_datetime", "end_datetime"])
@pytest.mark.parametrize("value", [20200104, 1578115600, 1578115600.5, True, [2020], {}, "soon", "2020-13-01", "", "0"])
def test_a_datetime_that_is_none_is_named_with_its_item(name: str, value: Any, images: Path, tmp_path: Path) -> None:
    (tmp_path / "i.json").write_bytes(as_collection([item(0, f"./in/{NAMES[0]}", **{name: value})]))
    error = refusal(tmp_path / "i.json", tmp_path)
    assert error.code is ErrorCode.DATE_INVALID
    assert f"pair-0 has the {name}" in error.detail


def test_items_without_any_datetime_are_refused(images: Path, tmp_path: Path) -> None:
    bare = item(0, f"./in/{NAMES[0]}", end_datetime=None)
    (tmp_path / "i.json").write_bytes(as_collection([bare]))
    assert refusal(tmp_path / "i.json", tmp_path).code is ErrorCode.DATE_INVALID


def test_a_catalogue_in_a_bucket_is_read_side_by_side_and_its_assets_a_folder_at_a_time(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 60
    pixels = (images / NAMES[0]).read_bytes()
    objects = {f"coh/{number:02}.tif": pixels for number in range(count)}
    links = []
    for number in range(count):
        times = {"start_datetime": f"2020-01-01T00:00:{number:02}Z", "end_datetime": f"2020-01-13T00:00:{number:02}Z"}
        one = item(0, f"../coh/{number:02}.tif", **times) | {"id": f"pair-{number:02}"}
        objects[f"items/{number:02}.json"] = json.dumps(one).encode()
        links.append({"rel": "item", "href": f"./items/{number:02}.json"})
    objects["catalog.json"] = json.dumps({"type": "Catalog", "links": links}).encode()
    with public_bucket("pub", objects, delay=0.02) as bucket:
        for name, value in {**bucket.environment, "AWS_NO_SIGN_REQUEST": "YES"}.items():
            monkeypatch.setenv(name, value)
        plan = make_plan(IngestJob(), IngestSettings(source="s3://pub/catalog.json"), open_site(str(tmp_path / "cube")))
        asked = [request for request in bucket.requests if "list-type" in request]
    assert plan.units == count
    assert [record_id for record_id, _, _ in plan.content.inputs]
    assert [address for _, address, _ in plan.content.inputs] == [f"s3://pub/coh/{n:02}.tif" for n in range(count)]
    assert len(asked) <= 2, asked
    assert bucket.most_at_once > 4


def test_assets_in_folders_of_their_own_are_found(images: Path, tmp_path: Path) -> None:
    items = []
    for number, name in enumerate(NAMES):
        (images / str(number)).mkdir()
        (images / name).rename(images / str(number) / "coh.tif")
        items.append(item(number, f"./in/{number}/coh.tif"))
    (tmp_path / "i.json").write_bytes(as_collection(items))
    ingest(tmp_path / "cube", source=str(tmp_path / "i.json"))
    assert ingested(tmp_path / "cube") == ["pair-0", "pair-1", "pair-2"]
    (images / "1/coh.tif").unlink()
    assert "1/coh.tif, which does not exist" in refusal(tmp_path / "i.json", tmp_path, unusable_files=0).detail
    (failure,) = ingest(tmp_path / "cube", source=str(tmp_path / "i.json")).unusable.values()
    assert "1/coh.tif, which does not exist" in failure.message


def test_an_alternate_on_s3_is_taken_for_an_asset_on_the_web(tmp_path: Path) -> None:
    from acdtask.cube.stac.read import read_stac

    one = item(0, "https://example.org/a.tif")
    (tmp_path / "i.json").write_bytes(as_collection([one]))
    (read,) = read_stac(str(tmp_path / "i.json"))
    assert read["assets"]["coh"]["href"] == "https://example.org/a.tif"
    one["assets"]["coh"]["alternate"] = {"s3": {"href": "s3://bucket/a.tif"}}
    (tmp_path / "i.json").write_bytes(as_collection([one]))
    (read,) = read_stac(str(tmp_path / "i.json"))
    assert read["assets"]["coh"]["href"] == "s3://bucket/a.tif"
