"""Ingested images can be reached from the cube's `catalog.json`, whatever is added, replaced or removed."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pystac
import pytest
from pystac.stac_io import StacIO

from acdtask.cube.local.cube import LocalCube
from acdtask.engine.stages import open_site
from acdtask.maintenance.tidy.clean import tidy
from acdtask.maintenance.tidy.retention import Retention
from acdtask.storage.store import Store
from tests.jobs.rasters import good_pixels, write_tiff
from tests.jobs.test_ingest import ingest

DATES = ("20210101_20210107", "20210107_20210113", "20210125_20210202")
COLLECTION = "data/CoherenceVV/master/collection.json"


class _StoreIO(StacIO):
    """Reads documents as acd's own store does, on S3 too."""

    def read_text(self, source: Any, *args: Any, **kwargs: Any) -> str:
        folder, _, name = str(source).rpartition("/")
        return Store.at(folder).get(name).decode()

    def write_text(self, dest: Any, txt: str, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError("a walk through a catalogue writes nothing")


def deliver(folder: Path, *dates: str, seed: int = 0) -> str:
    for number, date in enumerate(dates):
        write_tiff(folder / f"S1_{date}_VV.tif", good_pixels(seed + number))
    return str(folder)


def shown(cube: str) -> list[str]:
    """The addresses of the pixels of each item that the catalogue leads to."""
    root = pystac.Catalog.from_file(f"{cube}/catalog.json", stac_io=_StoreIO())
    items = list(root.get_items(recursive=True))
    for item in items:
        collection = item.get_collection()
        assert collection is not None
        assert item.collection_id == collection.id
        west, south, east, north = collection.extent.spatial.bboxes[0]
        assert item.bbox is not None
        assert (west, south) <= (item.bbox[0], item.bbox[1])
        assert (item.bbox[2], item.bbox[3]) <= (east, north)
        first = collection.extent.temporal.intervals[0][0]
        assert first is not None
        assert item.datetime is not None
        assert first <= item.datetime
    return sorted(str(item.assets["CoherenceVV"].get_absolute_href()) for item in items)


def images(cube: str) -> list[str]:
    opened = LocalCube.open(cube)
    datasets = opened.datasets("CoherenceVV", "master")
    return sorted(opened.store.address_of(dataset.uri) for dataset in datasets if not dataset.layout)


def walked(cube: str, source: Path) -> None:
    ingest(cube, source=deliver(source, *DATES[:2]))
    assert shown(cube) == images(cube)
    store = Store.at(cube)
    known = {key: store.get(key) for key in ("catalog.json", COLLECTION)}
    january = "data/CoherenceVV/master/stac/2021-01.json"
    body = store.get(january)
    ingest(cube, source=deliver(source, *DATES))
    assert shown(cube) == images(cube)
    assert len(shown(cube)) == 3
    assert (store.get(january), store.get("catalog.json")) == (body, known["catalog.json"])
    assert store.get(COLLECTION) != known[COLLECTION]


def test_a_walk_reaches_every_image(tmp_path: Path) -> None:
    walked(str(tmp_path / "cube"), tmp_path / "source")


def test_a_walk_reaches_every_image_on_s3(s3_address: str, tmp_path: Path) -> None:
    walked(s3_address, tmp_path / "source")


def test_an_image_within_a_known_month_changes_the_months_document_alone(tmp_path: Path) -> None:
    cube = tmp_path / "cube"
    ingest(cube, source=deliver(tmp_path / "source", DATES[0]))
    before = {path: path.read_bytes() for path in cube.rglob("*.json") if "runs" not in path.parts}
    ingest(cube, source=deliver(tmp_path / "source", *DATES[:2]))
    changed = [path.name for path, body in before.items() if path.read_bytes() != body]
    assert changed == ["2021-01.json"]


def test_a_replaced_image_is_there_once(tmp_path: Path) -> None:
    cube = str(tmp_path / "cube")
    ingest(cube, source=deliver(tmp_path / "source", *DATES))
    first = shown(cube)
    ingest(cube, source=deliver(tmp_path / "source", *DATES, seed=7), on_known="replace")
    assert shown(cube) == images(cube)
    assert len(shown(cube)) == 3
    assert not set(first) & set(shown(cube))


def test_images_of_an_earlier_cube_get_their_links_with_the_next_ingest(tmp_path: Path) -> None:
    cube = tmp_path / "cube"
    ingest(cube, source=deliver(tmp_path / "source", *DATES[:2]))
    (cube / "catalog.json").unlink()
    (cube / COLLECTION).unlink()
    shutil.rmtree(cube / "data/CoherenceVV/master/stac")
    ingest(cube, source=deliver(tmp_path / "source", *DATES))
    assert shown(str(cube)) == images(str(cube))
    assert len(shown(str(cube))) == 3


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"links": 3}'])
def test_a_damaged_document_is_written_anew(tmp_path: Path, damage: bytes) -> None:
    cube = tmp_path / "cube"
    ingest(cube, source=deliver(tmp_path / "source", DATES[0]))
    (cube / COLLECTION).write_bytes(damage)
    (cube / "catalog.json").write_bytes(damage)
    ingest(cube, source=deliver(tmp_path / "source", DATES[0], DATES[2]))
    assert len(shown(str(cube))) >= 1
    pystac.Collection.from_file(str(cube / COLLECTION))


def test_tidy_takes_links_away_with_their_items_and_knows_the_catalogue(tmp_path: Path) -> None:
    cube = str(tmp_path / "cube")
    ingest(cube, source=deliver(tmp_path / "source", *DATES))
    local = LocalCube.open(cube)
    (gone,) = [dataset for dataset in local.datasets("CoherenceVV", "master") if "20210107_20210113" in dataset.uri]
    local.remove(records=[gone.record_id], datasets=[gone])
    ingest(cube, source=deliver(tmp_path / "later", "20210202_20210208"))  # the plan that is kept names no old image
    later = datetime.now(UTC) + timedelta(days=30)
    least = Retention(keep_days=1, keep_heads=1, keep_runs=1, keep_versions=1)
    for apply in (False, True):
        document = tidy(open_site(cube), least, apply=apply, now=later).as_json()
        assert document["unknown"] == []
        assert len(shown(cube)) == (3 if apply else 4)
    assert shown(cube) == images(cube)
    assert not Path(cube, gone.uri).with_suffix(".json").exists()
    kept = {row["kind"]: row["objects"] for row in document["kept"]}
    assert kept["catalogues of images"] == 3
