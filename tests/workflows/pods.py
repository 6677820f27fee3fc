"""Workflows whose pods run a line of Python, with a runner."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from tests.workflows.equipment.engine import Result, run_workflow
from tests.workflows.equipment.model import load_document
from tests.workflows.equipment.pods import Host
from workflows.retries import LIMIT, retry_expression

PRINT = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text(sys.argv[2])"


def pod(name: str, code: str, *args: str, **more: Any) -> dict[str, Any]:
    """A template whose pod runs a line of Python."""
    container = {
        "name": "main",
        "image": "python",
        "command": [sys.executable, "-c"],
        "args": [code, *args],
        "volumeMounts": [{"name": "tmp", "mountPath": "/scratch"}],
    }
    return {"name": name, "container": container, "volumes": [{"name": "tmp", "emptyDir": {}}], **more}


def retry(**changes: Any) -> dict[str, Any]:
    return {
        "limit": LIMIT,
        "retryPolicy": "Always",
        "expression": retry_expression(),
        "backoff": {"duration": "1s", "factor": 2},
        **changes,
    }


def workflow(*templates: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "WorkflowTemplate",
        "metadata": {"name": "test"},
        "spec": {"entrypoint": templates[0]["name"], "templates": list(templates), **spec},
    }


def run(document: dict[str, Any], folder: Path, parameters: dict[str, str] | None = None, **host: Any) -> Result:
    file = folder / "workflow.yaml"
    file.write_text(yaml.safe_dump(document))
    return run_workflow(load_document(file), parameters or {}, Host(folder / "run", **host), workers=2, pace=0)


def dag(*tasks: dict[str, Any], name: str = "dag") -> dict[str, Any]:
    return {"name": name, "dag": {"failFast": False, "tasks": list(tasks)}}
