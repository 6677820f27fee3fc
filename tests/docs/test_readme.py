"""The README's commands run as typed, in one shell, with acdtask on PATH only because they activate it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import blocks_of, text_of

pytestmark = pytest.mark.realdata
WHERE = ("--cube", "cube", "--aoi", "aoi.json", "--layout", "crop")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, real_data: Path) -> Path:
    """Folder in which the README's commands were run."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "geotiffs").symlink_to(real_data / "pyrate_cropA" / "geotiffs")
    blocks = blocks_of(text_of("README.md"))
    (folder / "aoi.json").write_text(next(block.body for block in blocks if block.kind == "json"))
    commands = [command for block in blocks if block.kind == "console" for command in block.commands]
    ours = str(Path(sys.prefix) / "bin")
    path = os.pathsep.join(part for part in os.environ["PATH"].split(os.pathsep) if part != ours)
    assert commands[0] == ". .venv/bin/activate"
    subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(commands)],
        cwd=folder,
        env={**os.environ, "PATH": path},
        check=True,
        timeout=600,
    )
    return folder


def patches(folder: Path, *options: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "acdtask", "show", "patches", *WHERE, "--json", *options]
    shown = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return [feature["properties"] for feature in json.loads(shown.stdout)["features"]]


def test_the_pair_ending_on_5_july_has_the_held_back_candidate_that_the_readme_describes(folder: Path) -> None:
    (candidate,) = patches(folder, "--date", "2018-07-05", "--held-back")
    text = " ".join(text_of("README.md").split())
    size = f"{candidate['area_px']} pixels ({candidate['area_m2'] / 1e6:.1f} km²)"
    assert f"the coherence of {size} is {candidate['drop_mean']:.2f} below the baseline mean" in text
    assert f"its probability is {candidate['probability']:.1g}" in text
    assert "against its surroundings, which fell by" in candidate["reason"]


def test_neither_pair_has_a_patch_and_both_were_judged(folder: Path) -> None:
    assert not patches(folder)
    assert not patches(folder, "--date", "2018-07-17", "--held-back")
    judged = {path.name for path in (folder / "cube/products/mexico-city/monitor").glob("*/2018-*")}
    assert any(name.startswith("2018-05-06_2018-07-17") for name in judged)


def test_the_baseline_has_as_many_pairs_as_the_readme_says(folder: Path) -> None:
    assert [candidate["baseline_count"] for candidate in patches(folder, "--held-back")] == [27]
    assert "The 27 pairs up to July are the baseline" in text_of("README.md")


def test_the_files_that_the_readme_mentions_exist(folder: Path) -> None:
    assert (folder / "report/index.html").is_file()
    assert (folder / "report/patches.geojson").is_file()
    assert (folder / "report/patches.parquet").is_file()
    assert list((folder / "cube/products").rglob("*.tif"))
