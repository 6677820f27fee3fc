"""Reads and runs the notebooks of the documentation."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient


def notebook(path: Path) -> Any:
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]  # untyped


def shown(cell: Any) -> tuple[str, list[str]]:
    """Printed text of a cell, and the media types of its pictures."""
    text, pictures = "", []
    for output in cell.outputs:
        if output.output_type == "stream":
            text += output.text
            continue
        text += output.data["text/plain"] + "\n"
        pictures += [kind for kind in ("image/png", "image/jpeg") if kind in output.data][:1]
    return text, pictures


def run(path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Any]]:
    """Run a notebook; returns each code cell as stored and as executed."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(folder))
    stored, executed = notebook(path), notebook(path)
    NotebookClient(
        executed, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    cells = zip(stored.cells, executed.cells, strict=True)
    return [(before, after) for before, after in cells if after.cell_type == "code"]


def links(path: Path) -> list[str]:
    """Link targets in a notebook, without anchors."""
    text = "".join(cell.source for cell in notebook(path).cells if cell.cell_type == "markdown")
    return re.findall(r"\]\(([^)#]+)", text)
