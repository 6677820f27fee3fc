"""Every command of docs/how-to/kubernetes.md runs as it is written, and does what the page says of it."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from acdtask import __version__
from acdtask.jobs.monitor.months import read_images
from acdtask.jobs.products import MonitorManifest
from acdtask.jobs.simulate.settings import SceneSettings
from tests.cluster.tools import Place, Surroundings, call, until
from tests.cluster.walk import Key, Walk, folder_of, keys_of, out_of_the_way, unproven
from tests.docs.pages import blocks_of, text_of
from tests.jobs.chain import simulate

PAGE = "docs/how-to/kubernetes.md"
SCENE = SceneSettings(size=128, reference_pairs=24, monitored_pairs=2, pair_days=15, events=6, seed=11)
"""As long as the page's `baseline-end` says, and where its AOI lies."""

UPGRADE = "helm upgrade acd helm/acd --namespace acd --values values.yaml"
SMOKE = "helm test acd --namespace acd --logs"
JOBS = ("ingest", "consolidate", "baseline", "monitor", "report")


def spec(walk: Walk) -> dict[str, Any]:
    found: dict[str, Any] = walk.place.get("cronworkflow", "acd-koln")["spec"]
    return found


def dates(walk: Walk) -> list[str]:
    """The days of the images that were monitored."""
    store = walk.place.store.within("products/koln/monitor")
    newest = [key for key in store.list() if "/manifests/" in key][-1]
    manifest = MonitorManifest.model_validate_json(store.get(newest))
    return sorted(str(image.datetime.date()) for image in read_images(manifest, walk.place.store))


def says(*texts: str) -> Callable[[Walk], None]:
    """Checks what the command printed."""

    def check(walk: Walk) -> None:
        assert [text for text in texts if text not in walk.said] == [], walk.said

    return check


def the_namespace_is_ours(walk: Walk) -> None:
    walk.place.kubectl("label", "namespace", "acd", "acd-tests=yes")


def the_namespace_is_restricted(walk: Walk) -> None:
    labels = walk.place.get("namespace", "acd")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def the_secret_has_the_keys(walk: Walk) -> None:
    assert set(walk.place.get("secret", "acd-s3")["data"]) == {"accessKeyId", "secretAccessKey"}


def it_is_installed(walk: Walk) -> None:
    (schedule,) = walk.values["monitors"][0]["schedules"]
    says("helm test acd --namespace acd", f"koln: {schedule} (UTC)", "kubectl annotate cronworkflows --all")(walk)
    assert spec(walk)["suspend"] is False
    assert json.loads(walk.place.get("configmap", "acd-aoi-koln")["data"]["aoi.json"])["name"] == "koln"


def the_store_answers(walk: Walk) -> None:
    says("Phase:          Succeeded", __version__)(walk)


def the_first_run_is_done(walk: Walk) -> None:
    workflow = walk.ended()
    assert [name for name, (_, attempts) in workflow.outcome().items() if attempts] == ["all.plan"]
    made = artifacts(workflow.nodes["all.plan"])
    assert {"report-quicklook-png", "report-report", "monitor-patches-geojson"} <= made
    assert {f"{job}-{name}" for job in JOBS for name in ("plan-json", "summary-md")} <= made
    assert {key.split("/")[2] for key in walk.data() if key.startswith("products/koln/")} == {
        "baseline",
        "catalog.json",
        "monitor",
        "report",
    }
    assert dates(walk) == [str(SCENE.pair_dates(pair)[1]) for pair in range(SCENE.reference_pairs, SCENE.pairs)]


def artifacts(node: dict[str, Any]) -> set[str]:
    return {artifact["name"] for artifact in node["outputs"]["artifacts"]}


def logs_of_what_succeeded_go(walk: Walk) -> None:
    assert all(isinstance(json.loads(line), dict) for line in re.findall(r": (\{.*\})", walk.said))
    until(lambda: not any(is_of_a_run(pod) for pod in walk.place.get("pods")["items"]), "pods are removed", 120)


