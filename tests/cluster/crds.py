"""The definitions of the kinds of Argo CD and Flux, from the Go module proxy: nothing of them is kept here."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.cluster.tools import call

FILES = {
    ("github.com/argoproj/argo-cd/v3", "v3.3.0"): "manifests/crds/application-crd.yaml",
    ("github.com/fluxcd/source-controller", "v1.7.0"): (
        "config/crd/bases/source.toolkit.fluxcd.io_gitrepositories.yaml"
    ),
    ("github.com/fluxcd/helm-controller", "v1.4.0"): "config/crd/bases/helm.toolkit.fluxcd.io_helmreleases.yaml",
}
"""A definition's file in a module of a version."""


def downloaded(folder: Path) -> list[Path]:
    """The files; skips where they cannot be had."""
    return [module_folder(*module, folder) / file for module, file in FILES.items()]


def module_folder(path: str, version: str, folder: Path) -> Path:
    """The folder of a Go module; skips where it cannot be had."""
    if shutil.which("go") is None:
        pytest.skip(f"go is not on PATH: {path} comes from the Go module proxy")
    command = ["go", "mod", "download", "-json", f"{path}@{version}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    said = json.loads(done.stdout) if done.stdout.startswith("{") else {}
    if done.returncode or "Dir" not in said:
        pytest.skip(f"{path}@{version} cannot be had: {said.get('Error', done.stderr)[:500]}")
    return Path(said["Dir"])


@contextmanager
def installed(files: list[Path]) -> Iterator[None]:
    """The cluster knows these kinds; those that it did not know before are removed again."""
    names = {str(yaml.safe_load(file.read_text())["metadata"]["name"]): file for file in files}
    there = call("kubectl", "get", "customresourcedefinitions", "--output", "name")
    new = {name: file for name, file in names.items() if f"/{name}\n" not in there}
    try:
        for file in new.values():
            call("kubectl", "apply", "--server-side", "--filename", file)
        for name in new:
            call("kubectl", "wait", "--for=condition=Established", f"customresourcedefinition/{name}")
        yield
    finally:
        for name in new:
            call("kubectl", "delete", "customresourcedefinition", name, "--ignore-not-found", "--wait=false")
