"""A cluster, a namespace of it with the chart, and the workflows there."""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import yaml
from tenacity import retry, retry_if_exception_message, stop_after_delay, wait_fixed

from acdtask.storage.store import Store
from tests.cluster.faults import CONFIG_MAP, Fault, config_map, has_faults, with_faults
from tests.cluster.scraper import Figures
from tests.conftest import CHECKOUT
from workflows.metrics import DURATION, DURATION_HELP, FIGURES, PREFIX

Json: TypeAlias = dict[str, Any]
Made = TypeVar("Made")

CHART = CHECKOUT / "helm" / "acd"
ENDED = frozenset({"Succeeded", "Failed", "Error"})
SECONDS = 900
FIGURE = re.compile(r"^(argo_workflows_acd_\w+)\{(.*)\} (\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="([^"]*)"')
"""Prometheus' text format."""
AWAY = r"(?s).*(etcdserver: |connection refused|TLS handshake timeout|i/o timeout|unexpected EOF|Unable to connect)"
"""What kubectl says of a server that has too much to do, or starts again."""


@dataclass(frozen=True)
class Surroundings:
    """What the tests are told of the cluster, by environment variables.

    Attributes:
        image: ACD_CLUSTER_IMAGE: acd's image as pods name it, with a tag; nodes have it or can pull it.
        s3: ACD_CLUSTER_S3: the address of the S3 server as pods see it. AWS_ENDPOINT_URL is its address for the tests.
        bucket: ACD_CLUSTER_BUCKET: an existing bucket there.
        argo: ACD_CLUSTER_ARGO: the namespace of Argo's controller.
    """

    image: str
    s3: str
    bucket: str
    argo: str

    NEEDED = ("KUBECONFIG", "ACD_CLUSTER_IMAGE", "ACD_CLUSTER_S3", "ACD_CLUSTER_BUCKET", "AWS_ENDPOINT_URL")

    @classmethod
    def of_environment(cls) -> Surroundings:
        """What the environment says."""
        of = os.environ
        argo = of.get("ACD_CLUSTER_ARGO", "argo")
        return cls(of["ACD_CLUSTER_IMAGE"], of["ACD_CLUSTER_S3"], of["ACD_CLUSTER_BUCKET"], argo)


def call(*command: str | Path, stdin: str = "", seconds: float = 120) -> str:
    """What a command prints; it has to work."""
    words = [str(word) for word in command]
    done = subprocess.run(words, input=stdin, capture_output=True, text=True, check=False, timeout=seconds)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr[-3000:]}{done.stdout[-1000:]}"
    return done.stdout


def until(wanted: Callable[[], Made | None], what: str, seconds: float = SECONDS, pace: float = 1.0) -> Made:
    """Ask again and again until there is an answer."""
    end = time.monotonic() + seconds
    while True:
        found = wanted()
        if found:
            return found
        assert time.monotonic() < end, f"{what}: not within {seconds:.0f} s"
        time.sleep(pace)


@dataclass(frozen=True)
class Attempt:
    """A pod, as Argo's status has it."""

    id: str
    phase: str
    exit_code: str
    message: str


@dataclass(frozen=True)
class Workflow:
    """A workflow as the API server has it."""

    name: str
    status: Json = field(repr=False)
    spec: Json = field(repr=False)

    @property
    def phase(self) -> str:
        """Pending, Running, Succeeded, Failed, Error; empty before the controller has seen it."""
        return str(self.status.get("phase", ""))

    @property
    def message(self) -> str:
        """Why."""
        return str(self.status.get("message", ""))

    @cached_property
    def nodes(self) -> dict[str, Json]:
        """Every node by its name, which begins with the entrypoint here and with the workflow's name in Argo."""
        entry = str(self.spec.get("entrypoint", ""))
        nodes = self.status.get("nodes", {})
        if "compressedNodes" in self.status:
            nodes = json.loads(gzip.decompress(base64.b64decode(self.status["compressedNodes"])))
        return {_path(node["name"], self.name, entry): node for node in nodes.values()}

    def outcome(self) -> dict[str, tuple[str, int]]:
        """Phase and number of attempts of whatever is a pod or would have been one."""
        return {
            name: (node["phase"], len(self.attempts(name)))
            for name, node in self.nodes.items()
            if node["type"] in {"Retry", "Skipped"}
        }

    def attempts(self, name: str) -> list[Attempt]:
        """The pods of a node, the first one first."""
        found: list[Attempt] = []
        while (node := self.nodes.get(f"{name}({len(found)})")) is not None:
            code = node.get("outputs", {}).get("exitCode", "")
            found.append(Attempt(node["id"], node["phase"], code, node.get("message", "")))
        return found

    def why(self) -> str:
        """The messages of all nodes that did not go well, and how all pods ended."""
        bad = [
            f"{name}: {node['phase']} {node.get('message', '')}"
            for name, node in self.nodes.items()
            if node["phase"] in {"Failed", "Error"}
        ]
        return "\n".join((f"{self.name} {self.phase}: {self.message}", *bad, str(self.outcome())))


def argo_object(kind: str, name: str, spec: Json) -> Json:
    """A WorkflowTemplate or a Workflow."""
    return {"apiVersion": "argoproj.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def _path(node: str, workflow: str, entrypoint: str) -> str:
    for root, name in ((f"{workflow}.onExit", "onExit"), (workflow, entrypoint)):
        if node == root or node.startswith((f"{root}.", f"{root}(")):
            return name + node[len(root) :]
    return node


@dataclass(frozen=True)
class Place:
    """A namespace with the chart, and a cube of its own."""

    surroundings: Surroundings
    namespace: str
    prefix: str

    @classmethod
    def new(cls, surroundings: Surroundings, name: str) -> Place:
        """Names that no other test has."""
        unique = f"acd-{name}-{uuid.uuid4().hex[:6]}"
        return cls(surroundings, unique, f"tests/{unique}")

    @property
    def bucket(self) -> Store:
        """The bucket, from here."""
        return Store.at(f"s3://{self.surroundings.bucket}")

    @property
    def store(self) -> Store:
        """The cube, from here."""
        return self.bucket.within(f"{self.prefix}/cube")

    @property
    def inbox(self) -> str:
        """Where scenes are put, as an address."""
        return f"s3://{self.surroundings.bucket}/{self.prefix}/inbox"

    def put_images(self, files: list[Path]) -> None:
        """Put images into the inbox."""
        inbox = self.bucket.within(f"{self.prefix}/inbox")
        for file in files:
            inbox.put(file.name, file.read_bytes())

    def download(self, folder: Path) -> Path:
        """Copy the cube, without scratch, and without events and who sends them, to a folder."""
        for key in self.store.list():
            if not re.match(r"runs/|events/[^/]+/(outbox|senders)/", key):
                path = folder / key
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self.store.get(key))
        return folder

    def kubectl(self, *words: str, stdin: str = "") -> str:
        """Run kubectl in the namespace."""
        return call("kubectl", "--namespace", self.namespace, *words, stdin=stdin)

    @retry(retry=retry_if_exception_message(match=AWAY), stop=stop_after_delay(60), wait=wait_fixed(2), reraise=True)
    def get(self, *words: str) -> Json:
        """An object, or a list of objects; asked again while the API server is away."""
        found: Json = json.loads(self.kubectl("get", *words, "--output", "json"))
        return found

    def apply(self, *objects: Json) -> None:
        """Make or change objects."""
        self.kubectl(
            "apply", "--filename", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        )

    def make(self) -> None:
        """The namespace, with the level `restricted` enforced, and the secret with the keys of S3."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted", "acd-tests": "yes"}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace, "labels": labels}})
        keys = {"accessKeyId": os.environ["AWS_ACCESS_KEY_ID"], "secretAccessKey": os.environ["AWS_SECRET_ACCESS_KEY"]}
        self.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "acd-s3"}, "stringData": keys})

    def remove(self) -> None:
        """The namespace with all that is in it; the cube stays."""
        call("kubectl", "delete", "namespace", self.namespace, "--wait=false")

    def values(self) -> Json:
        """Values that fit a small machine."""
        repository, _, tag = self.surroundings.image.rpartition(":")
        small: Json = {"requests": {"cpu": "20m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}}
        whole: Json = {"memoryMiB": 512, "requests": {"cpu": "20m"}}
        return {
            "image": {"repository": repository, "tag": tag, "pullPolicy": "IfNotPresent"},
            "objectStore": {
                "bucket": self.surroundings.bucket,
                "prefix": f"{self.prefix}/cube",
                "endpoint": self.surroundings.s3,
                "existingSecret": {"name": "acd-s3"},
            },
            "resources": {"plan": small, "gather": small, "here": {**whole, "memoryMiB": 1024}, "run": whole},
        }

    def install(self, changes: Mapping[str, Any], folder: Path) -> None:
        """Install the chart, or bring it up to date, with changes of `values`."""
        file = folder / f"values-{uuid.uuid4().hex[:6]}.yaml"
        file.write_text(yaml.safe_dump({**self.values(), **changes}))
        call("helm", "upgrade", "--install", "acd", CHART, "--namespace", self.namespace, "--values", file)
        self.templates_are_heeded()

    def serve(self, name: str, port: int, program: str, *words: str) -> None:
        """A pod of acd's image that runs a Python program of ours, and a service of the same name before it."""
        labels = {"app": name}
        container = {
            "name": "main",
            "image": self.surroundings.image,
            "command": ["python3", "-c", program, *words],
            "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1},
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
        user = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
        pod = {"containers": [container], "securityContext": user, "terminationGracePeriodSeconds": 0}
        service = {"selector": labels, "ports": [{"port": port}]}
        self.apply(
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": pod},
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": service},
        )
        self.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=90s")

    def put_faults(self, template: str, faults: Sequence[Fault]) -> None:
        """Let the pods of an installed WorkflowTemplate have these faults, and no others."""
        files = config_map(faults)
        self.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": CONFIG_MAP}, "data": files})
        installed = self.get("workflowtemplate", template)
        if not has_faults(installed):
            self.kubectl("replace", "--filename", "-", stdin=json.dumps(with_faults(installed)))
            self.templates_are_heeded()

    def templates_are_heeded(self) -> None:
        """Wait until Argo's controller has the templates as the API server has them.

        It hears of a change a little later than who made it: a workflow that is submitted in between runs the template
        of before (argo-workflows 14607), or ends for want of one. Changes come in their order, so a template that is
        made now tells for all.
        """
        name = f"mark-{uuid.uuid4().hex[:6]}"
        spec: Json = {"entrypoint": "wait", "templates": [{"name": "wait", "suspend": {}}]}
        self.apply(argo_object("WorkflowTemplate", name, spec))

        def runs() -> bool:
            probe = argo_object("Workflow", f"{name}-{uuid.uuid4().hex[:6]}", {"workflowTemplateRef": {"name": name}})
            self.apply(probe)
            seen = until(lambda: self.workflow(probe["metadata"]["name"]).phase, f"phase of a workflow of {name}", 120)
            self.kubectl("delete", "workflow", probe["metadata"]["name"], "--wait=false")
            return seen == "Running"

        until(runs, f"{name} in Argo's controller", 120)
        self.kubectl("delete", "workflowtemplate", name)

    def make_metrics(self) -> None:
        """Let Argo's controller have every metric of the templates, with the value 0 of a job that does not exist."""
        labels = [{"key": "job", "value": "none"}, {"key": "aoi", "value": "none"}]
        counters: list[Json] = [
            {"name": figure.metric, "help": figure.help, "labels": labels, "counter": {"value": "0"}}
            for figure in FIGURES
        ]
        gauge: Json = {"realtime": False, "value": "0"}
        metrics = [*counters, {"name": DURATION, "help": DURATION_HELP, "labels": labels, "gauge": gauge}]
        wait: Json = {"name": "wait", "suspend": {"duration": "1"}}
        spec: Json = {"entrypoint": "wait", "templates": [wait], "metrics": {"prometheus": metrics}}
        self.apply(argo_object("Workflow", "metrics", spec))
        assert self.ended("metrics").phase == "Succeeded"
        made = {PREFIX + metric["name"] for metric in metrics}
        until(lambda: made == {name for name, _ in self.figures("none")}, "metrics of the templates", 60)

    def submit(self, source: str, parameters: Mapping[str, str] | None = None) -> str:
        """`argo submit --from`, as users do it. Returns the workflow's name."""
        words = [word for name, value in (parameters or {}).items() for word in ("--parameter", f"{name}={value}")]
        return call(
            "argo", "submit", "--namespace", self.namespace, "--from", source, *words, "--output", "name"
        ).strip()

    def workflow(self, name: str) -> Workflow:
        """How a workflow stands."""
        found = self.get("workflow", name)
        status = found.get("status", {})
        return Workflow(name, status, {**found.get("spec", {}), **status.get("storedWorkflowTemplateSpec", {})})

    def ended(self, name: str, seconds: float = SECONDS) -> Workflow:
        """The workflow when it has ended."""

        def look() -> Workflow | None:
            seen = self.workflow(name)
            return seen if seen.phase in ENDED else None

        return until(look, f"end of {name}", seconds)

    def figures(self, aoi: str) -> Figures:
        """What Argo's controller says now of an AOI to Prometheus."""
        argo = self.surroundings.argo
        ready = (
            "get",
            "pods",
            "-l",
            "app=workflow-controller",
            "--field-selector",
            "status.phase=Running",
            "-o",
            "name",
        )
        pods = call("kubectl", "-n", argo, *ready).split()
        assert len(pods) == 1, f"controllers: {pods}"
        path = f"/api/v1/namespaces/{argo}/pods/https:{pods[0].partition('/')[2]}:9090/proxy/metrics"
        found = {}
        for name, labels, value in FIGURE.findall(call("kubectl", "get", "--raw", path, seconds=30)):
            of = dict(LABEL.findall(labels))
            if of.get("aoi") == aoi:
                found[name, of["job"]] = float(value)
        return found

    def pod_of(self, workflow: str, node: str) -> str:
        """The name of the pod of a node, once its container runs and Argo knows: a pod before that is made anew."""

        def look() -> str | None:
            seen = self.workflow(workflow)
            if seen.nodes.get(f"{seen.spec.get('entrypoint')}.{node}", {}).get("phase") != "Running":
                return None
            for pod in self.get("pods", "--selector", f"workflows.argoproj.io/workflow={workflow}")["items"]:
                name = pod["metadata"]["annotations"].get("workflows.argoproj.io/node-name", "")
                states = pod["status"].get("containerStatuses", [])
                runs = any(state["name"] == "main" and "running" in state["state"] for state in states)
                if name.partition(".")[2] == node and runs:
                    return str(pod["metadata"]["name"])
            return None

        return until(look, f"pod of {node}", 300, pace=0.5)
