"""The runner: the order of a workflow's tasks."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from acdtask.errors import ErrorCode, ExitStatus
from tests.conftest import CHECKOUT
from tests.workflows.equipment.run import main
from tests.workflows.pods import PRINT, dag, pod, retry, run, workflow

CODE = {"parameters": [{"name": "code"}]}
ITEM = {"parameters": [{"name": "code", "value": "{{item}}"}]}


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


def test_a_folder_with_an_earlier_run_is_refused_until_it_is_deleted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, folder = tmp_path / "workflow.yaml", tmp_path / "run"
    file.write_text(yaml.safe_dump(workflow(pod("work", ""))))
    command = [str(file), "--folder", str(folder)]
    assert main(command) == 0
    before = sorted(folder.rglob("*"))
    capsys.readouterr()
    assert main(command) == ExitStatus.CONFIG
    first, fix = capsys.readouterr().err.splitlines()
    assert first == f"error {ErrorCode.SETTING_INVALID.label}: {folder} contains pods of an earlier run."
    assert "--folder" in fix
    assert sorted(folder.rglob("*")) == before
    assert main([str(file), "--folder", str(tmp_path / "another")]) == 0
    shutil.rmtree(folder)
    assert main(command) == 0


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


def test_the_runner_is_called_from_a_checkout() -> None:
    command = [sys.executable, "-m", "workflows.run", "--help"]
    finished = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith("usage: python -m workflows.run")