def is_of_a_run(pod: dict[str, Any]) -> bool:
    return "workflows.argoproj.io/workflow" in pod["metadata"].get("labels", {})


def the_area_is_in_the_file(walk: Walk) -> None:
    assert json.loads((walk.folder / "koln.json").read_text()) == walk.values["monitors"][0]["aoi"]


def patches_are_listed(walk: Walk) -> None:
    assert re.search(r"^[1-9]\d* patch", walk.said, re.MULTILINE), walk.said


def argo_has_heeded_the_schedule(walk: Walk) -> None:
    argo = walk.place.surroundings.argo
    wanted = "CronWorkflow acd/acd-koln added"
    logs = ("kubectl", "--namespace", argo, "logs", "deployment/workflow-controller", "--since", "5m")
    until(lambda: wanted in call(*logs), wanted, 120, pace=3)


def it_is_suspended_and_goes_on(walk: Walk) -> None:
    assert spec(walk)["suspend"] is True
    put(walk, suspend=False)
    walk.run(UPGRADE)
    assert spec(walk)["suspend"] is False


def what_is_young_stays(walk: Walk) -> None:
    """Everything in this cube is younger than the retention; the pod says so."""
    before = dates(walk)
    workflow = walk.ended()
    assert workflow.name.startswith("acd-tidy")
    log = call("argo", "logs", "--namespace", "acd", workflow.name, "--no-color")
    assert '"objects": 0' in log
    assert '"applied": true' in log
    assert dates(walk) == before


def only_other_dates_are_added(walk: Walk) -> None:
    workflow = walk.ended()
    assert workflow.nodes["all.plan"]["phase"] == "Succeeded"
    days = [str(SCENE.pair_dates(pair)[1]) for pair in range(SCENE.pairs)]
    assert dates(walk) == [day for day in days if "2021-05-01" <= day <= "2021-07-01" or day > "2021-08-01"]


def nothing_was_left_out(walk: Walk) -> None:
    before = dates(walk)
    workflow = walk.place.get("workflow", walk.ended().name)
    given = {parameter["name"]: parameter["value"] for parameter in workflow["spec"]["arguments"]["parameters"]}
    assert given["quarantine"] == "2"
    assert dates(walk) == before


def the_templates_have_both_names(walk: Walk) -> None:
    version = __version__.replace(".", "-")
    assert {"acd-monitor", f"acd-monitor-{version}", "acd-all", f"acd-all-{version}"} <= walk.names("workflowtemplates")
    assert json.loads(call("helm", "history", "acd", "--namespace", "acd", "--output", "json"))[-1]["revision"] >= 4


def the_monitor_is_gone_and_its_data_is_not(walk: Walk) -> None:
    assert walk.names("cronworkflows") == {"acd-tidy"}
    assert "acd-aoi-koln" not in walk.names("configmaps")
    until(
        lambda: all(name.startswith("acd-tidy") for name in walk.names("workflows")),
        "the monitor's workflows go with it",
        120,
    )
    assert walk.data() == walk.seen["data"]


def nothing_of_the_chart_is_left(walk: Walk) -> None:
    kinds = ("workflowtemplates", "serviceaccounts", "roles", "rolebindings", "configmaps")
    assert {name for kind in kinds for name in walk.names(kind) if name.startswith("acd")} == set()
    assert walk.data() == walk.seen["data"]


def the_namespace_is_gone(walk: Walk) -> None:
    assert "acd" not in walk.names("namespaces")
    assert walk.data() == walk.seen["data"]


def put(walk: Walk, **more: Any) -> None:
    walk.values["monitors"][0].update(more)
    walk.write_values()


def take_the_monitor_out(walk: Walk) -> None:
    walk.values["monitors"] = []
    walk.write_values()
    walk.seen["data"] = walk.data()


