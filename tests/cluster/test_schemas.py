"""What the chart makes, against the schemas of a real API server: Argo's CRDs in full, and Kubernetes' own."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import jsonschema
import pytest
import yaml

from tests.helm.conftest import CHART, EXAMPLES, Object, objects, of_kind
from tests.helm.conftest import FILES as VALUES_FILES
from tests.workflows.fields import OPEN, unknown_to_schema
from workflows.rendering import CHART_FILES

pytestmark = pytest.mark.cluster

FILES = sorted(CHART_FILES.glob("acd-*.yaml"))
CRDS = {"WorkflowTemplate": "workflowtemplates.argoproj.io", "CronWorkflow": "cronworkflows.argoproj.io"}
OLDEST = (1, 34)
PATIENCE = 120


def kubectl(*arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    """Runs kubectl; skips where there is no cluster."""
    program = shutil.which("kubectl")
    if program is None or not os.environ.get("KUBECONFIG"):
        pytest.skip("kubectl is not on PATH, or KUBECONFIG is unset: no cluster to ask")
    return subprocess.run(
        [program, *arguments], input=given, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def told(*arguments: str, given: str | None = None) -> str:
    """What kubectl says when it has to succeed."""
    done = kubectl(*arguments, given=given)
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def crd_schema(kind: str) -> Object:
    """The schema of the served version of a CRD; a CRD that checks nothing is refused."""
    crd = json.loads(told("get", "crd", CRDS[kind], "-o", "json"))
    (version,) = [version for version in crd["spec"]["versions"] if version["name"] == "v1alpha1"]
    schema: Object = version["schema"]["openAPIV3Schema"]
    require_full(schema, kind)
    return schema


def require_full(schema: Object, kind: str) -> None:
    """Argo ships its CRDs also without schema: nothing could be wrong by those."""
    spec = schema["properties"]["spec"]
    workflow = spec["properties"].get("workflowSpec", spec) if kind == "CronWorkflow" else spec
    if any(place.get(OPEN) for place in (schema, spec, workflow)) or len(workflow.get("properties", {})) < 20:
        pytest.fail(f"the CRD of {kind} is the minimal one: install Argo with its full CRDs")


@cache
def openapi(group: str) -> Object:
    """The OpenAPI v3 document of a group and version, such as api/v1."""
    document: Object = json.loads(told("get", "--raw", f"/openapi/v3/{group}"))
    return document


def schema_of(one: Object) -> tuple[Object, Object]:
    """The schema of an object, and the document that it is part of."""
    version = one["apiVersion"]
    document = openapi(f"apis/{version}" if "/" in version else f"api/{version}")
    group, _, number = version.rpartition("/")
    wanted = {"group": group, "kind": one["kind"], "version": number}
    for name, schema in document["components"]["schemas"].items():
        if wanted in schema.get("x-kubernetes-group-version-kind", []):
            return {"$ref": f"#/components/schemas/{name}", "components": document["components"]}, document
    pytest.fail(f"the API server has no {version} {one['kind']}")


def checked_by_openapi(one: Object) -> list[str]:
    """What is wrong with an object by the API server's own description."""
    schema, document = schema_of(one)
    wrong = list(unknown_to_schema(one, schema, one["kind"], document))
    return wrong + [error.message for error in jsonschema.Draft7Validator(schema).iter_errors(one)]


