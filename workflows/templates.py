"""The builder of WorkflowTemplates: for each job a plan, then for each round a fan-out and a gather."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hera.workflows import (
    DAG,
    Parameter,
    Task,
    WorkflowTemplate,
)
from hera.workflows.models import (
    ConfigMapVolumeSource,
    Mutex,
    PodGC,
    PodSecurityContext,
    SeccompProfile,
    Synchronization,
    TTLStrategy,
    Volume,
    WorkflowMetadata,
)

from acdtask import __version__
from acdtask.engine.chain import END
from acdtask.engine.pod import NEEDED
from acdtask.engine.small_work import Way
from acdtask.engine.workflow_limits import POD_SECONDS, PODS_AT_ONCE, WORKFLOW_SECONDS
from acdtask.jobs.contract import Job
from acdtask.jobs.registry import JOBS, load_job
from workflows.metrics import duration_metric
from workflows.parameters import (
    AOI,
    WEBHOOK,
    Bound,
    bound_to,
    here_parameters,
    memory_parameter,
    parameter_of,
    quarantine_parameter,
    retention_parameters,
    webhook_parameter,
)
from workflows.pods import (
    FROM,
    Main,
    chain_pod,
    gather_pod,
    optional_rounds,
    plan_pod,
    publish_pod,
    reference,
    round_output,
    run_pod,
)

__all__ = ["CHAIN", "TIDY", "after_all_of", "build_all"]

CHAIN = tuple(name for name in JOBS if name != "simulate")
"""The jobs that have a workflow, in the order of `acd-all`."""

TIDY = "tidy"
"""The workflow that keeps the cube small; it has no AOI."""

ITEM = "{{item}}"
HANDED_OVER = ("plan-id", "shards", "shard-units", "way")
"""What the pods of every plan are told by the pod that made it."""
USER = 65532
DAY = 86400
WITH_WEBHOOK = f"workflow.parameters.{WEBHOOK} != ''"
FAILED_WITH_WEBHOOK = f"{WITH_WEBHOOK} && workflow.status != 'Succeeded'"
"""When the exit handler posts: always, or only a failure."""


def build_all() -> dict[str, WorkflowTemplate]:
    """Every WorkflowTemplate by name: each job, `acd-all` and `acd-tidy`. The chart adds a versioned name to each."""
    chains = {**{name: [name] for name in CHAIN}, "all": list(CHAIN)}
    built = {f"acd-{title}": _workflow(title, jobs) for title, jobs in chains.items()}
    return built | {f"acd-{TIDY}": _tidy_workflow()}


def after_all_of(fan_out: str) -> str:
    """What a task depends on that begins when every pod of a fan-out has ended, well or not.

    >>> after_all_of("run-check")
    'run-check || run-check.Failed || run-check.Errored'
    """
    return f"{fan_out} || {fan_out}.Failed || {fan_out}.Errored"


def _workflow(title: str, jobs: list[str]) -> WorkflowTemplate:
    bounds = [bound for job in jobs for bound in bound_to(job, load_job(job).settings, alone=len(jobs) == 1)]
    by_parameter: dict[str, list[Bound]] = {}
    for bound in bounds:
        by_parameter.setdefault(bound.parameter, []).append(bound)
    parameters = [parameter_of(group) for group in by_parameter.values()]
    parameters += [memory_parameter(), *here_parameters(), quarantine_parameter(), webhook_parameter()]
    workflow = _empty_workflow(title, _annotations(title, jobs), parameters)
    aoi = reference(workflow, AOI)
    workflow.synchronization = Synchronization(mutexes=[Mutex(name=f"acd-{aoi}")])
    # Optional, so that a missing AOI is an error of the plan and not a pod that waits for ever.
    workflow.volumes = [Volume(name=AOI, config_map=ConfigMapVolumeSource(name=f"acd-aoi-{aoi}", optional=True))]
    with workflow:
        if len(jobs) > 1:
            dags = [_handed_over_dag(workflow, load_job(job)) for job in jobs]
            _chain_dag(workflow, title, dags, bounds)
        else:
            _job_dag(workflow, load_job(jobs[0]), bounds)
        workflow.on_exit = str(_exit_dag(workflow, aoi).name)
    return workflow


def _empty_workflow(title: str, annotations: dict[str, str], parameters: list[Parameter]) -> WorkflowTemplate:
    """A workflow as every one of ours is: restricted, with limits, labels and a time to live."""
    labels = {
        "app.kubernetes.io/name": "acd",
        "app.kubernetes.io/component": title,
        "app.kubernetes.io/version": __version__,
    }
    return WorkflowTemplate(
        name=f"acd-{title}",
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


def _tidy_workflow() -> WorkflowTemplate:
    """One pod that deletes what the cube no longer needs. It runs beside the jobs, so it has no AOI's mutex."""
    retention = retention_parameters()
    help_text = (
        "Deletes old runs, old versions of the index and of results, and files that nothing names. Results, images and "
        "the current report stay."
    )
    annotations = _described(
        TIDY, "delete what the cube no longer needs", help_text, f"argo submit --from workflowtemplate/acd-{TIDY}"
    )
    workflow = _empty_workflow(TIDY, annotations, [*retention, webhook_parameter()])
    workflow.synchronization = Synchronization(mutexes=[Mutex(name=f"acd.{TIDY}")])
    args = [TIDY, "--apply", "--if-any", "--json"]
    for parameter in retention:
        args += [f"--{parameter.name}", reference(workflow, str(parameter.name))]
    with workflow:
        Main(TIDY, args, POD_SECONDS["run"])
        workflow.on_exit = str(_exit_dag(workflow, "", FAILED_WITH_WEBHOOK).name)
    return workflow


