"""Runs workflows like Argo's controller: DAGs, fan-outs, `when`, retries and the exit handler."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from acdtask.errors import AcdError, ErrorCode
from tests.workflows.equipment.expression import evaluate, evaluate_when, substitute
from tests.workflows.equipment.metrics import MetricSeries, Registry
from tests.workflows.equipment.model import Dag, Document, Retry, Task, Template
from tests.workflows.equipment.pods import Attempt, Host, run_pod

__all__ = ["Node", "Result", "run_workflow"]

DEPENDS = re.compile(r"[\w.()&|!\s-]*")
TASK_RESULT = re.compile(r"([\w-]+)(?:\.(\w+))?")
PHASES = {"Succeeded": "Succeeded", "Failed": "Failed", "Errored": "Error", "Skipped": "Skipped", "Omitted": "Omitted"}
"""Phase that each result in `depends` stands for."""
GOES_ON_AFTER = frozenset({"Succeeded", "Skipped"})
"""Phases that a task's name alone stands for in `depends`."""
BAD = frozenset({"Failed", "Error"})
WITHOUT_A_RESULT = frozenset({"Skipped", "Omitted"})
"""A task in such a phase passes on the phase of its dependencies. The last tasks determine the phase of a DAG."""
NAMESPACE = "here"
"""Placeholder for workflow.namespace."""
DEEPEST = 100
"""Argo's limit on the nesting of templates."""


@dataclass(frozen=True)
class Node:
    """A pod, or a task without one.

    Attributes:
        name: path of tasks from the entrypoint, with the item in a fan-out.
        phase: Succeeded, Failed, Error, Skipped (`when` is false, or the fan-out is empty) or Omitted (a dependency
            failed).
        message: reason of the phase, if any.
        attempts: attempts of the pod.
        patch: the pod's podSpecPatch of the last attempt.
    """

    name: str
    phase: str
    message: str = ""
    attempts: tuple[Attempt, ...] = ()
    patch: str = ""


@dataclass(frozen=True)
class Result:
    """Result of a workflow."""

    uid: str
    phase: str
    nodes: tuple[Node, ...]
    metrics: Mapping[MetricSeries, float] = field(default_factory=dict)

    def metric(self, name: str, **labels: str) -> float:
        """Value of a metric. KeyError."""
        return self.metrics[MetricSeries(name, tuple(sorted(labels.items())))]

    def node(self, name: str) -> Node:
        """Get a node by name."""
        return next(node for node in self.nodes if node.name == name)

    @property
    def exit_code(self) -> int:
        """Exit code of the first failed pod; 0 if the workflow succeeded."""
        if self.phase == "Succeeded":
            return 0
        codes = [node.attempts[-1].exit_code for node in self.nodes if node.phase in BAD and node.attempts]
        return next((code for code in codes if code), 1)


def run_workflow(
    document: Document,
    parameters: Mapping[str, str],
    host: Host,
    *,
    workers: int = 1,
    pace: float = 1.0,
    on_node: Callable[[Node], None] = lambda _node: None,
) -> Result:
    """Run a workflow from its entrypoint to its exit handler.

    Args:
        document: the workflow.
        parameters: values of workflow parameters; others keep the file's values.
        host: replacement for the cluster.
        workers: number of pods that run at once.
        pace: factor for the waiting time before retries.
        on_node: called when a node has ended.

    Raises:
        AcdError: SETTING_INVALID if a parameter is unknown or has an invalid value, or if the workflow uses an
            unsupported feature.
    """
    run = _Run(document, _global_scope(document, parameters), host, workers, pace, on_node)
    entrypoint = document.spec.entrypoint
    phase = run.template(entrypoint, entrypoint, {}, 0).phase
    if document.spec.on_exit:
        run.scope["workflow.status"] = phase
        handled = run.template(document.spec.on_exit, "onExit", {}, 0).phase
        phase = handled if phase == "Succeeded" and handled in BAD else phase
    return Result(run.scope["workflow.uid"], phase, tuple(run.nodes), run.registry.values)


def _global_scope(document: Document, given: Mapping[str, str]) -> dict[str, str]:
    known = {parameter.name: parameter for parameter in document.spec.arguments.parameters}
    for name in given:
        if name not in known:
            raise AcdError(ErrorCode.SETTING_INVALID, f"{document.metadata.name} has no parameter {name!r}")
    uid = str(uuid.uuid4())
    scope = {
        "workflow.uid": uid,
        "workflow.name": f"{document.metadata.name}-{uid[:5]}",
        "workflow.namespace": NAMESPACE,
    }
    for name, parameter in known.items():
        value = given.get(name, parameter.value)
        if value is None:
            raise AcdError(ErrorCode.SETTING_INVALID, f"parameter {name} has no value")
        if parameter.enum and value not in parameter.enum:
            allowed = ", ".join(choice or "''" for choice in parameter.enum)
            raise AcdError(ErrorCode.SETTING_INVALID, f"parameter {name} is {value!r}, but must be one of {allowed}")
        scope[f"workflow.parameters.{name}"] = value
    return scope


