"""All jobs through our client on `acdtask serve`, a process of its own: the same bytes as on a cube without server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from acdtask.cube.geocube.connection import Connection
from acdtask.cube.geocube.cube import GeocubeCube
from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import RecordQuery
from acdtask.engine.processes import WorkerPool
from acdtask.engine.stages import gather_round, make_plan, open_site, run_shard
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.baseline.job import BaselineJob
from acdtask.jobs.baseline.settings import BaselineSettings
from acdtask.jobs.consolidate.job import ConsolidateJob
from acdtask.jobs.consolidate.settings import ConsolidateSettings
from acdtask.jobs.ingest.job import IngestJob
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.monitor.job import MonitorJob
from acdtask.jobs.monitor.settings import MonitorSettings
from acdtask.raster.grid import Layout, WebMercatorGrid
from tests.jobs.chain import LAYOUT, SCENE, Chain, digests, reference_end, run_chain, simulate
from tests.jobs.compare import counts, halves, products, run
from tests.jobs.rasters import good_pixels, write_tiff
from tests.jobs.serving import served

MERCATOR = Layout(name="z12", grid=WebMercatorGrid(zoom=12))
KEY = "a-key-of-this-test"


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
    run_chain(scene, str(cube), pool, Chain(consolidate=False))
    return cube


def client() -> GeocubeCube:
    """Of the server that the environment names."""
    connection = Connection.from_environment()
    assert connection is not None
    return GeocubeCube(connection)


@pytest.fixture
def geocube(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that is served; the environment names the server and its key."""
    with served(tmp_path / "served", ACD_SERVE_KEY=KEY) as address:
        monkeypatch.setenv("ACD_GEOCUBE_ADDRESS", address)
        monkeypatch.setenv("ACD_GEOCUBE_KEY", KEY)
        yield tmp_path / "served"


def test_the_whole_chain_in_worker_processes_makes_the_same_files(
    scene: Path, local: Path, geocube: Path, tmp_path: Path
) -> None:
    """Ingest, layout, consolidation by the server, baseline, monitor and report; twice, and nothing is there twice."""
    site = tmp_path / "site"
    with WorkerPool(2) as two:
        run_chain(scene, str(site), two, Chain(consolidate=True))
        assert products(site) == products(local)
        before = counts(geocube), counts(site), digests(site)
        outcomes = run_chain(scene, str(site), two, Chain(consolidate=True))
    assert [bool(outcome.plan.nothing_to_do) for outcome in outcomes] == [True] * 5
    assert (counts(geocube), counts(site), digests(site)) == before
    own, theirs = LocalCube.open(str(site)), client()
    made = {record.id for record in own.records(RecordQuery())}
    assert len(made) == 1 + SCENE.monitored_pairs
    assert made < {record.id for record in theirs.records(RecordQuery())}
    for variable in own.variables():
        if variable.dformat.dtype == "int64":
            assert variable.name not in [shared.name for shared in theirs.variables()]
        else:
            (instance,) = own.instances(variable.name)
            mine = {dataset.record_id for dataset in own.datasets(variable.name, instance.name)}
            assert theirs.having(variable.name, instance.name, made) == mine
            assert theirs.variable(variable.name) == variable


