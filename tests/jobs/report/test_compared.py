"""A report compares several monitoring results with the same known events."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from rasterio.warp import transform_geom

from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.report.job import ReportJob, ReportSettings
from tests.jobs.rasters import CRS, ORIGIN
from tests.jobs.small_site import FIRST, LAYOUT, RESOLUTION, STEP, baseline, ends, make_cube, monitor, run, steady

REFERENCE, MONITORED = 21, 2


def write_truth(path: Path) -> Path:
    """The square that loses coherence, and one beside it where nothing happens."""
    last = FIRST + timedelta(days=STEP * (REFERENCE + MONITORED + 1))
    features = [
        {
            "type": "Feature",
            "properties": {"id": name, "start_date": f"{ends(REFERENCE):%Y-%m-%d}", "end_date": f"{last:%Y-%m-%d}"},
            "geometry": square(*corners),
        }
        for name, corners in {"changed": (8, 8, 38, 38), "unchanged": (40, 40, 46, 46)}.items()
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def square(top: int, left: int, bottom: int, right: int) -> Any:
    (west, east), (north, south) = (
        (ORIGIN[0] + RESOLUTION * left, ORIGIN[0] + RESOLUTION * right),
        (ORIGIN[1] - RESOLUTION * top, ORIGIN[1] - RESOLUTION * bottom),
    )
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return transform_geom(CRS, "EPSG:4326", {"type": "Polygon", "coordinates": [ring]})


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cube with a monitoring result that finds the change, and one whose threshold nothing reaches."""
    folder = tmp_path_factory.mktemp("compared")
    cube = make_cube(folder, REFERENCE + MONITORED, steady(REFERENCE))
    baseline(cube, end=ends(REFERENCE - 1))
    monitor(cube)
    monitor(cube, name="blind", high=500.0)
    write_truth(folder / "truth.geojson")
    return cube


def settings(cube: Path, **others: Any) -> ReportSettings:
    known = {"aoi": str(cube.parent / "aoi.json"), "layout": LAYOUT, "truth": str(cube.parent / "truth.geojson")}
    return ReportSettings(**{**known, **others})


def compared(cube: Path) -> dict[str, list[str]]:
    """The rows of the table, by name of the result."""
    (page,) = cube.glob("products/site/report/*/index.html")
    table = re.search(r'<table id="compared">(.*?)</table>', page.read_text(), re.DOTALL)
    if table is None:
        return {}
    rows = re.findall(r'<th scope="row">([^<]*)</th>(.*?)</tr>', table[1])
    return {name: re.findall(r'<td class="n">([^<]*)</td>', cells) for name, cells in rows}


def test_each_result_is_scored_with_the_same_events(cube: Path) -> None:
    run(ReportJob(), settings(cube), cube)
    assert compared(cube) == {}
    run(ReportJob(), settings(cube, compare="blind"), cube)
    rows = compared(cube)
    assert list(rows) == ["monitor", "blind"]
    assert rows["monitor"][0].startswith("1 of 2")
    assert rows["monitor"][1] == "0 of 2"
    assert rows["blind"][0].startswith("0 of 2")
    assert rows["blind"][1] == "0 of 0"


def test_a_report_is_up_to_date_until_a_compared_result_changes(cube: Path) -> None:
    run(ReportJob(), settings(cube, compare="blind"), cube)
    assert "up to date" in run(ReportJob(), settings(cube, compare="blind"), cube).lines[0]
    monitor(cube, name="blind", high=3.0)
    run(ReportJob(), settings(cube, compare="blind"), cube)
    assert compared(cube)["blind"] == compared(cube)["monitor"]


def test_a_result_that_does_not_exist_is_named(cube: Path) -> None:
    with pytest.raises(AcdError, match="nobody") as unknown:
        run(ReportJob(), settings(cube, compare="blind, nobody"), cube)
    assert unknown.value.code is ErrorCode.MONITOR_UNKNOWN


@pytest.mark.parametrize("wrong", [{"truth": ""}, {"compare": "a b"}])
def test_names_must_be_names_and_need_known_events(cube: Path, wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        settings(cube, **{"compare": "blind", **wrong})
