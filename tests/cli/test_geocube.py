"""Looking at a Geocube: the commands for cubes, and those for its jobs."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest

from acdtask import log
from acdtask.cli import main
from acdtask.cube.jobs import Consolidation, Level
from acdtask.cube.model import Addition, Dataset, Instance, Record, Variable
from acdtask.raster.data_format import DataFormat
from acdtask.raster.grid import Grid, Layout, RegularGrid
from tests.jobs.rasters import good_pixels, write_tiff
from tests.jobs.standin import SERVED, StandIn, served_cube

Run = Callable[..., tuple[int, str, str]]
FORMAT = DataFormat(dtype="int16", nodata=-1, min=0, max=1000)
LAYOUT = Layout(name="utm", grid=RegularGrid(crs="EPSG:32632", resolution=20, cell_size=64))
AREA = {"type": "Polygon", "coordinates": [[[6.8, 51.0], [6.9, 51.0], [6.9, 51.05], [6.8, 51.0]]]}
RECORD = Record(name="S1_01", datetime=datetime(2021, 6, 1), footprint=AREA)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    def call(*arguments: str) -> tuple[int, str, str]:
        status = main(["--log", "text", "--quiet", *arguments])
        return status, *capsys.readouterr()

    yield call
    log.install(log.LogSettings(), logging.NullHandler())
    logging.captureWarnings(capture=False)


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """A Geocube with a record, which the environment names."""
    monkeypatch.setenv(SERVED, str(tmp_path / "served"))
    monkeypatch.setenv("ACD_GEOCUBE_ADDRESS", "geocube://stands.in:8080")
    monkeypatch.setattr("acdtask.jobs.contract.geocube_of_environment", served_cube)
    monkeypatch.setattr("acdtask.cube.shared.geocube_of_environment", served_cube)
    cube = StandIn(str(tmp_path / "served"))
    image = tmp_path / "S1_01.tif"
    write_tiff(image, good_pixels(1))
    height, width = good_pixels(1).shape
    grid = Grid(crs="EPSG:32632", transform=(20, 0, 400000, 0, -20, 5600000), width=width, height=height)
    dataset = Dataset(
        record_id=RECORD.id, variable="CoherenceVV", instance="master", uri=str(image), dformat=FORMAT, grid=grid
    )
    cube.commit(
        Addition(
            [RECORD],
            [dataset],
            [Variable(name="CoherenceVV", dformat=FORMAT)],
            [Instance(variable="CoherenceVV", name="master")],
            [LAYOUT],
        )
    )
    return cube


@pytest.fixture
def waiting(served: StandIn) -> str:
    """The name of a job that waits for a person."""
    wanted = Consolidation(
        name="acd-night",
        variable="CoherenceVV",
        instance="master",
        layout="utm",
        records=(RECORD.id,),
        level=Level.CRITICAL,
    )
    job = served.consolidate(wanted)
    while served.advance(job):
        pass
    assert served.job(job).waiting
    return wanted.name


@pytest.mark.usefixtures("served")
def test_the_commands_for_cubes_show_what_the_geocube_has(run: Run, tmp_path: Path) -> None:
    site = str(tmp_path / "site")
    assert [one["name"] for one in json.loads(run("records", "--cube", site, "--json")[1])] == ["S1_01"]
    assert run("layout", "show", "utm", "--cube", site)[0] == 0
    facts = json.loads(run("show", "cube", "--cube", site, "--json")[1])
    assert (facts["geocube"], facts["records"]) == ("geocube://stands.in:8080", 1)
    assert json.loads(run("show", "variables", "--cube", site, "--json")[1])[0]["instances"] == ["master"]
    (dataset,) = json.loads(run("show", "dataset", "--cube", site, "--variable", "CoherenceVV", "--json")[1])
    assert (dataset["record"], dataset["uri"]) == ("S1_01", str(tmp_path / "S1_01.tif"))
    aoi = {"type": "Feature", "properties": {}, "name": "koln", "geometry": AREA}
    aoi |= {"start_time": "2021-01-01T00:00:00Z", "end_time": "2022-01-01T00:00:00Z"}
    assert json.loads(run("tiles", "--cube", site, "--aoi", json.dumps(aoi), "--layout", "utm", "--json")[1])
    assert not Path(site).exists()


def test_a_layout_is_made_on_the_geocube(run: Run, served: StandIn, tmp_path: Path) -> None:
    assert run("layout", "create", "web", "--cube", str(tmp_path / "site"), "--zoom", "9")[0] == 0
    assert [one.name for one in served.layouts()] == ["utm", "web"]


@pytest.mark.usefixtures("served")
def test_status_says_what_is_there(run: Run) -> None:
    facts = json.loads(run("geocube", "status", "--json")[1])
    assert facts["variables"] == {"CoherenceVV": ["master"]}
    assert facts["layouts"] == ["utm"]
    told = run("geocube", "status")[1]
    assert "geocube://stands.in:8080" in told
    assert "layouts: utm" in told


def test_a_job_is_listed_shown_and_continued(run: Run, served: StandIn, waiting: str) -> None:
    (listed,) = json.loads(run("geocube", "jobs", "list", "--name", "acd-*", "--json")[1])
    assert (listed["name"], listed["waiting"]) == (waiting, True)
    assert run("geocube", "jobs", "list", "--name", "other-*")[1] == "0 jobs\n"
    shown = run("geocube", "jobs", "show", waiting)[1]
    assert f"{listed['state']}, waits" in shown
    assert "Status: NEW" in shown
    assert run("geocube", "jobs", "continue", waiting)[1] == f"{waiting} goes on from {listed['state']}\n"
    assert not served.job(waiting).waiting


def test_a_job_is_cancelled_and_cannot_be_retried_then(run: Run, served: StandIn, waiting: str) -> None:
    assert run("geocube", "jobs", "cancel", waiting)[0] == 0
    while served.advance(waiting):
        pass
    assert served.job(waiting).state == "FAILED"
    status, out, told = run("geocube", "jobs", "retry", waiting)
    assert (status, out) == (78, "")
    assert told.startswith("error ACD-708: ")


def test_a_job_that_failed_is_shown_with_advice_and_retried(run: Run, served: StandIn) -> None:
    wanted = Consolidation(
        name="acd-lost", variable="CoherenceVV", instance="master", layout="nowhere", records=(RECORD.id,)
    )
    served.consolidate(wanted)
    while served.advance(wanted.name):
        pass
    shown = run("geocube", "jobs", "show", wanted.name)[1]
    assert "INITIALISATIONFAILED" in shown
    assert "then retry the job, or cancel it" in shown
    assert run("geocube", "jobs", "retry", wanted.name)[0] == 0
    assert served.job(wanted.name).state != "INITIALISATIONFAILED"


@pytest.mark.usefixtures("served")
def test_a_job_that_is_not_there_is_refused(run: Run) -> None:
    for command in ("show", "continue", "retry", "cancel"):
        status, _, told = run("geocube", "jobs", command, "none")
        assert status == 78
        assert told.startswith("error ACD-706: ")


def test_without_an_address_nothing_is_asked(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACD_GEOCUBE_ADDRESS", raising=False)
    status, _, told = run("geocube", "status")
    assert status == 2
    assert "ACD_GEOCUBE_ADDRESS is not set" in told
