"""Records on a Geocube, products in a site: the same products as in one cube, known in both places, and once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import Addition, Dataset, Instance, RecordQuery, Slice, Variable
from acdtask.cube.shared import SharedCube
from acdtask.engine.processes import WorkerPool
from acdtask.engine.stages import gather_round, load_shard, make_plan, open_site, run_shard
from acdtask.engine.workflow_limits import POD_SECONDS
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.baseline.job import BaselineJob
from acdtask.jobs.baseline.settings import BaselineSettings
from acdtask.jobs.consolidate.job import ConsolidateJob
from acdtask.jobs.consolidate.on_geocube import FOLLOW_SECONDS
from acdtask.jobs.consolidate.settings import ConsolidateSettings
from acdtask.jobs.ingest.job import IngestJob
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.monitor.job import MonitorJob
from acdtask.jobs.monitor.settings import MonitorSettings
from acdtask.raster.data_format import DataFormat
from acdtask.raster.grid import Grid, Layout, RegularGrid, WebMercatorGrid
from tests.conftest import CHECKOUT
from tests.jobs.chain import LAYOUT, SCENE, Chain, digests, reference_end, run_chain, simulate
from tests.jobs.compare import counts, halves, products, run
from tests.jobs.rasters import good_pixels, write_tiff
from tests.jobs.standin import SERVED, StandIn, served_cube

WITHOUT = Chain(consolidate=False)
MERCATOR = Layout(name="z12", grid=WebMercatorGrid(zoom=12))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(tmp_path_factory.mktemp("scene"))


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(0) as inline:
        yield inline


@pytest.fixture(scope="module")
def local(scene: Path, tmp_path_factory: pytest.TempPathFactory, pool: WorkerPool) -> Path:
    cube = tmp_path_factory.mktemp("local") / "cube"
    run_chain(scene, str(cube), pool, WITHOUT)
    return cube


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder behind the Geocube that the environment names."""
    monkeypatch.setenv(SERVED, str(tmp_path / "served"))
    monkeypatch.setattr("acdtask.jobs.contract.geocube_of_environment", served_cube)
    return tmp_path / "served"


def test_the_chain_makes_the_same_files_and_both_know_them(
    scene: Path, local: Path, served: Path, tmp_path: Path, pool: WorkerPool
) -> None:
    site = tmp_path / "site"
    run_chain(scene, str(site), pool, WITHOUT)
    assert products(site) == products(local)
    assert any(name.endswith("index.html") for name in products(site))
    own, theirs = LocalCube.open(str(site)), LocalCube.open(str(served))
    made = {record.id for record in own.records(RecordQuery())}
    assert made < {record.id for record in theirs.records(RecordQuery())}
    assert len(made) == 1 + SCENE.monitored_pairs
    for variable in own.variables():
        (instance,) = own.instances(variable.name)
        mine = own.datasets(variable.name, instance.name)
        assert len(mine) > 0
        if variable.dformat.dtype == "int64":
            assert variable.name not in [shared.name for shared in theirs.variables()]
            continue
        there = theirs.datasets(variable.name, instance.name)
        assert [str(site / dataset.uri) for dataset in mine] == [dataset.uri for dataset in there]
    assert own.layout(LAYOUT) == theirs.layout(LAYOUT)


def test_a_second_run_indexes_nothing_twice(scene: Path, served: Path, tmp_path: Path, pool: WorkerPool) -> None:
    site = tmp_path / "site"
    run_chain(scene, str(site), pool, WITHOUT)
    before = counts(served), counts(site), digests(site)
    outcomes = run_chain(scene, str(site), pool, WITHOUT)
    assert [bool(outcome.plan.nothing_to_do) for outcome in outcomes] == [True] * 4
    assert (counts(served), counts(site), digests(site)) == before


def test_kills_between_the_two_are_mended_by_the_next_run(
    scene: Path, local: Path, served: Path, tmp_path: Path
) -> None:
    """Killed when the Geocube has the layout, then the baseline, then the images, and the site has not."""
    site = tmp_path / "site"

    def chain(deadly: int) -> dict[str, int]:
        command = [sys.executable, "-m", "tests.jobs.standin", str(scene), str(site), str(deadly)]
        done = subprocess.run(command, cwd=CHECKOUT, env={**os.environ, SERVED: str(served)}, check=False)
        assert done.returncode == (9 if deadly else 0)
        return counts(served)

    there = [chain(deadly) for deadly in (1, 2, 3, 0)]
    assert [call["heads"] for call in there] == [2, 3, 4, 4]
    assert there[3] == there[2]
    assert products(site) == products(local)
    assert len(LocalCube.open(str(site)).records(RecordQuery())) == 1 + SCENE.monitored_pairs


