"""Rules for our WorkflowTemplates beyond those of Argo. Each prevents a failure that has happened."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from workflows.metrics import SUCCEEDED
from workflows.retries import retry_expression
from workflows.templates import after_all_of

__all__ = ["RULES", "problems"]

Json = Mapping[str, Any]

REMOVED = frozenset({"mutex", "semaphore", "schedule", "podPriority", "onlyIfFailed"})
"""Fields that Argo 4 no longer has, or that have a plural form since 3.6."""
UNWANTED = frozenset({"templateDefaults", "memoize", "templateRef", "withItems", "withSequence", "script", "resource"})
REFERENCE = re.compile(r"\{\{([^=].*?)\}\}")
FAN_OUT = re.compile(r"\{\{tasks\.([\w-]+)\.outputs\.parameters\.([\w-]+)\}\}")
INPUT = re.compile(r"\{\{inputs\.parameters\.([\w-]+)\}\}")
TASK_RESULT = re.compile(r"[\w-]+(?:\.\w+)?")
PROVIDED = frozenset({"workflow.uid", "workflow.name", "workflow.namespace", "item"})
METRIC_NAME = re.compile(r"acd_[a-z0-9]+(_[a-z0-9]+)*")
OF_METRICS = frozenset({"status", "duration"})
"""Variables available to metrics, besides the outputs of their template."""
STATUS = "workflow.status"
"""Available in exit handlers only. workflow.failures is not: a long list would keep the pod from starting."""


def problems(document: Json) -> list[str]:
    """Check a template; returns a sentence for each broken rule."""
    return [problem for rule in RULES for problem in rule(document)]


def _templates(document: Json) -> list[Json]:
    return list(document["spec"]["templates"])


def _pods(document: Json) -> list[Json]:
    return [template for template in _templates(document) if "dag" not in template]


def _tasks(document: Json) -> Iterator[tuple[Json, Json]]:
    for template in _templates(document):
        for task in template.get("dag", {}).get("tasks", []):
            yield template, task


def _nodes(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Iterate over a value and all nested values, each with the closest key above it."""
    yield key, value
    if isinstance(value, Mapping):
        for child_key, child in value.items():
            yield from _nodes(child, child_key)
    elif isinstance(value, list):
        for child in value:
            yield from _nodes(child, key)


def _fields(document: Json) -> Iterator[str]:
    for key, _ in _nodes(document):
        if key in REMOVED:
            yield f"the field {key} is not in every supported version of Argo"
        if key in UNWANTED:
            yield f"the field {key} is not allowed here"


def _retries(document: Json) -> Iterator[str]:
    if "retryStrategy" in document["spec"]:
        yield "the workflow has a retryStrategy, which would apply to DAGs"
    for template in _templates(document):
        retry = template.get("retryStrategy")
        if "dag" in template and retry:
            yield f"the DAG {template['name']} has a retryStrategy, which would run completed tasks again"
        if "dag" not in template and (not retry or retry.get("expression") != retry_expression()):
            yield f"the pod {template['name']} does not have the generated retry expression"
        if retry and retry.get("retryPolicy") != "Always":
            yield f"the retryPolicy of {template['name']} is not Always"
        if retry and "maxDuration" in retry.get("backoff", {}):
            yield f"{template['name']} has a maxDuration: long work would never be retried"


def _fan_outs(document: Json) -> Iterator[str]:
    for dag, task in _tasks(document):
        if "withParam" not in task:
            continue
        yield from _items(document, dag, task["name"], task["withParam"])
        for argument in task.get("arguments", {}).get("parameters", []):
            if "{{item" in argument.get("value", "") and argument["value"] != "{{item}}":
                yield f"argument {argument['name']} of {task['name']} must be exactly {{{{item}}}}: items are integers"