@cache
def chart(name: str, namespace: str = "watch", *settings: str) -> str:
    """What helm makes of an example, as text."""
    program = shutil.which("helm")
    if program is None:
        pytest.skip("helm is not on PATH")
    arguments = [program, "template", "acd", str(CHART), "--namespace", namespace]
    arguments += ["--values", str(VALUES_FILES[name]), *settings]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def restricted() -> Iterator[str]:
    """A namespace that refuses pods below the level `restricted`, and a priority class of the same name."""
    name = f"acd-schemas-{uuid.uuid4().hex[:8]}"
    told("create", "namespace", name)
    try:
        told("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
        told("create", "priorityclass", name, "--value=1")
        yield name
    finally:
        kubectl("delete", "priorityclass", name, "--ignore-not-found", "--wait=false")
        kubectl("delete", "namespace", name, "--wait=false")


def test_the_server_is_one_that_the_schemas_are_meant_of() -> None:
    version = json.loads(told("version", "-o", "json"))["serverVersion"]
    assert (int(version["major"]), int(version["minor"].rstrip("+"))) >= OLDEST


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_the_crd_has_every_field_of_a_template(file: Any) -> None:
    template = yaml.safe_load(file.read_text())
    schema = crd_schema("WorkflowTemplate")
    assert list(unknown_to_schema({"spec": template["spec"]}, schema)) == []
    assert [error.message for error in jsonschema.Draft7Validator(schema).iter_errors(template)] == []


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("kind", sorted(CRDS))
def test_the_crd_has_every_field_that_the_chart_adds(kind: str, name: str) -> None:
    schema = crd_schema(kind)
    for document in of_kind(objects(chart(name)), kind):
        assert list(unknown_to_schema({"spec": document["spec"]}, schema)) == [], document["metadata"]["name"]


Place = Callable[[Any], Any]
MADE_UP: list[tuple[Place, str]] = [
    (lambda spec: spec, ".spec.madeUp"),
    (lambda spec: spec["volumes"][0]["configMap"], ".spec.volumes[0].configMap.madeUp"),
    (lambda spec: spec["templates"][0]["retryStrategy"]["backoff"], ".retryStrategy.backoff.madeUp"),
    (lambda spec: spec["templates"][0]["container"]["securityContext"], ".container.securityContext.madeUp"),
    (lambda spec: spec["templates"][0]["outputs"]["artifacts"][0]["s3"], ".outputs.artifacts[0].s3.madeUp"),
]


@pytest.mark.parametrize(("place", "path"), MADE_UP, ids=[path for _, path in MADE_UP])
def test_a_field_that_the_crd_has_not_is_found_by_the_walk_and_by_the_server(
    place: Place, path: str, restricted: str
) -> None:
    template = yaml.safe_load((CHART_FILES / "acd-baseline.yaml").read_text())
    place(template["spec"])["madeUp"] = "x"
    (found,) = unknown_to_schema({"spec": template["spec"]}, crd_schema("WorkflowTemplate"))
    assert found.endswith(path)
    done = dry_run(yaml.safe_dump(template), restricted)
    assert done.returncode != 0
    assert f'unknown field "{found[1:]}"' in done.stderr


def test_a_minimal_crd_is_refused() -> None:
    minimal = {"properties": {"spec": {"type": "object", "properties": {}, OPEN: True}}}
    for kind in CRDS:
        with pytest.raises(pytest.fail.Exception, match="minimal"):
            require_full(minimal, kind)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_object_is_valid_by_the_servers_schemas(name: str) -> None:
    rendered = objects(chart(name))
    assert {"WorkflowTemplate", "Pod"} <= {document["kind"] for document in rendered}
    named = {f"{document['kind']}/{document['metadata']['name']}": document for document in rendered}
    assert {name: checked_by_openapi(document) for name, document in named.items()} == {key: [] for key in named}


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("Pod", ("spec", "madeUp"), 1),
        ("Pod", ("spec", "volumes", 0, "emptyDir", "madeUp"), 1),
        ("Pod", ("spec", "automountServiceAccountToken"), "no"),
        ("Role", ("rules", 0, "madeUp"), []),
        ("Role", ("rules", 0, "verbs"), "create"),
        ("ConfigMap", ("data", "s3"), 1),
        ("WorkflowTemplate", ("spec", "parallelism"), "many"),
    ],
)
def test_the_check_by_the_servers_schemas_finds_what_is_wrong(kind: str, path: tuple[Any, ...], value: Any) -> None:
    one = copy.deepcopy(of_kind(objects(chart("minimal")), kind)[0])
    place: Any = one
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert checked_by_openapi(one)


def dry_run(text: str, namespace: str) -> subprocess.CompletedProcess[str]:
    """What the server says of objects, without keeping them."""
    return kubectl("apply", "--dry-run=server", "--validate=strict", "--namespace", namespace, "-f", "-", given=text)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_server_takes_every_object_in_a_restricted_namespace(name: str, restricted: str) -> None:
    # Admission looks up what a pod names, so these two have to be there.
    priority = ["--set", f"scheduling.priorityClassName={restricted}"] if name == "scheduling" else []
    text = chart(name, restricted, *priority)
    (pod,) = of_kind(objects(text), "Pod")
    need_account(pod["spec"]["serviceAccountName"], restricted)
    done = dry_run(text, restricted)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert done.stdout.count("(server dry run)") == len(objects(text))


def need_account(name: str, namespace: str) -> None:
    """A service account, as `helm install` or somebody else has made it before the pod comes."""
    if kubectl("get", "serviceaccount", name, "--namespace", namespace).returncode:
        told("create", "serviceaccount", name, "--namespace", namespace, "--save-config")
    for _ in range(PATIENCE):
        if kubectl("get", "serviceaccount", name, "--namespace", namespace).returncode == 0:
            return
        time.sleep(1)


def test_the_namespace_refuses_a_pod_that_is_not_restricted(restricted: str) -> None:
    (pod,) = of_kind(objects(chart("minimal", restricted)), "Pod")
    need_account(pod["spec"]["serviceAccountName"], restricted)
    del pod["spec"]["containers"][0]["securityContext"]
    done = dry_run(yaml.safe_dump(pod), restricted)
    assert done.returncode != 0
    assert "violates PodSecurity" in done.stderr
