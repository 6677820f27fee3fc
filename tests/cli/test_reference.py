"""Every setting is a command-line option, and the reference pages match the code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from acdtask.cli.job import group
from acdtask.cli.options import options_of
from acdtask.jobs.registry import JOBS, load_job

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", JOBS)
@pytest.mark.parametrize("stage", ["plan", "local"])
def test_every_setting_of_every_job_is_an_option_with_help(name: str, stage: str) -> None:
    model = load_job(name).settings
    parameters = {parameter.name: parameter for parameter in group(name).load(stage).params}
    for field, info in model.model_fields.items():
        parameter = parameters[field]
        assert parameter.opts == ["--" + field.replace("_", "-")]
        assert info.description
        assert info.description[1:] in getattr(parameter, "help", "")
    assert [option.field for option in options_of(model)] == list(model.model_fields)


@pytest.mark.parametrize("name", JOBS)
def test_a_job_is_called_what_the_registry_calls_it(name: str) -> None:
    job = load_job(name)
    assert job.name == name
    assert job.rounds
    flags = [option.flag for option in options_of(job.settings)]
    for word in JOBS[name].example.split():
        assert not word.startswith("--") or word == "--cube" or word in flags
    site_setting = JOBS[name].site_setting
    assert not site_setting or site_setting in job.settings.model_fields


@pytest.mark.parametrize("name", JOBS)
@pytest.mark.parametrize("stage", ["run", "gather"])
def test_run_and_gather_take_a_plan_and_a_round(name: str, stage: str) -> None:
    options = [option for parameter in group(name).load(stage).params for option in parameter.opts]
    assert {"--plan", "--round"} <= set(options)
    assert ("--shard" in options) is (stage == "run")


def test_the_reference_is_what_the_code_says() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "docs.build", "--check"], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stderr.strip()} (make docs)"
