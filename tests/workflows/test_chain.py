"""The rendered templates with the real jobs, each pod a process of `acdtask`, and the faults of pods under Argo."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from acdtask.engine.local import run_locally
from acdtask.engine.processes import WorkerPool
from acdtask.engine.run_summary import records_of
from acdtask.jobs.baseline.job import BaselineJob
from acdtask.jobs.baseline.settings import BaselineSettings
from acdtask.jobs.colours import PATCH
from acdtask.jobs.consolidate.job import ConsolidateJob
from acdtask.jobs.consolidate.settings import ConsolidateSettings
from acdtask.jobs.contract import Site
from acdtask.jobs.ingest.job import IngestJob
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.monitor.job import MonitorJob
from acdtask.jobs.monitor.settings import MonitorSettings
from acdtask.jobs.report.job import ReportJob, ReportSettings
from acdtask.jobs.simulate.settings import SceneSettings
from tests.jobs.chain import digests, reference_end, simulate
from tests.workflows.equipment.engine import Result, run_workflow
from tests.workflows.equipment.model import load_document
from tests.workflows.equipment.pods import Host
from workflows.rendering import CHART_FILES

SCENE = SceneSettings(size=128, reference_pairs=20, monitored_pairs=2, events=4, seed=11)
JOBS = ("ingest", "consolidate", "baseline", "monitor", "report")
ACDTASK = [sys.executable, "-m", "acdtask"]

FAULTY = """
import hashlib, os, pathlib, subprocess, sys
folder, fault, args = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
command = [sys.executable, "-m", "acdtask", *args]
mine = "run" in args and args[args.index("--shard") + 1] == "1"
before = folder / hashlib.sha256(repr(args).encode()).hexdigest()
first = mine and not before.exists()
before.touch()
if fault == "left out" and mine:
    sys.exit(0)
if fault == "twice" and mine:
    at_once = [subprocess.Popen(command) for _ in range(2)]
    sys.exit(max(process.wait() for process in at_once))
if fault == "killed" and first or fault == "killed always" and mine and "check" in args:
    os.kill(os.getpid(), 9)
if fault.isdigit() and first:
    sys.exit(int(fault))
os.execv(command[0], command)
"""
"""A command between Argo and acdtask that fails for shard 1."""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(tmp_path_factory.mktemp("scene"), SCENE)


def submit(
    template: str,
    parameters: Mapping[str, str],
    scene: Path,
    folder: Path,
    cube: Path,
    command: list[str] | None = None,
) -> Result:
    host = Host(
        folder,
        commands={"acdtask": command or ACDTASK},
        config_maps={"acd-aoi-koln": scene},
        environment={"ACD_CUBE": str(cube)},
    )
    document = load_document(CHART_FILES / f"{template}.yaml")
    given = {"aoi": "koln", "here-seconds": "0", **parameters}  # all plans get pods; tests/workflows/test_small_work.py
    return run_workflow(document, given, host, workers=2, pace=0)


def pods_of(result: Result) -> list[str]:
    """The nodes that are pods."""
    return [node.name for node in result.nodes if node.attempts]


def ingest(scene: Path, folder: Path, fault: str = "") -> Result:
    """Ingest in two shards, the second of which has a fault."""
    seen = folder / "seen"
    seen.mkdir(parents=True)
    command = [sys.executable, "-c", FAULTY, str(seen), fault] if fault else None
    parameters = {"source": str(scene / "images"), "shard-files": "12"}
    return submit("acd-ingest", parameters, scene, folder / "run", folder / "cube", command)


@pytest.fixture(scope="module")
def ingested(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The digests of a cube after `local`."""
    cube = tmp_path_factory.mktemp("local")
    settings = IngestSettings(source=str(scene / "images"), aoi=str(scene / "aoi.json"))
    with WorkerPool(0) as pool:
        run_locally(IngestJob(), settings, str(cube), pool=pool, progress=False)
    return digests(cube)


