"""The chart as helm renders it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import yaml

from tests.conftest import CHECKOUT

CHART = CHECKOUT / "helm" / "acd"
VALUES = Path(__file__).parent / "values"
SHIPPED = CHART / "examples"
"""Values for users, one file for each cloud."""

FILES = {path.stem: path for folder in (VALUES, SHIPPED) for path in folder.glob("*.yaml")}
EXAMPLES = sorted(FILES)
NAMESPACE = "watch"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The fast YAML loader if available, since the objects are long."""

Object: TypeAlias = dict[str, Any]
Done: TypeAlias = "subprocess.CompletedProcess[str]"
Run: TypeAlias = Callable[..., Done]
Template: TypeAlias = Callable[[Object], Done]
Render: TypeAlias = Callable[[Object], list[Object]]


def example(name: str) -> Object:
    """The values of an example."""
    values: Object = yaml.safe_load(FILES[name].read_text())
    return values


def merged(values: Object, changes: Object) -> Object:
    """Merge changes into values as helm merges files: maps by key, everything else as a whole."""
    result = dict(values)
    for key, change in changes.items():
        there = result.get(key)
        result[key] = merged(there, change) if isinstance(change, dict) and isinstance(there, dict) else change
    return result


def objects(text: str) -> list[Object]:
    """Parse the output of helm."""
    return [document for document in yaml.load_all(text, Loader=LOADER) if document]


def of_kind(rendered: list[Object], kind: str) -> list[Object]:
    """The objects of a kind."""
    return [resource for resource in rendered if resource["kind"] == kind]


@pytest.fixture(scope="session")
def helm() -> Run:
    """Make a function that runs helm; skips the test without helm."""
    program = shutil.which("helm")
    if program is None:
        pytest.skip("helm is not on PATH")

    def run(*arguments: str) -> Done:
        return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)

    return run


@pytest.fixture(scope="session")
def template(helm: Run, tmp_path_factory: pytest.TempPathFactory) -> Template:
    """Make a function that runs `helm template` with given values."""

    def run(values: Object) -> Done:
        file = tmp_path_factory.mktemp("values") / "values.yaml"
        file.write_text(yaml.safe_dump(values))
        return helm("template", "acd", str(CHART), "--namespace", NAMESPACE, "--values", str(file))

    return run


@pytest.fixture(scope="session")
def render(template: Template) -> Render:
    """Make a function that renders values to objects, with a cache; each caller gets its own copy."""
    known: dict[str, str] = {}

    def run(values: Object) -> list[Object]:
        key = yaml.safe_dump(values)
        if key not in known:
            done = template(values)
            assert done.returncode == 0, done.stderr
            known[key] = json.dumps(objects(done.stdout))
        rendered: list[Object] = json.loads(known[key])
        return rendered

    return run
