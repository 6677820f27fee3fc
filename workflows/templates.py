"""The builder of WorkflowTemplates: for each job a plan, then for each round a fan-out and a gather."""

from __future__ import annotations

from typing import Any

from hera.workflows import (
    DAG,
    Artifact,
    Container,
    EmptyDirVolume,
    Env,
    NoneArchiveStrategy,
    Parameter,
    S3Artifact,
    Task,
    WorkflowTemplate,
)
from hera.workflows.models import (
    Capabilities,
    ConfigMapVolumeSource,
    Mutex,
    PodGC,
    PodSecurityContext,
    SeccompProfile,
    SecurityContext,
    Synchronization,
    TTLStrategy,
    ValueFrom,
    Volume,
    VolumeMount,
    WorkflowMetadata,
)
from hera.workflows.models import Container as ContainerModel

from acdtask import __version__
from acdtask.engine.carried import POD_SECONDS, PODS_AT_ONCE, WORKFLOW_SECONDS
from acdtask.jobs.contract import Job
from acdtask.jobs.registry import JOBS, load_job
from workflows.metrics import duration_metric, figure_metrics, figure_outputs
from workflows.parameters import (
    AOI,
    AOI_FILE,
    AOI_FOLDER,
    QUARANTINE,
    WEBHOOK,
    Bound,
    bound_to,
    memory_parameter,
    parameter_of,
    quarantine_parameter,
    retention_parameters,
    webhook_parameter,
)
from workflows.retries import memory_patch, retry_strategy

__all__ = ["CHAIN", "TIDY", "after_all_of", "build_all", "version_suffix"]

CHAIN = tuple(name for name in JOBS if name != "simulate")
"""The jobs that have a workflow, in the order of `acd-all`."""

TIDY = "tidy"
"""The workflow that keeps the cube small; it has no AOI."""

OUTPUTS = "/tmp/acd"  # noqa: S108  # a path in the pod, where /tmp is a volume of its own
ITEM = "{{item}}"
ROUND = ["plan-id", "round"]
"""What a gather is told."""
USER = 65532
DAY = 86400
WITH_WEBHOOK = f"workflow.parameters.{WEBHOOK} != ''"
FAILED_WITH_WEBHOOK = f"{WITH_WEBHOOK} && workflow.status != 'Succeeded'"
"""When the exit handler posts: always, or only a failure."""
IMAGE = "acdtask"
"""A placeholder: the chart gives the image."""

ARTIFACTS = {"monitor": ("patches.geojson", "patches.parquet"), "report": ("report/", "quicklook.png")}
"""What the last gather of a job leaves below OUTPUTS for the Argo UI; a folder ends in a slash."""


class Main(Container):
    """A container as every pod of ours has it: `main`, restricted, with nothing writable but /tmp."""

    def __init__(
        self,
        name: str,
        args: list[str],
        seconds: int = POD_SECONDS["gather"],
        mounts: list[VolumeMount] | None = None,
        **more: Any,
    ):
        super().__init__(
            name=name,
            image=IMAGE,
            command=["acdtask"],
            args=args,
            env=[Env(name="ACD_RUN_ID", value="{{workflow.uid}}"), Env(name="ACD_LOG", value="json")],
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
            **more,
        )

    def _build_container(self) -> ContainerModel:
        container = super()._build_container()
        container.name = "main"
        return container


def build_all() -> dict[str, WorkflowTemplate]:
    """Every WorkflowTemplate by name: each job, `acd-all` and `acd-tidy`, under a stable and a versioned name."""
    chains = {**{name: [name] for name in CHAIN}, "all": list(CHAIN)}
    built = {}
    for title, jobs in chains.items():
        for name in _names(title):
            built[name] = _workflow(name, title, jobs)
    return built | {name: _tidy_workflow(name) for name in _names(TIDY)}


def _names(title: str) -> tuple[str, str]:
    return f"acd-{title}", f"acd-{title}-{version_suffix()}"


def after_all_of(fan_out: str) -> str:
    """What a task depends on that begins when every pod of a fan-out has ended, well or not.

    >>> after_all_of("run-check")
    'run-check || run-check.Failed || run-check.Errored'
    """
    return f"{fan_out} || {fan_out}.Failed || {fan_out}.Errored"


def version_suffix() -> str:
    """The version as a part of a Kubernetes name.

    >>> version_suffix() == __version__.replace(".", "-")
    True
    """
    return "".join(letter if letter.isalnum() else "-" for letter in __version__.lower())


def _workflow(name: str, title: str, jobs: list[str]) -> WorkflowTemplate:
    bounds = [bound for job in jobs for bound in bound_to(job, load_job(job).settings, alone=len(jobs) == 1)]
    by_parameter: dict[str, list[Bound]] = {}
    for bound in bounds:
        by_parameter.setdefault(bound.parameter, []).append(bound)
    parameters = [parameter_of(group) for group in by_parameter.values()]
    parameters += [memory_parameter(), quarantine_parameter(), webhook_parameter()]
    workflow = _empty_workflow(name, title, _annotations(title, jobs), parameters)
    aoi = _reference(workflow, AOI)
    workflow.synchronization = Synchronization(mutexes=[Mutex(name=f"acd-{aoi}")])
    # Optional, so that a missing AOI is an error of the plan and not a pod that waits for ever.
    workflow.volumes = [Volume(name=AOI, config_map=ConfigMapVolumeSource(name=f"acd-aoi-{aoi}", optional=True))]
    with workflow:
        dags = [_job_dag(workflow, load_job(job), [one for one in bounds if one.job == job]) for job in jobs]
        if len(jobs) > 1:
            _chain_dag(title, dags)
        workflow.on_exit = str(_exit_dag(workflow, aoi).name)
    return workflow