def chain_parameters(scene: Path) -> dict[str, str]:
    return {
        "layout": "utm32",
        "ingest-cell-size": "128",
        "ingest-source": str(scene / "images"),
        "ingest-shard-files": "30",
        "consolidate-shard-tiles": "5",
        "baseline-shard-tiles": "2",
        "baseline-end": reference_end(SCENE).isoformat(),
        "baseline-min-dates": "3",
        "monitor-min-count": "10",
        "monitor-shard-tiles": "2",
        "report-truth": str(scene / "truth.geojson"),
    }


def run_chain_here(scene: Path, cube: Path) -> None:
    """The same settings, as given to `local`."""
    aoi = str(scene / "aoi.json")
    common = {"aoi": aoi, "layout": "utm32"}
    with WorkerPool(0) as pool:
        ingest_settings = IngestSettings(source=str(scene / "images"), aoi=aoi, make_layout="utm32", cell_size=128)
        run_locally(IngestJob(), ingest_settings, str(cube), pool=pool, progress=False)
        run_locally(ConsolidateJob(), ConsolidateSettings(**common), str(cube), pool=pool, progress=False)
        baseline = BaselineSettings(**common, end=reference_end(SCENE), min_dates=3)
        run_locally(BaselineJob(), baseline, str(cube), pool=pool, progress=False)
        run_locally(MonitorJob(), MonitorSettings(**common, min_count=10), str(cube), pool=pool, progress=False)
        report = ReportSettings(**common, truth=str(scene / "truth.geojson"))
        run_locally(ReportJob(), report, str(cube), pool=pool, progress=False)


def test_the_workflow_makes_the_bytes_of_local_and_then_finds_nothing_to_do(scene: Path, tmp_path: Path) -> None:
    run_chain_here(scene, tmp_path / "local")
    parameters = chain_parameters(scene)
    result = submit("acd-all", parameters, scene, tmp_path / "run", tmp_path / "cube")
    assert result.phase == "Succeeded"
    assert {node.phase for node in result.nodes if node.message} == {"Skipped"}  # jobs of another part of the chain
    rest = {f"all{'.rest' * number}": job for number, job in enumerate(JOBS)}
    assert {name.rpartition(".")[0] for name in pods_of(result) if name.endswith(".plan")} == rest.keys()
    assert all(any(name.startswith(f"{part}.{job}.run-") for name in pods_of(result)) for part, job in rest.items())
    made = digests(tmp_path / "cube")
    assert made == digests(tmp_path / "local")
    assert any(name.endswith("/index.html") for name in made)

    (artifacts,) = (tmp_path / "run/artifacts").iterdir()
    report = next(iter((tmp_path / "cube").glob("products/*/report/*")))
    shown, kept = digests(artifacts / "report/report"), digests(report)
    assert {"index.html", "patches.geojson", "score.json"} <= shown.keys()
    assert {name: kept.get(name) for name in shown} == shown  # beside the editions of the report and their parts
    with Image.open(artifacts / "report/quicklook.png") as quicklook:
        assert 400 < max(quicklook.size) <= 1024
        assert PATCH in {colour for _, colour in quicklook.getcolors(1 << 20) or []}
    patches = json.loads((artifacts / "monitor/patches.geojson").read_text())
    assert patches["features"]
    ran = [node for node in result.nodes if ".run-" in node.name and node.phase != "Skipped"]
    progress = {node.name: node.attempts[0].progress for node in ran}
    assert progress["all.ingest.run-check(0:0)"] == "22/22"
    assert all(done == total for done, total in (text.split("/") for text in progress.values()))

    check_records(result, tmp_path / "cube")
    again = submit("acd-monitor", {"layout": "utm32", "min-count": "10"}, scene, tmp_path / "again", tmp_path / "cube")
    assert again.phase == "Succeeded"
    assert pods_of(again) == ["monitor.plan"]
    assert {node.phase for node in again.nodes[1:]} == {"Skipped"}
    assert digests(tmp_path / "cube") == made
    (record,) = records_of(again.uid, Site(str(tmp_path / "cube")))
    assert (record.job, record.gathered, record.shards) == ("monitor", False, 0)
    assert "already monitored with these settings" in record.nothing_to_do
    assert again.metric("acd_job_duration_seconds", job="monitor", aoi="koln") > 0
    counted = {series.name: value for series, value in again.metrics.items() if series.name.endswith("_total")}
    assert counted == dict.fromkeys(counted, 0.0)


