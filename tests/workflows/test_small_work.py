"""Small work is done by the pod that plans it: the number of pods a day, and the faults of that pod."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import rasterio

from acdtask.engine.run_summary import failures_of, records_of
from acdtask.engine.stages import load_plan
from acdtask.jobs.contract import Site
from acdtask.jobs.registry import load_job
from acdtask.jobs.simulate.settings import SceneSettings
from tests.jobs.chain import digests, reference_end, simulate
from tests.workflows.equipment.engine import Result, run_workflow
from tests.workflows.equipment.model import load_document
from tests.workflows.equipment.pods import Host
from tests.workflows.test_chain import ACDTASK, JOBS, pods_of
from workflows.rendering import CHART_FILES

SCENE = SceneSettings(size=128, reference_pairs=20, monitored_pairs=3, events=4, seed=11)
FIRST = SCENE.reference_pairs + 1
"""Number of images when the area is first watched."""
ONE_POD = "all.plan"

FAULTY = """
import os, pathlib, sys
seen, fault = pathlib.Path(sys.argv[1]), sys.argv[2]
sys.argv[1:] = sys.argv[3:]
first = not seen.exists()
seen.touch()
if fault.isdigit() and first:
    sys.exit(int(fault))
if first:
    import acdtask.engine.small_work as here, acdtask.engine.stages as stages
    def dies(function, module, name, job):
        def call(*given, **more):
            if fault == "before its end":
                made = function(*given, **more)
            if given[0].name == job:
                os.kill(os.getpid(), 9)
            return made if fault == "before its end" else function(*given, **more)
        setattr(module, name, call)
    if fault == "between two rounds":
        import acdtask.engine.local as local
        whole = local.gather_round
        def gather(job, plan, name, *given, **more):
            made = whole(job, plan, name, *given, **more)
            if (job.name, name) == ("monitor", "label"):
                os.kill(os.getpid(), 9)
            return made
        local.gather_round = gather
    if fault == "published, and not recorded":
        dies(here.record_gathered, here, "record_gathered", "monitor")
    if fault == "before its end":
        dies(here.record_gathered, here, "record_gathered", "report")
