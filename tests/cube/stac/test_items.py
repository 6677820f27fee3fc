from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
from jsonschema import Draft7Validator
from pystac.validation.local_validator import get_local_schema_cache
from referencing import Registry, Resource

from acdtask.cube.model import Record
from acdtask.cube.stac.items import StacLinks, stac_catalog, stac_collection, stac_item
from acdtask.cube.stac.read import SIGNED, read_stac
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.data_format import DataFormat
from acdtask.raster.grid import Grid
from acdtask.raster.tiling import footprint
from acdtask.storage.store import Store
from tests.cube.builders import COHERENCE, dataset, grid, image, record
from tests.raster.cogs import write_cog

Z = COHERENCE.model_copy(
    update={
        "name": "CoherenceVV_Z",
        "dformat": DataFormat(dtype="float32", nodata=float("nan"), min=-1, max=1),
        "bands": ("z", "quality"),
        "unit": "1",
        "description": "Deviation from the baseline.",
    }
)

SCHEMAS = get_local_schema_cache()
REGISTRY: Registry[Any] = Registry().with_resources(
    [(uri, Resource.from_contents(schema)) for uri, schema in SCHEMAS.items()]
)

PROJECTION_OF_AN_ASSET: dict[str, Any] = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "description": "Requirements of version 2.0.0 of the projection extension for an asset.",
    "type": "object",
    "required": ["proj:code", "proj:shape", "proj:transform"],
    "properties": {
        "proj:code": {"type": ["string", "null"], "pattern": "^[A-Z]+:[0-9]+$"},
        "proj:wkt2": {"type": ["string", "null"]},
        "proj:shape": {"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "integer"}},
        "proj:transform": {
            "oneOf": [
                {"type": "array", "minItems": 6, "maxItems": 6, "items": {"type": "number"}},
                {"type": "array", "minItems": 9, "maxItems": 9, "items": {"type": "number"}},
            ]
        },
    },
}


def checked(document: dict[str, Any]) -> dict[str, Any]:
    """The document as read back, validated with the schemas of pystac."""
    again: dict[str, Any] = json.loads(json.dumps(document, allow_nan=False))
    assert again == document
    kind = {"Feature": "item", "Collection": "collection", "Catalog": "catalog"}[again["type"]]
    uri = f"https://schemas.stacspec.org/v1.1.0/{kind}-spec/json-schema/{kind}.json"
    problems = Draft7Validator(SCHEMAS[uri], registry=REGISTRY).iter_errors(again)
    assert [problem.message for problem in problems] == []
    assert through_pystac(again) == again
    return again


def through_pystac(document: dict[str, Any]) -> dict[str, Any]:
    """The document read and written by pystac."""
    read = pystac.read_dict(json.loads(json.dumps(document)))
    if isinstance(read, pystac.Item):
        return read.to_dict(include_self_link=False, transform_hrefs=False)
    assert isinstance(read, pystac.Catalog)
    # pystac omits an empty list of extensions.
    empty: dict[str, Any] = {name: [] for name in ("stac_extensions",) if document.get(name) == []}
    return empty | read.to_dict(include_self_link=False, transform_hrefs=False)


def pair(**tags: str) -> Record:
    return record(1, tags={"start_datetime": "2021-01-01T06:00:00+01:00", "orbit": "37", "license": "x y", **tags})


def test_an_asset_has_the_checksum_of_its_file(tmp_path: Path) -> None:
    checksum = write_cog(Store.at(str(tmp_path)), "x.tif", image(grid())[np.newaxis], grid(), nodata=-1)
    owner = pair()
    item = checked(stac_item(owner, [dataset(owner, "x.tif", checksum=checksum)], [COHERENCE], item_id="a"))
    (asset,) = item["assets"].values()
    assert asset["file:checksum"] == "1220" + hashlib.sha256((tmp_path / "x.tif").read_bytes()).hexdigest()
    assert [uri.split("/")[3] for uri in item["stac_extensions"]] == ["projection", "file", "raster"]
    assert (asset["raster:scale"], asset["raster:offset"]) == (COHERENCE.scale, 0)
    container = dataset(owner, "x.zarr", subdir="0", checksum=checksum)
    assert "file:checksum" not in str(stac_item(owner, [container], [COHERENCE], item_id="a"))