@dataclass(frozen=True)
class _Ended:
    phase: str
    outputs: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Run:
    document: Document
    scope: dict[str, str]
    host: Host
    workers: int
    pace: float
    on_node: Callable[[Node], None]
    nodes: list[Node] = field(default_factory=list)
    registry: Registry = field(default_factory=Registry)

    def template(self, name: str, path: str, arguments: Mapping[str, str], depth: int) -> _Ended:
        """Run a template with the arguments of a task."""
        if depth > DEEPEST:
            raise AcdError(ErrorCode.SETTING_INVALID, f"templates are nested more than {DEEPEST} deep at {path}")
        template = self.document.template(name)
        scope = {**self.scope, **_inputs(template, arguments)}
        if template.dag is not None:
            begun = time.monotonic()
            ended = self._dag(template.dag, path, scope, depth)
            self._record_metrics(template, scope, ended.phase, {}, begun)
            return ended
        node, outputs = self._pod(template, path, scope)
        self._done(node)
        return _Ended(node.phase, outputs)

    def _dag(self, dag: Dag, path: str, scope: dict[str, str], depth: int) -> _Ended:
        """Run the tasks of a DAG one by one, each after its dependencies."""
        phases: dict[str, str] = {}
        branches: dict[str, str] = {}
        waiting = list(dag.tasks)
        while waiting:
            ready = next((task for task in waiting if set(_dependencies(task)) <= phases.keys()), None)
            if ready is None:
                names = ", ".join(task.name for task in waiting)
                raise AcdError(ErrorCode.SETTING_INVALID, f"{path}: the tasks {names} wait for each other")
            waiting.remove(ready)
            task_path = f"{path}.{ready.name}"
            if _may_start(ready, phases):
                ended = self._task(ready, task_path, scope, depth)
            else:
                ended = self._without_pod(task_path, "Omitted", f"depends on {ready.depends}")
            phases[ready.name] = ended.phase
            inherited = _worst(branches[name] for name in _dependencies(ready))
            branches[ready.name] = inherited if ended.phase in WITHOUT_A_RESULT else ended.phase
            scope |= {f"tasks.{ready.name}.outputs.parameters.{name}": text for name, text in ended.outputs.items()}
        needed = {name for task in dag.tasks for name in _dependencies(task)}
        return _Ended(_worst(branch for name, branch in branches.items() if name not in needed))

    def _task(self, task: Task, path: str, scope: Mapping[str, str], depth: int) -> _Ended:
        if task.with_param:
            return self._fan_out(task, path, scope, depth)
        if not _is_wanted(task, scope):
            return self._without_pod(path, "Skipped", f"when {substitute(task.when, scope)!r} is false")
        return self.template(task.template, path, _arguments(task, scope), depth + 1)

    def _fan_out(self, task: Task, path: str, scope: Mapping[str, str], depth: int) -> _Ended:
        items = _items(task, scope)
        if not items:
            return self._without_pod(path, "Skipped", "the list of items is empty")
        if "item" in task.when:
            raise AcdError(ErrorCode.SETTING_INVALID, f"{path}: this runner does not support a 'when' with an item")
        if not _is_wanted(task, scope):
            return self._without_pod(path, "Skipped", f"when {substitute(task.when, scope)!r} is false")

        def run(numbered: tuple[int, int]) -> str:
            index, item = numbered
            arguments = _arguments(task, {**scope, "item": str(item)})
            return self.template(task.template, f"{path}({index}:{item})", arguments, depth + 1).phase

        with ThreadPoolExecutor(max_workers=self.workers) as pool:
            return _Ended(_worst(list(pool.map(run, enumerate(items)))))

    def _pod(self, template: Template, path: str, scope: Mapping[str, str]) -> tuple[Node, Mapping[str, str]]:
        """Run a pod, with retries according to its retry strategy."""
        attempts: list[Attempt] = []
        retry, patch = template.retry_strategy, ""
        while True:
            begun = time.monotonic()
            local = {**scope, "pod.name": f"{path}-{len(attempts)}"}
            if retry is not None:
                local |= _retry_scope(attempts)
            patch = substitute(template.pod_spec_patch, local)
            attempts.append(run_pod(template, local, self.document.spec.volumes, self.host, f"{path}-{len(attempts)}"))
            last = attempts[-1]
            self._record_metrics(template, scope, last.phase, last.outputs, begun)
            if last.phase == "Succeeded" or retry is None or not _retries(retry, attempts):
                return Node(path, last.phase, last.message, tuple(attempts), patch), last.outputs
            time.sleep(self.pace * _wait_seconds(retry, len(attempts)))

    def _record_metrics(
        self, template: Template, scope: Mapping[str, str], phase: str, outputs: Mapping[str, str], begun: float
    ) -> None:
        """Record metrics, like Argo after each attempt of a pod and at the end of a DAG."""
        own = {f"outputs.parameters.{name}": text for name, text in outputs.items()}
        variables = {**scope, **own, "status": phase, "duration": f"{time.monotonic() - begun:f}"}
        self.registry.record(template.metrics.prometheus, variables)

    def _without_pod(self, path: str, phase: str, message: str) -> _Ended:
        self._done(Node(path, phase, message))
        return _Ended(phase)

    def _done(self, node: Node) -> None:
        self.nodes.append(node)
        self.on_node(node)


