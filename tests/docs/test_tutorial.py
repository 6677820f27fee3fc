"""The tutorial runs as it stands, and says what is printed in it."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import CHECKOUT

TUTORIAL = CHECKOUT / "docs/tutorial.ipynb"
LINES_OF_A_USER = 30


def tutorial() -> Any:
    return nbformat.read(TUTORIAL, as_version=4)  # type: ignore[no-untyped-call]  # it has no types


def shown(cell: Any) -> tuple[str, list[str]]:
    """What a cell printed, and the kinds of its pictures."""
    text, pictures = "", []
    for output in cell.outputs:
        if output.output_type == "stream":
            text += output.text
            continue
        text += output.data["text/plain"] + "\n"
        pictures += [kind for kind in output.data if kind == "image/png"]
    return text, pictures


def test_the_tutorial_shows_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("ACD_GEOCUBE_ADDRESS", raising=False)
    said, done = tutorial(), tutorial()
    NotebookClient(done, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    codes = [(before, after) for before, after in zip(said.cells, done.cells, strict=True) if after.cell_type == "code"]
    for before, after in codes:
        assert shown(after) == shown(before), after.source
    assert sum(len(shown(after)[1]) for _, after in codes) == 2
    assert re.search(r"patches of \[\d+", "".join(shown(after)[0] for _, after in codes))


def test_the_story_takes_thirty_lines() -> None:
    cells = [cell for cell in tutorial().cells if "user" in cell.metadata.get("tags", [])]
    lines = [line for cell in cells for line in cell.source.splitlines() if line.strip()]
    assert len([line for line in lines if not line.startswith(("import ", "from "))]) <= LINES_OF_A_USER


def test_links_of_the_tutorial_lead_somewhere() -> None:
    text = "".join(cell.source for cell in tutorial().cells if cell.cell_type == "markdown")
    targets = re.findall(r"\]\(([^)#]+)", text)
    assert targets
    assert [target for target in targets if not (TUTORIAL.parent / target).exists()] == []