def _empty_workflow(
    name: str, title: str, annotations: dict[str, str], parameters: list[Parameter]
) -> WorkflowTemplate:
    """A workflow as every one of ours is: restricted, with limits, labels and a time to live."""
    labels = {
        "app.kubernetes.io/name": "acd",
        "app.kubernetes.io/component": title,
        "app.kubernetes.io/version": __version__,
    }
    return WorkflowTemplate(
        name=name,
        labels=labels,
        annotations=annotations,
        workflow_metadata=WorkflowMetadata(labels=labels, annotations=annotations),
        entrypoint=title,
        arguments=parameters,
        active_deadline_seconds=WORKFLOW_SECONDS,
        parallelism=PODS_AT_ONCE,
        pod_gc=PodGC(strategy="OnPodSuccess"),
        ttl_strategy=TTLStrategy(seconds_after_success=3 * DAY, seconds_after_failure=7 * DAY),
        security_context=PodSecurityContext(
            run_as_non_root=True,
            run_as_user=USER,
            run_as_group=USER,
            fs_group=USER,
            seccomp_profile=SeccompProfile(type="RuntimeDefault"),
        ),
    )


def _tidy_workflow(name: str) -> WorkflowTemplate:
    """One pod that deletes what the cube no longer needs. It runs beside the jobs, so it has no AOI's mutex."""
    retention = retention_parameters()
    help_text = (
        "Deletes old runs, old versions of the index and of results, and files that nothing names. Results, images and "
        "the current report stay."
    )
    annotations = _described(
        TIDY, "delete what the cube no longer needs", help_text, f"argo submit --from workflowtemplate/acd-{TIDY}"
    )
    workflow = _empty_workflow(name, TIDY, annotations, [*retention, webhook_parameter()])
    workflow.synchronization = Synchronization(mutexes=[Mutex(name=f"acd.{TIDY}")])
    args = [TIDY, "--apply", "--if-any", "--json"]
    for parameter in retention:
        args += [f"--{parameter.name}", _reference(workflow, str(parameter.name))]
    with workflow:
        Main(TIDY, args, POD_SECONDS["run"])
        workflow.on_exit = str(_exit_dag(workflow, "", FAILED_WITH_WEBHOOK).name)
    return workflow


def _job_dag(workflow: WorkflowTemplate, job: Job[Any, Any], bounds: list[Bound]) -> DAG:
    plan_pod = _plan_pod(workflow, job, bounds)
    run_pod = _run_pod(workflow, job, bounds)
    gather_pod = _gather_pod(workflow, job) if len(job.round_names) > 1 else None
    publish_pod = _publish_pod(workflow, job)
    # Shards go on when one of them fails, so that the next workflow has less to do.
    metrics = duration_metric(job.name, _reference(workflow, AOI))
    with DAG(name=job.name, fail_fast=False, metrics=metrics) as dag:
        plan = Task(name="plan", template=plan_pod)
        plan_id = plan.get_parameter("plan-id").value
        some = f"{plan.get_parameter('shard-count').value} != 0"
        before = plan
        for round_name in job.round_names:
            which = {"plan-id": plan_id, "round": round_name}
            run = Task(
                name=f"run-{round_name}",
                template=run_pod,
                arguments={**which, "shard": ITEM},
                with_param=plan.get_parameter("shards"),
                when=some,
            )
            last = round_name == job.round_names[-1]
            gather = Task(
                name=f"gather-{round_name}",
                template=publish_pod if last else gather_pod,
                arguments=which,
                when=some,
                # It says which shards failed, and goes on if they may be left out.
                depends=after_all_of(run.name),
            )
            before >> run
            before = gather
    return dag


def _chain_dag(title: str, dags: list[DAG]) -> None:
    with DAG(name=title, fail_fast=False):
        before: Task | None = None
        for dag in dags:
            task = Task(name=str(dag.name), template=dag)
            if before is not None:
                before >> task
            before = task


def _exit_dag(workflow: WorkflowTemplate, aoi: str, when: str = WITH_WEBHOOK) -> DAG:
    """Tells the webhook how the workflow ended; without one there is no pod."""
    pod = _notify_pod(workflow, aoi)
    with DAG(name="exit", fail_fast=False) as dag:
        # An expression, since an address between quotes might bring a quote of its own.
        Task(name="notify", template=pod, when=f"{{{{={when}}}}}")
    return dag


