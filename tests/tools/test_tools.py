"""Common tools open acd's files and show the same pixels."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pystac
import pytest
import rasterio
from jsonschema import Draft7Validator
from pystac.validation.local_validator import get_local_schema_cache
from referencing import Registry, Resource

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import Slice
from acdtask.engine.processes import WorkerPool
from acdtask.errors import ErrorCode
from acdtask.jobs.colours import PATCH
from acdtask.jobs.manifests import find_manifest
from acdtask.jobs.monitor.months import read_images
from acdtask.jobs.patch_files import patches_to_parquet, read_patches
from acdtask.jobs.products import (
    BaselineManifest,
    ImageProduct,
    MonitorManifest,
)
from acdtask.jobs.styles import CHANGE_CATEGORIES
from acdtask.storage.store import Store
from tests.jobs.chain import LAYOUT, SCENE, Chain, run_chain, simulate
from tests.tools.geoparquet import checked_table

pytestmark = pytest.mark.filterwarnings(
    # raised by the tools about each other
    "ignore::DeprecationWarning",
    "ignore::PendingDeprecationWarning",
    "ignore::FutureWarning",
)

SCHEMAS = get_local_schema_cache()
REGISTRY: Registry[Any] = Registry().with_resources(
    [(uri, Resource.from_contents(schema)) for uri, schema in SCHEMAS.items()]
)
EXTENSION_FIELDS: dict[str, Any] = {
    "proj:code": {"type": "string", "pattern": "^[A-Z]+:[0-9]+$"},
    "proj:shape": {"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "integer"}},
    "proj:transform": {"type": "array", "minItems": 6, "maxItems": 9, "items": {"type": "number"}},
    "raster:scale": {"type": "number"},
    "raster:offset": {"type": "number"},
    "file:checksum": {"type": "string", "pattern": "^[a-f0-9]+$"},
    "file:size": {"type": "integer", "minimum": 0},
    "processing:software": {"type": "object", "additionalProperties": {"type": "string"}},
    "processing:lineage": {"type": "string"},
}
"""Schemas of fields from the STAC extensions projection 2.0.0, raster 2.0.0, file 2.1.0 and processing 1.2.0."""


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tools")
    scene = simulate(folder / "scene")
    with WorkerPool(0) as pool:
        run_chain(scene, str(folder / "cube"), pool, Chain(cell=64))
    return folder / "cube"


@pytest.fixture(scope="module")
def image(cube: Path) -> ImageProduct:
    """A monitored image that has patches."""
    store, missing = Store.at(str(cube)), ErrorCode.MONITOR_UNKNOWN
    _, body = find_manifest(store, "koln-demo", "monitor", f"CoherenceVV/{LAYOUT}/monitor", "latest", missing)
    images = read_images(MonitorManifest.model_validate_json(body), store)
    return next(image for image in images if image.patch_count)


@pytest.fixture(scope="module")
def baseline(cube: Path) -> BaselineManifest:
    missing = ErrorCode.BASELINE_UNKNOWN
    name = f"CoherenceVV/{LAYOUT}/annual"
    _, body = find_manifest(Store.at(str(cube)), "koln-demo", "baseline", name, "latest", missing)
    return BaselineManifest.model_validate_json(body)


def whole(cube: Path, tiles: dict[tuple[int, int], str], band: int = 1) -> np.ndarray[Any, Any]:
    """Mosaic of a product's tiles, given by (j, i)."""
    rows = sorted({j for j, _ in tiles})
    columns = sorted({i for _, i in tiles})
    return np.block([[pixels(cube / tiles[j, i], band) for i in columns] for j in rows])


def pixels(path: Path, band: int = 1) -> np.ndarray[Any, Any]:
    with rasterio.open(path) as file:
        return np.asarray(file.read(band))


def tiles_of(image: ImageProduct, product: str) -> dict[tuple[int, int], str]:
    return {(tile.tile.j, tile.tile.i): getattr(tile, product).uri for tile in image.tiles}


