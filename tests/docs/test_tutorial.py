"""The notebooks run unchanged, and reproduce their stored output."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT
from tests.docs.notebooks import links, notebook, run, shown

TUTORIAL = CHECKOUT / "docs/tutorial.ipynb"
LOCAL = CHECKOUT / "docs/local.ipynb"
LINES_OF_A_USER = 30
LARGEST = 600_000


def test_the_tutorial_reproduces_its_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACD_GEOCUBE_ADDRESS", raising=False)
    codes = run(TUTORIAL, tmp_path, monkeypatch)
    for before, after in codes:
        assert shown(after) == shown(before), after.source
    assert sum(len(shown(after)[1]) for _, after in codes) == 2
    assert re.search(r"patches of \[\d+", "".join(shown(after)[0] for _, after in codes))


def test_the_local_notebook_reproduces_its_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    codes = run(LOCAL, tmp_path, monkeypatch)
    for before, after in codes:
        assert shown(after) == shown(before), after.source
    assert [kind for _, after in codes for kind in shown(after)[1]] == ["image/jpeg"] * 3
    text = "".join(shown(after)[0] for _, after in codes)
    assert "bit for bit the same: True" in text
    assert re.search(r"^1 +\d+ +\d+\.\d+ ", text, re.MULTILINE)
    assert "ACD-" in text
    assert LOCAL.stat().st_size < LARGEST


def test_the_story_takes_thirty_lines() -> None:
    cells = [cell for cell in notebook(TUTORIAL).cells if "user" in cell.metadata.get("tags", [])]
    lines = [line for cell in cells for line in cell.source.splitlines() if line.strip()]
    assert len([line for line in lines if not line.startswith(("import ", "from "))]) <= LINES_OF_A_USER


@pytest.mark.parametrize("path", [TUTORIAL, LOCAL])
def test_links_of_a_notebook_have_existing_targets(path: Path) -> None:
    targets = links(path)
    assert targets
    assert [target for target in targets if not (path.parent / target).exists()] == []


@pytest.mark.parametrize("path", [TUTORIAL, LOCAL])
def test_the_index_names_every_notebook(path: Path) -> None:
    assert f"({path.name})" in (CHECKOUT / "docs/README.md").read_text()
