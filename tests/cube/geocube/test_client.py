"""The notebook client on acd's own server: the tutorial in thirty lines, and the result of each container."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from acdtask.cube.follow import End
from acdtask.cube.geocube import Geocube, connect
from acdtask.cube.geocube.index import Indexed
from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import Addition, Dataset, Outcome, Record
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.data_format import Pixels
from acdtask.storage.store import Store
from tests.cube.builders import grid, image
from tests.raster.cogs import write_cog
from tests.serve.conftest import serving

SCENE = grid(150, 100)


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    with serving(LocalCube.create(str(tmp_path / "cube")), data=(str(tmp_path),)) as server:
        yield server.address


@pytest.fixture
def geocube(address: str) -> Geocube:
    return connect(address)


def scenes(folder: Path, count: int) -> list[Pixels]:
    """Images from 2021-01-01, two per day."""
    images = [image(SCENE, number, low=1) for number in range(count)]
    for number, pixels in enumerate(images):
        write_cog(
            Store.at(str(folder)), f"S1-{2021_01_01 + number // 2}-{number}.tif", pixels[np.newaxis], SCENE, nodata=-1
        )
    return images


def record_of(path: Path) -> Record:
    _, date, orbit = path.stem.split("-")
    return Record(
        name=path.stem, datetime=datetime.strptime(date, "%Y%m%d").replace(tzinfo=UTC), tags={"n": orbit}, footprint={}
    )


def test_the_tutorial(geocube: Geocube, tmp_path: Path) -> None:
    images = scenes(tmp_path, 6)
    geocube.create_variable("CoherenceVV", "int16", nodata=-1, valid=(0, 1000), scale=0.001)
    geocube.create_instance("CoherenceVV", "master", by="the tutorial")
    layout = geocube.create_layout("utm", crs="EPSG:32632", resolution=20, cell_size=64, origin=(400000, 5600000))
    results = geocube.index_files(sorted(tmp_path.glob("*.tif")), record_of, "CoherenceVV")
    assert [result.outcome for result in results] == [Indexed.NEW] * 6
    records = geocube.records("S1-*", tags={"n": ""})
    assert [record.name for record in records] == [path.stem for path in sorted(tmp_path.glob("*.tif"))]
    tiles = geocube.tile(records[0].footprint, layout)
    assert {tile.cell for tile in tiles} >= {"0/0", "1/0", "2/0", "0/1", "1/1", "2/1"}
    tile = layout.tile(1, 0)
    single = geocube.cube("CoherenceVV", "master", tile, group_by_date=False)
    assert [record[0].name for record in single.records] == [record.name for record in records]
    np.testing.assert_array_equal(single.pixels, [pixels[:64, 64:128] for pixels in images])
    daily = geocube.cube("CoherenceVV", "master", tile, records=records)
    assert [date.day for date in daily.dates] == [1, 2, 3]
    np.testing.assert_array_equal(daily.pixels, single.pixels[1::2])
    assert daily.physical().dtype == np.float32
    np.testing.assert_allclose(daily.physical(), daily.pixels * 0.001, rtol=1e-6)
    lines: list[str] = []
    ending = geocube.consolidate("tutorial", "CoherenceVV", "master", "utm", records, say=lines.append, timeout=120)
    assert ending.end is End.DONE, ending
    assert "DONE" in lines[-1]
    after = geocube.cube("CoherenceVV", "master", tile, records=records)
    np.testing.assert_array_equal(after.pixels, daily.pixels)
    again = geocube.index_files(sorted(tmp_path.glob("*.tif")), record_of, "CoherenceVV")
    assert {result.outcome for result in again} == {Indexed.THERE}


def test_every_container_has_a_result(geocube: Geocube, tmp_path: Path) -> None:
    scenes(tmp_path, 6)
    geocube.create_variable("CoherenceVV", "int16", nodata=-1, valid=(0, 1000))
    geocube.create_instance("CoherenceVV")
    paths = sorted(tmp_path.glob("*.tif"))
    geocube.index_files(paths[:2], record_of, "CoherenceVV")
    write_cog(Store.at(str(tmp_path)), paths[3].name, np.ones((1, 100, 150), "uint8"), SCENE, nodata=255)
    datasets = [
        Dataset(
            record_id=record_of(path).id,
            variable="CoherenceVV",
            instance="master",
            uri=str(path),
            dformat=geocube.room.variable("CoherenceVV").dformat,
            grid=SCENE,
        )
        for path in paths
    ]
    datasets[4] = datasets[4].model_copy(update={"bands": (2,)})
    wrong = datasets[1].dformat.model_copy(update={"max": 500.0})
    datasets[1] = datasets[1].model_copy(update={"dformat": wrong})
    outline = geocube.records()[0].footprint
    geocube.create_records(record_of(path).model_copy(update={"footprint": outline}) for path in paths)
    paths[5].unlink()
    results = geocube.room.index_containers(datasets)
    assert [result.uri for result in results] == [str(path) for path in paths]
    assert [result.outcome.name for result in results] == ["THERE", "REFUSED", "NEW", "REFUSED", "REFUSED", "REFUSED"]
    codes = [result.error.code for result in results if result.error]
    assert codes == [
        ErrorCode.DATASET_CONFLICT,
        ErrorCode.INPUT_BANDS,
        ErrorCode.INPUT_BANDS,
        ErrorCode.INPUT_MISSING,
    ]
    assert all(result.error is None or result.uri in result.error.detail for result in results)
    with pytest.raises(AcdError, match="4 of 6 containers were refused"):
        geocube.room.commit(Addition(datasets=datasets))


def test_missing_images_have_a_reason(geocube: Geocube, tmp_path: Path) -> None:
    scenes(tmp_path, 4)
    geocube.create_variable("CoherenceVV", "int16", nodata=-1, valid=(0, 1000))
    geocube.create_instance("CoherenceVV")
    paths = sorted(tmp_path.glob("*.tif"))
    geocube.index_files(paths, record_of, "CoherenceVV")
    records = geocube.records()
    paths[1].unlink()
    far = grid(10, 10, transform=(20, 0, 700000, 0, -20, 5000000))
    stack = geocube.cube("CoherenceVV", "master", SCENE, records=records, group_by_date=False)
    assert stack.pixels.shape == (3, 100, 150)
    assert [group[0].name for group in stack.records] == [paths[n].stem for n in (0, 2, 3)]
    ((group, gap),) = stack.without
    assert (group[0].name, gap.outcome) == (paths[1].stem, Outcome.FAILED)
    assert str(paths[1]) in stack.failed[0]
    empty = geocube.cube("CoherenceVV", "master", far, records=records)
    assert empty.pixels.shape == (0, 10, 10)
    assert {image.outcome for _, image in empty.without} == {Outcome.ABSENT}


def test_mistakes_are_reported_in_a_sentence(geocube: Geocube) -> None:
    with pytest.raises(AcdError, match="min 5 is not below max 1"):
        geocube.create_variable("v", "int16", nodata=-1, valid=(5, 1))
    with pytest.raises(AcdError, match="'Köln' is not a valid name") as error:
        geocube.create_variable("Köln", "int16", nodata=-1, valid=(0, 1))
    assert error.value.code is ErrorCode.NAME_INVALID
    with pytest.raises(AcdError, match="dtype") as error:
        geocube.create_variable("v", "byte", nodata=-1, valid=(0, 1))
    assert error.value.code is ErrorCode.SETTING_INVALID
    with pytest.raises(AcdError, match="resolution") as error:
        geocube.create_layout("l", crs="EPSG:32632", resolution=-1)
    assert error.value.code is ErrorCode.LAYOUT_INVALID
    geocube.create_variable("v", "int16", nodata=-1, valid=(0, 1))
    with pytest.raises(AcdError, match=r"no file /nowhere\.tif"):
        geocube.index_files(["/nowhere.tif"], record_of, "v")


def test_without_any_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACD_GEOCUBE_ADDRESS", raising=False)
    with pytest.raises(AcdError, match="no address is given, and ACD_GEOCUBE_ADDRESS is not set"):
        connect()
