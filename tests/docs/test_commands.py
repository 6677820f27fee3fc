"""Every command in the README and the how-to pages runs, in order, as it is written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT

BLOCK = re.compile(r"^```(?P<kind>console|json)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = [
    "README.md",
    *sorted(path.relative_to(CHECKOUT).as_posix() for path in (CHECKOUT / "docs/how-to").glob("*.md")),
]


def blocks(page: str) -> list[tuple[str, str]]:
    return [(found["kind"], found["body"]) for found in BLOCK.finditer((CHECKOUT / page).read_text())]


def run(command: str, folder: Path) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euc", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


@pytest.mark.realdata
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)])
def test_the_commands_of_a_page_run(page: str, real_data: Path, tmp_path: Path) -> None:
    (tmp_path / "geotiffs").symlink_to(real_data / "pyrate_cropA" / "geotiffs")
    for kind, body in blocks(page):
        if kind == "json":
            (tmp_path / "aoi.json").write_text(body)
            continue
        for line in body.splitlines():
            if line.startswith("$ "):
                run(line.removeprefix("$ "), tmp_path)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = (CHECKOUT / page).read_text()
    targets = [target for target in re.findall(r"\]\(([^)#]+)", text) if "://" not in target]
    missing = [target for target in targets if not ((CHECKOUT / page).parent / target).exists()]
    assert missing == []
