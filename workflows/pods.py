"""The pods of a workflow: restricted containers of acdtask, with outputs, metrics and retries."""

from __future__ import annotations

from typing import Any

from hera.workflows import (
    Artifact,
    Container,
    EmptyDirVolume,
    Env,
    Metrics,
    NoneArchiveStrategy,
    Parameter,
    S3Artifact,
    WorkflowTemplate,
)
from hera.workflows.models import Capabilities, SecurityContext, ValueFrom, VolumeMount
from hera.workflows.models import Container as ContainerModel

from acdtask.engine.chain import END
from acdtask.engine.small_work import Way
from acdtask.engine.workflow_limits import POD_SECONDS
from acdtask.jobs.contract import Job
from acdtask.jobs.registry import load_job
from workflows.metrics import figure_metrics, figure_outputs
from workflows.parameters import AOI, AOI_FILE, AOI_FOLDER, EVENT_MONITOR, HERE_SECONDS, QUARANTINE, WEBHOOK, Bound
from workflows.retries import HERE_MEMORY, memory_patch, retry_strategy

__all__ = [
    "FROM",
    "OUTPUTS",
    "Main",
    "chain_pod",
    "gather_pod",
    "optional_rounds",
    "plan_pod",
    "publish_pod",
    "reference",
    "round_output",
    "run_pod",
]

OUTPUTS = "/tmp/acd"  # noqa: S108  # a path in the pod, where /tmp is a volume of its own
ROUND_INPUTS = ["plan-id", "round"]
"""Input parameters of a gather."""
FROM = "from"
"""Input parameter with the first job that a pod of the chain runs."""
IMAGE = "acdtask"
"""Placeholder that the chart replaces by the image."""

RUN_NOTE = {
    "ACD_RUN_AOI": f"{{{{=workflow.parameters.{WEBHOOK} == '' ? '' : workflow.parameters.{AOI}}}}}",
    "ACD_RUN_MONITOR": f"{{{{workflow.parameters.{EVENT_MONITOR}}}}}",
    "ACD_RUN_WORKFLOW": "{{workflow.name}}",
    "ACD_RUN_NAMESPACE": "{{workflow.namespace}}",
}
"""What the note of a run contains. Without a webhook there is none, since nothing would remove it."""

PATCHES = ("patches.geojson", "patches.parquet")
ARTIFACTS = {"monitor": PATCHES, "fuse": PATCHES, "report": ("report/", "quicklook.png")}
"""Artifacts for the Argo UI, of a pod that publishes a job's results; folders end in a slash."""
PLAN_ARTIFACTS = ("plan.json", "summary.md")


class Main(Container):
    """The container `main` of every pod: restricted, with only /tmp writable."""

    def __init__(
        self,
        name: str,
        args: list[str],
        seconds: int = POD_SECONDS["gather"],
        mounts: list[VolumeMount] | None = None,
        *,
        of_aoi: bool = True,
        **options: Any,
    ):
        """A pod of a run of an AOI notes that the run began, so that its end is reported."""
        variables = {"ACD_RUN_ID": "{{workflow.uid}}", "ACD_LOG": "json", **(RUN_NOTE if of_aoi else {})}
        super().__init__(
            name=name,
            image=IMAGE,
            command=["acdtask"],
            args=args,
            env=[Env(name=name, value=value) for name, value in variables.items()],
            security_context=SecurityContext(
                allow_privilege_escalation=False,
                capabilities=Capabilities(drop=["ALL"]),
                privileged=False,
                read_only_root_filesystem=True,
                run_as_non_root=True,
            ),
            volumes=[EmptyDirVolume(name="tmp", mount_path="/tmp")],  # noqa: S108  # a path in the pod
            volume_mounts=mounts,
            retry_strategy=retry_strategy(),
            active_deadline_seconds=seconds,
            **options,
        )

    def _build_container(self) -> ContainerModel:
        container = super()._build_container()
        container.name = "main"
        return container


def plan_pod(workflow: WorkflowTemplate, job: Job[Any, Any], bounds: list[Bound]) -> Main:
    """The pod that plans a job, and does small work itself."""
    return _here_pod(
        workflow,
        f"{job.name}-plan",
        [job.name, "plan", "--outputs", OUTPUTS, *_parameter_args(workflow, bounds)],
        outputs=[
            *_plan_outputs(job, OUTPUTS),
            *figure_outputs(job.name, OUTPUTS),
            *[_artifact(job.name, name) for name in PLAN_ARTIFACTS],
            *[_artifact(job.name, name, optional=True) for name in ARTIFACTS.get(job.name, ())],
        ],
        metrics=figure_metrics(job.name, reference(workflow, AOI)),
    )


def chain_pod(workflow: WorkflowTemplate, jobs: list[str], bounds: list[Bound]) -> Main:
    """The pod that runs small jobs one after the other, with the outputs of all their plans and results."""
    args = ["chain", "--from", f"{{{{inputs.parameters.{FROM}}}}}", "--outputs", OUTPUTS]
    outputs: list[Any] = [_output("next", default=END)]
    artifacts: list[Any] = []
    metrics: list[Any] = []
    aoi = reference(workflow, AOI)
    for job in jobs:
        folder, prefix = f"{OUTPUTS}/{job}", f"{job}-"
        args += _parameter_args(workflow, [bound for bound in bounds if bound.job == job], f"{job}.")
        outputs += _plan_outputs(load_job(job), folder, prefix, way=Way.LATER)
        outputs += figure_outputs(job, folder, prefix)
        names = [*PLAN_ARTIFACTS, *ARTIFACTS.get(job, ())]
        artifacts += [_artifact(job, name, folder=folder, prefix=prefix, optional=True) for name in names]
        metrics += figure_metrics(job, aoi, prefix).metrics
    return _here_pod(
        workflow,
        "chain-plan",
        args,
        inputs=[Parameter(name=FROM)],
        outputs=[*outputs, *artifacts],
        metrics=Metrics(metrics=metrics),
    )


