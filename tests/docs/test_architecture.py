"""docs/architecture.md is true: its layers are those that tests hold, and its walks are traced on real runs."""

from __future__ import annotations

import ast
import dataclasses
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import numpy as np
import pytest
from pydantic import BaseModel
from typer.testing import CliRunner

from acdtask.cli.app import app
from acdtask.engine.stages import open_site
from acdtask.jobs.baseline.job import BaselineJob
from acdtask.jobs.baseline.settings import BaselineSettings
from acdtask.jobs.consolidate.job import ConsolidateJob
from acdtask.jobs.consolidate.settings import ConsolidateSettings
from acdtask.jobs.monitor.settings import MonitorSettings
from acdtask.raster.grid import Layout, RegularGrid
from tests.conftest import CHECKOUT
from tests.docs.pages import text_of
from tests.jobs.counted_reads import make_old
from tests.jobs.rasters import CRS, ORIGIN
from tests.jobs.small_site import LAYOUT, baseline, ends, make_cube, monitor, run, steady
from tests.test_imports import LAYERS, imports, part_of, rows

PAGE = "docs/architecture.md"
TILE, SETTING = "A tile, from pixels to a patch", "A setting, from the command line to an array"
CODE = f"{CHECKOUT}/acdtask/"
LINK = re.compile(r"\]\(\.\./(?P<path>[^)]+\.py)\)(?:\s+`(?P<name>[\w.]+)`)?")
CELL, REFERENCE = 32, 3


def section(heading: str) -> str:
    return text_of(PAGE).split(f"## {heading}\n")[1].split("\n## ")[0]


def steps_of(heading: str) -> list[list[str]]:
    """The files that each numbered step of a walk links to; the first is the one that the step is about."""
    items = re.findall(r"^\d+\. .*(?:\n {3}.*)*", section(heading), re.MULTILINE)
    return [[link["path"] for link in LINK.finditer(item)] for item in items]


@cache
def definitions(path: Path) -> frozenset[str]:
    """The names that a file defines: functions, classes, constants, and methods as Class.method."""
    return frozenset(_defined(ast.parse(path.read_text()), ""))


def _defined(node: ast.AST, prefix: str) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield prefix + child.name
            yield from _defined(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.FunctionDef):
            yield prefix + child.name
        elif isinstance(child, ast.AnnAssign):
            yield prefix + ast.unparse(child.target)
        elif isinstance(child, ast.Assign):
            yield from (prefix + ast.unparse(target) for target in child.targets)


def test_the_page_and_the_picture_have_the_layers_that_imports_keep_to() -> None:
    layers = [line.split() for line in LAYERS["acdtask"].strip().split("\n")]
    table = re.findall(r"^\| (`.*?) \|", section("The tree"), re.MULTILINE)
    assert [re.findall(r"`(\w+)`", names) for names in table] == layers
    drawn = re.findall(r'class="layer"[^>]*>([^<]+)<', text_of("docs/images/layers.svg"))
    assert [names.split() for names in drawn] == [layer for layer in layers if layer != ["__main__"]]


def test_every_file_and_name_on_the_page_exists() -> None:
    links = list(LINK.finditer(text_of(PAGE)))
    assert len(links) > 40
    assert [link["path"] for link in links if not link["name"]] == ["tests/test_imports.py"]
    for link in links:
        path = CHECKOUT / link["path"]
        assert path.is_file(), link["path"]
        assert not link["name"] or link["name"] in definitions(path), f"{link['path']} has no {link['name']}"


def test_the_walks_are_short() -> None:
    assert len(steps_of(TILE)) <= 10
    assert len(steps_of(SETTING)) <= 6


class Handover(NamedTuple):
    """A call by which pixels pass between two files. `own` means that it is a method of what holds the pixels."""

    caller: str
    callee: str
    own: bool


def holds_pixels(value: Any, depth: int = 0) -> bool:
    """Whether a value is, or contains, an array with the pixels of a tile."""
    if isinstance(value, np.ndarray):
        return value.ndim > 1 and min(value.shape[-2:]) >= CELL
    if depth > 3 or isinstance(value, type):
        return False
    if isinstance(value, (list, tuple)):
        parts = list(value[:8])  # a list has pixels in all its entries or in none
    elif dataclasses.is_dataclass(value):
        parts = [getattr(value, field.name, None) for field in dataclasses.fields(value)]
    else:
        parts = list(vars(value).values()) if isinstance(value, BaseModel) else []
    return any(holds_pixels(part, depth + 1) for part in parts)


def file_of(frame: FrameType | None) -> str:
    """The file of the package that a frame is in, or of the nearest frame below it."""
    while frame is not None and not frame.f_code.co_filename.startswith(CODE):
        frame = frame.f_back
    return Path(frame.f_code.co_filename).relative_to(CHECKOUT).as_posix() if frame is not None else ""