def check_records(result: Result, cube: Path) -> None:
    """The records of the run match the cube."""
    records = {record.job: record for record in records_of(result.uid, Site(str(cube)))}
    assert sorted(records) == ["baseline", "consolidate", "ingest", "monitor", "report"]
    assert {(record.aoi, record.gathered, record.gathered_before) for record in records.values()} == {
        ("koln-demo", True, False)
    }
    patches = json.loads(Path(records["monitor"].findings.files["patches.geojson"]).read_text())["features"]
    found = records["monitor"].findings
    assert found.figures["images"] == len(found.images) == SCENE.monitored_pairs
    assert found.figures["patches"] == len(patches) > 0
    area = sum(item["properties"]["area_m2"] for item in patches)
    assert found.figures["changed_area_m2"] == pytest.approx(area, abs=1)
    assert result.metric("acd_images_total", job="monitor", aoi="koln") == SCENE.monitored_pairs
    for metric in ("acd_patches_total", "acd_changed_square_metres_total"):  # a new series' images are a backfill
        assert result.metric(metric, job="monitor", aoi="koln") == 0
    assert Path(found.files["patches.geojson"]).is_file()
    assert Path(records["report"].findings.files["report"]).is_file()
    assert records["ingest"].findings.figures == {"files": SCENE.reference_pairs + SCENE.monitored_pairs}

    image = SCENE.size**2 * 2
    assert records["ingest"].work.pixel_bytes_read == 2 * 22 * image  # once to check, once to write
    for record in records.values():
        metrics = partial(result.metric, job=record.job, aoi="koln")
        assert metrics("acd_units_total") == record.units
        assert metrics("acd_shard_seconds_total") == pytest.approx(record.work.seconds)
        assert metrics("acd_pixel_bytes_read_total") == record.work.pixel_bytes_read
        assert metrics("acd_bytes_written_total") == record.work.bytes_written
        assert (
            0 < metrics("acd_job_duration_seconds") < result.metric("acd_job_duration_seconds", job="all", aoi="koln")
        )
        assert record.work.units == record.units
        assert record.work.shards == record.shards * len(record.rounds)
        assert record.work.seconds > 0
        assert record.work.bytes_written > 0


def test_a_pod_that_runs_twice_at_once_changes_nothing(scene: Path, ingested: dict[str, str], tmp_path: Path) -> None:
    assert ingest(scene, tmp_path, "twice").phase == "Succeeded"
    assert digests(tmp_path / "cube") == ingested


@pytest.mark.parametrize(("fault", "exit_code"), [("75", 75), ("killed", 137)])
def test_a_pod_that_fails_once_for_a_reason_that_passes_is_tried_again(
    scene: Path, ingested: dict[str, str], tmp_path: Path, fault: str, exit_code: int
) -> None:
    result = ingest(scene, tmp_path, fault)
    assert result.phase == "Succeeded"
    node = result.node("ingest.run-check(1:1)")
    assert [attempt.exit_code for attempt in node.attempts] == [exit_code, 0]
    memory = json.loads(node.patch)["containers"][0]["resources"]["limits"]["memory"]
    assert memory == ("4096Mi" if fault == "killed" else "2048Mi")
    assert digests(tmp_path / "cube") == ingested


def test_a_pod_that_fails_for_good_is_not_tried_again_and_its_siblings_go_on(scene: Path, tmp_path: Path) -> None:
    result = ingest(scene, tmp_path, "70")
    assert (result.phase, result.exit_code) == ("Failed", 70)
    phases = {node.name: (node.phase, len(node.attempts)) for node in result.nodes}
    assert phases["ingest.run-check(1:1)"] == ("Failed", 1)
    assert phases["ingest.run-check(0:0)"] == ("Succeeded", 1)
    assert phases["ingest.gather-check"] == ("Failed", 4)  # it did not say why, so it may have been killed
    assert phases["ingest.run-write"] == ("Omitted", 0)


