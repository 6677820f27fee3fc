"""Models of the parts of Argo's Workflow that the templates use. Other fields are rejected by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from acdtask.errors import AcdError, ErrorCode

__all__ = [
    "Artifact",
    "Container",
    "Document",
    "Metric",
    "Mount",
    "Retry",
    "Task",
    "Template",
    "Volume",
    "load_document",
]

Ignored = Any
"""Fields that only affect a cluster, such as security contexts and clean-up."""


class _Known(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)


class Value(_Known):
    """A parameter with a value: an argument or an input."""

    name: str
    value: str | None = None
    description: str = ""
    enum: tuple[str, ...] = ()


class ValueFrom(_Known):
    """Source of an output parameter: a file in the pod."""

    path: str
    default: str | None = None


class OutputParameter(_Known):
    """An output parameter."""

    name: str
    value_from: ValueFrom


class ArchiveNone(_Known):
    """Setting to store a file or folder without archiving it."""

    none: dict[str, str] = Field(max_length=0)


class Key(_Known):
    """Key of an artifact in the artifact repository."""

    key: str


class Artifact(_Known):
    """An output artifact."""

    name: str
    path: str
    archive: ArchiveNone
    s3: Key
    optional: bool = False


class Inputs(_Known):
    """Inputs of a template."""

    parameters: tuple[Value, ...] = ()


class Outputs(_Known):
    """Outputs of a template."""

    parameters: tuple[OutputParameter, ...] = ()
    artifacts: tuple[Artifact, ...] = ()


class Arguments(_Known):
    """Arguments of a workflow or task."""

    parameters: tuple[Value, ...] = ()


class Task(_Known):
    """A task of a DAG."""

    name: str
    template: str
    arguments: Arguments = Arguments()
    depends: str = ""
    when: str = ""
    with_param: str = ""


class Dag(_Known):
    """A DAG whose other branches continue when one fails."""

    tasks: tuple[Task, ...]
    fail_fast: Literal[False]


class EnvironmentVariable(_Known):
    """An environment variable."""

    name: str
    value: str


class Mount(_Known):
    """Mount point of a volume in a container."""

    name: str
    mount_path: str
    read_only: bool = False


class Container(_Known):
    """The only container of a pod."""

    name: Literal["main"]
    image: str
    command: tuple[str, ...] = Field(min_length=1)
    args: tuple[str, ...] = ()
    env: tuple[EnvironmentVariable, ...] = ()
    volume_mounts: tuple[Mount, ...] = ()
    security_context: Ignored = None
    resources: Ignored = None
    image_pull_policy: Ignored = None


class ConfigMapSource(_Known):
    """A ConfigMap, mounted as a folder with a file for each key."""

    name: str
    optional: bool = False


class EmptyDir(_Known):
    """An empty folder for each attempt of a pod."""


class Volume(_Known):
    """A volume: exactly one of its kinds."""

    name: str
    empty_dir: EmptyDir | None = None
    config_map: ConfigMapSource | None = None


class Backoff(_Known):
    """Wait before a retry: `duration` in whole seconds, multiplied by `factor` for each earlier retry."""

    duration: str = Field(pattern=r"^\d+s$")
    factor: int


class Retry(_Known):
    """Retry strategy of a pod."""

    limit: int
    retry_policy: Literal["Always"]
    expression: str
    backoff: Backoff


class Label(_Known):
    """A label of a metric."""

    key: str
    value: str


class CounterValue(_Known):
    """Amount to add."""

    value: str


class GaugeValue(_Known):
    """Value to set."""

    value: str
    realtime: Literal[False] = False


class Metric(_Known):
    """A Prometheus metric recorded when a template ends: either a counter or a gauge."""

    name: str = Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")
    help: str = Field(min_length=1)
    labels: tuple[Label, ...] = ()
    when: str = ""
    counter: CounterValue | None = None
    gauge: GaugeValue | None = None


class Metrics(_Known):
    """Metrics of a template."""

    prometheus: tuple[Metric, ...]


class Mutex(_Known):
    """A lock between workflows; ignored, since the runner runs one workflow."""

    name: str


class Synchronization(_Known):
    """Locks of a workflow, or of a DAG."""

    mutexes: tuple[Mutex, ...]


class Template(_Known):
    """A pod or a DAG."""

    name: str
    inputs: Inputs = Inputs()
    outputs: Outputs = Outputs()
    container: Container | None = None
    dag: Dag | None = None
    fail_fast: Literal[False] | None = None
    volumes: tuple[Volume, ...] = ()
    retry_strategy: Retry | None = None
    pod_spec_patch: str = ""
    metrics: Metrics = Metrics(prometheus=())
    active_deadline_seconds: int | None = None
    metadata: Ignored = None
    synchronization: Synchronization | None = None


class Spec(_Known):
    """Specification of a workflow."""

    entrypoint: str
    arguments: Arguments = Arguments()
    templates: tuple[Template, ...]
    on_exit: str = ""
    volumes: tuple[Volume, ...] = ()
    synchronization: Synchronization | None = None
    active_deadline_seconds: int | None = None
    parallelism: int | None = None
    security_context: Ignored = None
    pod_gc: Ignored = Field(default=None, alias="podGC")
    ttl_strategy: Ignored = None
    workflow_metadata: Ignored = None
    service_account_name: Ignored = None


class Metadata(_Known):
    """Name, labels and annotations of an object."""

    name: str
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class Document(_Known):
    """A WorkflowTemplate, or a Workflow."""

    api_version: Literal["argoproj.io/v1alpha1"]
    kind: Literal["WorkflowTemplate", "Workflow"]
    metadata: Metadata
    spec: Spec

    def template(self, name: str) -> Template:
        """Get a template by name. SETTING_INVALID."""
        for template in self.spec.templates:
            if template.name == name:
                return template
        raise AcdError(ErrorCode.SETTING_INVALID, f"{self.metadata.name} has no template {name!r}", _FIX)


_FIX = "Use a file rendered by 'python -m workflows'."


def load_document(file: Path) -> Document:
    """Read a WorkflowTemplate or Workflow.

    Raises:
        AcdError: INPUT_MISSING if there is no file, SETTING_INVALID naming every unsupported field.
    """
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise AcdError(ErrorCode.INPUT_MISSING, f"{file} cannot be read: {error.strerror}", _FIX) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise AcdError(ErrorCode.SETTING_INVALID, f"{file} is not YAML", _FIX) from error
    try:
        document = Document.model_validate(content)
    except ValidationError as error:
        faults = [_sentence(fault["type"], fault["loc"], fault["msg"]) for fault in error.errors()]
        raise AcdError(ErrorCode.SETTING_INVALID, f"{file}: {'; '.join(faults)}", _FIX) from None
    for template in document.spec.templates:
        if (template.container is None) == (template.dag is None):
            raise AcdError(
                ErrorCode.SETTING_INVALID, f"{file}: template {template.name} must be either a pod or a DAG", _FIX
            )
    return document


def _sentence(kind: str, location: tuple[int | str, ...], message: str) -> str:
    name = ".".join(map(str, location)) or "the document"
    return f"this runner does not support {name}" if kind == "extra_forbidden" else f"{name}: {message}"
