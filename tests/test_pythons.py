"""The oldest and the newest Python, each with its locked libraries, give identical results."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from acdtask.engine.processes import WorkerPool
from tests.jobs.chain import digests, run_chain, simulate

CHECKOUT = Path(__file__).resolve().parents[1]
MAKEFILE = (CHECKOUT / "Makefile").read_text()
OLDEST = (3, 11)
CHAIN = """
import sys
from pathlib import Path
from acdtask.engine.processes import WorkerPool
from tests.jobs.chain import run_chain, simulate
folder = Path(sys.argv[1])
with WorkerPool(0) as pool:
    run_chain(simulate(folder / "scene"), str(folder / "cube"), pool)
"""


def newest() -> tuple[int, int]:
    """Find the newest Python that the project supports."""
    versions = re.findall(r"Programming Language :: Python :: (\d+)\.(\d+)", (CHECKOUT / "pyproject.toml").read_text())
    return max((int(major), int(minor)) for major, minor in versions)


def other_python() -> str | None:
    """Find the Python on this machine whose version differs most from the running one, and that has venv."""
    mine = sys.version_info[:2]
    minors = sorted(range(OLDEST[1], newest()[1] + 1), key=lambda minor: -abs(minor - mine[1]))
    installed = os.environ.get("PYENV_ROOT", str(Path.home() / ".pyenv"))
    for minor in minors:
        name = f"python3.{minor}"
        candidates = [shutil.which(name), *map(str, Path(installed).glob(f"versions/3.{minor}.*/bin/{name}"))]
        for candidate in candidates:
            if candidate and minor != mine[1] and _makes_environments(candidate):
                return candidate
    return None


def _makes_environments(python: str) -> bool:
    return subprocess.run([python, "-c", "import ensurepip, venv"], capture_output=True, check=False).returncode == 0


def test_the_newest_python_is_preferred_everywhere() -> None:
    major, minor = newest()
    order = re.findall(r"python3\.\d+", MAKEFILE.partition("for candidate in ")[2].partition(";")[0])
    assert order == [f"python{major}.{number}" for number in range(minor, OLDEST[1] - 1, -1)]
    image = (CHECKOUT / "images" / "Containerfile").read_text()
    assert re.search(rf"^ARG BASE=\S+/python:{major}\.{minor}-slim-\w+@sha256:[0-9a-f]{{64}}$", image, re.MULTILINE)
    assert f'requires-python = ">={OLDEST[0]}.{OLDEST[1]}"' in (CHECKOUT / "pyproject.toml").read_text()


@pytest.mark.install
def test_another_python_with_other_libraries_gives_identical_results(tmp_path: Path) -> None:
    other = other_python()
    if other is None:
        pytest.skip("only one supported Python is installed")
    subprocess.run([other, "-m", "venv", tmp_path / "env"], check=True)
    python = tmp_path / "env" / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
    locked = ["--only-binary", ":all:", "-r", str(CHECKOUT / "requirements" / "run.txt")]
    installed = subprocess.run([*pip, *locked], capture_output=True, text=True, check=False)
    if "Temporary failure in name resolution" in installed.stderr or "No route to host" in installed.stderr:
        pytest.skip("pip reaches no package index")
    assert installed.returncode == 0, installed.stderr
    paths = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    subprocess.run([python, "-c", CHAIN, tmp_path / "theirs"], env=paths, check=True)
    with WorkerPool(0) as pool:
        run_chain(simulate(tmp_path / "ours" / "scene"), str(tmp_path / "ours" / "cube"), pool)
    for folder in ("scene", "cube"):
        ours, theirs = (_without_reports(tmp_path / side / folder) for side in ("ours", "theirs"))
        assert ours == theirs
        assert any(key.endswith(".tif") for key in ours)


def _without_reports(folder: Path) -> dict[str, str]:
    """Digests of all products except reports, which name the Python version."""
    return {key: digest for key, digest in digests(folder).items() if "/report/" not in key}