EDITS: dict[Key, Callable[[Walk], None]] = {
    ("Suspend", UPGRADE): lambda walk: put(walk, suspend=True),
    ("Remove", UPGRADE): take_the_monitor_out,
}
"""What the page says is to be changed in values.yaml before a command."""

NEED, INSTALL, LATE, REMOVE = (
    "What you need",
    "Install in ten minutes",
    "The first schedule may come late",
    "Remove",
)
CONTROLLER_LOG = "kubectl logs --namespace argo deployment/workflow-controller --since 30m"
CHECKS: dict[Key, Callable[[Walk], None]] = {
    (NEED, "kubectl version"): says("Server Version: v1."),
    (NEED, "kubectl get crd workflows.argoproj.io workflowtemplates.argoproj.io cronworkflows.argoproj.io"): says(
        "workflows.argoproj.io", "cronworkflows.argoproj.io"
    ),
    (NEED, "kubectl auth can-i create cronworkflows.argoproj.io --namespace acd"): says("yes"),
    (NEED, "helm version --short"): says("v"),
    (NEED, "argo version --short"): says("argo: v"),
    (INSTALL, "kubectl create namespace acd"): the_namespace_is_ours,
    (
        INSTALL,
        "kubectl label namespace acd pod-security.kubernetes.io/enforce=restricted",
    ): the_namespace_is_restricted,
    (
        INSTALL,
        "kubectl create secret generic acd-s3 --namespace acd"
        " --from-literal=accessKeyId=... --from-literal=secretAccessKey=...",
    ): the_secret_has_the_keys,
    (INSTALL, "helm install acd helm/acd --namespace acd --values values.yaml"): it_is_installed,
    (INSTALL, SMOKE): the_store_answers,
    (INSTALL, "argo submit --namespace acd --from cronworkflow/acd-koln --watch"): the_first_run_is_done,
    (INSTALL, "argo list --namespace acd"): says("acd-koln-", "Succeeded"),
    (INSTALL, "argo get --namespace acd @latest"): says("Status:              Succeeded", "report"),
    (INSTALL, "argo logs --namespace acd @latest"): logs_of_what_succeeded_go,
    (
        INSTALL,
        "kubectl get configmap acd-aoi-koln --namespace acd --output jsonpath='{.data.aoi\\.json}' > koln.json",
    ): the_area_is_in_the_file,
    (INSTALL, "acdtask show cube --cube s3://ground/cubes/rhine"): says("2020-08-16", "2021-08-26"),
    (INSTALL, "acdtask show patches --cube s3://ground/cubes/rhine --aoi koln.json --layout utm"): patches_are_listed,
    (
        LATE,
        'kubectl annotate cronworkflows --all --namespace acd --overwrite acd/seen="$(date +%s)"',
    ): argo_has_heeded_the_schedule,
    ("Suspend", UPGRADE): it_is_suspended_and_goes_on,
    (
        "Keeping the bucket small",
        "argo submit --namespace acd --from cronworkflow/acd-tidy --wait",
    ): what_is_young_stays,
    (
        "Backfill",
        "argo submit --namespace acd --from cronworkflow/acd-koln"
        " --parameter monitor-start=2021-05-01 --parameter monitor-end=2021-07-01",
    ): only_other_dates_are_added,
    (
        "A shard that fails permanently",
        "argo submit --namespace acd --from cronworkflow/acd-koln --parameter quarantine=2",
    ): nothing_was_left_out,
    ("Upgrade", "argo list --namespace acd --running"): says("No workflows found"),
    ("Upgrade", UPGRADE): the_templates_have_both_names,
    ("Upgrade", SMOKE): the_store_answers,
    (REMOVE, UPGRADE): the_monitor_is_gone_and_its_data_is_not,
    (REMOVE, "helm uninstall acd --namespace acd"): nothing_of_the_chart_is_left,
    (REMOVE, "kubectl delete namespace acd"): the_namespace_is_gone,
    (
        "Sizing",
        "acdtask monitor plan --cube s3://ground/cubes/rhine --aoi koln.json --layout utm"
        " --start 2020-08-01 --end 2020-12-31",
    ): lambda walk: the_page_has_the_figures_of_the_plan(walk),
    (
        "Rights",
        "kubectl get endpointslices --namespace default --selector kubernetes.io/service-name=kubernetes",
    ): says("kubernetes"),
    ("Trouble", "kubectl get events --namespace acd --field-selector type=Warning"): says(),
    ("Trouble", CONTROLLER_LOG): says("level="),
}
"""What the page says of each command."""