def documents(cube: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Iterate over all STAC documents reachable from the root."""
    queue, seen = [cube / "catalog.json"], set[Path]()
    while queue:
        path = queue.pop().resolve()
        if path in seen:
            continue
        seen.add(path)
        document = json.loads(path.read_text())
        yield path, document
        for link in document["links"]:
            assert not link["href"].startswith(("/", "file:", "http")), path
            queue.append(path.parent / link["href"])


def test_the_catalogue_is_valid_and_leads_to_every_tile(
    cube: Path, image: ImageProduct, baseline: BaselineManifest
) -> None:
    kinds: dict[str, int] = {}
    for path, document in documents(cube):
        kind = {"Feature": "item", "Collection": "collection", "Catalog": "catalog"}[document["type"]]
        kinds[kind] = kinds.get(kind, 0) + 1
        uri = f"https://schemas.stacspec.org/v1.1.0/{kind}-spec/json-schema/{kind}.json"
        errors = Draft7Validator(SCHEMAS[uri], registry=REGISTRY).iter_errors(document)
        assert [error.message for error in errors] == [], path
        pystac.read_dict(document)
    images = list(cube.glob("data/**/*.tif"))
    assert kinds["item"] == len(images) + len(baseline.tiles) + SCENE.monitored_pairs * len(image.tiles)
    root = pystac.Catalog.from_file(str(cube / "catalog.json"))
    items = list(root.get_items(recursive=True))
    shown = {item.assets["CoherenceVV"].get_absolute_href() for item in items if "CoherenceVV" in item.assets}
    assert shown == {str(path) for path in images}
    assert len({(item.collection_id, item.id) for item in items}) == len(items) == kinds["item"]
    for item in items:
        collection = item.get_collection()
        assert collection is not None
        assert item.collection_id == collection.id
        assert collection.extent.temporal.intervals[0][0] is not None


def test_an_item_is_one_footprint_and_its_assets_are_described(cube: Path) -> None:
    for path, document in documents(cube):
        if document["type"] != "Feature":
            continue
        expected = {"z", "change"} if "/monitor/" in str(path) else {"mean", "std", "count"}
        if "data" in path.relative_to(cube.resolve()).parts:
            continue  # tests/jobs/test_ingest.py
        assert set(document["assets"]) == expected
        assert len({str(asset["proj:transform"]) for asset in document["assets"].values()}) == 1
        fields = {**document["properties"], **{k: v for asset in document["assets"].values() for k, v in asset.items()}}
        assert {"proj:code", "file:checksum", "file:size", "raster:scale", "processing:lineage"} <= set(fields)
        for part in (document["properties"], *document["assets"].values()):
            known = {name: value for name, value in part.items() if name in EXTENSION_FIELDS}
            assert list(Draft7Validator({"properties": EXTENSION_FIELDS}).iter_errors(known)) == []
            assert {name for name in part if ":" in name and not name.startswith("acd:")} <= set(EXTENSION_FIELDS)
        for asset in document["assets"].values():
            file = path.parent / asset["href"]
            assert file.stat().st_size == asset["file:size"]
            with rasterio.open(file) as raster:
                assert raster.crs.to_string() == asset["proj:code"]
                assert list(raster.transform)[:6] == asset["proj:transform"]
                assert list(raster.shape) == asset["proj:shape"]
                assert raster.dtypes[0] == asset["data_type"]
                assert raster.scales[0] == asset.get("raster:scale", 1.0)
                assert len(asset["bands"]) == raster.count
                np.testing.assert_equal(float(raster.nodata), float(asset["nodata"]))


def test_odc_stac_gives_the_pixels_of_a_date(cube: Path, image: ImageProduct) -> None:
    odc_stac = importlib.import_module("odc.stac")
    items = [item for item in items_of(cube) if item.datetime == image.datetime and "z" in item.assets]
    loaded = odc_stac.load(items, bands=["z", "change"], crs="EPSG:32632", resolution=20)
    assert loaded.sizes["time"] == 1
    np.testing.assert_array_equal(loaded["z"].values[0], whole(cube, tiles_of(image, "z")))
    np.testing.assert_array_equal(loaded["change"].values[0], whole(cube, tiles_of(image, "change")))
    assert loaded["z"].attrs["nodata"] == -32768


def test_stackstac_gives_the_pixels_of_a_date(cube: Path, image: ImageProduct) -> None:
    stackstac = importlib.import_module("stackstac")
    items = [item for item in items_of(cube) if item.datetime == image.datetime and "z" in item.assets]
    stack = stackstac.stack(
        [item.to_dict(transform_hrefs=True) for item in absolute(items)],
        assets=["z"],
        epsg=32632,
        resolution=20,
        dtype="int16",
        fill_value=np.int16(-32768),
        rescale=False,
        xy_coords="center",
    )
    assert stack.shape[0] == len(items)
    mosaic = stackstac.mosaic(stack, nodata=-32768).sel(band="z").compute()
    left, bottom, right, top = _bounds(image)
    inside = mosaic.sel(x=slice(left, right), y=slice(top, bottom))
    np.testing.assert_array_equal(inside.values, whole(cube, tiles_of(image, "z")))


def _bounds(image: ImageProduct) -> tuple[float, float, float, float]:
    boxes = np.array([tile.tile.grid.bounds for tile in image.tiles])
    return (*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist())


def items_of(cube: Path) -> list[pystac.Item]:
    return list(pystac.Catalog.from_file(str(cube / "catalog.json")).get_items(recursive=True))


def absolute(items: list[pystac.Item]) -> list[pystac.Item]:
    for item in items:
        item.make_asset_hrefs_absolute()
    return items


def test_xarray_opens_a_consolidated_container(cube: Path) -> None:
    xarray = importlib.import_module("xarray")
    importlib.import_module("rioxarray")
    opened = LocalCube.open(str(cube))
    variable = opened.variable("CoherenceVV")
    datasets = [dataset for dataset in opened.datasets("CoherenceVV", "master") if dataset.layout]
    for uri in sorted({dataset.uri for dataset in datasets})[:3]:
        images = sorted(
            (dataset for dataset in datasets if dataset.uri == uri), key=lambda dataset: int(dataset.subdir)
        )
        array = xarray.open_zarr(cube / uri)["CoherenceVV"]
        grid = images[0].grid
        assert array.dims == ("time", "y", "x")
        assert array.rio.crs.to_string() == grid.crs
        assert tuple(array.rio.transform())[:6] == grid.transform
        assert float(array.x[0]) == grid.transform[2] + grid.transform[0] / 2
        assert (array.attrs["units"], array.encoding["scale_factor"]) == ("1", variable.scale)
        records = opened.records_by_id([dataset.record_id for dataset in images])
        times = {record.id: record.datetime.astimezone(UTC).replace(tzinfo=None) for record in records}
        expected = [np.datetime64(times[dataset.record_id]) for dataset in images]
        np.testing.assert_array_equal(array.time.values, np.array(expected, array.time.dtype))
        stored = opened.read(grid, [Slice(label="", datasets=(dataset,)) for dataset in images], variable)
        values = array.values
        np.testing.assert_array_equal(np.isnan(values), stored == variable.dformat.nodata)
        known = stored != variable.dformat.nodata
        np.testing.assert_allclose(values[known], stored[known] * variable.scale, rtol=1e-6)


def test_a_date_is_one_raster(cube: Path, image: ImageProduct) -> None:
    folder = cube / image.folder
    (z,), (change,) = sorted(folder.glob("z_*.vrt")), sorted(folder.glob("change_*.vrt"))
    with rasterio.open(z) as raster:
        np.testing.assert_array_equal(raster.read(1), whole(cube, tiles_of(image, "z")))
        assert (raster.scales, raster.nodata, raster.descriptions) == ((0.01,), -32768, ("z",))
        assert raster.crs.to_epsg() == 32632
        assert raster.tags()["TIFFTAG_DATETIME"] == f"{image.datetime:%Y:%m:%d %H:%M:%S}"
    with rasterio.open(change) as raster:
        for band in (1, 2):
            np.testing.assert_array_equal(raster.read(band), whole(cube, tiles_of(image, "change"), band))
        assert raster.colormap(1)[1] == (*PATCH, 255)
        assert [interpretation.name for interpretation in raster.colorinterp] == ["palette", "undefined"]
    names = ElementTree.parse(change).findall("VRTRasterBand[@band='1']/CategoryNames/Category")  # noqa: S314 - our own
    assert tuple(name.text for name in names) == CHANGE_CATEGORIES
    with rasterio.open(cube / image.tiles[0].change.uri) as raster:
        assert raster.colormap(1)[1] == (*PATCH, 255)
        assert [interpretation.name for interpretation in raster.colorinterp] == ["palette", "undefined"]


def test_a_baseline_is_one_raster_for_each_view(cube: Path, baseline: BaselineManifest) -> None:
    folder = cube / "products/koln-demo/baseline" / baseline.content_id
    for product, attribute in (("mean", "mean"), ("std", "standard_deviation"), ("count", "count")):
        (path,) = sorted(folder.glob(f"{product}_*.vrt"))
        tiles = {(tile.tile.j, tile.tile.i): getattr(tile, attribute).uri for tile in baseline.tiles}
        with rasterio.open(path) as raster:
            np.testing.assert_array_equal(raster.read(1), whole(cube, tiles))
            assert raster.scales == ((1.0,) if product == "count" else (0.001,))


def test_a_copied_cube_opens_as_well(cube: Path, image: ImageProduct, tmp_path: Path) -> None:
    """Products contain no absolute paths."""
    copy = tmp_path / "elsewhere"
    subprocess.run(["cp", "-r", str(cube / "products"), str(cube / "catalog.json"), str(tmp_path)], check=True)
    tmp_path.joinpath("products").rename(copy)
    (path,) = sorted((copy / Path(image.folder).relative_to("products")).glob("z_*.vrt"))
    np.testing.assert_array_equal(pixels(path), whole(cube, tiles_of(image, "z")))


@pytest.mark.parametrize("product", ["z", "change", "mean", "std", "count"])
def test_each_raster_has_a_style_file_of_the_same_name(cube: Path, product: str) -> None:
    paths = sorted(cube.glob(f"products/**/{product}_*.vrt"))
    assert len(paths) == (SCENE.monitored_pairs if product in ("z", "change") else 1)
    for path in paths:
        style = ElementTree.parse(path.with_suffix(".qml"))  # noqa: S314 - our own
        entries = style.findall(".//paletteEntry") or style.findall(".//colorrampshader/item")
        values = [float(entry.attrib["value"]) for entry in entries]
        assert values == sorted(values)
        assert len(values) >= 2
        if product == "z":
            assert (values[0], values[-1]) == (-2, 6)  # QGIS styles numbers after scaling
        if product == "mean":
            assert (values[0], values[-1]) == (0, 1)


def test_files_record_their_date_and_their_baseline(
    cube: Path, image: ImageProduct, baseline: BaselineManifest
) -> None:
    tile = image.tiles[0]
    when = image.label.replace("-", "")
    for product, dataset in (("z", tile.z), ("change", tile.change)):
        assert Path(dataset.uri).name == f"{product}_koln-demo_CoherenceVV_{when}_{tile.tile.i}_{tile.tile.j}.tif"
        with rasterio.open(cube / dataset.uri) as raster:
            tags = raster.tags()
        assert tags["TIFFTAG_DATETIME"] == f"{image.datetime:%Y:%m:%d %H:%M:%S}"
        assert (tags["TIFFTAG_SOFTWARE"], tags["ACD_BASELINE"]) == ("acd", baseline.content_id)
        assert tags["ACD_PRODUCT"] == image.folder.split("/")[3]
        assert (tags["ACD_METHOD"], tags["ACD_VARIABLE"]) == ("robust", "CoherenceVV")
    with rasterio.open(cube / baseline.tiles[0].mean.uri) as raster:
        assert raster.tags()["ACD_BASELINE"] == baseline.content_id
        assert raster.scales == (0.001,)


def tables(cube: Path) -> list[Path]:
    return sorted(cube.rglob("*patches*.parquet")) + sorted(cube.glob("products/**/patches/*.parquet"))


def test_every_table_of_patches_is_geoparquet(cube: Path) -> None:
    paths = tables(cube)
    assert {path.parent.name for path in paths} >= {"patches", "pages"}
    assert sum(len(checked_table(path)) for path in paths) > len(paths)


def test_an_empty_table_is_geoparquet_and_an_unknown_start_is_null(
    cube: Path, image: ImageProduct, tmp_path: Path
) -> None:
    from dataclasses import replace

    (tmp_path / "empty.parquet").write_bytes(patches_to_parquet([]))
    assert len(checked_table(tmp_path / "empty.parquet")) == 0
    patches = read_patches((cube / image.patches).read_bytes())
    unknown = [replace(patch, start=None) for patch in patches]
    (tmp_path / "unknown.parquet").write_bytes(patches_to_parquet(unknown))
    table = checked_table(tmp_path / "unknown.parquet")
    assert str(table.schema.field("datetime").type) == "timestamp[us, tz=UTC]"
    assert table.column("start_datetime").null_count == len(patches) > 0
    assert read_patches((tmp_path / "unknown.parquet").read_bytes()) == unknown


def test_geopandas_reads_the_patches(cube: Path, image: ImageProduct) -> None:
    geopandas = importlib.import_module("geopandas")
    frame = geopandas.read_parquet(cube / image.patches)
    assert len(frame) == image.patch_count
    assert frame.crs.to_authority() == ("OGC", "CRS84")
    assert (frame["datetime"] == image.datetime).all()
    patches = read_patches((cube / image.patches).read_bytes())
    assert list(frame.geometry) == [patch.geometry for patch in patches]


def test_duckdb_reads_the_patches(cube: Path, image: ImageProduct) -> None:
    duckdb = importlib.import_module("duckdb")
    query = f"SELECT id, datetime, typeof(geometry) FROM '{cube / image.patches}' ORDER BY z_max DESC"  # noqa: S608
    rows = duckdb.sql(query).fetchall()
    assert len(rows) == image.patch_count
    for _, moment, kind in rows:
        assert moment == image.datetime
        assert kind.startswith("GEOMETRY")


def test_gdal_reads_the_patches(cube: Path, image: ImageProduct) -> None:
    pyogrio = importlib.import_module("pyogrio")
    if "Parquet" not in pyogrio.list_drivers():
        pytest.skip("GDAL in this wheel of pyogrio has no Parquet driver")
    info = pyogrio.read_info(cube / image.patches)
    assert (info["features"], info["geometry_type"]) == (image.patch_count, "Polygon")


def test_acd_runs_without_the_tools() -> None:
    code = (
        "import sys, acdtask.jobs.monitor.job, acdtask.jobs.baseline.job, acdtask.jobs.report.job;"
        "print([name for name in ('xarray', 'pandas', 'geopandas', 'odc', 'pystac', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
