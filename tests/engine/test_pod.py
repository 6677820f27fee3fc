"""What a pod writes for the workflow that it is part of, through the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.jobs.rasters import good_pixels, write_tiff


def acdtask(*arguments: str, cube: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "acdtask", *arguments],
        env={**os.environ, "ACD_CUBE": str(cube), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for number in range(3):
        write_tiff(tmp_path / f"source/S1_2021010{number + 1}_2021020{number + 1}.tif", good_pixels(number))
    return tmp_path / "source"


def test_plan_run_and_gather_as_pods_do_them(source: Path, tmp_path: Path) -> None:
    cube, outputs, progress = tmp_path / "cube", tmp_path / "outputs", tmp_path / "progress"
    parameters = [f"--parameter=source={source}", "--parameter=shard-files=2", "--parameter=aoi="]
    parameters += ["--parameter=tags=mission=S1,orbit=88"]
    done = acdtask("ingest", "plan", *parameters, "--outputs", str(outputs), cube=cube)
    assert done.returncode == 0, done.stderr
    assert json.loads((outputs / "shards").read_text()) == [0, 1]
    assert (outputs / "shard-count").read_text() == "2"
    assert json.loads((outputs / "plan.json").read_text())["settings"]["tags"] == {"mission": "S1", "orbit": "88"}
    assert "3 units in 2 shards" in (outputs / "summary.md").read_text()
    plan = f"--plan={(outputs / 'plan-id').read_text()}"
    for stage in ("check", "write"):
        for shard in ("0", "1"):
            done = acdtask(
                "ingest", "run", plan, "--round", stage, "--shard", shard, cube=cube, ARGO_PROGRESS_FILE=str(progress)
            )
            assert done.returncode == 0, done.stderr
            assert progress.read_text() == ("2/2" if shard == "0" else "1/1")
        assert acdtask("ingest", "gather", plan, "--round", stage, cube=cube).returncode == 0
    assert acdtask("ingest", "plan", *parameters, "--outputs", str(outputs), cube=cube).returncode == 0
    assert json.loads((outputs / "shards").read_text()) == []
    assert (outputs / "shard-count").read_text() == "0"


def test_a_parameter_that_is_no_setting_is_refused(source: Path, tmp_path: Path) -> None:
    done = acdtask("ingest", "plan", f"--source={source}", "--parameter=colour=blue", cube=tmp_path / "cube")
    assert done.returncode == 78
    assert "colour=blue" in done.stderr


def test_an_option_wins_over_a_parameter(source: Path, tmp_path: Path) -> None:
    arguments = ["ingest", "plan", f"--source={source}", "--parameter=shard-files=2", "--shard-files=1", "--json"]
    assert json.loads(acdtask(*arguments, cube=tmp_path / "cube").stdout)["shards"] == 3