def test_web_mercator_and_grouped_dates_are_the_same(
    scene: Path, served: Path, tmp_path: Path, pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    aoi = str(scene / "aoi.json")
    found = {}
    for name in ("site", "local"):
        if name == "local":
            monkeypatch.delenv(SERVED)
        site = tmp_path / name
        halves(scene / "images", tmp_path / "halves")
        run(IngestJob(), IngestSettings(source=str(tmp_path / "halves")), site, pool)
        open_site(str(site)).cube.add_layout(MERCATOR)
        common = {"aoi": aoi, "layout": MERCATOR.name}
        run(BaselineJob(), BaselineSettings(**common, end=reference_end()), site, pool)
        outcome = run(MonitorJob(), MonitorSettings(**common, min_area=20), site, pool)
        assert [len(image.records) for image in outcome.plan.content.images] == [2] * SCENE.monitored_pairs
        found[name] = products(site)
    assert found["site"] == found["local"]
    assert sum("/z_" in name and name.endswith(".tif") for name in found["site"]) > SCENE.monitored_pairs


def test_records_that_are_there_need_no_ingest(
    scene: Path, local: Path, served: Path, tmp_path: Path, pool: WorkerPool
) -> None:
    """Another site brought them; here only a layout is to be made."""
    run(IngestJob(), IngestSettings(source=str(scene / "images")), tmp_path / "other", pool)
    before, site = counts(served), tmp_path / "site"
    there = IngestSettings(source="geocube", aoi=str(scene / "aoi.json"), make_layout=LAYOUT, cell_size=64)
    assert not run(IngestJob(), there, site, pool).plan.nothing_to_do
    assert [layout.name for layout in LocalCube.open(str(served)).layouts()] == [LAYOUT]
    said = run(IngestJob(), there, site, pool).plan.nothing_to_do
    assert said == f"{SCENE.reference_pairs + SCENE.monitored_pairs} records of CoherenceVV:master are on the Geocube"
    assert counts(served) == {**before, "heads": before["heads"] + 1}
    baseline = BaselineSettings(aoi=str(scene / "aoi.json"), layout=LAYOUT, end=reference_end())
    run(BaselineJob(), baseline, site, pool)
    folder = "products/koln-demo/baseline/"
    ours = {name: one for name, one in products(site).items() if name.startswith(folder)}
    assert ours == {name: one for name, one in products(local).items() if name.startswith(folder)}
    assert len(ours) > 4
    assert not [name for name in digests(site) if name.startswith("data/")]


def test_what_is_published_is_what_this_site_has(scene: Path, served: Path, tmp_path: Path, pool: WorkerPool) -> None:
    """A second site on the same Geocube does not take the first one's products for its own."""
    run_chain(scene, str(tmp_path / "site"), pool, WITHOUT)
    second = BaselineSettings(aoi=str(scene / "aoi.json"), layout=LAYOUT, end=reference_end(), name="second")
    assert not run(BaselineJob(), second, tmp_path / "second", pool).plan.nothing_to_do
    assert run(BaselineJob(), second, tmp_path / "second", pool).plan.nothing_to_do


def test_without_a_geocube_its_records_are_no_source(scene: Path, tmp_path: Path, pool: WorkerPool) -> None:
    with pytest.raises(AcdError) as raised:
        run(IngestJob(), IngestSettings(source="geocube"), tmp_path / "site", pool)
    assert raised.value.code is ErrorCode.SETTING_INVALID
    assert "no Geocube is configured" in raised.value.detail


def test_an_area_without_records_is_told(scene: Path, served: Path, tmp_path: Path, pool: WorkerPool) -> None:
    run(IngestJob(), IngestSettings(source=str(scene / "images")), tmp_path / "other", pool)
    aoi = json.loads((scene / "aoi.json").read_text())
    aoi["geometry"] = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}
    with pytest.raises(AcdError) as raised:
        run(IngestJob(), IngestSettings(source="geocube", aoi=json.dumps(aoi)), tmp_path / "site", pool)
    assert raised.value.code is ErrorCode.AOI_OUTSIDE


def test_verified_records_that_differ_are_refused(served: Path, tmp_path: Path, pool: WorkerPool) -> None:
    source = tmp_path / "source"
    for number, day in enumerate((7, 13)):
        write_tiff(source / f"S1_20210101_202101{day:02}_VV.tif", good_pixels(number))
    settings = IngestSettings(source=str(source), on_known="verify")
    run(IngestJob(), settings, tmp_path / "site", pool)
    before = counts(served)
    run(IngestJob(), settings, tmp_path / "site", pool)
    assert counts(served) == before
    write_tiff(source / "S1_20210101_20210107_VV.tif", good_pixels(5))
    with pytest.raises(AcdError) as raised:
        run(IngestJob(), settings, tmp_path / "site", pool)
    assert raised.value.code is ErrorCode.DATASET_CONFLICT
    assert counts(served) == before


