"""Jobs and `acdtask verify` detect damaged files, and verify's advice recreates them bit for bit."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import rasterio

from acdtask.cli import main
from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import Addition
from acdtask.engine.local import LocalOutcome, run_locally
from acdtask.engine.processes import WorkerPool
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.baseline.job import BaselineJob
from acdtask.jobs.baseline.settings import BaselineSettings
from acdtask.jobs.simulate.settings import SceneSettings
from acdtask.maintenance.verify.files import named_files
from acdtask.maintenance.verify.run import Verification, verify_files
from acdtask.raster.checksums import checksum_of
from tests.jobs.chain import LAYOUT, Chain, digests, reference_end, run_chain, simulate

Command: TypeAlias = Callable[..., tuple[int, str, str]]

SCENE = SceneSettings(size=128, reference_pairs=24, monitored_pairs=2, events=3, seed=11)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scene, and a cube in which every job has run."""
    folder = tmp_path_factory.mktemp("made")
    scene = simulate(folder / "scene", SCENE)
    with WorkerPool(0) as pool:
        run_chain(scene, str(folder / "cube"), pool, Chain(cell=64, shard_tiles=4))
    return folder


@pytest.fixture
def cube(made: Path, tmp_path: Path) -> Path:
    """A copy of the cube, to be damaged."""
    return Path(shutil.copytree(made / "cube", tmp_path / "cube"))


