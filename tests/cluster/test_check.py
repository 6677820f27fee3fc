"""The check before an installation, and `helm test`: an invalid monitor is named, and nothing is installed."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.conftest import NewPlace
from tests.cluster.scenes import LAYOUT, monitor_of
from tests.cluster.tools import CHART, Place
from tests.helm.test_restricted import TOKEN

BOW_TIE = [[6.8, 51.0], [6.9, 51.1], [6.9, 51.0], [6.8, 51.1], [6.8, 51.0]]
KINDS = ("workflowtemplates", "cronworkflows", "serviceaccounts", "configmaps", "jobs")


def helm(place: Place, folder: Path, *words: str, **changes: Any) -> subprocess.CompletedProcess[str]:
    """Run helm with the values of the place and changes."""
    file = folder / "check-values.yaml"
    file.write_text(yaml.safe_dump({**place.values(), **changes}))
    values = ["--values", str(file)] if words[0] != "test" else []
    command = ["helm", *words, "--namespace", place.namespace, *values]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=420)


def names(place: Place) -> set[str]:
    """The chart's objects in the namespace."""
    found = {(kind, item["metadata"]["name"]) for kind in KINDS for item in place.get(kind)["items"]}
    return {f"{kind}/{name}" for kind, name in found if name.startswith("acd")}


def with_bow_tie(scene: Path) -> dict[str, Any]:
    monitor = monitor_of(scene)
    return {**monitor, "aoi": {**monitor["aoi"], "geometry": {"type": "Polygon", "coordinates": [BOW_TIE]}}}


def test_an_invalid_area_installs_nothing_and_is_named_in_the_log_of_the_check(
    new_place: NewPlace, scene: Path, tmp_path: Path
) -> None:
    place = new_place("check")
    install = ("upgrade", "--install", "acd", str(CHART))
    done = helm(place, tmp_path, *install, monitors=[with_bow_tie(scene)])
    assert done.returncode != 0
    assert "acd-check" in done.stderr
    log = place.kubectl("logs", "job/acd-check")
    assert "1 of 1 monitors: koln: ACD-112" in log
    assert "Self-intersection at longitude 6.85, latitude 51.05" in log
    left = names(place) - {"configmaps/acd-check-koln"}  # Helm 4 removes it at once, Helm 3 at the next attempt
    assert left == {"jobs/acd-check"}, "which the next attempt removes"

    done = helm(place, tmp_path, *install, monitors=[monitor_of(scene)])
    assert done.returncode == 0, done.stderr
    assert not {name for name in names(place) if "acd-check" in name}
    assert "cronworkflows/acd-koln" in names(place)


def test_helm_test_plans_each_monitor_and_names_the_one_without_a_source(
    new_place: NewPlace, scene: Path, tmp_path: Path
) -> None:
    place = new_place("check-plan")
    images = sorted((scene / "images").iterdir())
    place.put_images(images)
    settings = {"layout": LAYOUT, "ingest-source": place.inbox}
    place.install({"monitors": [monitor_of(scene, settings=settings)]}, tmp_path)
    done = helm(place, tmp_path, "test", "acd", "--logs")
    assert done.returncode == 0, done.stderr
    assert f"koln: {len(images)} files to ingest" in done.stdout
    left = {key for key in place.store.list() if not key.startswith("index/hint")}
    assert left == set(), "the check writes nothing"

    settings["ingest-source"] = f"{place.inbox}/not-there"
    place.install({"monitors": [monitor_of(scene, settings=settings)]}, tmp_path)
    done = helm(place, tmp_path, "test", "acd", "--logs")
    assert done.returncode != 0
    assert "1 of 1 monitors: koln: ACD-200" in done.stdout


def test_acds_container_has_no_token_and_argos_report_all_the_same(
    new_place: NewPlace, scene: Path, tmp_path: Path
) -> None:
    place = new_place("token")
    place.install({"monitors": [monitor_of(scene)]}, tmp_path)
    name = place.submit("workflowtemplate/acd-ingest", {"aoi": "koln", "source": f"{place.inbox}/not-there"})
    assert place.ended(name).phase == "Failed"
    pods = place.get("pods", "--selector", f"workflows.argoproj.io/workflow={name}")["items"]
    assert pods, "pods that fail are kept"
    for pod in pods:
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        everyone = [*spec["containers"], *spec["initContainers"]]
        mounted = {one["name"] for one in everyone if TOKEN in {m["mountPath"] for m in one["volumeMounts"]}}
        assert mounted == {"init", "wait"}
    place.put_images(sorted((scene / "images").iterdir())[:1])
    done = place.ended(place.submit("workflowtemplate/acd-ingest", {"aoi": "koln", "source": place.inbox}))
    assert done.phase == "Succeeded"
    outputs = [node.get("outputs", {}).get("parameters") for node in done.nodes.values() if node["type"] == "Pod"]
    assert any(outputs), "the container `wait` reports them with its own token"
