"""The runner keeps its word: the same template with the same fault ends there as it ends on a cluster."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import yaml

from tests.cluster.conftest import NewPlace
from tests.cluster.faults import CONFIG_MAP, Fault, config_map, has_faults, with_faults
from tests.cluster.scenes import ALL_PODS, monitor_of
from tests.conftest import CHECKOUT
from tests.jobs.chain import digests
from tests.workflows.equipment.engine import Result, run_workflow
from tests.workflows.equipment.model import Document, load_document
from tests.workflows.equipment.pods import Host
from workflows.rendering import CHART_FILES

SHARD = ("run", "check", "1")
NODE = "ingest.run-check(1:1)"
FAULTS = {
    "75 once": ([Fault(SHARD, exit=75)], "Succeeded", ["75", "0"]),
    "70": ([Fault(SHARD, exit=70)], "Failed", ["70"]),
    "78": ([Fault(SHARD, exit=78)], "Failed", ["78"]),
    "64 once, as Argo's executor": ([Fault(SHARD, exit=64)], "Succeeded", ["64", "0"]),
    "a gather ends with 75 twice": ([Fault(("gather", "check"), (0, 1), exit=75)], "Succeeded", ["0"]),
}


def here(faults: list[Fault], scene: Path, folder: Path) -> Result:
    """The workflow in the runner."""
    place = folder / CONFIG_MAP
    place.mkdir(parents=True)
    for name, text in config_map(faults).items():
        (place / name).write_text(text)
    template = yaml.safe_load((CHART_FILES / "acd-ingest.yaml").read_text())
    file = folder / "template.yaml"
    file.write_text(yaml.safe_dump(with_faults(template, f"{place}{os.pathsep}{CHECKOUT}")))
    document: Document = load_document(file)
    host = Host(
        folder / "run",
        commands={"acdtask": [sys.executable, "-m", "acdtask"]},
        config_maps={"acd-aoi-koln": scene},
        environment={"ACD_CUBE": str(folder / "cube")},
    )
    given = {"aoi": "koln", "source": str(scene / "images"), "shard-files": "12", **ALL_PODS}
    return run_workflow(document, given, host, workers=2, pace=0)


def outcome(result: Result) -> dict[str, tuple[str, int]]:
    return {node.name: (node.phase, len(node.attempts)) for node in result.nodes}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_ends_as_in_the_runner(new_place: NewPlace, scene: Path, tmp_path: Path, name: str) -> None:
    faults, phase, exit_codes = FAULTS[name]
    place = new_place("runner")
    place.put_images(sorted((scene / "images").iterdir()))
    place.install({"monitors": [monitor_of(scene)]}, tmp_path)
    place.put_faults("acd-ingest", faults)
    given = {"aoi": "koln", "source": place.inbox, "shard-files": "12", **ALL_PODS}
    submitted = place.submit("workflowtemplate/acd-ingest", given)
    expected = here(faults, scene, tmp_path / "here")
    workflow = place.ended(submitted)
    assert has_faults({"spec": workflow.spec}), "Argo ran the template of before"
    assert workflow.phase == expected.phase == phase, workflow.why()
    assert workflow.outcome() == outcome(expected)
    assert [attempt.exit_code for attempt in workflow.attempts(NODE)] == exit_codes
    assert [str(attempt.exit_code) for attempt in expected.node(NODE).attempts] == exit_codes
    assert digests(place.download(tmp_path / "cube")) == digests(tmp_path / "here" / "cube")
