"""The workflow acd-fuse makes the bytes of `acdtask fuse local`, in the planning pod and with pods for its shards."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.jobs.tracks_site import ASCENDING, DESCENDING, fuse, make_tracks
from tests.workflows.equipment.engine import run_workflow
from tests.workflows.equipment.model import load_document
from tests.workflows.equipment.pods import Host
from workflows.rendering import CHART_FILES


@pytest.fixture(scope="module")
def tracks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with scenes, and a cube with both tracks judged."""
    folder = tmp_path_factory.mktemp("tracks")
    make_tracks(folder)
    return folder


def results(cube: Path) -> dict[str, bytes]:
    (folder,) = (cube / "products").glob("*/fuse")
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


@pytest.mark.parametrize("here_seconds", ["0", "120"])
def test_the_workflow_makes_the_bytes_of_local(tracks: Path, tmp_path: Path, here_seconds: str) -> None:
    local, cube = (Path(shutil.copytree(tracks / "cube", tmp_path / name)) for name in ("local", "cube"))
    fuse(local, tracks / "track0" / "aoi.json")
    host = Host(
        tmp_path / "run",
        commands={"acdtask": [sys.executable, "-m", "acdtask"]},
        config_maps={"acd-aoi-koln": tracks / "track0"},
        environment={"ACD_CUBE": str(cube)},
    )
    given = {
        "aoi": "koln",
        "members": f"{DESCENDING},{ASCENDING}",
        "shard-windows": "1",
        "here-seconds": here_seconds,
    }
    result = run_workflow(load_document(CHART_FILES / "acd-fuse.yaml"), given, host, workers=2, pace=0)
    assert result.phase == "Succeeded", result
    assert results(cube) == results(local)
    fanned_out = [node.name for node in result.nodes if node.attempts and "run-fuse" in node.name]
    assert len(fanned_out) == (3 if here_seconds == "0" else 0)