@pytest.fixture
def acdtask(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command; return its exit status, output and errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        status = main([*arguments, *(["--workers", "0"] if "local" in arguments else [])])
        return status, *capsys.readouterr()

    return run


def verified(cube: Path, *, forget: bool = False) -> Verification:
    opened = LocalCube.open(str(cube))
    return verify_files(opened, named_files(opened), forget=forget)


def rot(file: Path) -> str:
    """Flip a bit in the middle of a file, and return its key."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 16
    file.write_bytes(data)
    root = next(parent for parent in file.parents if (parent / "cube.json").exists())
    return file.relative_to(root).as_posix()


FILES: dict[str, Callable[[Path], Path]] = {
    "image": lambda cube: sorted(cube.glob("data/**/*.tif"))[3],
    "mean": lambda cube: sorted(cube.glob("products/*/baseline/*/mean_*.tif"))[1],
    "moments": lambda cube: sorted(cube.glob("products/*/baseline/*/moments_*.tif"))[0],
    "z": lambda cube: sorted(cube.glob("products/*/monitor/*/*/z_*.tif"))[2],
    "change": lambda cube: sorted(cube.glob("products/*/monitor/*/*/change_*.tif"))[0],
    "chunk": lambda cube: sorted(cube.glob("consolidated/**/CoherenceVV/c/*/*/*"))[0],
    "item of a tile": lambda cube: sorted(cube.glob("products/*/monitor/*/*/*_CoherenceVV_2*.json"))[1],
    "mosaic": lambda cube: sorted(cube.glob("products/*/monitor/*/*/z_*.vrt"))[0],
    "item of a baseline": lambda cube: sorted(cube.glob("products/*/baseline/*/*_CoherenceVV_2*.json"))[0],
    "mosaic of a baseline": lambda cube: sorted(cube.glob("products/*/baseline/*/std_*.vrt"))[0],
    "patches": lambda cube: sorted(cube.glob("products/*/monitor/*/*/patches.parquet"))[0],
    "patches as GeoJSON": lambda cube: sorted(cube.glob("products/*/monitor/*/*/patches.geojson"))[1],
    "patches of a month": lambda cube: sorted(cube.glob("products/*/monitor/*/patches/*.parquet"))[0],
    "times of a container": lambda cube: sorted(cube.glob("consolidated/**/time/c/0"))[0],
    "metadata of an array": lambda cube: sorted(cube.glob("consolidated/**/CoherenceVV/zarr.json"))[0],
    "metadata of a container": lambda cube: sorted(cube.glob("consolidated/**/*.zarr/zarr.json"))[0],
}


def test_every_dataset_of_every_job_has_a_checksum_and_a_new_cube_is_intact(cube: Path, acdtask: Command) -> None:
    opened = LocalCube.open(str(cube))
    files = named_files(opened)
    assert {file.kind for file in files} == {"image", "consolidated", "baseline", "monitor"}
    assert all(file.checksum for file in files)
    found = verify_files(opened, files)
    assert found.checked.faults == []
    assert found.checked.intact == len(files)
    found.require_intact()
    status, out, _ = acdtask("verify", "--cube", str(cube), "--json")
    assert (status, json.loads(out)["intact"]) == (0, found.checked.intact)


def repaired(made: Path, commands: list[str], acdtask: Command) -> list[str]:
    """Run the commands that verify advises, with the scene's source and AOI; return their outputs."""
    said = []
    for command in commands:
        text = command.replace("SOURCE", str(made / "scene/images")).replace("AOI", str(made / "scene/aoi.json"))
        program, *arguments = shlex.split(text)
        assert program == "acdtask"
        status, out, error = acdtask(*arguments)
        assert status == 0, (command, error)
        said.append(out)
    return said


@pytest.mark.parametrize(
    ("kind", "fault"),
    [*((kind, "damaged") for kind in FILES), ("image", "missing"), ("mean", "missing"), ("chunk", "missing")],
)
def test_the_advice_makes_a_file_again_bit_for_bit(
    cube: Path, made: Path, kind: str, fault: str, acdtask: Command
) -> None:
    file = FILES[kind](cube)
    key = rot(file)
    if fault == "missing":
        file.unlink()
    status, out, error = acdtask("verify", "--cube", str(cube), "--json")
    assert status == ErrorCode.FILES_DAMAGED.value.exit_status
    found = json.loads(out)
    (seen,) = found["faults"]
    assert key.startswith(seen["file"])
    assert seen["file"] in error
    said = repaired(made, found["commands"], acdtask)
    if kind == "image":
        assert f"repaired: {file} was {fault}" in said[0]
    verified(cube).require_intact()
    now, before = digests(cube), digests(made / "cube")
    assert {name for name in now if now[name] != before.get(name) and not name.startswith("index/")} == set()
    assert file.read_bytes() == FILES[kind](made / "cube").read_bytes()


def test_a_verification_can_be_repeated_and_repairs_what_was_damaged_since(
    cube: Path, made: Path, acdtask: Command
) -> None:
    command = ["ingest", "local", "--cube", str(cube), "--source", str(made / "scene/images"), "--on-known", "verify"]
    for file in sorted(cube.glob("data/**/*.tif"))[:2]:
        _, out, error = acdtask(*command)
        assert "done" in out, error
        assert "repaired" not in out
        rot(file)
        _, out, _ = acdtask(*command)
        assert out.count("repaired") == 1
        assert str(file) in out
    verified(cube).require_intact()
    now, before = digests(cube), digests(made / "cube")
    assert now == before


def rewritten(file: Path, compress: str, add: int = 0) -> None:
    """Write the same or other pixels as another program would: without a table of checksums."""
    with rasterio.open(file) as source:
        profile, pixels = {**source.profile, "driver": "GTiff", "compress": compress}, source.read()
    file.unlink()
    with rasterio.open(file, "w", **profile) as target:
        target.write(pixels + add)


def of_image(cube: Path, file: Path, checksum: str) -> None:
    """Store an image with this checksum in the index."""
    opened = LocalCube.open(str(cube))
    (dataset,) = opened.datasets_at([file.relative_to(cube).as_posix()])
    opened.remove(datasets=[dataset])
    opened.commit(Addition(datasets=[dataset.model_copy(update={"checksum": checksum})]))


@pytest.mark.parametrize("is_damaged", [False, True])
def test_an_image_without_a_checksum_gets_one_when_it_is_verified(
    cube: Path, made: Path, is_damaged: bool, acdtask: Command
) -> None:
    file = FILES["image"](cube)
    rewritten(file, "none", add=int(is_damaged))
    of_image(cube, file, "")
    source = str(made / "scene/images")
    _, out, _ = acdtask("ingest", "local", "--cube", str(cube), "--source", source, "--on-known", "verify")
    assert ("repaired" in out) == is_damaged
    assert file.read_bytes() == FILES["image"](made / "cube").read_bytes()
    assert LocalCube.open(str(cube)).datasets_at([file.relative_to(cube).as_posix()])[0].checksum
    verified(cube).require_intact()


def test_an_image_that_another_version_wrote_is_left_alone_when_it_is_verified(
    cube: Path, made: Path, acdtask: Command
) -> None:
    file = FILES["image"](cube)
    rewritten(file, "deflate")
    of_image(cube, file, checksum_of(file.read_bytes()))
    whole = file.read_bytes()
    source = str(made / "scene/images")
    _, out, _ = acdtask("ingest", "local", "--cube", str(cube), "--source", source, "--on-known", "verify")
    assert "repaired" not in out
    assert file.read_bytes() == whole
    verified(cube).require_intact()


def baseline_again(cube: Path, made: Path, quarantine: int = 0) -> LocalOutcome:
    """Make a baseline with another name, so that all tiles are read again."""
    settings = BaselineSettings(
        aoi=str(made / "scene/aoi.json"), layout=LAYOUT, end=reference_end(SCENE), name="other", shard_tiles=1
    )
    with WorkerPool(0) as pool:
        return run_locally(BaselineJob(), settings, str(cube), pool=pool, progress=False, quarantine=quarantine)


def test_a_damaged_image_fails_the_baseline_with_its_name_and_nothing_is_published(cube: Path, made: Path) -> None:
    opened = LocalCube.open(str(cube))
    opened.remove(datasets=[dataset for dataset in opened.datasets("CoherenceVV", "master") if dataset.layout])
    key = rot(FILES["image"](cube))
    before = digests(cube)
    with pytest.raises(AcdError, match=re.escape(key)) as raised:
        baseline_again(cube, made)
    assert raised.value.code is ErrorCode.CUBE_DAMAGED
    assert "acdtask verify" in raised.value.fix
    assert digests(cube).keys() == before.keys()


def test_a_tile_whose_chunk_is_damaged_can_be_left_out(cube: Path, made: Path) -> None:
    key = rot(FILES["chunk"](cube)).partition("/CoherenceVV/c/")[0]
    outcome = baseline_again(cube, made, quarantine=1)
    (said,) = (line for line in outcome.lines if "left out" in line and "unusually low" not in line)
    assert "ACD-312" in said
    assert key in said


def test_verify_names_ten_files_and_counts_all(cube: Path, acdtask: Command) -> None:
    keys = [rot(file) for file in sorted(cube.glob("data/**/*.tif"))[:12]]
    status, out, error = acdtask("verify", "--cube", str(cube))
    assert status == ErrorCode.FILES_DAMAGED.value.exit_status
    assert re.search("ACD-314: 12 of .* and 2 more", error)
    assert sum(key in error for key in keys) == 10
    assert all(key in out for key in keys)


def test_a_file_outside_the_cube_counts_as_not_checked(cube: Path, acdtask: Command) -> None:
    opened = LocalCube.open(str(cube))
    before = verified(cube).checked.not_checked
    dataset = next(candidate for candidate in opened.datasets("CoherenceVV", "master") if not candidate.layout)
    opened.commit(Addition(datasets=[dataset.model_copy(update={"uri": "/data/elsewhere.tif", "checksum": ""})]))
    status, out, _ = acdtask("verify", "--cube", str(cube))
    assert status == 0
    assert f"not checked: {before + 1}\n" in out


def test_a_container_whose_images_left_the_cube_is_never_forgotten(cube: Path) -> None:
    opened = LocalCube.open(str(cube))
    datasets: list[Any] = opened.datasets("CoherenceVV", "master")
    opened.remove(datasets=[dataset for dataset in datasets if not dataset.layout])
    rot(FILES["chunk"](cube))
    found = verified(cube, forget=True)
    assert found.forgotten == []
    assert "restore it from a backup" in found.repairs[0].advice
    assert found.commands == []
    with pytest.raises(AcdError):
        found.require_intact()