def _job_dag(workflow: WorkflowTemplate, job: Job[Any, Any], bounds: list[Bound]) -> DAG:
    """A workflow of one job: its plan, and the pods of a plan that is too large for the pod that made it."""
    planning = plan_pod(workflow, job, bounds)
    pods = _Pods(workflow, job)
    with _dag(workflow, job) as dag:
        plan = Task(name="plan", template=planning)
        pods.add_rounds(lambda name: str(plan.get_parameter(name).value), plan)
    return dag


def _handed_over(job: Job[Any, Any]) -> list[str]:
    """What the pods of a plan are told by the pod that made it, by name of the output."""
    return [*HANDED_OVER, *optional_rounds(job)]


def _handed_over_dag(workflow: WorkflowTemplate, job: Job[Any, Any]) -> DAG:
    """The pods of a job of the whole chain, for a plan that was made before."""
    pods = _Pods(workflow, job)
    with _dag(workflow, job, inputs=[Parameter(name=name) for name in _handed_over(job)]) as dag:
        pods.add_rounds(lambda name: f"{{{{inputs.parameters.{name}}}}}", None)
    return dag


def _dag(workflow: WorkflowTemplate, job: Job[Any, Any], **more: Any) -> DAG:
    """Shards go on when one of them fails, so that the next workflow has less to do."""
    return DAG(name=job.name, fail_fast=False, metrics=duration_metric(job.name, reference(workflow, AOI)), **more)


class _Pods:
    """The pods of a job beside its plan: for each round a fan-out and a gather."""

    def __init__(self, workflow: WorkflowTemplate, job: Job[Any, Any]) -> None:
        self.job = job
        self.run = run_pod(job)
        self.gather = gather_pod(workflow, job) if len(job.rounds) > 1 else None
        self.publish = publish_pod(workflow, job)

    def add_rounds(self, handed_over: Callable[[str], str], before: Task | None) -> None:
        """Add the tasks to the DAG that is being made.

        Args:
            handed_over: how its tasks refer to what they are told of the plan.
            before: the task that comes before them, if there is one.
        """
        by_pods = f"{handed_over('way')} == {Way.PODS.value}"
        for round_ in self.job.rounds:
            round_name = round_.name
            needed = f" && {handed_over(round_output(round_name))} == {NEEDED}" if round_.optional else ""
            wanted = f"{by_pods}{needed}"
            which = {"plan-id": handed_over("plan-id"), "round": round_name}
            run = Task(
                name=f"run-{round_name}",
                template=self.run,
                arguments={**which, "shard": ITEM, "units": handed_over("shard-units")},
                with_param=handed_over("shards"),
                when=wanted,
            )
            gather = Task(
                name=f"gather-{round_name}",
                template=self.publish if round_name == self.job.round_names[-1] else self.gather,
                arguments=which,
                when=wanted,
                # It says which shards failed, and goes on if they may be left out.
                depends=after_all_of(run.name),
            )
            if before is not None:
                before >> run
            before = gather


def _chain_dag(workflow: WorkflowTemplate, title: str, dags: list[DAG], bounds: list[Bound]) -> None:
    """One pod does job after job. The first that is too large gets pods, and the rest begins again behind it.

    The DAG uses itself for the rest, so all references are to the outputs of its own first task, which has run.
    """
    chain = chain_pod(workflow, [str(dag.name) for dag in dags], bounds)
    metrics = duration_metric(title, reference(workflow, AOI))
    with DAG(name=title, fail_fast=False, inputs=[Parameter(name=FROM, value=str(dags[0].name))], metrics=metrics):
        plan = Task(name="plan", template=chain, arguments={FROM: f"{{{{inputs.parameters.{FROM}}}}}"})
        tasks = []
        for dag in dags:
            names = _handed_over(load_job(str(dag.name)))
            given = {name: plan.get_parameter(f"{dag.name}-{name}").value for name in names}
            task = Task(name=str(dag.name), template=dag, arguments=given, when=f"{given['way']} == {Way.PODS.value}")
            plan >> task
            tasks.append(task)
        going_on = plan.get_parameter("next").value
        Task(
            name="rest",
            template=title,
            arguments={FROM: going_on},
            when=f"{going_on} != {END}",
            depends=" && ".join(str(task.name) for task in tasks),
        )


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
        "webhook": reference(workflow, WEBHOOK),
        "workflow": "{{workflow.name}}",
        "namespace": "{{workflow.namespace}}",
    }
    return Main("notify", ["notify", *[word for name, value in told.items() for word in (f"--{name}", value)]])


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
