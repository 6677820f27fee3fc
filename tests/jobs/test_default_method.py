"""The method of a run that names none."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.products import BaselineManifest
from tests.jobs.small_site import baseline, ends, make_cube, monitor, steady

REFERENCE = 24


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("default")
    make_cube(folder, REFERENCE + 1, steady(REFERENCE))
    return folder


@pytest.fixture
def cube(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "made")) / "cube"


def baseline_of(cube: Path, **settings: Any) -> BaselineManifest:
    content = baseline(cube, end=ends(REFERENCE - 1), **settings).plan.content_id
    body = max((cube / f"products/site/baseline/{content}/manifests").iterdir()).read_bytes()
    return BaselineManifest.model_validate_json(body)


def test_coherence_is_judged_by_its_history(cube: Path) -> None:
    by_default = baseline_of(cube, profile=None)
    assert by_default.profile == "robust"
    assert by_default.content_id == baseline_of(cube, profile="robust").content_id
    method = monitor(cube).plan.content.method
    assert (method.profile, method.rules.judging is not None) == ("robust", True)
    assert "already monitored" in monitor(cube, profile="robust").lines[0], "it is the same series"


@pytest.mark.parametrize("profile", ["standard", "tutorial"])
def test_a_monitor_follows_its_baseline(cube: Path, profile: str) -> None:
    assert baseline_of(cube, profile=profile).profile == profile
    outcome = monitor(cube)
    assert outcome.plan.content.method.profile == profile
    assert not [line for line in outcome.lines if "unusually low values" in line]


@pytest.mark.parametrize("direction", ["rise", "both"])
def test_other_changes_than_drops_are_found_by_thresholds(cube: Path, direction: str) -> None:
    baseline_of(cube, profile=None)
    outcome = monitor(cube, direction=direction)
    assert outcome.plan.content.method.profile == "standard"
    assert [line for line in outcome.lines if "leaves out unusually low values, unlike those that standard" in line]
    with pytest.raises(AcdError, match="direction is") as refused:
        monitor(cube, direction=direction, profile="robust")
    assert refused.value.code is ErrorCode.SETTING_INVALID


def test_a_transform_has_no_speckle_model(cube: Path) -> None:
    assert baseline_of(cube, profile=None, transform="arctanh").profile == "standard"
    assert monitor(cube, transform="arctanh").plan.content.method.profile == "standard"


def test_another_variable_is_found_by_thresholds(tmp_path: Path) -> None:
    cube = make_cube(tmp_path, REFERENCE + 1, steady(REFERENCE), variable="SigmaVV")
    assert baseline_of(cube, profile=None, variable="SigmaVV").profile == "standard"
    assert monitor(cube, variable="SigmaVV").plan.content.method.profile == "standard"
