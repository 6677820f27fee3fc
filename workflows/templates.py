"""Build the WorkflowTemplates: for each job a plan, then for each round a fan-out and a gather."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hera.workflows import DAG, Parameter, Task, WorkflowTemplate
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
    EVENT_MONITOR,
    WEBHOOK,
    Bound,
    bound_to,
    here_parameters,
    memory_parameter,
    monitor_parameter,
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
from workflows.retries import LIMIT

__all__ = ["ALONE", "CHAIN", "TIDY", "after_all_of", "build_all"]

CHAIN = tuple(name for name, entry in JOBS.items() if entry.in_chain)
"""Jobs of `acd-all`, in order."""

ALONE = ("fuse",)
"""Jobs that have a workflow, but are not part of `acd-all`."""

TIDY = "tidy"
"""The workflow that deletes old files of the cube; it has no AOI."""

REST = "rest"
"""The DAG, and the task, with the remaining jobs of the chain."""

ITEM = "{{item}}"
PLAN_OUTPUTS = ("plan-id", "shards", "shard-units", "way")
"""Outputs of every plan for the tasks of its pods."""
USER = 65532
DAY = 86400
WITH_WEBHOOK = f"workflow.parameters.{WEBHOOK} != ''"
FAILED_WITH_WEBHOOK = f"{WITH_WEBHOOK} && workflow.status != 'Succeeded'"
"""Conditions of the exit handler's post: always, or only after a failure."""


def build_all() -> dict[str, WorkflowTemplate]:
    """Build every WorkflowTemplate by name: each job, `acd-all` and `acd-tidy`. The chart adds versioned names."""
    chains = {**{name: [name] for name in (*CHAIN, *ALONE)}, "all": list(CHAIN)}
    templates = {f"acd-{title}": _workflow(title, jobs) for title, jobs in chains.items()}
    return templates | {f"acd-{TIDY}": _tidy_workflow()}


def after_all_of(fan_out: str) -> str:
    """The dependency of a task that starts when all pods of a fan-out have ended, successfully or not.

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
    parameters.append(monitor_parameter())
    workflow = _empty_workflow(title, _annotations(title, jobs), parameters)
    aoi = reference(workflow, AOI)
    # Optional, so that a missing AOI is an error of the plan instead of a pod that waits forever.
    workflow.volumes = [Volume(name=AOI, config_map=ConfigMapVolumeSource(name=f"acd-aoi-{aoi}", optional=True))]
    with workflow:
        if len(jobs) > 1:
            dags = [_planned_dag(workflow, load_job(job)) for job in jobs]
            _chain_dag(workflow, title, dags, bounds)
        else:
            _job_dag(workflow, load_job(jobs[0]), bounds)
        workflow.on_exit = str(_exit_dag(workflow, aoi).name)
    return workflow


def _empty_workflow(title: str, annotations: dict[str, str], parameters: list[Parameter]) -> WorkflowTemplate:
    """A workflow without templates: restricted, with limits, labels and a time to live."""
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
    """Build the workflow of tidy: one pod, without an AOI's mutex, since it may run beside the jobs."""
    retention = retention_parameters()
    help_text = (
        "Deletes old runs, old versions of the index and of results, and files that nothing refers to. Images, current "
        "results and the current report are kept."
    )
    annotations = _description(
        TIDY, "delete what the cube no longer needs", help_text, f"argo submit --from workflowtemplate/acd-{TIDY}"
    )
    workflow = _empty_workflow(TIDY, annotations, [*retention, webhook_parameter()])
    workflow.synchronization = Synchronization(mutexes=[Mutex(name=f"acd.{TIDY}")])
    args = [TIDY, "--apply", "--if-any", "--json"]
    for parameter in retention:
        args += [f"--{parameter.name}", reference(workflow, str(parameter.name))]
    with workflow:
        Main(TIDY, args, POD_SECONDS["run"], of_aoi=False)
        workflow.on_exit = str(_exit_dag(workflow, "", FAILED_WITH_WEBHOOK).name)
    return workflow


def _job_dag(workflow: WorkflowTemplate, job: Job[Any, Any], bounds: list[Bound]) -> DAG:
    """Build the DAG of one job: its plan, and the pods for work that is too large for the planning pod."""
    planning = plan_pod(workflow, job, bounds)
    pods = _Pods(workflow, job)
    with _dag(workflow, job, synchronization=_mutex(workflow)) as dag:
        plan = Task(name="plan", template=planning)
        pods.add_rounds(lambda name: str(plan.get_parameter(name).value), plan)
    return dag


def _mutex(workflow: WorkflowTemplate) -> Synchronization:
    """The mutex of the AOI, for the entry DAG. The exit handler runs after it, so that no run waits for a receiver."""
    return Synchronization(mutexes=[Mutex(name=f"acd-{reference(workflow, AOI)}")])


def _plan_outputs(job: Job[Any, Any]) -> list[str]:
    """Names of a plan's outputs for the tasks of its pods."""
    return [*PLAN_OUTPUTS, *optional_rounds(job)]


def _planned_dag(workflow: WorkflowTemplate, job: Job[Any, Any]) -> DAG:
    """Build the DAG of one job of the chain, for a plan that exists already."""
    pods = _Pods(workflow, job)
    with _dag(workflow, job, inputs=[Parameter(name=name) for name in _plan_outputs(job)]) as dag:
        pods.add_rounds(lambda name: f"{{{{inputs.parameters.{name}}}}}", None)
    return dag


def _dag(workflow: WorkflowTemplate, job: Job[Any, Any], **options: Any) -> DAG:
    """A DAG in which shards continue when one of them fails, so that the next workflow has less to do."""
    return DAG(name=job.name, fail_fast=False, metrics=duration_metric(job.name, reference(workflow, AOI)), **options)


