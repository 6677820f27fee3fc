"""`acdtask verify` checks what was fused, and its advice makes damaged tables again, bit for bit."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from acdtask.cli import main
from acdtask.cube.local.cube import LocalCube
from acdtask.errors import AcdError, ErrorCode
from acdtask.maintenance.verify.files import named_files
from acdtask.maintenance.verify.run import Verification, verify_files
from acdtask.storage.seal import seal
from tests.jobs.tracks_site import fuse, make_tracks


@pytest.fixture(scope="module")
def fused(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fused")
    cube = make_tracks(folder)
    fuse(cube, folder / "track0" / "aoi.json", false_per_1000km2=40, name="both")
    return folder


@pytest.fixture
def cube(fused: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(fused / "cube", tmp_path / "cube"))


def verify(cube: Path, *, forget: bool = False) -> Verification:
    opened = LocalCube.open(str(cube))
    return verify_files(opened, named_files(opened), forget=forget)


def parts(cube: Path) -> dict[str, bytes]:
    """The files of the fusion, without manifests."""
    (folder,) = cube.glob("products/*/fuse/*/windows")
    paths = [path for path in folder.parent.rglob("*") if path.is_file() and path.parent.name != "manifests"]
    return {path.relative_to(cube).as_posix(): path.read_bytes() for path in sorted(paths)}


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def test_every_file_of_a_fusion_is_checked(cube: Path) -> None:
    checked = {file.key for file in named_files(LocalCube.open(str(cube))) if file.kind == "fuse"}
    assert checked == set(parts(cube))
    assert verify(cube).checked.faults == []


@pytest.mark.parametrize("harm", [damaged, Path.unlink])
@pytest.mark.parametrize("pattern", ["windows/*", "months/*", "patches/*.parquet", "patches/*.geojson", "rejected/*"])
def test_a_damaged_or_missing_part_is_named_and_made_again(
    pattern: str, harm: Callable[[Path], None], fused: Path, cube: Path
) -> None:
    before = parts(cube)
    part = sorted(cube.glob(f"products/*/fuse/*/{pattern}"))[0]
    harm(part)
    faults = verify(cube).checked.faults
    assert [fault.file.key for fault in faults] == [part.relative_to(cube).as_posix()]
    verification = verify(cube, forget=True)
    assert verification.forgotten == [part.relative_to(cube).as_posix()]
    (command,) = verification.commands
    assert "--name both" in command
    assert "--false-per-1000km2 40" in command
    words = shlex.split(command.replace("AOI", str(fused / "track0" / "aoi.json")))
    assert main([*words[1:], "--workers", "0"]) == 0
    assert parts(cube) == before
    assert verify(cube).checked.faults == []


def test_without_forgetting_nothing_changes(cube: Path) -> None:
    damaged(next(iter(cube.glob("products/*/fuse/*/windows/*"))))
    files = {path: path.read_bytes() for path in cube.rglob("*") if path.is_file()}
    commands = verify(cube).commands
    assert commands[0] == f"acdtask verify --cube {cube} --forget"
    assert {path: path.read_bytes() for path in cube.rglob("*") if path.is_file()} == files


@pytest.mark.parametrize(
    ("body", "words"),
    [(b'{"windows": [], "crc32c": "00000000"}', "is damaged"), (seal(b'{"windows": []}'), "this version of acd reads")],
)
def test_a_manifest_that_cannot_be_read_is_an_error_with_a_fix(cube: Path, body: bytes, words: str) -> None:
    (manifest,) = cube.glob("products/*/fuse/*/manifests/*.json")
    manifest.write_bytes(body)
    with pytest.raises(AcdError, match=words) as error:
        verify(cube)
    assert error.value.code is ErrorCode.PRODUCT_DAMAGED
    assert error.value.fix