def spoiled(scene: Path, folder: Path) -> tuple[Path, Path]:
    """The scene's images, with no valid pixels in the sixteenth, and the path of that one."""
    shutil.copytree(scene / "images", folder)
    bad = sorted(folder.iterdir())[15]
    with rasterio.open(bad, "r+") as raster:
        raster.write(np.full(raster.shape, raster.nodata, raster.dtypes[0]), 1)
    return folder, bad


def test_a_bad_file_fails_no_pod_and_is_ingested_by_the_next_workflow_once_it_is_good(
    scene: Path, ingested: dict[str, str], tmp_path: Path
) -> None:
    images, bad = spoiled(scene, tmp_path / "images")
    parameters = {"source": str(images), "shard-files": "4"}
    cube = tmp_path / "cube"
    refused = submit("acd-ingest", {**parameters, "unusable-files": "0"}, scene, tmp_path / "refused", cube)
    gather = refused.node("ingest.gather-check")
    assert (refused.phase, [attempt.exit_code for attempt in gather.attempts]) == ("Failed", [66])
    assert gather.message == (
        f"ACD-548: 1 of 22 files cannot be used, and --unusable-files allows 0: ACD-205: {bad} has only nodata"
    )
    assert not (cube / "cube.json").exists()

    partial = submit("acd-ingest", parameters, scene, tmp_path / "partial", cube)
    assert (partial.phase, partial.exit_code) == ("Succeeded", 0)
    assert partial.node("ingest.run-check(3:3)").phase == "Succeeded"
    assert partial.node("ingest.run-write(3:3)").phase == "Succeeded"
    (record,) = records_of(partial.uid, Site(str(cube)))
    assert (record.left_out, record.unusable) == ([], [f"ACD-205: {bad} has only nodata"])
    assert record.findings.figures == {"files": 21}

    shutil.copy(scene / "images" / bad.name, bad)
    assert submit("acd-ingest", parameters, scene, tmp_path / "again", cube).phase == "Succeeded"
    there = digests(cube)
    assert {name: there.get(name) for name in ingested if name.startswith("data/")} == {
        name: digest for name, digest in ingested.items() if name.startswith("data/")
    }


def test_a_shard_that_is_killed_again_and_again_is_within_the_budget_too(scene: Path, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    seen.mkdir()
    parameters = {"source": str(scene / "images"), "shard-files": "12", "quarantine": "1"}
    command = [sys.executable, "-c", FAULTY, str(seen), "killed always"]
    result = submit("acd-ingest", parameters, scene, tmp_path / "run", tmp_path / "cube", command)
    assert result.phase == "Succeeded"
    assert [attempt.exit_code for attempt in result.node("ingest.run-check(1:1)").attempts] == [137] * 4
    assert len(list((tmp_path / "cube/data").rglob("*.tif"))) == 12


def test_a_sibling_that_argo_left_out_is_named_by_gather_and_done_by_the_next_run(
    scene: Path, ingested: dict[str, str], tmp_path: Path
) -> None:
    result = ingest(scene, tmp_path, "left out")
    gather = result.node("ingest.gather-check")
    assert (result.phase, [attempt.exit_code for attempt in gather.attempts]) == ("Failed", [75] * 4)
    assert gather.message == "ACD-502: 1 of 2 shards of round check are not done: 1"
    again = submit(
        "acd-ingest",
        {"source": str(scene / "images"), "shard-files": "12"},
        scene,
        tmp_path / "again",
        tmp_path / "cube",
    )
    assert again.phase == "Succeeded"
    assert digests(tmp_path / "cube") == ingested


def test_a_missing_aoi_ends_the_workflow_with_a_sentence(scene: Path, tmp_path: Path) -> None:
    result = submit(
        "acd-ingest", {"aoi": "bonn", "source": str(scene / "images")}, scene, tmp_path / "run", tmp_path / "cube"
    )
    plan = result.node("ingest.plan")
    assert (result.phase, len(plan.attempts), plan.message.split(":")[0]) == ("Failed", 1, "ACD-110")