def _items(document: Json, dag: Json, name: str, source: str) -> Iterator[str]:
    """Check that the items of a fan-out come from a file, possibly through an input of its DAG."""
    dag_input = INPUT.fullmatch(source)
    if dag_input is not None:
        for caller, task in _tasks(document):
            if task["template"] == dag["name"]:
                arguments = task.get("arguments", {}).get("parameters", [])
                values = {argument["name"]: argument["value"] for argument in arguments}
                yield from _items(document, caller, name, values.get(dag_input[1], ""))
        return
    match = FAN_OUT.fullmatch(source)
    if match is None:
        yield f"withParam of {name} is not an output parameter of a task: {source}"
        return
    by_name = {template["name"]: template for template in _templates(document)}
    owner = next((task for task in dag["dag"]["tasks"] if task["name"] == match[1]), {"template": ""})
    outputs = by_name.get(owner["template"], {}).get("outputs", {}).get("parameters", [])
    paths = [output["valueFrom"].get("path") for output in outputs if output["name"] == match[2]]
    if not paths or not paths[0]:
        yield f"withParam of {name} does not come from a file"


def _gathers(document: Json) -> Iterator[str]:
    """Check that gathers run after all pods of a fan-out, even failed ones, with the quarantine limit."""
    by_name = {template["name"]: template for template in _templates(document)}
    for dag, task in _tasks(document):
        fan_outs = {other["name"] for other in dag["dag"]["tasks"] if "withParam" in other} & _dependencies(task)
        if not fan_outs:
            continue
        if task["depends"] != after_all_of(next(iter(fan_outs))):
            yield f"task {task['name']} of {dag['name']} does not start if a shard has failed"
        args = by_name.get(task["template"], {}).get("container", {}).get("args", [])
        if "--quarantine {{workflow.parameters.quarantine}}" not in " ".join(args):
            yield f"{task['template']} does not get --quarantine, the number of shards that may be left out"


def _dependencies(task: Json) -> set[str]:
    """Names of the tasks in a `depends` expression."""
    return {name.partition(".")[0] for name in TASK_RESULT.findall(task.get("depends", ""))}


def _whens(document: Json) -> Iterator[str]:
    for _, task in _tasks(document):
        if "{{item" in task.get("when", ""):
            yield f"'when' of {task['name']} uses an item: Argo may skip the whole fan-out"


def _outputs(document: Json) -> Iterator[str]:
    for template in _templates(document):
        outputs = template.get("outputs", {})
        for parameter in outputs.get("parameters", []):
            if "default" not in parameter["valueFrom"]:
                yield f"output {parameter['name']} of {template['name']} has no default"
        for artifact in outputs.get("artifacts", []):
            if artifact.get("archive") != {"none": {}}:
                yield f"artifact {artifact['name']} of {template['name']} is archived, so the UI cannot show it"
            if "." not in artifact["path"].rsplit("/", 1)[1] and not artifact["s3"]["key"].endswith("/"):
                yield f"artifact {artifact['name']} of {template['name']} is a folder, but its key does not end in '/'"


def _references(document: Json) -> Iterator[str]:
    parameters = document["spec"]["arguments"]["parameters"]
    known = {f"workflow.parameters.{parameter['name']}" for parameter in parameters} | PROVIDED
    outside_templates = {key: value for key, value in document["spec"].items() if key != "templates"}
    yield from _unknown(outside_templates, known, "the workflow")
    handlers = _reached_from(document["spec"].get("onExit", ""), document)
    for template in _templates(document):
        inputs = {
            f"inputs.parameters.{parameter['name']}" for parameter in template.get("inputs", {}).get("parameters", [])
        }
        variables = known | inputs | ({STATUS} if template["name"] in handlers else set())
        yield from _metric_references(template, variables)
        if "dag" not in template:
            of_retries = {"retries"} if "retryStrategy" in template else set()
            yield from _unknown(_without_metrics(template), variables | of_retries, template["name"])
            continue
        yield from _task_references(document, template, variables)


def _without_metrics(template: Json) -> Json:
    return {key: value for key, value in template.items() if key != "metrics"}


