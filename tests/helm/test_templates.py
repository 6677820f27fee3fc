"""The chart fills in its parts of the WorkflowTemplates, and changes nothing else."""

from __future__ import annotations

import copy
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from acdtask import __version__
from tests.helm.conftest import CHART, EXAMPLES, VALUES, Object, Render, Run, example, merged, objects, of_kind

pytestmark = pytest.mark.helm

FILLED = (
    "serviceAccountName",
    "podSpecPatch",
    "podMetadata",
    "artifactRepositoryRef",
    "archiveLogs",
    "imagePullSecrets",
)
CA = "geocube-ca"
"""The volume with the CA certificates of a Geocube."""
SCHEDULING = ("nodeSelector", "tolerations", "affinity", "podPriorityClassName")


@cache
def shipped() -> dict[str, Object]:
    """The WorkflowTemplates by name: those of the chart's files, and each again under a name with the version."""
    stable = [document for path in sorted((CHART / "files").glob("*.yaml")) for document in objects(path.read_text())]
    versioned = copy.deepcopy(stable)
    for document in versioned:
        document["metadata"]["name"] += f"-{__version__.replace('.', '-')}"
    return {document["metadata"]["name"]: document for document in [*stable, *versioned]}


def containers(rendered: list[Object]) -> list[Object]:
    """The container of every pod template."""
    specs = [workflow["spec"] for workflow in of_kind(rendered, "WorkflowTemplate")]
    return [template["container"] for spec in specs for template in spec["templates"] if "container" in template]


def of_stage(rendered: list[Object], stage: str) -> list[Object]:
    """The containers of a stage."""
    return [container for container in containers(rendered) if container["args"][1] == stage]


def of_jobs(rendered: list[Object]) -> list[Object]:
    """The WorkflowTemplates that run jobs."""
    templates = of_kind(rendered, "WorkflowTemplate")
    return [template for template in templates if not template["metadata"]["name"].startswith("acd-tidy")]


def parameter(workflow: Object, name: str) -> Any:
    """The value of a parameter."""
    return next(
        parameter["value"] for parameter in workflow["spec"]["arguments"]["parameters"] if parameter["name"] == name
    )


def unfilled(workflow: Object) -> Object:
    """The template without the parts that the chart fills in; parameters and keys are tested in test_defaults.py."""
    bare = copy.deepcopy(workflow)
    bare["metadata"] = {key: bare["metadata"].get(key) for key in ("name", "annotations")}
    for name in (*FILLED, *SCHEDULING):
        bare["spec"].pop(name, None)
    bare["spec"]["volumes"] = [volume for volume in bare["spec"].get("volumes", []) if volume["name"] != CA]
    for parameter in bare["spec"]["arguments"]["parameters"]:
        parameter["value"] = ""
    for template in bare["spec"]["templates"]:
        for artifact in template.get("outputs", {}).get("artifacts", []):
            artifact["s3"].pop("key")
        if "container" in template:
            container = template["container"]
            for name in ("image", "imagePullPolicy", "env", "resources"):
                container.pop(name, None)
            container["volumeMounts"] = [mount for mount in container["volumeMounts"] if mount["name"] != CA]
    return bare


@pytest.mark.parametrize("name", EXAMPLES)
def test_everything_else_is_as_it_was_rendered(name: str, render: Render) -> None:
    emitted = {
        workflow["metadata"]["name"]: workflow for workflow in of_kind(render(example(name)), "WorkflowTemplate")
    }
    assert set(emitted) == set(shipped())
    assert {"acd-all", "acd-monitor"} <= set(emitted)
    for title, workflow in shipped().items():
        assert unfilled(emitted[title]) == unfilled(workflow)
        assert (
            emitted[title]["metadata"]["labels"].items()
            >= {
                key: label for key, label in workflow["metadata"].get("labels", {}).items() if "kubernetes" not in key
            }.items()
        )


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_versioned_name_is_another_name_of_the_same_template(name: str, render: Render) -> None:
    templates = of_kind(render(example(name)), "WorkflowTemplate")
    emitted = {template["metadata"]["name"]: template for template in templates}
    for path in (CHART / "files").glob("*.yaml"):
        stable, versioned = emitted[path.stem], emitted[f"{path.stem}-{__version__.replace('.', '-')}"]
        assert versioned["metadata"].pop("name") == f"{stable['metadata'].pop('name')}-0-1-0"
        assert versioned == stable


def test_the_versioned_name_follows_the_version_and_is_one_that_kubernetes_takes(helm: Run, tmp_path: Path) -> None:
    chart = shutil.copytree(CHART, tmp_path / "acd")
    for path in (chart / "files").glob("*.yaml"):
        path.write_text(path.read_text().replace(f"version: {__version__}\n", "version: 1.2.3RC1+local\n"))
    rendered = helm("template", "acd", str(chart), "--values", str(VALUES / "minimal.yaml"))
    assert rendered.returncode == 0, rendered.stderr
    names = [template["metadata"]["name"] for template in of_kind(objects(rendered.stdout), "WorkflowTemplate")]
    stable = [path.stem for path in (CHART / "files").glob("*.yaml")]
    assert sorted(names) == sorted([*stable, *(f"{name}-1-2-3rc1-local" for name in stable)])


