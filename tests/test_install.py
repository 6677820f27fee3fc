"""acd installs like any Python package: from a checkout and from its source archive, built in isolation."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.package_index import need_index_for_pip

CHECKOUT = Path(__file__).resolve().parents[1]
PIP = ("--disable-pip-version-check", "--quiet")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy of the files that git tracks, like a fresh clone."""
    copy = tmp_path_factory.mktemp("clone")
    names = subprocess.run(["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, check=True).stdout
    for name in names.decode().split("\0"):
        source = CHECKOUT / name
        if name and source.is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes(source.read_bytes())
    return copy


@pytest.fixture(scope="module")
def constraints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Locked versions, so that new releases of dependencies cannot affect the test."""
    pinned = [line.split("\\")[0] for line in (CHECKOUT / "requirements" / "run.txt").read_text().splitlines()]
    path = tmp_path_factory.mktemp("constraints") / "constraints.txt"
    path.write_text("\n".join(line for line in pinned if "==" in line and not line.lstrip().startswith(("#", "--"))))
    return path


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """Python of an environment that contains only pip."""
    venv.create(tmp_path / "empty", with_pip=True)
    python = tmp_path / "empty" / "bin" / "python"
    need_index_for_pip(python, tmp_path / "probe")
    return python


@pytest.mark.install
@pytest.mark.parametrize("form", ["checkout", "sdist"])
def test_acd_installs_into_an_empty_environment(form: str, checkout: Path, constraints: Path, empty: Path) -> None:
    assert "`pip install .`" in (CHECKOUT / "README.md").read_text()
    package = checkout if form == "checkout" else _sdist(checkout, empty.parents[2])
    pip = (str(empty), "-m", "pip")
    subprocess.run([*pip, "install", *PIP, "--constraint", constraints, package], cwd=empty.parent, check=True)
    ran = subprocess.run([empty.parent / "acdtask", "--version"], cwd=empty.parent, capture_output=True, text=True)
    assert ran.stdout.startswith("acdtask ")
    imported = "import acdtask.cube.protocol.services_pb2_grpc, acdtask.jobs.monitor.job, acdtask.serve.serve"
    subprocess.run([empty, "-c", imported], cwd=empty.parent, check=True)
    subprocess.run([*pip, "check", *PIP], check=True)


def _sdist(checkout: Path, folder: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(folder / "dist")]
    subprocess.run(command, cwd=checkout, check=True, capture_output=True)
    (archive,) = (folder / "dist").glob("acdtask-*.tar.gz")
    return archive