def test_an_item_has_geometry_dates_and_assets() -> None:
    owner = pair()
    datasets = [dataset(owner, "data/a/x.tif"), dataset(owner, "data/b/z 1.tif", variable=Z.name, dformat=Z.dformat)]
    item = checked(stac_item(owner, datasets, [COHERENCE, Z], item_id="a-1", href="data/a/x.json"))
    assert item["id"] == "a-1"
    assert item["properties"] == {
        "datetime": "2021-01-07T00:00:00Z",
        "start_datetime": "2021-01-01T05:00:00Z",
        "end_datetime": "2021-01-07T00:00:00Z",
        "acd:record": "S1/001",
        "acd:license": "x y",
        "orbit": "37",
    }
    assert item["bbox"] == [7, 50, 8, 51]
    assert [(name, asset["href"]) for name, asset in item["assets"].items()] == [
        ("CoherenceVV", "./x.tif"),
        ("CoherenceVV_Z", "../b/z 1.tif"),
    ]
    coherence, z = item["assets"].values()
    assert (coherence["nodata"], coherence["data_type"], coherence["bands"]) == (-1, "int16", [{"name": "CoherenceVV"}])
    assert (z["nodata"], z["data_type"], z["bands"]) == ("nan", "float32", [{"name": "z"}, {"name": "quality"}])
    assert (coherence["proj:code"], coherence["proj:shape"]) == ("EPSG:32632", [200, 300])
    for asset in item["assets"].values():
        assert list(Draft7Validator(PROJECTION_OF_AN_ASSET).iter_errors(asset)) == []
    assert not any("created" in text or "updated" in text for text in (json.dumps(item),))


def test_pystac_reads_an_item() -> None:
    item = pystac.Item.from_dict(stac_item(record(1), [dataset(record(1), "a/x.tif")], [COHERENCE]))
    assert item.datetime == record(1).datetime
    assert item.assets["CoherenceVV"].media_type == pystac.MediaType.COG
    item.stac_extensions = []
    item.set_self_href("/cube/a/x.json")
    assert item.validate()


def test_assets_of_a_variable_are_distinguished_by_cell() -> None:
    cells = [dataset(record(1), f"m/{n}.zarr", layout="utm32", cell=f"{n}/-2") for n in (1, 2)]
    item = checked(stac_item(record(1), cells, [COHERENCE]))
    assert {name: asset["href"] for name, asset in item["assets"].items()} == {
        "CoherenceVV_1_-2": "./1.zarr",
        "CoherenceVV_2_-2": "./2.zarr",
    }
    assert item["assets"]["CoherenceVV_1_-2"]["type"].startswith("application/vnd.zarr")


def test_an_item_across_the_antimeridian_has_a_bbox_from_west_to_east() -> None:
    over = Grid(crs="EPSG:32660", transform=(20, 0, 750000, 0, -20, 1000000), width=10240, height=1024)
    item = checked(
        stac_item(record(1, footprint=footprint(over)), [dataset(record(1), "x.tif", grid=over)], [COHERENCE])
    )
    west, _, east, _ = item["bbox"]
    assert 179 < west < 180
    assert -180 < east < -178
    assert item["geometry"]["type"] == "MultiPolygon"


def test_an_item_without_footprint_has_no_geometry() -> None:
    item = checked(
        stac_item(record(1, footprint={}), [dataset(record(1), "s3://other/x.tif")], [COHERENCE], href="a.json")
    )
    assert item["geometry"] is None
    assert "bbox" not in item
    assert item["assets"]["CoherenceVV"]["href"] == "s3://other/x.tif"


def write_catalogue(store: Store) -> None:
    items = {}
    for number in range(3):
        owner = record(number)
        key = f"items/köln {number}/item.json"
        items[key] = stac_item(owner, [dataset(owner, f"items/köln {number}/x.tif")], [COHERENCE], href=key)
        store.put(key, json.dumps(items[key]).encode())
    collection = checked(
        stac_collection(
            "coherence",
            "Coherence of Köln.",
            href="coherence/collection.json",
            links=StacLinks("catalog.json", "catalog.json", items=dict.fromkeys(items, "")),
            footprint=record(1).footprint,
            interval=(record(0).datetime, None),
        )
    )
    children = {"coherence/collection.json": "Coherence"}
    catalogue = checked(stac_catalog("acd", "All.", href="catalog.json", links=StacLinks(children=children)))
    store.put("coherence/collection.json", json.dumps(collection).encode())
    store.put("catalog.json", json.dumps(catalogue).encode())
    everything = {"type": "FeatureCollection", "features": list(items.values())}
    store.put("items/köln 1/all.json", json.dumps(everything).encode())


def test_a_catalogue_links_to_its_items(place: str) -> None:
    store = Store.at(place)
    write_catalogue(store)
    for start in ("catalog.json", "coherence/collection.json"):
        items = read_stac(f"{store.url}/{start}")
        assert [item["id"] for item in items] == ["S1_000", "S1_001", "S1_002"]
        hrefs = [item["assets"]["CoherenceVV"]["href"] for item in items]
        assert hrefs == [f"{store.url}/items/köln {number}/x.tif" for number in range(3)]
    assert len(read_stac(f"{store.url}/items/köln 1/item.json")) == 1
    assert len(read_stac(f"{store.url}/items/köln 1/all.json")) == 3