def test_known_records_are_compared_with_what_the_site_brought(served: Path, tmp_path: Path, pool: WorkerPool) -> None:
    source = tmp_path / "source"
    for number, day in enumerate((7, 13)):
        write_tiff(source / f"S1_20210101_202101{day:02}_VV.tif", good_pixels(number))
    settings = IngestSettings(source=str(source))
    run(IngestJob(), settings, tmp_path / "site", pool)
    before = counts(served)
    assert run(IngestJob(), settings, tmp_path / "site", pool).plan.nothing_to_do
    other = run(IngestJob(), settings, tmp_path / "other site", pool).plan
    assert "2 of them were not compared with their files" in other.nothing_to_do
    changed = source / "S1_20210101_20210107_VV.tif"
    os.utime(changed, (1, 1))
    touched = run(IngestJob(), settings, tmp_path / "site", pool)
    assert "compared with the cube's pixels: 1" in touched.lines
    assert run(IngestJob(), settings, tmp_path / "site", pool).plan.nothing_to_do
    write_tiff(changed, good_pixels(5))
    (failure,) = run(IngestJob(), settings, tmp_path / "site", pool).unusable.values()
    assert failure.number == ErrorCode.SOURCE_DIFFERS.value.number
    assert str(changed) in failure.message
    assert "delete the records on the Geocube" in failure.fix
    other_range = IngestSettings(source=str(source), source_minimum=0.0, source_maximum=2.0)
    with pytest.raises(AcdError) as raised:
        run(IngestJob(), other_range, tmp_path / "site", pool)
    assert raised.value.code is ErrorCode.SOURCE_DIFFERS
    assert str(changed) in raised.value.detail
    assert "delete the records on the Geocube" in raised.value.fix
    assert counts(served) == before
    kept = IngestSettings(source=str(source), on_known="keep")
    assert not run(IngestJob(), kept, tmp_path / "site", pool).unusable
    assert run(IngestJob(), kept, tmp_path / "site", pool).plan.nothing_to_do
    into = IngestSettings(source=str(source), instance="again")
    run(IngestJob(), into, tmp_path / "site", pool)
    cube = open_site(str(tmp_path / "site")).cube
    for instance, seed in (("master", 0), ("again", 5)):
        (dataset,) = [
            dataset
            for dataset in cube.datasets("CoherenceVV", instance)
            if "20210107" in dataset.uri.rpartition("/")[2]
        ]
        slices = [Slice(label="first", datasets=(dataset,))]
        pixels = cube.read(dataset.grid, slices, settings.definition())
        np.testing.assert_allclose(np.squeeze(pixels), np.rint(good_pixels(seed) * 1000), atol=1)


def test_a_variable_that_others_described_is_taken_as_it_is(served: Path, tmp_path: Path, pool: WorkerPool) -> None:
    settings = IngestSettings(source=str(tmp_path / "source"))
    write_tiff(tmp_path / "source" / "S1_20210101_20210107_VV.tif", good_pixels(1))
    theirs = settings.definition().model_copy(update={"description": "made by the processor", "resampling": "average"})
    StandIn(str(served)).commit(Addition(variables=[theirs]))
    run(IngestJob(), settings, tmp_path / "site", pool)
    assert LocalCube.open(str(served)).variables() == [theirs]
    assert counts(served)["datasets"] == 1


def consolidation(scene: Path, **more: Any) -> ConsolidateSettings:
    return ConsolidateSettings(aoi=str(scene / "aoi.json"), layout=LAYOUT, **more)


def test_consolidation_is_a_job_of_the_geocube_started_once(
    scene: Path, served: Path, tmp_path: Path, pool: WorkerPool
) -> None:
    site = tmp_path / "site"
    run_chain(scene, str(site), pool, Chain(consolidate=True))
    (job,) = StandIn(str(served)).jobs()
    assert (job.name.partition("-")[0], job.state) == ("acd", "DONE")
    assert not [name for name in digests(site) if name.startswith("consolidated/")]
    assert [name for name in digests(served) if name.startswith("consolidated/")]
    said = run(ConsolidateJob(), consolidation(scene), site, pool).plan.nothing_to_do
    images = SCENE.reference_pairs + SCENE.monitored_pairs
    assert said == f"job {job.name} has consolidated these {images} records"
    run(ConsolidateJob(), consolidation(scene, end=reference_end()), site, pool)
    assert len(StandIn(str(served)).jobs()) == 2


