"""docs/how-to/gitops.md: what Argo CD and Flux would do with its files, without the two, and what Kustomize does."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from acdtask.jobs.simulate.settings import SceneSettings
from tests.cluster.conftest import NewPlace
from tests.cluster.crds import FILES, downloaded, installed
from tests.cluster.tools import CHART, Json, Place, call, until
from tests.cluster.walk import keys_of, out_of_the_way
from tests.docs.pages import blocks_of, text_of
from tests.jobs.chain import simulate

PAGE = "docs/how-to/gitops.md"
AREAS = "The areas in a repository of their own"
COMMANDS = [(AREAS, "kubectl kustomize areas"), (AREAS, "kubectl apply --kustomize areas")]
"""All commands of the page; `the_areas_are_applied` runs them."""

SCENE = SceneSettings(size=64, reference_pairs=20, monitored_pairs=1, pair_days=18, events=1, seed=11)
WAVE = "argocd.argoproj.io/sync-wave"
BETWEEN_WAVES = 2
"""Seconds: Argo CD's default of ARGOCD_SYNC_WAVE_DELAY."""


def document(file: str) -> Json:
    """The document of the page that has this file name."""
    (found,) = (yaml.safe_load(block.body) for block in blocks_of(text_of(PAGE)) if block.file == file)
    return dict(found)


def test_every_command_of_the_page_is_run() -> None:
    assert keys_of(PAGE) == COMMANDS


def test_the_page_names_the_versions_of_the_definitions() -> None:
    text = text_of(PAGE)
    for module, version in FILES:
        name = {"v3": "Argo CD"}.get(module.rpartition("/")[2], module.rpartition("/")[2])
        assert f"{name} {version.removeprefix('v')}" in text


def test_the_documents_are_what_the_real_definitions_ask_for(new_place: NewPlace, tmp_path: Path) -> None:
    definitions = downloaded(tmp_path)
    place = new_place("gitops-crds")
    documents = [document(f"{name}.yaml") for name in ("application", "gitrepository", "helmrelease")]
    with installed(definitions):
        for resource in documents:
            resource["metadata"]["namespace"] = place.namespace
            place.kubectl(*STRICTLY, stdin=json.dumps(resource))
            refused = {**resource, "spec": {**resource["spec"], "automatd": True}}
            with pytest.raises(AssertionError, match=r'unknown field "spec\.automatd"'):
                place.kubectl(*STRICTLY, stdin=json.dumps(refused))
    release, repository = documents[2], documents[1]
    source = release["spec"]["chart"]["spec"]["sourceRef"]
    assert (source["kind"], source["name"]) == (repository["kind"], repository["metadata"]["name"])


STRICTLY = ("apply", "--dry-run=server", "--validate=strict", "--filename", "-")


def test_what_argo_cd_would_do_with_the_application(new_place: NewPlace, tmp_path: Path) -> None:
    place = new_place("gitops")
    place.put_images(sorted((simulate(tmp_path / "scene", SCENE) / "images").iterdir()))
    values = values_of_the_application(place)
    the_areas_are_applied(place, tmp_path)

    assert "1 of 1 monitors: koln: ACD-112" in presync(place, with_an_open_ring(values), tmp_path)
    sync(place, values, tmp_path)
    the_schedule_is_heeded_at_once(place)
    versions = resource_versions(place)
    sync(place, values, tmp_path)
    assert resource_versions(place) == versions
    assert diff(place, values, tmp_path) == ""

    call("argo", "cron", "suspend", "acd-koln", "--namespace", place.namespace)
    assert "+  suspend: false" in diff(place, values, tmp_path)
    sync(place, values, tmp_path)
    assert diff(place, values, tmp_path) == ""

    workflow = place.ended(create_workflow(place))
    assert workflow.phase == "Succeeded", workflow.why()
    data = data_of(place)
    assert any(key.startswith("products/koln/monitor/") for key in data)

    sync(place, {**values, "monitors": []}, tmp_path)
    assert [schedule["metadata"]["name"] for schedule in place.get("cronworkflows")["items"]] == ["acd-tidy"]
    assert len(place.get("workflowtemplates")["items"]) == len(
        {name for kind, name in versions if kind == "workflowtemplates"}
    )
    assert place.get("configmap", "acd-aoi-koln")["data"]
    assert data_of(place) == data