def test_web_mercator_and_dates_of_several_records_are_the_same(
    scene: Path, geocube: Path, tmp_path: Path, pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    halves(scene / "images", tmp_path / "halves")
    found = {}
    for name in ("site", "local"):
        if name == "local":
            monkeypatch.delenv("ACD_GEOCUBE_ADDRESS")
        site = tmp_path / name
        run(IngestJob(), IngestSettings(source=str(tmp_path / "halves")), site, pool)
        open_site(str(site)).cube.add_layout(MERCATOR)
        common = {"aoi": str(scene / "aoi.json"), "layout": MERCATOR.name}
        run(BaselineJob(), BaselineSettings(**common, end=reference_end()), site, pool)
        run(MonitorJob(), MonitorSettings(**common, min_area=20), site, pool)
        found[name] = products(site)
    assert found["site"] == found["local"]
    assert sum("/z_" in name and name.endswith(".tif") for name in found["site"]) > SCENE.monitored_pairs


def test_records_that_are_there_are_worked_on_as_they_are(
    scene: Path, local: Path, geocube: Path, tmp_path: Path, pool: WorkerPool
) -> None:
    """They came from elsewhere; this site makes the layout and its products alone."""
    run(IngestJob(), IngestSettings(source=str(scene / "images")), tmp_path / "elsewhere", pool)
    site, aoi = tmp_path / "site", str(scene / "aoi.json")
    there = IngestSettings(source="geocube", aoi=aoi, make_layout=LAYOUT, cell_size=64)
    assert not run(IngestJob(), there, site, pool).plan.nothing_to_do
    assert "are on the Geocube" in run(IngestJob(), there, site, pool).plan.nothing_to_do
    baseline = BaselineSettings(aoi=aoi, layout=LAYOUT, end=reference_end())
    run(BaselineJob(), baseline, site, pool)
    folder = "products/koln-demo/baseline/"
    ours = {name: one for name, one in products(site).items() if name.startswith(folder)}
    assert ours == {name: one for name, one in products(local).items() if name.startswith(folder)}
    assert len(ours) > 4


def test_a_consolidation_that_runs_is_followed_and_not_started_twice(
    scene: Path, geocube: Path, tmp_path: Path, pool: WorkerPool
) -> None:
    site = tmp_path / "site"
    run(
        IngestJob(),
        IngestSettings(source=str(scene / "images"), aoi=str(scene / "aoi.json"), make_layout=LAYOUT),
        site,
        pool,
    )
    settings = ConsolidateSettings(aoi=str(scene / "aoi.json"), layout=LAYOUT)
    outcome = run(ConsolidateJob(), settings, site, pool)
    theirs = client()
    assert [job.state for job in theirs.jobs(f"{outcome.plan.notes['job']}*")] == ["DONE"]
    assert outcome.plan.notes["job"] in run(ConsolidateJob(), settings, site, pool).plan.nothing_to_do


def test_a_server_that_restarts_in_the_middle_costs_nothing(
    scene: Path, local: Path, tmp_path: Path, pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes away between two tiles of a shard, and comes back at the same address."""
    site, aoi, restarts = tmp_path / "site", str(scene / "aoi.json"), 0
    with ExitStack() as servers:
        first = servers.enter_context(ExitStack())
        address = first.enter_context(served(tmp_path / "served"))
        monkeypatch.setenv("ACD_GEOCUBE_ADDRESS", address)
        run(IngestJob(), IngestSettings(source=str(scene / "images")), site, pool)
        open_site(str(site)).cube.add_layout(LocalCube.open(str(local)).layout(LAYOUT))

        def restart(done: int) -> None:
            nonlocal restarts
            if done == 2:
                first.close()
                servers.enter_context(served(tmp_path / "served", port=int(address.rpartition(":")[2])))
                restarts += 1

        settings = BaselineSettings(aoi=aoi, layout=LAYOUT, end=reference_end(), shard_tiles=100)
        plan = make_plan(BaselineJob(), settings, open_site(str(site)))
        run_shard(BaselineJob(), plan, "moments", 0, open_site(str(site)), restart)
        gather_round(BaselineJob(), plan, "moments", open_site(str(site)))
    assert (plan.shards, restarts) == (1, 1)
    folder = "products/koln-demo/baseline/"
    ours = {name: one for name, one in products(site).items() if name.startswith(folder)}
    assert ours == {name: one for name, one in products(local).items() if name.startswith(folder)}


def test_a_key_that_is_wrong_is_told(geocube: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACD_GEOCUBE_KEY", "another")
    with pytest.raises(AcdError) as raised:
        open_site(str(tmp_path / "site")).cube.layouts()
    assert raised.value.code is ErrorCode.GEOCUBE_DENIED


def test_a_file_that_changed_is_refused_on_a_server_too(geocube: Path, tmp_path: Path, pool: WorkerPool) -> None:
    file = write_tiff(tmp_path / "source/S1_20210101_20210107_VV.tif", good_pixels(1))
    settings = IngestSettings(source=str(tmp_path / "source"))
    run(IngestJob(), settings, tmp_path / "site", pool)
    assert run(IngestJob(), settings, tmp_path / "site", pool).plan.nothing_to_do
    write_tiff(file, good_pixels(2))
    with pytest.raises(AcdError) as raised:
        run(IngestJob(), settings, tmp_path / "site", pool)
    assert raised.value.code is ErrorCode.SOURCE_DIFFERS
    assert "delete the records on the Geocube" in raised.value.fix
