"""Ingest: from folders, buckets and STAC, into numbers that mean the same."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
from rasterio import Affine
from rio_cogeo.cogeo import cog_validate

from acdtask.cube.model import RecordQuery
from acdtask.engine.local import LocalOutcome, run_locally
from acdtask.engine.processes import WorkerPool
from acdtask.engine.stages import open_site
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.ingest.job import IngestJob
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.storage.store import Store
from tests.jobs.rasters import good_pixels, write_tiff

NAMES = ["S1_20210101_20210107_VV.tif", "S1_20210107_20210113_VV.tif"]


def ingest(cube: Path | str, **settings: Any) -> LocalOutcome:
    with WorkerPool(0) as pool:
        return run_locally(IngestJob(), IngestSettings(**settings), str(cube), pool=pool, progress=False)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for number, name in enumerate(NAMES):
        pixels = good_pixels(number)
        pixels[:2, :3] = -1
        write_tiff(tmp_path / "source" / name, pixels)
    return tmp_path / "source"


def test_floats_become_thousandths_in_a_valid_cog_with_a_valid_stac_item(source: Path, tmp_path: Path) -> None:
    ingest(tmp_path / "cube", source=str(source))
    paths = sorted((tmp_path / "cube/data").rglob("*.tif"))
    assert len(paths) == 2
    for path, name in zip(paths, NAMES, strict=True):
        assert cog_validate(path, strict=True, quiet=True)[0]
        with rasterio.open(path) as ours, rasterio.open(source / name) as theirs:
            stored, values = ours.read(1), theirs.read(1)
            assert (ours.nodata, ours.scales[0], ours.transform) == (-1, 0.001, theirs.transform)
        assert ((stored == -1) == (values == -1)).all()
        np.testing.assert_array_equal(stored[values >= 0], np.rint(values[values >= 0].astype(float) * 1000))
        item = pystac.Item.from_file(str(path.with_suffix(".json")))
        assert item.assets["CoherenceVV"].get_absolute_href() == str(path)
        assert item.properties["start_datetime"] < item.properties["end_datetime"]


def test_names_become_records_with_dates_and_tags(source: Path, tmp_path: Path) -> None:
    pattern = "S1_{start}_{end}_{polarisation}.tif"
    ingest(tmp_path / "cube", source=str(source), pattern=pattern, tags={"mission": "S1"})
    records = open_site(str(tmp_path / "cube")).cube.records(RecordQuery(tags={"polarisation": "V*"}))
    assert [record.name for record in records] == [name.removesuffix(".tif") for name in NAMES]
    assert records[0].tags["mission"] == "S1"
    assert records[0].tags["start_datetime"].startswith("2021-01-01")


def test_what_is_there_is_left_alone_and_what_is_new_is_added(source: Path, tmp_path: Path) -> None:
    ingest(tmp_path / "cube", source=str(source))
    assert "already in the cube" in ingest(tmp_path / "cube", source=str(source)).lines[0]
    write_tiff(source / "S1_20210113_20210119_VV.tif", good_pixels(9))
    assert ingest(tmp_path / "cube", source=str(source)).plan.units == 1
    assert len(open_site(str(tmp_path / "cube")).cube.records(RecordQuery())) == 3


def test_files_of_known_records_are_not_opened_and_still_tell_duplicates(source: Path, tmp_path: Path) -> None:
    ingest(tmp_path / "cube", source=str(source))
    for name in NAMES:
        overwrite_unseen(source / name)
    write_tiff(source / "S1_20210113_20210119_VV.tif", good_pixels(9))
    assert ingest(tmp_path / "cube", source=str(source)).plan.units == 1
    write_tiff(source / "other_S1_20210101_20210107_VV.tif", good_pixels(0))
    unusable = ingest(tmp_path / "cube", source=str(source)).unusable
    assert [failure.number for failure in unusable.values()] == [ErrorCode.INPUT_DUPLICATE.value.number] * 2
    assert str(source / NAMES[0]) in unusable
    unusable = ingest(tmp_path / "cube", source=str(source), on_known="verify").unusable
    assert {address: failure.number for address, failure in unusable.items()} == {
        str(source / name): ErrorCode.INPUT_UNREADABLE.value.number for name in NAMES
    }


def overwrite_unseen(path: Path) -> None:
    """Damage a file so that only opening it shows it: inode, size and time do not change."""
    before = path.stat()
    path.write_bytes(bytes(before.st_size))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_verifying_the_same_files_changes_nothing(source: Path, tmp_path: Path) -> None:
    ingest(tmp_path / "cube", source=str(source))
    heads = sorted((tmp_path / "cube/index/heads").iterdir())
    ingest(tmp_path / "cube", source=str(source), on_known="verify")
    assert sorted((tmp_path / "cube/index/heads").iterdir()) == heads


def test_a_bad_file_that_was_mended_is_read_again(source: Path, tmp_path: Path) -> None:
    good = (source / NAMES[0]).read_bytes()
    write_tiff(source / NAMES[0], good_pixels(0) * 100)
    (failure,) = ingest(tmp_path / "cube", source=str(source)).unusable.values()
    assert failure.number == ErrorCode.INPUT_OUT_OF_RANGE.value.number
    assert len(open_site(str(tmp_path / "cube")).cube.records(RecordQuery())) == 1
    (source / NAMES[0]).write_bytes(good)
    ingest(tmp_path / "cube", source=str(source))
    assert len(open_site(str(tmp_path / "cube")).cube.records(RecordQuery())) == 2


AOI = {
    "type": "Polygon",
    "coordinates": [[[6.7, 50.9], [6.9, 50.9], [6.9, 51.1], [6.7, 51.1], [6.7, 50.9]]],
    "name": "somewhere",
    "start_time": "2021-01-01T00:00:00Z",
    "end_time": "2021-12-31T00:00:00Z",
}


def test_the_layout_is_made_from_the_aoi_in_the_same_commit(source: Path, tmp_path: Path) -> None:
    grid = {"projection": "EPSG:32632", "resolution": "20"}
    (tmp_path / "aoi.json").write_text(json.dumps(AOI | {"graph_config": grid, "record_tags": {"project": "x"}}))
    settings = {"source": str(source), "aoi": str(tmp_path / "aoi.json"), "make_layout": "utm", "cell_size": 64}
    ingest(tmp_path / "cube", **settings)
    layout = open_site(str(tmp_path / "cube")).cube.layout("utm")
    records = open_site(str(tmp_path / "cube")).cube.records(RecordQuery(tags={"project": "x"}))
    assert len(records) == 2
    assert (layout.crs, layout.cell_pixels, layout.cell_extent) == ("EPSG:32632", 64, 1280)
    assert "already" in ingest(tmp_path / "cube", **settings).lines[0]
    with pytest.raises(AcdError) as raised:
        ingest(tmp_path / "cube", **settings | {"cell_size": 128})
    assert raised.value.code is ErrorCode.LAYOUT_CONFLICT


def test_a_layout_that_no_aoi_describes_is_that_of_the_images(source: Path, tmp_path: Path) -> None:
    settings = {"source": str(source), "make_layout": "images", "cell_size": 32}
    ingest(tmp_path / "cube", **settings)
    cube = open_site(str(tmp_path / "cube")).cube
    (image,) = {dataset.grid for dataset in cube.datasets("CoherenceVV", "master")}
    assert cube.layout("images").tile(0, 0).grid == image
    assert "already" in ingest(tmp_path / "cube", **settings).lines[0]


def test_a_layout_of_images_whose_pixels_are_no_squares_is_refused(source: Path, tmp_path: Path) -> None:
    for name in NAMES:
        with rasterio.open(source / name, "r+") as raster:
            raster.transform = Affine(20, 0, 346640, 0, -10, 5655340)
    with pytest.raises(AcdError) as raised:
        ingest(tmp_path / "cube", source=str(source), make_layout="images")
    assert raised.value.code is ErrorCode.LAYOUT_INVALID
    assert not (tmp_path / "cube" / "cube.json").exists()


def test_a_float_nodata_of_nan_is_understood(tmp_path: Path) -> None:
    pixels = good_pixels(1)
    pixels[0, 0] = np.nan
    write_tiff(tmp_path / "source" / NAMES[0], pixels, nodata=float("nan"))
    ingest(tmp_path / "cube", source=str(tmp_path / "source"))
    (path,) = (tmp_path / "cube/data").rglob("*.tif")
    with rasterio.open(path) as raster:
        assert raster.read(1)[0, 0] == -1


def test_percents_are_mapped_when_their_range_is_given(tmp_path: Path) -> None:
    write_tiff(tmp_path / "source" / NAMES[0], good_pixels(1) * 100)
    ingest(tmp_path / "cube", source=str(tmp_path / "source"), source_maximum=100)
    (path,) = (tmp_path / "cube/data").rglob("*.tif")
    with rasterio.open(path) as raster:
        np.testing.assert_allclose(raster.read(1), np.rint(good_pixels(1) * 1000), atol=1)


def test_a_bucket_is_read_like_a_folder(source: Path, s3_address: str, tmp_path: Path) -> None:
    bucket = Store.at(f"{s3_address}/images")
    for name in NAMES:
        bucket.put(name, (source / name).read_bytes())
    ingest(f"{s3_address}/cube", source=f"{s3_address}/images")
    ingest(tmp_path / "cube", source=str(source))
    here, there = Store.at(str(tmp_path / "cube")), Store.at(f"{s3_address}/cube")
    for key in here.list("data"):
        assert here.get(key) == there.get(key)


def stac_items(source: Path) -> list[dict[str, Any]]:
    items = []
    for name in NAMES:
        start, end = name[3:11], name[12:20]
        day = "{}-{}-{}T05:00:00Z".format
        item = pystac.Item(
            id=name.removesuffix(".tif"),
            geometry={"type": "Polygon", "coordinates": [[[6, 51], [7, 51], [7, 52], [6, 52], [6, 51]]]},
            bbox=[6, 51, 7, 52],
            datetime=None,
            start_datetime=pystac.utils.str_to_datetime(day(start[:4], start[4:6], start[6:])),
            end_datetime=pystac.utils.str_to_datetime(day(end[:4], end[4:6], end[6:])),
            properties={"sat:orbit_state": "descending"},
        )
        item.add_asset("vv", pystac.Asset(href=str(source / name), media_type="image/tiff"))
        items.append(item.to_dict(include_self_link=False))
    return items


def test_a_stac_item_collection_is_a_source(source: Path, tmp_path: Path) -> None:
    path = tmp_path / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": stac_items(source)}))
    ingest(tmp_path / "cube", source=str(path))
    records = open_site(str(tmp_path / "cube")).cube.records(RecordQuery())
    assert [record.datetime.isoformat() for record in records] == [
        "2021-01-07T05:00:00+00:00",
        "2021-01-13T05:00:00+00:00",
    ]
    assert records[0].tags["sat:orbit_state"] == "descending"


def test_our_own_stac_items_can_be_ingested_into_another_cube(source: Path, tmp_path: Path) -> None:
    ingest(tmp_path / "cube", source=str(source))
    item = next(iter(sorted((tmp_path / "cube/data").rglob("*.tif")))).with_suffix(".json")
    ingest(tmp_path / "other", source=str(item))
    (path,) = (tmp_path / "other/data").rglob("*.tif")
    with rasterio.open(path) as ours, rasterio.open(item.with_suffix(".tif")) as theirs:
        np.testing.assert_array_equal(ours.read(), theirs.read())