def with_an_open_ring(values: Json) -> Json:
    """The values with an AOI that the schema accepts, but whose ring is not closed."""
    monitor = {key: value for key, value in values["monitors"][0].items() if key != "aoiFrom"}
    ring = [[6.8, 51.0], [6.9, 51.0], [6.9, 51.1]]
    return {**values, "monitors": [{**monitor, "aoi": {"type": "Polygon", "name": "koln", "coordinates": [ring]}}]}


def values_of_the_application(place: Place) -> Json:
    """Its valuesObject, with the facts of the surroundings."""
    values: Json = document("application.yaml")["spec"]["source"]["helm"]["valuesObject"]
    ours = place.values()
    assert set(values["objectStore"]) <= set(ours["objectStore"])
    values.update(image=ours["image"], objectStore=ours["objectStore"], resources=ours["resources"])
    monitor = values["monitors"][0]
    monitor["settings"]["ingest-source"] = place.inbox
    monitor["schedules"] = [out_of_the_way(schedule, datetime.now(UTC)) for schedule in monitor["schedules"]]
    return values


def the_areas_are_applied(place: Place, folder: Path) -> None:
    """The page's kustomization.yaml and commands, with the AOI of the page on Kubernetes."""
    areas = folder / "areas"
    areas.mkdir()
    kustomization = {**document("kustomization.yaml"), "namespace": place.namespace}
    (areas / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    aoi = next(yaml.safe_load(block.body) for block in blocks_of(text_of("docs/how-to/kubernetes.md")) if block.file)
    (areas / "koln.json").write_text(json.dumps(aoi["monitors"][0]["aoi"]))
    printed, applied = (
        subprocess.run(["bash", "-euc", command], cwd=folder, capture_output=True, text=True, check=True, timeout=120)
        for _, command in COMMANDS
    )
    made = yaml.safe_load(printed.stdout)
    assert (made["metadata"]["name"], made["metadata"]["namespace"]) == ("acd-aoi-koln", place.namespace)
    assert "configmap/acd-aoi-koln created" in applied.stdout
    assert place.get("configmap", "acd-aoi-koln")["data"]["aoi.json"] == (areas / "koln.json").read_text()


HOOK = "helm.sh/hook"


def rendered(place: Place, values: Json, folder: Path) -> list[Json]:
    """What Argo CD applies in the sync itself: without hooks."""
    return [one for one in templated(place, values, folder) if HOOK not in one["metadata"].get("annotations", {})]


def templated(place: Place, values: Json, folder: Path) -> list[Json]:
    """What Argo CD renders: without Helm's test hooks; those before an installation are its PreSync hooks."""
    file = folder / "application-values.yaml"
    file.write_text(yaml.safe_dump(values))
    text = call("helm", "template", "acd", CHART, "--namespace", place.namespace, "--values", file, "--skip-tests")
    return [one for one in yaml.safe_load_all(text) if one]


def presync(place: Place, values: Json, folder: Path) -> str:
    """Run the hooks before a sync, and delete them if they succeed. Returns what the job says of an invalid monitor."""
    hooks = [one for one in templated(place, values, folder) if HOOK in one["metadata"].get("annotations", {})]
    assert {one["metadata"]["annotations"][HOOK] for one in hooks} <= {"pre-install,pre-upgrade"}
    jobs = [one for one in hooks if one["kind"] == "Job"]
    if not jobs:
        return ""
    place.kubectl("delete", "job", "acd-check", "--ignore-not-found")
    apply(place, "apply", "--filename", "-", objects=[one for one in hooks if one["kind"] != "Job"] + jobs)
    ended = until(lambda: conditions(place) & {"Complete", "Failed"}, "end of the job acd-check", 240)
    if "Failed" in ended:
        return place.kubectl("logs", "job/acd-check")
    for one in hooks:
        place.kubectl("delete", one["kind"].lower(), one["metadata"]["name"])
    return ""


def conditions(place: Place) -> set[str]:
    found = place.get("job", "acd-check").get("status", {}).get("conditions", [])
    return {one["type"] for one in found if one["status"] == "True"}


def sync(place: Place, values: Json, folder: Path) -> None:
    """Run the hooks, apply wave by wave, and remove what is no longer there."""
    assert presync(place, values, folder) == ""
    objects = rendered(place, values, folder)
    first = [item for item in objects if WAVE not in item["metadata"].get("annotations", {})]
    apply(place, *APPLY, objects=labelled(place, first))
    time.sleep(BETWEEN_WAVES)
    apply(place, *APPLY, "--applyset=acd", "--prune", objects=objects)


APPLY = ("apply", "--server-side", "--force-conflicts", "--filename", "-")


def labelled(place: Place, objects: list[Json]) -> list[Json]:
    """The objects with the label by which `kubectl apply --applyset=acd` knows them again; it puts it there itself."""
    digest = hashlib.sha256(f"acd.{place.namespace}.Secret.".encode()).digest()
    label = {"applyset.kubernetes.io/part-of": f"applyset-{base64.urlsafe_b64encode(digest).decode().rstrip('=')}-v1"}
    made: list[Json] = json.loads(json.dumps(objects))
    for copy in made:
        copy["metadata"]["labels"].update(label)
    return made


def apply(place: Place, *words: str, objects: list[Json]) -> str:
    """Run kubectl with objects; what it prints. The exit status of `diff` is 1 when there is a difference."""
    done = subprocess.run(
        ["kubectl", "--namespace", place.namespace, *words],
        input=yaml.safe_dump_all(objects),
        env={**os.environ, "KUBECTL_APPLYSET": "true"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0 or (words[0] == "diff" and done.returncode == 1 and done.stdout), done.stderr
    return done.stdout


def diff(place: Place, values: Json, folder: Path) -> str:
    """How the cluster differs from what Git says."""
    objects = labelled(place, rendered(place, values, folder))
    return apply(place, "diff", "--server-side", "--force-conflicts", "--filename", "-", objects=objects)


def the_schedule_is_heeded_at_once(place: Place) -> None:
    wanted = f"CronWorkflow {place.namespace}/acd-koln added"
    logs = ("kubectl", "--namespace", place.surroundings.argo, "logs", "deployment/workflow-controller", "--since=5m")
    until(lambda: wanted in call(*logs), wanted, 120, pace=3)


def resource_versions(place: Place) -> dict[tuple[str, str], str]:
    kinds = ("workflowtemplates", "cronworkflows", "configmaps", "serviceaccounts", "roles", "rolebindings")
    return {
        (kind, item["metadata"]["name"]): item["metadata"]["resourceVersion"]
        for kind in kinds
        for item in place.get(kind)["items"]
    }


def create_workflow(place: Place) -> str:
    """What Argo CD's action `create-workflow` makes of the CronWorkflow."""
    schedule = place.get("cronworkflow", "acd-koln")
    name = f"acd-koln-{datetime.now(UTC):%Y%m%d%H%M}"
    owner = {key: schedule[key] for key in ("apiVersion", "kind")} | {
        key: schedule["metadata"][key] for key in ("name", "uid")
    }
    labels = {**schedule["spec"]["workflowMetadata"]["labels"], "workflows.argoproj.io/cron-workflow": "acd-koln"}
    workflow: dict[str, Any] = {
        "apiVersion": schedule["apiVersion"],
        "kind": "Workflow",
        "metadata": {"name": name, "labels": labels, "ownerReferences": [owner]},
        "spec": schedule["spec"]["workflowSpec"],
    }
    place.kubectl("create", "--filename", "-", stdin=json.dumps(workflow))
    return name


def data_of(place: Place) -> set[str]:
    return {key for key in place.store.list() if not key.startswith(("runs/", "index/hint"))}