NOT_RUN: dict[Key, str] = {
    (INSTALL, "make image IMAGE=registry.example.com/acd:0.1.0"): "ACD_CLUSTER_IMAGE was built; tests/images builds",
    (INSTALL, "docker push registry.example.com/acd:0.1.0"): "there is no registry: the nodes have the image",
}


def the_page_has_the_figures_of_the_plan(walk: Walk) -> None:
    rows = {name.strip(): value.strip() for name, value in re.findall(r"^(\S.*?)  +(.*)$", walk.said, re.MULTILINE)}
    assert int(rows["tiles"]) == int(rows["shards"])
    figures = (
        f"For {rows['tiles']} tiles of 1024 x 1024 pixels and {rows['dates']} dates it says"
        f" {rows['bytes to read']} to read, {rows['bytes to write']} to write,"
        f" and {rows['expected time, 2 workers']} with two workers"
    )
    assert figures in text_of(PAGE)


def test_every_command_is_run_and_checked_or_excused() -> None:
    assert unproven(PAGE, CHECKS, NOT_RUN) == set()
    assert set(EDITS) <= set(CHECKS)


@pytest.fixture
def walk(surroundings: Surroundings, tmp_path: Path) -> Iterator[Walk]:
    """The page's values with the facts of the surroundings; the namespace `acd` is not there."""
    prefix = f"tests/acd-docs-{uuid.uuid4().hex[:6]}"
    walk = Walk(Place(surroundings, "acd", prefix), folder_of(tmp_path / "page"), values_of_the_page())
    ours = walk.place.values()
    theirs = walk.values
    assert set(theirs["objectStore"]) == set(ours["objectStore"])
    theirs.update(image=ours["image"], objectStore=ours["objectStore"], resources=ours["resources"])
    theirs["monitors"][0]["settings"]["ingest-source"] = walk.place.inbox
    theirs["monitors"][0]["schedules"] = [
        out_of_the_way(schedule, datetime.now(UTC)) for schedule in theirs["monitors"][0]["schedules"]
    ]
    theirs["tidy"] = {"suspend": True}  # it starts by hand alone, whatever the day of the test
    walk.write_values()
    make_room(walk)
    yield walk
    call("kubectl", "delete", "namespace", "acd", "--ignore-not-found", "--wait=false")


def values_of_the_page() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(
        next(block.body for block in blocks_of(text_of(PAGE)) if block.file == "values.yaml")
    )
    return found


def make_room(walk: Walk) -> None:
    """An earlier test's namespace is removed; one of someone else is not touched."""
    there = {space["metadata"]["name"]: space["metadata"] for space in walk.place.get("namespaces")["items"]}
    if "acd" in there:
        assert "acd-tests" in there["acd"].get("labels", {}), "there is a namespace acd, and it is not of these tests"
        call("kubectl", "delete", "namespace", "acd", seconds=300)


def test_the_commands_of_the_page_run(walk: Walk, tmp_path: Path) -> None:
    images = sorted((simulate(tmp_path / "scene", SCENE) / "images").iterdir())
    walk.place.put_images(images)
    for key in keys_of(PAGE):
        if key in NOT_RUN:
            continue
        if key in EDITS:
            EDITS[key](walk)
        walk.run(key[1])
        CHECKS[key](walk)
