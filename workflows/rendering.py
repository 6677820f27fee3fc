"""Render the templates to YAML files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from workflows.templates import build_all

__all__ = ["CHART_FILES", "render_all", "write_all"]

CHART_FILES = Path(__file__).resolve().parents[1] / "helm" / "acd" / "files"
WIDTH = 10_000
"""Wide enough to break no line, since broken expressions are hard to read."""
HEADER = "# Made by `python -m workflows`; do not edit.\n"


class _Dumper(yaml.SafeDumper):
    """Dumps multi-line strings as blocks, and no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def render_all() -> dict[str, str]:
    """Render every WorkflowTemplate, by filename."""
    return {
        f"{name}.yaml": HEADER + yaml.dump(template.to_dict(), Dumper=_Dumper, sort_keys=False, width=WIDTH)
        for name, template in build_all().items()
    }


def write_all(folder: Path = CHART_FILES) -> list[Path]:
    """Write all files, and remove obsolete ones."""
    folder.mkdir(parents=True, exist_ok=True)
    rendered = render_all()
    for path in folder.glob("acd-*.yaml"):
        if path.name not in rendered:
            path.unlink()
    for name, text in rendered.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in rendered]