def _inputs(template: Template, arguments: Mapping[str, str]) -> dict[str, str]:
    values = {}
    for parameter in template.inputs.parameters:
        value = arguments.get(parameter.name, parameter.value)
        if value is None:
            raise AcdError(ErrorCode.SETTING_INVALID, f"template {template.name} needs the argument {parameter.name}")
        values[f"inputs.parameters.{parameter.name}"] = value
    return values


def _arguments(task: Task, scope: Mapping[str, str]) -> dict[str, str]:
    return {argument.name: substitute(argument.value or "", scope) for argument in task.arguments.parameters}


def _dependencies(task: Task) -> set[str]:
    """Names of the tasks that must end before this one. SETTING_INVALID for unsupported results."""
    results = TASK_RESULT.findall(task.depends)
    if not DEPENDS.fullmatch(task.depends) or any(result and result not in PHASES for _, result in results):
        raise AcdError(ErrorCode.SETTING_INVALID, f"this runner does not support depends: {task.depends!r}")
    return {name for name, _ in results}


def _may_start(task: Task, phases: Mapping[str, str]) -> bool:
    """Whether the phases of a task's dependencies satisfy its `depends`."""

    def holds(match: re.Match[str]) -> str:
        name, result = match.groups()
        return str(phases[name] == PHASES[result] if result else phases[name] in GOES_ON_AFTER).lower()

    return not task.depends or bool(evaluate(TASK_RESULT.sub(holds, task.depends), {}))


def _is_wanted(task: Task, scope: Mapping[str, str]) -> bool:
    return not task.when or evaluate_when(task.when, scope)


def _items(task: Task, scope: Mapping[str, str]) -> list[int]:
    """Items of a fan-out. SETTING_INVALID if they are not integers."""
    text = substitute(task.with_param, scope)
    try:
        items: Any = json.loads(text)
    except ValueError:
        items = None
    if not isinstance(items, list) or any(type(item) is not int for item in items):
        raise AcdError(ErrorCode.SETTING_INVALID, f"withParam of {task.name} is not a list of integers: {text!r}")
    return items


def _retry_scope(attempts: list[Attempt]) -> dict[str, str]:
    """Retry variables of a pod's next attempt; zeros for the first, as in Argo."""
    last = attempts[-1] if attempts else None
    return {
        "retries": str(len(attempts)),
        "lastRetry.exitCode": str(last.exit_code) if last else "0",
        "lastRetry.status": last.phase if last else "",
    }


def _retries(retry: Retry, attempts: list[Attempt]) -> bool:
    result = evaluate(retry.expression, _retry_scope(attempts))
    if not isinstance(result, bool):
        raise AcdError(ErrorCode.SETTING_INVALID, f"the retry expression is not boolean: {retry.expression!r}")
    return result and len(attempts) <= retry.limit


def _wait_seconds(retry: Retry, attempts: int) -> int:
    """Seconds to wait before the next attempt."""
    seconds = int(retry.backoff.duration.removesuffix("s"))
    return seconds * int(retry.backoff.factor ** (attempts - 1))


def _worst(phases: Iterable[str]) -> str:
    """Combined phase of several tasks; skipped and omitted ones do not count."""
    distinct = set(phases)
    return next((phase for phase in ("Error", "Failed") if phase in distinct), "Succeeded")
