"""Every pod of the chart may run in a namespace that enforces `restricted`."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from acdtask.engine.workflow_limits import PODS_AT_ONCE
from tests.helm.conftest import EXAMPLES, Object, Render, example, merged, of_kind
from tests.helm.restricted import violations

GOOD: Object = {
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "volumes": [{"name": "tmp", "emptyDir": {}}],
    "containers": [
        {"name": "main", "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}}
    ],
}
CONTAINER = ("containers", 0, "securityContext")


ARGOS: dict[str, list[Object]] = {"initContainers": [{"name": "init"}], "containers": [{"name": "wait"}]}
"""Containers that Argo's controller adds, by default without securityContext (newExecContainer in 3.7)."""


def patched(containers: list[Object], patches: list[Object]) -> list[Object]:
    """Apply a strategic merge patch to containers, by name."""
    by_name = {patch["name"]: patch for patch in patches}
    return [merged(container, by_name.get(container["name"], {})) for container in containers]


def pods(rendered: list[Object]) -> list[Object]:
    """The specification of every pod, as Argo assembles it from workflow and template."""
    found = [pod["spec"] for pod in of_kind(rendered, "Pod")]
    found += [job["spec"]["template"]["spec"] for job in of_kind(rendered, "Job")]
    for workflow in of_kind(rendered, "WorkflowTemplate"):
        spec = workflow["spec"]
        for template in spec["templates"]:
            if "dag" in template or "steps" in template:
                continue
            context = {**spec.get("securityContext", {}), **template.get("securityContext", {})}
            containers = [template["container"], *template.get("sidecars", [])]
            volumes = spec.get("volumes", []) + template.get("volumes", [])
            patch = json.loads(spec["podSpecPatch"]) if "podSpecPatch" in spec else {}
            own = {kind: patched(ARGOS[kind], patch.get(kind, [])) for kind in ARGOS}
            volumes = volumes + patch.get("volumes", [])
            pod = {"securityContext": context, "volumes": volumes, "containers": containers + own["containers"]}
            pod["automountServiceAccountToken"] = patch.get("automountServiceAccountToken", True)
            found.append({**pod, "initContainers": template.get("initContainers", []) + own["initContainers"]})
    return found


@pytest.mark.helm
@pytest.mark.parametrize("name", EXAMPLES)
def test_every_pod_may_run_under_restricted(name: str, render: Render) -> None:
    found = pods(render(example(name)))
    assert len(found) > 10
    assert [violations(pod) for pod in found] == [[] for _ in found]


@pytest.mark.helm
def test_the_patch_of_argos_containers_can_be_left_to_the_controller(render: Render) -> None:
    rendered = render({**example("minimal"), "executor": {"restricted": False, "tokenOnly": False}})
    assert all("podSpecPatch" not in workflow["spec"] for workflow in of_kind(rendered, "WorkflowTemplate"))
    assert [violation for pod in pods(rendered) for violation in violations(pod) if "main" in violation] == []


TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105  # a path


@pytest.mark.helm
@pytest.mark.parametrize("name", EXAMPLES)
def test_the_token_of_the_account_is_mounted_only_into_argos_containers(name: str, render: Render) -> None:
    for pod in pods(render(example(name))):
        assert pod["automountServiceAccountToken"] is False
        containers = pod["containers"] + pod.get("initContainers", [])
        with_token = {container["name"] for container in containers if TOKEN in mounts_of(container)}
        argos = {"init", "wait"} & {container["name"] for container in containers}
        assert with_token == argos
        if argos:
            (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "executor-token"]
            files = [source for item in volume["projected"]["sources"] for source in paths_of(item)]
            assert sorted(files) == ["ca.crt", "namespace", "token"]


def mounts_of(container: Object) -> dict[str, str]:
    """The volumes of a container by path."""
    return {mount["mountPath"]: mount["name"] for mount in container.get("volumeMounts", [])}


def paths_of(source: Object) -> list[str]:
    """The files of a source of a projected volume."""
    (content,) = source.values()
    return [content["path"]] if "path" in content else [item["path"] for item in content["items"]]


@pytest.mark.helm
def test_the_token_can_be_left_to_kubernetes(render: Render) -> None:
    rendered = render({**example("minimal"), "executor": {"tokenOnly": False}})
    for workflow in of_kind(rendered, "WorkflowTemplate"):
        assert "executor-token" not in workflow["spec"]["podSpecPatch"]
        assert "allowPrivilegeEscalation" in workflow["spec"]["podSpecPatch"]


@pytest.mark.helm
def test_the_number_of_pods_is_a_value(render: Render) -> None:
    def numbers(**values: int) -> set[int]:
        rendered = render({**example("minimal"), **values})
        return {workflow["spec"]["parallelism"] for workflow in of_kind(rendered, "WorkflowTemplate")}

    assert numbers() == {PODS_AT_ONCE}
    assert numbers(parallelism=7) == {7}


@pytest.mark.helm
def test_every_root_file_system_is_read_only_and_tmp_is_a_volume(render: Render) -> None:
    for pod in pods(render(example("minimal"))):
        ours = [
            container
            for container in pod["containers"] + pod["initContainers"]
            if container["name"] not in {"init", "wait"}
        ]
        assert ours
        for container in ours:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert "/tmp" in [mount["mountPath"] for mount in container["volumeMounts"]]  # noqa: S108  # in the pod


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("hostNetwork",), True, "hostNetwork is set"),
        (("volumes", 0), {"name": "tmp", "hostPath": {"path": "/"}}, "volume tmp"),
        (("securityContext", "runAsNonRoot"), False, "it may run as root"),
        (("securityContext", "runAsUser"), 0, "the pod runs as root"),
        (("securityContext", "seccompProfile"), {"type": "Unconfined"}, "it has no seccomp profile"),
        (("securityContext", "sysctls"), [], "the pod sets sysctls"),
        ((*CONTAINER, "privileged"), True, "it is privileged"),
        ((*CONTAINER, "allowPrivilegeEscalation"), None, "it may gain rights"),
        ((*CONTAINER, "capabilities"), {}, "it keeps capabilities"),
        ((*CONTAINER, "capabilities"), {"drop": ["ALL"], "add": ["NET_RAW"]}, "it adds capabilities"),
        ((*CONTAINER, "runAsUser"), 0, "it runs as root"),
        ((*CONTAINER, "procMount"), "Unmasked", "it sets procMount"),
        (("containers", 0, "ports"), [{"hostPort": 80}], "it uses a port of the host"),
    ],
)
def test_the_check_finds_what_is_forbidden(path: tuple[Any, ...], value: object, said: str) -> None:
    assert violations(GOOD) == []
    pod: Any = copy.deepcopy(GOOD)
    place = pod
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert [violation for violation in violations(pod) if said in violation]