def test_every_parameter_has_a_default() -> None:
    for workflow in shipped().values():
        assert all("value" in parameter for parameter in workflow["spec"]["arguments"]["parameters"])


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_container_runs_the_image_with_the_cube_and_bounds(name: str, render: Render) -> None:
    rendered = render(example(name))
    images = {container["image"] for container in containers(rendered)}
    (pod,) = of_kind(rendered, "Pod")
    assert images == {pod["spec"]["containers"][0]["image"]}
    for container in containers(rendered):
        names = [variable["name"] for variable in container["env"]]
        assert len(set(names)) == len(names)
        assert {"ACD_CUBE", "ACD_RUN_ID", "ACD_LOG"} <= set(names)
        assert container["resources"].get("limits") or container["resources"].get("requests")


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ({"tag": ""}, "registry.example.com/acdtask:0.1.0"),
        ({"tag": "1.2.3-rc.1"}, "registry.example.com/acdtask:1.2.3-rc.1"),
        ({"tag": "1.2.3", "digest": "sha256:" + "a" * 64}, "registry.example.com/acdtask@sha256:" + "a" * 64),
        ({"tag": "latest", "digest": "sha256:" + "a" * 64}, "registry.example.com/acdtask@sha256:" + "a" * 64),
    ],
)
def test_a_digest_wins_over_a_tag_and_the_tag_is_the_version(image: Object, expected: str, render: Render) -> None:
    rendered = render(merged(example("minimal"), {"image": image}))
    assert {container["image"] for container in containers(rendered)} == {expected}


def test_pull_policy_and_secrets_are_filled(render: Render) -> None:
    rendered = render(example("digest"))
    assert {container["imagePullPolicy"] for container in containers(rendered)} == {"Always"}
    for workflow in of_kind(rendered, "WorkflowTemplate"):
        assert workflow["spec"]["imagePullSecrets"] == [{"name": "registry-key"}, {"name": "other.key"}]


def test_keys_come_from_the_secret(render: Render) -> None:
    (first, *_) = containers(render(example("session-token")))
    env = {
        variable["name"]: variable.get("value") or variable["valueFrom"]["secretKeyRef"] for variable in first["env"]
    }
    assert env["AWS_ENDPOINT_URL"] == "https://s3.example.com"
    assert "AWS_REGION" not in env
    assert env["AWS_ACCESS_KEY_ID"] == {"name": "keys", "key": "id"}
    assert env["AWS_SECRET_ACCESS_KEY"] == {"name": "keys", "key": "AWS_SECRET"}
    assert env["AWS_SESSION_TOKEN"] == {"name": "keys", "key": "token"}
    assert env["HTTPS_PROXY"] == "http://proxy:3128"
    assert env["ACD_CUBE"] == "s3://ground"


def test_the_webhook_fills_the_parameter_and_its_secret_is_for_one_pod_alone(render: Render) -> None:
    secret = {"name": "hooks", "key": "token"}
    webhook = {"url": "https://hooks.example.com/acd?team=a", "existingSecret": secret}
    rendered = render(merged(example("minimal"), {"webhook": webhook}))
    for workflow in of_kind(rendered, "WorkflowTemplate"):
        assert parameter(workflow, "webhook") == "https://hooks.example.com/acd?team=a"
        having = [
            template["name"]
            for template in workflow["spec"]["templates"]
            if any(
                variable["name"] == "ACD_WEBHOOK_AUTHORIZATION"
                for variable in template.get("container", {}).get("env", [])
            )
        ]
        assert having == ["notify"]
    said = [
        variable for container in containers(rendered) for variable in container["env"] if "WEBHOOK" in variable["name"]
    ]
    assert {yaml.safe_dump(entry["valueFrom"]) for entry in said} == {yaml.safe_dump({"secretKeyRef": secret})}
    assert "ACD_WEBHOOK" not in yaml.safe_dump(of_kind(rendered, "Pod"))


def test_without_a_webhook_nothing_is_posted_and_no_secret_is_asked_for(render: Render) -> None:
    rendered = render(example("minimal"))
    assert {parameter(workflow, "webhook") for workflow in of_kind(rendered, "WorkflowTemplate")} == {""}
    assert not [
        variable for container in containers(rendered) for variable in container["env"] if "WEBHOOK" in variable["name"]
    ]