def arguments_of(frame: FrameType) -> dict[str, Any]:
    code = frame.f_code
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return {name: frame.f_locals[name] for name in names if name in frame.f_locals}


@contextmanager
def profiled(hook: Callable[[FrameType, str, Any], None]) -> Iterator[None]:
    before = sys.getprofile()
    sys.setprofile(hook)
    try:
        yield
    finally:
        sys.setprofile(before)


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("architecture")
    cube = make_cube(folder, REFERENCE + 1, steady(REFERENCE), cell=CELL)
    grid = RegularGrid(crs=CRS, resolution=15.0, ox=ORIGIN[0] + 3, oy=ORIGIN[1], cell_size=CELL)
    open_site(str(cube)).cube.add_layout(Layout(name="finer", grid=grid))
    make_old(str(folder))
    return cube


@pytest.fixture(scope="module")
def handovers(cube: Path) -> set[Handover]:
    """All calls that hand pixels on: plain files with every step, another grid, and consolidated images."""
    seen: set[Handover] = set()

    def hook(frame: FrameType, event: str, value: Any) -> None:
        if event not in {"call", "return"} or not frame.f_code.co_filename.startswith(CODE):
            return
        arguments = arguments_of(frame)
        own = holds_pixels(arguments.get("self"))
        given = [*arguments.values()] if event == "call" else [value]
        if not frame.f_code.co_name.startswith("<") and (own or any(map(holds_pixels, given))):
            seen.add(Handover(file_of(frame.f_back), file_of(frame), own))

    aoi = str(cube.parent / "aoi.json")
    with profiled(hook):
        baseline(cube, end=ends(REFERENCE - 1))
        monitor(cube, smooth=1.2, min_count=REFERENCE)
        run(BaselineJob(), BaselineSettings(aoi=aoi, layout="finer", end=ends(REFERENCE - 1)), cube)
    run(ConsolidateJob(), ConsolidateSettings(aoi=aoi, layout=LAYOUT), cube)
    with profiled(hook):
        baseline(cube, end=ends(REFERENCE - 1), name="copies")
    return {handover for handover in seen if handover.caller != handover.callee}


def test_the_walk_of_a_tile_is_the_one_that_pixels_take(handovers: set[Handover]) -> None:
    steps = steps_of(TILE)
    on_the_walk = {call.caller for call in handovers if not call.own and call.caller}
    assert {step[0] for step in steps} == on_the_walk
    answering = {call.callee for call in handovers} - on_the_walk
    assert {path for step in steps for path in step[1:]} - on_the_walk == answering


def test_pixels_never_climb(handovers: set[Handover]) -> None:
    layers = rows("acdtask")
    below: dict[str, set[str]] = {}
    for importer, imported, _ in imports():
        below.setdefault(importer, set()).add(imported)

    def reaches(start: str, target: str) -> bool:
        waiting, known = [start], {start}
        while waiting:
            more = below.get(waiting.pop(), set()) - known
            known |= more
            waiting += more
        return target in known

    for call in handovers:
        if call.caller:
            upper, lower = (path.removesuffix(".py").replace("/", ".") for path in (call.caller, call.callee))
            assert layers[part_of(upper, "acdtask")] <= layers[part_of(lower, "acdtask")], call
            assert not reaches(lower, upper), call


@pytest.mark.parametrize(
    ("option", "number", "walk"),
    [
        ("--high", 3.0625, {path[0] for path in steps_of(SETTING)}),
        ("--smooth", 1.1875, {"acdtask/cli/options.py", "acdtask/change/steps/smooth.py"}),
    ],
)
def test_a_setting_is_handled_by_the_files_of_its_walk_alone(
    option: str, number: float, walk: set[str], cube: Path, handovers: set[Handover]
) -> None:
    assert handovers  # the cube has its baseline
    handled: set[str] = set()

    def hook(frame: FrameType, event: str, _: Any) -> None:
        path = frame.f_code.co_filename
        # "<string>" is an __init__ that dataclass wrote.
        if event != "call" or not (path == "<string>" or path.startswith(CODE)):
            return
        values = [value for value in arguments_of(frame).values() if type(value) in (str, float)]
        if number in values or str(number) in values:
            handled.update({file_of(frame), file_of(frame.f_back)})

    command = ["monitor", "local", "--cube", str(cube), "--aoi", str(cube.parent / "aoi.json"), "--layout", LAYOUT]
    with profiled(hook):
        result = CliRunner().invoke(app, [*command, option, str(number), "--min-count", "3", "--workers", "0"])
    assert result.exit_code == 0, result.output
    # The command and the field are made from the settings model, where no function gets the value by itself.
    declared = {"acdtask/cli/job.py", "acdtask/jobs/monitor/settings.py"}
    assert handled == walk - declared
    assert option.removeprefix("--") in MonitorSettings.model_fields
