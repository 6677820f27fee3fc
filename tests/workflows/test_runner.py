"""The runner by itself: what it resolves, retries, maps and refuses."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from acdtask.errors import AcdError, ErrorCode, ExitStatus
from workflows.retries import LIMIT, RETRIED_EXIT_CODES, memory_patch, retry_expression
from workflows.run import main
from workflows.runner.engine import Result, run_workflow
from workflows.runner.expression import evaluate, substitute
from workflows.runner.model import load_document
from workflows.runner.pods import Host

PRINT = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text(sys.argv[2])"


def pod(name: str, code: str, *args: str, **more: Any) -> dict[str, Any]:
    """A template whose pod is a line of Python."""
    container = {
        "name": "main",
        "image": "python",
        "command": [sys.executable, "-c"],
        "args": [code, *args],
        "volumeMounts": [{"name": "tmp", "mountPath": "/scratch"}],
    }
    return {"name": name, "container": container, "volumes": [{"name": "tmp", "emptyDir": {}}], **more}


def retry(**changes: Any) -> dict[str, Any]:
    return {
        "limit": LIMIT,
        "retryPolicy": "Always",
        "expression": retry_expression(),
        "backoff": {"duration": "1s", "factor": 2},
        **changes,
    }


def workflow(*templates: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "WorkflowTemplate",
        "metadata": {"name": "test"},
        "spec": {"entrypoint": templates[0]["name"], "templates": list(templates), **spec},
    }


def run(document: dict[str, Any], folder: Path, parameters: dict[str, str] | None = None, **host: Any) -> Result:
    file = folder / "workflow.yaml"
    file.write_text(yaml.safe_dump(document))
    return run_workflow(load_document(file), parameters or {}, Host(folder / "run", **host), workers=2, pace=0)


def dag(*tasks: dict[str, Any], name: str = "dag") -> dict[str, Any]:
    return {"name": name, "dag": {"failFast": False, "tasks": list(tasks)}}


ARGOS = {64, 65, 137, 143, -1}
"""What Argo's executor, the kernel and the kubelet end a pod with, and Argo's word for no code at all."""

PHASES = ("Pending", "Running", "Succeeded", "Skipped", "Omitted", "Failed", "")


@pytest.mark.parametrize("code", [*range(256), -1])
def test_an_exit_code_is_retried_if_and_only_if_it_may_pass(code: int) -> None:
    ours = {int(one.value.exit_status) for one in ErrorCode if one.value.retryable}
    for phase in PHASES:
        scope = {"lastRetry.exitCode": str(code), "lastRetry.status": phase}
        assert evaluate(retry_expression(), scope) is (code in ours | ARGOS)
    assert evaluate(retry_expression(), {**scope, "lastRetry.status": "Error"}) is True


@pytest.mark.parametrize("error", list(ErrorCode), ids=[error.name for error in ErrorCode])
def test_an_error_is_retried_as_its_entry_says(error: ErrorCode) -> None:
    status = error.value.exit_status
    scope = {"lastRetry.exitCode": str(int(status)), "lastRetry.status": "Failed"}
    assert evaluate(retry_expression(), scope) is error.value.retryable
    assert int(status) not in ARGOS
    assert 0 < status < 128


def test_our_own_exit_statuses_are_retried_only_if_transient() -> None:
    assert [one for one in ExitStatus if one in RETRIED_EXIT_CODES] == [ExitStatus.TRANSIENT]


@pytest.mark.parametrize(
    ("retries", "exit_code", "memory"),
    [("0", "0", 2048), ("1", "137", 4096), ("2", "137", 6144), ("3", "137", 8192), ("2", "75", 2048)],
)
def test_memory_grows_after_a_kill_for_memory_only(retries: str, exit_code: str, memory: int) -> None:
    scope = {"retries": retries, "lastRetry.exitCode": exit_code, "workflow.parameters.memory-mib": "2048"}
    patch = json.loads(substitute(memory_patch(), scope))
    size = {"memory": f"{memory}Mi"}
    assert patch == {"containers": [{"name": "main", "resources": {"requests": size, "limits": size}}]}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("3 != 0", True),
        ("'' != ''", False),
        ("1 + 2 * 3 - 4", 3),
        ("(1 + 2) * 3", 9),
        ("!(1 == 1) || 'a' in ['a', 'b'] && 2 >= 2", True),
        ("not (true and false)", True),
        ("x.y['z-1'] == \"q\" ? 1 : x.n == '2' ? 2 : 3", 2),
    ],
)
def test_an_expression_has_its_value(expression: str, value: object) -> None:
    assert evaluate(expression, {"x.y.z-1": "p", "x.n": "2"}) == value


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "1 +",
        "x",
        "sprig.int(retries)",
        "1 ? 2 : 3",
        "'a' + 1",
        "asInt('x')",
        "[1, 2",
        "2 > '1'",
        "1 2",
        "a[1]",
        "#",
    ],
)
def test_an_expression_that_is_not_known_is_refused(expression: str) -> None:
    with pytest.raises(AcdError, match="cannot be evaluated"):
        evaluate(expression, {"retries": "1"})


def test_a_fan_out_gets_each_item_and_the_outputs_of_the_task_before(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    document = workflow(
        dag(
            {"name": "plan", "template": "plan"},
            {
                "name": "run",
                "template": "run",
                "depends": "plan",
                "when": "{{tasks.plan.outputs.parameters.count}} != 0",
                "withParam": "{{tasks.plan.outputs.parameters.shards}}",
                "arguments": {"parameters": [{"name": "shard", "value": "{{item}}"}]},
            },
            {"name": "gather", "template": "gather", "depends": "run"},
        ),
        pod(
            "plan",
            PRINT,
            "/scratch/shards",
            "[3, 5]",
            outputs={
                "parameters": [
                    {"name": "shards", "valueFrom": {"path": "/scratch/shards"}},
                    {"name": "count", "valueFrom": {"path": "/scratch/count", "default": "2"}},
                ]
            },
        ),
        pod(
            "run",
            PRINT,
            "{{workflow.parameters.folder}}/{{inputs.parameters.shard}}",
            "{{workflow.uid}}",
            inputs={"parameters": [{"name": "shard"}]},
        ),
        pod("gather", PRINT, "{{workflow.parameters.folder}}/all", "x"),
        arguments={"parameters": [{"name": "folder", "value": "nowhere"}]},
    )
    result = run(document, tmp_path, {"folder": str(folder)})
    assert result.phase == "Succeeded"
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"3": result.uid, "5": result.uid, "all": "x"}
    assert {node.name for node in result.nodes} == {"dag.plan", "dag.run(0:3)", "dag.run(1:5)", "dag.gather"}


def test_an_empty_fan_out_is_skipped_and_what_follows_runs(tmp_path: Path) -> None:
    document = workflow(
        dag(
            {"name": "plan", "template": "plan"},
            {
                "name": "run",
                "template": "work",
                "depends": "plan",
                "withParam": "{{tasks.plan.outputs.parameters.shards}}",
            },
            {"name": "after", "template": "work", "depends": "run"},
        ),
        pod(
            "plan",
            "",
            outputs={"parameters": [{"name": "shards", "valueFrom": {"path": "/scratch/x", "default": "[]"}}]},
        ),
        pod("work", ""),
    )
    result = run(document, tmp_path)
    assert (result.phase, result.exit_code) == ("Succeeded", 0)
    assert (result.node("dag.run").phase, result.node("dag.after").phase) == ("Skipped", "Succeeded")


def test_a_dag_with_nothing_to_do_is_a_success_and_the_next_one_runs(tmp_path: Path) -> None:
    document = workflow(
        dag({"name": "ingest", "template": "idle"}, {"name": "monitor", "template": "work", "depends": "ingest"}),
        dag(
            {"name": "run", "template": "work", "withParam": "[]"},
            {"name": "gather", "template": "work", "depends": "run", "when": "0 != 0"},
            name="idle",
        ),
        pod("work", ""),
    )
    phases = {node.name: node.phase for node in run(document, tmp_path).nodes}
    assert phases == {"dag.ingest.run": "Skipped", "dag.ingest.gather": "Skipped", "dag.monitor": "Succeeded"}


def test_after_a_failure_the_rest_is_omitted_and_the_exit_handler_knows(tmp_path: Path) -> None:
    document = workflow(
        dag(
            {"name": "bad", "template": "bad"},
            {"name": "after", "template": "good", "depends": "bad"},
            {"name": "aside", "template": "good"},
        ),
        pod("bad", "raise SystemExit(70)", retryStrategy=retry()),
        pod("good", ""),
        dag(
            {"name": "tell", "template": "tell", "when": "'{{workflow.parameters.webhook}}' != ''"},
            {"name": "silent", "template": "tell", "when": "'{{workflow.parameters.webhook}}' == ''"},
            name="exit",
        ),
        pod("tell", PRINT, "{{workflow.parameters.webhook}}", "{{workflow.status}}"),
        onExit="exit",
        arguments={"parameters": [{"name": "webhook", "value": ""}]},
    )
    result = run(document, tmp_path, {"webhook": str(tmp_path / "told")})
    assert (result.phase, result.exit_code) == ("Failed", 70)
    phases = {node.name: node.phase for node in result.nodes}
    assert phases == {
        "dag.bad": "Failed",
        "dag.after": "Omitted",
        "dag.aside": "Succeeded",
        "onExit.tell": "Succeeded",
        "onExit.silent": "Skipped",
    }
    assert (tmp_path / "told").read_text() == "Failed"


AFTER_BAD = [
    ("bad || bad.Failed || bad.Errored", "good", "Succeeded"),
    ("bad || bad.Failed || bad.Errored", "bad", "Failed"),
    ("bad", "good", "Failed"),
    ("bad.Failed && (!bad.Skipped)", "good", "Succeeded"),
    ("bad.Errored || bad.Succeeded", "good", "Failed"),
]


@pytest.mark.parametrize(("depends", "template", "phase"), AFTER_BAD)
def test_the_last_tasks_decide_about_a_dag_and_one_that_is_left_out_passes_on_what_came_before(
    tmp_path: Path, depends: str, template: str, phase: str
) -> None:
    """As in argo-workflows, workflow/controller/dag.go, assessDAGPhase."""
    document = workflow(
        dag(
            {"name": "start", "template": "good"},
            {"name": "bad", "template": "work", "depends": "start", "withParam": "[0, 1]", "arguments": ITEM},
            {"name": "gather", "template": template, "depends": depends},
            {"name": "next", "template": "good", "depends": "gather"},
            {"name": "last", "template": "good", "depends": "next", "when": "0 != 0"},
        ),
        pod("good", ""),
        pod("bad", "raise SystemExit(66)"),
        pod("work", "import sys; sys.exit(int(sys.argv[1]))", "{{inputs.parameters.code}}", inputs=CODE),
    )
    result = run(document, tmp_path)
    assert result.phase == phase
    assert [result.node(f"dag.bad({item}:{item})").phase for item in (0, 1)] == ["Succeeded", "Failed"]
    assert (result.exit_code == 0) == (phase == "Succeeded")


def test_a_gather_runs_after_a_fan_out_that_is_skipped(tmp_path: Path) -> None:
    document = workflow(
        dag(
            {"name": "run", "template": "good", "withParam": "[]"},
            {"name": "gather", "template": "good", "depends": "run || run.Failed || run.Errored"},
        ),
        pod("good", ""),
    )
    phases = {node.name: node.phase for node in run(document, tmp_path).nodes}
    assert phases == {"dag.run": "Skipped", "dag.gather": "Succeeded"}


CODE = {"parameters": [{"name": "code"}]}
ITEM = {"parameters": [{"name": "code", "value": "{{item}}"}]}


def counter(name: str, value: str, **changes: Any) -> dict[str, Any]:
    labels = [{"key": "job", "value": "{{inputs.parameters.job}}"}]
    metric = {"name": name, "help": f"help of {name}", "labels": labels, "when": "{{status}} == Succeeded"}
    return {**metric, "counter": {"value": value}, **changes}


def measured(*metrics: dict[str, Any], code: str = PRINT) -> dict[str, Any]:
    """Two pods of one template, and what is measured of them."""
    tasks = [
        {"name": name, "template": "work", "arguments": {"parameters": [{"name": "job", "value": name}]}}
        for name in ("a", "b")
    ]
    work = pod(
        "work",
        code,
        "/scratch/count",
        "2.5",
        inputs={"parameters": [{"name": "job"}]},
        outputs={"parameters": [{"name": "count", "valueFrom": {"path": "/scratch/count", "default": "0"}}]},
        metrics={"prometheus": list(metrics)},
        retryStrategy=retry(),
    )
    return workflow(dag(*tasks), work)


def test_counters_add_up_and_gauges_are_set(tmp_path: Path) -> None:
    gauge = {**counter("seconds", ""), "gauge": {"value": "{{duration}}", "realtime": False}}
    del gauge["counter"]
    plain = counter("all_total", "{{outputs.parameters.count}}", labels=[])
    result = run(measured(counter("count_total", "{{outputs.parameters.count}}"), plain, gauge), tmp_path)
    assert result.metric("count_total", job="a") == result.metric("count_total", job="b") == 2.5
    assert result.metric("all_total") == 5.0
    assert 0 < result.metric("seconds", job="a") < 60


def test_an_attempt_that_failed_is_not_measured(tmp_path: Path) -> None:
    fails_once = (
        f"import pathlib, sys; seen = pathlib.Path({str(tmp_path / 'seen')!r})\n"
        "if not seen.exists(): seen.touch(); sys.exit(75)\n"
    )
    result = run(measured(counter("runs_total", "1"), code=fails_once + PRINT), tmp_path)
    assert [len(node.attempts) for node in result.nodes] == [2, 1]
    assert result.metric("runs_total", job="b") == 1.0
    assert result.metric("runs_total", job="a") == 1.0


@pytest.mark.parametrize(
    ("metrics", "sentence"),
    [
        ([counter("x_total", "many")], "the value of metric x_total is 'many'"),
        ([counter("x_total", "-1")], "the value of metric x_total is '-1'"),
        ([counter("x_total", "inf")], "the value of metric x_total is 'inf'"),
        ([counter("x_total", "{{outputs.parameters.other}}")], "has no value"),
        ([counter("x_total", "1"), counter("x_total", "1", help="other")], "is there with another help"),
        ([counter("x_total", "1"), counter("x_total", "1", labels=[])], "is there with another help, type or labels"),
        ([counter("x_total", "1", gauge={"value": "1"})], "is not one counter and not one gauge"),
        ([counter("x-total", "1")], "name"),
        ([counter("x_total", "1", histogram={"value": "1"})], "does not know"),
        ([counter("x_total", "1", gauge={"value": "{{duration}}", "realtime": True})], "realtime"),
    ],
)
def test_a_metric_that_argo_could_not_take_is_refused(
    metrics: list[dict[str, Any]], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(AcdError, match=sentence):
        run(measured(*metrics), tmp_path)


COUNT = (
    "import os, pathlib, sys, time\n"
    "file = pathlib.Path(sys.argv[1]); seen = len(file.read_text()) if file.exists() else 0\n"
    "file.write_text('x' * (seen + 1)); codes = sys.argv[2].split(',')\n"
    "code = int(codes[min(seen, len(codes) - 1)])\n"
    "os.kill(os.getpid(), -code) if code < 0 else sys.exit(code)\n"
)


@pytest.mark.parametrize(
    ("codes", "phase", "attempts"),
    [
        ("75,0", "Succeeded", [75, 0]),
        ("64,65,0", "Succeeded", [64, 65, 0]),
        ("-9,-15,0", "Succeeded", [137, 143, 0]),
        ("75", "Failed", [75, 75, 75, 75]),
        ("70,0", "Failed", [70]),
        ("78,0", "Failed", [78]),
        ("66,0", "Failed", [66]),
        ("2,0", "Failed", [2]),
        ("75,70,0", "Failed", [75, 70]),
    ],
)
def test_a_pod_is_tried_again_as_its_exit_code_says(
    tmp_path: Path, codes: str, phase: str, attempts: list[int]
) -> None:
    template = pod("work", COUNT, str(tmp_path / "count"), codes, retryStrategy=retry())
    result = run(workflow(template), tmp_path)
    assert (result.phase, [one.exit_code for one in result.nodes[0].attempts]) == (phase, attempts)


def test_a_command_that_is_not_there_ends_like_argos_executor(tmp_path: Path) -> None:
    template = pod("work", "")
    template["container"]["command"] = ["no-such-command"]
    assert run(workflow(template), tmp_path).exit_code == 64


def test_a_pod_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    template = pod("work", "import time; time.sleep(60)", activeDeadlineSeconds=1)
    result = run(workflow(template), tmp_path)
    assert (result.phase, result.exit_code) == ("Failed", 143)


def test_an_output_that_is_missing_is_an_error_unless_it_has_a_default(tmp_path: Path) -> None:
    outputs = {"parameters": [{"name": "count", "valueFrom": {"path": "/scratch/count"}}]}
    result = run(workflow(pod("work", "", outputs=outputs)), tmp_path)
    assert (result.phase, result.nodes[0].message) == ("Error", "the pod did not leave /scratch/count")


def test_artifacts_are_kept_as_files_and_folders(tmp_path: Path) -> None:
    code = "import pathlib, sys; f = pathlib.Path(sys.argv[1]); f.mkdir(); (f / 'index.html').write_text('page')"
    artifact = {"archive": {"none": {}}, "name": "report", "path": "/scratch/report", "s3": {"key": "w/report/"}}
    result = run(workflow(pod("work", code, "/scratch/report", outputs={"artifacts": [artifact]})), tmp_path)
    assert result.phase == "Succeeded"
    assert (tmp_path / "run/artifacts/w/report/index.html").read_text() == "page"


def test_a_config_map_is_a_folder_and_a_missing_one_is_empty_only_if_it_is_optional(tmp_path: Path) -> None:
    code = "import pathlib, sys; print(pathlib.Path(sys.argv[1].partition('=')[2]).read_text()); raise SystemExit(3)"
    template = pod("work", code, "aoi=/etc/acd/aoi/aoi.json")
    template["container"]["volumeMounts"].append({"name": "aoi", "mountPath": "/etc/acd/aoi", "readOnly": True})
    source = {"name": "acd-aoi-{{workflow.parameters.aoi}}"}
    spec = {"arguments": {"parameters": [{"name": "aoi", "value": "koln"}]}}
    document = workflow(template, volumes=[{"name": "aoi", "configMap": source}], **spec)
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps/aoi.json").write_text("the area")
    result = run(document, tmp_path, config_maps={"acd-aoi-koln": tmp_path / "maps"})
    assert (result.exit_code, result.nodes[0].message) == (3, "the area")
    (tmp_path / "again").mkdir()
    with pytest.raises(AcdError, match="there is no ConfigMap acd-aoi-koln"):
        run(document, tmp_path / "again")
    (tmp_path / "optional").mkdir()
    source["optional"] = True  # type: ignore[assignment]  # a field of another type
    assert "No such file" in run(document, tmp_path / "optional").nodes[0].message


UNKNOWN: list[tuple[dict[str, Any], str]] = [
    ({"spec": {"templateDefaults": {}}}, "spec.templateDefaults"),
    ({"spec": {"hooks": {}}}, "spec.hooks"),
    ({"template": {"memoize": {}}}, "spec.templates.0.memoize"),
    ({"template": {"sidecars": []}}, "spec.templates.0.sidecars"),
    ({"container": {"lifecycle": {}}}, "spec.templates.0.container.lifecycle"),
    ({"container": {"envFrom": []}}, "spec.templates.0.container.envFrom"),
    ({"container": {"env": [{"name": "A", "valueFrom": {}}]}}, "container.env.0.valueFrom"),
    ({"template": {"retryStrategy": retry(affinity={})}}, "retryStrategy.affinity"),
    ({"template": {"retryStrategy": retry(retryPolicy="OnError")}}, "retryStrategy.retryPolicy"),
    ({"template": {"outputs": {"result": "x"}}}, "outputs.result"),
    ({"spec": {"synchronization": {"mutex": {"name": "x"}}}}, "spec.synchronization.mutex"),
    ({"spec": {"volumes": [{"name": "x", "hostPath": {}}]}}, "spec.volumes.0.hostPath"),
]


@pytest.mark.parametrize(("change", "named"), UNKNOWN)
def test_what_the_runner_does_not_know_it_names(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    document = workflow(pod("work", ""))
    template = document["spec"]["templates"][0]
    document["spec"].update(change.get("spec", {}))
    template.update(change.get("template", {}))
    template["container"].update(change.get("container", {}))
    with pytest.raises(AcdError, match=named.replace(".", r"\.")):
        run(document, tmp_path)


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        ({"withItems": [1]}, "withItems"),
        ({"continueOn": {"failed": True}}, "continueOn"),
        ({"depends": "other.AllFailed"}, "depends: 'other.AllFailed'"),
        ({"depends": "other + more"}, "depends: 'other \\+ more'"),
        ({"depends": "other ||"}, "cannot be evaluated|wait for each other"),
        ({"depends": "other.Failed"}, "wait for each other"),
        ({"depends": "nobody"}, "wait for each other"),
        ({"withParam": '["a"]'}, "no list of integers"),
        ({"withParam": "[1]", "when": "{{item}} != 1"}, "a 'when' with an item"),
        ({"when": "{{tasks.x.outputs.result}} == 1"}, "has no value"),
        ({"template": "nothing"}, "has no template 'nothing'"),
        ({"template": "dag"}, "call each other without an end"),
    ],
)
def test_a_task_that_the_runner_does_not_know_is_refused(tmp_path: Path, task: dict[str, Any], sentence: str) -> None:
    document = workflow(dag({"name": "task", "template": "work", **task}), pod("work", ""))
    with pytest.raises(AcdError, match=sentence):
        run(document, tmp_path)


def test_a_dag_that_stops_at_the_first_failure_is_refused(tmp_path: Path) -> None:
    document = workflow(dag({"name": "task", "template": "work"}), pod("work", ""))
    failing_fast = copy.deepcopy(document)
    del failing_fast["spec"]["templates"][0]["dag"]["failFast"]
    with pytest.raises(AcdError, match=r"dag\.failFast"):
        run(failing_fast, tmp_path)


def test_parameters_are_checked_before_anything_runs(tmp_path: Path) -> None:
    arguments = {"parameters": [{"name": "size", "value": "small", "enum": ["small", "large"]}, {"name": "open"}]}
    document = workflow(pod("work", ""), arguments=arguments)
    for given, sentence in (
        ({"colour": "red"}, "has no parameter 'colour'"),
        ({"size": "huge"}, "should be one of small, large"),
        ({}, "parameter open has no value"),
    ):
        with pytest.raises(AcdError, match=sentence):
            run(document, tmp_path, given)
    assert not (tmp_path / "run").exists()


def test_the_command_says_how_pods_ended_and_ends_as_they_did(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "workflow.yaml"
    file.write_text(
        yaml.safe_dump(workflow(pod("work", "import sys; sys.exit('no such area')", activeDeadlineSeconds=9)))
    )
    assert main([str(file), "--folder", str(tmp_path / "run")]) == 1
    assert "Failed    work: no such area" in capsys.readouterr().out
    assert main([str(file), "--folder", str(tmp_path / "run2"), "-p", "x"]) == ExitStatus.USAGE
    assert main([str(tmp_path / "none.yaml")]) == ExitStatus.INPUT
    file.write_text("[")
    assert main([str(file)]) == ExitStatus.CONFIG
    assert capsys.readouterr().err.count("error ACD-") == 3