def test_a_consolidation_goes_on_where_it_runs_already(
    scene: Path, served: Path, tmp_path: Path, pool: WorkerPool
) -> None:
    """Somebody started the job, and was killed; whoever comes next follows it, and tells how far it is."""
    site = open_site(str(tmp_path / "site"))
    run(IngestJob(), IngestSettings(source=str(scene / "images")), tmp_path / "site", pool)
    grid = RegularGrid(crs="EPSG:32632", resolution=20, cell_size=64)
    site.cube.add_layout(Layout(name=LAYOUT, grid=grid))
    plan = make_plan(ConsolidateJob(), consolidation(scene), site)
    shard = load_shard(ConsolidateJob(), plan, 0, site)
    StandIn(str(served)).consolidate(shard.work.consolidation)
    told: list[int] = []
    run_shard(ConsolidateJob(), plan, "write", 0, site, told.append)
    assert len(StandIn(str(served)).jobs()) == 1
    assert told == sorted(told)
    assert told[-1] == shard.units == plan.units
    gather_round(ConsolidateJob(), plan, "write", site)
    assert ConsolidateJob().findings(plan, site).figures == {"arrays": plan.units}
    assert len(shard.work.names) == plan.units


def test_a_stuck_consolidation_ends_the_shard_and_a_cancelled_one_is_started_anew(
    scene: Path, served: Path, tmp_path: Path, pool: WorkerPool
) -> None:
    site = tmp_path / "site"
    run(IngestJob(), IngestSettings(source=str(scene / "images")), site, pool)
    layout = Layout(name=LAYOUT, grid=RegularGrid(crs="EPSG:32632", resolution=20, cell_size=64))
    LocalCube.create(str(site)).add_layout(layout)
    for _ in range(2):
        with pytest.raises(AcdError) as raised:
            run(ConsolidateJob(), consolidation(scene), site, pool)
        assert raised.value.code is ErrorCode.JOB_STUCK
    there = StandIn(str(served))
    (stuck,) = there.jobs()
    there.cancel_job(stuck.id)
    while there.advance(stuck.id):
        pass
    there.add_layout(layout)
    run(ConsolidateJob(), consolidation(scene), site, pool)
    assert [(job.name, job.state) for job in there.jobs()] == [(stuck.name, "FAILED"), (f"{stuck.name}-2", "DONE")]
    assert run(ConsolidateJob(), consolidation(scene), site, pool).plan.nothing_to_do


def test_a_pod_is_not_ended_while_it_follows_a_job() -> None:
    assert POD_SECONDS["run"] > FOLLOW_SECONDS + 600


GRID = Grid(crs="EPSG:32632", transform=(20, 0, 400000, 0, -20, 5600000), width=4, height=4)
SHORT = DataFormat(dtype="int16", nodata=-1, min=0, max=1000)


@pytest.fixture
def shared(tmp_path: Path) -> SharedCube:
    return SharedCube(StandIn(str(tmp_path / "served")), str(tmp_path / "site"))


def test_the_catalogue_is_that_of_both(shared: SharedCube) -> None:
    theirs = Variable(name="Theirs", dformat=SHORT)
    exact = Variable(name="Exact", dformat=DataFormat(dtype="int64", nodata=-1, min=0, max=10))
    shared.geocube.commit(
        Addition(variables=[theirs], instances=[Instance(variable="Theirs", name="a")], layouts=[MERCATOR])
    )
    assert (shared.own, shared.variables(), shared.layouts()) == (None, [theirs], [MERCATOR])
    shared.add_variable(exact)
    shared.add_instance(Instance(variable="Exact", name="x"))
    shared.add_instance(Instance(variable="Theirs", name="b"))
    assert shared.variables() == [exact, theirs]
    assert [instance.name for instance in shared.instances("Theirs")] == ["a", "b"]
    assert [instance.name for instance in shared.instances("Exact")] == ["x"]
    assert shared.variable("Exact") == exact
    assert [variable.name for variable in shared.geocube.variables()] == ["Theirs"]
    for ask in (shared.instances, shared.variable):
        with pytest.raises(AcdError) as raised:
            ask("None")
        assert raised.value.code is ErrorCode.VARIABLE_UNKNOWN
    with pytest.raises(AcdError) as raised:
        shared.layout("none")
    assert raised.value.code is ErrorCode.LAYOUT_UNKNOWN


def test_an_image_of_both_rooms_is_a_bug_and_no_image_is_none(shared: SharedCube) -> None:
    variable = Variable(name="V", dformat=SHORT)
    dataset = Dataset(record_id="r", variable="V", instance="i", uri="geocube:r", dformat=SHORT, grid=GRID)
    mixed = Slice(label="mixed", datasets=(dataset, dataset.model_copy(update={"uri": "a.tif"})))
    with pytest.raises(AcdError) as raised:
        shared.read(GRID, [mixed], variable)
    assert raised.value.code is ErrorCode.BUG
    assert shared.read(GRID, [], variable).shape == (0, 4, 4)
    nothing = shared.read(GRID, [Slice(label="", datasets=())], variable)
    np.testing.assert_array_equal(nothing, np.full((1, 4, 4), -1, np.int16))
