"""A package index for the tests with the marker `install`; they are skipped, with the reason, where there is none."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

UV = Path(sys.executable).with_name("uv")
UV_TRUSTS_THE_SYSTEM = {"UV_SYSTEM_CERTS": "1"}
"""Environment of uv, which otherwise trusts only certificates of its own; pip trusts those of the system."""


def need_index_for_pip(python: str | Path, folder: Path) -> None:
    """Skip the test if pip reaches no index."""
    command = [python, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "--dest", folder]
    _skip_if_failing("pip", [*command, "hatchling"])


def need_index_for_uv(folder: Path, environment: Mapping[str, str]) -> None:
    """Skip the test if uv reaches no index. uv does not read the settings of pip."""
    command: list[str | Path] = [
        UV,
        "pip",
        "install",
        "-q",
        "--dry-run",
        "--no-deps",
        "--refresh",
        "--target",
        folder,
        "hatchling",
    ]
    _skip_if_failing("uv", command, environment)


def _skip_if_failing(name: str, command: list[str | Path], environment: Mapping[str, str] | None = None) -> None:
    answer = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, env=environment)
    if answer.returncode:
        pytest.skip(f"{name} reaches no package index: {' '.join(answer.stderr.split())[-500:]}")