from acdtask.cli import main
sys.exit(main())
"""
"""acdtask in a pod whose first attempt goes wrong."""


class Area(NamedTuple):
    """A simulated scene, the folder of its images so far, and a cube."""

    scene: Path
    inbox: Path
    cube: Path

    def add(self, count: int) -> None:
        """Deliver the first `count` images."""
        self.inbox.mkdir(parents=True, exist_ok=True)
        for image in sorted((self.scene / "images").iterdir())[:count]:
            if not (self.inbox / image.name).exists():  # a copy of another time would be read again
                shutil.copy(image, self.inbox)

    def submit(
        self,
        folder: Path,
        given: Mapping[str, str] | None = None,
        template: str = "acd-all",
        command: list[str] | None = None,
    ) -> Result:
        """Run a template."""
        host = Host(
            folder,
            commands={"acdtask": command or ACDTASK},
            config_maps={"acd-aoi-koln": self.scene},
            environment={"ACD_CUBE": str(self.cube)},
        )
        common = self.parameters() if template == "acd-all" else {}
        document = load_document(CHART_FILES / f"{template}.yaml")
        return run_workflow(document, {"aoi": "koln", **common, **(given or {})}, host, workers=2, pace=0)

    def parameters(self) -> dict[str, str]:
        """Run the template of the whole chain."""
        return {
            "layout": "utm32",
            "ingest-cell-size": "64",
            "ingest-source": str(self.inbox),
            "baseline-end": reference_end(SCENE).isoformat(),
            "baseline-min-dates": "3",
            "monitor-min-count": "10",
            "report-truth": str(self.scene / "truth.geojson"),
        }


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(tmp_path_factory.mktemp("scene"), SCENE)


class Fanned(NamedTuple):
    """An area processed by fan-out pods, when new and a day later, with the workflow of that day."""

    area: Area
    new: dict[str, str]
    day: dict[str, str]
    result: Result


@pytest.fixture(scope="module")
def fanned(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Fanned:
    folder = tmp_path_factory.mktemp("fanned")
    area = Area(scene, folder / "inbox", folder / "cube")
    area.add(FIRST)
    large = {f"{job}-shard-tiles": "100" for job in ("consolidate", "baseline", "monitor")}
    fan_out = {"here-seconds": "0", "ingest-shard-files": "100", **large}
    assert area.submit(folder / "first", fan_out).phase == "Succeeded"
    new = digests(area.cube)
    area.add(SCENE.pairs)
    result = area.submit(folder / "day", fan_out)
    assert result.phase == "Succeeded"
    return Fanned(area, new, digests(area.cube), result)


@pytest.fixture(scope="module")
def watched(scene: Path, fanned: Fanned, tmp_path_factory: pytest.TempPathFactory) -> Area:
    """A small area whose first images were processed by one pod."""
    folder = tmp_path_factory.mktemp("watched")
    area = Area(scene, folder / "inbox", folder / "cube")
    area.add(FIRST)
    result = area.submit(folder / "run")
    assert (result.phase, pods_of(result)) == ("Succeeded", [ONE_POD])
    assert digests(area.cube) == fanned.new
    return area


@pytest.fixture
def area(watched: Area, tmp_path: Path) -> Iterator[Area]:
    """The watched area with a copy of its cube, and the images of one more day."""
    shutil.copytree(watched.cube, tmp_path / "cube")
    area = Area(watched.scene, watched.inbox, tmp_path / "cube")
    area.add(SCENE.pairs)
    yield area
    for image in sorted(area.inbox.iterdir())[FIRST:]:
        image.unlink()


def ways(result: Result, node: str = ONE_POD) -> dict[str, str]:
    """The output of the pod for each job."""
    outputs = result.node(node).attempts[-1].outputs
    return {job: outputs[f"{job}-way"] for job in JOBS}


def test_a_day_of_a_small_area_is_one_pod_with_the_bytes_and_outputs_of_a_fan_out(
    area: Area, fanned: Fanned, tmp_path: Path
) -> None:
    assert len(pods_of(fanned.result)) > 15
    result = area.submit(tmp_path / "run")
    assert (result.phase, pods_of(result)) == ("Succeeded", [ONE_POD])
    assert digests(area.cube) == fanned.day
    assert ways(result) == {**dict.fromkeys(JOBS, "here"), "baseline": "nothing"}
    assert {node.name: node.message for node in result.nodes if node.phase == "Skipped"} == {
        **{f"all.{job}": f"when '{way} == pods' is false" for job, way in ways(result).items()},
        "all.rest": "when 'end != end' is false",
        "onExit.notify": "when 'false' is false",
    }
    the_artifacts_and_figures_are_those_of(fanned.result, fanned.area, result, area, tmp_path / "run")
    done, total = result.node(ONE_POD).attempts[0].progress.split("/")
    assert (done, int(total) > 10) == (total, True)
    assert result.metric("acd_units_total", job="ingest", aoi="koln") == SCENE.pairs - FIRST


def the_artifacts_and_figures_are_those_of(
    expected: Result, fanned: Area, result: Result, area: Area, folder: Path
) -> None:
    (shown,) = (folder / "artifacts").iterdir()
    (known,) = (fanned.cube.parent / "day/artifacts").iterdir()
    names = {path.relative_to(known) for path in known.rglob("*") if path.is_file()}
    assert {path.relative_to(shown) for path in shown.rglob("*") if path.is_file()} == names
    for name in names - {Path(job) / text for job in JOBS for text in ("plan.json", "summary.md")}:
        assert (shown / name).read_bytes() == (known / name).read_bytes(), name

    counted = {series for series in expected.metrics if series.name.endswith("_total")}
    varying = ("seconds", "read", "written")  # what the shards cost, and these are cut in another way
    for series in counted:
        if not any(word in series.name for word in varying):
            assert result.metrics[series] == expected.metrics[series], series
    mine, theirs = (
        {record.job: record for record in records_of(item.uid, Site(str(where.cube)))}
        for item, where in ((result, area), (expected, fanned))
    )
    assert {job: (item.gathered, item.nothing_to_do, item.findings.figures) for job, item in mine.items()} == {
        job: (item.gathered, item.nothing_to_do, item.findings.figures) for job, item in theirs.items()
    }
    assert mine["monitor"].findings.figures["images"] == 2


def test_nothing_new_is_one_pod(watched: Area, tmp_path: Path) -> None:
    before = digests(watched.cube)
    result = watched.submit(tmp_path / "again")
    assert (result.phase, pods_of(result)) == ("Succeeded", [ONE_POD])
    assert ways(result) == dict.fromkeys(JOBS, "nothing")
    assert digests(watched.cube) == before
    assert {record.nothing_to_do != "" for record in records_of(result.uid, Site(str(watched.cube)))} == {True}


def test_a_job_that_does_not_fit_gets_pods_and_the_rest_is_small_again(
    watched: Area, fanned: Fanned, tmp_path: Path
) -> None:
    area = Area(watched.scene, watched.inbox, tmp_path / "cube")
    whole = area.submit(tmp_path / "measured")
    plans = {record.job: record.plan_id for record in records_of(whole.uid, Site(str(area.cube)))}
    cost = {
        job: load_plan(load_job(job), plans[job], Site(str(area.cube))).estimate.core_seconds
        for job in ("ingest", "consolidate")
    }
    shutil.rmtree(area.cube)

    budget = cost["ingest"] + cost["consolidate"] / 2
    result = area.submit(tmp_path / "run", {"here-seconds": str(budget)})
    assert result.phase == "Succeeded"
    assert ways(result) == {
        "ingest": "here",
        "consolidate": "pods",
        **dict.fromkeys(("baseline", "monitor", "report"), "later"),
    }
    assert {name.partition("(")[0] for name in pods_of(result)} >= {
        "all.plan",
        "all.consolidate.run-write",
        "all.consolidate.gather-write",
        "all.rest.plan",
    }
    assert ways(result, "all.rest.plan")["ingest"] == "later"  # it is not asked for
    assert not any(name.startswith("all.rest.ingest") or ".rest.consolidate" in name for name in pods_of(result))
    assert digests(area.cube) == fanned.new


@pytest.mark.parametrize("fault", ["between two rounds", "published, and not recorded", "before its end", "75", "64"])
def test_a_pod_that_ends_in_the_middle_is_tried_again_and_nothing_is_lost(
    area: Area, fanned: Fanned, tmp_path: Path, fault: str
) -> None:
    command = [sys.executable, "-c", FAULTY, str(tmp_path / "seen"), fault]
    result = area.submit(tmp_path / "run", command=command)
    assert (result.phase, pods_of(result)) == ("Succeeded", [ONE_POD])
    attempts = result.node(ONE_POD).attempts
    assert [attempt.exit_code for attempt in attempts] == [int(fault) if fault.isdigit() else 137, 0]
    assert digests(area.cube) == fanned.day
    the_artifacts_and_figures_are_those_of(fanned.result, fanned.area, result, area, tmp_path / "run")
    memory = json.loads(result.node(ONE_POD).patch)["containers"][0]["resources"]["limits"]["memory"]
    assert memory == ("2048Mi" if fault.isdigit() else "4096Mi")


def test_work_that_fails_for_good_ends_the_pod_with_its_error(area: Area, tmp_path: Path) -> None:
    bad = sorted(area.inbox.iterdir())[-1]
    with rasterio.open(bad, "r+") as raster:
        raster.write(np.full(raster.shape, raster.nodata, raster.dtypes[0]), 1)
    before = digests(area.cube)
    result = area.submit(tmp_path / "run", {"ingest-unusable-files": "0"})
    node = result.node(ONE_POD)
    assert (result.phase, [attempt.exit_code for attempt in node.attempts]) == ("Failed", [66])
    assert node.message.startswith("ACD-548: 1 of ")
    assert node.message.endswith(f"ACD-205: {bad} has only nodata")
    assert digests(area.cube) == before
    (failure,) = failures_of(result.uid, Site(str(area.cube)))
    assert (failure.job, failure.stage, failure.name) == ("ingest", "run", "UNUSABLE_FILES")

    allowed = area.submit(tmp_path / "allowed")
    assert (allowed.phase, pods_of(allowed)) == ("Succeeded", [ONE_POD])
    records = {record.job: record for record in records_of(allowed.uid, Site(str(area.cube)))}
    assert [str(bad) in line for line in records["ingest"].unusable] == [True]


def test_a_job_by_itself_is_done_where_it_is_planned(area: Area, fanned: Fanned, tmp_path: Path) -> None:
    given = {"source": str(area.inbox), "make-layout": "utm32", "cell-size": "64"}
    result = area.submit(tmp_path / "run", given, "acd-ingest")
    assert (result.phase, pods_of(result)) == ("Succeeded", ["ingest.plan"])
    assert result.node("ingest.plan").attempts[0].outputs["way"] == "here"
    skipped = result.node("ingest.gather-check")
    assert (skipped.phase, skipped.message) == ("Skipped", "when 'here == pods' is false")
    data = {name: digest for name, digest in fanned.day.items() if name.startswith("data/")}
    assert {name: digest for name, digest in digests(area.cube).items() if name.startswith("data/")} == data
    assert result.metric("acd_units_total", job="ingest", aoi="koln") == 2
