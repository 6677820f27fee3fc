"""A pod in the runner: its attempts, its outputs, its files."""

from __future__ import annotations

from pathlib import Path

import pytest

from acdtask.errors import AcdError
from tests.workflows.pods import pod, retry, run, workflow

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
    assert (result.phase, [attempt.exit_code for attempt in result.nodes[0].attempts]) == (phase, attempts)


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
    assert (result.phase, result.nodes[0].message) == ("Error", "the pod did not write /scratch/count")


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
