"""Packages form layers whose imports only go down, and files do not import each other in circles.

All imports count, including those inside functions and those for type checkers only.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = "acdtask"
ROOT = Path(__file__).resolve().parents[1]

LAYERS = {
    "acdtask": """
        __main__
        cli
        demo project
        notify maintenance
        api engine
        jobs
        serve ingester
        cube
        change
        raster
        storage
        http
        errors log dates wording hosts
    """,
    "acdtask.cube": """
        shared stac
        local geocube
        protocol
        *
    """,
    "acdtask.jobs": """
        report
        fuse
        monitor
        baseline
        ingest consolidate simulate
        *
    """,
}
"""Packages and files from top to bottom. Each may only import from lines below its own.

`*` stands for all other files of the package, which may import each other.
"""

KNOWN: set[tuple[str, str]] = set()
"""Imports that still go up; do not add any."""


class Import(NamedTuple):
    """An import of one file of the package by another."""

    importer: str
    imported: str
    line: int


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def modules() -> dict[str, Path]:
    return {module_of(path): path for path in sorted((ROOT / PACKAGE).rglob("*.py"))}


@cache
def imports() -> tuple[Import, ...]:
    """All imports except those of acdtask/__init__.py, which imports the Python interface on first use."""
    return tuple(found for module, path in modules().items() if module != PACKAGE for found in imports_of(module, path))


def imports_of(module: str, path: Path) -> Iterator[Import]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.module, f"{path}:{node.lineno}: a relative import"
            submodules = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in modules() else node.module for name in submodules]
        else:
            continue
        yield from (Import(module, name, node.lineno) for name in dict.fromkeys(names) if name in modules())


def rows(package: str) -> dict[str, int]:
    """Line number of each name in the layers of a package, from the top."""
    return {name: row for row, line in enumerate(LAYERS[package].split("\n")) for name in line.split()}


def part_of(module: str, package: str) -> str:
    """File or folder directly below a package that a module belongs to; empty if the module is elsewhere.

    >>> part_of("acdtask.cube.local.read", "acdtask"), part_of("acdtask.cube.local.read", "acdtask.cube")
    ('cube', 'local')
    >>> part_of("acdtask.jobs", "acdtask.cube")
    ''
    """
    prefix = f"{package}."
    return module.removeprefix(prefix).split(".")[0] if module.startswith(prefix) else ""


def climbing(package: str) -> Iterator[str]:
    """Describe the imports within a package that do not go down."""
    layers = rows(package)
    rest = layers.get("*")
    for importer, imported, line in imports():
        upper, lower = part_of(importer, package), part_of(imported, package)
        if not upper or not lower or upper == lower or (importer, imported) in KNOWN:
            continue
        above, below = layers.get(upper, rest), layers.get(lower, rest)
        assert above is not None, f"{package}.{upper} is missing in LAYERS"
        assert below is not None, f"{package}.{lower} is missing in LAYERS"
        if above > below or (above == below and above != rest):
            path = modules()[importer].relative_to(ROOT)
            yield f"{path}:{line} imports {imported}, but {upper}/ is not above {lower}/ in LAYERS"


@pytest.mark.parametrize("package", LAYERS)
def test_imports_go_down_only(package: str) -> None:
    assert not list(climbing(package))


@pytest.mark.parametrize("package", LAYERS)
def test_all_names_in_the_layers_exist(package: str) -> None:
    parts = {part_of(module, package) for module in modules()}
    assert not sorted(rows(package).keys() - parts - {"*"})


def test_no_files_import_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {module: set() for module in modules()}
    for importer, imported, _ in imports():
        # Every module may import acdtask itself for the version; `imports` ignores the imports of its __init__.py.
        if importer != imported and imported != PACKAGE and (importer, imported) not in KNOWN:
            graph[importer].add(imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        steps = " imports ".join(reversed(error.args[1]))
        pytest.fail(f"import circle: {steps}")


def test_known_upward_imports_still_exist() -> None:
    """Entries of KNOWN that are fixed must be removed."""
    assert not sorted(KNOWN - {(found.importer, found.imported) for found in imports()})