def test_a_catalogue_is_read_by_pystac(tmp_path: Path) -> None:
    write_catalogue(Store.at(str(tmp_path)))
    catalogue = pystac.Catalog.from_file(str(tmp_path / "catalog.json"))
    assert sorted(item.id for item in catalogue.get_items(recursive=True)) == ["S1_000", "S1_001", "S1_002"]
    collection = next(iter(catalogue.get_children()))
    assert isinstance(collection, pystac.Collection)
    assert collection.validate()
    assert catalogue.validate()


def test_relative_addresses_and_circles_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    links = StacLinks(children={"b/catalog.json": "b"})
    circle = stac_catalog("a", "A circle.", href="catalog.json", links=links)
    links = StacLinks(children={"catalog.json": "a"}, items={"b/item.json": "i"})
    back = stac_catalog("b", "Back.", href="b/catalog.json", links=links)
    item = stac_item(record(1), [dataset(record(1), "b/x.tif")], [COHERENCE], href="b/item.json")
    for key, document in (("catalog.json", circle), ("b/catalog.json", back), ("b/item.json", item)):
        Store.at(".").put(key, json.dumps(document).encode())
    for address in ("catalog.json", "./catalog.json", f"file://{tmp_path}/catalog.json"):
        assert [found["assets"]["CoherenceVV"]["href"] for found in read_stac(address)] == [f"{tmp_path}/b/x.tif"]


ITEM: dict[str, Any] = {"type": "Feature", "id": "i", "properties": {}, "assets": {"a": {"href": "a.tif"}}}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "not JSON"),
        ([], "not a JSON object"),
        ({"type": "Nothing"}, "type 'Nothing'"),
        ({"type": "Catalog"}, "no list of links"),
        ({"type": "FeatureCollection", "features": [3]}, "item without"),
        ({"type": "FeatureCollection", "features": [ITEM | {"id": None}]}, "without an id or the type 'Feature'"),
        ({"type": "Catalog", "links": [{"rel": "item"}]}, "without href"),
        (
            {"type": "Catalog", "links": [{"rel": "item", "href": "./gone.json"}]},
            "gone.json is linked, but does not exist",
        ),
        ({"type": "Catalog", "links": [{"rel": "child", "href": "https://x.org/c.json"}]}, "links to https://x.org"),
        (ITEM | {"assets": None}, "without properties or assets"),
        (ITEM | {"assets": {"a": {}}}, "without href"),
    ],
)
def test_an_invalid_document_is_named(tmp_path: Path, document: Any, message: str) -> None:
    path = tmp_path / "stac.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    with pytest.raises(AcdError, match=message) as caught:
        read_stac(str(path))
    assert caught.value.code is ErrorCode.STAC_INVALID
    assert str(tmp_path) in str(caught.value)


def test_assets_on_the_web_are_named_without_their_query(tmp_path: Path) -> None:
    path = tmp_path / "stac.json"
    assets = {
        "thumbnail": {"href": "https://x.org/a.png", SIGNED: "https://evil.org/a.png"},
        "data": {"href": "https://x.org/b.tif?sig=1#x"},
        "near": {"href": "s3://bucket/a.tif"},
    }
    path.write_text(json.dumps(ITEM | {"assets": assets, "links": [{"rel": "self", "href": "https://x.org/i.json"}]}))
    assert read_stac(str(path))[0]["assets"] == {
        "thumbnail": {"href": "https://x.org/a.png"},
        "data": {"href": "https://x.org/b.tif", SIGNED: "https://x.org/b.tif?sig=1#x"},
        "near": {"href": "s3://bucket/a.tif"},
    }


def test_an_href_may_be_quoted_or_plain(tmp_path: Path) -> None:
    (tmp_path / "a b.tif").touch()
    (tmp_path / "100%25.tif").touch()
    for href, name in (("a%20b.tif", "a b.tif"), ("a b.tif", "a b.tif"), ("100%25.tif", "100%25.tif")):
        (tmp_path / "stac.json").write_text(json.dumps(ITEM | {"assets": {"a": {"href": href}}}))
        assert read_stac(str(tmp_path / "stac.json"))[0]["assets"]["a"]["href"] == str(tmp_path / name)


def test_a_missing_document_is_missing_input(place: str) -> None:
    with pytest.raises(AcdError) as caught:
        read_stac(f"{Store.at(place).url}/catalog.json")
    assert caught.value.code is ErrorCode.INPUT_MISSING