def _metric_references(template: Json, known: set[str]) -> Iterator[str]:
    outputs = template.get("outputs", {}).get("parameters", [])
    variables = known | OF_METRICS | {f"outputs.parameters.{output['name']}" for output in outputs}
    yield from _unknown(template.get("metrics", {}), variables, f"the metrics of {template['name']}")


def _metrics(document: Json) -> Iterator[str]:
    if "metrics" in document["spec"]:
        yield "the workflow has metrics; only its jobs should"
    seen: dict[str, tuple[Any, ...]] = {}
    for template in _templates(document):
        for metric in template.get("metrics", {}).get("prometheus", []):
            yield from _metric(metric, template["name"], seen)


def _metric(metric: Json, template: str, seen: dict[str, tuple[Any, ...]]) -> Iterator[str]:
    name, kinds = metric["name"], metric.keys() & {"counter", "gauge", "histogram"}
    if METRIC_NAME.fullmatch(name) is None or name.endswith("_total") != (kinds == {"counter"}):
        yield f"metric {name} of {template} does not follow our names for counters and gauges"
    if metric.get("when") != SUCCEEDED:
        yield f"metric {name} of {template} would also be recorded for failed attempts, which have no outputs"
    if kinds not in ({"counter"}, {"gauge"}) or metric.get("gauge", {}).get("realtime"):
        yield f"metric {name} of {template} is neither a counter nor a gauge set at the end"
    keys = tuple(label["key"] for label in metric.get("labels", []))
    if keys != ("job", "aoi"):
        yield f"metric {name} of {template} has labels other than job and aoi"
    kind = (metric.get("help"), *sorted(kinds), *keys)
    if not metric.get("help") or seen.setdefault(name, kind) != kind:
        yield f"metric {name} of {template} has no help, or a different help or type elsewhere"


def _reached_from(name: str, document: Json) -> set[str]:
    """Names of a template and of all templates that its tasks use."""
    by_name = {template["name"]: template for template in _templates(document)}
    reached: set[str] = set()
    queue = [name] if name else []
    while queue:
        template = queue.pop()
        if template not in reached:
            reached.add(template)
            tasks = by_name.get(template, {}).get("dag", {}).get("tasks", [])
            queue += [task["template"] for task in tasks]
    return reached


def _exit_handler(document: Json) -> Iterator[str]:
    spec = document["spec"]
    name = spec.get("onExit", "")
    by_name = {template["name"]: template for template in _templates(document)}
    if not name:
        yield "the workflow has no exit handler, so its end would not be announced"
        return
    if "dag" not in by_name.get(name, {}):
        yield f"the exit handler {name} is not a DAG, so it would start a pod even without a webhook"
        return
    for task in by_name[name]["dag"]["tasks"]:
        if "workflow.parameters.webhook" not in task.get("when", ""):
            yield f"task {task['name']} of the exit handler has no 'when' that checks for the webhook"
    for template in _reached_from(name, document) & _reached_from(spec["entrypoint"], document):
        yield f"template {template} is used by both the exit handler and the workflow"


def _task_references(document: Json, dag: Json, known: set[str]) -> Iterator[str]:
    by_name = {template["name"]: template for template in _templates(document)}
    seen: set[str] = set()
    for task in dag["dag"]["tasks"]:
        for name in sorted(_dependencies(task) - seen):
            yield f"task {task['name']} of {dag['name']} depends on {name}, which is not before it"
        yield from _unknown(task, known, f"task {task['name']} of {dag['name']}")
        seen.add(task["name"])
        if "withParam" not in task:  # nothing may refer to the outputs of a fan-out
            outputs = by_name.get(task["template"], {}).get("outputs", {}).get("parameters", [])
            known = known | {f"tasks.{task['name']}.outputs.parameters.{output['name']}" for output in outputs}
        if task["template"] not in by_name:
            yield f"task {task['name']} of {dag['name']} has no template {task['template']}"


