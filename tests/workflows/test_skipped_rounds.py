"""A round that a plan does not need starts no pods."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from acdtask.jobs.monitor.job import MonitorJob
from acdtask.jobs.monitor.settings import MonitorSettings
from tests.jobs.chain import digests
from tests.jobs.small_site import LAYOUT, baseline, ends, make_cube, run, steady
from tests.workflows.equipment.engine import Result, run_workflow
from tests.workflows.equipment.model import load_document
from tests.workflows.equipment.pods import Host
from workflows.rendering import CHART_FILES

REFERENCE = 21
ROUNDS = ("statistics", "label", "judge", "cut")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an AOI, and a cube with a baseline and one image after it."""
    folder = tmp_path_factory.mktemp("site")
    cube = make_cube(folder, REFERENCE + 1, steady(REFERENCE), cell=24)
    baseline(cube, end=ends(REFERENCE - 1))
    return folder


def submit(site: Path, folder: Path, **parameters: str) -> Result:
    """Monitor with pods, in a copy of the cube."""
    host = Host(
        folder / "run",
        commands={"acdtask": [sys.executable, "-m", "acdtask"]},
        config_maps={"acd-aoi-koln": site},
        environment={"ACD_CUBE": str(shutil.copytree(site / "cube", folder / "cube"))},
    )
    given = {"aoi": "koln", "layout": LAYOUT, "here-seconds": "0", "shard-tiles": "1", **parameters}
    return run_workflow(load_document(CHART_FILES / "acd-monitor.yaml"), given, host, workers=2, pace=0)


def pods(result: Result) -> dict[str, int]:
    """The number of pods of each round, for fan-out and gather."""
    names = [node.name for node in result.nodes if node.attempts]
    return {name: sum(f"-{name}" in node for node in names) for name in ROUNDS}


@pytest.mark.parametrize(
    ("parameters", "settings"),
    [({"profile": "tutorial"}, {"profile": "tutorial"}), ({"centred": "no"}, {"centred": False})],
    ids=["tutorial", "no-centred"],
)
def test_a_method_that_measures_nothing_has_no_pod_of_that_round(
    parameters: dict[str, str], settings: dict[str, object], site: Path, tmp_path: Path
) -> None:
    result = submit(site, tmp_path, **parameters)
    assert result.phase == "Succeeded"
    assert pods(result) == {"statistics": 0, "label": 4 + 1, "judge": 0, "cut": 4 + 1}
    skipped = {node.name for node in result.nodes if node.phase == "Skipped" and "statistics" in node.name}
    assert {name.rpartition(".")[2] for name in skipped} == {"run-statistics", "gather-statistics"}
    assert {node.name.rpartition(".")[2] for node in result.nodes if node.phase == "Skipped"} >= {"gather-judge"}

    cube = Path(shutil.copytree(site / "cube", tmp_path / "local/cube"))
    given = MonitorSettings.model_validate({"aoi": str(site / "aoi.json"), "layout": LAYOUT, **settings})
    plan = run(MonitorJob(), given, cube).plan
    assert plan.rounds == ("label", "cut")
    assert digests(cube) == digests(tmp_path / "cube")


def test_a_method_that_measures_has_them(site: Path, tmp_path: Path) -> None:
    result = submit(site, tmp_path)
    assert result.phase == "Succeeded"
    assert pods(result) == {**dict.fromkeys(ROUNDS, 4 + 1), "judge": 0}


def test_a_method_with_a_halo_has_them_too(site: Path, tmp_path: Path) -> None:
    """The round measures nothing, but must find unreadable tiles before their neighbours read them."""
    result = submit(site, tmp_path, profile="tutorial", smooth="1.2")
    assert result.phase == "Succeeded"
    assert pods(result) == {**dict.fromkeys(ROUNDS, 4 + 1), "judge": 0}


def test_a_method_that_judges_candidates_has_all(site: Path, tmp_path: Path) -> None:
    result = submit(site, tmp_path, profile="robust")
    assert result.phase == "Succeeded"
    assert pods(result) == dict.fromkeys(ROUNDS, 4 + 1)
    cube = Path(shutil.copytree(site / "cube", tmp_path / "local/cube"))
    given = MonitorSettings(aoi=str(site / "aoi.json"), layout=LAYOUT, profile="robust")
    assert run(MonitorJob(), given, cube).plan.rounds == ROUNDS
    assert digests(cube) == digests(tmp_path / "cube")