def test_a_workload_identity_leaves_the_keys_out(render: Render) -> None:
    rendered = render(example("workload-identity"))
    for container in containers(rendered):
        assert not {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} & {variable["name"] for variable in container["env"]}
    (account,) = of_kind(rendered, "ServiceAccount")
    assert account["metadata"]["annotations"] == {"eks.amazonaws.com/role-arn": "arn:aws:iam::111122223333:role/acd"}


def test_resources_are_those_of_the_stage(render: Render) -> None:
    rendered = render(example("scheduling"))
    planning = of_stage(rendered, "plan") + [
        container for container in containers(rendered) if container["args"][0] == "chain"
    ]
    assert {container["args"][0] for container in planning} == {
        "chain",
        "ingest",
        "consolidate",
        "baseline",
        "monitor",
        "report",
        "fuse",
    }
    for container in planning:
        memory = {"memory": "3072Mi"}
        assert container["resources"] == {"requests": {"cpu": 3, **memory}, "limits": memory}
    small = [container for container in containers(rendered) if container["args"][0] in {"notify", "tidy"}]
    assert len({container["args"][0] for container in small}) == 2
    for container in small:
        assert container["resources"]["limits"] == {"memory": "1Gi"}
    for container in of_stage(rendered, "run"):
        assert container["resources"] == {
            "requests": {"cpu": 2, "memory": "6144Mi"},
            "limits": {"ephemeral-storage": "10Gi", "memory": "6144Mi"},
        }
    for container in of_stage(rendered, "gather"):
        assert container["resources"]["requests"]["memory"] == "3Gi"


def test_the_memory_of_a_shard_is_the_parameter_that_grows_after_an_oom_kill(render: Render) -> None:
    for workflow in of_jobs(render(example("scheduling"))):
        assert parameter(workflow, "memory-mib") == "6144"
        assert parameter(workflow, "here-memory-mib") == "3072"
        for name, stages in (("'memory-mib'", {"run"}), ("'here-memory-mib'", {"plan", "--from"})):
            patched = [
                template for template in workflow["spec"]["templates"] if name in template.get("podSpecPatch", "")
            ]
            of_stages = [
                template
                for template in workflow["spec"]["templates"]
                if template.get("container", {}).get("args", ["", ""])[1] in stages
            ]
            assert patched == of_stages != []


def test_scheduling_is_filled_at_the_workflow(render: Render) -> None:
    scheduling = example("scheduling")["scheduling"]
    (pod,) = of_kind(render(example("scheduling")), "Pod")
    for workflow in of_kind(render(example("scheduling")), "WorkflowTemplate"):
        for spec, priority in ((workflow["spec"], "podPriorityClassName"), (pod["spec"], "priorityClassName")):
            assert spec["nodeSelector"] == {"pool": "batch"}
            assert spec["tolerations"] == scheduling["tolerations"]
            assert spec["affinity"] == scheduling["affinity"]
            assert spec[priority] == "low"


@pytest.mark.parametrize("name", EXAMPLES)
def test_pods_run_as_the_service_account(name: str, render: Render) -> None:
    account = example(name).get("serviceAccount", {}).get("name", "acd")
    rendered = render(example(name))
    workflows = of_kind(rendered, "WorkflowTemplate") + of_kind(rendered, "Pod")
    assert {workflow["spec"]["serviceAccountName"] for workflow in workflows} == {account}


def test_artifacts_go_to_the_bucket_of_the_cube(render: Render) -> None:
    rendered = render(example("one-monitor"))
    repository = next(
        config_map for config_map in of_kind(rendered, "ConfigMap") if config_map["metadata"]["name"] == "acd-artifacts"
    )
    said = yaml.safe_load(repository["data"]["s3"])
    assert said["archiveLogs"] is False
    assert said["s3"]["bucket"] == "ground"
    assert said["s3"]["endpoint"] == "s3.storage.svc.cluster.local:7070"
    assert said["s3"]["insecure"] is True
    assert said["s3"]["accessKeySecret"] == {"name": "acd-s3", "key": "accessKeyId"}
    for workflow in of_kind(rendered, "WorkflowTemplate"):
        assert workflow["spec"]["artifactRepositoryRef"] == {"configMap": "acd-artifacts", "key": "s3"}


def test_artifacts_can_have_their_own_bucket_or_argos(render: Render) -> None:
    (repository,) = of_kind(render(example("session-token")), "ConfigMap")
    said = yaml.safe_load(repository["data"]["s3"])
    assert (said["s3"]["bucket"], said["s3"]["insecure"], said["archiveLogs"]) == ("scratch", False, True)
    assert said["s3"]["sessionTokenSecret"] == {"name": "keys", "key": "token"}
    rendered = render(example("own-account"))
    assert of_kind(rendered, "ConfigMap") == []
    assert "artifactRepositoryRef" not in of_kind(rendered, "WorkflowTemplate")[0]["spec"]
    (repository,) = of_kind(render(example("workload-identity")), "ConfigMap")
    assert yaml.safe_load(repository["data"]["s3"])["s3"]["useSDKCreds"] is True
