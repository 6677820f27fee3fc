"""An ingester as the source of `acdtask ingest`, from posting to the records in the cube."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from acdtask.cube.aoi import load_aoi
from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import Dataset, Instance, Record, Variable
from acdtask.engine.stages import make_plan, open_site
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.contract import Plan
from acdtask.jobs.ingest.job import IngestJob
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.raster.data_format import DataFormat
from acdtask.raster.grid import Grid
from tests.conftest import CHECKOUT
from tests.ingester.area import passes, payload
from tests.ingester.conftest import TOKEN
from tests.ingester.standin import Standin

FORMAT = DataFormat(dtype="int16", nodata=-1, min=0, max=1000)
GRID = Grid(crs="EPSG:32632", transform=(20.0, 0.0, 350000.0, 0.0, -20.0, 5650000.0), width=64, height=64)
Planned = Callable[..., Plan[Any, Any]]


@pytest.fixture
def cube(tmp_path: Path) -> LocalCube:
    """The cube that the ingester indexes into."""
    made = LocalCube.create(str(tmp_path / "cube"))
    made.add_variable(Variable(name="CoherenceVV", dformat=FORMAT, scale=0.001))
    made.add_instance(Instance(variable="CoherenceVV", name="master"))
    return made


@pytest.fixture
def planned(tmp_path: Path, cube: LocalCube, address: str, monkeypatch: pytest.MonkeyPatch) -> Planned:
    monkeypatch.setenv("ACD_INGESTER_ADDRESS", address)
    monkeypatch.setenv("ACD_INGESTER_TOKEN", TOKEN)

    def plan(aoi: str = "", **settings: Any) -> Plan[Any, Any]:
        chosen = IngestSettings(source="geocube-ingester", aoi=aoi or payload(), **settings)
        return make_plan(IngestJob(), chosen, open_site(str(tmp_path / "cube")))

    del cube
    return plan


@pytest.fixture(autouse=True)
def _catalogue(standin: Standin) -> None:
    standin.catalogue = passes(3)


def index(cube: LocalCube, standin: Standin, *, without_image: int = 1) -> None:
    """Fill the cube as the ingester's workers do: a record per scene, and images except for the first ones."""
    area = load_aoi(payload()).geojson
    scenes = sorted(standin.scenes.values(), key=lambda row: row["data"]["date"])
    records = [
        Record(name=row["source_id"], datetime=row["data"]["date"], tags={"area": "koln"}, footprint=area)
        for row in scenes
        if row["status"] == "DONE"
    ]
    datasets = [
        Dataset(
            record_id=record.id,
            variable="CoherenceVV",
            instance="master",
            uri=f"/data/{record.name}",
            dformat=FORMAT,
            grid=GRID,
        )
        for record in records[without_image:]
    ]
    cube.index(records, datasets)


def test_the_aoi_is_posted_and_the_plan_says_that_it_is_not_done(planned: Planned, standin: Standin) -> None:
    for _ in range(2):  # a retry looks, and posts nothing
        with pytest.raises(AcdError, match="AOI koln is working: scenes 3 pending; tiles 6 new") as caught:
            planned()
        assert (caught.value.code, caught.value.code.value.exit_status) == (ErrorCode.INGESTER_WAITING, 75)
        assert "--wait-minutes" in caught.value.fix
    assert standin.posts == 1


def test_when_it_is_done_the_plan_says_what_the_cube_has(planned: Planned, standin: Standin, cube: LocalCube) -> None:
    with pytest.raises(AcdError):
        planned()
    standin.work()
    index(cube, standin)
    plan = planned()
    assert plan.nothing_to_do == "the ingester processed 3 scenes of AOI koln; the cube has images of 2"
    assert plan.shards == 0
    assert plan.notes["scenes of the ingester"] == "3 done"
    assert standin.posts == 1


def test_it_waits_as_long_as_it_may(planned: Planned, standin: Standin, cube: LocalCube) -> None:
    looks = iter(range(100))
    table = standin.table

    def table_and_work(aoi: str) -> str:
        if next(looks) == 2:
            standin.work()
            index(cube, standin)
        return table(aoi)

    standin.table = table_and_work  # type: ignore[method-assign]  # the workers finish while somebody looks
    assert planned(wait_minutes=1).nothing_to_do.endswith("images of 2")


def test_what_failed_for_good_is_named_and_a_few_are_tolerated(
    planned: Planned, standin: Standin, cube: LocalCube
) -> None:
    with pytest.raises(AcdError):
        planned()
    standin.work(lambda kind, row: ("FAILED", "no product") if (kind, row["id"]) == ("scene", 2) else ("DONE", ""))
    index(cube, standin)
    with pytest.raises(AcdError, match=r"S1A_IW_SLC__1SDV_20210119 \(id 2, FAILED\): no product") as caught:
        planned(wait_minutes=5, unusable_files=0)
    assert (caught.value.code, caught.value.code.value.retryable) == (ErrorCode.INGESTER_FAILED, False)
    for plan in (planned(), planned(accept_failed=True, unusable_files=0)):
        assert plan.nothing_to_do == "the ingester processed 2 scenes of AOI koln; the cube has images of 1"
        assert len(plan.notes["excluded, failed permanently"]) == 1
        (failure,) = plan.unusable.values()
        assert str(failure) == "ACD-723: S1A_IW_SLC__1SDV_20210119 (id 2, FAILED): no product"


