"""Imports go down only: the layers of the packages, and no circle among files.

The layers are written here and nowhere else. An import anywhere in a file counts, also one inside a function or for
type checkers alone.
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
        monitor
        baseline
        ingest consolidate simulate
        *
    """,
}
"""Packages and files from top to bottom. Each may import what stands in the lines below its own, and nothing else.

`*` is all that the package has besides; these files may import each other.
"""

KNOWN: set[tuple[str, str]] = set()
"""Imports that still go up. None may be added."""


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
    """Every import but those of acdtask/__init__.py, which imports the names of the Python interface on first use."""
    return tuple(one for module, path in modules().items() if module != PACKAGE for one in imports_of(module, path))


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
    """The line of each name in the layers of a package, counted from the top."""
    return {name: row for row, line in enumerate(LAYERS[package].split("\n")) for name in line.split()}


def part_of(module: str, package: str) -> str:
    """The file or folder of a package that a module is or lies in; empty if it does not lie there.

    >>> part_of("acdtask.cube.local.read", "acdtask"), part_of("acdtask.cube.local.read", "acdtask.cube")
    ('cube', 'local')
    >>> part_of("acdtask.jobs", "acdtask.cube")
    ''
    """
    prefix = f"{package}."
    return module.removeprefix(prefix).split(".")[0] if module.startswith(prefix) else ""


def climbing(package: str) -> Iterator[str]:
    """Imports within a package that do not go down, as sentences."""
    layers = rows(package)
    rest = layers.get("*")
    for importer, imported, line in imports():
        upper, lower = part_of(importer, package), part_of(imported, package)
        if not upper or not lower or upper == lower or (importer, imported) in KNOWN:
            continue
        above, below = layers.get(upper, rest), layers.get(lower, rest)
        assert above is not None, f"{package}.{upper} has no place in LAYERS"
        assert below is not None, f"{package}.{lower} has no place in LAYERS"
        if above > below or (above == below and above != rest):
            where = modules()[importer].relative_to(ROOT)
            yield f"{where}:{line} imports {imported}, but {upper}/ does not stand above {lower}/ in LAYERS"


@pytest.mark.parametrize("package", LAYERS)
def test_imports_go_down_only(package: str) -> None:
    assert not list(climbing(package))


@pytest.mark.parametrize("package", LAYERS)
def test_the_layers_name_what_there_is(package: str) -> None:
    parts = {part_of(module, package) for module in modules()}
    assert not sorted(rows(package).keys() - parts - {"*"})


def test_no_files_import_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {module: set() for module in modules()}
    for importer, imported, _ in imports():
        # acdtask/__init__.py has the version besides; its own imports are left out above.
        if importer != imported and imported != PACKAGE and (importer, imported) not in KNOWN:
            graph[importer].add(imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        steps = " imports ".join(reversed(error.args[1]))
        pytest.fail(f"a circle: {steps}")


def test_what_still_goes_up_is_still_there() -> None:
    """An entry of KNOWN that is done has to go."""
    assert not sorted(KNOWN - {(one.importer, one.imported) for one in imports()})
