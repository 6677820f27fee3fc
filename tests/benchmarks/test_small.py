"""Every benchmark runs on small inputs; the figures mean nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALL = {
    "quick": ["--small"],
    "cube_speed": ["--rounds", "1"],
    "serve_speed": ["--rounds", "1"],
    "index_query": ["--records", "500"],
    "estimates": ["--small"],
    "stac_speed": ["--count", "100"],
    "simulation_statistics": ["--small"],
    "model": ["--small"],
    "fusion": ["--small"],
    "method_cost": ["--small"],
}
IN_OTHER_TESTS = {"daily"}
FIGURES = {
    "quick": r"\| tutorial \(loop over blobs\) .*x(?s:.*)\| 6 dates +\| +\d+ MiB",
    "cube_speed": r"\| rasterio, the same COGs +\| +\d+",
    "serve_speed": r"\| acd, COGs +\| +\d+",
    "estimates": r"│ monitor +│ +\d+\.\d+ │ +\d+\.\d+ │ +\d+\.\d+ │ +\d+ │ +\d+ │",
    "stac_speed": r"read pystac +\d+ µs an item",
    "simulation_statistics": r"\| share of the variance that an image has in common \|( \d\.\d+ \|){2,3}",
    "model": r"standard +pixel F1 \d\.\d{3} (?s:.*)rule +at +50 +pixel F1 \d\.\d{3} ",
    "fusion": r"\| second track \|( -?\d\.\d+ \| [+-]\d\.\d+ ± \d\.\d+ \|){4}(?s:.*)shrunk by 0\.8, outline",
    "method_cost": r"robust / standard: \d+\.\d+ times the time, \d+\.\d+ times the memory",
    "index_query": r"everything: 500 records, first \d+\.\d+ s",
}


def test_every_benchmark_is_run_by_a_test() -> None:
    names = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if "def main()" in path.read_text()}
    assert names == SMALL.keys() | IN_OTHER_TESTS


@pytest.mark.parametrize("name", SMALL)
def test_a_benchmark_prints_its_figures(name: str) -> None:
    command = [sys.executable, "-m", f"benchmarks.{name}", *SMALL[name]]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert finished.returncode == 0, finished.stderr
    assert re.search(FIGURES[name], finished.stdout), finished.stdout