def test_when_most_scenes_failed_it_stops(planned: Planned, standin: Standin) -> None:
    with pytest.raises(AcdError):
        planned()
    standin.work(lambda kind, row: ("FAILED", "no product") if (kind, row["id"]) != ("scene", 2) else ("DONE", ""))
    with pytest.raises(AcdError) as caught:
        planned()
    assert caught.value.code is ErrorCode.INGESTER_FAILED


def test_new_scenes_are_added_when_the_old_ones_are_done(planned: Planned, standin: Standin, cube: LocalCube) -> None:
    with pytest.raises(AcdError):
        planned(post_again=True)
    standin.catalogue = passes(5)
    with pytest.raises(AcdError, match="scenes 3 pending"):  # not while it works
        planned(post_again=True)
    standin.work()
    with pytest.raises(AcdError, match="scenes 3 done, 2 pending"):
        planned(post_again=True)
    standin.work()
    index(cube, standin)
    assert planned(post_again=True).nothing_to_do.startswith("the ingester processed 5 scenes")
    assert standin.published.count("scene 1") == 1
    posts = standin.posts
    planned()
    assert standin.posts == posts


def test_no_scene_is_nothing_to_do(planned: Planned, standin: Standin) -> None:
    plan = planned(aoi=payload(start_time="2023-01-01T00:00:00Z", end_time="2023-02-01T00:00:00Z"))
    assert plan.nothing_to_do == "the ingester found no scene for AOI koln"
    assert standin.aois == ["koln"]


def test_scenes_outside_the_time_range_of_the_aoi_are_not_counted(
    planned: Planned, standin: Standin, cube: LocalCube
) -> None:
    with pytest.raises(AcdError):
        planned()
    standin.work()
    index(cube, standin, without_image=0)
    later = payload(start_time="2021-01-15T00:00:00Z")
    assert planned(aoi=later).nothing_to_do.startswith(
        "the ingester processed 2 scenes of AOI koln; the cube has images of 2"
    )


def test_records_that_are_in_another_cube_are_told(planned: Planned, standin: Standin) -> None:
    with pytest.raises(AcdError):
        planned()
    standin.work()
    with pytest.raises(AcdError, match="processed 3 scenes of AOI koln, but the cube has no record of them") as caught:
        planned()
    assert caught.value.code is ErrorCode.INPUT_MISSING


def test_without_a_cube_nothing_is_posted(planned: Planned, standin: Standin, tmp_path: Path) -> None:
    settings = IngestSettings(source="geocube-ingester", aoi=payload())
    with pytest.raises(AcdError, match="the ingester does not create one") as caught:
        make_plan(IngestJob(), settings, open_site(str(tmp_path / "other")))
    assert (caught.value.code, standin.posts) == (ErrorCode.CUBE_UNKNOWN, 0)
    del planned


def test_another_payload_of_the_same_name_is_refused_at_once(planned: Planned) -> None:
    with pytest.raises(AcdError):
        planned()
    with pytest.raises(AcdError, match=r"graph_config\.resolution 20, not 10") as caught:
        planned(aoi=payload(graph_config={"projection": "EPSG:32632", "resolution": "10"}))
    assert caught.value.code is ErrorCode.INGESTER_REFUSED


def test_the_layout_of_the_aoi_is_made(planned: Planned, standin: Standin, cube: LocalCube) -> None:
    with pytest.raises(AcdError):
        planned(make_layout="utm")
    standin.work()
    index(cube, standin)
    for _ in range(2):
        planned(make_layout="utm")
    assert [(layout.name, layout.crs) for layout in cube.layouts()] == [("utm", "EPSG:32632")]


def test_an_aoi_is_needed() -> None:
    with pytest.raises(ValueError, match="source geocube-ingester needs an AOI"):
        IngestSettings(source="geocube-ingester")


def test_how_long_to_wait_is_no_part_of_what_comes_out() -> None:
    patient = IngestSettings(source="geocube-ingester", aoi=payload())
    other = IngestSettings(
        source="geocube-ingester", aoi=payload(), wait_minutes=5, post_again=True, accept_failed=True
    )
    assert patient.science() == other.science()


def test_a_monitor_on_a_schedule_waits_for_the_ingester_and_goes_on(
    standin: Standin, cube: LocalCube, address: str, tmp_path: Path
) -> None:
    """As in a workflow: a process that exits with 75 until the ingester is done."""
    (tmp_path / "aoi.json").write_text(payload())
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "ACD_INGESTER_ADDRESS": address, "ACD_LOG": "json"}
    environment["ACD_INGESTER_TOKEN"] = TOKEN
    command = [sys.executable, "-m", "acdtask", "ingest", "local", "--cube", str(tmp_path / "cube")]
    command += ["--source", "geocube-ingester", "--aoi", str(tmp_path / "aoi.json")]

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)

    first = run()
    assert first.returncode == 75, first.stderr
    failed = json.loads(first.stderr.splitlines()[-1])
    assert (failed["event"], failed["name"], failed["retryable"]) == ("command.failed", "INGESTER_WAITING", True)
    standin.work()
    index(cube, standin)
    second = run()
    assert second.returncode == 0, second.stderr
    assert "the cube has images of 2" in second.stdout
    assert standin.posts == 1
    assert TOKEN not in first.stdout + first.stderr + second.stdout + second.stderr
