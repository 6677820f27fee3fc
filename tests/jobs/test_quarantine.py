"""Shards that fail for good: left out within a budget, named, and done alone by the next run."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from pydantic import BaseModel

from acdtask.cube.model import RecordQuery
from acdtask.engine import stages
from acdtask.engine.local import run_locally
from acdtask.engine.processes import WorkerPool
from acdtask.engine.rounds import RoundState
from acdtask.engine.stages import gather_round, load_plan, load_shard, missing_shards, open_site, run_shard
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.baseline.job import BaselineJob
from acdtask.jobs.baseline.settings import BaselineSettings
from acdtask.jobs.consolidate.job import ConsolidateJob
from acdtask.jobs.consolidate.settings import ConsolidateSettings
from acdtask.jobs.contract import Context, Job, Round, Settings, Work
from acdtask.jobs.ingest.job import IngestJob
from acdtask.jobs.ingest.rounds import Check
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.monitor.job import MonitorJob
from acdtask.jobs.monitor.months import read_images
from acdtask.jobs.monitor.settings import MonitorSettings
from acdtask.jobs.products import BaselineManifest, MonitorManifest
from acdtask.jobs.report.job import ReportJob, ReportSettings
from acdtask.jobs.simulate.settings import SceneSettings
from acdtask.raster.grid import Layout, RegularGrid
from acdtask.storage.store import Store
from tests.jobs.chain import LAYOUT, digests, reference_end, simulate

SCENE = SceneSettings(size=128, reference_pairs=6, monitored_pairs=2, events=6, seed=11)
POISONED = 1
"""The number of the shard that fails."""
SENTENCE = "the disk of this node is full of bees"
CASES: list[tuple[type[Job[Any, Any]], str]] = [
    (IngestJob, "check"),
    (IngestJob, "write"),
    (ConsolidateJob, "write"),
    (BaselineJob, "moments"),
    (MonitorJob, "statistics"),
    (MonitorJob, "label"),
    (MonitorJob, "judge"),
    (MonitorJob, "cut"),
    (ReportJob, "draw"),
]
NAMES = [f"{job.name}-{round_name}" for job, round_name in CASES]
METHODS: dict[str, dict[str, Any]] = {
    "standard": {"min_count": 4, "min_area": 20},
    "robust": {"profile": "robust", "min_count": 4, "false_per_1000km2": 300.0},
}


def method_with(round_name: str) -> str:
    """A method that has a round."""
    return "robust" if round_name == "judge" else "standard"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(tmp_path_factory.mktemp("scene"), SCENE)


def steps(scene: Path, method: str = "standard") -> list[tuple[Job[Any, Any], Settings]]:
    common: dict[str, Any] = {"aoi": str(scene / "aoi.json"), "layout": LAYOUT}
    return [
        (IngestJob(), IngestSettings(source=str(scene / "images"), shard_files=2)),
        (ConsolidateJob(), ConsolidateSettings(**common)),
        (BaselineJob(), BaselineSettings(**common, end=reference_end(SCENE))),
        (MonitorJob(), MonitorSettings(**common, **METHODS[method])),
        (ReportJob(), ReportSettings(**common, truth=str(scene / "truth.geojson"), shard_images=1)),
    ]


def run_all(
    scene: Path,
    cube: Path,
    *,
    quarantine: int = 0,
    leave_out: frozenset[type[Job[Any, Any]]] = frozenset(),
    method: str = "standard",
) -> None:
    with WorkerPool(0) as pool:
        for job, settings in steps(scene, method):
            if type(job) not in leave_out:
                run_locally(job, settings, str(cube), pool=pool, progress=False, quarantine=quarantine)
            if job.name == "ingest":
                grid = RegularGrid(crs="EPSG:32632", resolution=20, cell_size=64)
                open_site(str(cube)).cube.add_layout(Layout(name=LAYOUT, grid=grid))


def judge_anew(scene: Path, cube: Path) -> None:
    """Judge all images against the latest baseline, and report."""
    with WorkerPool(0) as pool:
        for job, settings in steps(scene)[3:]:
            again = {"again": True} if isinstance(job, MonitorJob) else {}
            run_locally(job, settings.model_copy(update=again), str(cube), pool=pool, progress=False)


@dataclass
class Poison:
    """Makes a shard of a round fail, and counts the shards that run."""

    job: type[Job[Any, Any]]
    round: str
    error: Exception = field(default_factory=lambda: RuntimeError(SENTENCE))
    ran: Counter[str] = field(default_factory=Counter)
    active: bool = True

    def install(self, monkeypatch: pytest.MonkeyPatch) -> Poison:
        for job in {job for job, _ in CASES}:
            self._wrap(job, monkeypatch)
        return self

    def _wrap(self, job: type[Job[Any, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
        for round_ in job.rounds:
            self._wrap_round(job, type(round_), monkeypatch)

    def _wrap_round(
        self, job: type[Job[Any, Any]], kind: type[Round[Any, Any, Any]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        original = kind.run

        def run(me: Round[Any, Any, Any], work: Work, handout: BaseModel, context: Context[Any, Any]) -> BaseModel:
            self.ran[f"{context.plan.job}-{me.name}"] += 1
            poisoned = self.active and job is self.job and me.name == self.round
            if poisoned and work == load_shard(job(), context.plan, POISONED, context.site).work:
                raise self.error
            result: BaseModel = original(me, work, handout, context)
            return result

        monkeypatch.setattr(kind, "run", run)


def left_out_jobs(job: type[Job[Any, Any]]) -> frozenset[type[Job[Any, Any]]]:
    """A record that comes later lies in another array: the same pixels under another name, which manifests tell."""
    return frozenset({ConsolidateJob}) if job is IngestJob else frozenset()


@pytest.fixture(scope="module")
def undisturbed(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    made: dict[tuple[frozenset[type[Job[Any, Any]]], str], Path] = {}

    def cube(job: type[Job[Any, Any]], method: str = "standard") -> Path:
        without = left_out_jobs(job)
        if (without, method) not in made:
            made[without, method] = tmp_path_factory.mktemp("undisturbed") / "cube"
            run_all(scene, made[without, method], leave_out=without, method=method)
        return made[without, method]

    return cube


def newest(cube: Path, kind: str) -> list[bytes]:
    """The newest manifest of each baseline or monitoring result that `latest` points to."""
    found = []
    for pointer in sorted(cube.glob(f"products/*/{kind}/**/*.latest")):
        content = json.loads(max(pointer.iterdir()).read_bytes())["latest"]
        folder = cube / "products/koln-demo" / kind / content / "manifests"
        found.append(max(folder.iterdir()).read_bytes())
    return found


def page_of(cube: Path) -> str:
    """The report that was written last."""
    return max(cube.glob("products/*/report/*/index.html"), key=lambda path: path.stat().st_mtime_ns).read_text()


def index_of(cube: Path) -> tuple[set[str], set[str]]:
    """Records and datasets, as JSON."""
    there = open_site(str(cube)).cube
    datasets = {
        dataset.model_dump_json()
        for variable in there.variables()
        for instance in there.instances(variable.name)
        for dataset in there.datasets(variable.name, instance.name)
    }
    return {record.model_dump_json() for record in there.records(RecordQuery())}, datasets


def without_inputs(cube: Path) -> list[dict[str, Any]]:
    """The newest monitoring results, but for where the pixels of the images were read."""
    inputs, months = {"tiles": {"__all__": {"image"}}}, {"months": {"__all__": {"document"}}}
    manifests = [MonitorManifest.model_validate_json(body) for body in newest(cube, "monitor")]
    return [
        {
            **manifest.model_dump(mode="json", exclude=months),
            "images": [
                image.model_dump(mode="json", exclude=inputs) for image in read_images(manifest, Store.at(str(cube)))
            ],
        }
        for manifest in manifests
    ]


def assert_made_up(cube: Path, expected: Path, job: type[Job[Any, Any]]) -> None:
    """All of an undisturbed run is there, byte for byte; versions are numbered by how many there were."""
    mine, theirs = digests(cube), digests(expected)
    numbered, chains = ("index/", "products/koln-demo/report/"), re.compile(r"/manifests/|\.latest/")
    wanted = {name for name in theirs if not name.startswith(numbered) and not chains.search(name)}
    if job is IngestJob:  # the catalogue of the area names the baseline that was made without some images too
        wanted.remove("products/koln-demo/catalog.json")
    if job is ConsolidateJob:  # the months say which files an image was read from
        wanted = {name for name in wanted if "/months/" not in name}
    assert [name for name in sorted(wanted) if mine.get(name) != theirs[name]] == []
    assert newest(cube, "baseline") == newest(expected, "baseline")
    if job is ConsolidateJob:  # a monitored tile was read from its images, and the manifest says so
        assert without_inputs(cube) == without_inputs(expected)
    else:
        assert newest(cube, "monitor") == newest(expected, "monitor")
    assert all(b"quarantined" not in body for body in [*newest(cube, "baseline"), *newest(cube, "monitor")])
    for have, want in zip(index_of(cube), index_of(expected), strict=True):
        assert want <= have
    assert page_of(cube) == page_of(expected)


def test_the_scene_has_patches_in_several_tiles(undisturbed: Callable[..., Path]) -> None:
    (body,) = newest(undisturbed(MonitorJob), "monitor")
    store = Store.at(str(undisturbed(MonitorJob)))
    images = read_images(MonitorManifest.model_validate_json(body), store)
    assert len(images) == SCENE.monitored_pairs
    assert all(len(image.tiles) >= 4 and image.patch_count for image in images)


@pytest.mark.parametrize(("job", "round_name"), CASES, ids=NAMES)
def test_a_shard_that_fails_for_good_is_left_out_and_the_next_run_makes_up_for_it(
    job: type[Job[Any, Any]],
    round_name: str,
    scene: Path,
    undisturbed: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cube, method = tmp_path / "cube", method_with(round_name)
    expected = undisturbed(job, method)
    poison = Poison(job, round_name).install(monkeypatch)
    run_all(scene, cube, quarantine=1, leave_out=left_out_jobs(job), method=method)
    shards = poison.ran[f"{job.name}-{round_name}"]
    assert shards >= 3
    page = page_of(cube)
    if job is ConsolidateJob:
        assert "left-out" not in page
    else:
        assert f"<td>{job.name}</td>" in page
        assert SENTENCE in page
        assert "ACD-900" in page

    poison.active = False
    poison.ran.clear()
    run_all(scene, cube, leave_out=left_out_jobs(job), method=method)
    if job is IngestJob:  # the images stay judged against the baseline that was made without one
        judge_anew(scene, cube)
    assert_made_up(cube, expected, job)
    assert "left-out" not in page_of(cube)
    ran = {name: poison.ran[name] for name in NAMES if name.startswith(job.name)}
    if job is MonitorJob:
        place = job().round_names.index(round_name)
        assert [ran[f"monitor-{name}"] for name in job().round_names[: place + 1]] == [0] * place + [1]
        assert 1 <= ran["monitor-cut"] <= shards
        assert ran["monitor-label"] == (shards if place == 0 else 1 if place == 1 else 0)
    else:
        assert set(ran.values()) == {1}


@pytest.mark.parametrize(("job", "round_name"), CASES, ids=NAMES)
def test_without_a_budget_nothing_is_published_and_the_next_run_changes_no_byte(
    job: type[Job[Any, Any]],
    round_name: str,
    scene: Path,
    undisturbed: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cube, method = tmp_path / "cube", method_with(round_name)
    expected = undisturbed(job, method)
    poison = Poison(job, round_name).install(monkeypatch)
    with pytest.raises(RuntimeError, match=SENTENCE):
        run_all(scene, cube, leave_out=left_out_jobs(job), method=method)
    assert not list(cube.glob(f"products/*/{job.name}/*/manifests/*"))
    assert not list(cube.glob("products/*/report/*/index.html"))
    poison.active = False
    poison.ran.clear()
    run_all(scene, cube, leave_out=left_out_jobs(job), method=method)
    assert digests(cube) == digests(expected)


def test_what_is_left_out_is_in_no_product_and_not_in_the_index(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cube = tmp_path / "cube"
    Poison(BaselineJob, "moments").install(monkeypatch)
    run_all(scene, cube, quarantine=1)
    (body,) = newest(cube, "baseline")
    baseline = BaselineManifest.model_validate_json(body)
    (tile,) = baseline.quarantined
    assert (tile.job, tile.failure.number) == ("baseline", 900)
    assert str(tile.failure) == f"ACD-900: RuntimeError: {SENTENCE}"
    assert tile.cell not in {product.tile.cell for product in baseline.tiles}
    (body,) = newest(cube, "monitor")
    for image in read_images(MonitorManifest.model_validate_json(body), Store.at(str(cube))):
        assert image.quarantined == (tile,)
        assert image.tiles
        assert tile.cell not in {product.tile.cell for product in image.tiles}
        assert all(
            (cube / product.change.uri).is_file() and (cube / product.z.uri).is_file() for product in image.tiles
        )
    records, datasets = index_of(cube)
    assert not any('"acd:job"' in record for record in records)
    assert not any("products/" in dataset for dataset in datasets)


def test_a_file_that_is_bad_leaves_its_shard_mates_alone(scene: Path, tmp_path: Path) -> None:
    images, cube = tmp_path / "images", str(tmp_path / "cube")
    images.mkdir()
    for path in sorted((scene / "images").glob("*.tif")):
        (images / path.name).write_bytes(path.read_bytes())
    bad = sorted(images.iterdir())[3]
    good = bad.read_bytes()
    with rasterio.open(bad, "r+") as raster:
        raster.write(np.full(raster.shape, raster.nodata, raster.dtypes[0]), 1)
    settings = IngestSettings(source=str(images), shard_files=4)
    with WorkerPool(0) as pool:
        outcome = run_locally(IngestJob(), settings, cube, pool=pool, progress=False)
        assert outcome.lines[-1] == f"not usable: ACD-205: {bad} has only nodata"
        assert not any("left out" in line for line in outcome.lines)
        names = {record.name for record in open_site(cube).cube.records(RecordQuery())}
        assert names == {path.stem for path in images.iterdir()} - {bad.stem}
        bad.write_bytes(good)
        again = run_locally(IngestJob(), settings, cube, pool=pool, progress=False)
    assert again.plan.units == 1
    assert bad.stem in {record.name for record in open_site(cube).cube.records(RecordQuery())}


def test_a_shard_that_was_killed_says_nothing_and_may_be_tried_again(scene: Path, tmp_path: Path) -> None:
    cube = str(tmp_path / "cube")
    job, settings = steps(scene)[0]
    plan = stages.make_plan(job, settings, open_site(cube))
    for shard in range(1, plan.shards):
        run_shard(job, plan, "check", shard, open_site(cube))
    with pytest.raises(AcdError) as raised:
        gather_round(job, plan, "check", open_site(cube))
    assert raised.value.code is ErrorCode.SHARDS_MISSING
    (failed,) = gather_round(job, plan, "check", open_site(cube), quarantine=1)
    assert (failed.shard, str(failed.failure)) == (0, "no error was recorded")
    assert len(failed.names) == 2
    left_out = run_shard(job, plan, "write", 0, open_site(cube))
    assert left_out is not None
    assert left_out.shard == 0
    assert 0 not in missing_shards(plan, "write", open_site(cube))


def test_more_failures_than_the_budget_are_told_with_their_errors(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cube = str(tmp_path / "cube")
    job, settings = steps(scene)[0]
    plan = stages.make_plan(job, settings, open_site(cube))
    monkeypatch.setattr(Check, "run", raising(AcdError(ErrorCode.STORE_DENIED, "the key is wrong")))
    for shard in range(plan.shards):
        with pytest.raises(AcdError):
            run_shard(job, plan, "check", shard, open_site(cube))
    with pytest.raises(AcdError) as raised:
        gather_round(job, plan, "check", open_site(cube), quarantine=2)
    assert raised.value.code is ErrorCode.SHARDS_FAILED
    assert not raised.value.code.value.retryable
    assert raised.value.detail == (
        "4 of 4 shards of round check are not done: "
        + ", ".join(f"{shard} (ACD-402: the key is wrong)" for shard in range(4))
        + "; only 2 may be left out"
    )
    with pytest.raises(AcdError, match="4 of 4 shards"):  # no budget publishes nothing at all
        gather_round(job, plan, "check", open_site(cube), quarantine=4)


def raising(error: Exception) -> Callable[..., bytes]:
    def run(*_: object) -> bytes:
        raise error

    return run


def test_an_error_that_may_pass_is_not_kept(scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cube = str(tmp_path / "cube")
    job, settings = steps(scene)[0]
    plan = stages.make_plan(job, settings, open_site(cube))
    monkeypatch.setattr(Check, "run", raising(AcdError(ErrorCode.STORE_UNREACHABLE, "no answer")))
    with pytest.raises(AcdError):
        run_shard(job, plan, "check", 0, open_site(cube))
    state = RoundState.find(plan, "check", open_site(cube))
    assert state is not None
    assert state.errors(state.missing()) == {}


@pytest.mark.parametrize("round_name", MonitorJob().round_names)
def test_pods_of_the_partial_run_that_come_back_late_change_nothing(
    round_name: str, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every shard and gather of the monitor again, as they would go on with what they knew when a shard was missing."""
    cube, method = tmp_path / "cube", method_with(round_name)
    poison = Poison(MonitorJob, round_name).install(monkeypatch)
    run_all(scene, cube, quarantine=1, method=method)
    (folder,) = (cube / "runs/monitor").iterdir()
    job, site = MonitorJob(), open_site(str(cube))
    plan = load_plan(MonitorJob(), folder.name, site)
    stale = {name: RoundState.find(plan, name, site) for name in plan.rounds}
    known = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    poison.active = False
    run_all(scene, cube, method=method)
    (body,) = newest(cube, "monitor")
    assert b"quarantined" not in body
    before = digests(cube)

    monkeypatch.setattr(RoundState, "find", lambda _plan, wanted, _site: stale[wanted])
    monkeypatch.setattr(RoundState, "gathering", lambda _self: None)
    monkeypatch.setattr(RoundState, "missing", lambda self: [POISONED] if self.name == round_name else [])
    poison.ran.clear()
    for name in plan.rounds:
        for marker in [folder / path for path in known if path.parts[0] == name and path.suffix == ".json"]:
            if not marker.name.endswith(".error.json"):
                marker.unlink(missing_ok=True)
        for shard in set(range(plan.shards)) - ({POISONED} if name == round_name else set()):
            run_shard(job, plan, name, shard, site)
        (left_out,) = gather_round(job, plan, name, site, quarantine=1) or (None,)
        assert (left_out is not None) == (plan.rounds.index(name) >= plan.rounds.index(round_name))
    assert poison.ran["monitor-cut"] == plan.shards - 1
    assert newest(cube, "monitor") == [body]
    after = digests(cube)
    assert {name: after[name] for name in before} == before
    assert [name for name in after.keys() - before.keys() if "/partial/" not in name] == []
