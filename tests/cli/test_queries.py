"""The commands for looking around, on a real cube in a folder."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from acdtask import log
from acdtask.cli import main
from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import Addition, Dataset, Instance, Record, Variable
from acdtask.raster.data_format import DataFormat
from acdtask.raster.grid import Layout, RegularGrid

Run = Callable[..., tuple[int, str, str]]

AREA = {"type": "Polygon", "coordinates": [[[6.8, 50.9], [7.0, 50.9], [7.0, 51.1], [6.8, 51.1], [6.8, 50.9]]]}
ELSEWHERE = {"type": "Polygon", "coordinates": [[[16.0, 48.0], [16.1, 48.0], [16.1, 48.1], [16.0, 48.0]]]}
LAYOUT = Layout(name="utm", grid=RegularGrid(crs="EPSG:32632", resolution=20, cell_size=512))


@pytest.fixture
def cube(tmp_path: Path) -> str:
    address = str(tmp_path / "cube")
    dformat = DataFormat(dtype="int16", nodata=-1, min=0, max=1000)
    records = [
        Record(
            name=f"S1_{day:02}", datetime=datetime(2021, 6, day, 6, tzinfo=UTC), tags={"orbit": orbit}, footprint=area
        )
        for day, orbit, area in ((1, "ascending", AREA), (7, "descending", AREA), (13, "ascending", ELSEWHERE))
    ]
    datasets = [
        Dataset(
            record_id=record.id,
            variable="CoherenceVV",
            instance="master",
            uri=f"images/{record.name}.tif",
            dformat=dformat,
            grid=LAYOUT.tile(0, -1).grid,
        )
        for record in records
    ]
    LocalCube.create(address).commit(
        Addition(
            records,
            datasets,
            variables=[Variable(name="CoherenceVV", dformat=dformat)],
            instances=[Instance(variable="CoherenceVV", name="master")],
            layouts=[LAYOUT],
        )
    )
    return address


@pytest.fixture
def aoi(tmp_path: Path) -> str:
    file = tmp_path / "aoi.json"
    file.write_text(
        json.dumps(
            {
                "type": "Feature",
                "properties": {},
                "name": "koln",
                "geometry": AREA,
                "start_time": "2021-01-01T00:00:00Z",
                "end_time": "2022-01-01T00:00:00Z",
            }
        )
    )
    return str(file)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    def call(*arguments: str) -> tuple[int, str, str]:
        status = main(["--log", "text", "--quiet", *arguments])
        return status, *capsys.readouterr()

    yield call
    log.install(log.LogSettings(), logging.NullHandler())
    logging.captureWarnings(capture=False)


def names(out: str) -> list[str]:
    return [record["name"] for record in json.loads(out)]


def test_records_are_a_table_with_their_number(run: Run, cube: str) -> None:
    status, out, _ = run("records", "--cube", cube)
    assert status == 0
    assert out.splitlines() == [
        "name   datetime                   tags",
        "S1_01  2021-06-01T06:00:00+00:00  orbit=ascending",
        "S1_07  2021-06-07T06:00:00+00:00  orbit=descending",
        "S1_13  2021-06-13T06:00:00+00:00  orbit=ascending",
        "3 records",
    ]
    assert run("records", "--cube", cube, "--limit", "1")[1].splitlines()[-1] == "3 records, the first 1 shown"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], ["S1_01", "S1_07", "S1_13"]),
        (["--tag", "orbit=asc*"], ["S1_01", "S1_13"]),
        (["--tag", "orbit", "--name", "*7"], ["S1_07"]),
        (["--from", "2021-06-02"], ["S1_07", "S1_13"]),
        (["--to", "2021-06-07"], ["S1_01", "S1_07"]),
        (["--to", "2021-06-07T05:59:59"], ["S1_01"]),
        (["--from", "2021-06-07T08:00:00+02:00", "--to", "2021-06-07"], ["S1_07"]),
        (["--tag", "track"], []),
    ],
)
def test_records_are_chosen_by_tags_dates_and_names(
    run: Run, cube: str, options: list[str], expected: list[str]
) -> None:
    assert names(run("records", "--cube", cube, "--json", *options)[1]) == expected


def test_records_are_chosen_by_area(run: Run, cube: str, aoi: str) -> None:
    assert names(run("records", "--cube", cube, "--json", "--aoi", aoi)[1]) == ["S1_01", "S1_07"]
    assert names(run("records", "--cube", cube, "--json", "--aoi", f"@{aoi}")[1]) == ["S1_01", "S1_07"]


def test_wrong_dates_and_tags_are_refused(run: Run, cube: str) -> None:
    status, out, told = run("records", "--cube", cube, "--from", "yesterday")
    assert (status, out) == (66, "")
    assert told.startswith("error ACD-215: --from is 'yesterday'.\n")
    assert run("records", "--cube", cube, "--tag", "=x")[0] == 2


def test_a_cube_that_is_not_there_is_refused_and_not_made(run: Run, tmp_path: Path) -> None:
    for command in (["records"], ["show", "cube"], ["layout", "list"], ["layout", "create", "web", "--zoom", "9"]):
        status, _, told = run(*command, "--cube", str(tmp_path / "absent"))
        assert status == 66
        assert told.startswith("error ACD-310: ")
    assert not (tmp_path / "absent").exists()


def test_no_cube_is_no_error_when_asked_so(run: Run, tmp_path: Path, cube: str) -> None:
    absent = str(tmp_path / "absent")
    assert run("show", "cube", "--cube", absent, "--if-any")[:2] == (0, f"there is no cube at {absent} yet\n")
    assert run("show", "cube", "--cube", absent, "--if-any", "--json")[:2] == (0, "null\n")
    assert run("show", "cube", "--cube", cube, "--if-any") == run("show", "cube", "--cube", cube)
    assert run("show", "cube", "--cube", "http://elsewhere", "--if-any")[0] == 78


def test_the_cube_can_come_from_the_environment(run: Run, cube: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACD_CUBE", cube)
    assert run("records")[0] == 0


def test_layouts_are_made_listed_and_shown(run: Run, cube: str) -> None:
    regular = ("--crs", "EPSG:32632", "--resolution", "20", "--cell-size", "256", "--origin", "100", "-200")
    assert run("layout", "create", "fine", "--cube", cube, *regular)[0] == 0
    assert run("layout", "create", "fine", "--cube", cube, *regular)[0] == 0
    assert run("layout", "create", "web", "--cube", cube, "--zoom", "9", "--scale", "4")[0] == 0
    made: list[dict[str, Any]] = json.loads(run("layout", "list", "--cube", cube, "--json")[1])
    grids = {layout["name"]: layout["grid"] for layout in made}
    assert set(grids) == {"fine", "utm", "web"}
    assert (grids["fine"]["ox"], grids["fine"]["oy"], grids["fine"]["cell_size"]) == (100, -200, 256)
    assert (grids["web"]["zoom"], grids["web"]["scale"]) == (9, 4)
    assert "web   web mercator, zoom 9, cells of 1024 x 1024 px" in run("layout", "list", "--cube", cube)[1]
    assert "pixels a cell  256 x 256" in run("layout", "show", "fine", "--cube", cube)[1]


@pytest.mark.parametrize(
    ("options", "status", "told"),
    [
        (["--crs", "EPSG:32632", "--resolution", "0"], 78, "ACD-303: resolution should be greater than 0"),
        (["--zoom", "40"], 78, "ACD-303: zoom should be less than or equal to 24"),
        (["--zoom", "4", "--scale", "3"], 78, "ACD-303: scale should be 1, 2, 4, 8 or 16"),
        (["--crs", "EPSG:32633", "--resolution", "20"], 78, "ACD-305"),
        ([], 2, "ACD-100"),
    ],
)
def test_a_wrong_layout_is_refused(run: Run, cube: str, options: list[str], status: int, told: str) -> None:
    before = run("layout", "list", "--cube", cube, "--json")[1]
    outcome = run("layout", "create", "utm", "--cube", cube, *options)
    assert outcome[0] == status
    assert told in outcome[2]
    assert run("layout", "list", "--cube", cube, "--json")[1] == before


def test_tiles_of_an_area_are_listed_and_drawn(run: Run, cube: str, aoi: str, tmp_path: Path) -> None:
    drawn = tmp_path / "tiles.geojson"
    status, out, _ = run("tiles", "--cube", cube, "--aoi", aoi, "--layout", "utm", "--geojson", str(drawn))
    assert status == 0
    features = json.loads(drawn.read_text())["features"]
    assert out.splitlines()[-1] == f"{len(features)} tiles"
    tiles = json.loads(run("tiles", "--cube", cube, "--aoi", aoi, "--layout", "utm", "--json")[1])
    assert len(tiles) == len(features) > 1
    status, _, told = run("tiles", "--cube", cube, "--aoi", aoi, "--layout", "utm", "--geojson", "/nowhere/tiles.json")
    assert status == 78
    assert "/nowhere/tiles.json cannot be written" in told
    assert run("tiles", "--cube", cube, "--aoi", aoi, "--layout", "none")[0] == 78


def test_show_tells_what_is_in_the_cube(run: Run, cube: str, aoi: str) -> None:
    facts = json.loads(run("show", "cube", "--cube", cube, "--json")[1])
    assert (facts["records"], facts["layouts"], facts["variables"]) == (3, 1, 1)
    assert (facts["first"][:10], facts["last"][:10]) == ("2021-06-01", "2021-06-13")
    assert "CoherenceVV  int16  -1      0 to 1000  -     master" in run("show", "variables", "--cube", cube)[1]
    assert (
        "S1_07   images/S1_07.tif  -     512 x 512"
        in run("show", "dataset", "--cube", cube, "--variable", "CoherenceVV")[1]
    )
    assert run("show", "dataset", "--cube", cube, "--variable", "Rain")[0] == 78
    status, _, told = run("show", "patches", "--cube", cube, "--aoi", aoi, "--layout", "utm")
    assert status == 66
    assert told.startswith("error ACD-308: ")


def test_an_empty_cube_is_told_in_words(run: Run, tmp_path: Path) -> None:
    LocalCube.create(str(tmp_path))
    assert run("records", "--cube", str(tmp_path))[1] == "0 records\n"
    assert run("layout", "list", "--cube", str(tmp_path))[1] == "no layouts\n"
    assert run("show", "variables", "--cube", str(tmp_path))[1] == "0 variables\n"
    assert "first      -" in run("show", "cube", "--cube", str(tmp_path))[1]


@pytest.mark.s3
def test_a_cube_in_a_bucket_is_looked_at_alike(run: Run, s3_address: str) -> None:
    LocalCube.create(s3_address).add_layout(LAYOUT)
    assert json.loads(run("layout", "list", "--cube", s3_address, "--json")[1])[0]["name"] == "utm"