class _Pods:
    """The pods of a job after its plan: for each round a fan-out and a gather."""

    def __init__(self, workflow: WorkflowTemplate, job: Job[Any, Any]) -> None:
        self.job = job
        self.run = run_pod(job)
        self.gather = gather_pod(workflow, job) if len(job.rounds) > 1 else None
        self.publish = publish_pod(workflow, job)

    def add_rounds(self, output_of: Callable[[str], str], before: Task | None) -> None:
        """Add the tasks to the current DAG.

        `output_of` gives the expression for an output of the plan; `before` is the preceding task, if any.
        """
        by_pods = f"{output_of('way')} == {Way.PODS.value}"
        for round_ in self.job.rounds:
            round_name = round_.name
            needed = f" && {output_of(round_output(round_name))} == {NEEDED}" if round_.optional else ""
            condition = f"{by_pods}{needed}"
            round_inputs = {"plan-id": output_of("plan-id"), "round": round_name}
            run = Task(
                name=f"run-{round_name}",
                template=self.run,
                arguments={**round_inputs, "shard": ITEM, "units": output_of("shard-units")},
                with_param=output_of("shards"),
                when=condition,
            )
            gather = Task(
                name=f"gather-{round_name}",
                template=self.publish if round_name == self.job.round_names[-1] else self.gather,
                arguments=round_inputs,
                when=condition,
                # Gather names the failed shards, and continues if they may be left out.
                depends=after_all_of(run.name),
            )
            if before is not None:
                before >> run
            before = gather


def _chain_dag(workflow: WorkflowTemplate, title: str, dags: list[DAG], bounds: list[Bound]) -> None:
    """Build the DAGs of the chain: one pod runs small jobs; a larger job gets pods; a DAG like this does the rest.

    Because of the recursion, every reference is to an output of the DAG's own first task, which has always run. The
    entry DAG is not part of the recursion, since it holds the mutex.
    """
    chain = chain_pod(workflow, [str(dag.name) for dag in dags], bounds)
    _chain_steps(DAG(name=REST, fail_fast=False, inputs=[Parameter(name=FROM)]), chain, dags)
    entry = DAG(
        name=title,
        fail_fast=False,
        inputs=[Parameter(name=FROM, value=str(dags[0].name))],
        metrics=duration_metric(title, reference(workflow, AOI)),
        synchronization=_mutex(workflow),
    )
    _chain_steps(entry, chain, dags)


def _chain_steps(steps: DAG, chain: Main, dags: list[DAG]) -> None:
    with steps:
        plan = Task(name="plan", template=chain, arguments={FROM: f"{{{{inputs.parameters.{FROM}}}}}"})
        tasks = []
        for dag in dags:
            names = _plan_outputs(load_job(str(dag.name)))
            outputs = {name: plan.get_parameter(f"{dag.name}-{name}").value for name in names}
            task = Task(
                name=str(dag.name), template=dag, arguments=outputs, when=f"{outputs['way']} == {Way.PODS.value}"
            )
            plan >> task
            tasks.append(task)
        next_job = plan.get_parameter("next").value
        Task(
            name=REST,
            template=REST,
            arguments={FROM: next_job},
            when=f"{next_job} != {END}",
            depends=" && ".join(str(task.name) for task in tasks),
        )


def _exit_dag(workflow: WorkflowTemplate, aoi: str, when: str = WITH_WEBHOOK) -> DAG:
    """Build the exit handler, which notifies the webhook; without a webhook there is no pod."""
    pod = _notify_pod(workflow, aoi)
    with DAG(name="exit", fail_fast=False) as dag:
        # An expression, since a quoted address could contain quotes.
        Task(name="notify", template=pod, when=f"{{{{={when}}}}}")
    return dag


def _notify_pod(workflow: WorkflowTemplate, aoi: str) -> Main:
    """The pod that notifies the webhook. It gets no list of failures, since a long one could prevent its start."""
    options = {
        "run": "{{workflow.uid}}",
        "status": "{{workflow.status}}",
        "aoi": aoi,
        "webhook": reference(workflow, WEBHOOK),
        "workflow": "{{workflow.name}}",
        "namespace": "{{workflow.namespace}}",
        **({"monitor": reference(workflow, EVENT_MONITOR)} if aoi else {}),
        "retry": "{{retries}}",
        "retries": str(LIMIT),
    }
    args = [argument for name, value in options.items() for argument in (f"--{name}", value)]
    return Main("notify", ["notify", *args], of_aoi=False)


def _annotations(title: str, jobs: list[str]) -> dict[str, str]:
    rounds = [f"`{job}` ({', '.join(load_job(job).round_names)})" for job in jobs]
    summary = JOBS[title].summary if title in JOBS else "Ingest, consolidate, baseline, monitor and report."
    text = (
        JOBS[title].help
        if title in JOBS
        else "Runs all jobs, one after the other. Jobs with nothing to do are skipped."
    )
    return _description(
        title,
        f"{summary[:1].lower()}{summary[1:].rstrip('.')}",
        f"{text}\n\nJobs and rounds: {'; '.join(rounds)}.",
        f"argo submit --from workflowtemplate/acd-{title} -p aoi=NAME",
    )


def _description(title: str, summary: str, text: str, example: str) -> dict[str, str]:
    """The annotations with title and description, which Argo's UI shows."""
    return {
        "workflows.argoproj.io/title": f"**acd {title}**: {summary}",
        "workflows.argoproj.io/description": f"{text} acd {__version__}.\n\n`{example}`\n",
    }
