"""The commands of docs/how-to/install.md run in order, in a fresh clone with an empty home folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT
from tests.docs.pages import blocks_of, text_of
from tests.package_index import UV, UV_TRUSTS_THE_SYSTEM, need_index_for_pip, need_index_for_uv

PAGE = "docs/how-to/install.md"
ADDRESS = "git+https://git.example.com/ground/acd.git"
INTERNAL = {"build", "dev", "docs"}
"""Extras for development."""


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "init.defaultBranch=main")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """New repository with the current content of the files that git tracks."""
    clone = tmp_path / "clone"
    clone.mkdir()
    names = subprocess.run(["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, check=True).stdout
    for name in names.decode().split("\0"):
        if name and (CHECKOUT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CHECKOUT / name, clone / name)
    git(clone, "init")
    git(clone, "add", "--all")
    git(clone, "commit", "--message", "all")
    return clone


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Environment with an empty home, uv but not acdtask on PATH, and the locked versions."""
    home, tools = tmp_path / "home", tmp_path / "tools"
    home.mkdir()
    tools.mkdir()
    (tools / "uv").symlink_to(UV)
    (tools / "python3").symlink_to(Path(sys.executable).resolve())
    constraints = tmp_path / "constraints.txt"
    locked = (CHECKOUT / "requirements/run.txt").read_text().splitlines()
    constraints.write_text("\n".join(line.split("\\")[0] for line in locked if "==" in line and line[0].isalpha()))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "UV_", "VIRTUAL_ENV"))}
    path = os.pathsep.join([str(tools), str(home / ".local/bin"), "/usr/local/bin", "/usr/bin", "/bin"])
    limits = {"PIP_CONSTRAINT": str(constraints), "UV_CONSTRAINT": str(constraints), "UV_PYTHON_DOWNLOADS": "never"}
    caches = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    speed = {"PIP_CACHE_DIR": str(caches / "pip"), "UV_CACHE_DIR": str(caches / "uv"), "PIP_NO_COMPILE": "1"}
    return {**kept, **limits, **speed, **UV_TRUSTS_THE_SYSTEM, "HOME": str(home), "PATH": path}


@pytest.mark.install
def test_the_commands_of_the_page_install_acd(clone: Path, environment: dict[str, str], tmp_path: Path) -> None:
    need_index_for_pip(sys.executable, tmp_path / "probe")
    need_index_for_uv(tmp_path / "probe-uv", environment)
    blocks = [block for block in blocks_of(text_of(PAGE)) if block.kind == "sh"]
    assert [block.heading for block in blocks] == [
        "From a clone",
        "From a clone",
        "Without a clone",
        "Shell completion",
    ]
    for block in blocks:
        shutil.rmtree(clone / "acd", ignore_errors=True)
        script = block.body.replace(ADDRESS, f"git+file://{clone}")
        assert ("git+" in block.body) == ("git+file" in script)
        ran = subprocess.run(
            ["bash", "-euc", f"{script}\ntrue"],  # bash stays, so that acdtask sees which shell called it
            cwd=clone,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert ran.returncode == 0, f"{script}\n{ran.stdout}\n{ran.stderr}"
    assert (clone / "../home/.bash_completions/acdtask.sh").is_file()
    assert not (clone / "../home/.venv").exists()


def test_every_extra_is_on_the_page() -> None:
    extras = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert [name for name in extras if name not in INTERNAL and f"| `{name}` |" not in text_of(PAGE)] == []
