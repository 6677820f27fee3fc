"""Every option that reads or writes a path, given a device, a FIFO, a folder, a large file or an existing file."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from acdtask.cli import main
from acdtask.cube.model import NAME_BYTES
from acdtask.errors import ExitStatus

SECONDS = 20
READERS = {
    "records --aoi": ["records", "--cube", "CUBE", "--aoi", "PATH"],
    "show patches --aoi": ["show", "patches", "--cube", "CUBE", "--layout", "utm", "--aoi", "PATH"],
    "tiles --aoi": ["tiles", "--cube", "CUBE", "--layout", "utm", "--aoi", "PATH"],
    "ingester post --aoi": ["ingester", "post", "--aoi", "PATH"],
    "baseline --aoi": ["baseline", "plan", "--cube", "CUBE", "--layout", "utm", "--aoi", "PATH"],
    "monitor --aoi file://": ["monitor", "plan", "--cube", "CUBE", "--layout", "utm", "--aoi", "file://PATH"],
    "ingest --aoi": ["ingest", "plan", "--cube", "CUBE", "--source", "CUBE", "--aoi", "PATH"],
    "consolidate --settings": ["consolidate", "plan", "--cube", "CUBE", "--layout", "utm", "--settings", "PATH"],
    "simulate --settings": ["simulate", "local", "--out", "CUBE", "--settings", "PATH"],
    "ingest --source of a STAC document": ["ingest", "plan", "--cube", "CUBE", "--source", "PATH.json"],
    "@file": ["records", "--cube", "CUBE", "--name", "@PATH"],
    "serve --tls-cert": ["serve", "--cube", "CUBE", "--port", "0", "--tls-cert", "PATH", "--tls-key", "PATH"],
}
WRITERS = {
    "plan --outputs": ["simulate", "plan", "--out", "SCENE", "--outputs", "PATH"],
    "gather --outputs": ["ingest", "gather", "--cube", "CUBE", "--plan", "x", "--round", "write", "--outputs", "PATH"],
    "simulate --out": ["simulate", "local", "--out", "PATH", "--workers", "0"],
    "ingest --cube": ["layout", "create", "utm", "--cube", "PATH", "--zoom", "9"],
    "demo": ["demo", "PATH", "--workers", "0"],
}
FILE_WRITERS = {
    "tiles --geojson": ["tiles", "--cube", "CUBE", "--layout", "utm", "--aoi", "AOI", "--geojson", "PATH"],
}
AOI = """{"name": "koln", "type": "Polygon", "coordinates": [[[7, 50], [7.01, 50], [7.01, 50.01], [7, 50]]],
"start_time": "2021-01-01T00:00:00Z", "end_time": "2021-12-31T00:00:00Z"}"""


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Stop a command that hangs, and fail its test."""
    monkeypatch.setenv("ACD_INGESTER_ADDRESS", "http://127.0.0.1:9")
    monkeypatch.setenv("ACD_INGESTER_TOKEN", "token")

    def end(_number: int, _frame: object) -> None:
        raise TimeoutError(f"the command still runs after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def cube(tmp_path: Path) -> Path:
    cube = tmp_path / "cube"
    from acdtask.cube.local.cube import LocalCube

    LocalCube.create(str(cube))
    assert main(["layout", "create", "utm", "--cube", str(cube), "--zoom", "9"]) == 0
    (tmp_path / "aoi.json").write_text(AOI)
    return cube


def refused(arguments: list[str], path: str, cube: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The error with which a command ends."""
    words = {"PATH": path, "CUBE": str(cube), "AOI": str(cube.parent / "aoi.json"), "SCENE": str(cube.parent / "scene")}
    given = [re.sub("PATH|CUBE|AOI|SCENE", lambda found: words[found[0]], argument) for argument in arguments]
    capsys.readouterr()
    status = main(given)
    said = capsys.readouterr().err
    assert status not in (ExitStatus.OK, ExitStatus.BUG), said
    assert "Traceback" not in said
    code = re.search(r"ACD-(\d+)", said)
    assert code, said
    assert code[1] != "900", said
    return said


@pytest.mark.parametrize("kind", ["zero", "fifo", "folder", "large"])
@pytest.mark.parametrize("arguments", READERS.values(), ids=READERS)
def test_an_option_that_reads_a_file_refuses_what_is_no_small_file(
    arguments: list[str], kind: str, cube: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    is_stac = any(argument.endswith(".json") for argument in arguments)
    path = tmp_path / ("odd.json" if is_stac else "odd")
    if kind == "zero":
        path.symlink_to("/dev/zero")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        with path.open("wb") as file:
            file.truncate(65 * 1024 * 1024)
    said = refused(arguments, str(path.with_suffix("")), cube, capsys)
    if kind == "large":
        assert "larger than" in said
    if kind in ("zero", "fifo"):
        assert "not a regular file" in said


@pytest.mark.parametrize("kind", ["file", "below a file", "fifo"])
@pytest.mark.parametrize("arguments", WRITERS.values(), ids=WRITERS)
def test_an_option_that_writes_a_folder_refuses_a_file_in_the_way(
    arguments: list[str], kind: str, cube: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "odd"
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.write_text("kept")
    refused(arguments, str(path / "below" if kind == "below a file" else path), cube, capsys)
    if kind != "fifo":
        assert path.read_text() == "kept"


@pytest.mark.parametrize("kind", ["folder", "below a file", "fifo that nobody reads", "no such folder"])
@pytest.mark.parametrize("arguments", FILE_WRITERS.values(), ids=FILE_WRITERS)
def test_an_option_that_writes_a_file_refuses_where_none_can_be(
    arguments: list[str], kind: str, cube: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "odd"
    if kind == "folder":
        path.mkdir()
    elif kind == "below a file":
        path.write_text("")
        path = path / "map.geojson"
    elif kind == "no such folder":
        path = path / "map.geojson"
    else:
        os.mkfifo(path)
    assert "ACD-411" in refused(arguments, str(path), cube, capsys)


LONG = "n" * (NAME_BYTES + 1)
LONGER = "n" * 300
NAMES = {
    "layout create": ["layout", "create", "NAME", "--cube", "CUBE", "--zoom", "9"],
    "ingest --variable": ["ingest", "plan", "--cube", "CUBE", "--source", "CUBE", "--variable", "NAME"],
    "ingest --instance": ["ingest", "plan", "--cube", "CUBE", "--source", "CUBE", "--instance", "NAME"],
    "ingest --make-layout": [
        *("ingest", "plan", "--cube", "CUBE", "--source", "CUBE", "--aoi", "AOI", "--make-layout", "NAME")
    ],
    "baseline --variable": [
        *("baseline", "plan", "--cube", "CUBE", "--layout", "utm", "--aoi", "AOI", "--variable", "NAME")
    ],
    "baseline --name": ["baseline", "plan", "--cube", "CUBE", "--layout", "utm", "--aoi", "AOI", "--name", "NAME"],
    "monitor --name": ["monitor", "plan", "--cube", "CUBE", "--layout", "utm", "--aoi", "AOI", "--name", "NAME"],
    "consolidate --layout": ["consolidate", "plan", "--cube", "CUBE", "--layout", "NAME"],
}


@pytest.mark.parametrize("name", [LONG, LONGER], ids=["just too long", "longer than a file name"])
@pytest.mark.parametrize("arguments", NAMES.values(), ids=NAMES)
def test_a_name_that_is_too_long_is_refused_with_the_limit(
    arguments: list[str], name: str, cube: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused([name if argument == "NAME" else argument for argument in arguments], "", cube, capsys)
    assert re.search(r"may have at most (180|200) bytes", said), said


def test_the_name_of_an_aoi_has_a_limit(cube: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    aoi = tmp_path / "long.json"
    aoi.write_text(AOI.replace('"koln"', f'"{LONG}"'))
    said = refused(READERS["baseline --aoi"], str(aoi), cube, capsys)
    assert f"ACD-103: the name of {aoi} has 201 bytes, more than 200" in said
    aoi.write_text(AOI.replace('"koln"', f'"{LONG[1:]}"'))
    assert "ACD-103" not in refused(READERS["baseline --aoi"], str(aoi), cube, capsys)