def _unknown(value: Any, known: set[str], owner: str) -> Iterator[str]:
    for _, text in _nodes(value):
        if isinstance(text, str):
            for name in REFERENCE.findall(text):
                if name not in known:
                    yield f"{owner} refers to {name}, which is not available to it"


def _pods_are_restricted(document: Json) -> Iterator[str]:
    pod = document["spec"].get("securityContext", {})
    if not pod.get("runAsNonRoot") or not isinstance(pod.get("runAsUser"), int) or not pod["runAsUser"]:
        yield "the workflow's pods may run as root, or their user is not numeric"
    if pod.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "the workflow's pods have no seccomp profile"
    for template in _pods(document):
        context = template.get("container", {}).get("securityContext", {})
        expected = {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
        }
        if context != expected:
            yield f"the container of {template['name']} is not restricted"


def _containers(document: Json) -> Iterator[str]:
    for template in _pods(document):
        container = template.get("container", {})
        if container.get("name") != "main":
            yield f"the container of {template['name']} is not named main"
        if container.get("command") != ["acdtask"]:
            yield f"the container of {template['name']} does not run acdtask"
        if {"name": "tmp", "emptyDir": {}} not in template.get("volumes", []):
            yield f"{template['name']} has no writable /tmp"
        if not template.get("activeDeadlineSeconds"):
            yield f"{template['name']} has no deadline"


def _parameters(document: Json) -> Iterator[str]:
    for parameter in document["spec"]["arguments"]["parameters"]:
        name = parameter["name"]
        if not parameter.get("description"):
            yield f"parameter {name} has no description"
        if "value" not in parameter:
            yield f"parameter {name} has no default, so Argo CD could not start the workflow"
        if parameter.get("enum") and parameter.get("value") not in parameter["enum"]:
            yield f"the default of parameter {name} is not one of its allowed values"
        if re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) is None:
            yield f"parameter {name} is not in kebab-case"


def _limits(document: Json) -> Iterator[str]:
    spec = document["spec"]
    for name in ("activeDeadlineSeconds", "podGC", "ttlStrategy", "parallelism"):
        if not spec.get(name):
            yield f"the workflow has no {name}"
    yield from _locks(document)
    for name in ("title", "description"):
        if not document["metadata"].get("annotations", {}).get(f"workflows.argoproj.io/{name}"):
            yield f"the workflow has no {name}"


def _locks(document: Json) -> Iterator[str]:
    """The entry DAG holds the mutex of the AOI; the workflow would hold it until its exit handler has ended."""
    spec = document["spec"]
    has_aoi = any(parameter["name"] == "aoi" for parameter in spec["arguments"]["parameters"])
    holders = {template["name"]: template for template in spec["templates"] if "synchronization" in template}
    of_workflow = spec.get("synchronization", {}).get("mutexes", [])
    of_entry = holders.pop(spec["entrypoint"], {}).get("synchronization", {}).get("mutexes", [])
    if not of_workflow and not of_entry:
        yield "the workflow has no mutex"
    if has_aoi and of_workflow:
        yield "the workflow has a mutex, which its exit handler would hold too"
    if has_aoi and not any("{{workflow.parameters.aoi}}" in mutex["name"] for mutex in of_entry):
        yield "the workflow has no mutex for its AOI"
    for name in holders:
        yield f"template {name} has a lock, but is not the entrypoint"
    calls = [
        task.get("template") for template in spec["templates"] for task in template.get("dag", {}).get("tasks", [])
    ]
    if spec["entrypoint"] in calls:
        yield "the entrypoint holds a mutex and is called again, so it would wait for itself"


RULES: tuple[Callable[[Json], Iterator[str]], ...] = (
    _fields,
    _retries,
    _fan_outs,
    _gathers,
    _whens,
    _metrics,
    _outputs,
    _references,
    _exit_handler,
    _pods_are_restricted,
    _containers,
    _parameters,
    _limits,
)
