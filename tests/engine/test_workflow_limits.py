"""Plans that are too large for a workflow are refused when it starts, and leave nothing behind."""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from acdtask.engine.stages import make_plan, open_site
from acdtask.engine.workflow_limits import (
    BYTES_OF_A_NODE,
    MARGIN,
    MAX_SHARD_ROUNDS,
    PARAMETER_BYTES,
    POD_SECONDS,
    PODS_AT_ONCE,
    STATUS_BYTES,
    WORKFLOW_SECONDS,
    require_fits_workflow,
    shards_parameter,
)
from acdtask.errors import AcdError, ErrorCode, ExitStatus
from acdtask.jobs.contract import Plan
from acdtask.jobs.registry import load_job
from acdtask.jobs.shards import MAX_SHARDS
from acdtask.jobs.simulate.job import SimulateJob, SimulateSettings
from tests.engine.test_pod import acdtask
from workflows.templates import CHAIN

IMAGES, SIDE = 60, 40_000
"""Of 6.4 GB to read each: two and a half hours for one shard."""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images that are large to read and, since they are sparse, small on the disk."""
    folder = tmp_path_factory.mktemp("large")
    how: dict[str, Any] = {"width": SIDE, "height": SIDE, "count": 1, "dtype": "int16", "nodata": -1}
    how |= {"crs": "EPSG:32632", "transform": rasterio.Affine(20, 0, 300_000, 0, -20, 5_700_000)}
    for number in range(IMAGES):
        name = folder / f"S1_2021{number // 28 + 1:02d}{number % 28 + 1:02d}_20211201.tif"
        with rasterio.open(
            name, "w", driver="GTiff", tiled=True, blockxsize=4096, blockysize=4096, sparse_ok=True, **how
        ) as raster:
            raster.scales = (0.001,)
    return folder


@pytest.fixture
def plan(tmp_path: Path) -> Plan[Any, Any]:
    """A real plan, of 60 shards in one round."""
    return make_plan(
        SimulateJob(),
        SimulateSettings(out=str(tmp_path / "scene"), size=512, reference_pairs=50, monitored_pairs=10),
        open_site(str(tmp_path / "cube")),
    )


def refused(plan: Plan[Any, Any], **changes: Any) -> AcdError:
    with pytest.raises(AcdError) as caught:
        require_fits_workflow(plan.model_copy(update=changes))
    assert caught.value.code is ErrorCode.PLAN_TOO_LARGE
    return caught.value


def test_shards_that_are_too_long_for_a_pod_are_refused_with_a_size_that_is_not(large: Path, tmp_path: Path) -> None:
    cube, outputs = tmp_path / "cube", tmp_path / "outputs"
    arguments = ["ingest", "plan", "--source", str(large), "--outputs", str(outputs)]
    done = acdtask(*arguments, "--shard-files", "100", cube=cube, ACD_LOG="text")
    assert done.returncode == ExitStatus.CONFIG
    assert "ACD-506" in done.stderr
    said = " ".join(done.stderr.split())
    assert "expected to take 2.4 h; its pod is stopped after 4.0 h" in said
    size = re.search(r"Set shard-files to (\d+) or less", said)
    assert size is not None
    assert not outputs.exists()
    assert not cube.exists()
    assert acdtask(*arguments, "--shard-files", str(int(size[1])), cube=cube).returncode == 0
    assert json.loads((outputs / "shards").read_text()) == [0, 1]


def test_on_one_machine_such_a_plan_is_only_told_of(large: Path, tmp_path: Path) -> None:
    arguments = ["ingest", "plan", "--source", str(large), "--shard-files", "100"]
    done = acdtask(*arguments, cube=tmp_path / "cube")
    assert done.returncode == 0
    assert "on this machine only: ACD-506" in done.stdout
    told = json.loads(acdtask(*arguments, "--json", cube=tmp_path / "cube").stdout)
    assert told["notes"]["too large"].startswith("ACD-506")
    arguments[-1] = "4"
    assert "ACD-506" not in acdtask(*arguments, cube=tmp_path / "cube").stdout
    assert "too large" not in json.loads(acdtask(*arguments, "--json", cube=tmp_path / "cube").stdout)["notes"]


def test_a_usual_plan_is_carried(plan: Plan[Any, Any]) -> None:
    require_fits_workflow(plan)
    assert plan.estimate.core_seconds > 0


def test_what_no_size_of_shards_mends_gets_another_fix(plan: Plan[Any, Any]) -> None:
    def lasting(seconds: float) -> AcdError:
        return refused(plan, estimate=plan.estimate.model_copy(update={"core_seconds": seconds}), units=100_000)

    assert "Set shard-images to " in str(lasting(plan.shards * POD_SECONDS["run"] / MARGIN + 1))
    assert "Plan less at once" in str(lasting(MAX_SHARDS * POD_SECONDS["run"] / MARGIN + 1))
    assert "smaller cells" in str(lasting(100_001 * POD_SECONDS["run"] / MARGIN))
    assert "--" not in str(lasting(1e9))


def test_too_many_shards_or_nodes_are_refused(plan: Plan[Any, Any]) -> None:
    assert "the maximum is 400" in str(refused(plan, shards=401))
    rounds = tuple(f"round-{number}" for number in range(10))
    error = refused(plan, shards=400, rounds=rounds)
    assert "400 shards in each of 10 rounds do not fit into the status" in str(error)
    assert f"Plan at most {MAX_SHARD_ROUNDS // 10} shards" in str(error)
    require_fits_workflow(plan.model_copy(update={"shards": MAX_SHARD_ROUNDS // 10, "rounds": rounds}))
    require_fits_workflow(plan.model_copy(update={"shards": 401, "nothing_to_do": "all is done"}))


def test_all_jobs_of_a_workflow_with_the_most_shards_fit_together() -> None:
    assert sum(len(load_job(job).rounds) for job in CHAIN) * MAX_SHARDS <= MAX_SHARD_ROUNDS


def test_the_longest_shards_of_a_job_end_before_the_workflow() -> None:
    assert MAX_SHARDS * POD_SECONDS["run"] / MARGIN / PODS_AT_ONCE <= WORKFLOW_SECONDS


def test_the_list_of_the_most_shards_is_a_small_parameter(plan: Plan[Any, Any]) -> None:
    assert len(shards_parameter(plan.model_copy(update={"shards": MAX_SHARDS}))) < PARAMETER_BYTES / 100
    assert shards_parameter(plan.model_copy(update={"nothing_to_do": "all is done"})) == "[]"


def status_of(shards: int) -> dict[str, Any]:
    """The status of a fan-out with the fields that Argo 3.7 gives a retry and its pod; times and ids by chance."""
    random = np.random.default_rng(7)
    nodes: dict[str, Any] = {}
    for shard in range(shards):
        name = f"acd-koln-1790000000.monitor.run-statistics({shard}:{shard})"
        ids = [f"acd-koln-1790000000-{number}" for number in random.integers(1 << 32, size=2)]
        begun, seconds = int(random.integers(80_000)), int(random.integers(60, 900))
        times = [
            str(np.datetime64("2026-11-23T00:00:00") + np.timedelta64(at, "s")) + "Z" for at in (begun, begun + seconds)
        ]
        inputs = {"plan-id": "6f3c1a9b2d4e5f60", "round": "statistics", "shard": str(shard)}
        both = {
            "templateName": "monitor-run",
            "templateScope": "local/acd-koln-1790000000",
            "phase": "Succeeded",
            "boundaryID": "acd-koln-1790000000-1234567890",
            "startedAt": times[0],
            "finishedAt": times[1],
            "progress": "4/4",
            "resourcesDuration": {"cpu": seconds, "memory": 20 * seconds},
            "inputs": {"parameters": [{"name": key, "value": value} for key, value in inputs.items()]},
            "outputs": {"exitCode": "0"},
        }
        own: list[dict[str, Any]] = [
            {"name": name, "type": "Retry", "children": [ids[1]]},
            {"name": f"{name}(0)", "type": "Pod", "hostNodeName": f"node-{shard % 20}", "nodeFlag": {"retried": True}},
        ]
        for identity, node in zip(ids, own, strict=True):
            nodes[identity] = {"id": identity, "displayName": node["name"], **node, **both}
    return nodes


def test_a_node_is_not_larger_than_the_limit_counts_with() -> None:
    nodes = status_of(1000)
    compressed = base64.b64encode(gzip.compress(json.dumps(nodes, separators=(",", ":")).encode(), 6))
    assert 0.5 * BYTES_OF_A_NODE < len(compressed) / len(nodes) < BYTES_OF_A_NODE
    assert 2 * MAX_SHARD_ROUNDS * len(compressed) / len(nodes) < STATUS_BYTES / MARGIN