def _notify_pod(workflow: WorkflowTemplate, aoi: str) -> Main:
    """It is told the status alone: a list of failures that is too long would keep Argo from starting it."""
    told = {
        "run": "{{workflow.uid}}",
        "status": "{{workflow.status}}",
        "aoi": aoi,
        "webhook": _reference(workflow, WEBHOOK),
        "workflow": "{{workflow.name}}",
        "namespace": "{{workflow.namespace}}",
    }
    return Main("notify", ["notify", *[word for name, value in told.items() for word in (f"--{name}", value)]])


def _plan_pod(workflow: WorkflowTemplate, job: Job[Any, Any], bounds: list[Bound]) -> Main:
    args = [job.name, "plan", "--outputs", OUTPUTS]
    for bound in bounds:
        value = AOI_FILE if bound.option.field == AOI else _reference(workflow, bound.parameter)
        args += ["--parameter", f"{bound.option.field.replace('_', '-')}={value}"]
    args += ["--quarantine", _reference(workflow, QUARANTINE)]
    return Main(
        f"{job.name}-plan",
        args,
        POD_SECONDS["plan"],
        mounts=[VolumeMount(name=AOI, mount_path=AOI_FOLDER, read_only=True)],
        outputs=[
            _output("plan-id", default=""),
            _output("shards", default="[]"),
            _output("shard-count", default="0"),
            _artifact(job.name, "plan.json"),
            _artifact(job.name, "summary.md"),
        ],
    )


def _run_pod(workflow: WorkflowTemplate, job: Job[Any, Any], bounds: list[Bound]) -> Main:
    names = ["plan-id", "round", "shard"]
    pod = Main(
        f"{job.name}-run",
        _stage_args(job, "run", names),
        POD_SECONDS["run"],
        inputs=[Parameter(name=name) for name in names],
        pod_spec_patch=memory_patch(),
    )
    units = [bound.parameter for bound in bounds if bound.option.field in {"shard_tiles", "shard_files"}]
    if units:
        # Without it Argo counts a waiting pod as 0/1, and the total grows as pods start.
        pod.annotations = {"workflows.argoproj.io/progress": f"0/{_reference(workflow, units[0])}"}
    return pod


def _gather_pod(workflow: WorkflowTemplate, job: Job[Any, Any]) -> Main:
    return Main(f"{job.name}-gather", _gather_args(workflow, job), inputs=_round_inputs())


def _publish_pod(workflow: WorkflowTemplate, job: Job[Any, Any]) -> Main:
    """The last gather of a job."""
    outputs = [_artifact(job.name, name) for name in ARTIFACTS.get(job.name, ())]
    return Main(
        f"{job.name}-publish",
        [*_gather_args(workflow, job), "--outputs", OUTPUTS],
        inputs=_round_inputs(),
        outputs=[*figure_outputs(job.name, OUTPUTS), *outputs],
        metrics=figure_metrics(job.name, _reference(workflow, AOI)),
    )


def _gather_args(workflow: WorkflowTemplate, job: Job[Any, Any]) -> list[str]:
    return [*_stage_args(job, "gather", ROUND), "--quarantine", _reference(workflow, QUARANTINE)]


def _round_inputs() -> list[Parameter]:
    return [Parameter(name=name) for name in ROUND]


def _stage_args(job: Job[Any, Any], stage: str, names: list[str]) -> list[str]:
    args = [job.name, stage]
    for name in names:
        args += [f"--{name.removesuffix('-id')}", f"{{{{inputs.parameters.{name}}}}}"]
    return args


def _output(name: str, default: str) -> Parameter:
    return Parameter(name=name, value_from=ValueFrom(path=f"{OUTPUTS}/{name}", default=default))


def _artifact(job: str, name: str) -> Artifact:
    """A file or folder as it is, below the workflow's name; the UI shows it by the end of its key."""
    return S3Artifact(
        name=name.strip("/").replace(".", "-"),
        path=f"{OUTPUTS}/{name.strip('/')}",
        archive=NoneArchiveStrategy(),
        key=f"{{{{workflow.name}}}}/{job}/{name}",
    )


def _reference(workflow: WorkflowTemplate, parameter: str) -> str:
    return str(workflow.get_parameter(parameter).value)


def _annotations(title: str, jobs: list[str]) -> dict[str, str]:
    rounds = [f"`{job}` ({', '.join(load_job(job).round_names)})" for job in jobs]
    summary = JOBS[title].summary if title in JOBS else "Ingest, consolidate, baseline, monitor and report."
    text = (
        JOBS[title].help if title in JOBS else "Does all jobs, one after the other. A job with nothing new is skipped."
    )
    return _described(
        title,
        f"{summary[:1].lower()}{summary[1:].rstrip('.')}",
        f"{text}\n\nJobs and rounds: {'; '.join(rounds)}.",
        f"argo submit --from workflowtemplate/acd-{title} -p aoi=NAME",
    )


def _described(title: str, summary: str, text: str, example: str) -> dict[str, str]:
    """What Argo's UI says of a workflow."""
    return {
        "workflows.argoproj.io/title": f"**acd {title}**: {summary}",
        "workflows.argoproj.io/description": f"{text} acd {__version__}.\n\n`{example}`\n",
    }
