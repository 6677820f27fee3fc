"""All jobs on a cluster make the bytes of `local`; a second workflow for the area waits, and finds nothing to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.cluster.conftest import NewPlace
from tests.cluster.receiver import Receiver
from tests.cluster.scenes import ALL_PODS, SCENE, monitor_of, parameters, run_locally
from tests.cluster.scraper import Scraper
from tests.cluster.tools import Place, Workflow, until
from tests.jobs.other_libraries import NAMED_AFTER_PAGE, digests_but_of_pages, page_without_versions

JOBS = ("ingest", "consolidate", "baseline", "monitor", "report")


def test_two_submissions_at_once_make_the_bytes_of_local_once(
    new_place: NewPlace, scene: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    place = new_place("chain")
    place.put_images(sorted((scene / "images").iterdir()))
    receiver = Receiver(place)
    aoi = place.namespace  # the controller's figures are told apart by it
    place.install({"monitors": [monitor_of(scene, name=aoi)], "webhook": {"url": receiver.url}}, tmp_path)
    given = parameters(place.inbox) | {"aoi": aoi} | ALL_PODS
    with Scraper(lambda: place.figures(aoi)) as scraper:
        names = [place.submit("workflowtemplate/acd-all", given) for _ in range(2)]
        waits = until(lambda: [name for name in names if waits_for_lock(place.workflow(name))], "one waits", 60)
        assert len(waits) == 1
        worked, waited = place.ended(next(name for name in names if name not in waits)), place.ended(waits[0])

    run_locally(JOBS, scene, tmp_path / "local")
    assert worked.phase == "Succeeded", worked.why()
    assert digests_but_of_pages(place.download(tmp_path / "cube")) == digests_but_of_pages(tmp_path / "local")
    the_report_is_a_folder_on_s3(place, worked, tmp_path / "local")

    assert waited.phase == "Succeeded", waited.why()
    pods = {name for name, (_, attempts) in waited.outcome().items() if attempts}
    assert pods == {"all.plan", "onExit.notify"}
    assert {phase for phase, attempts in waited.outcome().values() if not attempts} == {"Skipped"}
    assert "nothing to do" in plan_of(place, waited, "monitor")

    found = json.loads(place.bucket.get(key_of(worked, ".monitor.gather-cut", "patches-geojson")))["features"]
    assert found
    the_figures_are_those_of_the_run(scraper)
    record_property("starts of the controller during all jobs", scraper.totals.starts)

    first, second = (letter["event"] for letter in receiver.letters())
    for event in (first, second):  # what a new series finds is a backfill, shown and not announced
        assert (event["type"], event["data"]["patches"]) == ("io.github.acd.run.heartbeat", 0)
    assert first["data"]["images_not_announced"] == SCENE.monitored_pairs
    source = f"/namespaces/{place.namespace}/workflows"
    assert [event["source"] for event in (first, second)] == [f"{source}/{run.name}" for run in (worked, waited)]


def waits_for_lock(workflow: Workflow) -> bool:
    """Whether the entry DAG of a workflow waits for the mutex of its AOI."""
    return "lock" in workflow.nodes.get("all", {}).get("message", "")


def the_figures_are_those_of_the_run(scraper: Scraper) -> None:
    figures, missed = scraper.totals.now(), f"{scraper.totals.starts} starts, {scraper.missed} looks missed"
    counted = {
        ("argo_workflows_acd_patches_total", "monitor"): 0,  # a new series' images are a backfill
        ("argo_workflows_acd_images_total", "monitor"): SCENE.monitored_pairs,
        ("argo_workflows_acd_units_total", "ingest"): SCENE.pairs,
        ("argo_workflows_acd_changed_square_metres_total", "monitor"): 0,
    }
    assert {figure: figures.get(figure, 0) for figure in counted} == counted, missed
    assert {job for name, job in figures if name == "argo_workflows_acd_job_duration_seconds"} == {
        *JOBS,
        "all",
    }, missed


def the_report_is_a_folder_on_s3(place: Place, workflow: Workflow, local: Path) -> None:
    folder = place.bucket.within(key_of(workflow, ".report.gather-draw", "report").rstrip("/"))
    (drawn,) = (local / "products").glob("*/report/*")
    files = {path.relative_to(drawn).as_posix(): path.read_bytes() for path in drawn.rglob("*") if path.is_file()}
    assert "index.html" in files
    shown = {name: folder.get(name) for name in folder.list()}
    assert {"index.html", "patches.geojson", "score.json"} <= shown.keys()
    same = {name: content for name, content in shown.items() if not NAMED_AFTER_PAGE.fullmatch(name)}
    assert {name: files.get(name) for name in same} == same  # beside the editions of the report and their parts
    page, local_page = shown["index.html"].decode(), files["index.html"].decode()
    assert page_without_versions(page) == page_without_versions(local_page)


def plan_of(place: Place, workflow: Workflow, job: str) -> str:
    return place.bucket.get(key_of(workflow, "all.plan", f"{job}-summary-md")).decode()


def key_of(workflow: Workflow, node: str, artifact: str) -> str:
    """Where an artifact is, below the bucket; of the node whose name ends so, in whatever part of the chain it is."""
    (found,) = (one for name, one in workflow.nodes.items() if name.endswith(node))
    (key,) = (str(output["s3"]["key"]) for output in found["outputs"]["artifacts"] if output["name"] == artifact)
    return key