def _here_pod(workflow: WorkflowTemplate, name: str, args: list[str], **options: Any) -> Main:
    """A pod that plans and does small work itself, within its memory, which grows after an OOM kill."""
    budget = ["--here-seconds", reference(workflow, HERE_SECONDS), "--here-memory", reference(workflow, HERE_MEMORY)]
    return Main(
        name,
        [*args, *budget, "--quarantine", reference(workflow, QUARANTINE)],
        POD_SECONDS["here"],
        mounts=[VolumeMount(name=AOI, mount_path=AOI_FOLDER, read_only=True)],
        pod_spec_patch=memory_patch(HERE_MEMORY),
        **options,
    )


def round_output(name: str) -> str:
    """Name of the output that says whether a plan needs an optional round; the plan writes it only if so.

    >>> round_output("statistics")
    'round-statistics'
    """
    return f"round-{name}"


def optional_rounds(job: Job[Any, Any]) -> list[str]:
    """Names of these outputs for all optional rounds of a job."""
    return [round_output(round_.name) for round_ in job.rounds if round_.optional]


def _plan_outputs(job: Job[Any, Any], folder: str, prefix: str = "", way: Way = Way.NOTHING) -> list[Parameter]:
    """The output parameters of a plan for its pods; `way` is the default for a job that was not planned."""
    defaults = {"plan-id": "", "shards": "[]", "shard-units": "1", "shard-count": "0", "way": way.value}
    defaults |= dict.fromkeys(optional_rounds(job), "no")
    return [_output(name, default=default, folder=folder, prefix=prefix) for name, default in defaults.items()]


def _parameter_args(workflow: WorkflowTemplate, bounds: list[Bound], prefix: str = "") -> list[str]:
    """The arguments with the settings of a job, for a pod that plans it."""
    args = []
    for bound in bounds:
        value = AOI_FILE if bound.option.field == AOI else reference(workflow, bound.parameter)
        args += ["--parameter", f"{prefix}{bound.option.field.replace('_', '-')}={value}"]
    return args


def run_pod(job: Job[Any, Any]) -> Main:
    """The pod that runs a shard."""
    names = ["plan-id", "round", "shard"]
    pod = Main(
        f"{job.name}-run",
        _stage_args(job, "run", names),
        POD_SECONDS["run"],
        inputs=[Parameter(name=name) for name in (*names, "units")],
        pod_spec_patch=memory_patch(),
    )
    # Without this, Argo counts a waiting pod as 0/1, and the total grows as pods start.
    pod.annotations = {"workflows.argoproj.io/progress": "0/{{inputs.parameters.units}}"}
    return pod


def gather_pod(workflow: WorkflowTemplate, job: Job[Any, Any]) -> Main:
    """The pod that gathers a round other than the last."""
    return Main(f"{job.name}-gather", _gather_args(workflow, job), inputs=_round_inputs())


def publish_pod(workflow: WorkflowTemplate, job: Job[Any, Any]) -> Main:
    """The pod that gathers the last round of a job and publishes the results."""
    outputs = [_artifact(job.name, name) for name in ARTIFACTS.get(job.name, ())]
    return Main(
        f"{job.name}-publish",
        [*_gather_args(workflow, job), "--outputs", OUTPUTS],
        inputs=_round_inputs(),
        outputs=[*figure_outputs(job.name, OUTPUTS), *outputs],
        metrics=figure_metrics(job.name, reference(workflow, AOI)),
    )


def _gather_args(workflow: WorkflowTemplate, job: Job[Any, Any]) -> list[str]:
    return [*_stage_args(job, "gather", ROUND_INPUTS), "--quarantine", reference(workflow, QUARANTINE)]


def _round_inputs() -> list[Parameter]:
    return [Parameter(name=name) for name in ROUND_INPUTS]


def _stage_args(job: Job[Any, Any], stage: str, names: list[str]) -> list[str]:
    args = [job.name, stage]
    for name in names:
        args += [f"--{name.removesuffix('-id')}", f"{{{{inputs.parameters.{name}}}}}"]
    return args


def _output(name: str, default: str, folder: str = OUTPUTS, prefix: str = "") -> Parameter:
    return Parameter(name=f"{prefix}{name}", value_from=ValueFrom(path=f"{folder}/{name}", default=default))


def _artifact(
    job: str, name: str, folder: str = OUTPUTS, prefix: str = "", *, optional: bool | None = None
) -> Artifact:
    """An artifact without compression, below the workflow's name; the UI chooses its view by the key's extension."""
    return S3Artifact(
        name=prefix + name.strip("/").replace(".", "-"),
        path=f"{folder}/{name.strip('/')}",
        archive=NoneArchiveStrategy(),
        key=f"{{{{workflow.name}}}}/{job}/{name}",
        optional=optional,
    )


def reference(workflow: WorkflowTemplate, parameter: str) -> str:
    """The expression with which a template refers to a parameter of its workflow."""
    return str(workflow.get_parameter(parameter).value)
