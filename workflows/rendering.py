"""Templates as YAML files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from workflows.templates import build_all

__all__ = ["CHART_FILES", "render_all", "write_all"]

CHART_FILES = Path(__file__).resolve().parents[1] / "helm" / "acd" / "files"
WIDTH = 10_000
"""No line is broken: a broken line in an expression is hard to read."""
HEADER = "# Made by `python -m workflows`; do not edit.\n"


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as blocks; no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def render_all() -> dict[str, str]:
    """File name and text of every WorkflowTemplate."""
    return {
        f"{name}.yaml": HEADER + yaml.dump(template.to_dict(), Dumper=_Dumper, sort_keys=False, width=WIDTH)
        for name, template in build_all().items()
    }


def write_all(folder: Path = CHART_FILES) -> list[Path]:
    """Write every file, and remove templates that are no longer made."""
    folder.mkdir(parents=True, exist_ok=True)
    rendered = render_all()
    for old in folder.glob("acd-*.yaml"):
        if old.name not in rendered:
            old.unlink()
    for name, text in rendered.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in rendered]
